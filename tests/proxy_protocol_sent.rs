//! The PROXY protocol as it is sent: what endpoints are told, and that no connection speaks for two clients.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::version::{TLS12, TLS13};

use crate::pressure::{Baseline, Dump, free_port};
use crate::proxy_protocol::{SIGNATURE, connect_from, v2};
use crate::support::tempdir::TempDir;
use crate::support::tls::{Authority, TlsClient};
use crate::support::{Backend, Client, Conn, Gate, Gateway, config};

const V1: &str = "traffic_policy = { proxy_protocol = { version = \"V1\" } }";
const V2: &str = "traffic_policy = { proxy_protocol = { version = \"V2\" } }";

/// The header that a connection begins with; `None` where it is closed instead.
fn header(conn: &mut Conn) -> Option<Vec<u8>> {
    let mut header = conn.bytes(6).ok()?;
    if header == b"PROXY " {
        while !header.ends_with(b"\r\n") {
            header.extend(conn.bytes(1).unwrap());
        }
        return Some(header);
    }
    header.extend(conn.bytes(10).unwrap());
    assert_eq!(&header[..12], SIGNATURE);
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    header.extend(conn.bytes(length).unwrap());
    Some(header)
}

/// Headers in the order of their connections.
type Headers = Arc<Mutex<Vec<Vec<u8>>>>;

/// An HTTP server that wants a header, and answers with the number of the connection.
fn web(requests_max: usize) -> (Backend, Headers) {
    let headers = Headers::default();
    let backend = Backend::start({
        let headers = Arc::clone(&headers);
        move |conn| {
            let Some(header) = header(conn) else { return };
            headers.lock().unwrap().push(header);
            for _ in 0..requests_max {
                if conn.request().is_none() {
                    return;
                }
                conn.reply(200, conn.number.to_string());
            }
        }
    });
    (backend, headers)
}

/// The client's port in a version 1 header from 127.0.0.1.
fn port_of(header: &[u8]) -> u16 {
    let text = String::from_utf8(header.to_vec()).unwrap();
    let words: Vec<&str> = text.trim_end().split(' ').collect();
    assert_eq!(words[..4], ["PROXY", "TCP4", "127.0.0.1", "127.0.0.1"], "{text}");
    words[4].parse().unwrap()
}

fn ask(client: &mut Client) -> usize {
    let response = client.get("a.test", "/");
    assert_eq!(response.status, 200, "{}", response.text());
    response.text().parse().unwrap()
}

/// A TCP server with everything to one service.
fn tcp(endpoints: &[SocketAddr], accept: &str, keys: &str) -> String {
    format!(
        "[[gateway]]\nname = \"web\"\n[[gateway.server]]\nport = 0\nbind = \"127.0.0.1\"\nprotocol = \"TCP\"\n\
         hosts = [\"*\"]\n{accept}\n[[virtual_service]]\nname = \"all\"\nhosts = [\"*\"]\ngateways = [\"web\"]\n\
         [[virtual_service.tcp]]\nroute = [{{ destination = {{ host = \"app\" }} }}]\n{}",
        config::service("app", endpoints, keys)
    )
}

