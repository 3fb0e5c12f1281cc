//! A load while another configuration is in effect: what is taken of files that changed, and what stays as it was.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, SignatureAlgorithm, date_time_ymd};

use super::tls::pem;
use super::{SERVICE, codes};
use crate::config::effective::{Effective, FileKind};
use crate::config::model::{ServerTls, TlsTerms};
use crate::config::{Loaded, load_after, load_files, load_process};
use crate::tls::testing::Ca;

const REST: &str = "[[virtual_service]]\nname = \"all\"\nhosts = [\"*\"]\ngateways = [\"edge\"]\n\
    [[virtual_service.http]]\nroute = [{ destination = { host = \"web\" } }]\n";

const EC: &SignatureAlgorithm = &rcgen::PKCS_ECDSA_P256_SHA256;

struct Disk {
    directory: tempfile::TempDir,
    ca: Ca,
}

impl Disk {
    /// A gateway whose servers have these hosts and `tls`.
    fn new(servers: &[(&str, &str)]) -> Self {
        let disk = Self { directory: tempfile::tempdir().unwrap(), ca: Ca::new("authority") };
        let mut text = "[[gateway]]\nname = \"edge\"\n".to_owned();
        for (host, tls) in servers {
            text += &format!(
                "[[gateway.server]]\nport = 443\nprotocol = \"HTTPS\"\nhosts = [\"{host}\"]\ntls = {{ {tls} }}\n"
            );
        }
        disk.write("edge.toml", format!("{text}{REST}{SERVICE}"));
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Writes NAME.crt and NAME.key.
    fn pair(&self, name: &str, kind: &'static SignatureAlgorithm, hosts: &[&str]) {
        self.pair_with(name, kind, hosts, |_| {});
    }

    fn pair_with(
        &self,
        name: &str,
        kind: &'static SignatureAlgorithm,
        hosts: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let names: Vec<String> = hosts.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let holder = self.ca.sign(&params, kind);
        self.write(&format!("{name}.crt"), holder.certificate.pem());
        self.write(&format!("{name}.key"), holder.key.serialize_pem());
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(self.path(&format!("{name}.key")), mode).unwrap();
    }

    fn start(&self) -> Loaded {
        load_after(&self.path("edge.toml"), &Effective::default())
    }
}

fn terms(loaded: &Loaded) -> Vec<Arc<TlsTerms>> {
    let servers = &loaded.config.as_ref().unwrap().gateways[0].servers;
    let terms = |tls: &Option<ServerTls>| match tls {
        Some(ServerTls::Terminate(terms)) => Arc::clone(terms),
        other => unreachable!("{other:?}"),
    };
    servers.iter().map(|server| terms(&server.tls)).collect()
}

/// Whether what is used changed from one load to the next, and whether it is what the file holds.
fn changes(before: &Loaded, after: &Loaded) -> Vec<(bool, bool)> {
    let pairs = before.effective.used.iter().zip(&*after.effective.used);
    pairs.map(|(before, after)| (before.digest != after.digest, after.kept.is_none())).collect()
}

fn pair(name: &str) -> String {
    format!("server_certificate = \"{name}.crt\", private_key = \"{name}.key\"")
}

fn simple(name: &str) -> String {
    format!("mode = \"SIMPLE\", {}", pair(name))
}

/// What has not changed is not made again, and a load that finds nothing new says so.
#[test]
fn nothing_new() {
    let disk = Disk::new(&[("a.test", &simple("a")), ("b.test", &simple("b"))]);
    disk.pair("a", EC, &["a.test"]);
    disk.pair("b", EC, &["b.test"]);
    let first = disk.start();
    assert_eq!(codes(&first), Vec::<String>::new());
    let again = load_files(&first.effective);
    assert!(again.effective.serves_as(&first.effective));
    assert!(terms(&first).iter().zip(terms(&again)).all(|(one, other)| Arc::ptr_eq(one, &other)));
    disk.pair("b", EC, &["b.test"]);
    // Of the text that was read, not of the one that lies there.
    disk.write("edge.toml", "[[");
    let next = load_files(&again.effective);
    assert!(!next.effective.serves_as(&first.effective));
    assert!(
        Arc::ptr_eq(&terms(&first)[0], &terms(&next)[0]) && !Arc::ptr_eq(&terms(&first)[1], &terms(&next)[1])
    );
    let paths: Vec<_> = next.effective.stamps.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths, ["a.crt", "a.key", "b.crt", "b.key"].map(|name| disk.path(name)));
}

