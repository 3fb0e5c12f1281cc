//! Every timer fires when its time is up, not before and not long after, with the right answer, and is counted under
//! its own name.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::pressure::{Dump, assert_takes};
use crate::support::config::{self, http_pool, tcp_pool};
use crate::support::{Backend, Client, Conn, Driver, Failure, Gate, Gateway};

/// The time that every timer here has.
const TIMEOUT: Duration = Duration::from_millis(400);

/// How far apart those arrivals are that start a timer anew: a busy host may be late by three times as much.
const STEP: Duration = Duration::from_millis(100);

const COUNTERS: [&str; 9] = [
    "timeout_header",
    "timeout_body_gap",
    "timeout_write_gap",
    "timeout_keep_alive",
    "timeout_connect",
    "timeout_first_byte",
    "timeout_upstream_body_gap",
    "timeout_tunnel_idle",
    "timeout_linger",
];

/// A gateway with one short timer on the client's side.
fn client_timer(driver: Driver, backend: &Backend, key: &str) -> Gateway {
    let keys = format!("timeouts = {{ {key} = \"400ms\" }}");
    Gateway::start(driver, &config::single(backend.address(), &keys, ""))
}

fn upstream_timer(driver: Driver, address: SocketAddr, keys: &str) -> Gateway {
    Gateway::start(driver, &config::single(address, "", keys))
}

/// Runs `attempt`, which returns how long the timer took, and asserts that it alone was counted, once each time.
#[track_caller]
fn assert_timer(gateway: &Gateway, counter: &str, mut attempt: impl FnMut() -> Duration) {
    let mut attempts = 0;
    assert_takes(TIMEOUT, || {
        attempts += 1;
        attempt()
    });
    let dump = Dump::wait(gateway, counter, |dump| dump.sum(counter) >= attempts);
    for name in COUNTERS {
        let expected = if name == counter { attempts } else { 0 };
        assert_eq!(dump.sum(name), expected, "{name} after {attempts} of {counter}: {dump:?}");
    }
    Dump::wait(gateway, "no session left", |dump| dump.sum("buffers_in_use") == 0);
}

/// Asserts an answer of the gateway itself.
#[track_caller]
fn assert_local(client: &mut Client, method: &str, status: u16, reason: &str) {
    let response = client.response(method);
    assert!(
        response.status == status && response.text().ends_with(&format!(": {reason}\n")),
        "{} {:?}",
        response.status,
        response.text()
    );
}

/// A backend that answers in its own time and is only asked on connections that live.
fn tunnel_backend() -> Backend {
    Backend::start(|conn: &mut Conn| {
        if conn.request().is_some() {
            conn.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            );
            while let Ok(bytes) = conn.bytes(4) {
                conn.send(bytes);
            }
        }
    })
}

