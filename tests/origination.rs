//! TLS towards endpoints: whose certificate is good, what is shown to them, and what is said when it fails.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use rcgen::{SanType, SerialNumber, date_time_ymd};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use crate::pressure::Dump;
use crate::support::gateway::binary;
use crate::support::tempdir::TempDir;
use crate::support::tls::{Authority, Identity};
use crate::support::tls_backend::TlsBackend;
use crate::support::{Backend, Client, Driver, Gateway, config};

pub(crate) const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// An authority, `ca.crt` of it, and what else a test writes beside it.
pub(crate) struct Site {
    pub(crate) authority: Authority,
    pub(crate) directory: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { authority: Authority::new("endpoints' CA"), directory: TempDir::new() };
        site.directory.write("ca.crt", &site.authority.certificate);
        site
    }

    /// `KEY = "FILE"`.
    pub(crate) fn file(&self, key: &str, name: &str) -> String {
        format!("{key} = {:?}", self.directory.path().join(name))
    }

    /// `tls` in mode SIMPLE with the authority and `more`.
    pub(crate) fn simple(&self, more: &str) -> String {
        format!("mode = \"SIMPLE\", {}{more}", self.file("ca_certificates", "ca.crt"))
    }

    /// What a server with a certificate for these names is made with.
    pub(crate) fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        Authority::server_config(&self.authority.server(names), BOTH, None)
    }

    /// A gateway that sends everything to `endpoints` over TLS.
    pub(crate) fn start(&self, driver: Driver, endpoints: &[SocketAddr], tls: &str) -> Gateway {
        Gateway::start(driver, &all_to(endpoints, tls, ""))
    }
}

/// Everything goes to `endpoints` over TLS; `pool` is more of the traffic policy.
pub(crate) fn all_to(endpoints: &[SocketAddr], tls: &str, pool: &str) -> String {
    config::gateway("", &["*"])
        + &config::virtual_service("all", "*", "route = [{ destination = { host = \"app\" } }]")
        + &config::service("app", endpoints, &format!("traffic_policy = {{ tls = {{ {tls} }} {pool} }}"))
}

#[track_caller]
pub(crate) fn get(client: &mut Client, host: &str, path: &str) -> (u16, String) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let response = client.response("GET");
    (response.status, response.text())
}

/// One endpoint and one policy, under a name.
struct Case {
    name: &'static str,
    backend: TlsBackend,
    tls: String,
    /// What is sent as SNI, or a part of what the log says.
    expected: Result<Option<&'static str>, &'static str>,
}

/// A gateway with a host for each case.
fn start_cases(driver: Driver, cases: &[Case]) -> Gateway {
    let mut text = config::gateway("", &["*"]);
    for Case { name, backend, tls, .. } in cases {
        let route = format!("route = [{{ destination = {{ host = \"{name}\" }} }}]");
        text += &config::virtual_service(name, &format!("{name}.test"), &route);
        text += &config::service(
            name,
            &[backend.address()],
            &format!("traffic_policy = {{ tls = {{ {tls} }} }}"),
        );
    }
    Gateway::start(driver, &text)
}

fn check_cases(driver: Driver, cases: &[Case]) {
    let gateway = start_cases(driver, cases);
    let mut client = gateway.connect();
    for Case { name, backend, expected, .. } in cases {
        let answer = get(&mut client, &format!("{name}.test"), "/x");
        let handshakes = backend.handshakes();
        match expected {
            Ok(sni) => {
                assert_eq!(answer, (200, "/x 0 http".to_owned()), "{name}: {}", gateway.stderr());
                assert_eq!(handshakes[0].sni.as_deref(), *sni, "{name}");
            }
            Err(reason) => {
                assert_eq!(answer, (502, "502 Bad Gateway: upstream_tls_failed\n".to_owned()), "{name}");
                gateway.wait_stderr(&format!("of service {name}: TLS failed: "));
                gateway.wait_stderr(reason);
            }
        }
    }
    let (good, bad): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.expected.is_ok());
    let dump = Dump::of(&gateway);
    assert_eq!(dump.sum("upstream_tls_handshakes"), good.len() as u64);
    assert_eq!(dump.sum("upstream_tls_failed"), bad.len() as u64);
}

