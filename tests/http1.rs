//! Messages and connections of HTTP/1.x: persistence, pipelining, old versions, responses without content, interim
//! responses (RFC 9110 sections 10.1.1 and 15.2, RFC 9112 section 9).

use crate::support::rng::Rng;
use crate::support::wire::Framing;
use crate::support::{Backend, Conn, Gate, Gateway};

both_drivers! {
    /// One client connection and one upstream connection carry all requests.
    fn keep_alive(driver) {
        let backend = Backend::echo();
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        for number in 0..20 {
            let body = format!("request {number}");
            let response = client.post("/", body.as_bytes());
            assert_eq!((response.status, response.text()), (200, body));
            assert!(!response.headers.lists("connection", "close"));
        }
        assert_eq!((backend.requests().len(), backend.connections()), (20, 1));
    }

    /// `Connection: close` ends the connection after the response.
    fn close_is_honoured(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        let response = client.response("GET");
        assert_eq!(response.text(), "ok");
        assert!(response.headers.lists("connection", "close"));
        client.assert_closed();
    }

    /// The client's wish to close concerns its own connection: the upstream one stays in the pool.
    fn close_does_not_reach_the_pool(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::single(driver, &backend);
        for _ in 0..3 {
            let mut client = gateway.connect();
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
            assert_eq!(client.response("GET").status, 200);
            client.assert_closed();
        }
        assert_eq!(backend.connections(), 1);
    }

    /// Responses come in the order of the requests, whatever their sizes and however the bytes are split.
    fn pipelining_keeps_the_order(driver) {
        let backend = Backend::echo();
        let gateway = Gateway::single(driver, &backend);
        let mut rng = Rng::from_env();
        let bodies: Vec<Vec<u8>> = (0..60).map(|_| { let size = rng.below(9_000); rng.bytes(size) }).collect();
        let mut bytes = Vec::new();
        for (number, body) in bodies.iter().enumerate() {
            if rng.below(2) == 0 {
                let head = format!("PUT /{number} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len());
                bytes.extend_from_slice(head.as_bytes());
                bytes.extend_from_slice(body);
            } else {
                bytes.extend_from_slice(
                    format!("PUT /{number} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes(),
                );
                for piece in rng.pieces(body, 3_000) {
                    bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    bytes.extend_from_slice(piece);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
        }
        let mut client = gateway.connect();
        client.send_pieces(rng.pieces(&bytes, 40_000));
        for (number, body) in bodies.iter().enumerate() {
            assert!(client.response("PUT").content.body == *body, "response {number}");
        }
        let targets: Vec<String> = backend.requests().into_iter().map(|request| request.target).collect();
        assert_eq!(targets, (0..60).map(|number| format!("/{number}")).collect::<Vec<_>>());
    }

    /// A request may be split at any byte.
    fn split_at_every_byte(driver) {
        let backend = Backend::echo();
        let gateway = Gateway::single(driver, &backend);
        let request = "POST /p?q HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: v\r\n\r\n";
        let mut client = gateway.connect();
        for at in 1..request.len() {
            client.send_pieces([&request.as_bytes()[..at], &request.as_bytes()[at..]]);
            assert_eq!(client.response("POST").text(), "abc", "split at {at}");
        }
        client.send_pieces(request.as_bytes().chunks(1));
        assert_eq!(client.response("POST").text(), "abc");
    }

    /// A response may be split at any byte.
    fn upstream_split_at_every_byte(driver) {
        const RESPONSE: &str =
            "HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: v\r\n\r\n";
        let backend = Backend::start(|conn| {
            while let Some(request) = conn.request() {
                let at: usize = request.target[1..].parse().unwrap();
                conn.send_pieces([&RESPONSE.as_bytes()[..at], &RESPONSE.as_bytes()[at..]]);
            }
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        for at in 1..RESPONSE.len() {
            let response = client.get("a.test", &format!("/{at}"));
            assert_eq!((response.text().as_str(), response.headers.get("x-a")), ("abc", Some("b")), "split at {at}");
        }
        assert_eq!(backend.connections(), 1);
    }

    /// HTTP/1.0: no `Host` needed, no chunks, closed unless the client asks otherwise.
    fn http_1_0(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send("GET /old HTTP/1.0\r\n\r\n");
        assert_eq!(client.response("GET").text(), "ok");
        client.assert_closed();
        assert_eq!(backend.only_request().version, 1, "upstream it is HTTP/1.1");

        let mut client = gateway.connect();
        for _ in 0..3 {
            client.send("GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
            let response = client.response("GET");
            assert!(response.headers.lists("connection", "keep-alive"), "{response:?}");
            assert_eq!(response.text(), "ok");
        }
    }

    /// A 1.1 backend's chunks become a close-delimited body for an HTTP/1.0 client.
    fn http_1_0_gets_no_chunks(driver) {
        let backend = Backend::start(|conn| {
            while conn.request().is_some() {
                conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n");
            }
        });
        let gateway = Gateway::single(driver, &backend);
        for connection in ["", "Connection: keep-alive\r\n"] {
            let mut client = gateway.connect();
            client.send(format!("GET / HTTP/1.0\r\n{connection}\r\n"));
            let response = client.response("GET");
            assert_eq!((response.framing, response.text().as_str()), (Framing::Close, "abcde"));
            assert!(!response.headers.has("transfer-encoding") && !response.headers.has("trailer"));
        }
    }

    /// HEAD, 204 and 304 have no content whatever their fields say, and the connection stays usable.
    fn responses_without_content(driver) {
        let backend = Backend::start(|conn| {
            while let Some(request) = conn.request() {
                match request.target.as_str() {
                    "/204" => conn.send("HTTP/1.1 204 No Content\r\n\r\n"),
                    "/304" => conn.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\n"),
                    "/chunked" => conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
                    _ => conn.send("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"),
                }
            }
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        for (method, path, status, length) in [
            ("HEAD", "/", 200, Some("12345")),
            ("GET", "/204", 204, None),
            ("HEAD", "/chunked", 200, None),
            ("GET", "/304", 304, Some("99")),
            ("HEAD", "/", 200, Some("12345")),
        ] {
            client.send(format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
            let response = client.response(method);
            assert_eq!((response.status, response.headers.get("content-length")), (status, length), "{method} {path}");
        }
        assert_eq!(backend.connections(), 1);
    }

    /// A local reply to HEAD has no content either.
    fn local_reply_to_head(driver) {
        let backend = Backend::fixed("ok");
        let config = crate::support::config::single(backend.address(), "", "").replace("hosts = [\"*\"]\ngateways", "hosts = [\"a.test\"]\ngateways");
        let gateway = Gateway::start(driver, &config);
        let mut client = gateway.connect();
        client.send("HEAD / HTTP/1.1\r\nHost: unknown.test\r\n\r\n");
        assert_eq!(client.response("HEAD").status, 404);
        assert_eq!(client.get("a.test", "/").text(), "ok");
    }

    /// Interim responses reach an HTTP/1.1 client as they come, and never an HTTP/1.0 one.
    fn interim_responses(driver) {
        let gate = Gate::new();
        let backend = Backend::start({ let gate = gate.clone(); move |conn| early_hints(conn, &gate) });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        for link in ["</a>", "</b>"] {
            let hint = client.response("GET");
            assert_eq!((hint.status, hint.headers.get("link")), (103, Some(link)));
        }
        // Both came before the final response even existed.
        gate.open();
        assert_eq!(client.response("GET").text(), "done");

        let mut client = gateway.connect();
        client.send("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(client.response("GET").text(), "done");
    }

    /// `Expect: 100-continue` goes upstream; the body follows once the backend asks for it.
    fn expect_continue(driver) {
        let backend = Backend::start(|conn| {
            let mut request = conn.head().unwrap();
            assert_eq!(request.headers.get("expect"), Some("100-continue"));
            conn.send("HTTP/1.1 100 Continue\r\n\r\n");
            conn.content(&mut request).unwrap();
            conn.reply(200, &request.content.body);
            conn.wait_closed();
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.response("PUT").status, 100);
        client.send("hello");
        let response = client.response("PUT");
        assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    }

    /// A backend that does not want the body answers at once; the client never has to send it.
    fn expect_continue_refused(driver) {
        let backend = Backend::start(|conn| {
            while conn.head().is_some() {
                conn.reply(403, "no");
            }
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        let response = client.response("PUT");
        assert_eq!((response.status, response.text().as_str()), (403, "no"));
        // Neither side can tell whether the body follows, so this connection carries nothing more.
        assert!(response.headers.lists("connection", "close"), "{response:?}");
        client.assert_closed();
    }

    /// Other methods pass as they are, `OPTIONS *` included.
    fn methods_pass(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        let requests = [("DELETE", "/x"), ("OPTIONS", "*"), ("PATCH", "/x"), ("PROPFIND", "/x"), ("M-SEARCH", "/x")];
        for (method, target) in requests {
            client.send(format!("{method} {target} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
            assert_eq!(client.response(method).text(), "ok", "{method}");
        }
        let seen: Vec<_> = backend.requests().into_iter().map(|r| (r.method, r.target)).collect();
        assert_eq!(seen, requests.map(|(method, target)| (method.to_owned(), target.to_owned())));
    }
}

fn early_hints(conn: &mut Conn, gate: &Gate) {
    while conn.request().is_some() {
        conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        conn.send("HTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n");
        gate.wait();
        conn.reply(200, "done");
    }
}