both_drivers! {
    /// From the head's first byte on, however many follow.
    fn header(driver) {
        let backend = Backend::fixed("ok");
        let gateway = client_timer(driver, &backend, "header");
        assert_timer(&gateway, "timeout_header", || {
            let mut client = gateway.connect();
            let started = Instant::now();
            client.send("GET / HTTP/1.1\r\n");
            while !client.has_input() {
                assert!(started.elapsed() < Duration::from_secs(10));
                thread::sleep(Duration::from_millis(20));
                if client.try_send(b"A: b\r\n").is_err() {
                    break;
                }
            }
            let took = started.elapsed();
            assert_local(&mut client, "GET", 408, "header_timeout");
            took
        });
        assert_eq!(backend.connections(), 0);
    }

    /// A client that connects and says nothing gets no answer, only an end.
    fn header_of_a_silent_client(driver) {
        let backend = Backend::fixed("ok");
        let gateway = client_timer(driver, &backend, "header");
        assert_timer(&gateway, "timeout_header", || {
            let started = Instant::now();
            gateway.connect().assert_closed();
            started.elapsed()
        });
    }

    /// The second head of a connection has its own time.
    fn header_of_a_later_request(driver) {
        let backend = Backend::fixed("ok");
        let gateway = client_timer(driver, &backend, "header");
        assert_timer(&gateway, "timeout_header", || {
            let mut client = gateway.connect();
            assert_eq!(client.get("a.test", "/").text(), "ok");
            thread::sleep(Duration::from_millis(300));
            let started = Instant::now();
            client.send("GET / HT");
            assert_local(&mut client, "GET", 408, "header_timeout");
            started.elapsed()
        });
    }

    /// Timers that wait for a request do not run on while its exchange takes longer than they do.
    fn waiting_timers_stop_with_the_request(driver) {
        for key in ["header", "keep_alive", "body_gap"] {
            let backend = Backend::start(|conn| {
                while conn.request().is_some() {
                    thread::sleep(2 * TIMEOUT);
                    conn.reply(200, "slow");
                }
            });
            let gateway = client_timer(driver, &backend, key);
            let mut client = gateway.connect();
            for request in 0..3 {
                let response = if request == 1 { client.post("/", b"body") } else { client.get("a.test", "/") };
                assert_eq!(response.text(), "slow", "{key}, request {request}");
                // The second time the connection has given its buffers back before it asks again.
                if request == 1 {
                    thread::sleep(TIMEOUT / 2);
                }
            }
            let dump = Dump::of(&gateway);
            assert!(COUNTERS.iter().all(|name| dump.sum(name) == 0), "{key}: {dump:?}");
        }
    }

    fn body_gap(driver) {
        let backend = Backend::start(|conn| {
            if let Some(mut request) = conn.head() {
                assert!(conn.content(&mut request).is_err());
            }
        });
        let gateway = client_timer(driver, &backend, "body_gap");
        assert_timer(&gateway, "timeout_body_gap", || {
            let mut client = gateway.connect();
            client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n");
            // Each arrival starts it anew.
            for _ in 0..6 {
                thread::sleep(STEP);
                client.send("x");
            }
            let started = Instant::now();
            assert_local(&mut client, "POST", 408, "body_timeout");
            started.elapsed()
        });
    }

    /// A client that does not read is reset: what the kernel still held for it is gone, and nothing looks whole, not
    /// even a body that ends with the connection.
    fn write_gap(driver) {
        let backend = Backend::start(|conn| {
            if conn.request().is_some() {
                conn.send("HTTP/1.1 200 OK\r\n\r\n");
                let piece = vec![0; 1 << 20];
                while conn.try_send(&piece).is_ok() {}
            }
        });
        let gateway = client_timer(driver, &backend, "write_gap");
        let mut number = 0;
        assert_timer(&gateway, "timeout_write_gap", || {
            number += 1;
            let mut client = Client::connect_small(gateway.address(), 4096);
            let started = Instant::now();
            client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
            backend.wait_ended(number);
            let took = started.elapsed();
            assert_eq!(client.until_end(), Err(Failure::Reset));
            took
        });
    }

    /// The gap is measured from one advance to the next: a slow reader that reads is served to the end.
    fn write_gap_of_a_slow_reader(driver) {
        const BODY: usize = 6 << 20;
        let backend = Backend::start(|conn| {
            if conn.request().is_some() {
                conn.reply(200, vec![7; BODY]);
            }
        });
        let gateway = client_timer(driver, &backend, "write_gap");
        let mut client = Client::connect_small(gateway.address(), 256 * 1024);
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let mut response = client.head("GET").unwrap();
        let started = Instant::now();
        let mut received = 0;
        while received < BODY {
            let piece = (BODY - received).min(BODY / 12);
            received += client.bytes(piece).unwrap().len();
            thread::sleep(Duration::from_millis(100));
        }
        assert!(started.elapsed() > 2 * TIMEOUT);
        response.content.body.clear();
        assert_eq!(Dump::of(&gateway).sum("timeout_write_gap"), 0);
    }

    fn keep_alive(driver) {
        let backend = Backend::fixed("ok");
        let gateway = client_timer(driver, &backend, "keep_alive");
        assert_timer(&gateway, "timeout_keep_alive", || {
            let mut client = gateway.connect();
            assert_eq!(client.get("a.test", "/").text(), "ok");
            thread::sleep(STEP);
            assert_eq!(client.get("a.test", "/").text(), "ok");
            let started = Instant::now();
            client.assert_closed();
            started.elapsed()
        });
    }

    fn connect(driver) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        // A full queue lets no further handshake end.
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            queued.push(stream);
            assert!(queued.len() < 100, "the queue never fills");
        }
        let gateway = upstream_timer(driver, address, &tcp_pool("connect_timeout = \"400ms\""));
        assert_timer(&gateway, "timeout_connect", || {
            let mut client = gateway.connect();
            let started = Instant::now();
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            assert_local(&mut client, "GET", 504, "connect_timeout");
            started.elapsed()
        });
    }

    /// From the request's last byte on, with or without a body, in the middle of a head or before it; interim
    /// responses do not answer.
    fn first_byte(driver) {
        for (request, begin) in [
            ("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", ""),
            ("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody", ""),
            ("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 200 OK\r\nConte"),
            ("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n"),
        ] {
            let backend = Backend::start(move |conn| {
                if conn.request().is_some() {
                    conn.send(begin);
                    conn.wait_closed();
                }
            });
            let keys = http_pool("first_byte_timeout = \"400ms\"");
            let gateway = upstream_timer(driver, backend.address(), &keys);
            assert_timer(&gateway, "timeout_first_byte", || {
                let mut client = gateway.connect();
                let started = Instant::now();
                client.send(request);
                if begin.contains("103") {
                    assert_eq!(client.head("GET").unwrap().status, 103);
                }
                assert_local(&mut client, "GET", 504, "upstream_timeout");
                started.elapsed()
            });
        }
    }

    /// A body that still comes keeps the first byte's timer from starting.
    fn first_byte_after_a_slow_body(driver) {
        let backend = Backend::start(|conn| {
            while let Some(request) = conn.request() {
                conn.reply(200, &request.content.body);
            }
        });
        let gateway = upstream_timer(driver, backend.address(), &http_pool("first_byte_timeout = \"400ms\""));
        let mut client = gateway.connect();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6\r\n\r\n");
        for _ in 0..6 {
            thread::sleep(Duration::from_millis(150));
            client.send("x");
        }
        assert_eq!(client.response("POST").text(), "xxxxxx");
    }

    /// It ends with the head: a long response whose endpoint is always ready may take its reader longer.
    fn first_byte_and_a_slow_reader(driver) {
        const BYTES: usize = 32 << 20;
        // In one piece: the gateway is to find more of it whenever it looks. Made before the request: on a busy host
        // that alone takes longer than the timer.
        let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n").into_bytes();
        response.resize(response.len() + BYTES, b'x');
        let backend = Backend::start(move |conn| {
            if conn.request().is_some() {
                conn.send(&response);
                conn.wait_closed();
            }
        });
        let gateway = upstream_timer(driver, backend.address(), &http_pool("first_byte_timeout = \"400ms\""));
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        // Past the timer, while the sockets on the way are full.
        thread::sleep(2 * TIMEOUT);
        assert_eq!(client.response("GET").content.body.len(), BYTES);
        assert_eq!(Dump::of(&gateway).sum("responses_cut"), 0);
    }

    fn upstream_body_gap(driver) {
        let backend = Backend::start(|conn| {
            if conn.request().is_some() {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
                for _ in 0..6 {
                    thread::sleep(STEP);
                    conn.send("x");
                }
                conn.wait_closed();
            }
        });
        let gateway = upstream_timer(driver, backend.address(), &http_pool("body_gap_timeout = \"400ms\""));
        assert_timer(&gateway, "timeout_upstream_body_gap", || {
            let mut client = gateway.connect();
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            assert_eq!(client.head("GET").unwrap().status, 200);
            assert_eq!(client.bytes(6).unwrap(), b"xxxxxx");
            let started = Instant::now();
            assert!(matches!(client.bytes(1), Err(Failure::Eof(0) | Failure::Reset)));
            started.elapsed()
        });
    }

    /// The same timer bounds an endpoint that does not read the request's body.
    fn upstream_body_gap_of_the_request(driver) {
        let answered = Gate::new();
        let backend = Backend::start({
            let answered = answered.clone();
            move |conn| {
                if conn.head().is_some() {
                    // Reads nothing more and stays: only the timer ends the exchange.
                    answered.wait();
                }
            }
        });
        let gateway = upstream_timer(driver, backend.address(), &http_pool("body_gap_timeout = \"400ms\""));
        let mut client = gateway.connect();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000000\r\n\r\n");
        let body = vec![b'x'; 64 << 20];
        let sent = client.send_until_stalled(&body, TIMEOUT / 3);
        assert!(sent < body.len());
        let response = client.response("POST");
        answered.open();
        assert_eq!(response.text(), "504 Gateway Timeout: upstream_timeout\n");
        Dump::wait(&gateway, "its counter", |dump| dump.sum("timeout_upstream_body_gap") == 1);
    }

    fn tunnel_idle(driver) {
        let backend = tunnel_backend();
        let gateway = client_timer(driver, &backend, "tunnel_idle");
        assert_timer(&gateway, "timeout_tunnel_idle", || {
            let mut tunnel = gateway.connect();
            tunnel.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
            assert_eq!(tunnel.response("GET").status, 101);
            for _ in 0..6 {
                thread::sleep(STEP);
                tunnel.send("ping");
                assert_eq!(tunnel.bytes(4).as_deref(), Ok(&b"ping"[..]));
            }
            let started = Instant::now();
            assert_eq!(tunnel.until_end(), Err(Failure::Reset), "a cut must not look like an end");
            started.elapsed()
        });
    }

    /// After its last response a client may send on for that long, then it is reset.
    fn linger(driver) {
        let backend = Backend::fixed("ok");
        let keys = "timeouts = { linger = \"400ms\" }";
        let text = config::gateway(keys, &["*"])
            + &config::virtual_service("v", "a.test", "route = [{ destination = { host = \"app\" } }]")
            + &config::service("app", &[backend.address()], "");
        let gateway = Gateway::start(driver, &text);
        assert_timer(&gateway, "timeout_linger", || {
            let mut client = gateway.connect();
            client.send("POST / HTTP/1.1\r\nHost: unknown.test\r\nContent-Length: 1000000000\r\n\r\n");
            assert_local(&mut client, "POST", 404, "no_route");
            let started = Instant::now();
            while client.try_send(b"x").is_ok() {
                assert!(started.elapsed() < Duration::from_secs(10), "still taking bytes");
                thread::sleep(Duration::from_millis(5));
            }
            started.elapsed()
        });
    }
}
