//! `ringgate-bench load` and `backend` as they are used: real processes over loopback.
//!
//! No test depends on how fast this host is: what is asserted about time has a sleep of the backend behind it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

#[path = "../src/report.rs"]
pub mod report;

#[path = "load/honest.rs"]
mod honest;

use report::LoadReport;

fn harness() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ringgate-bench"))
}

/// A running backend; killed when dropped.
struct Backend {
    child: Child,
    address: SocketAddr,
}

impl Backend {
    fn start(arguments: &[&str]) -> Self {
        let mut child = harness().arg("backend").args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let address = lines.next().unwrap().strip_prefix("listening ").unwrap().parse().unwrap();
        assert!(lines.next().unwrap().starts_with("ready"));
        Self { child, address }
    }

    /// SIGTERM, and the exit code.
    fn stop(mut self) -> Option<i32> {
        let kill = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.child.id())).status();
        assert!(kill.unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `load --json` and reads its report; checks that the exit code says the same.
fn load(address: SocketAddr, arguments: &str) -> LoadReport {
    let output = load_output(address, &format!("--json {arguments}"));
    let text = String::from_utf8(output.stdout).unwrap();
    let report: LoadReport = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(output.status.code(), Some(i32::from(!report.valid)), "{report:?}");
    assert_eq!(report.valid, report.invalid_reasons.is_empty());
    report
}

fn load_output(address: SocketAddr, arguments: &str) -> Output {
    let url = format!("http://{address}/");
    harness().args(["load", &url]).args(arguments.split_whitespace()).output().unwrap()
}

/// A server that reads a request head and does with the connection what the test says, again and again.
fn server(answer: impl Fn(&str, &mut TcpStream) -> bool + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), answer.clone());
            thread::spawn(
                move || while read_head(&mut stream).is_some_and(|head| answer(&head, &mut stream)) {},
            );
        }
    });
    address
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    String::from_utf8(head).ok()
}

fn server_of_bytes(bytes: &'static [u8], keep: bool) -> SocketAddr {
    server(move |_, stream| stream.write_all(bytes).is_ok() && keep)
}

/// Both loops on both drivers, against answers that take 2 ms: what is counted is what was sent.
#[test]
fn measures_what_happens() {
    let backend = Backend::start(&["--latency", "2ms", "--body-bytes", "100"]);
    for (driver, threads) in [("auto", 1), ("epoll", 2)] {
        for mode in ["--requests 300 --duration 60s", "--rate 300 --duration 1s --max-lag 5s"] {
            let common = format!("--driver {driver} --threads {threads} --connections 8 --warmup 100ms");
            let report = load(backend.address, &format!("{common} {mode} --expect-bytes 100"));
            assert!(report.valid && report.errors.is_empty(), "{report:?}");
            assert_eq!((report.requests, report.content_bytes), (300, 30_000), "{mode} {driver}");
            let latency = report.latency_us;
            assert!(latency.p50 >= 1_900.0 && latency.p50 <= latency.p99 && latency.p99 <= latency.max);
            assert!(report.generator.cpu_us_per_request > 0.0 && report.generator.busy > 0.0);
            assert!((report.requests_per_second * report.seconds - 300.0).abs() < 0.01);
        }
    }
    assert_eq!(backend.stop(), Some(0));
}

/// A stall of 1 s is part of the latency of all that was due meanwhile, not only of what was under way.
#[test]
fn a_stall_shows_in_the_constant_rate() {
    let stalls = ["--latency", "2ms", "--stall-after", "1s", "--stall", "1s"];
    let backend = Backend::start(&stalls);
    let open = load(backend.address, "--rate 200 --duration 3s --warmup 0s --connections 8 --max-lag 5s");
    assert_eq!((open.requests, open.errors.len()), (600, 0), "{open:?}");
    assert!(open.latency_us.p99 > 500_000.0, "{open:?}");

    // The closed loop asks nothing during the stall: it sees it as often as it has connections.
    let backend = Backend::start(&stalls);
    let closed = load(backend.address, "--duration 3s --warmup 0s --connections 8");
    assert!(closed.requests > 800, "{closed:?}");
    assert!(closed.latency_us.p99 < 500_000.0 && closed.latency_us.max > 500_000.0, "{closed:?}");
}

/// Each failure is counted as its kind, and only as that.
#[test]
fn counts_errors_by_kind() {
    let only = |address, arguments: &str, kind: &str| {
        let report = load(address, &format!("--connections 2 --warmup 0s --duration 20s {arguments}"));
        let errors: Vec<_> = report.errors.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!((errors, report.requests), (vec![(kind, 20)], 0), "{report:?}");
        assert!(!report.valid && report.invalid_reasons[0].contains("no request"), "{report:?}");
    };
    let backend = Backend::start(&[]);
    only(backend.address, "--requests 20 --expect-status 201", "status");
    only(backend.address, "--requests 20 --expect-bytes 129", "content");
    only(Backend::start(&["--failure-rate", "1"]).address, "--requests 20", "status");
    let resets = Backend::start(&["--failure-rate", "1", "--failure", "reset"]);
    only(resets.address, "--requests 20", "read");
    only(server_of_bytes(b"", false), "--requests 20", "closed");
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc";
    only(server_of_bytes(cut, false), "--requests 20", "closed");
    only(server_of_bytes(b"nonsense\r\n\r\n", true), "--requests 20", "malformed");
    let unasked = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc";
    only(server_of_bytes(unasked, true), "--requests 20", "malformed");
    let silent = server(|_, _| true);
    only(silent, "--requests 20 --timeout 100ms", "timeout");
    // What waits for a connection until the end counts as well.
    only(silent, "--rate 40 --duration 0.5s --timeout 10s --requests 20 --timeout 200ms", "timeout");
}

