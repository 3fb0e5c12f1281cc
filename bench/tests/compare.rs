//! `ringgate-bench compare` as it is used, with whatever proxies this host has, and none at all.
//!
//! Nothing is asserted about speed. A stand-in for a proxy is the harness's own backend: it gives the backend's answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

const HARNESS: &str = env!("CARGO_BIN_EXE_ringgate-bench");

fn compare(arguments: &[&str]) -> Output {
    Command::new(HARNESS).arg("compare").args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A program that says a version and otherwise runs `command`.
fn program(folder: &Path, name: &str, command: &str) -> PathBuf {
    let path = folder.join(name);
    let script = format!("#!/bin/sh\n[ \"$1\" = --version ] && echo '{name} 1.0' && exit\n{command}\n");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Something that is started as ringgate and answers as the backend does.
fn stand_in(folder: &Path, flags: &str) -> PathBuf {
    program(folder, "stand-in", &format!("exec '{HARNESS}' backend --listen 127.0.0.1:0 {flags}"))
}

const NONE: [&str; 6] =
    ["--nginx", "/nonexistent/n", "--haproxy", "/nonexistent/h", "--envoy", "/nonexistent/e"];

#[test]
fn without_any_peer_it_says_what_is_missing() {
    let output = compare(&[&["h1-keepalive", "--ringgate", "/nonexistent/r"][..], &NONE].concat());
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in ["nothing to compare", "ringgate: /nonexistent/r is not", "envoy: /nonexistent/e is not"] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

/// One short round with the proxies of this host: each is either in the table or named with a reason.
#[test]
fn a_short_round_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let (json, html) = (folder.path().join("report.json"), folder.path().join("report.html"));
    let stand_in = stand_in(folder.path(), "");
    let output = compare(&[
        "h1-keepalive",
        "scale",
        "--ringgate",
        stand_in.to_str().unwrap(),
        "--without",
        "envoy",
        "--rounds",
        "1",
        "--seconds",
        "1",
        "--warmup",
        "0",
        "--connections",
        "4",
        "--json",
        json.to_str().unwrap(),
        "--html",
        html.to_str().unwrap(),
    ]);
    let text = text(&output);
    let report: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let page = fs::read_to_string(html).unwrap();
    assert!(page.ends_with("</html>\n") && page.contains("<svg") && !page.contains("http://www"), "{page}");

    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["peer"].as_str().unwrap().to_owned()).collect()
    };
    let (missing, measured) = (names(&report["missing"]), names(&report["receipt"]["peers"]));
    assert!(measured.contains(&"ringgate".into()) && missing.contains(&"envoy".into()), "{text}");
    for peer in ["ringgate", "nginx", "haproxy", "envoy"] {
        assert!(missing.iter().chain(&measured).any(|name| name == peer), "{peer}: {text}");
        assert!(text.contains(peer) && page.contains(peer), "{peer}: {text}");
    }
    let case = &report["cases"][0];
    assert_eq!(case["name"], "h1-keepalive");
    assert_eq!(names(&case["peers"]), measured);
    let own = &case["peers"][0];
    // A host that is too busy for the generator makes its runs invalid; then that is said, and nothing else.
    if let Some(reason) = own["failure"].as_str() {
        assert!(reason.contains("INVALID twice") && output.status.code() == Some(1), "{text}");
    } else {
        let figures = own["figures"].as_array().unwrap();
        let cpu = figures.iter().find(|figure| figure["metric"] == "cpu_per_request").unwrap();
        assert!(
            cpu["median"].as_f64().unwrap() > 0.0 && cpu["values"].as_array().unwrap().len() == 1,
            "{cpu}"
        );
        assert!(!own["quantiles"].as_array().unwrap().is_empty(), "{own}");
        assert!(own["generator_command"].as_str().unwrap().contains("--connections 4"), "{own}");
    }
    for key in ["commit", "kernel", "cpu", "date", "command", "generator", "layout", "method"] {
        assert!(!report["receipt"][key].is_null(), "{key}");
    }
}

#[test]
fn a_proxy_that_answers_differently_is_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = stand_in(folder.path(), "--failure-rate 1");
    let own = ["h1-keepalive", "--rounds", "2", "--seconds", "1", "--ringgate", stand_in.to_str().unwrap()];
    let output = compare(&[&own[..], &NONE].concat());
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("ringgate differs from the backend") && text.contains("status 503 instead of 200"),
        "{text}"
    );
    assert!(text.contains("nginx     NOT MEASURED: /nonexistent/n is not a program"), "{text}");
}

#[test]
fn a_proxy_that_does_not_start_is_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let broken = program(folder.path(), "broken", "echo 'no such thing as a ring' >&2; exit 3");
    let output = compare(&[&["h1-close", "--ringgate", broken.to_str().unwrap()][..], &NONE].concat());
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("exit status: 3") && text.contains("no such thing as a ring"), "{text}");
}

