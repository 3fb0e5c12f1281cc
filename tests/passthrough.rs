//! TLS servers whose connections pass through: routed by the name in the ClientHello, unchanged to the last byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion};

use crate::pressure::{Baseline, Dump, assert_takes, full, two_shards};
use crate::support::tls::{Authority, TlsClient};
use crate::support::{Backend, Client, Driver, Gateway, config};

const ALL: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// The alerts as they go over the wire.
const DECODE_ERROR: &[u8] = &[0x15, 3, 3, 0, 2, 2, 50];
const UNRECOGNIZED_NAME: &[u8] = &[0x15, 3, 3, 0, 2, 2, 112];

/// A gateway `web` with one server for `hosts`, and a service for each of `(SNI host, address)`.
fn site(gateway_keys: &str, hosts: &[&str], services: &[(&str, SocketAddr)]) -> String {
    let mut text = format!(
        "[[gateway]]\nname = \"web\"\n{gateway_keys}\n[[gateway.server]]\nport = 0\nbind = \"127.0.0.1\"\n\
         protocol = \"TLS\"\nhosts = {hosts:?}\ntls = {{ mode = \"PASSTHROUGH\" }}\n"
    );
    for (number, (sni, address)) in services.iter().enumerate() {
        text += &format!(
            "[[virtual_service]]\nname = \"s{number}\"\nhosts = [{sni:?}]\ngateways = [\"web\"]\n\
             [[virtual_service.tls]]\nmatch = [{{ sni_hosts = [{sni:?}] }}]\n\
             route = [{{ destination = {{ host = \"s{number}\" }} }}]\n"
        );
        text += &config::service(&format!("s{number}"), &[*address], "");
    }
    text
}

fn any(backend: &Backend, gateway_keys: &str) -> String {
    site(gateway_keys, &["*"], &[("*", backend.address())])
}

/// The first flight of a client that asks for `name`; an address is sent as no name at all.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let config = Authority::new("nobody").client_config(ALL, None);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut bytes = Vec::new();
    ClientConnection::new(config, name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

/// The same hello over records of at most `size` bytes.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in hello[5..].chunks(size) {
        bytes.extend([22, 3, 1]);
        bytes.extend(u16::try_from(piece.len()).unwrap().to_be_bytes());
        bytes.extend(piece);
    }
    bytes
}

/// A TLS server that echoes, with a certificate for `name`; it serves until the process ends.
pub(crate) fn tls_server(authority: &Authority, name: &str) -> SocketAddr {
    use rustls::pki_types::pem::PemObject;
    let identity = authority.server(&[name]);
    let chain =
        vec![rustls::pki_types::CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            thread::spawn(move || {
                let mut stream = rustls::StreamOwned::new(connection, stream);
                let mut buffer = vec![0; 16 << 10];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
                stream.conn.send_close_notify();
                let _ = stream.flush();
            });
        }
    });
    address
}

/// Collects what comes up to the end, and answers with its length.
fn collector() -> Backend {
    Backend::start(|conn| {
        let all = conn.until_end().unwrap();
        conn.send(format!("{}", all.len()));
    })
}

#[track_caller]
fn assert_alert(gateway: &Gateway, bytes: &[u8], alert: &[u8]) {
    let mut client = gateway.connect();
    client.send(bytes);
    assert_eq!(client.until_end().as_deref(), Ok(alert));
}

