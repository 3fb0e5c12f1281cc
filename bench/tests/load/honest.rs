//! What `ringgate-bench load` says of requests that are not answered, and where its own output goes wrong.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::report::LoadReport;
use crate::{Backend, harness, load, load_output, server};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A server that answers 100 requests and then none: what is open at the end is shown, and the run is no result.
#[test]
fn a_target_that_hangs_is_seen_in_the_closed_loop() {
    let hanging = || {
        let count = Arc::<AtomicUsize>::default();
        server(move |_, stream| {
            count.fetch_add(1, Ordering::Relaxed) >= 100 || stream.write_all(ANSWER).is_ok()
        })
    };
    let arguments = "--duration 2s --warmup 0s --connections 4";
    let report = load(hanging(), arguments);
    assert_eq!((report.requests, report.errors.len(), report.unanswered.requests), (100, 0, 4), "{report:?}");
    assert!(report.latency_us.max > 200_000.0 && report.unanswered.oldest_us > 200_000, "{report:?}");
    assert!(report.invalid_reasons[0].contains("4 requests were unanswered"), "{report:?}");

    let output = load_output(hanging(), arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\nunanswered  at the end: 4, the oldest "), "{text}");

    let never = load_output(server(|_, _| true), "--duration 500ms --warmup 0s --connections 2");
    let text = String::from_utf8(never.stdout).unwrap();
    assert!(text.contains("still open at the end") && !text.contains("see the errors"), "{text}");
}

/// A request that timed out has waited: at a constant rate it is in the latency with that.
#[test]
fn timeouts_are_in_the_latency() {
    let report = load(server(|_, _| true), "--rate 40 --duration 500ms --warmup 0s --timeout 200ms");
    assert_eq!((report.errors.get("timeout"), report.requests), (Some(&20), 0), "{report:?}");
    assert!(report.latency_us.p50 >= 200_000.0 && (report.error_share - 1.0).abs() < 1e-9, "{report:?}");
}

/// A few failures are said, many are no result unless they are allowed.
#[test]
fn failures_are_said_and_bounded() {
    let backend = Backend::start(&["--failure-rate", "0.2", "--latency", "2ms"]);
    let arguments = "--requests 500 --duration 20s --warmup 0s --connections 2";
    let report: LoadReport = load(backend.address, arguments);
    assert!(report.invalid_reasons[0].contains("more than --max-errors (1.0 %)"), "{report:?}");
    let report = load(backend.address, &format!("--max-errors 0.9 {arguments}"));
    assert!(report.valid && report.notes[0].contains("% of requests failed: latencies are"), "{report:?}");
}

/// A reader that went away is no failure, a full disk is one.
#[test]
fn output_that_can_not_be_written() {
    // The generator must have time to spare, or the run is invalid.
    let backend = Backend::start(&["--latency", "20ms"]);
    let url = format!("http://{}/", backend.address);
    let arguments =
        [&["load", &url, "--requests", "5", "--warmup", "0s"][..], &["micro", "--list"], &["--help"]];
    for arguments in arguments {
        let mut child = harness().args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?}");

        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = harness().args(arguments).stdout(full).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), error.lines().count()), (Some(1), 1), "{arguments:?}: {error}");
        assert!(error.starts_with("error: standard output: No space left"), "{error}");
    }
}

/// A backend is there again on its port right after it was killed, with connections open.
#[test]
fn a_backend_restarts_on_its_port() {
    let first = Backend::start(&[]);
    let address = first.address.to_string();
    let open = std::net::TcpStream::connect(first.address).unwrap();
    drop(first);
    for _ in 0..3 {
        assert_eq!(Backend::start(&["--listen", &address]).address.to_string(), address);
    }
    drop(open);
}

/// A host without an address is a failed measurement, not a wrong command line.
#[test]
fn a_host_without_an_address_exits_with_1() {
    let output = harness().args(["load", "http://nowhere.invalid/"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("`nowhere.invalid` has no address"), "{error}");
}
