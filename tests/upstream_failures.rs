//! What a client sees when an endpoint fails: another endpoint where that is safe, a 502, 503 or 504 with its reason
//! where it is not, and never a cut response that looks complete.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::pressure::Dump;
use crate::support::config::{self, http_pool, tcp_pool};
use crate::support::{Backend, Client, Driver, Failure, Gateway};

/// An address on which nothing listens; the listener that found it is gone.
fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A listener that lets no connection through: its queue is full, so further SYNs get no answer.
struct Unreachable {
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

impl Unreachable {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            queued.push(stream);
            assert!(queued.len() < 100, "the queue never fills");
        }
        Self { address, _listener: listener, _queued: queued }
    }
}

fn assert_local(client: &mut Client, status: u16, reason: &str, what: &str) {
    let response = client.get("a.test", "/");
    let text = response.text();
    assert!(
        response.status == status && text.ends_with(&format!(": {reason}\n")),
        "{what}: {} {text:?}",
        response.status
    );
}

/// A backend that answers `/` once per connection with these bytes and then closes.
fn answering(bytes: &'static [u8]) -> Backend {
    Backend::start(move |conn| {
        if conn.request().is_some() {
            conn.send(bytes);
        }
    })
}

fn pair(driver: Driver, first: SocketAddr, second: SocketAddr, keys: &str) -> Gateway {
    let mut text = config::gateway("", &["*"]);
    text += &config::virtual_service("v", "*", "route = [{ destination = { host = \"app\" } }]");
    text += &config::service("app", &[first, second], keys);
    Gateway::start(driver, &text)
}

/// Response heads that are none, and the reason code for each.
const MALFORMED: &[(&[u8], &str)] = &[
    (b"this is not HTTP\r\n\r\n", "upstream_bad_status_line"),
    (b"HTTP/1.1 2x0 OK\r\n\r\n", "upstream_bad_status_line"),
    (b"HTTP/1.1 20 OK\r\n\r\n", "upstream_bad_status_line"),
    (b"HTTP/1.1 d05 OK\r\n\r\n", "upstream_bad_status_line"),
    (b"HTTP/2.0 200 OK\r\n\r\n", "upstream_unsupported_version"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "upstream_bad_content_length"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "upstream_bad_content_length"),
    (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "upstream_length_and_chunked",
    ),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "upstream_bad_transfer_encoding"),
    (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "upstream_chunked_in_http10"),
    (b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "upstream_space_before_colon"),
    (b"HTTP/1.1 200 OK\r\nX: y\r\n folded\r\n\r\n", "upstream_obs_fold"),
    (b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", "upstream_nul"),
    (b"HTTP/1.1 200 OK\r\nX: a\nb\r\n\r\n", "upstream_bare_lf"),
    (b"HTTP/1.1 103 Early Hints\r\nContent-Length: 1\r\n\r\nx", "upstream_framed_interim"),
    (b"", "upstream_closed_early"),
    (b"HTTP/1.1 200 O", "upstream_closed_early"),
];