both_drivers! {
    /// Real sessions of both versions: each name comes to its own server, whose certificate the client checks.
    fn sessions_by_name(driver) {
        let authority = Authority::new("test CA");
        let servers = ["one.test", "two.test", "deep.wild.test", "rest.test"];
        let [one, two, wild, rest] = servers.map(|name| tls_server(&authority, name));
        let services = [("one.test", one), ("two.test", two), ("*.wild.test", wild), ("*", rest)];
        let gateway = Gateway::start(driver, &site("", &["*"], &services));
        assert_eq!(gateway.listening()[0].protocol, "TLS");
        for version in ALL {
            let config = authority.client_config(&[version], None);
            for name in servers {
                let mut client = TlsClient::connect(gateway.address(), &config, name);
                client.send("through");
                assert_eq!(client.bytes(7).unwrap(), b"through");
                client.half_close();
                assert_eq!(client.until_end().unwrap(), b"");
            }
        }
        Dump::wait(&gateway, "all closed", |dump| dump.sum("relays_open") == 0 && dump.sum("relays") == 8);
    }

    /// A hello with a post-quantum key share is longer than a packet; the endpoint gets exactly the client's bytes, and
    /// what follows the client's end comes back.
    fn bytes_are_identical(driver) {
        let collected = Arc::new(std::sync::Mutex::new(Vec::new()));
        let backend = Backend::start({
            let collected = Arc::clone(&collected);
            move |conn| {
                let all = conn.until_end().unwrap();
                conn.send(b"\x15\x03\x03\0\x02\x01\0after the end");
                collected.lock().unwrap().push(all);
            }
        });
        let gateway = Gateway::start(driver, &any(&backend, ""));
        let baseline = Baseline::of(&gateway);
        let mut bytes = hello("a.test");
        assert!(bytes.len() > 1400, "{}", bytes.len());
        bytes.extend(b"and what follows, before any answer");
        let mut client = gateway.connect();
        client.send(&bytes);
        client.half_close();
        assert_eq!(client.until_end().unwrap(), b"\x15\x03\x03\0\x02\x01\0after the end");
        backend.wait_ended(1);
        assert_eq!(*collected.lock().unwrap(), [bytes]);
        drop(client);
        baseline.assert_back(&gateway);
    }

    /// Cut in two at every byte, byte by byte, and over records of every size.
    fn hellos_in_pieces(driver) {
        let backend = collector();
        let gateway = Gateway::start(driver, &site("", &["a.test"], &[("a.test", backend.address())]));
        let whole = hello("a.test");
        let deliver = |pieces: &[&[u8]]| {
            let mut client = gateway.connect();
            client.send_pieces(pieces.iter().copied());
            client.half_close();
            let length: usize = pieces.iter().map(|piece| piece.len()).sum();
            assert_eq!(client.until_end().unwrap(), length.to_string().as_bytes(), "{:?}", pieces[0].len());
        };
        for at in 1..whole.len() {
            let (start, end) = whole.split_at(at);
            deliver(&[start, end]);
        }
        deliver(&whole.chunks(1).collect::<Vec<_>>());
        // At most 64 records may hold a hello.
        for size in [whole.len() / 60, 60, 100, 512, 1000] {
            deliver(&[&in_records(&whole, size)]);
            deliver(&in_records(&whole, size).chunks(700).collect::<Vec<_>>());
        }
    }

    /// A name that no server has, or none where there is no default: an alert that says so, and a clean end.
    fn unknown_names(driver) {
        let backend = collector();
        let services = [("a.test", backend.address()), ("*.b.test", backend.address())];
        let gateway = Gateway::start(driver, &site("", &["a.test", "*.b.test", "ruleless.test"], &services));
        for name in ["c.test", "b.test", "x.a.test", "127.0.0.1", "ruleless.test"] {
            assert_alert(&gateway, &hello(name), UNRECOGNIZED_NAME);
        }
        Dump::wait(&gateway, "five", |dump| dump.sum("tls_unknown_names") == 5);
        assert_eq!(backend.connections(), 0);
        let error = TlsClient::try_connect(
            gateway.address(),
            &Authority::new("nobody").client_config(ALL, None),
            "c.test",
        );
        let text = error.unwrap_err().to_string();
        assert!(text.contains("UnrecognisedName"), "{text}");
    }

    /// Malformed hellos hear an alert, those without end too; what is no TLS hears nothing.
    fn no_hello(driver) {
        let backend = collector();
        let gateway = Gateway::start(driver, &any(&backend, ""));
        assert_alert(&gateway, &[22, 3, 1, 0, 8, 2, 0, 0, 4, 0, 0, 0, 0], DECODE_ERROR);
        assert_alert(&gateway, &[22, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3], DECODE_ERROR);
        let endless = [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; 64 << 10]].concat();
        let mut client = gateway.connect();
        // The answer may come before all of it is taken.
        let _ = client.try_send(&endless);
        assert_eq!(client.remainder(), DECODE_ERROR);
        for bytes in [&b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.6\r\n", b"\0\0\0\0\0\0\0\0"] {
            let mut client = gateway.connect();
            client.send(bytes);
            assert_eq!(client.remainder(), b"", "{bytes:?}");
        }
        Dump::wait(&gateway, "three each", |dump| {
            dump.sum("tls_malformed_hellos") == 3 && dump.sum("tls_not_tls") == 3
        });
        assert_eq!(backend.connections(), 0);
    }

    /// Silence, and a hello that does not come to its end: closed without a word when the time is up.
    fn handshake_timeout(driver) {
        let backend = collector();
        let gateway = Gateway::start(driver, &any(&backend, "timeouts = { handshake = \"500ms\" }"));
        assert_takes(Duration::from_millis(500), || {
            let began = Instant::now();
            let mut silent = gateway.connect();
            silent.assert_closed();
            began.elapsed()
        });
        assert_takes(Duration::from_millis(500), || {
            let began = Instant::now();
            let mut slow = gateway.connect();
            for byte in &hello("a.test")[..8] {
                slow.send([*byte]);
                thread::sleep(Duration::from_millis(40));
            }
            assert_eq!(slow.remainder(), b"");
            began.elapsed()
        });
        Dump::wait(&gateway, "both", |dump| dump.sum("timeout_handshake") >= 2);
        // What came in time is not bounded by it any more.
        let mut client = gateway.connect();
        client.send(hello("a.test"));
        thread::sleep(Duration::from_millis(700));
        client.half_close();
        assert!(!client.until_end().unwrap().is_empty());
    }

    /// Thousands that say nothing hold no buffer and are in nobody's way.
    fn half_open(driver) {
        let count = if full() { 3_000 } else { 600 };
        let backend = collector();
        let gateway = two_shards(driver, &any(&backend, ""));
        let baseline = Baseline::of(&gateway);
        let silent: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(gateway.address()).unwrap()).collect();
        let dump = Dump::wait(&gateway, "all accepted", |dump| dump.sum("sessions_open") == count as u64);
        assert_eq!(dump.sum("buffers_in_use"), 0);
        let mut client = gateway.connect();
        client.send(hello("a.test"));
        client.half_close();
        assert!(!client.until_end().unwrap().is_empty());
        drop((silent, client));
        baseline.assert_back(&gateway);
    }

    /// A drain gives a connection that said nothing a second, and one whose hello comes then is relayed.
    fn drains(driver) {
        assert_takes(Duration::from_secs(1), || {
            let backend = collector();
            let mut gateway = Gateway::start(driver, &any(&backend, ""));
            let (mut silent, mut late) = (gateway.connect(), gateway.connect());
            Dump::wait(&gateway, "two sessions", |dump| dump.sum("sessions_open") == 2);
            let began = Instant::now();
            gateway.signal("TERM");
            gateway.wait_stderr("draining");
            late.send(hello("a.test"));
            late.half_close();
            assert!(!late.until_end().unwrap().is_empty());
            silent.assert_closed();
            let took = began.elapsed();
            assert_eq!(gateway.wait_exit().code(), Some(0));
            took
        });
    }

    /// A reload changes where names lead; sessions that stand live on.
    fn reloads(driver) {
        let authority = Authority::new("test CA");
        let (old, new) = (tls_server(&authority, "a.test"), tls_server(&authority, "b.test"));
        let config = authority.client_config(ALL, None);
        let gateway = Gateway::start(driver, &site("", &["*"], &[("a.test", old)]));
        let mut session = TlsClient::connect(gateway.address(), &config, "a.test");
        assert!(TlsClient::try_connect(gateway.address(), &config, "b.test").is_err());
        gateway.reload(&site("", &["*"], &[("b.test", new)]), 2);
        TlsClient::connect(gateway.address(), &config, "b.test");
        assert!(TlsClient::try_connect(gateway.address(), &config, "a.test").is_err());
        session.send("still here");
        assert_eq!(session.bytes(10).unwrap(), b"still here");
    }
}