#[test]
fn the_command_line() {
    let output = compare(&["--list"]);
    assert!(output.status.success());
    assert_eq!(output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count(), 18);
    let same = compare(&["--json", "/nonexistent/x", "--html", "/nonexistent/x"]);
    assert!(same.status.code() == Some(2) && text(&same).contains("the same file"), "{}", text(&same));
    for wrong in
        [&["no-such-scenario"][..], &["--rounds", "0"], &["--generator", "ab"], &["--proxy-cores", "x"]]
    {
        assert_eq!(compare(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

/// What one round of a second needs.
const SHORT: [&str; 8] = ["--rounds", "1", "--seconds", "1", "--warmup", "0", "--connections", "4"];

/// What ends TLS has the comparison's certificate, and what is measured over it is said. The stand-in finds the files
/// where a proxy's configuration names them.
#[test]
fn a_short_round_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let pair = r#"--tls-certificate "$2/../../server.crt" --tls-key "$2/../../server.key""#;
    let (stand_in, json) = (stand_in(folder.path(), pair), folder.path().join("report.json"));
    let own = ["tls-resume", "sni-passthrough-bulk", "tls-idle", "--idle-connections", "20"];
    let files = ["--ringgate", stand_in.to_str().unwrap(), "--json", json.to_str().unwrap()];
    let output = compare(&[&own[..], &files, &NONE, &SHORT].concat());
    let text = text(&output);
    let report: Value = serde_json::from_slice(&fs::read(json).unwrap_or_else(|_| panic!("{text}"))).unwrap();
    for (case, (name, primary)) in report["cases"].as_array().unwrap().iter().zip([
        ("tls-resume", "cpu_per_request"),
        ("sni-passthrough-bulk", "cpu_per_mib"),
        ("tls-idle", "idle_bytes"),
    ]) {
        assert_eq!((&case["name"], &case["primary"]), (&name.into(), &primary.into()));
        let own = &case["peers"][0];
        // As above: a busy host may make runs invalid.
        if let Some(reason) = own["failure"].as_str() {
            assert!(reason.contains("INVALID twice"), "{text}");
            continue;
        }
        let figures = own["figures"].as_array().unwrap();
        assert!(figures.iter().any(|figure| figure["metric"] == primary), "{own}");
        assert!(!own["notes"].to_string().contains("handshakes"), "{own}");
    }
    assert_eq!(report["cases"].as_array().unwrap().len(), 3, "{text}");
}

/// A peer that hangs when asked for its version is named, and one that was named by path makes the exit code 1 although
/// the others are measured.
#[test]
fn a_named_peer_that_can_not_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = stand_in(folder.path(), "");
    let hangs = folder.path().join("hangs");
    fs::write(&hangs, "#!/bin/sh\nsleep 600\n").unwrap();
    fs::set_permissions(&hangs, fs::Permissions::from_mode(0o755)).unwrap();
    let named =
        ["h1-keepalive", "--ringgate", stand_in.to_str().unwrap(), "--haproxy", hangs.to_str().unwrap()];
    let others = ["--without", "nginx", "--without", "envoy"];
    let output = compare(&[&named[..], &others, &SHORT].concat());
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("haproxy   NOT MEASURED") && text.contains("did not end within 5 s"), "{text}");
    assert!(text.contains("x best"), "{text}");
}

/// Processes whose command line begins with `start`.
fn running(start: &Path) -> usize {
    let start = start.to_str().unwrap().as_bytes();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.starts_with(start)).count()
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "waited too long for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A killed harness leaves neither the proxy nor what that started.
#[test]
fn nothing_outlives_a_killed_harness() {
    let folder = tempfile::tempdir().unwrap();
    // A name of its own makes it known.
    let own = folder.path().join("backend");
    std::os::unix::fs::symlink(HARNESS, &own).unwrap();
    let serve = format!("'{}' backend --listen 127.0.0.1:0", own.display());
    let parent =
        program(folder.path(), "parent", &format!("{serve} --threads 2 >/dev/null & {serve} & wait"));
    let arguments = ["compare", "h1-keepalive", "--seconds", "60", "--ringgate", parent.to_str().unwrap()];
    let mut command = Command::new(HARNESS);
    // Its scratch folder stays, inside of this one.
    command.env("TMPDIR", folder.path());
    command.args(arguments).args(NONE).stdout(Stdio::null()).stderr(Stdio::null());
    let mut harness = command.spawn().unwrap();
    wait("the proxy and its child", || running(&own) == 2);
    harness.kill().unwrap();
    harness.wait().unwrap();
    wait("their end", || running(&own) == 0);
}

/// An interrupted comparison keeps what was finished, marked, and exits as a shell expects it.
#[test]
fn an_interrupt_keeps_what_was_finished() {
    let folder = tempfile::tempdir().unwrap();
    let (stand_in, json) = (stand_in(folder.path(), ""), folder.path().join("report.json"));
    let mut command = Command::new(HARNESS);
    command.args(["compare", "h1-keepalive", "h1-close", "--ringgate", stand_in.to_str().unwrap()]);
    command.args(["--json", json.to_str().unwrap()]).args(NONE).args(SHORT);
    let harness = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait("the first case", || json.exists());
    let kill = Command::new("sh").arg("-c").arg(format!("kill -INT {}", harness.id())).status().unwrap();
    assert!(kill.success());
    let output = harness.wait_with_output().unwrap();
    let text = text(&output);
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(
        text.contains("INTERRUPTED: only the rounds") && text.contains("nothing is left running"),
        "{text}"
    );
    let report: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!((&report["interrupted"], &report["cases"][0]["name"]), (&true.into(), &"h1-keepalive".into()));
}