/// Servers that share files may part: one takes the new certificate, the other keeps the one that is for its host, also
/// when nothing is left of the files.
#[test]
fn each_host_has_what_is_for_it() {
    let disk = Disk::new(&[("a.test", &simple("x")), ("b.test", &simple("x"))]);
    disk.pair("x", EC, &["a.test", "b.test"]);
    let first = disk.start();
    disk.pair("x", EC, &["a.test"]);
    let second = load_files(&first.effective);
    assert_eq!(codes(&second), ["~12:certificate-kept"]);
    assert_eq!(changes(&first, &second), [(true, true), (false, false)]);
    fs::remove_file(disk.path("x.crt")).unwrap();
    let third = load_files(&second.effective);
    assert_eq!(changes(&second, &third), [(false, false), (false, false)]);
    assert_eq!(codes(&third), ["~7:certificate-kept", "~7:certificate-kept"]);
    disk.pair("x", EC, &["b.test", "a.test"]);
    let fourth = load_files(&third.effective);
    assert_eq!((codes(&fourth), changes(&third, &fourth)), (Vec::new(), vec![(true, true); 2]));
    // At a start there is nothing to keep.
    fs::remove_file(disk.path("x.crt")).unwrap();
    assert_eq!(codes(&disk.start()), ["7:bad-file"]);
}

