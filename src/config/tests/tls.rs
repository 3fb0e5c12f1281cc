//! `tls` of servers: what is made of its keys and files, and what is said of those that do not fit.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use regex::Regex;

use super::{SERVICE, codes};
use crate::config::model::{Config, ServerTls, TlsMode, TlsTerms};
use crate::config::render::{self, Colour};
use crate::config::{Loaded, load as load_path, load_text_with};
use crate::tls::identity::CertDetail;
use crate::tls::testing::{Ca, Holder};

const VIRTUAL_SERVICE: &str = "[[virtual_service]]\nname = \"all\"\nhosts = [\"*\"]\ngateways = [\"edge\"]\n\
    [[virtual_service.http]]\nroute = [{ destination = { host = \"web\" } }]\n";

/// The good pair of `a.test`.
pub(super) const PAIR: &str = "server_certificate = \"a.crt\", private_key = \"a.key\"";

/// A configuration and the files that it names.
pub(super) struct Site {
    pub(super) ca: Ca,
    pub(super) text: String,
    pub(super) files: Vec<(PathBuf, Vec<u8>)>,
    port: u16,
    /// More of the one rule.
    pub(super) rule: String,
}

impl Site {
    /// With the pair of `a.test`, and `ca.crt`.
    pub(super) fn new() -> Self {
        let ca = Ca::new("clients");
        let mut site = Self {
            text: "[[gateway]]\nname = \"edge\"\n".to_owned(),
            files: Vec::new(),
            port: 440,
            ca,
            rule: String::new(),
        };
        site.file("ca.crt", &pem("CERTIFICATE", &site.ca.root));
        site.pair("a", &["a.test"], |_| {});
        site
    }

    pub(super) fn file(&mut self, name: &str, content: &(impl AsRef<[u8]> + ?Sized)) {
        self.files.push((PathBuf::from(name), content.as_ref().to_vec()));
    }

