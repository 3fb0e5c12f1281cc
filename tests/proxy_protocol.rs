//! The PROXY protocol as it is accepted: whose headers are believed, and what becomes of the bytes behind them.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::version::TLS13;
use socket2::{Domain, Socket, Type};

use crate::pressure::{Baseline, Dump, assert_takes, two_shards};
use crate::support::tempdir::TempDir;
use crate::support::tls::{Authority, TlsClient};
use crate::support::{Backend, Client, DEADLINE, Gateway, config};

pub(crate) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// A version 2 header for TCP over IPv4, with these TLVs.
pub(crate) fn v2(source: [u8; 4], destination: [u8; 4], tlvs: &[u8]) -> Vec<u8> {
    let mut header = [SIGNATURE, &[0x21, 0x11]].concat();
    header.extend(u16::try_from(12 + tlvs.len()).unwrap().to_be_bytes());
    header.extend([source, destination].concat());
    header.extend([0x12, 0x34, 0x01, 0xbb]);
    header.extend(tlvs);
    header
}

/// An HTTP server that believes 127.0.0.1.
fn http(backend: SocketAddr, gateway_keys: &str, timeout: &str) -> String {
    let accept = format!("proxy_protocol = {{ from = [\"127.0.0.1\"], timeout = \"{timeout}\" }}\n");
    config::single(backend, gateway_keys, "")
        .replace("protocol = \"HTTP\"\n", &format!("protocol = \"HTTP\"\n{accept}"))
}

/// A server of this protocol on every address of this host that believes 127.0.0.1, and rules for it.
fn server(protocol: &str, tls: &str, rules: &str) -> String {
    format!(
        "[[gateway]]\nname = \"web\"\n[[gateway.server]]\nport = 0\nbind = \"0.0.0.0\"\nprotocol = \"{protocol}\"\n\
         hosts = [\"*\"]\nproxy_protocol = {{ from = [\"127.0.0.1\"] }}\n{tls}\n\
         [[virtual_service]]\nname = \"all\"\nhosts = [\"*\"]\ngateways = [\"web\"]\n{rules}"
    )
}

/// Connects from an address of this host.
pub(crate) fn connect_from(ip: &str, port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(ip.parse().unwrap(), 0).into()).unwrap();
    socket.connect_timeout(&SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port).into(), DEADLINE).unwrap();
    socket.into()
}

/// Sends bytes as one packet from 127.0.0.1 and returns the answer's status and what the backend knew of the client.
#[track_caller]
fn forwarded_for(gateway: &Gateway, backend: &Backend, header: &[u8]) -> String {
    let before = backend.requests().len();
    let mut client = gateway.connect();
    client.send([header, GET].concat());
    assert_eq!(client.response("GET").status, 200);
    let request = backend.requests().remove(before);
    request.headers.get("x-forwarded-for").unwrap().to_owned()
}

/// Everything that a connection brings, sent back with its length in front.
fn collector() -> (Backend, Arc<Mutex<Vec<Vec<u8>>>>) {
    let collected = Arc::new(Mutex::new(Vec::new()));
    let backend = Backend::start({
        let collected = Arc::clone(&collected);
        move |conn| {
            let all = conn.until_end().unwrap();
            collected.lock().unwrap().push(all);
            conn.send("done");
        }
    });
    (backend, collected)
}

