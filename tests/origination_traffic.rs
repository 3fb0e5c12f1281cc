//! TLS towards endpoints: what goes over it, when connections and sessions are used again, and when another endpoint is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};

use crate::origination::{BOTH, Site, all_to, get};
use crate::pressure::Dump;
use crate::support::tls::{Authority, TlsClient};
use crate::support::tls_backend::{TlsBackend, TlsConn, accept};
use crate::support::{Backend, Client, DEADLINE, Failure, Gate, Gateway, config};

const SNI: &str = ", sni = \"b.test\"";

/// Sends every byte back until the end, then how many they were, then ends.
fn echo_and_count(conn: &mut TlsConn) {
    conn.send("hello ");
    let all = conn.until_end().unwrap();
    conn.send(&all);
    conn.send(format!(" {} bytes", all.len()));
    conn.half_close();
}

/// A TCP server for everything to `endpoints` over TLS.
fn tcp_to(endpoints: &[SocketAddr], tls: &str) -> String {
    crate::tcp::servers(&[0])
        + "[[virtual_service]]\nname = \"all\"\nhosts = [\"*\"]\ngateways = [\"web\"]\n[[virtual_service.tcp]]\n\
           route = [{ destination = { host = \"app\" } }]\n"
        + &config::service("app", endpoints, &format!("traffic_policy = {{ tls = {{ {tls} }} }}"))
}

fn connect(gateway: &Gateway) -> Client {
    Client::connect(SocketAddr::from(([127, 0, 0, 1], gateway.address().port())))
}

