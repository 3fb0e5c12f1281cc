//! Command lines of the scripts, as far as they come without running what takes minutes; and the systemd unit.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::gateway::binary;

fn script(name: &str, arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    // From elsewhere: scripts find their own root.
    Command::new(script).args(arguments).current_dir("/").output().unwrap()
}

fn soak_reload(arguments: &[&str]) -> Output {
    script("soak-reload", arguments)
}

/// What is wrong on the command line is said before anything is built or measured.
#[test]
fn flamegraph_and_accept_balance_usage() {
    for (name, usage) in [
        ("flamegraph", "scripts/flamegraph --keep SCENARIO [SECONDS]"),
        ("accept-balance", "scripts/accept-balance [BINARY] [ROUNDS] [DRIVER]"),
    ] {
        let output = script(name, &["--help"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{name}");
        assert!(text.contains(usage) && !text.contains("set -e"), "{text}");
    }
    let wrong: [(&str, &[&str], &str); 7] = [
        ("flamegraph", &["h1"], "no scenario 'h1'"),
        ("flamegraph", &["h1-close", "0"], "at least 1, not '0'"),
        ("flamegraph", &["--keep", "h1-close", "0.5"], "at least 1, not '0.5'"),
        ("flamegraph", &["h1-close", "-1"], "at least 1, not '-1'"),
        ("flamegraph", &["h1-close", "5", "6"], "not '5 6'"),
        ("accept-balance", &["--hlep"], "unknown flag '--hlep'"),
        ("accept-balance", &["ringgate", "0"], "ROUNDS is '0'"),
    ];
    for (name, arguments, part) in wrong {
        let output = script(name, arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name} {arguments:?}: {text}");
        assert!(text.contains(part), "{name} {arguments:?}: {text}");
    }
}

/// `--help` explains and starts nothing; a wrong command line is said and is exit code 2.
#[test]
fn soak_reload_usage() {
    for flag in ["--help", "-h"] {
        let output = soak_reload(&[flag]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0));
        assert!(
            text.contains("scripts/soak-reload [BINARY] [SECONDS] [DRIVER]") && !text.contains("set -e"),
            "{text}"
        );
    }
    let binary = binary();
    let binary = binary.to_str().unwrap();
    let wrong: [(&[&str], &str); 7] = [
        (&["--hlep"], "scripts/soak-reload [BINARY]"),
        (&[binary, "1", "epoll", "more"], "scripts/soak-reload [BINARY]"),
        (&[binary, "0"], "SECONDS is '0'"),
        (&[binary, "-5"], "SECONDS is '-5'"),
        (&[binary, "1m"], "SECONDS is '1m'"),
        (&[binary, "1", "uring"], "DRIVER is 'uring'"),
        (&["/nonexistent/ringgate", "1"], "/nonexistent/ringgate"),
    ];
    for (arguments, part) in wrong {
        let output = soak_reload(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        // Where the tools are missing, that is said before the binary is looked for.
        assert!(text.contains(part) || text.contains("is missing"), "{arguments:?}: {text}");
    }
}

/// The commands of the unit are commands of ringgate, and it waits for longer than a drain may take.
#[test]
fn systemd_unit() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/ringgate.service");
    let text = fs::read_to_string(path).unwrap();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    for (key, command) in [("ExecStart=", "run"), ("ExecReload=", "reload")] {
        let words: Vec<&str> = value(key).split(' ').collect();
        assert_eq!(words, ["/usr/local/bin/ringgate", command, "/etc/ringgate"]);
        let output = Command::new(binary()).args([command, "--help"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
    }
    let process = ringgate::config::model::Process::default();
    let stop: u64 = value("TimeoutStopSec=").parse().unwrap();
    assert!(stop > process.drain_timeout.as_secs());
    let descriptors: u32 = value("LimitNOFILE=").parse().unwrap();
    assert!(descriptors > 2 * process.connections_max);
}