    /// Writes NAME.crt and NAME.key.
    pub(super) fn pair(
        &mut self,
        name: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Holder {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let holder = self.ca.sign(&params, &rcgen::PKCS_ECDSA_P256_SHA256);
        self.file(&format!("{name}.crt"), &holder.certificate.pem());
        self.file(&format!("{name}.key"), &holder.key.serialize_pem());
        holder
    }

    /// A server for `a.test` on a port of its own.
    pub(super) fn server(&mut self, protocol: &str, tls: &str) {
        self.server_of("\"a.test\"", protocol, tls);
    }

    pub(super) fn server_of(&mut self, hosts: &str, protocol: &str, tls: &str) {
        self.port += 1;
        let (text, port) = (&mut self.text, self.port);
        writeln!(text, "[[gateway.server]]\nport = {port}\nprotocol = \"{protocol}\"\nhosts = [{hosts}]")
            .unwrap();
        writeln!(text, "tls = {{ {tls} }}").unwrap();
    }

    pub(super) fn https(&mut self, tls: &str) {
        self.server("HTTPS", tls);
    }

    pub(super) fn load(&self) -> Loaded {
        let text = format!("{}{VIRTUAL_SERVICE}{}{SERVICE}", self.text, self.rule);
        load_text_with(&[(PathBuf::from("edge.toml"), text)], &self.files)
    }

    /// All that is said of it. No file's content is, whatever the case.
    pub(super) fn said(&self) -> String {
        let loaded = self.load();
        let mut text = String::new();
        for diagnostic in &loaded.diagnostics {
            text.push_str(&render::text(diagnostic, Colour::Plain));
            text.push('\n');
        }
        assert!(!text.contains("hunter2"), "a secret is printed");
        text.push_str(&render::summary_line(loaded.config.as_ref(), &loaded.diagnostics));
        Regex::new(r"\d+ days").unwrap().replace_all(&text, "N days").into_owned()
    }

    pub(super) fn config(&self) -> Config {
        let loaded = self.load();
        assert_eq!(codes(&loaded), Vec::<String>::new(), "{:#?}", loaded.diagnostics);
        loaded.config.unwrap()
    }
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn terms(config: &Config, server: usize) -> Arc<TlsTerms> {
    match &config.gateways[0].servers[server].tls {
        Some(ServerTls::Terminate(terms)) => Arc::clone(terms),
        other => unreachable!("{other:?}"),
    }
}

/// What is written arrives, and servers that want the same share it.
#[test]
fn written_values() {
    let mut site = Site::new();
    let crl = site.ca.crl(4000, &[1]);
    site.file("ca.crl", &pem("X509 CRL", &crl));
    site.file("a.ocsp", b"\x30\x03\x0a\x01\x00");
    site.https(&format!("mode = \"SIMPLE\", {PAIR}"));
    site.https(&format!("mode = \"SIMPLE\", certificates = [{{ {PAIR} }}]"));
    site.https(&format!("mode = \"SIMPLE\", {PAIR}, ocsp_response = \"a.ocsp\""));
    let clients = "ca_certificates = \"ca.crt\", ca_crl = \"ca.crl\", crl_depth = \"LEAF\", crl_expired = \"ALLOW\", \
        crl_unknown_status = \"ALLOW\", subject_alt_names = [\"spiffe://example.org/web\"]";
    let hex = "0123456789abcdef".repeat(4);
    let pins = format!("verify_certificate_hash = [\"{hex}\", \"{}\"]", colons(&hex));
    site.https(&format!("mode = \"MUTUAL\", {PAIR}, {clients}, {pins}"));
    site.https(&format!("mode = \"OPTIONAL_MUTUAL\", {PAIR}, {clients}, {pins}"));
    site.https(&format!("mode = \"SIMPLE\", {PAIR}, cipher_profile = \"MODERN\""));
    site.https(&format!("mode = \"SIMPLE\", {PAIR}, min_protocol_version = \"TLSV1_3\""));
    let suites = "\"ECDHE-ECDSA-AES128-GCM-SHA256\", \"TLS_AES_128_GCM_SHA256\"";
    site.https(&format!("mode = \"SIMPLE\", {PAIR}, cipher_suites = [{suites}]"));
    let config = site.config();
    let of = |server| terms(&config, server);
    assert!(Arc::ptr_eq(&of(0), &of(1)) && !Arc::ptr_eq(&of(0), &of(2)));
    assert_eq!(of(0).fingerprint, of(2).fingerprint);
    let modes: Vec<_> = (0..8).map(|server| of(server).mode).collect();
    let (simple, mutual, optional) = (TlsMode::Simple, TlsMode::Mutual, TlsMode::OptionalMutual);
    assert_eq!(modes, [simple, simple, simple, mutual, optional, simple, simple, simple]);
    assert!(Arc::ptr_eq(&of(5), &of(6)), "MODERN is TLS 1.3");
    let suites = of(7).config.crypto_provider().cipher_suites.len();
    assert_eq!((suites, of(7).config.alpn_protocols[0].as_slice()), (2, &b"http/1.1"[..]));
    let distinct: std::collections::HashSet<_> = (0..8).map(|server| of(server).policy).collect();
    assert_eq!(distinct.len(), 5);
    // A reload that changes nothing leaves tickets good; another pair's tickets are others.
    let again = site.config();
    assert!((0..8).all(|server| terms(&again, server).fingerprint == of(server).fingerprint));
}

fn colons(hex: &str) -> String {
    let pairs: Vec<&str> = hex.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap()).collect();
    pairs.join(":")
}

/// Protocol TLS that ends here names no application protocol.
#[test]
fn tls_ends_without_alpn() {
    let mut site = Site::new();
    site.server("TLS", &format!("mode = \"SIMPLE\", {PAIR}"));
    let rule = "[[virtual_service.tcp]]\nroute = [{ destination = { host = \"web\" } }]\n";
    let text = format!(
        "{}{}{rule}{SERVICE}",
        site.text,
        VIRTUAL_SERVICE.split_once("[[virtual_service.http").unwrap().0
    );
    let loaded = load_text_with(&[(PathBuf::from("edge.toml"), text)], &site.files);
    assert!(terms(&loaded.config.unwrap(), 0).config.alpn_protocols.is_empty());
}

/// Keys that do not fit each other or the mode, and values that mean nothing.
#[test]
fn keys_that_do_not_fit() {
    let mut site = Site::new();
    site.server("HTTP", &format!("mode = \"SIMPLE\", {PAIR}"));
    site.server("TCP", "mode = \"PASSTHROUGH\"");
    site.https("mode = \"PASSTHROUGH\"");
    site.https("mode = \"ISTIO_MUTUAL\"");
    site.https("mode = \"simple\"");
    site.https(PAIR);
    site.server(
        "TLS",
        "mode = \"PASSTHROUGH\", ocsp_response = \"x\", cipher_profile = \"MODERN\", ca_crl = \"x\"",
    );
    site.https(&format!(
        "mode = \"SIMPLE\", {PAIR}, ca_certificates = \"ca.crt\", subject_alt_names = [\"a\"]"
    ));
    site.https(&format!("mode = \"MUTUAL\", {PAIR}"));
    site.https(&format!("mode = \"MUTUAL\", {PAIR}, ca_certificates = \"ca.crt\", crl_expired = \"DENY\""));
    site.https(&format!(
        "mode = \"MUTUAL\", {PAIR}, ca_certificates = \"ca.crt\", subject_alt_names = [\"*.a\", \"\", \"b c\"], \
         verify_certificate_spki = [\"hunter\"], verify_certificate_hash = []"
    ));
    site.https(&format!(
        "mode = \"SIMPLE\", certificates = [{{ {PAIR} }}, {{ {PAIR} }}], server_certificate = \"x\""
    ));
    site.https("mode = \"SIMPLE\", certificates = []");
    site.https(&format!("mode = \"SIMPLE\", {PAIR}, min_protocol_version = \"TLSV1_0\""));
    let (min, max) = ("min_protocol_version", "max_protocol_version");
    site.https(&format!("mode = \"SIMPLE\", {PAIR}, {min} = \"TLSV1_3\", {max} = \"TLSV1_2\""));
    site.https(&format!("mode = \"SIMPLE\", {PAIR}, cipher_profile = \"MODERN\", {max} = \"TLSV1_2\""));
    site.https(&format!("mode = \"SIMPLE\", {PAIR}, cipher_profile = \"MODERN\", {min} = \"TLSV1_2\""));
    site.https(&format!("mode = \"SIMPLE\", {PAIR}, cipher_suites = [\"ECDHE-ECDSA-AES128-GCM-SHA256\"]"));
    site.https(&format!(
        "mode = \"SIMPLE\", {PAIR}, {max} = \"TLSV1_2\", cipher_suites = [\"ECDHE-RSA-AES128-GCM-SHA256\"]"
    ));
    site.https(&format!(
        "mode = \"SIMPLE\", {PAIR}, {min} = \"TLSV1_3\", cipher_profile = \"INTERMEDIATE\", \
         cipher_suites = [\"TLS_AES_128_GCM_SHA265\", \"ECDHE-ECDSA-AES128-GCM-SHA256\"]"
    ));
    insta::assert_snapshot!("tls_keys", site.said());
}

/// Files that are not there, not what they should be, or not of each other.
#[test]
fn files_that_do_not_fit() {
    let mut site = Site::new();
    let pair = |certificate: &str, key: &str| {
        format!("mode = \"SIMPLE\", server_certificate = \"{certificate}\", private_key = \"{key}\"")
    };
    let b = site.pair("b", &["a.test"], |_| {});
    let self_made = KeyPair::generate().unwrap();
    site.file("empty.pem", "");
    site.file("binary.pem", b"\xff\xfe");
    site.file("a.der", b.certificate.der());
    site.file("damaged.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    site.file("no-x509.pem", &pem("CERTIFICATE", b"\x30\x03\x02\x01\x01"));
    site.file(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nhunter2\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    site.file("odd.key", &pem("PRIVATE KEY", b"\x30\x03\x02\x01\x01"));
    site.file("order.crt", &(pem("CERTIFICATE", &site.ca.root) + &b.certificate.pem()));
    site.file("refusal.ocsp", b"\x30\x03\x0a\x01\x06");
    site.file("other.key", &self_made.serialize_pem());
    for (certificate, key) in [
        ("absent.crt", "hunter2"),
        ("a.crt", "-----BEGIN hunter2"),
        ("", "a.key"),
        ("empty.pem", "a.key"),
        ("binary.pem", "a.key"),
        ("a.der", "a.key"),
        ("damaged.pem", "a.key"),
        ("no-x509.pem", "a.key"),
        ("b.key", "b.crt"),
        ("a.crt", "b.crt"),
        ("a.crt", "locked.key"),
        ("a.crt", "odd.key"),
        ("a.crt", "empty.pem"),
        ("a.crt", "other.key"),
        ("order.crt", "b.key"),
    ] {
        site.https(&pair(certificate, key));
    }
    site.https(&format!("mode = \"SIMPLE\", {PAIR}, ocsp_response = \"a.crt\""));
    site.https(&format!("mode = \"SIMPLE\", {PAIR}, ocsp_response = \"refusal.ocsp\""));
    for (ca, crl) in [("empty.pem", "empty.pem"), ("no-x509.pem", "a.der"), ("absent.crt", "ca.crt")] {
        site.https(&format!("mode = \"MUTUAL\", {PAIR}, ca_certificates = \"{ca}\", ca_crl = \"{crl}\""));
    }
    insta::assert_snapshot!("tls_files", site.said());
}

/// What is served all the same.
#[test]
fn warnings() {
    let mut site = Site::new();
    site.pair("old", &["a.test"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    site.pair("early", &["a.test"], |params| params.not_before = date_time_ymd(3000, 1, 1));
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(5 * 86_400 + 3600);
    site.pair("soon", &["a.test"], |params| params.not_after = soon.into());
    let wild = site.pair("wild", &["*.b.test", "b.test", "10.0.0.1"], |_| {});
    let gap = wild.certificate.pem() + &pem("CERTIFICATE", &Ca::new("others").root);
    site.file("gap.crt", &gap);
    let crl = site.ca.crl(2020, &[]);
    site.file("old.crl", &pem("X509 CRL", &crl));
    for name in ["old", "early", "soon"] {
        let tls =
            format!("mode = \"SIMPLE\", server_certificate = \"{name}.crt\", private_key = \"{name}.key\"");
        site.https(&tls);
    }
    let tls = "mode = \"SIMPLE\", server_certificate = \"gap.crt\", private_key = \"wild.key\"";
    let hosts =
        "\"b.test\", \"x.b.test\", \"*.b.test\", \"10.0.0.1\", \"x.y.b.test\", \"*.c.test\", \"10.0.0.2\"";
    site.server_of(hosts, "HTTPS", tls);
    // The same files again: only what depends on the hosts is said again.
    site.server_of("\"d.test\"", "HTTPS", tls);
    let list = "ca_certificates = \"ca.crt\", ca_crl = \"old.crl\"";
    site.https(&format!("mode = \"MUTUAL\", {PAIR}, {list}"));
    insta::assert_snapshot!("tls_warnings", site.said());
}

/// On disk: paths start at the directory of the file that names them, what is no file is refused, and a key that
/// everybody can read is warned of.
#[test]
fn files_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("conf/tls")).unwrap();
    let mut site = Site::new();
    site.https("mode = \"SIMPLE\", server_certificate = \"tls/a.crt\", private_key = \"tls/a.key\"");
    let write =
        |name: &str, content: &[u8]| fs::write(directory.path().join("conf").join(name), content).unwrap();
    for (name, content) in &site.files {
        write(&format!("tls/{}", name.display()), content);
    }
    write("edge.toml", format!("{}{VIRTUAL_SERVICE}{SERVICE}", site.text).as_bytes());
    let key = directory.path().join("conf/tls/a.key");
    let with_mode = |mode| {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        codes(&load_path(&directory.path().join("conf/edge.toml")))
    };
    assert_eq!(with_mode(0o640), Vec::<String>::new());
    assert_eq!(with_mode(0o644), ["~7:open-key"]);
    fs::remove_file(&key).unwrap();
    std::os::unix::net::UnixListener::bind(&key).unwrap();
    let loaded = load_path(&directory.path().join("conf"));
    assert_eq!(codes(&loaded), ["7:bad-file"]);
    assert!(loaded.diagnostics[0].message.contains("neither a regular file"), "{:?}", loaded.diagnostics);
    // Larger than any such file is.
    fs::remove_file(&key).unwrap();
    fs::File::create(&key).unwrap().set_len((1 << 20) + 1).unwrap();
    let loaded = load_path(&directory.path().join("conf"));
    assert!(loaded.diagnostics[0].message.contains("larger than 1 MiB"), "{:?}", loaded.diagnostics);
}

/// A large site: each pair and list is read once, and loading takes a time that nobody minds.
#[test]
fn many_servers() {
    const SERVERS: usize = 2000;
    let mut site = Site::new();
    let crl: Vec<u64> = (1..20_000).collect();
    let crl = site.ca.crl(4000, &crl);
    site.file("ca.crl", &pem("X509 CRL", &crl));
    for _ in 0..SERVERS {
        site.https(&format!("mode = \"MUTUAL\", {PAIR}, ca_certificates = \"ca.crt\", ca_crl = \"ca.crl\""));
    }
    let started = std::time::Instant::now();
    let config = site.config();
    // Generous: reading the list anew for each server would take minutes.
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    assert!((1..SERVERS).all(|server| Arc::ptr_eq(&terms(&config, 0), &terms(&config, server))));
}

/// Keys on the way from clear text to HTTPS stand where they mean something.
#[test]
fn https_redirect_hsts_and_plain_http() {
    let mut site = Site::new();
    site.server_of("\"a.test\"", "HTTP", "https_redirect = true, https_redirect_port = 8443");
    site.server_of("\"a.test\"", "HTTP", "https_redirect = true");
    site.server_of("\"a.test\"", "HTTP", "https_redirect = false");
    site.https(&format!("mode = \"SIMPLE\", {PAIR}, answer_plain_http = true"));
    site.text += "hsts = { max_age = \"1h\", include_subdomains = true }\n";
    let config = site.config();
    let servers = config.gateways[0].servers.iter();
    let said: Vec<_> = servers
        .map(|server| (server.https_redirect, server.answer_plain_http, server.hsts.as_deref()))
        .collect();
    let hsts = Some("max-age=3600; includeSubDomains");
    assert_eq!(
        said,
        [(Some(8443), false, None), (Some(443), false, None), (None, false, None), (None, true, hsts)]
    );

    for (protocol, tls, more, said) in [
        ("HTTP", "mode = \"SIMPLE\"", "", "`tls` of a server without TLS"),
        ("HTTP", "https_redirect = true, mode = \"SIMPLE\"", "", "`mode` of a server without TLS"),
        ("HTTP", "https_redirect = false, https_redirect_port = 1", "", "`https_redirect_port` without"),
        ("HTTP", "https_redirect = true, https_redirect_port = 0", "", "out of range"),
        (
            "HTTPS",
            "mode = \"SIMPLE\", https_redirect = true, PAIR",
            "",
            "`https_redirect` of a server of protocol HTTPS",
        ),
        ("TLS", "mode = \"PASSTHROUGH\", answer_plain_http = true", "", "only HTTPS has it"),
        (
            "HTTP",
            "https_redirect = true",
            "hsts = { max_age = \"1h\" }",
            "`hsts` of a server that is not HTTPS",
        ),
        ("HTTPS", "mode = \"SIMPLE\", PAIR", "hsts = { preload = false }", "`max_age`"),
        (
            "HTTPS",
            "mode = \"SIMPLE\", PAIR",
            "hsts = { max_age = \"365d\", preload = true }",
            "more than is promised",
        ),
        (
            "HTTPS",
            "mode = \"SIMPLE\", PAIR",
            "hsts = { max_age = \"364d\", include_subdomains = true, preload = true }",
            "more than is promised",
        ),
        ("HTTPS", "mode = \"SIMPLE\", PAIR", "hsts = { max_age = \"9999d\" }", "0s to 3650d"),
    ] {
        let mut site = Site::new();
        site.server(protocol, &tls.replace("PAIR", PAIR));
        site.text += &format!("{more}\n");
        assert!(site.said().contains(said), "{tls} {more}: {}", site.said());
    }
}

/// What routes and endpoints learn of clients' certificates.
#[test]
fn client_certificates() {
    let clients = format!("mode = \"MUTUAL\", {PAIR}, ca_certificates = \"ca.crt\"");
    let mut site = Site::new();
    site.https(&clients);
    site.https(&format!("{clients}, forward_client_certificate = [\"CHAIN\"]"));
    site.https(&format!("{clients}, forward_client_certificate = []"));
    let config = site.config();
    let of = |server| terms(&config, server);
    assert_eq!(of(0).details, [CertDetail::Subject, CertDetail::Uri, CertDetail::Dns]);
    assert_eq!((of(1).details.clone(), of(2).details.clone()), (vec![CertDetail::Chain], Vec::new()));
    assert!(of(0).policy != of(1).policy && of(1).policy != of(2).policy);

    for (value, said) in [
        ("[\"CERTT\"]", "did you mean `CERT`?"),
        ("[\"DNS\", \"DNS\"]", "stands twice"),
        ("\"DNS\"", "an array of strings"),
    ] {
        let mut site = Site::new();
        site.https(&format!("{clients}, forward_client_certificate = {value}"));
        assert!(site.said().contains(said), "{value}: {}", site.said());
    }
    for (asked, mode, said) in [
        ("{ uri = { exact = \"u\" }, dns = { prefix = \"WWW.\" } }", "MUTUAL", ""),
        ("{ present = true }", "OPTIONAL_MUTUAL", ""),
        ("{ present = false }", "SIMPLE", ""),
        ("{ present = true }", "SIMPLE", "no server of its gateways does"),
        (
            "{ uri = { exact = \"u\" }, present = false }",
            "MUTUAL",
            "`uri` of a certificate that is not to be there",
        ),
        ("{}", "MUTUAL", "asks for nothing"),
        ("{ dns = { exact = \"caf\u{e9}\" } }", "MUTUAL", "Punycode"),
        ("{ san = { exact = \"u\" } }", "MUTUAL", "write `uri`, `dns` or `email`"),
    ] {
        let mut site = Site::new();
        site.https(&if mode == "SIMPLE" {
            format!("mode = \"SIMPLE\", {PAIR}")
        } else {
            clients.replace("MUTUAL", mode)
        });
        site.rule = format!("match = [{{ client_certificate = {asked} }}]\n");
        let text = site.said();
        assert!(
            if said.is_empty() { text.starts_with("ok:") } else { text.contains(said) },
            "{asked}: {text}"
        );
    }
}
