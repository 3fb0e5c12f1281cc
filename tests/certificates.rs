//! Certificates, keys, authorities and revocation lists that change while the gateway runs.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use serde_json::Value;

use crate::support::tempdir::TempDir;
use crate::support::tls::{Authority, Identity, TlsClient};
use crate::support::{Backend, DEADLINE, Driver, Gateway, config};

const ALL: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// Two hosts with a pair each, on one port of a gateway that looks at their files often.
pub(crate) struct Live {
    pub(crate) authority: Authority,
    pub(crate) directory: TempDir,
    pub(crate) backend: Backend,
    pub(crate) status_path: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Live {
    pub(crate) fn new() -> Self {
        let live = Self {
            authority: Authority::new("test CA"),
            directory: TempDir::new(),
            backend: Backend::fixed("ok"),
            status_path: crate::pressure::status_path(),
            address: SocketAddr::from(([127, 0, 0, 1], crate::pressure::free_port())),
        };
        live.renew("a.test");
        live.renew("b.test");
        live
    }

    /// The configuration; `keys` go into `[process]`, `more` into the `tls` of `a.test`.
    pub(crate) fn config(&self, keys: &str, mode: &str, more: &str) -> String {
        let mut text =
            format!("[process]\nstatus_file = {:?}\n{keys}\n[[gateway]]\nname = \"web\"\n", self.status_path);
        for (host, mode, more) in [("a.test", mode, more), ("b.test", "SIMPLE", "")] {
            let [certificate, key] = ["crt", "key"].map(|kind| self.file(&format!("{host}.{kind}")));
            text += &format!(
                "[[gateway.server]]\nport = {}\nbind = \"127.0.0.1\"\nprotocol = \"HTTPS\"\nhosts = [{host:?}]\n\
                 tls = {{ mode = {mode:?}, server_certificate = {certificate:?}, private_key = {key:?}{more} }}\n",
                self.address.port()
            );
        }
        text += &config::virtual_service("all", "*", "route = [{ destination = { host = \"app\" } }]");
        text + &config::service("app", &[self.backend.address()], "")
    }

    pub(crate) fn start(&self, driver: Driver) -> Gateway {
        Gateway::start(driver, &self.config("certificate_check = \"100ms\"", "SIMPLE", ""))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a new pair for a host.
    pub(crate) fn make(&self, host: &str) -> Identity {
        self.authority.server(&[host])
    }

    /// Writes a new pair over the old.
    pub(crate) fn renew(&self, host: &str) -> Identity {
        let identity = self.make(host);
        identity.write(&self.directory, host);
        identity
    }

    fn client(&self) -> Arc<ClientConfig> {
        self.authority.client_config(ALL, None)
    }

    /// The certificate that a new connection is shown, as PEM without its frame.
    fn served(&self, host: &str) -> Vec<u8> {
        let client = TlsClient::connect(self.address, &self.client(), host);
        client.with(|stream| stream.conn.peer_certificates().unwrap()[0].to_vec())
    }

    fn serves(&self, host: &str, identity: &Identity) -> bool {
        self.served(host) == identity.leaf()
    }

    /// Waits until new connections are shown this certificate.
    #[track_caller]
    fn wait_served(&self, host: &str, identity: &Identity) {
        wait("the new certificate", || self.serves(host, identity));
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_slice(&fs::read(&self.status_path).unwrap()).unwrap()
    }

    fn warnings(&self) -> Vec<String> {
        let status = self.status();
        let warnings = status["certificates"]["warnings"].as_array().unwrap();
        let line = |warning: &Value| {
            format!("{}: {}", warning["code"].as_str().unwrap(), warning["message"].as_str().unwrap())
        };
        warnings.iter().map(line).collect()
    }

    /// Waits until the status warns of one thing only.
    #[track_caller]
    pub(crate) fn wait_warning(&self, part: &str) {
        wait(part, || matches!(&self.warnings()[..], [one] if one.contains(part)));
    }

    #[track_caller]
    pub(crate) fn wait_no_warning(&self) {
        wait("no warning", || self.warnings().is_empty());
    }
}

#[track_caller]
fn wait(what: &str, mut wanted: impl FnMut() -> bool) {
    let started = Instant::now();
    while !wanted() {
        assert!(started.elapsed() < DEADLINE, "waited for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// What is replaced by renaming, as good tools do.
fn rename_over(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, path).unwrap();
}

/// A new pair, both files of it renamed into place.
fn rename_pair(live: &Live, host: &str, identity: &Identity) {
    rename_over(&live.file(&format!("{host}.key")), &identity.key);
    rename_over(&live.file(&format!("{host}.crt")), &identity.certificate);
}

both_drivers! {
    /// However files change, new connections get the new pair, old ones go on, and no request is lost meanwhile.
    fn renewals_lose_nothing(driver) {
        let live = Live::new();
        // As Kubernetes lays secrets down: links through a link to a directory that is swapped.
        let swap = |number: u32, identity: &Identity| {
            let data = format!("..data-{number}");
            live.directory.write(&format!("{data}/a.test.crt"), &identity.certificate);
            live.directory.write(&format!("{data}/a.test.key"), &identity.key);
            symlink(&data, live.file("..data-new")).unwrap();
            fs::rename(live.file("..data-new"), live.file("..data")).unwrap();
        };
        let gateway = live.start(driver);
        let mut kept = TlsClient::connect(live.address, &live.client(), "a.test");
        let (stop, requests) = (AtomicBool::new(false), AtomicU32::new(0));
        thread::scope(|scope| {
            for host in ["a.test", "b.test"] {
                let (live, stop, requests) = (&live, &stop, &requests);
                scope.spawn(move || {
                    let config = live.client();
                    let mut kept = TlsClient::connect(live.address, &config, host);
                    while !stop.load(Ordering::Relaxed) {
                        assert_eq!(kept.get(host, "/").text(), "ok");
                        let mut fresh = TlsClient::connect(live.address, &config, host);
                        assert_eq!(fresh.get(host, "/").text(), "ok");
                        requests.fetch_add(2, Ordering::Relaxed);
                    }
                });
            }
            let end = Stop(&stop);
            let rewritten = live.renew("a.test");
            live.wait_served("a.test", &rewritten);
            let renamed = live.make("a.test");
            rename_pair(&live, "a.test", &renamed);
            live.wait_served("a.test", &renamed);
            // The first swap also makes links of the files.
            for number in 0..3 {
                let swapped = live.make("a.test");
                swap(number, &swapped);
                for name in ["a.test.key", "a.test.crt"].iter().filter(|_| number == 0) {
                    symlink(format!("..data/{name}"), live.file("link")).unwrap();
                    fs::rename(live.file("link"), live.file(name)).unwrap();
                }
                live.wait_served("a.test", &swapped);
                assert_eq!(kept.get("a.test", "/").text(), "ok");
            }
            drop(end);
        });
        println!("{requests:?} requests");
        assert!(requests.into_inner() > 20);
        live.wait_no_warning();
        gateway.wait_stderr("certificate of gateway web, server 1");
        // Asked for by nobody.
        wait("the last generation", || live.status()["generation"].as_u64() >= Some(6));
        let status = live.status();
        assert_eq!((&status["reload"]["requests"], &status["reload"]["ok"]), (&0.into(), &true.into()));
        gateway.stop();
    }

    /// A bad pair is its own host's affair: that one keeps what it had, until the files are good again.
    fn bad_pairs_stay_out(driver) {
        let live = Live::new();
        let gateway = live.start(driver);
        let mut current = live.renew("b.test");
        live.wait_served("b.test", &current);
        let [certificate, key] = ["b.test.crt", "b.test.key"].map(|name| live.file(name));
        let other = live.make("b.test");
        let half = &other.certificate[..other.certificate.len() / 2];
        let ended = live.authority.server_with(&["b.test"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        let early = live.authority.server_with(&["b.test"], |params| params.not_before = rcgen::date_time_ymd(3000, 1, 1));
        let elsewhere = live.make("c.test");
        let spoil: [(&str, &dyn Fn()); 8] = [
            ("is not the key of", &|| fs::write(&key, &other.key).unwrap()),
            ("damaged", &|| fs::write(&certificate, half).unwrap()),
            ("holds no certificate", &|| fs::write(&certificate, "").unwrap()),
            ("cannot read", &|| fs::remove_file(&key).unwrap()),
            ("cannot read", &|| fs::remove_file(&certificate).unwrap()),
            ("ended", &|| rename_pair(&live, "b.test", &ended)),
            ("is good only in", &|| rename_pair(&live, "b.test", &early)),
            ("is not for host `b.test`", &|| rename_pair(&live, "b.test", &elsewhere)),
        ];
        for (part, spoil) in spoil {
            spoil();
            live.wait_warning(part);
            let warning = live.warnings().remove(0);
            let expected = "the one before stays in use, good until 4096-01-01T00:00:00Z";
            assert!(warning.starts_with("certificate-kept: ") && warning.ends_with(expected), "{warning}");
            assert!(!warning.contains("BEGIN"));
            // The other host is renewed all the same.
            let renewed = live.renew("a.test");
            live.wait_served("a.test", &renewed);
            assert!(live.serves("b.test", &current), "{part}");
            let kept = |status: &Value| status["certificates"]["files"][1]["kept"].clone();
            assert!(kept(&live.status()).as_str().is_some_and(|reason| reason.contains(part)));
            current = live.renew("b.test");
            live.wait_served("b.test", &current);
            live.wait_no_warning();
            assert_eq!(kept(&live.status()), Value::Null);
        }
        gateway.stop();
    }

    /// A certificate that begins later is taken when its time has come, though no file changes any more.
    fn early_certificates_wait(driver) {
        let live = Live::new();
        let _gateway = live.start(driver);
        let old = live.renew("a.test");
        live.wait_served("a.test", &old);
        let begin = SystemTime::now() + Duration::from_secs(4);
        let early = live.authority.server_with(&["a.test"], |params| params.not_before = begin.into());
        rename_pair(&live, "a.test", &early);
        live.wait_warning("is good only in");
        live.wait_served("a.test", &early);
        // To the second.
        assert!(SystemTime::now() + Duration::from_secs(1) > begin);
        live.wait_no_warning();
    }

    /// Revocation lists and authorities: good ones count at once, also for sessions to be resumed; where one can not be
    /// used any more, the old one still keeps out whom it kept out.
    fn clients_are_never_let_in_by_mistake(driver) {
        let live = Live::new();
        let clients = Authority::new("clients' CA");
        let (ca, crl) = (live.file("ca.pem"), live.file("crl.pem"));
        fs::write(&ca, &clients.certificate).unwrap();
        fs::write(&crl, clients.crl(&[1])).unwrap();
        let more = format!(", ca_certificates = {ca:?}, ca_crl = {crl:?}");
        let _gateway = Gateway::start(driver, &live.config("certificate_check = \"100ms\"", "MUTUAL", &more));
        let configs = [1, 2, 3].map(|serial| {
            [&TLS12, &TLS13].map(|version| live.authority.client_config(&[version], Some(&clients.client_numbered(serial))))
        });
        // In TLS 1.3 a client learns of the refusal only with its first read. Tickets are kept from one to the next.
        let served = |client: u64| {
            let both = configs[client as usize - 1].each_ref().map(|config| {
                TlsClient::try_connect(live.address, config, "a.test").is_ok_and(|mut client| {
                    client.try_send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").is_ok()
                        && client.try_response("GET").is_ok_and(|response| response.status == 200)
                })
            });
            assert_eq!(both[0], both[1]);
            both[0]
        };
        assert_eq!([1, 2, 3].map(served), [false, true, true]);
        fs::remove_file(&crl).unwrap();
        live.wait_warning("the lists before stay in use");
        assert_eq!([1, 2, 3].map(served), [false, true, true]);
        fs::write(&crl, "rubbish").unwrap();
        live.wait_warning("holds no certificate revocation list");
        assert_eq!([1, 2, 3].map(served), [false, true, true]);
        rename_over(&crl, &clients.crl(&[1, 2]));
        live.wait_no_warning();
        assert_eq!([1, 2, 3].map(served), [false, false, true]);
        fs::write(&ca, &clients.certificate[..100]).unwrap();
        live.wait_warning("authorities-kept");
        assert_eq!([1, 2, 3].map(served), [false, false, true]);
        // Another authority's list goes with it: the old one is of no use to it.
        let next = Authority::new("next CA");
        rename_over(&crl, &next.crl(&[]));
        rename_over(&ca, &next.certificate);
        live.wait_no_warning();
        wait("the old authority is out", || !served(3));
    }

    /// A new list ends the connections of those whom it revokes, and nobody else's.
    fn lists_end_only_whom_they_revoke(driver) {
        let live = Live::new();
        let clients = Authority::new("clients' CA");
        let (ca, crl) = (live.file("ca.pem"), live.file("crl.pem"));
        fs::write(&ca, &clients.certificate).unwrap();
        fs::write(&crl, clients.crl(&[1])).unwrap();
        let more = format!(", ca_certificates = {ca:?}, ca_crl = {crl:?}");
        let gateway =
            Gateway::start(driver, &live.config("certificate_check = \"100ms\"", "OPTIONAL_MUTUAL", &more));
        let connect = |who: Option<&Identity>| {
            let config = live.authority.client_config(ALL, who);
            let mut client = TlsClient::connect(live.address, &config, "a.test");
            assert_eq!(client.get("a.test", "/").status, 200);
            client
        };
        let [two, three] = [2, 3].map(|serial| clients.client_numbered(serial));
        let (mut revoked, mut good, mut nobody) = (connect(Some(&two)), connect(Some(&three)), connect(None));
        rename_over(&crl, &clients.crl(&[1, 2]));
        gateway.wait_stderr("renewed");
        for client in [&mut good, &mut nobody] {
            assert_eq!(client.get("a.test", "/").status, 200);
            assert_eq!(client.get("a.test", "/").status, 200);
        }
        let response = revoked.get("a.test", "/");
        assert_eq!((response.status, response.headers.get("connection")), (421, Some("close")));
    }

    /// Only files that the running text names are read anew, not the text: nobody has asked for that.
    fn an_edited_text_waits_for_a_reload(driver) {
        let live = Live::new();
        let keys = "certificate_check = \"100ms\"";
        let gateway = live.start(driver);
        let edited = live.config(keys, "SIMPLE", "").replace("\"app\"", "\"new\"");
        let other = Backend::fixed("new");
        let edited = edited.replace(&live.backend.address().to_string(), &other.address().to_string());
        let answer = || TlsClient::connect(live.address, &live.client(), "b.test").get("b.test", "/").text();
        for text in [&edited, "", "[[gateway"] {
            gateway.rewrite(text);
            let renewed = live.renew("a.test");
            live.wait_served("a.test", &renewed);
            assert_eq!(answer(), "ok", "{text}");
        }
        // Neither does a reload that fails change what is read anew.
        gateway.signal("HUP");
        wait("the reload's answer", || live.status()["reload"]["answered"] == 1);
        let renewed = live.renew("a.test");
        live.wait_served("a.test", &renewed);
        let status = live.status();
        assert_eq!((&status["reload"]["ok"], &status["reload"]["answered"]), (&false.into(), &1.into()));
        assert_eq!(answer(), "ok");
        gateway.rewrite(&edited);
        gateway.signal("HUP");
        wait("the edited text", || answer() == "new");
    }

    /// Without watching, a reload alone brings new certificates.
    fn watching_can_be_turned_off(driver) {
        let live = Live::new();
        let watching = Live { address: SocketAddr::from(([127, 0, 0, 1], crate::pressure::free_port())), ..Live::new() };
        let gateway = Gateway::start(driver, &live.config("certificate_check = \"off\"", "SIMPLE", ""));
        // Of the same files.
        let text = watching.config("certificate_check = \"100ms\"", "SIMPLE", "");
        let from = |path: &Path| path.to_str().unwrap().to_owned();
        let _other = Gateway::start(driver, &text.replace(&from(watching.directory.path()), &from(live.directory.path())));
        let old = live.served("a.test");
        let renewed = live.renew("a.test");
        let client = || TlsClient::connect(watching.address, &live.client(), "a.test");
        wait("the other one", || client().with(|stream| stream.conn.peer_certificates().unwrap()[0].to_vec()) == renewed.leaf());
        assert_eq!(live.served("a.test"), old);
        gateway.signal("HUP");
        live.wait_served("a.test", &renewed);
    }

    /// A reload keeps what it can not read, too, but takes no stranger's file for it.
    fn reloads_keep_what_was_good(driver) {
        let live = Live::new();
        let gateway = Gateway::start(driver, &live.config("certificate_check = \"0s\"", "SIMPLE", ""));
        let old = live.served("b.test");
        fs::write(live.file("b.test.key"), "").unwrap();
        let reload = || {
            let mut command = std::process::Command::new(crate::support::gateway::binary());
            command.arg("reload").arg(gateway.directory().join("ringgate.toml")).output().unwrap()
        };
        let output = reload();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.contains("warning[certificate-kept]"), "{output:?}");
        assert_eq!(live.served("b.test"), old);
        let text = live.config("certificate_check = \"0s\"", "SIMPLE", "");
        live.directory.write("other.key", "");
        gateway.rewrite(&text.replace("b.test.key", "other.key"));
        let output = reload();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(told.contains("holds no private key"), "{told}");
        assert_eq!(live.served("b.test"), old);
    }
}

/// Ends the load also where the test fails meanwhile.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
