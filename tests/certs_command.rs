//! `ringgate certs`: of a configuration, and of a running gateway.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::certificates::Live;
use crate::support::Driver;
use crate::support::gateway::binary;
use crate::support::tls::Authority;

fn certs(arguments: &[&str]) -> Output {
    Command::new(binary()).arg("certs").args(arguments).output().unwrap()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(!text.contains('\u{1b}'));
    text
}

/// A configuration with everything that is listed.
fn everything(live: &Live) -> String {
    let clients = Authority::new("clients' CA");
    let ca = live.directory.write("ca.pem", format!("{0}{0}", clients.certificate));
    let crl = live.directory.write("crl.pem", clients.crl(&[1]));
    let text = live.config("", "MUTUAL", &format!(", ca_certificates = {ca:?}, ca_crl = {crl:?}"));
    live.directory.write("edge.toml", text).to_str().unwrap().to_owned()
}

#[test]
fn of_a_configuration() {
    let live = Live::new();
    let path = everything(&live);
    let table = assert_exit(&certs(&[&path]), 0);
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect())
        .collect();
    assert_eq!(
        lines[0],
        ["GATEWAY", "SERVER", "HOSTS", "KIND", "FOR", "ISSUER", "KEY", "NOT AFTER", "DAYS", "FILE"]
    );
    assert_eq!(
        lines[1][..8],
        ["web", "1", "a.test", "server", "a.test", "CN=test CA", "ECDSA P-256", "4096-01-01T00:00:00Z"]
    );
    assert_eq!(lines[2][3..7], ["CA", "CN=clients' CA (+1)", "CN=clients' CA", "ECDSA P-256"]);
    assert_eq!(lines[3][3..8], ["CRL", "-", "CN=clients' CA", "-", "4000-01-01T00:00:00Z"]);
    assert_eq!(lines[4][..4], ["web", "2", "b.test", "server"]);
    assert_eq!(lines.len(), 5, "{table}");

    let json: Value = serde_json::from_str(&assert_exit(&certs(&[&path, "--json"]), 0)).unwrap();
    let first = &json["certificates"][0];
    assert_eq!(first["names"], serde_json::json!(["a.test"]));
    assert_eq!(
        (&first["kind"], &first["kept"], &first["server"]),
        (&"certificate".into(), &Value::Null, &1.into())
    );
    assert_eq!(
        (&first["not_after"], &first["not_after_seconds"]),
        (&"4096-01-01T00:00:00Z".into(), &67_090_118_400_i64.into())
    );
    assert!(first["days_left"].as_i64() > Some(700_000));
    assert_eq!(json["certificates"][2]["kind"], "revocation_lists");
}

#[test]
fn expiring() {
    let live = Live::new();
    let path = everything(&live);
    assert_exit(&certs(&[&path, "--expiring", "3650d"]), 0);
    let end = SystemTime::now() + Duration::from_secs(5 * 86_400 + 3600);
    live.authority
        .server_with(&["b.test"], |params| params.not_after = end.into())
        .write(&live.directory, "b.test");
    assert_exit(&certs(&[&path, "--expiring", "5d"]), 0);
    let output = certs(&[&path, "--expiring", "6d", "--json"]);
    let json: Value = serde_json::from_str(&assert_exit(&output, 3)).unwrap();
    assert_eq!(json["certificates"][3]["days_left"], 5);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "1 entry ends within that time\n");
    // What has ended ends within any time.
    live.authority
        .server_with(&["b.test"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1))
        .write(&live.directory, "b.test");
    assert!(assert_exit(&certs(&[&path, "--expiring", "0d"]), 3).contains("2020-01-01T00:00:00Z"));
    assert_exit(&certs(&[&path]), 0);
}

#[test]
fn errors() {
    let live = Live::new();
    let path = everything(&live);
    assert_exit(&certs(&[]), 2);
    assert_exit(&certs(&[&path, "--status-file", "x"]), 2);
    let output = certs(&[&path, "--expiring", "soon"]);
    assert_exit(&output, 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("such as 14d"));
    assert_exit(&certs(&["--status-file", "/nonexistent/status.json"]), 1);
    fs::write(live.file("b.test.key"), "").unwrap();
    let output = certs(&[&path]);
    assert_exit(&output, 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("holds no private key"));
    let plain = live.directory.write(
        "plain.toml",
        "[[gateway]]\nname = \"web\"\n[[gateway.server]]\nport = 0\nprotocol = \"HTTP\"\nhosts = [\"*\"]\n",
    );
    assert_eq!(
        assert_exit(&certs(&[plain.to_str().unwrap(), "--expiring", "1d"]), 0),
        "no server ends TLS\n"
    );
}

/// Of a running gateway: what it uses, whatever lies in the files; and the metric of it.
#[test]
fn of_a_running_gateway() {
    let live = Live::new();
    let gateway = live.start(Driver::Epoll);
    let status = live.status_path.to_str().unwrap().to_owned();
    let table = assert_exit(&certs(&["--status-file", &status]), 0);
    assert!(!table.contains("KEPT") && table.lines().count() == 3, "{table}");
    fs::write(live.file("b.test.key"), "").unwrap();
    live.wait_warning("holds no private key");
    let output = certs(&["--status-file", &status, "--expiring", "1d"]);
    let table = assert_exit(&output, 3);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "1 entry is kept: a start with these files would go wrong\n"
    );
    assert!(table.lines().next().unwrap().ends_with("KEPT"), "{table}");
    assert!(
        table.lines().nth(2).unwrap().contains("kept: ") && table.matches("kept").count() == 1,
        "{table}"
    );
    gateway.signal("USR1");
    gateway.wait_stdout("a dump", |lines| lines.iter().any(|line| line.starts_with("dump ")));
    let lines = gateway.stdout();
    let dump = lines.iter().find_map(|line| line.strip_prefix("dump ")).unwrap();
    let dump: Value = serde_json::from_str(dump).unwrap();
    let expected = serde_json::json!(
        { "gateway": "web", "server": 2, "host": "b.test", "kind": "certificate", "value": 67_090_118_400_i64 }
    );
    assert_eq!(dump["certificate_not_after_seconds"][1], expected);
    gateway.stop();
    assert_exit(&certs(&["--status-file", &status]), 1);
}
