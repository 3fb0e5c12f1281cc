//! `ringgate-bench load` over TLS, against a server of this test's own with certificates made here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ServerConfig, ServerConnection, ServerSessionMemoryCache};
use rustls::{StreamOwned, SupportedProtocolVersion};

#[path = "../src/report.rs"]
pub mod report;

use report::{Handshakes, LoadReport, TlsReport};

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// A certificate for `www.example.test`, and the root that signed it.
struct Certificates {
    root: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Certificates {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("root {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(["www.example.test".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &root).unwrap();
        let path = std::env::temp_dir().join(format!("ringgate-bench-{}-{number}.pem", std::process::id()));
        std::fs::write(&path, root.pem()).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Self { root: path, chain: vec![leaf.der().clone()], key }
    }

    /// `--ca ROOT --sni NAME`
    fn trusted(&self) -> String {
        format!("--ca {} --sni www.example.test", self.root.display())
    }

    fn config(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.root);
    }
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

/// A server that reads a request and does with the connection what the test says, again and again.
fn server(
    config: ServerConfig,
    answer: impl Fn(&str, &mut Stream) -> bool + Clone + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, config) = (listener.local_addr().unwrap(), Arc::new(config));
    thread::spawn(move || {
        for socket in listener.incoming() {
            let (socket, config, answer) = (socket.unwrap(), Arc::clone(&config), answer.clone());
            thread::spawn(move || {
                let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
                while read_head(&mut stream).is_some_and(|head| answer(&head, &mut stream)) {}
            });
        }
    });
    address
}