both_drivers! {
    /// A request that fails while an informational head is half with the client gets no answer in the middle of it.
    fn no_answer_inside_a_head(driver) {
        const FIRST: usize = 900_000;
        let backend = Backend::start(|conn| {
            if conn.head().is_some() {
                conn.reply(200, "x".repeat(FIRST));
            }
            if conn.head().is_some() {
                let early = format!("HTTP/1.1 103 E\r\n{}\r\n", format!("X: {}\r\n", "y".repeat(240)).repeat(230));
                for _ in 0..32 {
                    if conn.try_send(early.as_bytes()).is_err() {
                        return;
                    }
                }
                conn.wait_closed();
            }
        });
        let gateway = Gateway::start(driver, &config::single(backend.address(), "", ""));
        let mut client = Client::connect_small(gateway.address(), 2048);
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
        Dump::wait(&gateway, "the second request", |dump| dump.sum("requests") == 2);
        client.send("ZZ\r\n");
        // Reset or not: where a head begins, the head or content before it is whole.
        let all = String::from_utf8(client.remainder()).unwrap();
        for (at, _) in all.match_indices("HTTP/1.1 ").skip(1) {
            let before = &all[at - 20..at];
            assert!(before.ends_with("\r\n\r\n") || before.ends_with("xxxx"), "{before:?}");
        }
    }

    fn connect_refused(driver) {
        let gateway = Gateway::start(driver, &config::single(closed_port(), "", ""));
        let mut client = gateway.connect();
        assert_local(&mut client, 502, "connect_failed", "first");
        assert_local(&mut client, 502, "connect_failed", "on the same connection");
    }

    /// While another endpoint is well, a dead one costs no request anything, a POST included: nothing was sent yet.
    fn a_dead_endpoint_is_skipped(driver) {
        let backend = Backend::echo();
        let gateway = pair(driver, closed_port(), backend.address(), "");
        let mut client = gateway.connect();
        for number in 0..10 {
            let body = format!("{number}");
            assert_eq!(client.post("/", body.as_bytes()).text(), body);
        }
        assert_eq!(backend.requests().len(), 10);
    }

    fn connect_timeout(driver) {
        let dead = Unreachable::new();
        let gateway = Gateway::start(driver, &config::single(dead.address, "", &tcp_pool("connect_timeout = \"300ms\"")));
        assert_local(&mut gateway.connect(), 504, "connect_timeout", "no other endpoint");

        let backend = Backend::fixed("ok");
        let gateway = pair(driver, dead.address, backend.address(), &tcp_pool("connect_timeout = \"300ms\""));
        let mut client = gateway.connect();
        for _ in 0..2 {
            assert_eq!(client.get("a.test", "/").text(), "ok", "the other endpoint");
        }
    }

    fn first_byte_timeout(driver) {
        let backend = Backend::start(|conn| {
            while let Some(request) = conn.request() {
                if request.target == "/half" {
                    conn.send("HTTP/1.1 200 OK\r\nContent-");
                }
                conn.wait_closed();
            }
        });
        let gateway = Gateway::start(driver, &config::single(backend.address(), "", &http_pool("first_byte_timeout = \"300ms\"")));
        let mut client = gateway.connect();
        assert_local(&mut client, 504, "upstream_timeout", "silence");
        let response = client.get("a.test", "/half");
        assert_eq!((response.status, response.text().as_str()), (504, "504 Gateway Timeout: upstream_timeout\n"));
        backend.wait_ended(2);
    }

    /// A response that stops coming is cut, as one that the endpoint cut itself.
    fn response_body_gap(driver) {
        let backend = Backend::start(|conn| {
            if conn.request().is_some() {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
                conn.wait_closed();
            }
        });
        let gateway = Gateway::start(driver, &config::single(backend.address(), "", &http_pool("body_gap_timeout = \"300ms\"")));
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let broken = client.try_response("GET").unwrap_err();
        assert!(matches!(broken.failure, Failure::Eof(4) | Failure::Reset), "{broken:?}");
        backend.wait_ended(1);
    }

    fn malformed_responses(driver) {
        for (bytes, reason) in MALFORMED {
            let backend = answering(bytes);
            let gateway = Gateway::single(driver, &backend);
            let shown = String::from_utf8_lossy(bytes);
            let mut client = gateway.connect();
            assert_local(&mut client, 502, reason, &shown);
            assert_local(&mut client, 502, reason, "the connection stays usable");
            assert_eq!(backend.connections(), 2, "{shown}: not tried again by itself");
        }
    }

    /// A head without end is cut off at a bound.
    fn endless_head(driver) {
        let backend = Backend::start(|conn| {
            if conn.request().is_some() {
                conn.send("HTTP/1.1 200 OK\r\n");
                for _ in 0..100_000 {
                    if conn.try_send(b"X: a fairly long line of a header that never ends\r\n").is_err() {
                        return;
                    }
                }
                panic!("everything was taken");
            }
        });
        let gateway = Gateway::single(driver, &backend);
        assert_eq!(gateway.connect().get("a.test", "/").status, 502);
        backend.wait_ended(1);
    }

    /// A reset before any byte of a response is a 502.
    fn reset_before_a_response(driver) {
        let backend = Backend::start(|conn| {
            if conn.request().is_some() {
                conn.reset();
            }
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        assert_local(&mut client, 502, "upstream_closed_early", "reset");
        assert_eq!(backend.requests().len(), 1, "a fresh connection's failure is not tried again");
    }

    /// A body shorter than announced, cleanly or by a reset: the client can tell that it is not complete.
    fn short_bodies_are_seen_as_such(driver) {
        for reset in [false, true] {
            for (head, body) in [("Content-Length: 10", "abcde"), ("Transfer-Encoding: chunked", "5\r\nabcde\r\n")] {
                let backend = Backend::start(move |conn| {
                    if conn.request().is_some() {
                        conn.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}"));
                        if reset {
                            conn.reset();
                        }
                    }
                });
                let gateway = Gateway::single(driver, &backend);
                let mut client = gateway.connect();
                client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
                let broken = client.try_response("GET").expect_err(head);
                // A reset may overtake what came before it; either way nothing looks complete.
                assert!(matches!(broken.failure, Failure::Eof(_) | Failure::Reset), "{head}: {broken:?}");
                if !reset {
                    assert_eq!(broken.partial.expect("a head").text(), "abcde", "{head}: what came is passed on");
                }
            }
        }
    }

    /// To an HTTP/1.0 client only a reset can say that a close-delimited body is not complete.
    fn short_bodies_for_http_1_0(driver) {
        let backend = answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n");
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.0\r\n\r\n");
        let broken = client.try_response("GET").expect_err("a cut body looked complete");
        assert_eq!(broken.failure, Failure::Reset);
    }

    /// Malformed chunks in a response cut it.
    fn malformed_chunks(driver) {
        let backend = answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n");
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let broken = client.try_response("GET").expect_err("a malformed body looked complete");
        assert_eq!(broken.partial.expect("a head").text(), "abc");
    }

    /// A pooled connection that the backend closed meanwhile costs nothing, whatever the method.
    fn closed_while_idle(driver) {
        let backend = Backend::start(|conn| {
            if let Some(request) = conn.request() {
                conn.reply(200, &request.content.body);
            }
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        for number in 1..6 {
            assert_eq!(client.post("/", b"x").text(), "x");
            backend.wait_ends_seen(number);
        }
        assert_eq!(backend.requests().len(), 5);
    }

    /// A pooled connection that dies under a request before any byte of a response: an idempotent request goes out
    /// again on a fresh connection, another one does not.
    fn stale_pooled_connections(driver) {
        let backend = Backend::start(|conn| {
            let mut served = 0;
            while let Some(request) = conn.request() {
                // Every connection but the last ones is good for one request and takes a second without an answer.
                if served == 1 && request.target != "/warm" {
                    return;
                }
                served += 1;
                conn.reply(200, format!("{} on {}", request.method, conn.number));
            }
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        assert_eq!(client.get("a.test", "/warm").text(), "GET on 0");
        assert_eq!(client.get("a.test", "/x").text(), "GET on 1", "sent again on a fresh connection");
        client.send("PUT /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(client.response("PUT").text(), "PUT on 2", "with its body");
        let before = backend.requests().len();
        let response = client.post("/x", b"abc");
        assert_eq!((response.status, response.text().as_str()), (502, "502 Bad Gateway: upstream_closed_early\n"));
        assert_eq!(backend.requests().len(), before + 1, "a POST goes out once");
    }
}
