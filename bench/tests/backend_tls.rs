//! `ringgate-bench backend` over TLS, asked by `ringgate-bench load`: both ends are the harness's own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

const HARNESS: &str = env!("CARGO_BIN_EXE_ringgate-bench");

/// A backend with a certificate of its own; ended with the test.
struct Backend {
    process: Child,
    address: String,
}

impl Backend {
    fn start(folder: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        fs::write(folder.join("a.crt"), certificate.pem()).unwrap();
        fs::write(folder.join("a.key"), key.serialize_pem()).unwrap();
        let mut command = Command::new(HARNESS);
        command.args(["backend", "--tls-certificate", "a.crt", "--tls-key", "a.key"]).current_dir(folder);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines.next().unwrap().unwrap().strip_prefix("listening ").unwrap().to_owned();
        Self { process, address }
    }

    fn load(&self, folder: &Path, path: &str, arguments: &str) -> Value {
        let url = format!("https://{}{path}", self.address);
        let mut command = Command::new(HARNESS);
        command.args(["load", &url, "--json", "--warmup", "0s", "--duration", "60s", "--ca", "a.crt"]);
        command.args(["--sni", "a.test", "--connections", "4"]).args(arguments.split_whitespace());
        let output = command.current_dir(folder).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Kept and new connections, full and resumed handshakes, both versions, small and large messages both ways.
#[test]
fn answers_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path());
    for (path, arguments, bytes, measured) in [
        ("/", "", 128, (0, 0)),
        ("/", "--close", 128, (20, 0)),
        ("/", "--close --tls-resume", 128, (0, 20)),
        ("/", "--close --tls-version 1.2", 128, (20, 0)),
        ("/bytes/1000000", "--tls-cipher-suite TLS_AES_128_GCM_SHA256", 1_000_000, (0, 0)),
        ("/bytes/70000", "--method POST --body-bytes 300000 --tls-version 1.2", 70_000, (0, 0)),
    ] {
        let report = backend.load(folder.path(), path, &format!("--requests 20 {arguments}"));
        let shown = format!("{arguments}: {report}");
        assert_eq!((&report["requests"], &report["errors"]), (&20.into(), &serde_json::json!({})), "{shown}");
        assert_eq!(report["content_bytes"], bytes * 20, "{shown}");
        let kinds = &report["tls"]["measured"];
        assert_eq!((&kinds["full"], &kinds["resumed"]), (&measured.0.into(), &measured.1.into()), "{shown}");
        if arguments.contains("AES_128") {
            assert_eq!(report["tls"]["cipher_suite"], "TLS13_AES_128_GCM_SHA256", "{shown}");
        }
    }
}

fn backend(arguments: &[&str]) -> Output {
    Command::new(HARNESS).arg("backend").args(arguments).output().unwrap()
}

#[test]
fn a_certificate_that_can_not_be_used() {
    let text = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let alone = backend(&["--tls-certificate", "a.crt"]);
    assert!(alone.status.code() == Some(2) && text(&alone).contains("--tls-key"), "{}", text(&alone));
    let missing = backend(&["--tls-certificate", "/nowhere.crt", "--tls-key", "/nowhere.key"]);
    assert!(
        missing.status.code() == Some(1) && text(&missing).contains("/nowhere.crt"),
        "{}",
        text(&missing)
    );
    let suite =
        Command::new(HARNESS).args(["load", "https://127.0.0.1:1/", "--tls-cipher-suite", "RC4"]).output();
    let suite = suite.unwrap();
    assert!(
        suite.status.code() == Some(2) && text(&suite).contains("none of TLS_AES_256_GCM_SHA384"),
        "{}",
        text(&suite)
    );
}
