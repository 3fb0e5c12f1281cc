//! HTTP over TLS that ends at the gateway.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};

use crate::pressure::Dump;
use crate::support::tempdir::TempDir;
use crate::support::tls::{Authority, Identity, TlsClient};
use crate::support::tls_records::RecordClient;
use crate::support::{Backend, Client, Conn, DEADLINE, Driver, Failure, Gateway, config};

const ALL: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// A gateway `web` with an HTTPS server for each `(hosts, name of its files, more keys of tls)`, all on one port of
/// 127.0.0.1, and everything routed to `backend`.
pub(crate) struct Site {
    pub(crate) authority: Authority,
    pub(crate) directory: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self { authority: Authority::new("test CA"), directory: TempDir::new() }
    }

    pub(crate) fn server(&self, port: u16, hosts: &[&str], mode: &str, more: &str) -> String {
        let names: Vec<&str> = hosts
            .iter()
            .map(|host| if *host == "*" { "a.test" } else { *host })
            .chain(["127.0.0.1"])
            .collect();
        let name = names[0].trim_start_matches("*.");
        let (certificate, key) = self.authority.server(&names).write(&self.directory, name);
        format!(
            "[[gateway.server]]\nport = {port}\nbind = \"127.0.0.1\"\nprotocol = \"HTTPS\"\nhosts = {hosts:?}\n\
             tls = {{ mode = {mode:?}, server_certificate = {certificate:?}, private_key = {key:?}{more} }}\n"
        )
    }

    /// One server for everything, with the certificate of `a.test`.
    pub(crate) fn config(&self, backend: SocketAddr, gateway_keys: &str, mode: &str, more: &str) -> String {
        let mut text = format!("[[gateway]]\nname = \"web\"\n{gateway_keys}\n");
        text += &self.server(0, &["*"], mode, more);
        text += &config::virtual_service("all", "*", "route = [{ destination = { host = \"app\" } }]");
        text + &config::service("app", &[backend], "")
    }

    pub(crate) fn start(&self, driver: Driver, backend: SocketAddr, gateway_keys: &str) -> Gateway {
        Gateway::start(driver, &self.config(backend, gateway_keys, "SIMPLE", ""))
    }

    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        self.authority.client_config(versions, None)
    }
}

/// Answers with what it was asked: target, body length, and the forwarded scheme.
fn mirror(conn: &mut Conn) {
    while let Some(request) = conn.request() {
        let scheme = request.headers.get("x-forwarded-proto").unwrap_or("none").to_owned();
        conn.reply(200, format!("{} {} {scheme}", request.target, request.content.body.len()));
    }
}

