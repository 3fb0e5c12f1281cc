//! Upgraded connections become byte tunnels (RFC 9110 section 7.8).

use crate::support::config;
use crate::support::rng::{Rng, checksum};
use crate::support::{Backend, Conn, Failure, Gateway};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";

/// Switches and sends every byte back.
fn echo_tunnel(conn: &mut Conn) {
    let Some(request) = conn.head() else { return };
    assert_eq!(request.headers.get("upgrade"), Some("echo"));
    assert!(request.headers.lists("connection", "upgrade"));
    conn.send(SWITCH);
    while let Ok(byte) = conn.bytes(1) {
        conn.send(byte);
    }
}

both_drivers! {
    /// The head of the switch arrives, then bytes go both ways as they come.
    fn tunnel(driver) {
        let backend = Backend::start(echo_tunnel);
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send(ASK);
        let switch = client.response("GET");
        assert_eq!((switch.status, switch.headers.get("upgrade")), (101, Some("echo")));
        assert!(switch.headers.lists("connection", "upgrade"));
        for text in ["ping", "\r\n\r\n", "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n"] {
            client.send(text);
            assert_eq!(client.bytes(text.len()).unwrap(), text.as_bytes());
        }
    }

    /// What either side sends right behind its head belongs to the tunnel.
    fn early_bytes(driver) {
        let backend = Backend::start(|conn| {
            conn.head();
            conn.send(format!("{SWITCH}from the backend"));
            assert_eq!(conn.bytes(15).unwrap(), b"from the client");
            conn.wait_closed();
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send(format!("{ASK}from the client"));
        assert_eq!(client.response("GET").status, 101);
        assert_eq!(client.bytes(16).unwrap(), b"from the backend");
        drop(client);
        backend.wait_ended(1);
    }

    /// The end of one direction is passed on; the other goes on.
    fn half_close_by_the_client(driver) {
        let backend = Backend::start(|conn| {
            conn.head();
            conn.send(SWITCH);
            let all = conn.until_end().unwrap();
            conn.send(format!("{} bytes", all.len()));
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send(ASK);
        assert_eq!(client.response("GET").status, 101);
        client.send("twelve bytes");
        client.half_close();
        assert_eq!(client.until_end().unwrap(), b"12 bytes");
    }

    /// The same from the other side.
    fn half_close_by_the_backend(driver) {
        let backend = Backend::start(|conn| {
            conn.head();
            conn.send(format!("{SWITCH}last words"));
            conn.half_close();
            assert_eq!(conn.until_end().unwrap(), b"heard");
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send(ASK);
        assert_eq!(client.response("GET").status, 101);
        assert_eq!(client.until_end().unwrap(), b"last words");
        client.send("heard");
        client.half_close();
        backend.wait_ended(1);
    }

    /// 4 MiB both ways at once arrive unchanged.
    fn bulk(driver) {
        let backend = Backend::start(|conn| {
            conn.head();
            conn.send(SWITCH);
            for _ in 0..64 {
                let piece = conn.bytes(64 << 10).unwrap();
                conn.send(piece);
            }
        });
        let gateway = Gateway::single(driver, &backend);
        let body = Rng::from_env().bytes(4 << 20);
        let mut client = gateway.connect();
        client.send(ASK);
        assert_eq!(client.response("GET").status, 101);
        let mut back = Vec::new();
        for piece in body.chunks(64 << 10) {
            client.send(piece);
            back.extend(client.bytes(piece.len()).unwrap());
        }
        assert_eq!(checksum(&back), checksum(&body));
        assert_eq!(client.until_end().unwrap(), b"");
    }

    /// A switch that nobody asked for is a faulty response.
    fn unasked_switch(driver) {
        let backend = Backend::start(|conn| {
            conn.request();
            conn.send(SWITCH);
            conn.wait_closed();
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        let response = client.get("a.test", "/");
        assert_eq!((response.status, response.text().as_str()), (502, "502 Bad Gateway: unasked_upgrade\n"));
        assert_eq!(client.get("a.test", "/").status, 502, "the connection stays usable");
    }

    /// A backend may decline; then it is a request like any other.
    fn declined(driver) {
        let backend = Backend::fixed("plain");
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send(ASK);
        assert_eq!(client.response("GET").text(), "plain");
        assert_eq!(client.get("a.test", "/").text(), "plain");
        assert_eq!(backend.connections(), 1);
    }

    /// Without `Connection: upgrade`, with a body, from HTTP/1.0, or to h2c, nothing is offered upstream.
    fn not_offered(driver) {
        let backend = Backend::fixed("plain");
        let gateway = Gateway::single(driver, &backend);
        let asks = [
            "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: echo\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: echo\r\nContent-Length: 2\r\n\r\nhi",
            "GET / HTTP/1.0\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        ];
        for ask in asks {
            let mut client = gateway.connect();
            client.send(ask);
            assert_eq!(client.response("GET").text(), "plain", "{ask:?}");
        }
        for request in backend.requests() {
            assert!(!request.headers.has("upgrade") && !request.headers.lists("connection", "upgrade"), "{request:?}");
            assert!(!request.headers.has("http2-settings"));
        }
    }

    /// A tunnel without traffic ends.
    fn idle_tunnel_ends(driver) {
        let backend = Backend::start(echo_tunnel);
        let keys = "timeouts = { tunnel_idle = \"300ms\" }";
        let gateway = Gateway::start(driver, &config::single(backend.address(), keys, ""));
        let mut client = gateway.connect();
        client.send(ASK);
        assert_eq!(client.response("GET").status, 101);
        client.send("x");
        assert_eq!(client.bytes(1).unwrap(), b"x");
        assert_eq!(client.until_end(), Err(Failure::Reset));
        backend.wait_ended(1);
    }
}