both_drivers! {
    /// Half a record behind an answer is the beginning of bytes that nobody asked for: its rest would look like the answer
    /// to the next client's request.
    fn half_a_record_is_unasked(driver) {
        let site = Site::new();
        for version in [&TLS12, &TLS13] {
            let config = Authority::server_config(&site.authority.server(&["b.test"]), &[version], None);
            let halves = Arc::new(AtomicUsize::new(0));
            let sent = Arc::clone(&halves);
            let backend = TlsBackend::start(config, move |conn| {
                conn.answer();
                let rest = conn.with(|stream| {
                    let mut record = Vec::new();
                    stream.conn.writer().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL").unwrap();
                    while stream.conn.wants_write() {
                        stream.conn.write_tls(&mut record).unwrap();
                    }
                    let rest = record.split_off(20);
                    stream.sock.write_all(&record).unwrap();
                    rest
                });
                sent.fetch_add(1, Ordering::SeqCst);
                // Sent with the next request, if that comes here.
                let _ = conn.request();
                conn.with(|stream| {
                    let _ = stream.sock.write_all(&rest);
                });
            });
            let gateway = site.start(driver, &[backend.address()], &site.simple(SNI));
            for number in 1..=3 {
                let mut client = gateway.connect();
                assert_eq!(get(&mut client, "a.test", "/x"), (200, "/x 0 http".to_owned()));
                assert_eq!(backend.handshakes().len(), number);
                let began = Instant::now();
                while halves.load(Ordering::SeqCst) < number && began.elapsed() < DEADLINE {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    /// One connection carries all requests, tickets and key updates between them notwithstanding.
    fn connections_are_kept(driver) {
        let site = Site::new();
        for version in [&TLS12, &TLS13] {
            let identity = site.authority.server(&["b.test"]);
            let updates = version.version == rustls::ProtocolVersion::TLSv1_3;
            let (idle, updated) = (Gate::new(), Gate::new());
            let (script_idle, script_updated) = (idle.clone(), updated.clone());
            let config = Authority::server_config(&identity, &[version], None);
            let backend = TlsBackend::start(config, move |conn| {
                conn.answer();
                script_idle.wait();
                if updates {
                    conn.with(|stream| {
                        stream.conn.refresh_traffic_keys().unwrap();
                        while stream.conn.wants_write() {
                            stream.conn.write_tls(&mut stream.sock).unwrap();
                        }
                    });
                }
                script_updated.open();
                while conn.answer().is_some() {}
            });
            let gateway = site.start(driver, &[backend.address()], &site.simple(SNI));
            let mut client = gateway.connect();
            assert_eq!(get(&mut client, "a.test", "/0").1, "/0 0 http");
            Dump::wait(&gateway, "an idle connection", |dump| dump.sum("upstream_idle") == 1);
            idle.open();
            updated.wait();
            for path in ["/1", "/2", "/3"] {
                assert_eq!(get(&mut client, "a.test", path).1, format!("{path} 0 http"));
            }
            let dump = Dump::of(&gateway);
            assert_eq!((backend.below().connections(), dump.sum("upstream_reused")), (1, 3));
            assert_eq!((dump.sum("upstream_stale"), dump.sum("upstream_tls_handshakes")), (0, 1));
        }
    }

    /// Idle connections that ended, with or without a word, or bring what nobody asked for, are not used again.
    fn dead_connections_are_found(driver) {
        let site = Site::new();
        for act in [TlsConn::half_close, TlsConn::truncate, |conn: &TlsConn| conn.send("HTTP/1.1 200 OK\r\n")] {
            let idle = Gate::new();
            let wait = idle.clone();
            let backend = TlsBackend::start(site.server(&["b.test"]), move |conn| {
                conn.answer();
                if conn.number == 0 {
                    wait.wait();
                    act(conn);
                }
                while conn.answer().is_some() {}
            });
            let gateway = site.start(driver, &[backend.address()], &site.simple(SNI));
            let mut client = gateway.connect();
            assert_eq!(get(&mut client, "a.test", "/0").0, 200);
            Dump::wait(&gateway, "an idle connection", |dump| dump.sum("upstream_idle") == 1);
            idle.open();
            // The reaper finds it by itself.
            Dump::wait(&gateway, "the end of it", |dump| dump.sum("upstream_stale") == 1);
            assert_eq!(get(&mut client, "a.test", "/1").0, 200);
            assert_eq!(backend.below().connections(), 2);
        }
    }

    /// A pooled connection that dies under a request: what may be done twice is sent again, the rest is not.
    fn replays_are_for_idempotent_methods(driver) {
        let site = Site::new();
        let backend = TlsBackend::start(site.server(&["b.test"]), |conn| {
            conn.answer();
            // Reads one more, and says nothing.
            if conn.number < 2 {
                let _ = conn.request();
            } else {
                while conn.answer().is_some() {}
            }
        });
        let gateway = site.start(driver, &[backend.address()], &site.simple(SNI));
        let mut client = gateway.connect();
        assert_eq!(get(&mut client, "a.test", "/first").0, 200);
        assert_eq!(get(&mut client, "a.test", "/again").1, "/again 0 http");
        assert_eq!(Dump::of(&gateway).sum("upstream_replays"), 1);
        client.send("POST /once HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.response("POST").text(), "502 Bad Gateway: upstream_closed_early\n");
        assert_eq!((Dump::of(&gateway).sum("upstream_replays"), backend.below().connections()), (1, 2));
    }

    /// After a close the session is resumed, and only that of the same endpoint.
    fn sessions_resume(driver) {
        let site = Site::new();
        for version in [&TLS12, &TLS13] {
            let start = || {
                let identity = site.authority.server(&["b.test"]);
                TlsBackend::start(Authority::server_config(&identity, &[version], None), |conn| {
                    conn.request().unwrap();
                    conn.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
                })
            };
            let backends = [start(), start()];
            let addresses = [backends[0].address(), backends[1].address()];
            let gateway = site.start(driver, &addresses, &site.simple(SNI));
            let mut client = gateway.connect();
            for _ in 0..8 {
                assert_eq!(get(&mut client, "a.test", "/").1, "ok", "{}", gateway.stderr());
            }
            for backend in &backends {
                let resumed: Vec<_> = backend.handshakes().iter().map(|handshake| handshake.resumed).collect();
                assert_eq!(resumed, [false, true, true, true]);
            }
            let dump = Dump::of(&gateway);
            assert_eq!((dump.sum("upstream_tls_handshakes"), dump.sum("upstream_tls_resumed")), (8, 6));
        }
    }

    /// Large bodies both ways, by length and in chunks; and from an HTTPS client.
    fn bodies_are_whole(driver) {
        let site = Site::new();
        let body: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 7) as u8).collect();
        for version in [&TLS12, &TLS13] {
            let identity = site.authority.server(&["b.test"]);
            let backend = TlsBackend::start(Authority::server_config(&identity, &[version], None), |conn| {
                while let Some(request) = conn.request() {
                    conn.reply(&request.content.body);
                }
            });
            let gateway = site.start(driver, &[backend.address()], &site.simple(SNI));
            let mut client = gateway.connect();
            let mut sender = client.sender();
            thread::scope(|scope| {
                scope.spawn(|| {
                    sender.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len()));
                    sender.send(&body);
                });
                assert!(client.response("POST").content.body == body);
            });
            client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
            for chunk in body[..200_000].chunks(9_999) {
                client.send(format!("{:x}\r\n", chunk.len()));
                client.send(chunk);
                client.send("\r\n");
            }
            client.send("0\r\n\r\n");
            assert!(client.response("POST").content.body == body[..200_000]);
            assert_eq!(backend.below().connections(), 1);
        }
    }

    /// A body that ends with the connection is whole only with a close_notify; one of known length does not need it.
    fn truncation_is_seen(driver) {
        let site = Site::new();
        for version in [&TLS12, &TLS13] {
            let identity = site.authority.server(&["b.test"]);
            let backend = TlsBackend::start(Authority::server_config(&identity, &[version], None), |conn| {
                let Some(request) = conn.request() else { return };
                match request.target.as_str() {
                    "/whole" => conn.send("HTTP/1.1 200 OK\r\n\r\nall of it"),
                    "/cut" => {
                        conn.send("HTTP/1.1 200 OK\r\n\r\nhalf");
                        conn.truncate();
                    }
                    _ => {
                        conn.reply("known");
                        conn.truncate();
                    }
                }
            });
            let gateway = site.start(driver, &[backend.address()], &site.simple(SNI));
            assert_eq!(get(&mut gateway.connect(), "a.test", "/whole").1, "all of it");
            assert_eq!(get(&mut gateway.connect(), "a.test", "/known").1, "known");
            let mut client = gateway.connect();
            client.send("GET /cut HTTP/1.1\r\nHost: a.test\r\n\r\n");
            let broken = client.try_response("GET").unwrap_err();
            assert_eq!(broken.partial.unwrap().content.body, b"half");
            gateway.wait_stderr("closed the connection in the middle of a response");
            assert_eq!(Dump::of(&gateway).sum("responses_cut"), 1);
        }
    }

    /// An upgraded connection, with what both sides say right away.
    fn upgrades(driver) {
        let site = Site::new();
        let backend = TlsBackend::start(site.server(&["b.test"]), |conn| {
            conn.request().unwrap();
            conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nearly");
            while let Ok(bytes) = conn.bytes(4) {
                conn.send(bytes);
            }
        });
        let gateway = site.start(driver, &[backend.address()], &site.simple(SNI));
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nping");
        assert_eq!(client.response("GET").status, 101);
        assert_eq!(client.bytes(9).unwrap(), b"earlyping");
        client.send("pong");
        assert_eq!(client.bytes(4).unwrap(), b"pong");
    }

    /// A handshake that does not end is part of `connect_timeout`.
    fn hanging_handshakes_end(driver) {
        let site = Site::new();
        let silent = Backend::start(|conn| {
            let _ = conn.until_end();
        });
        let pool = ", connection_pool = { tcp = { connect_timeout = \"300ms\" } }";
        let gateway = Gateway::start(driver, &all_to(&[silent.address()], &site.simple(SNI), pool));
        let began = Instant::now();
        let answer = get(&mut gateway.connect(), "a.test", "/");
        assert_eq!(answer, (504, "504 Gateway Timeout: connect_timeout\n".to_owned()));
        assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
        gateway.wait_stderr("no TLS handshake within connect_timeout");
        assert_eq!(Dump::of(&gateway).sum("timeout_connect"), 1);
    }

    /// Nothing of a request was sent where the handshake failed: another endpoint gets it, whatever the method.
    fn another_endpoint_is_tried(driver) {
        let site = Site::new();
        let stranger = Authority::new("stranger");
        let bad = TlsBackend::mirror(Authority::server_config(&stranger.server(&["b.test"]), BOTH, None));
        let plain = Backend::start(|conn| {
            let _ = conn.bytes(1);
        });
        let good = TlsBackend::mirror(site.server(&["b.test"]));
        let endpoints = [bad.address(), plain.address(), good.address()];
        let gateway = site.start(driver, &endpoints, &site.simple(SNI));
        let mut client = gateway.connect();
        for _ in 0..6 {
            client.send("POST /once HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody");
            assert_eq!(client.response("POST").text(), "/once 4 http");
        }
        assert_eq!(Dump::of(&gateway).sum("local_replies"), 0);
    }

    /// A reload with other authorities leaves the old ones' connections alone; one that changes nothing keeps them.
    fn reloads(driver) {
        let site = Site::new();
        let stranger = Authority::new("stranger");
        let backend = TlsBackend::mirror(site.server(&["b.test"]));
        let gateway = site.start(driver, &[backend.address()], &site.simple(SNI));
        let mut client = gateway.connect();
        assert_eq!(get(&mut client, "a.test", "/").0, 200);
        gateway.reload(&all_to(&[backend.address()], &site.simple(SNI), ""), 2);
        assert_eq!(get(&mut client, "a.test", "/").0, 200);
        assert_eq!(backend.below().connections(), 1);
        // The same text, another content of the file.
        site.directory.write("ca.crt", &stranger.certificate);
        gateway.reload(&all_to(&[backend.address()], &site.simple(SNI), ""), 3);
        assert_eq!(get(&mut client, "a.test", "/").0, 502);
        site.directory.write("ca.crt", &site.authority.certificate);
        gateway.reload(&all_to(&[backend.address()], &site.simple(SNI), ""), 4);
        assert_eq!(get(&mut client, "a.test", "/").0, 200);
        assert_eq!(backend.below().connections(), 3);
    }

    /// TCP comes in, TLS goes out; each end is passed on.
    fn tcp_becomes_tls(driver) {
        let site = Site::new();
        for version in [&TLS12, &TLS13] {
            let identity = site.authority.server(&["b.test"]);
            let backend = TlsBackend::start(Authority::server_config(&identity, &[version], None), echo_and_count);
            let gateway = Gateway::start(driver, &tcp_to(&[backend.address()], &site.simple(SNI)));
            let mut client = connect(&gateway);
            // The server speaks first.
            assert_eq!(client.bytes(6).unwrap(), b"hello ");
            let body = vec![b'x'; 1_000_000];
            client.send(&body);
            client.half_close();
            let all = client.until_end().unwrap();
            assert!(all.starts_with(&body) && all.ends_with(b" 1000000 bytes"), "{}", all.len());
            Dump::wait(&gateway, "the end", |dump| dump.sum("relays_open") == 0 && dump.sum("relays_broken") == 0);
        }
    }

    /// An end without a word is a cut for the client, too; and where no endpoint is good it is reset.
    fn tcp_cuts_are_passed_on(driver) {
        let site = Site::new();
        let backend = TlsBackend::start(site.server(&["b.test"]), |conn| {
            conn.send("half");
            conn.truncate();
            let _ = conn.until_end();
        });
        let gateway = Gateway::start(driver, &tcp_to(&[backend.address()], &site.simple(SNI)));
        assert_eq!(connect(&gateway).until_end(), Err(Failure::Reset));
        let gateway = Gateway::start(driver, &tcp_to(&[backend.address()], &site.simple(", sni = \"c.test\"")));
        assert_eq!(connect(&gateway).until_end(), Err(Failure::Reset));
        gateway.wait_stderr("is for another name than");
    }

    /// The PROXY protocol's header comes before the handshake.
    fn headers_precede_tls(driver) {
        let site = Site::new();
        let config = site.server(&["b.test"]);
        let backend = Backend::start(move |conn| {
            let (mut stream, mut line) = (conn.stream(), Vec::new());
            while !line.ends_with(b"\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                line.extend(byte);
            }
            assert!(line.starts_with(b"PROXY TCP4 127.0.0.1 127.0.0.1 "), "{line:?}");
            let (mut stream, handshake) = accept(conn, &config);
            assert_eq!(handshake.error, None);
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        });
        let policy = format!("traffic_policy = {{ proxy_protocol = {{}}, tls = {{ {} }} }}", site.simple(SNI));
        let text = tcp_to(&[], "").split("[[service]]").next().unwrap().to_owned();
        let gateway = Gateway::start(driver, &(text + &config::service("app", &[backend.address()], &policy)));
        let mut client = connect(&gateway);
        client.send("ping");
        assert_eq!(client.bytes(4).unwrap(), b"ping");
    }

    /// TLS ends at the gateway and begins anew behind it; and TLS that passes through is wrapped once more.
    fn tls_on_both_sides(driver) {
        let site = Site::new();
        site.authority.server(&["a.test"]).write(&site.directory, "a");
        let backend = TlsBackend::start(site.server(&["b.test"]), echo_and_count);
        let terms = format!(
            "mode = \"SIMPLE\", {}, {}",
            site.file("server_certificate", "a.crt"),
            site.file("private_key", "a.key")
        );
        let service = config::service(
            "app",
            &[backend.address()],
            &format!("traffic_policy = {{ tls = {{ {} }} }}", site.simple(SNI)),
        );
        let edge = |tls: &str, kind: &str| {
            format!(
                "[[gateway]]\nname = \"web\"\n[[gateway.server]]\nport = 0\nbind = \"127.0.0.1\"\nprotocol = \"TLS\"\n\
                 hosts = [\"a.test\"]\ntls = {{ {tls} }}\n[[virtual_service]]\nname = \"a\"\nhosts = [\"a.test\"]\n\
                 gateways = [\"web\"]\n[[virtual_service.{kind}]\n"
            )
        };
        let route = "route = [{ destination = { host = \"app\" } }]\n";
        let gateway = Gateway::start(driver, &(edge(&terms, "tcp]") + route + &service));
        let trust = site.authority.client_config(BOTH, None);
        let mut client = TlsClient::connect(gateway.address(), &trust, "a.test");
        assert_eq!(client.bytes(6).unwrap(), b"hello ");
        client.send("over two");
        client.half_close();
        assert_eq!(client.until_end().unwrap(), b"over two 8 bytes");

        // The endpoint takes the outer layer off and finds a ClientHello.
        let backend = TlsBackend::start(site.server(&["b.test"]), |conn| {
            assert_eq!(conn.bytes(1).unwrap(), [0x16]);
            conn.send([0x15, 3, 3, 0, 2, 2, 40]);
        });
        let service = config::service(
            "app",
            &[backend.address()],
            &format!("traffic_policy = {{ tls = {{ {} }} }}", site.simple(SNI)),
        );
        let matches = "match = [{ sni_hosts = [\"a.test\"] }]\n";
        let passes = edge("mode = \"PASSTHROUGH\"", "tls]") + matches + route + &service;
        let gateway = Gateway::start(driver, &passes);
        let error = TlsClient::try_connect(gateway.address(), &trust, "a.test").unwrap_err();
        assert!(error.to_string().contains("HandshakeFailure"), "{error}");
    }
}

/// Handshakes given up because the client has gone leave nothing behind.
#[test]
fn clients_that_go_leave_nothing() {
    let site = Site::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let pool = ", connection_pool = { tcp = { connect_timeout = \"300ms\" } }";
    let text = all_to(&[silent.local_addr().unwrap()], &site.simple(SNI), pool);
    let gateway = Gateway::start(crate::support::Driver::Epoll, &text);
    for _ in 0..20 {
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    Dump::wait(&gateway, "the end of all", |dump| {
        dump.sum("upstream_open") == 0 && dump.sum("sessions_open") == 0 && dump.sum("sessions") == 20
    });
}