both_drivers! {
    /// Each client has connections of its own, which its later requests use again and which end with it.
    fn nobody_shares(driver) {
        let (backend, headers) = web(usize::MAX);
        let gateway = Gateway::start(driver, &config::single(backend.address(), "", V1));
        let baseline = Baseline::of(&gateway);
        let mut clients: Vec<Client> = (0..6).map(|_| gateway.connect()).collect();
        for _ in 0..3 {
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(ask(client), number);
            }
        }
        assert_eq!(backend.connections(), 6);
        let mut ports: Vec<u16> = headers.lock().unwrap().iter().map(|header| port_of(header)).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 6);
        let dump = Dump::of(&gateway);
        assert_eq!((dump.sum("upstream_dialled"), dump.sum("upstream_reused")), (6, 12));
        assert_eq!(dump.sum("upstream_idle"), 6);
        drop(clients);
        baseline.assert_back(&gateway);
        // A client that comes next finds nothing of theirs.
        assert_eq!(ask(&mut gateway.connect()), 6);
    }

    /// Several endpoints: one connection to each for a client, whatever the order.
    fn one_connection_per_endpoint(driver) {
        let (one, _) = web(usize::MAX);
        let (two, _) = web(usize::MAX);
        let text = config::gateway("", &["*"])
            + &config::virtual_service("all", "*", "route = [{ destination = { host = \"app\" } }]")
            + &config::service("app", &[one.address(), two.address()], V2);
        let gateway = Gateway::start(driver, &text);
        let mut clients = [gateway.connect(), gateway.connect()];
        for _ in 0..8 {
            for client in &mut clients {
                ask(client);
            }
        }
        assert!(one.connections() <= 2 && two.connections() <= 2, "{} {}", one.connections(), two.connections());
        assert_eq!(one.requests().len() + two.requests().len(), 16);
    }

    /// A connection that is gone, and an endpoint that can not be reached: each new dial begins with the header.
    fn dials_begin_with_it(driver) {
        let (backend, headers) = web(1);
        let nobody: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let text = config::gateway("", &["*"])
            + &config::virtual_service("all", "*", "route = [{ destination = { host = \"app\" } }]")
            + &config::service("app", &[nobody, backend.address()], V1);
        let gateway = Gateway::start(driver, &text);
        let mut client = gateway.connect();
        for number in 0..4 {
            assert_eq!(ask(&mut client), number);
            backend.wait_ends_seen(number + 1);
        }
        let ports: Vec<u16> = headers.lock().unwrap().iter().map(|header| port_of(header)).collect();
        assert!(ports.len() == 4 && ports.windows(2).all(|pair| pair[0] == pair[1]), "{ports:?}");
    }

    /// A new configuration holds from the next request on.
    fn reload(driver) {
        let (backend, headers) = web(usize::MAX);
        let text = config::single(backend.address(), "", V1);
        let gateway = Gateway::start(driver, &text);
        let mut client = gateway.connect();
        assert_eq!((ask(&mut client), ask(&mut client)), (0, 0));
        gateway.reload(&text.replace("V1", "V2"), 2);
        assert_eq!((ask(&mut client), ask(&mut client)), (1, 1));
        let headers = headers.lock().unwrap();
        assert!(headers[0].starts_with(b"PROXY TCP4 ") && headers[1].starts_with(SIGNATURE));
        Dump::wait(&gateway, "the first is closed", |dump| dump.sum("upstream_open") == 1);
    }

    /// Relayed bytes come behind it; whoever speaks first.
    fn tcp_begins_with_it(driver) {
        let backend = Backend::start(|conn| {
            let header = header(conn).unwrap();
            conn.send(&header);
            let rest = conn.until_end().unwrap();
            conn.send(rest);
        });
        let gateway = Gateway::start(driver, &tcp(&[backend.address()], "", V1));
        let socket = connect_from("127.0.0.1", gateway.address().port());
        let (from, to) = (socket.local_addr().unwrap().port(), gateway.address().port());
        let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n");
        let mut client = Client::over(socket);
        assert_eq!(client.bytes(expected.len()).unwrap(), expected.as_bytes());
        client.send("hello");
        client.half_close();
        assert_eq!(client.until_end().unwrap(), b"hello");
    }

    /// What a proxy in front said of the client is said on; TLS that passes through comes behind it, unchanged.
    fn passed_on(driver) {
        let got = Headers::default();
        let backend = Backend::start({
            let got = Arc::clone(&got);
            move |conn| {
                let all = conn.until_end().unwrap();
                got.lock().unwrap().push(all);
            }
        });
        let text = format!(
            "[[gateway]]\nname = \"web\"\n[[gateway.server]]\nport = 0\nbind = \"127.0.0.1\"\nprotocol = \"TLS\"\n\
             hosts = [\"*\"]\ntls = {{ mode = \"PASSTHROUGH\" }}\nproxy_protocol = {{ from = [\"127.0.0.1\"] }}\n\
             [[virtual_service]]\nname = \"all\"\nhosts = [\"*\"]\ngateways = [\"web\"]\n[[virtual_service.tls]]\n\
             match = [{{ sni_hosts = [\"*\"] }}]\nroute = [{{ destination = {{ host = \"app\" }} }}]\n{}",
            config::service("app", &[backend.address()], V2)
        );
        let gateway = Gateway::start(driver, &text);
        let hello = crate::passthrough::hello("a.test");
        let mut client = gateway.connect();
        client.send([&v2([192, 0, 2, 7], [198, 51, 100, 9], &[0xe0, 0, 1, 5]), &hello[..]].concat());
        client.half_close();
        client.assert_closed();
        backend.wait_ended(1);
        let header = v2([192, 0, 2, 7], [198, 51, 100, 9], b"\x02\0\x06a.test");
        assert!(*got.lock().unwrap() == [[header, hello].concat()]);
    }

    /// Version 2 says what is known of TLS that ended here.
    fn tls_facts(driver) {
        let (authority, directory) = (Authority::new("test CA"), TempDir::new());
        let (certificate, key) = authority.server(&["a.test"]).write(&directory, "a.test");
        let ca = directory.write("ca.crt", &authority.certificate);
        let (backend, headers) = web(usize::MAX);
        let text = format!(
            "[[gateway]]\nname = \"web\"\n[[gateway.server]]\nport = 0\nbind = \"127.0.0.1\"\nprotocol = \"HTTPS\"\n\
             hosts = [\"*\"]\ntls = {{ mode = \"OPTIONAL_MUTUAL\", server_certificate = {certificate:?}, \
             private_key = {key:?}, ca_certificates = {ca:?} }}\n{}{}",
            config::virtual_service("all", "*", "route = [{ destination = { host = \"app\" } }]"),
            config::service("app", &[backend.address()], V2),
        );
        let gateway = Gateway::start(driver, &text);
        let identity = authority.client("spiffe://test/client");
        // Client flags, "verify", version, common name; resumed, the certificate is that of the session.
        let ssl = |flags: u8, verify: u8, version: &str, name: &str| {
            let mut value = vec![flags, 0, 0, 0, verify, 0x21, 0, 7];
            value.extend(version.as_bytes());
            if !name.is_empty() {
                value.extend([0x22, 0, u8::try_from(name.len()).unwrap()]);
                value.extend(name.as_bytes());
            }
            [&[0x20, 0, u8::try_from(value.len()).unwrap()][..], &value].concat()
        };
        let name = "rcgen self signed cert";
        for (version, text) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
            let mut plain = Arc::unwrap_or_clone(authority.client_config(&[version], None));
            plain.alpn_protocols = vec![b"http/1.1".to_vec()];
            let known = authority.client_config(&[version], Some(&identity));
            let alpn: &[u8] = b"\x01\0\x08http/1.1";
            for (config, alpn, ssl) in [
                (&Arc::new(plain), alpn, ssl(1, 1, text, "")),
                (&known, &[][..], ssl(7, 0, text, name)),
                (&known, &[][..], ssl(5, 0, text, name)),
            ] {
                let mut client = TlsClient::connect(gateway.address(), config, "a.test");
                assert_eq!(client.get("a.test", "/").status, 200);
                let header = headers.lock().unwrap().last().unwrap().clone();
                let tlvs = [alpn, b"\x02\0\x06a.test", &ssl].concat();
                assert_eq!(header[28..].escape_ascii().to_string(), tlvs.escape_ascii().to_string());
            }
        }
    }

    /// Two gateways in a row: the second believes what the first says.
    fn two_in_a_row(driver) {
        let backend = Backend::fixed("ok");
        let behind = config::single(backend.address(), "", "").replace(
            "protocol = \"HTTP\"\n",
            "protocol = \"HTTP\"\nproxy_protocol = { from = [\"127.0.0.1\"] }\n",
        );
        let behind = Gateway::start(driver, &behind);
        for keys in [V1, V2] {
            let accept = "proxy_protocol = { from = [\"127.0.0.1\"] }";
            let front = Gateway::start(driver, &tcp(&[behind.address()], accept, keys));
            let mut client = front.connect();
            client.send("PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n");
            assert_eq!(client.get("a.test", "/").status, 200);
            let request = backend.requests().pop().unwrap();
            assert_eq!(request.headers.get("x-forwarded-for"), Some("2001:db8::7"));
        }
    }

    /// A tunnel takes its client's connection along.
    fn upgrades(driver) {
        let closing = Gate::new();
        let backend = Backend::start({
            let closing = closing.clone();
            move |conn| {
                let Some(_) = header(conn) else { return };
                conn.request().unwrap();
                conn.send("HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhi");
                closing.wait();
            }
        });
        let gateway = Gateway::start(driver, &config::single(backend.address(), "", V2));
        let baseline = Baseline::of(&gateway);
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        assert_eq!(client.response("GET").status, 101);
        assert_eq!(client.bytes(2).unwrap(), b"hi");
        client.half_close();
        closing.open();
        client.assert_closed();
        baseline.assert_back(&gateway);
    }
}
