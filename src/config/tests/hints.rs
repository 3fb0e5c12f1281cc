//! What is said of keys and values as other programs have them, and of what people take for each other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::tls::{PAIR, Site};
use super::{SERVICE, load};
use crate::config::load as load_path;
use crate::config::render::{self, Colour};

fn said(text: &str) -> String {
    let loaded = load(&[text]);
    loaded.diagnostics.iter().map(|diagnostic| render::text(diagnostic, Colour::Plain)).collect()
}

/// Of `tls` of a server.
#[test]
fn tls_of_servers() {
    for (protocol, tls, hint) in [
        ("HTTPS", "ssl_client_certificate = \"x\"", "write `ca_certificates`"),
        ("HTTPS", "ca_file = \"x\"", "write `ca_certificates`"),
        ("HTTPS", "ssl_crl = \"x\"", "write `ca_crl`"),
        ("HTTPS", "crl = \"x\"", "write `ca_crl`"),
        ("HTTPS", "crl_file = \"x\"", "write `ca_crl`"),
        ("HTTPS", "verify = true", "write `mode = \"MUTUAL\"`"),
        ("HTTPS", "ssl_verify_client = \"on\"", "write `mode = \"MUTUAL\"`"),
        ("HTTPS", "credentialName = \"x\"", "write `server_certificate` and `private_key`"),
        ("HTTPS", "mode = \"OPTIONAL\"", "write `OPTIONAL_MUTUAL`"),
        ("HTTPS", "mode = \"SIMPLE\", min_protocol_version = \"1.2\"", "write `TLSV1_2`"),
        ("HTTPS", "mode = \"SIMPLE\", certificates = { private_key = \"x\" }", "hint: write `[{ .. }]`"),
        ("HTTP", "https_redirect_port = 443", "add `https_redirect = true`"),
    ] {
        let mut site = Site::new();
        site.server(protocol, tls);
        let text = site.said();
        assert!(text.contains(hint), "{tls}: {text}");
    }
    let mut site = Site::new();
    site.server("HTTP", "httpsRedirect = true");
    let text = site.said();
    assert!(text.contains("`https_redirect`") && !text.contains("`protocol = \"HTTPS\"`"), "{text}");
    let mut site = Site::new();
    site.https(&format!("mode = \"SIMPLE\", {PAIR}, cipher_suites = [\"AES\"]"));
    assert!(site.said().ends_with("1 error, 0 warnings"), "{}", site.said());
    let mut site = Site::new();
    site.file("a.p12", b"\x30\x82\x01\x00\x02\x01\x03");
    site.https("mode = \"SIMPLE\", server_certificate = \"a.p12\", private_key = \"a.key\"");
    site.https("mode = \"SIMPLE\", server_certificate = \"a.crt\", private_key = \"a.p12\"");
    assert_eq!(site.said().matches("openssl pkcs12 -in FILE -nodes").count(), 2, "{}", site.said());
}

/// Of servers, and of rules.
#[test]
fn servers_and_rules() {
    let server = "[[gateway]]\nname = \"g\"\n[[gateway.server]]\nport = 1\nhosts = [\"*\"]\n";
    let rule =
        "[[virtual_service]]\nname = \"v\"\nhosts = [\"*\"]\ngateways = [\"g\"]\n[[virtual_service.http]]\n";
    for (text, hint) in [
        (format!("{server}protocol = \"HTTP\"\nssl = true\n"), "write `tls = {"),
        (format!("{server}protocol = \"HTTP\"\nssl_certificate = \"x\"\n"), "write `tls = {"),
        (format!("{server}protocol = \"HTTP\"\ncrt = \"x\"\n"), "write `tls = {"),
        (format!("{server}protocol = \"HTTP\"\nconnections_max = 5\n"), "`limits = { connections_max"),
        (format!("{server}protocol = \"TLS\"\n"), "or `tls = { mode = \"PASSTHROUGH\" }`"),
        (format!("{server}protocol = \"HTTPS\"\nhsts = {{ max_age = \"1y\" }}\n"), "write `\"365d\"`"),
        (format!("{rule}match = {{ port = 1 }}\n"), "`[[virtual_service.http.match]]`"),
        (
            format!("{rule}redirect = {{ scheme = \"https\" }}\n{SERVICE}"),
            "`tls = { https_redirect = true }`",
        ),
    ] {
        let said = said(&text);
        assert!(said.contains(hint), "{text}: {said}");
    }
}

/// Of files: directories, keys that are not there, and nothing of their permissions beside an error.
#[test]
fn files() {
    let directory = tempfile::tempdir().unwrap();
    let mut site = Site::new();
    site.https("mode = \"MUTUAL\", server_certificate = \"a.crt\", private_key = \"www.key\", ca_certificates = \"dir\"");
    site.pair("b", &["a.test"], |_| {});
    site.https("mode = \"SIMPLE\", server_certificate = \"a.crt\", private_key = \"b.key\"");
    for (name, content) in &site.files {
        fs::write(directory.path().join(name), content).unwrap();
    }
    fs::create_dir(directory.path().join("dir")).unwrap();
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(directory.path().join("b.key"), open).unwrap();
    fs::write(directory.path().join("edge.toml"), &site.text).unwrap();
    let loaded = load_path(&directory.path().join("edge.toml"));
    let text: String =
        loaded.diagnostics.iter().map(|diagnostic| render::text(diagnostic, Colour::Plain)).collect();
    assert!(text.contains("it is a directory") && text.contains("ca-certificates.crt"), "{text}");
    assert!(text.contains("www.key`: cannot read"), "{text}");
    assert!(text.contains("is not the key of") && !text.contains("open-key"), "{text}");
}