/// A target that is not there is no result; one that goes away is counted.
#[test]
fn tells_set_up_from_a_lost_target() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let report = load(free, "--duration 1s --warmup 0s");
    assert!(report.invalid_reasons[0].contains("set-up: 0 of 64"), "{report:?}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        // One answer, then neither the connection nor the listener is there any more.
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        read_head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let report = load(address, "--connections 1 --requests 5 --duration 20s --warmup 0s");
    assert_eq!((report.requests, report.errors.get("connect")), (1, Some(&4)), "{report:?}");
}

/// A run that the generator can not deliver is no result.
#[test]
fn refuses_to_be_the_bottleneck() {
    let backend = Backend::start(&[]);
    let common = "--duration 500ms --warmup 0s --connections 4 --timeout 500ms";
    let impossible = load(backend.address, &format!("--rate 50000000 {common}"));
    assert!(impossible.invalid_reasons.iter().any(|reason| reason.contains("can start")), "{impossible:?}");
    let late = load(backend.address, &format!("--rate 200 --max-lag 1us {common}"));
    assert!(late.invalid_reasons.iter().any(|reason| reason.contains("late")), "{late:?}");

    let text = load_output(backend.address, &format!("--rate 200 --max-lag 1us {common}"));
    let shown = String::from_utf8(text.stdout).unwrap();
    assert_eq!(text.status.code(), Some(1));
    assert!(shown.contains("INVALID") && !shown.contains("p99.9"), "{shown}");
}

/// Whatever the framing, method or size: both ends agree on where messages end.
#[test]
fn sends_and_receives_every_shape() {
    let backend = Backend::start(&["--latency", "1ms"]);
    for (arguments, content) in [
        ("--close", 128),
        ("--method POST --body-bytes 300000", 128),
        ("--method POST --body-bytes 20000 --hosts 5 --host-pattern h{}.test --host-distribution zipf", 128),
        ("--method HEAD", 0),
        ("--header X-A:b --host www.example.test", 128),
    ] {
        let report = load(backend.address, &format!("{arguments} --requests 50 --connections 4 --warmup 0s"));
        assert!(report.valid && report.errors.is_empty(), "{arguments}: {report:?}");
        assert_eq!((report.requests, report.content_bytes), (50, 50 * content), "{arguments}");
    }
    let large = format!("http://{}/bytes/1000000", backend.address);
    let output = harness()
        .args(["load", &large, "--requests", "20", "--expect-bytes", "1000000", "--warmup", "0s", "--json"])
        .output()
        .unwrap();
    let report: LoadReport = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report.requests, report.errors.len()), (20, 0), "{report:?}");

    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let report =
        load(server_of_bytes(chunked, true), "--requests 50 --warmup 0s --connections 2 --expect-bytes 3");
    assert_eq!((report.requests, report.errors.len()), (50, 0), "{report:?}");
}

/// What a server sees of `--hosts`, `--header` and `--close`.
#[test]
fn requests_are_what_was_asked_for() {
    let (heads, seen) = mpsc::channel();
    let address = server(move |head, stream| {
        heads.send(head.to_owned()).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
        false
    });
    let report = load(
        address,
        "--hosts 3 --host-pattern h{}.test --header X-A:b --close --requests 60 --connections 1 --warmup 0s",
    );
    assert_eq!((report.requests, report.errors.len()), (60, 0), "{report:?}");
    let heads: Vec<String> = seen.try_iter().collect();
    for host in ["h0.test", "h1.test", "h2.test"] {
        let expected = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-A:b\r\nConnection: close\r\n\r\n");
        assert!(heads.contains(&expected), "{host} in {heads:?}");
    }
}

/// `--hgrm` writes rows that end at 100 % with all requests.
#[test]
fn writes_a_distribution() {
    let backend = Backend::start(&["--latency", "1ms"]);
    let path = std::env::temp_dir().join(format!("ringgate-bench-{}.hgrm", std::process::id()));
    let report = load(
        backend.address,
        &format!("--requests 100 --warmup 0s --connections 4 --hgrm {}", path.display()),
    );
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(report.requests, 100);
    assert!(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"), "{text}");
    let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
    let fields: Vec<&str> = last.split_whitespace().collect();
    assert_eq!(fields[1..], ["1.000000000000", "100", "inf"]);
    assert!((fields[0].parse::<f64>().unwrap() / report.latency_us.max - 1.0).abs() < 0.01);
}

#[test]
fn wrong_command_lines_exit_with_2() {
    for arguments in [
        &["load"][..],
        &["load", "ftp://127.0.0.1/"],
        &["load", "http://127.0.0.1/", "--insecure"],
        &["load", "http://127.0.0.1/", "--hosts", "2"],
        &["load", "http://127.0.0.1/", "--header", "no colon"],
        &["load", "http://127.0.0.1/", "--threads", "2", "--connections", "1"],
        &["backend", "--failure-rate", "2"],
        &["backend", "--stall", "1s"],
        &["nothing"],
    ] {
        let output = harness().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}