both_drivers! {
    /// Either version, either family: the client is the one that the header names.
    fn headers_are_believed(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::start(driver, &http(backend.address(), "", "3s"));
        let baseline = Baseline::of(&gateway);
        for (header, client) in [
            (b"PROXY TCP4 192.0.2.7 198.51.100.2 5000 80\r\n".to_vec(), "192.0.2.7"),
            (b"PROXY TCP6 2001:db8::7 2001:db8::2 5000 80\r\n".to_vec(), "2001:db8::7"),
            (b"PROXY TCP6 ::ffff:192.0.2.9 ::ffff:192.0.2.2 5000 80\r\n".to_vec(), "192.0.2.9"),
            (v2([192, 0, 2, 8], [198, 51, 100, 2], &[]), "192.0.2.8"),
            (v2([192, 0, 2, 8], [198, 51, 100, 2], &[&[0xe0, 3, 0][..], &[7; 768]].concat()), "192.0.2.8"),
            // The proxy speaks for itself, or does not say for whom.
            ([SIGNATURE, &[0x20, 0x11, 0, 2, 9, 9]].concat(), "127.0.0.1"),
            ([SIGNATURE, &[0x21, 0x00, 0, 0]].concat(), "127.0.0.1"),
            (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        ] {
            assert_eq!(forwarded_for(&gateway, &backend, &header), client, "{}", header.escape_ascii());
        }
        drop(backend);
        baseline.assert_back(&gateway);
        let dump = Dump::of(&gateway);
        assert_eq!((dump.sum("proxy_headers"), dump.sum("proxy_headers_refused")), (8, 0));
    }

    /// However the bytes arrive, and for every request of the connection.
    fn headers_in_pieces(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::start(driver, &http(backend.address(), "", "5s"));
        let headers = [b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n".to_vec(), v2([192, 0, 2, 7], [1, 1, 1, 1], &[4, 0, 1, 0])];
        for header in &headers {
            let bytes = [header, GET].concat();
            let mut client = gateway.connect();
            client.send_pieces(bytes.chunks(1));
            assert_eq!(client.response("GET").status, 200);
            assert_eq!(client.get("a.test", "/second").status, 200);
            for cut in 1..header.len() + 2 {
                let mut client = gateway.connect();
                client.send_pieces([&bytes[..cut], &bytes[cut..]]);
                assert_eq!(client.response("GET").status, 200);
            }
        }
        for request in backend.requests() {
            assert_eq!(request.headers.get("x-forwarded-for"), Some("192.0.2.7"));
        }
    }

    /// Who is not among the proxies is a client, whatever it says of itself.
    fn others_are_clients(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::start(driver, &http(backend.address(), "", "3s"));
        let port = gateway.address().port();
        let mut client = Client::over(connect_from("127.0.0.2", port));
        assert_eq!(client.get("a.test", "/").status, 200);
        assert_eq!(backend.only_request().headers.get("x-forwarded-for"), Some("127.0.0.2"));
        for header in [&b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n"[..], &v2([192, 0, 2, 7], [1, 1, 1, 1], &[])] {
            let mut client = Client::over(connect_from("127.0.0.2", port));
            client.send([header, GET].concat());
            assert_eq!(client.response("GET").status, 400);
        }
        assert_eq!(backend.requests().len(), 1);
        assert_eq!(Dump::of(&gateway).sum("proxy_headers"), 0);
    }

    /// A proxy that begins with anything else is closed without a word.
    fn garbage_is_refused(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::start(driver, &http(backend.address(), "", "5s"));
        let mut corrupt = v2([192, 0, 2, 7], [1, 1, 1, 1], &[3, 0, 4, 0, 0, 0, 0]);
        corrupt.extend(GET);
        let bad = [
            GET,
            b"PROXY TCP4 192.0.2.7 192.0.2.1 1 70000\r\nGET / HTTP/1.1\r\n",
            b"PROXY TCP5 192.0.2.7 192.0.2.1 1 2\r\n",
            &[SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat(),
            &[SIGNATURE, &[0x31, 0x11, 0, 12], &[0; 12]].concat(),
            &[b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat(),
            &corrupt,
        ];
        for bytes in bad {
            let mut client = gateway.connect();
            // It may be closed before all was sent.
            let _ = client.try_send(bytes);
            assert_eq!(client.remainder(), b"", "{}", bytes.escape_ascii());
        }
        // One that ends in its header; one that only looks whether somebody is there is none.
        let mut client = gateway.connect();
        client.send("PROXY TCP4");
        client.half_close();
        client.assert_closed();
        drop(gateway.connect());
        let refused = bad.len() as u64 + 1;
        Dump::wait(&gateway, "refused", |dump| dump.sum("proxy_headers_refused") == refused);
        assert_eq!(backend.connections(), 0);
        gateway.wait_stderr("no valid PROXY header from a peer that `proxy_protocol.from` names");
    }

    /// The time for the header is one for all of it; waiting costs no buffer, and the timers of requests begin behind it.
    fn silence(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::start(driver, &http(backend.address(), "timeouts = { header = \"30s\" }", "600ms"));
        let silent = gateway.connect();
        Dump::wait(&gateway, "a session without a buffer", |dump| {
            dump.sum("sessions_open") == 1 && dump.sum("buffers_in_use") == 0
        });
        drop(silent);
        for begin in ["", "PROXY TCP4 192."] {
            assert_takes(Duration::from_millis(600), || {
                let began = std::time::Instant::now();
                let mut client = gateway.connect();
                client.send(begin);
                client.assert_closed();
                began.elapsed()
            });
        }
        let mut client = gateway.connect();
        client.send("PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n");
        Dump::wait(&gateway, "no buffer behind the header", |dump| {
            dump.sum("proxy_headers") == 1 && dump.sum("buffers_in_use") == 0
        });
        thread::sleep(Duration::from_millis(900));
        assert_eq!(client.get("a.test", "/").status, 200);
        assert!(Dump::of(&gateway).sum("timeout_proxy_header") >= 2);
    }

    /// The address of the header is the one that `trusted_proxies` are held against.
    fn trust_is_in_the_headers_address(driver) {
        let backend = Backend::fixed("ok");
        let keys = "trusted_proxies = [\"192.0.2.0/24\"]";
        let gateway = Gateway::start(driver, &http(backend.address(), keys, "3s"));
        for (source, seen) in [("192.0.2.7", "203.0.113.5, 192.0.2.7"), ("198.51.100.7", "198.51.100.7")] {
            let mut client = gateway.connect();
            client.send(format!("PROXY TCP4 {source} 192.0.2.1 1 2\r\n"));
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 203.0.113.5\r\n\r\n");
            assert_eq!(client.response("GET").status, 200);
            assert_eq!(backend.requests().last().unwrap().headers.get("x-forwarded-for"), Some(seen));
        }
    }

    /// Rules for connections go by both addresses of the header; no byte behind it is lost.
    fn tcp_goes_by_the_headers_addresses(driver) {
        let (near, near_got) = collector();
        let (far, far_got) = collector();
        let route = |to: &str| format!("route = [{{ destination = {{ host = \"{to}\" }} }}]\n");
        let rules = format!(
            "[[virtual_service.tcp]]\nmatch = [{{ source_subnets = [\"192.0.2.0/24\"], \
             destination_subnets = [\"198.51.100.0/24\"] }}]\n{}\
             [[virtual_service.tcp]]\nmatch = [{{ source_subnets = [\"127.0.0.2\"] }}]\n{}",
            route("far"),
            route("near"),
        );
        let text = server("TCP", "", &rules)
            + &config::service("near", &[near.address()], "")
            + &config::service("far", &[far.address()], "");
        let gateway = Gateway::start(driver, &text);
        let port = gateway.address().port();
        let header = v2([192, 0, 2, 7], [198, 51, 100, 9], &[]);
        for pieces in [header.len() + 5, 1, 7] {
            let mut client = Client::over(connect_from("127.0.0.1", port));
            client.send_pieces([&header[..], b"hello"].concat().chunks(pieces));
            client.half_close();
            assert_eq!(client.until_end().unwrap(), b"done");
        }
        assert_eq!(*far_got.lock().unwrap(), [b"hello", b"hello", b"hello"]);
        let mut client = Client::over(connect_from("127.0.0.1", port));
        client.send(v2([192, 0, 2, 7], [1, 1, 1, 1], &[]));
        client.assert_closed();
        // A header that nobody asked for is the client's own bytes.
        let mut client = Client::over(connect_from("127.0.0.2", port));
        client.send(&header);
        client.half_close();
        assert_eq!(client.until_end().unwrap(), b"done");
        assert_eq!(*near_got.lock().unwrap(), [header]);
    }

    /// A ClientHello right behind the header passes through to the last byte; without the right to a header, a header is
    /// no TLS.
    fn passthrough(driver) {
        let (backend, got) = collector();
        let rules = "[[virtual_service.tls]]\nmatch = [{ sni_hosts = [\"*\"] }]\n\
                     route = [{ destination = { host = \"app\" } }]\n";
        let text = server("TLS", "tls = { mode = \"PASSTHROUGH\" }", rules)
            + &config::service("app", &[backend.address()], "");
        let gateway = Gateway::start(driver, &text);
        let port = gateway.address().port();
        let hello = crate::passthrough::hello("a.test");
        let bytes = [&b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n"[..], &hello].concat();
        for pieces in [bytes.len(), 1, 40] {
            let mut client = Client::over(connect_from("127.0.0.1", port));
            client.send_pieces(bytes.chunks(pieces));
            client.half_close();
            assert_eq!(client.until_end().unwrap(), b"done");
            assert!(got.lock().unwrap().pop().unwrap() == hello);
        }
        let mut client = Client::over(connect_from("127.0.0.2", port));
        let _ = client.try_send(&bytes);
        assert_eq!(client.remainder(), b"");
        Dump::wait(&gateway, "not TLS", |dump| dump.sum("tls_not_tls") == 1);
    }

    /// TLS that ends here begins behind the header.
    fn termination(driver) {
        let (authority, directory) = (Authority::new("test CA"), TempDir::new());
        let (certificate, key) = authority.server(&["a.test"]).write(&directory, "a.test");
        let backend = Backend::fixed("ok");
        let rules = "[[virtual_service.http]]\nroute = [{ destination = { host = \"app\" } }]\n";
        let tls = format!("tls = {{ mode = \"SIMPLE\", server_certificate = {certificate:?}, private_key = {key:?} }}");
        let text = server("HTTPS", &tls, rules) + &config::service("app", &[backend.address()], "");
        let gateway = Gateway::start(driver, &text);
        let mut socket = connect_from("127.0.0.1", gateway.address().port());
        socket.write_all(&v2([192, 0, 2, 7], [198, 51, 100, 9], &[])).unwrap();
        let config = authority.client_config(&[&TLS13], None);
        let mut client = TlsClient::over(socket, &config, "a.test").unwrap();
        for _ in 0..2 {
            assert_eq!(client.get("a.test", "/").status, 200);
        }
        for request in backend.requests() {
            assert_eq!(request.headers.get("x-forwarded-for"), Some("192.0.2.7"));
        }
        assert_eq!(backend.requests().len(), 2);
    }

    /// A drain closes a proxy that is silent soon, and serves what comes behind a header that is under way.
    fn drain(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::start(driver, &http(backend.address(), "", "10s"));
        let (mut silent, mut half) = (gateway.connect(), gateway.connect());
        half.send("PROXY TCP4 192.0.2.7 ");
        Dump::wait(&gateway, "both", |dump| dump.sum("sessions_open") == 2 && dump.sum("buffers_in_use") == 1);
        gateway.signal("TERM");
        silent.assert_closed();
        half.send("192.0.2.1 1 2\r\n");
        half.send(GET);
        let response = half.response("GET");
        assert_eq!((response.status, response.headers.get("connection")), (200, Some("close")));
    }

    /// The shard that keeps a connection reads its header, whichever accepted it.
    fn several_shards(driver) {
        let backend = Backend::fixed("ok");
        let gateway = two_shards(driver, &http(backend.address(), "", "5s"));
        let mut clients: Vec<Client> = (0..24).map(|_| gateway.connect()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(format!("PROXY TCP4 192.0.2.{number} 192.0.2.1 1 2\r\n"));
            assert_eq!(client.get("a.test", &format!("/{number}")).status, 200);
        }
        for request in backend.requests() {
            let number = request.target.trim_start_matches('/');
            assert_eq!(request.headers.get("x-forwarded-for"), Some(&*format!("192.0.2.{number}")));
        }
        assert_eq!(backend.requests().len(), 24);
    }
}