/// A client that sends its hello and goes is nobody's loss.
#[test]
fn clients_that_go() {
    let backend = collector();
    let gateway = Gateway::start(Driver::Epoll, &any(&backend, ""));
    let baseline = Baseline::of(&gateway);
    let whole = hello("a.test");
    for at in [0, 1, 5, 100, whole.len()] {
        let mut client = Client::connect(gateway.address());
        client.send(&whole[..at]);
        if at.is_multiple_of(2) { client.reset() } else { drop(client) }
    }
    baseline.assert_back(&gateway);
}

both_drivers! {
    /// On one port: names that pass through, hosts where TLS ends and requests are routed, and one where it ends and its
    /// bytes are relayed, with half-close both ways.
    fn one_port_for_all(driver) {
        let authority = Authority::new("test CA");
        let directory = crate::support::tempdir::TempDir::new();
        let through = tls_server(&authority, "through.test");
        let (web, mail) = (Backend::fixed("web"), collector());
        let ending = |protocol: &str, name: &str| {
            let (certificate, key) = authority.server(&[name]).write(&directory, name);
            format!(
                "[[gateway.server]]\nport = 0\nbind = \"127.0.0.1\"\nprotocol = {protocol:?}\nhosts = [{name:?}]\n\
                 tls = {{ mode = \"SIMPLE\", server_certificate = {certificate:?}, private_key = {key:?} }}\n"
            )
        };
        let port = crate::pressure::free_port();
        let mut text = site("", &["through.test"], &[("through.test", through)]);
        let servers = ending("HTTPS", "web.test") + &ending("TLS", "mail.test");
        let at = text.find("[[virtual_service]]").unwrap();
        text.insert_str(at, &servers);
        text = text.replace("port = 0", &format!("port = {port}"));
        text += "[[virtual_service]]\nname = \"mail\"\nhosts = [\"mail.test\"]\ngateways = [\"web\"]\n\
             [[virtual_service.tcp]]\nroute = [{ destination = { host = \"mail\" } }]\n";
        text += &config::virtual_service("web", "web.test", "route = [{ destination = { host = \"app\" } }]");
        text += &config::service("mail", &[mail.address()], "");
        text += &config::service("app", &[web.address()], "");
        let _gateway = Gateway::start(driver, &text);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        for version in ALL {
            let config = authority.client_config(&[version], None);
            let mut client = TlsClient::connect(address, &config, "web.test");
            assert_eq!(client.get("web.test", "/").text(), "web");
            let mut client = TlsClient::connect(address, &config, "through.test");
            client.send("bytes");
            assert_eq!(client.bytes(5).unwrap(), b"bytes");
            let mut client = TlsClient::connect(address, &config, "mail.test");
            let body = vec![7; 300_000];
            client.send(&body);
            client.half_close();
            assert_eq!(client.until_end().unwrap(), b"300000");
            assert!(TlsClient::try_connect(address, &config, "other.test").is_err());
        }
    }
}
