//! `configs/istio-in-action.toml`, followed step by step. Only its ports, which others may have, and the addresses of its
//! services are replaced.

use std::net::SocketAddr;
use std::path::Path;

use rustls::version::{TLS12, TLS13};

use crate::passthrough::tls_server;
use crate::pressure::free_port;
use crate::support::tempdir::TempDir;
use crate::support::tls::{Authority, Identity, TlsClient};
use crate::support::{Backend, Client, Driver, Gateway};

const WEBAPP: &str = "webapp.istioinaction.io";
const CATALOG: &str = "catalog.istioinaction.io";

/// The walk-through with other ports, services and places of certificates.
fn walk_through(ports: &[(u16, u16)], services: &[(&str, SocketAddr)], certificates: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/istio-in-action.toml");
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in ports {
        for end in ["\n", " ", ","] {
            text = text.replace(&format!("port = {from}{end}"), &format!("port = {to}{end}"));
        }
    }
    let mut replace = |from: String, to: String| {
        assert!(text.contains(&from), "{from}");
        text = text.replace(&from, &to);
    };
    for (from, to) in services {
        replace(format!("\"127.0.0.1:{from}\""), format!("\"{to}\""));
    }
    replace("\"certs/".to_owned(), format!("\"{}/", certificates.display()));
    text
}

struct Book {
    authority: Authority,
    clients: Authority,
    gateway: Gateway,
    _backends: [Backend; 3],
    _certificates: TempDir,
}

impl Book {
    fn open(driver: Driver) -> Self {
        let (authority, clients, certificates) =
            (Authority::new("CA"), Authority::new("clients"), TempDir::new());
        for host in [WEBAPP, CATALOG] {
            authority.server(&[host]).write(&certificates, host);
        }
        certificates.write("clients-ca.crt", &clients.certificate);
        let [sni_1, sni_2] = ["simple-sni-1.istioinaction.io", "simple-sni-2.istioinaction.io"]
            .map(|host| tls_server(&authority, host));
        let echo = Backend::start(|conn| {
            while let Ok(byte) = conn.bytes(1) {
                conn.send(byte);
            }
        });
        let backends = [Backend::fixed("webapp"), Backend::fixed("catalog"), echo];
        let [webapp, catalog, echo] = backends.each_ref().map(Backend::address);
        let ports = [(80, free_port()), (443, free_port()), (31400, free_port())];
        let services =
            [("8081", webapp), ("8082", catalog), ("2701", echo), ("8443", sni_1), ("8444", sni_2)];
        let text = walk_through(&ports, &services, certificates.path());
        let gateway = Gateway::start(driver, &text);
        Self { authority, clients, gateway, _backends: backends, _certificates: certificates }
    }

    fn address(&self, gateway: &str, server: usize) -> SocketAddr {
        let mut address = self.gateway.address_of(gateway, server);
        if address.ip().is_unspecified() {
            address.set_ip([127, 0, 0, 1].into());
        }
        address
    }

    /// The answer to a request over TLS, where there is one.
    fn https(&self, host: &str, client: Option<&Identity>) -> Option<String> {
        let mut answers: Vec<_> = [&TLS12, &TLS13]
            .map(|version| {
                let config = self.authority.client_config(&[version], client);
                let mut tls =
                    TlsClient::try_connect(self.address("coolstore-gateway", 3), &config, host).ok()?;
                tls.try_send(format!("GET /items HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).ok()?;
                Some(tls.try_response("GET").ok()?.text())
            })
            .into();
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }
}

both_drivers! {
    /// As the book does it, chapter by chapter.
    fn the_walk_through(driver) {
        let book = Book::open(driver);
        let mut plain = Client::connect(book.address("coolstore-gateway", 1));
        assert_eq!(plain.get(WEBAPP, "/api/catalog").text(), "webapp");
        assert_eq!(plain.get("no.istioinaction.io", "/").text(), "404 Not Found: unknown_host\n");
        let moved = plain.get(CATALOG, "/items");
        assert_eq!((moved.status, moved.headers.get("location")), (301, Some("https://catalog.istioinaction.io/items")));

        assert_eq!(book.https(WEBAPP, None).as_deref(), Some("webapp"));
        assert_eq!(book.https(CATALOG, None), None);
        let stranger = Authority::new("somebody").client("spiffe://test/app");
        assert_eq!(book.https(CATALOG, Some(&stranger)), None);
        let client = book.clients.client("spiffe://test/app");
        assert_eq!(book.https(CATALOG, Some(&client)).as_deref(), Some("catalog"));
        assert_eq!(book.https("no.istioinaction.io", Some(&client)), None);

        let mut telnet = Client::connect(book.address("echo-tcp-gateway", 1));
        for line in ["hello\r\n", "again\r\n"] {
            telnet.send(line);
            assert_eq!(telnet.bytes(line.len()).unwrap(), line.as_bytes());
        }

        let config = book.authority.client_config(&[&TLS12, &TLS13], None);
        let address = book.address("sni-passthrough-gateway", 1);
        for host in ["simple-sni-1.istioinaction.io", "simple-sni-2.istioinaction.io"] {
            // The client checks that the certificate is the service's own.
            let mut client = TlsClient::connect(address, &config, host);
            client.send(host);
            assert_eq!(client.bytes(host.len()).unwrap(), host.as_bytes());
        }
        assert!(TlsClient::try_connect(address, &config, "simple-sni-3.istioinaction.io").is_err());
    }
}