both_drivers! {
    /// The rule on names: `subject_alt_names`, else `sni`, else the endpoint's address.
    fn names(driver) {
        let site = Site::new();
        let uri = site.authority.server_with(&[], |params| {
            params.subject_alt_names = vec![SanType::URI("spiffe://example.org/app".try_into().unwrap())];
        });
        let case = |name, names: &[&str], more: &str, expected| Case {
            name,
            backend: TlsBackend::mirror(site.server(names)),
            tls: site.simple(more),
            expected,
        };
        let other = "is for another name than";
        let cases = [
            case("sni", &["b.test"], ", sni = \"b.test\"", Ok(Some("b.test"))),
            case("capitals", &["b.test"], ", sni = \"B.Test.\"", Ok(Some("b.test"))),
            case("wildcard", &["*.b.test"], ", sni = \"x.b.test\"", Ok(Some("x.b.test"))),
            case("address", &["127.0.0.1"], "", Ok(None)),
            case("unnamed", &["b.test"], "", Err(other)),
            case("misnamed", &["b.test", "127.0.0.1"], ", sni = \"c.test\"", Err(other)),
            case("san", &["c.test"], ", sni = \"b.test\", subject_alt_names = [\"x.test\", \"C.test\"]", Ok(Some("b.test"))),
            case("san-alone", &["c.test"], ", subject_alt_names = [\"c.test\"]", Ok(None)),
            case("not-san", &["b.test"], ", sni = \"b.test\", subject_alt_names = [\"c.test\"]", Err(other)),
            Case {
                name: "uri",
                backend: TlsBackend::mirror(Authority::server_config(&uri, BOTH, None)),
                tls: site.simple(", sni = \"b.test\", subject_alt_names = [\"spiffe://example.org/app\"]"),
                expected: Ok(Some("b.test")),
            },
        ];
        check_cases(driver, &cases);
    }

    /// Chains that are not good, and the one loosening.
    fn chains(driver) {
        let site = Site::new();
        let stranger = Authority::new("stranger");
        site.directory.write("ca.crl", site.authority.crl(&[7]));
        site.directory.write("stranger.crl", stranger.crl(&[7]));
        let server = |identity: &Identity, versions| {
            TlsBackend::mirror(Authority::server_config(identity, versions, None))
        };
        let of_stranger = stranger.server(&["b.test"]);
        let old = site.authority.server_with(&["b.test"], |params| params.not_after = date_time_ymd(2020, 1, 1));
        let early = site.authority.server_with(&["b.test"], |params| params.not_before = date_time_ymd(4000, 1, 1));
        let numbered = |serial: u64| site.authority.server_with(&["b.test"], |params| {
            params.serial_number = Some(SerialNumber::from(serial));
        });
        let lists = |name| format!(", sni = \"b.test\", {}", site.file("ca_crl", name));
        let case = |name, backend, tls, expected| Case { name, backend, tls, expected };
        let sni = || site.simple(", sni = \"b.test\"");
        let named = || site.simple(", sni = \"b.test\", subject_alt_names = [\"b.test\"]");
        let cases = [
            case("stranger12", server(&of_stranger, &[&TLS12]), sni(), Err("issued by none of the authorities")),
            case("stranger13", server(&of_stranger, &[&TLS13]), sni(), Err("issued by none of the authorities")),
            case("stranger-named", server(&of_stranger, BOTH), named(), Err("issued by none of the authorities")),
            case("old", server(&old, BOTH), sni(), Err("has ended")),
            case("early", server(&early, BOTH), sni(), Err("is not good yet")),
            case("revoked", server(&numbered(7), BOTH), site.simple(&lists("ca.crl")), Err("is revoked")),
            case("listed", server(&numbered(8), BOTH), site.simple(&lists("ca.crl")), Ok(Some("b.test"))),
            case("unlisted", server(&numbered(8), BOTH), site.simple(&lists("stranger.crl")), Err("no list of its certificate's issuer")),
            case(
                "anybody",
                server(&of_stranger, BOTH),
                "mode = \"SIMPLE\", sni = \"c.test\", insecure_skip_verify = true".to_owned(),
                Ok(Some("c.test")),
            ),
            case(
                "versions",
                server(&numbered(9), &[&TLS12]),
                site.simple(", sni = \"b.test\", min_protocol_version = \"TLSV1_3\""),
                Err("alert ProtocolVersion"),
            ),
        ];
        check_cases(driver, &cases);
    }

    /// MUTUAL shows its certificate; without one an endpoint that wants it refuses, within the handshake or after it.
    fn mutual(driver) {
        let site = Site::new();
        site.authority.client("spiffe://example.org/gateway").write(&site.directory, "gateway");
        let identity = site.authority.server(&["b.test"]);
        let pair = format!("{}, {}", site.file("client_certificate", "gateway.crt"), site.file("private_key", "gateway.key"));
        for version in [&TLS12, &TLS13] {
            let asks = || TlsBackend::mirror(Authority::server_config(&identity, &[version], Some(&site.authority)));
            let mutual = site.simple(", sni = \"b.test\", ").replace("SIMPLE", "MUTUAL") + &pair;
            let (good, asked_in_vain) = (asks(), asks());
            let gateway = site.start(driver, &[good.address()], &mutual);
            assert_eq!(get(&mut gateway.connect(), "a.test", "/").0, 200);
            assert!(good.handshakes()[0].has_certificate);
            let gateway = site.start(driver, &[asked_in_vain.address()], &site.simple(", sni = \"b.test\""));
            let expected = (502, "502 Bad Gateway: upstream_tls_failed\n".to_owned());
            assert_eq!(get(&mut gateway.connect(), "a.test", "/"), expected);
            gateway.wait_stderr("TLS failed: it ");
            assert_eq!(Dump::of(&gateway).sum("upstream_tls_failed"), 1);
            // An endpoint that does not ask is not shown one.
            let plain = TlsBackend::mirror(Authority::server_config(&identity, &[version], None));
            let gateway = site.start(driver, &[plain.address()], &mutual);
            assert_eq!(get(&mut gateway.connect(), "a.test", "/").0, 200);
            assert!(!plain.handshakes()[0].has_certificate);
        }
    }

    /// Endpoints that speak no TLS, or hang up: said as such.
    fn not_tls(driver) {
        let site = Site::new();
        let plain = Backend::start(|conn| {
            let _ = conn.bytes(5);
            let _ = conn.try_send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            let _ = conn.until_end();
        });
        let mute = Backend::start(|conn| {
            let _ = conn.bytes(5);
        });
        for (backend, said) in [(&plain, "is not TLS"), (&mute, "closed the connection in the middle of the handshake")] {
            let gateway = site.start(driver, &[backend.address()], &site.simple(""));
            assert_eq!(get(&mut gateway.connect(), "a.test", "/").1, "502 Bad Gateway: upstream_tls_failed\n");
            gateway.wait_stderr(said);
        }
    }

    /// A subset's policy stands instead of its service's, and connections made on other terms are none of its own, although
    /// the address is the same.
    fn subsets(driver) {
        let site = Site::new();
        let tls = TlsBackend::mirror(site.server(&["b.test", "c.test"]));
        let plain = Backend::fixed("plain");
        let mut text = config::gateway("", &["*"]);
        for subset in ["b", "c", "off"] {
            let route = format!("route = [{{ destination = {{ host = \"app\", subset = \"{subset}\" }} }}]");
            text += &config::virtual_service(subset, &format!("{subset}.test"), &route);
        }
        write!(
            text,
            "[[service]]\nname = \"app\"\nendpoints = [{{ address = \"{}\", labels = {{ tls = \"yes\" }} }}, \
             {{ address = \"{}\" , labels = {{ tls = \"no\" }} }}]\nsubsets = [\n\
             {{ name = \"b\", labels = {{ tls = \"yes\" }} }},\n\
             {{ name = \"c\", labels = {{ tls = \"yes\" }}, traffic_policy = {{ tls = {{ {} }} }} }},\n\
             {{ name = \"off\", labels = {{ tls = \"no\" }}, traffic_policy = {{ tls = {{ mode = \"DISABLE\" }} }} }},\n]\n\
             traffic_policy = {{ tls = {{ {} }} }}\n",
            tls.address(),
            plain.address(),
            site.simple(", sni = \"c.test\""),
            site.simple(", sni = \"b.test\""),
        )
        .unwrap();
        let gateway = Gateway::start(driver, &text);
        let mut client = gateway.connect();
        for host in ["b.test", "c.test", "b.test", "c.test"] {
            assert_eq!(get(&mut client, host, "/").0, 200, "{}", gateway.stderr());
        }
        assert_eq!(get(&mut client, "off.test", "/"), (200, "plain".to_owned()));
        let names: Vec<_> = tls.handshakes().into_iter().map(|handshake| handshake.sni.unwrap()).collect();
        assert_eq!(names, ["b.test", "c.test"]);
        assert_eq!(Dump::of(&gateway).sum("upstream_reused"), 2);
    }
}

/// Without `ca_certificates` the authorities of the host count, and where there are none that is an error.
#[test]
fn authorities_of_the_host() {
    let site = Site::new();
    let backend = TlsBackend::mirror(site.server(&["b.test"]));
    let text = all_to(&[backend.address()], "mode = \"SIMPLE\", sni = \"b.test\"", "");
    let path = site.directory.write("ringgate.toml", &text);
    let mut command = Command::new(binary());
    command.arg("run").arg(&path).args(["--cores", "1", "--no-pin"]);
    command.env("SSL_CERT_FILE", site.directory.path().join("ca.crt")).env_remove("SSL_CERT_DIR");
    let gateway = Gateway::spawn(command, TempDir::new());
    assert_eq!(get(&mut gateway.connect(), "a.test", "/").0, 200, "{}", gateway.stderr());
    let mut command = Command::new(binary());
    command.arg("check").arg(&path).env("SSL_CERT_FILE", site.directory.path().join("absent.crt"));
    let checked = command.env_remove("SSL_CERT_DIR").output().unwrap();
    let said =
        String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("error[no-authorities]"), "{said}");
}
