//! The last response of a connection is not lost to the reset that unread bytes would cause.

use std::time::{Duration, Instant};

use crate::support::config;
use crate::support::{Backend, DEADLINE, Driver, Gateway};

/// More than socket buffers hold, less than is read and dropped at most.
const BODY_BYTES: usize = 4 << 20;

fn gateway(driver: Driver, backend: &Backend, keys: &str) -> Gateway {
    let text = config::gateway(keys, &["*"])
        + &config::virtual_service("v", "a.test", "route = [{ destination = { host = \"app\" } }]")
        + &config::service("app", &[backend.address()], "");
    Gateway::start(driver, &text)
}

both_drivers! {
    /// Each local reply to a request with a large body is read to its end by a client that sends everything first.
    fn local_replies(driver) {
        let backend = Backend::fixed("ok");
        let gateway = gateway(driver, &backend, "");
        let body = vec![b'x'; BODY_BYTES];
        let length = format!("Content-Length: {BODY_BYTES}");
        for (status, head) in [
            (404, format!("POST / HTTP/1.1\r\nHost: unknown.test\r\n{length}\r\n\r\n")),
            (400, format!("POST /%00 HTTP/1.1\r\nHost: a.test\r\n{length}\r\n\r\n")),
            (400, format!("POST / HTTP/1.1\r\nHost: a.test\r\nX : y\r\n{length}\r\n\r\n")),
            (431, format!("POST / HTTP/1.1\r\nHost: a.test\r\n{}{length}\r\n\r\n", "X: y\r\n".repeat(200))),
            (501, format!("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip\r\n{}\r\n", "\r\n")),
        ] {
            let mut client = gateway.connect();
            client.send(&head);
            client.send(&body);
            let response = client.response("POST");
            assert_eq!(response.status, status, "{head}");
            assert!(response.headers.lists("connection", "close"), "{head}");
            client.assert_closed();
        }
        assert_eq!(backend.bytes(), 0);
    }

    /// So is a backend's early answer, as long as the request is not complete.
    fn early_answers(driver) {
        let backend = Backend::start(|conn| {
            if conn.head().is_some() {
                conn.reply(413, "too much");
                // Reads on, so that only the gateway's behaviour is under test.
                let _ = conn.until_end();
            }
        });
        let gateway = gateway(driver, &backend, "");
        let mut client = gateway.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {BODY_BYTES}\r\n\r\n"));
        client.send(vec![b'x'; BODY_BYTES - 1]);
        let response = client.response("POST");
        assert_eq!((response.status, response.text().as_str()), (413, "too much"));
        client.assert_closed();
    }

    /// The wait is bounded: a client that goes on sending is cut off.
    fn the_wait_is_bounded(driver) {
        let backend = Backend::fixed("ok");
        let gateway = gateway(driver, &backend, "timeouts = { linger = \"300ms\" }");
        let mut client = gateway.connect();
        client.send("POST / HTTP/1.1\r\nHost: unknown.test\r\nContent-Length: 1000000000\r\n\r\n");
        assert_eq!(client.response("POST").status, 404);
        let started = Instant::now();
        while client.try_send(b"x").is_ok() {
            assert!(started.elapsed() < DEADLINE, "still taking bytes");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// After a timer, too: the bytes of a client that was too slow do not destroy the answer that says so.
    fn after_a_timeout(driver) {
        let backend = Backend::start(|conn| {
            let _ = conn.head();
            let _ = conn.until_end();
        });
        let gateway = gateway(driver, &backend, "timeouts = { header = \"200ms\", body_gap = \"200ms\" }");
        for begin in ["GET / HTTP/1.1\r\nHo", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 90\r\n\r\nx"] {
            let mut client = gateway.connect();
            client.send(begin);
            let started = Instant::now();
            while !client.has_input() {
                assert!(started.elapsed() < DEADLINE, "no answer to {begin:?}");
                std::thread::sleep(Duration::from_millis(5));
            }
            // A reset answers the first of them, so a later one fails.
            for _ in 0..5 {
                client.send("late");
                std::thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(client.response("POST").status, 408);
            client.assert_closed();
        }
    }

    /// A small body that is already there does not cost the connection.
    fn small_bodies_are_skipped(driver) {
        let backend = Backend::fixed("ok");
        let gateway = gateway(driver, &backend, "");
        let mut client = gateway.connect();
        client.send(
            "POST / HTTP/1.1\r\nHost: unknown.test\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        );
        assert_eq!(client.response("POST").status, 404);
        assert_eq!(client.response("GET").text(), "ok");
    }
}