both_drivers! {
    /// Both versions, several requests on a connection, in any cut; the endpoint hears of the scheme.
    fn requests_are_served(driver) {
        let (site, backend) = (Site::new(), Backend::start(mirror));
        let gateway = site.start(driver, backend.address(), "");
        for version in [&TLS12, &TLS13] {
            let mut client = TlsClient::connect(gateway.address(), &site.client(&[version]), "a.test");
            assert_eq!(client.with(|stream| stream.conn.alpn_protocol().map(<[u8]>::to_vec)), None);
            for path in ["/a", "/b"] {
                assert_eq!(client.get("a.test", path).text(), format!("{path} 0 https"));
            }
            // Each byte a record of its own.
            for byte in b"GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n" {
                client.send([*byte]);
            }
            assert_eq!(client.response("GET").text(), "/slow 0 https");
            // Pipelined, in one record.
            client.send("GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: a.test\r\n\r\n");
            assert_eq!(client.response("GET").text(), "/1 0 https");
            assert_eq!(client.response("GET").text(), "/2 0 https");
            assert_eq!(client.get("other.test:443", "/any").status, 200);
        }
        let dump = Dump::of(&gateway);
        assert_eq!((dump.sum("tls_handshakes"), dump.sum("tls_refused")), (2, 0));
    }

    /// Large bodies both ways, by length and in chunks.
    fn bodies_are_whole(driver) {
        let (site, backend) = (Site::new(), Backend::start(|conn| {
            while let Some(request) = conn.request() {
                conn.reply(200, &request.content.body);
            }
        }));
        let gateway = site.start(driver, backend.address(), "");
        let body: Vec<u8> = (0..5_000_000_u32).map(|at| (at / 7) as u8).collect();
        for version in [&TLS12, &TLS13] {
            let mut client = TlsClient::connect(gateway.address(), &site.client(&[version]), "a.test");
            client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len()));
            client.send(&body);
            assert!(client.response("POST").content.body == body);
            client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
            for chunk in body[..200_000].chunks(9_999) {
                client.send(format!("{:x}\r\n", chunk.len()));
                client.send(chunk);
                client.send("\r\n");
            }
            client.send("0\r\n\r\n");
            assert!(client.response("POST").content.body == body[..200_000]);
        }
    }

    /// Ends are announced with close_notify; a cut one is not.
    fn ends_are_told_from_cuts(driver) {
        let (site, backend) = (Site::new(), Backend::start(|conn| {
            while let Some(request) = conn.request() {
                if request.target == "/cut" {
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
                    return;
                }
                conn.reply(200, "ok");
            }
        }));
        let gateway = site.start(driver, backend.address(), "timeouts = { keep_alive = \"300ms\", linger = \"100ms\" }");
        for version in [&TLS12, &TLS13] {
            let config = site.client(&[version]);
            let connect = || TlsClient::connect(gateway.address(), &config, "a.test");
            let mut client = connect();
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
            assert_eq!(client.response("GET").text(), "ok");
            assert_eq!(client.until_end(), Ok(Vec::new()));
            // Refused.
            let mut client = connect();
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\nBad Name: x\r\n\r\n");
            assert_eq!(client.response("GET").status, 400);
            assert_eq!(client.until_end(), Ok(Vec::new()));
            // Idle.
            let mut client = connect();
            assert_eq!(client.get("a.test", "/").text(), "ok");
            assert_eq!(client.until_end(), Ok(Vec::new()));
            // The client's own end.
            let mut client = connect();
            assert_eq!(client.get("a.test", "/").text(), "ok");
            client.half_close();
            assert_eq!(client.until_end(), Ok(Vec::new()));
            // A cut response.
            let mut client = connect();
            client.send("GET /cut HTTP/1.1\r\nHost: a.test\r\n\r\n");
            assert_eq!(client.try_response("GET").map(|response| response.text()), Err(Failure::Truncated));
        }
    }

    /// Idle connections hold no buffer and survive; timers work as without TLS.
    fn idle_connections_hold_nothing(driver) {
        let (site, backend) = (Site::new(), Backend::start(mirror));
        let gateway = site.start(driver, backend.address(), "timeouts = { header = \"500ms\", handshake = \"500ms\" }");
        let config = site.client(ALL);
        let connect = || TlsClient::connect(gateway.address(), &config, "a.test");
        let mut clients: Vec<TlsClient> = (0..50).map(|_| connect()).collect();
        for client in &mut clients {
            assert_eq!(client.get("a.test", "/").status, 200);
        }
        Dump::wait(&gateway, "no buffers", |dump| dump.sum("buffers_in_use") == 0);
        for client in &mut clients {
            assert_eq!(client.get("a.test", "/").status, 200);
        }
        // A slow head is answered.
        clients[0].send("GET / HTTP/1.1\r\nHo");
        assert_eq!(clients[0].response("GET").status, 408);
        assert_eq!(clients[0].until_end(), Ok(Vec::new()));
        // So is a record that never comes to its end: it can only be closed.
        clients[1].with(|stream| {
            let _ = stream.conn.writer().write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            let mut record = Vec::new();
            stream.conn.write_tls(&mut record).unwrap();
            stream.sock.write_all(&record[..record.len() - 5]).unwrap();
        });
        assert!(clients[1].try_response("GET").is_ok_and(|response| response.status == 408) || clients[1].until_end().is_ok());
        // Neither is a silent or a slow handshake waited for.
        let mut silent = Client::connect(gateway.address());
        let mut slow = Client::connect(gateway.address());
        slow.send([0x16, 3, 1, 2, 0, 1]);
        silent.assert_closed();
        slow.assert_closed();
        Dump::wait(&gateway, "both counted", |dump| dump.sum("timeout_handshake") == 2);
        assert_eq!(clients[2].get("a.test", "/").status, 200);
    }

    /// A client that resumes is served by any shard without a full handshake, also after a reload that changes nothing.
    fn sessions_resume_on_every_shard(driver) {
        let (site, backend) = (Site::new(), Backend::start(mirror));
        let text = site.config(backend.address(), "", "SIMPLE", "");
        let gateway = Gateway::start_with(&text, &["--driver", driver.name(), "--cores", "2", "--no-pin"]);
        for version in [&TLS12, &TLS13] {
            let config = site.client(&[version]);
            let kind = || {
                let mut client = TlsClient::connect(gateway.address(), &config, "a.test");
                assert_eq!(client.get("a.test", "/").status, 200);
                client.with(|stream| stream.conn.handshake_kind())
            };
            assert!(matches!(kind(), Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)));
            for _ in 0..12 {
                assert_eq!(kind(), Some(HandshakeKind::Resumed));
            }
        }
        gateway.reload(&text, 2);
        let dump = Dump::of(&gateway);
        assert_eq!(dump.sum("tls_resumed"), 24);
    }

    /// Connections and WebSockets live through reloads; new ones see the new certificate.
    fn reloads_swap_certificates(driver) {
        let (site, backend) = (Site::new(), Backend::start(|conn| {
            while let Some(request) = conn.request() {
                if request.headers.has("upgrade") {
                    conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
                    while let Ok(bytes) = conn.bytes(4) {
                        conn.send(bytes);
                    }
                    return;
                }
                conn.reply(200, "ok");
            }
        }));
        let text = site.config(backend.address(), "", "SIMPLE", "");
        let port = |text: &str, port: u16| text.replacen("port = 0", &format!("port = {port}"), 1);
        let fixed = crate::pressure::free_port();
        let gateway = Gateway::start(driver, &port(&text, fixed));
        let config = site.client(ALL);
        let mut client = TlsClient::connect(gateway.address(), &config, "a.test");
        let mut tunnel = TlsClient::connect(gateway.address(), &config, "a.test");
        tunnel.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(tunnel.response("GET").status, 101);
        let other = Authority::new("other CA");
        let (certificate, key) = other.server(&["a.test"]).write(&site.directory, "next");
        let next = format!(
            "[[gateway]]\nname = \"web\"\n[[gateway.server]]\nport = {fixed}\nbind = \"127.0.0.1\"\nprotocol = \"HTTPS\"\n\
             hosts = [\"*\"]\ntls = {{ mode = \"SIMPLE\", server_certificate = {certificate:?}, private_key = {key:?} }}\n{}{}",
            config::virtual_service("all", "*", "route = [{ destination = { host = \"app\" } }]"),
            config::service("app", &[backend.address()], ""),
        );
        gateway.reload(&next, 2);
        assert_eq!(client.get("a.test", "/").text(), "ok");
        tunnel.send("ping");
        assert_eq!(tunnel.bytes(4).as_deref(), Ok(&b"ping"[..]));
        assert!(TlsClient::try_connect(gateway.address(), &config, "a.test").is_err());
        let mut fresh = TlsClient::connect(gateway.address(), &other.client_config(ALL, None), "a.test");
        assert_eq!(fresh.get("a.test", "/").text(), "ok");
        tunnel.half_close();
        assert_eq!(tunnel.until_end(), Ok(Vec::new()));
    }

    /// A request that TLS cuts short never reaches its end at the endpoint.
    fn a_truncated_upload_is_no_upload(driver) {
        let (site, backend) = (Site::new(), Backend::start(|conn| {
            while let Some(mut request) = conn.head() {
                let whole = conn.content(&mut request).is_ok();
                conn.reply(200, if whole { "whole" } else { "part" });
            }
        }));
        let gateway = site.start(driver, backend.address(), "");
        let mut client = TlsClient::connect(gateway.address(), &site.client(ALL), "a.test");
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nhalf");
        client.truncate();
        assert!(!client.try_response("POST").is_ok_and(|response| response.text() == "whole"));
        assert!(TlsClient::connect(gateway.address(), &site.client(ALL), "a.test").get("a.test", "/").status == 200);
    }

    /// Client certificates: required, optional, of another authority, missing.
    fn client_certificates(driver) {
        let (site, backend) = (Site::new(), Backend::start(mirror));
        let clients = Authority::new("clients' CA");
        let ca = site.directory.write("clients.pem", &clients.certificate);
        let more = format!(", ca_certificates = {ca:?}");
        let good = clients.client("spiffe://test/app");
        let stranger = Authority::new("strangers' CA").client("spiffe://test/app");
        for (mode, with_good, without, with_stranger) in
            [("MUTUAL", true, false, false), ("OPTIONAL_MUTUAL", true, true, false)]
        {
            let gateway = Gateway::start(driver, &site.config(backend.address(), "", mode, &more));
            for version in [&TLS12, &TLS13] {
                let served = |identity: Option<&Identity>| {
                    let config = site.authority.client_config(&[version], identity);
                    // In TLS 1.3 a client learns of the refusal only with its first read.
                    TlsClient::try_connect(gateway.address(), &config, "a.test").is_ok_and(|mut client| {
                        client.try_send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").is_ok()
                            && client.try_response("GET").is_ok_and(|response| response.status == 200)
                    })
                };
                assert_eq!(served(Some(&good)), with_good, "{mode}");
                assert_eq!(served(None), without, "{mode}");
                assert_eq!(served(Some(&stranger)), with_stranger, "{mode}");
            }
        }
    }

    /// Requests for a host on other terms than the connection's are sent back to a connection of their own.
    fn hosts_on_other_terms_are_misdirected(driver) {
        let (site, backend) = (Site::new(), Backend::start(mirror));
        let clients = Authority::new("clients' CA");
        let ca = site.directory.write("clients.pem", &clients.certificate);
        let port = crate::pressure::free_port();
        let mutual = format!(", ca_certificates = {ca:?}");
        let mut text = String::from("[[gateway]]\nname = \"web\"\n");
        text += &site.server(port, &["a.test"], "SIMPLE", "");
        text += &site.server(port, &["b.test", "c.test"], "SIMPLE", "");
        text += &site.server(port, &["m.test"], "MUTUAL", &mutual);
        text += &site.server(port, &["*"], "OPTIONAL_MUTUAL", &mutual);
        text += &format!(
            "[[gateway.server]]\nport = {port}\nbind = \"127.0.0.1\"\nprotocol = \"TLS\"\nhosts = [\"p.test\"]\n\
             tls = {{ mode = \"PASSTHROUGH\" }}\n"
        );
        text += "[[gateway]]\nname = \"other\"\n";
        text += &site.server(port, &["o.test"], "SIMPLE", "");
        text += &config::virtual_service("all", "*", "route = [{ destination = { host = \"app\" } }]")
            .replace("[\"web\"]", "[\"web\", \"other\"]");
        text += "[[virtual_service]]\nname = \"p\"\nhosts = [\"p.test\"]\ngateways = [\"web\"]\n[[virtual_service.tls]]\n\
                 match = [{ sni_hosts = [\"p.test\"] }]\nroute = [{ destination = { host = \"app\" } }]\n";
        text += &config::service("app", &[backend.address()], "");
        let gateway = Gateway::start(driver, &text);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let config = site.client(ALL);
        let mut simple = TlsClient::connect(address, &config, "a.test");
        for (host, status) in [
            ("a.test", 200),
            ("b.test", 200),
            ("c.test:443", 200),
            ("m.test", 421),
            ("p.test", 421),
            ("o.test", 421),
            ("z.test", 421),
            ("a.test", 200),
        ] {
            assert_eq!(simple.get(host, "/").status, status, "{host}");
        }
        let identity = clients.client("spiffe://test/app");
        let with_identity = site.authority.client_config(ALL, Some(&identity));
        let mut mutual = TlsClient::connect(address, &with_identity, "m.test");
        assert_eq!(mutual.get("m.test", "/").status, 200);
        assert_eq!(mutual.get("a.test", "/").status, 421);
        // Neither does a connection without a name reach a host that asks for certificates.
        let mut unnamed = TlsClient::connect(address, &with_identity, "127.0.0.1");
        assert_eq!(unnamed.get("m.test", "/").status, 421);
        assert_eq!(unnamed.get("z.test", "/").status, 200);
        drop(gateway);
    }

    /// What is not TLS, or no TLS that is spoken here, ends without a byte of HTTP and hinders nobody.
    fn strangers_are_refused(driver) {
        let (site, backend) = (Site::new(), Backend::start(mirror));
        let gateway = site.start(driver, backend.address(), "timeouts = { linger = \"100ms\" }");
        for bytes in [&b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"[..], &[0x80, 0x2e, 1, 0, 2], &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0], &[0; 2000]] {
            let mut client = Client::connect(gateway.address());
            client.send(bytes);
            let answer = client.remainder();
            assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
        }
        let mut client = TlsClient::connect(gateway.address(), &site.client(ALL), "a.test");
        assert_eq!(client.get("a.test", "/").status, 200);
    }

    /// Megabytes of records that bring nothing keep no other client of the shard waiting for their end.
    fn records_of_nothing_hold_nobody_up(driver) {
        let (site, ended) = (Site::new(), Arc::new(AtomicBool::new(false)));
        let backend = Backend::start({
            let ended = Arc::clone(&ended);
            move |conn| {
                while let Some(request) = conn.request() {
                    ended.fetch_or(request.target == "/end", Ordering::SeqCst);
                    conn.reply(200, "ok");
                }
            }
        });
        let gateway = site.start(driver, backend.address(), "timeouts = { header = \"60s\" }");
        let mut flooder = RecordClient::connect(gateway.address(), &site.authority.roots(), "a.test");
        let mut flood = flooder.nothing(150_000);
        flood.extend(flooder.content(b"GET /end HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        let mut other = TlsClient::connect(gateway.address(), &site.client(ALL), "a.test");
        thread::scope(|scope| {
            let began = Instant::now();
            // Not closed before the end: that would be a reset, as it leaves tickets unread.
            let flooding = scope.spawn(move || {
                flooder.send(&flood);
                flooder
            });
            let mut longest = Duration::ZERO;
            while !ended.load(Ordering::SeqCst) {
                assert!(began.elapsed() < DEADLINE, "the request behind the flood never came");
                let asked = Instant::now();
                assert_eq!(other.get("a.test", "/").status, 200);
                longest = longest.max(asked.elapsed());
            }
            let whole = began.elapsed();
            drop(flooding.join());
            println!("a request took {longest:?} at most, the flood {whole:?}");
            assert!(longest < whole / 2, "a request took {longest:?} while the flood took {whole:?}");
        });
    }

    /// A hello cut at any place is one hello.
    fn a_hello_in_pieces(driver) {
        let (site, backend) = (Site::new(), Backend::start(mirror));
        let gateway = site.start(driver, backend.address(), "");
        let config = site.client(ALL);
        let name = || rustls::pki_types::ServerName::try_from("a.test").unwrap();
        for step in [1, 5, 300, 1000] {
            let mut connection = rustls::ClientConnection::new(Arc::clone(&config), name()).unwrap();
            let mut hello = Vec::new();
            connection.write_tls(&mut hello).unwrap();
            let mut socket = TcpStream::connect(gateway.address()).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            socket.set_nodelay(true).unwrap();
            for piece in hello.chunks(step) {
                socket.write_all(piece).unwrap();
                if step >= 300 {
                    thread::sleep(Duration::from_millis(2));
                }
            }
            while connection.is_handshaking() {
                connection.complete_io(&mut socket).unwrap();
            }
        }
    }
}