fn read_head(stream: &mut Stream) -> Option<String> {
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

/// Answers with ten bytes; closes in order where it was told to.
fn answer_and_close(head: &str, stream: &mut Stream) -> bool {
    let close = head.contains("Connection: close\r\n");
    let field = if close { "Connection: close\r\n" } else { "" };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n{field}\r\n0123456789");
    let sent = stream.write_all(head.as_bytes()).is_ok();
    if close {
        end(stream);
    }
    sent && !close
}

/// `close_notify`, then the end.
fn end(stream: &mut Stream) {
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

fn load_output(address: SocketAddr, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringgate-bench"))
        .args(["load", &format!("https://{address}/")])
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn load(address: SocketAddr, arguments: &str) -> LoadReport {
    let output = load_output(address, &format!("--json --warmup 0s --duration 60s {arguments}"));
    let text = String::from_utf8(output.stdout).unwrap();
    let report: LoadReport = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(output.status.code(), Some(i32::from(!report.valid)), "{report:?}");
    report
}

/// Whether nothing is wrong with it but that this server may be faster than the generator.
fn is_sound(report: &LoadReport) -> bool {
    report.invalid_reasons.iter().all(|reason| reason.contains("busy"))
}

fn tls(report: &LoadReport) -> &TlsReport {
    report.tls.as_ref().unwrap()
}

/// Both versions on both drivers: kept connections, a full handshake per request, a resumed one per request.
#[test]
fn full_and_resumed_in_both_versions() {
    let certificates = Certificates::new();
    let mut config = certificates.config(BOTH);
    config.ticketer = Ticketer::new().unwrap();
    let address = server(config, answer_and_close);
    for (driver, version) in [("auto", "1.2"), ("auto", "1.3"), ("epoll", "1.2"), ("epoll", "1.3")] {
        let common = format!(
            "{} --driver {driver} --tls-version {version} --connections 4 --requests 40 --expect-bytes 10",
            certificates.trusted()
        );
        for (mode, set_up, measured) in [
            ("", (4, 0), (0, 0)),
            ("--threads 2", (4, 0), (0, 0)),
            ("--tls-resume", (0, 4), (0, 0)),
            ("--close", (1, 0), (40, 0)),
            ("--close --tls-resume", (0, 1), (0, 40)),
        ] {
            let report = load(address, &format!("{common} {mode}"));
            let shown = format!("{driver} {version} {mode}: {report:?}");
            assert!(is_sound(&report) && report.errors.is_empty(), "{shown}");
            assert_eq!((report.requests, report.content_bytes), (40, 400), "{shown}");
            let of = |(full, resumed)| Handshakes { full, resumed };
            let tls = tls(&report);
            assert_eq!((tls.set_up, tls.measured), (of(set_up), of(measured)), "{shown}");
            assert_eq!(tls.version, version, "{shown}");
        }
    }
}

/// Without a version, 1.3 is taken where the server has it; a server's session cache does as well as tickets.
#[test]
fn agrees_on_what_the_server_has() {
    let certificates = Certificates::new();
    for (versions, expected) in [(BOTH, "1.3"), (&BOTH[..1], "1.2")] {
        let mut config = certificates.config(versions);
        config.session_storage = ServerSessionMemoryCache::new(1000);
        let address = server(config, answer_and_close);
        let common = format!("{} --connections 4 --requests 40", certificates.trusted());
        let report = load(address, &format!("{common} --close --tls-resume"));
        assert!(is_sound(&report) && report.errors.is_empty(), "{report:?}");
        assert_eq!(tls(&report).version, expected);
        assert_eq!(tls(&report).measured, Handshakes { full: 0, resumed: 40 });
    }
    let address = server(certificates.config(BOTH), answer_and_close);
    let chosen = format!("{} --requests 10 --tls-key-exchange secp384r1", certificates.trusted());
    assert_eq!(tls(&load(address, &chosen)).key_exchange, "secp384r1");
}

/// A run that was to resume and did not is no result.
#[test]
fn says_that_nothing_was_resumed() {
    let certificates = Certificates::new();
    let mut config = certificates.config(BOTH);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let address = server(config, answer_and_close);
    for version in ["1.2", "1.3"] {
        let arguments = format!("--insecure --close --tls-resume --tls-version {version} --requests 20");
        let report = load(address, &arguments);
        assert_eq!(tls(&report).measured, Handshakes { full: 20, resumed: 0 }, "{report:?}");
        assert!(report.invalid_reasons[0].contains("20 of 20 handshakes were full"), "{report:?}");
    }
}

/// Whom it trusts, and what it says where it does not.
#[test]
fn verifies_unless_told_not_to() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let address = server(certificates.config(BOTH), answer_and_close);
    let refused = |arguments: &str, words: &str| {
        let report = load(address, arguments);
        let reason = &report.invalid_reasons[0];
        assert!(reason.contains("set-up: 0 of ") && reason.contains(words), "{reason}");
        assert_eq!(report.requests, 0);
    };
    refused(&others.trusted(), "give the root with --ca, or measure without verification (--insecure)");
    refused(&format!("--ca {}", certificates.root.display()), "certificate not valid for name \"127.0.0.1\"");
    let host = format!("--ca {} --requests 9", certificates.root.display());
    refused(&format!("{host} --host other.example.test:1"), "www.example.test");
    assert_eq!(load(address, &format!("{host} --host www.example.test:1")).requests, 9);
    assert_eq!(load(address, "--insecure --requests 9").requests, 9);

    let text = load_output(address, "--insecure --requests 9 --warmup 0s --close");
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("handshakes  1 full and 0 resumed before the run, 9 full and 0 resumed measured"),
        "{text}"
    );

    // A server without TLS, and none of the versions.
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = plain.local_addr().unwrap();
    thread::spawn(move || {
        for stream in plain.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let report = load(address, "--insecure");
    assert!(report.invalid_reasons[0].contains("is this a port for TLS?"), "{report:?}");
    let address = server(certificates.config(&BOTH[1..]), answer_and_close);
    let report = load(address, "--insecure --tls-version 1.2");
    assert!(report.invalid_reasons[0].contains("see --tls-version"), "{report:?}");
}

/// The end of the connection only ends a response where it was announced.
#[test]
fn tells_a_cut_from_an_end() {
    let certificates = Certificates::new();
    let run = |answer: fn(&str, &mut Stream) -> bool| {
        let address = server(certificates.config(BOTH), answer);
        load(address, &format!("{} --requests 10 --connections 2", certificates.trusted()))
    };
    let only = |report: &LoadReport, kind: &str| {
        let errors: Vec<_> = report.errors.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!((errors, report.requests), (vec![(kind, 10)], 0), "{report:?}");
    };
    let ended = run(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").unwrap();
        end(stream);
        false
    });
    assert_eq!((ended.requests, ended.errors.len()), (10, 0), "{ended:?}");
    only(&run(|_, stream| stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").is_err()), "closed");
    only(
        &run(|_, stream| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc").is_err()),
        "closed",
    );
    only(
        &run(|_, stream| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc").is_ok()),
        "malformed",
    );
    only(
        &run(|_, stream| {
            stream.sock.write_all(b"\x17\x03\x03\x00\x20no record of these keys, nor any").is_ok()
        }),
        "tls",
    );
}

/// A handshake that fails in the run is a failed request.
#[test]
fn counts_failed_handshakes() {
    let certificates = Certificates::new();
    let config = Arc::new(certificates.config(BOTH));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, socket) in listener.incoming().enumerate() {
            let mut stream =
                StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), socket.unwrap());
            // The first is that of the set-up, the second one request's; the others end within the handshake.
            if number < 2 {
                let _ = read_head(&mut stream).is_some_and(|head| answer_and_close(&head, &mut stream));
            } else {
                let _ = stream.sock.read(&mut [0; 100]);
            }
        }
    });
    let report = load(address, "--insecure --close --connections 1 --requests 5");
    assert_eq!((report.requests, report.errors.get("tls")), (1, Some(&4)), "{report:?}");
}

/// Many records in both directions.
#[test]
fn carries_large_messages() {
    let certificates = Certificates::new();
    let address = server(certificates.config(BOTH), |head, stream| {
        let (_, length) = head.split_once("Content-Length: ").unwrap();
        let mut body = vec![0; length.split_once('\r').unwrap().0.parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        assert!(body.iter().all(|byte| *byte == b'x'));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&body).is_ok()
    });
    for version in ["1.2", "1.3"] {
        for bytes in [0, 1, 16_384, 65_536, 1_000_000] {
            let report = load(
                address,
                &format!(
                    "--insecure --method POST --body-bytes {bytes} --expect-bytes {bytes} --tls-version {version} \
                     --connections 2 --requests 10 --hosts 3 --host-pattern h{{}}.test"
                ),
            );
            assert_eq!((report.requests, report.errors.len()), (10, 0), "{version} {bytes} {report:?}");
        }
    }
}

#[test]
fn wrong_options_exit_with_2() {
    let address = "127.0.0.1:1".parse().unwrap();
    for (arguments, words) in [
        ("--ca /nowhere.pem", "--ca /nowhere.pem"),
        ("--ca /dev/null", "no certificate in it"),
        ("--ca /dev/null --insecure", "cannot be used with"),
        ("--insecure --sni a..b", "neither a DNS name nor an address"),
        ("--insecure --tls-version 1.1", "1.2, 1.3"),
        ("--insecure --tls-version 1.2 --tls-key-exchange x25519mlkem768", "needs TLS 1.3"),
    ] {
        let output = load_output(address, arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {text}");
        assert!(text.contains(words), "{arguments}: {text}");
    }
}
