//! `ringgate tune` as it is used: with the harness that lies beside the program, and without.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::DEADLINE;
use crate::support::gateway::binary;
use crate::support::tempdir::TempDir;

/// What needs the harness: `cargo test --workspace` and `scripts/test` build it; `cargo test` alone does not.
fn harness() -> PathBuf {
    let path = binary().with_file_name("ringgate-bench");
    assert!(path.is_file(), "{} is not there: `cargo build --package ringgate-bench` first", path.display());
    path
}

fn tune(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("tune").args(["--seconds", "0.2", "--connections", "4"]).args(arguments);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Two layouts, two rounds: every round is in the report, and so is what is needed to judge it.
#[test]
fn measures_two_layouts() {
    harness();
    let output = tune(&["--drivers", "epoll", "--cores", "1", "--rounds", "2", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let layouts = value["layouts"].as_array().unwrap();
    assert_eq!(layouts.len(), 2, "{value:#}");
    for layout in layouts {
        assert_eq!(layout["not_measured"], Value::Null, "{layout:#}");
        let rounds = layout["rounds"].as_array().unwrap();
        assert_eq!(rounds.len(), 2, "{layout:#}");
        for round in rounds {
            for key in ["requests_per_second", "cpu_us_per_request", "p99_us"] {
                assert!(round[key].as_f64().unwrap() > 0.0, "{key}: {round}");
            }
        }
    }
    assert_eq!((&layouts[0]["is_default"], &layouts[0]["cores"]), (&true.into(), &"auto".into()));
    assert_eq!((&layouts[1]["driver_used"], &layouts[1]["cores"]), (&"epoll".into(), &"1".into()));
    let verdict = value["verdict"]["text"].as_str().unwrap();
    let better = value["verdict"]["better"].as_bool().unwrap();
    assert_eq!(better, verdict.contains("is better"), "{verdict}");
    assert_eq!(better, !value["toml"].as_str().unwrap().is_empty(), "{value:#}");
    assert!(value["receipt"]["command"].as_array().unwrap().contains(&"tune".into()));
    assert!(text(&output.stderr).starts_with("2 layouts, 2 rounds of 0.2 s each, 4 connections"));
}

/// The default alone has nothing to be compared with; the text says so, without colours in a pipe.
#[test]
fn says_what_it_can_not_compare() {
    harness();
    let output = tune(&["--cores", "auto", "--rounds", "1", "--scenario", "close"]);
    let text = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("no layout can be compared with the default"), "{text}");
    assert!(
        text.contains("LAYOUT  CORES") && text.contains("REQUESTS/S") && text.contains("command "),
        "{text}"
    );
    assert!(!text.contains('\u{1b}') && !text.contains("[process]"), "{text}");
}

/// Without the harness it says how to get it; another program is not taken for it.
#[test]
fn says_how_to_get_the_harness() {
    let directory = TempDir::new();
    // The program finds itself by its own path: a link would lead to the harness after all.
    let alone = directory.path().join("ringgate");
    fs::copy(binary(), &alone).unwrap();
    let output = Command::new(alone).arg("tune").output().unwrap();
    let error = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""), "{error}");
    assert!(error.contains("cargo build --release --workspace") && error.contains("--bench"), "{error}");
    let output = tune(&["--bench", binary().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is not ringgate-bench"), "{}", text(&output.stderr));
}

/// A generator whose results are never valid makes no result, and the reason is told.
#[test]
fn invalid_runs_are_no_result() {
    let directory = TempDir::new();
    let harness = harness();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = load ]; then echo load >>\"$0.log\"; exec '{0}' \"$@\" --expect-status 201; fi\n\
         exec '{0}' \"$@\"\n",
        harness.display()
    );
    let path = directory.write("ringgate-bench", script);
    let executable = Command::new("chmod").arg("+x").arg(&path).status().unwrap();
    assert!(executable.success());
    let output = tune(&["--cores", "auto", "--rounds", "3", "--bench", path.to_str().unwrap()]);
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{error}");
    assert!(out.contains("layout 1 was not measured: invalid: no request was answered"), "{out}");
    assert!(error.contains("the default could not be measured"), "{error}");
    // Two tries, each with a warm-up, and no third round.
    assert_eq!(fs::read_to_string(directory.path().join("ringgate-bench.log")).unwrap().lines().count(), 4);
}

/// SIGINT ends it and all that it has started.
#[test]
fn an_interrupt_leaves_nothing_behind() {
    let directory = TempDir::new();
    // A name of its own makes the children known.
    let bench = directory.path().join("ringgate-bench");
    symlink(harness(), &bench).unwrap();
    let mut command = Command::new(binary());
    command.args(["tune", "--cores", "1", "--seconds", "60", "--bench"]).arg(&bench);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let marked = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        let marker = directory.path().to_str().unwrap().as_bytes();
        lines.filter(|line| line.starts_with(marker)).count()
    };
    wait("backend and generator", || marked() == 2);
    let kill = Command::new("sh").arg("-c").arg(format!("kill -INT {}", child.id())).status().unwrap();
    assert!(kill.success());
    wait("their end", || marked() == 0);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("interrupted"));
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A harness that hangs is given up, and so is what it started.
#[test]
fn a_harness_that_hangs_is_ended_with_its_children() {
    let directory = TempDir::new();
    // A name of its own makes the child known.
    let sleep = directory.path().join("sleep");
    symlink("/bin/sleep", &sleep).unwrap();
    let path = directory.write("bench", format!("#!/bin/sh\n'{}' 600\n", sleep.display()));
    assert!(Command::new("chmod").arg("+x").arg(&path).status().unwrap().success());
    let output = tune(&["--bench", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("did not answer in time"), "{}", text(&output.stderr));
    let marker = sleep.to_str().unwrap().as_bytes();
    wait("the child's end", || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        !lines.any(|line| line.starts_with(marker))
    });
}

#[test]
fn wrong_command_lines_exit_with_2() {
    for arguments in [
        &["--ring-entries", "1000"][..],
        &["--drivers", "uring"],
        &["--rounds", "0"],
        &["--load-cores", "all"],
        &["--scenario", "x"],
        &["unknown"],
    ] {
        assert_eq!(tune(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let output = tune(&["--cores", "4000"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let output = tune(&["--load-cores", "1000"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
}