/// A date that passes is known beforehand; a certificate that has ended keeps nobody from being renewed.
#[test]
fn dates() {
    let disk = Disk::new(&[("a.test", &simple("a"))]);
    disk.pair_with("a", EC, &["a.test"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let ended = disk.start();
    assert_eq!((codes(&ended), ended.effective.again_at), (vec!["~7:certificate-dates".to_owned()], None));
    // Of two that clients refuse, the new one.
    disk.pair_with("a", EC, &["a.test"], |params| params.not_before = date_time_ymd(3000, 1, 1));
    let early = load_files(&ended.effective);
    assert_eq!(
        (codes(&early), changes(&ended, &early)),
        (vec!["~7:certificate-dates".to_owned()], vec![(true, true)])
    );
    disk.pair("a", EC, &["a.test"]);
    let good = load_files(&early.effective);
    assert_eq!((codes(&good), changes(&early, &good)), (Vec::new(), vec![(true, true)]));
    disk.pair_with("a", EC, &["a.test"], |params| params.not_before = date_time_ymd(3000, 1, 1));
    let kept = load_files(&good.effective);
    assert_eq!(
        (codes(&kept), changes(&good, &kept)),
        (vec!["~7:certificate-kept".to_owned()], vec![(false, false)])
    );
    assert_eq!(kept.effective.again_at, Some(32_503_680_000));
}

/// New files that are good and do not go together: what was in use of them stays.
#[test]
fn files_that_do_not_go_together() {
    let both = format!("mode = \"SIMPLE\", certificates = [{{ {} }}, {{ {} }}]", pair("a"), pair("b"));
    let disk = Disk::new(&[("a.test", &both), ("c.test", &simple("c"))]);
    disk.pair("a", EC, &["a.test"]);
    disk.pair("b", &rcgen::PKCS_ED25519, &["a.test"]);
    disk.pair("c", EC, &["c.test"]);
    let first = disk.start();
    assert_eq!(codes(&first), Vec::<String>::new());
    disk.pair("b", EC, &["a.test"]);
    disk.pair("c", EC, &["c.test"]);
    let second = load_files(&first.effective);
    assert_eq!(codes(&second), ["~7:certificate-kept"]);
    assert_eq!(changes(&first, &second), [(false, true), (false, false), (true, true)]);
    assert_eq!(codes(&disk.start()), ["7:bad-value"]);
}

/// Of lists the later stays, and a list that only its reader finds fault with takes no certificate with it.
#[test]
fn revocation_lists() {
    let clients = "ca_certificates = \"ca.crt\", ca_crl = \"ca.crl\"";
    let disk = Disk::new(&[("a.test", &format!("mode = \"MUTUAL\", {}, {clients}", pair("a")))]);
    let pem = |label: &str, der: &[u8]| {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", data_encoding::BASE64.encode(der))
    };
    disk.pair("a", EC, &["a.test"]);
    disk.write("ca.crt", pem("CERTIFICATE", &disk.ca.root));
    disk.write("ca.crl", pem("X509 CRL", &disk.ca.crl(4000, &[1])));
    let first = disk.start();
    assert_eq!(codes(&first), Vec::<String>::new());
    let kinds: Vec<_> = first.effective.used.iter().map(|file| file.kind).collect();
    assert_eq!(kinds, [FileKind::Certificate, FileKind::Authorities, FileKind::RevocationLists]);
    disk.write("ca.crl", pem("X509 CRL", &disk.ca.crl(2021, &[])));
    disk.pair("a", EC, &["a.test"]);
    let late = load_files(&first.effective);
    assert_eq!(codes(&late), ["~7:crl-kept"]);
    assert_eq!(changes(&first, &late), [(true, true), (false, true), (false, false)]);
    assert!(late.effective.again_at.is_some());
    // Whole as X.509, and refused by the verifier: its authority's key identifier becomes the mark of a list of changes.
    let mut der = disk.ca.crl(4000, &[]).to_vec();
    let identifier = der.windows(3).position(|bytes| bytes == [0x55, 0x1d, 35]).unwrap();
    der[identifier + 2] = 27;
    disk.write("ca.crl", pem("X509 CRL", &der));
    disk.pair("a", EC, &["a.test"]);
    let odd = load_files(&late.effective);
    assert_eq!(codes(&odd), ["~7:crl-kept"]);
    assert!(odd.diagnostics[0].message.contains("do not work"), "{:?}", odd.diagnostics);
    assert_eq!(changes(&late, &odd), [(true, true), (false, true), (false, false)]);
    disk.write("ca.crl", pem("X509 CRL", &disk.ca.crl(4000, &[2])));
    let good = load_files(&odd.effective);
    assert_eq!((codes(&good), changes(&odd, &good)[2]), (Vec::new(), (true, true)));
}

/// What `[process]` says is known though no certificate can be read.
#[test]
fn process_without_files() {
    let clients = "ca_certificates = \"ca.crt\", ca_crl = \"ca.crl\"";
    let disk = Disk::new(&[
        ("a.test", &simple("a")),
        ("b.test", &format!("mode = \"MUTUAL\", {}, {clients}", pair("b"))),
    ]);
    let text = fs::read_to_string(disk.path("edge.toml")).unwrap();
    disk.write(
        "edge.toml",
        format!("[process]\nstatus_file = \"/run/s.json\"\ncertificate_check = \"off\"\n{text}"),
    );
    let process = load_process(&disk.path("edge.toml")).unwrap();
    assert_eq!((process.status_file, process.certificate_check), (Some(PathBuf::from("/run/s.json")), None));
    disk.write("edge.toml", format!("[process]\ncertificate_check = \"50ms\"\n{text}"));
    let problems = load_process(&disk.path("edge.toml")).unwrap_err();
    assert_eq!((problems.len(), problems[0].code), (1, "out-of-range"));
}

/// A list that is older than the one in use would let revoked clients in again: it stays out, on its own or in front.
#[test]
fn an_older_list_stays_out() {
    let tls = format!("mode = \"MUTUAL\", {}, ca_certificates = \"ca.crt\", ca_crl = \"ca.crl\"", pair("a"));
    let disk = Disk::new(&[("a.test", &tls)]);
    disk.pair("a", EC, &["a.test"]);
    disk.write("ca.crt", pem("CERTIFICATE", &disk.ca.root));
    let list = |day, serials: &[u64]| pem("X509 CRL", &disk.ca.crl_of(day, serials));
    disk.write("ca.crl", list(2, &[7]));
    let first = disk.start();
    assert_eq!(codes(&first), Vec::<String>::new());
    disk.write("ca.crl", list(1, &[]));
    let older = load_files(&first.effective);
    assert_eq!(codes(&older), ["~7:crl-kept"]);
    assert_eq!(terms(&older)[0].policy, terms(&first)[0].policy);
    disk.write("ca.crl", list(1, &[]) + &list(3, &[7, 8]));
    let newer = load_files(&older.effective);
    assert_eq!(codes(&newer), Vec::<String>::new());
    assert!(terms(&newer)[0].policy != terms(&first)[0].policy);
    assert_eq!(terms(&newer)[0].settings, terms(&first)[0].settings);
}

/// What has no room in a handshake is not stapled.
#[test]
fn a_large_response_stays_out() {
    let disk = Disk::new(&[("a.test", &format!("{}, ocsp_response = \"a.ocsp\"", simple("a")))]);
    disk.pair("a", EC, &["a.test"]);
    disk.write("a.ocsp", b"\x30\x03\x0a\x01\x00");
    let first = disk.start();
    assert_eq!(codes(&first), Vec::<String>::new());
    let mut large = vec![0x30, 0x83, 1, 0x11, 0x70, 0x0a, 1, 0];
    large.resize(70_000, 0);
    disk.write("a.ocsp", large);
    assert_eq!(codes(&load_files(&first.effective)), ["~7:certificate-kept"]);
    assert_eq!(codes(&disk.start()), ["7:bad-file"]);
}
