//! `ringgate check` as a process: exit codes, output formats, no colours into a pipe.
#![allow(clippy::expect_used, reason = "a failed test may panic")]

use std::process::{Command, Output};

fn check(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("check").args(arguments);
    command.output().expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// A valid file: exit 0 and the closing line alone.
#[test]
fn valid_file() {
    let output = check(&["configs/edge.toml"]);
    assert_eq!(output.status.code(), Some(0));
    let expected = "ok: 1 gateway, 1 server, 2 virtual services, 3 routes, 2 services, 4 endpoints\n";
    assert_eq!(stdout(&output), expected);
    assert!(output.stderr.is_empty());
}

/// A broken file: exit 1, excerpt and closing line, no escape sequences in a pipe.
#[test]
fn broken_file() {
    let output = check(&["configs/bad/unknown_key.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.contains("--> configs/bad/unknown_key.toml:6:1\n"), "{text}");
    assert!(text.contains("= hint: did you mean `protocol`?\n"), "{text}");
    assert!(text.ends_with("\n4 errors, 0 warnings\n"), "{text}");
    assert!(!text.contains('\u{1b}'));
}

/// JSON is one object, for valid and broken configurations.
#[test]
fn json_format() {
    for (path, code) in [("configs/quickstart.toml", 0), ("configs/bad", 1), ("configs/absent.toml", 1)] {
        let output = check(&[path, "--format", "json"]);
        assert_eq!(output.status.code(), Some(code), "{path}");
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(value["ok"], code == 0);
        assert_eq!(value["diagnostics"].as_array().map(Vec::is_empty), Some(code == 0));
    }
}

/// Warnings alone are exit 0, with --strict exit 1; a configuration without any is exit 0 in both.
#[test]
fn strict() {
    let directory = crate::support::tempdir::TempDir::new();
    let route = "route = [{ destination = { host = \"app\" } }]";
    let text = crate::support::config::gateway("", &["*"])
        + &crate::support::config::virtual_service("v", "*", route)
        + &crate::support::config::rule_to("uri = { prefix = '/never' }", "app")
        + &crate::support::config::service("app", &["127.0.0.1:9".parse().expect("an address")], "");
    let path = directory.write("warned.toml", text);
    let path = path.to_str().expect("UTF-8");
    let output = check(&[path]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).ends_with("; 1 warning\n"), "{}", stdout(&output));
    for format in ["text", "json"] {
        let output = check(&[path, "--strict", "--format", format]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("--strict refuses warnings"));
    }
    assert_eq!(check(&["configs/edge.toml", "--strict"]).status.code(), Some(0));
}

/// Wrong usage: exit 2, said on standard error.
#[test]
fn wrong_usage() {
    for arguments in [[].as_slice(), &["a.toml", "--format", "yaml"], &["a.toml", "b.toml"]] {
        let output = check(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}
