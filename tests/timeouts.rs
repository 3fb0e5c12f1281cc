//! Timers on the client's side: a slow or silent client is told so where it can be, and let go.

use crate::support::config;
use crate::support::{Backend, Driver, Failure, Gateway};

fn gateway(driver: Driver, backend: &Backend, timeouts: &str) -> Gateway {
    Gateway::start(driver, &config::single(backend.address(), &format!("timeouts = {{ {timeouts} }}"), ""))
}

both_drivers! {
    /// A head that does not come to its end gets 408, also when its bytes trickle in.
    fn slow_head(driver) {
        let backend = Backend::fixed("ok");
        let gateway = gateway(driver, &backend, "header = \"300ms\"");
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.te");
        let response = client.response("GET");
        assert_eq!((response.status, response.text().as_str()), (408, "408 Request Timeout: header_timeout\n"));
        client.assert_closed();
        // The timer runs from the head's first byte: more bytes do not extend it.
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\n");
        while client.try_send(b"A: b\r\n").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(50));
            if client.has_input() {
                break;
            }
        }
        assert_eq!(client.response("GET").status, 408);
        assert_eq!(backend.bytes(), 0);
    }

    /// A connection that never says anything is closed without a word.
    fn silent_connection(driver) {
        let backend = Backend::fixed("ok");
        let gateway = gateway(driver, &backend, "header = \"300ms\"");
        gateway.connect().assert_closed();
    }

    /// So is one that stays idle after a response.
    fn idle_connection(driver) {
        let backend = Backend::fixed("ok");
        let gateway = gateway(driver, &backend, "keep_alive = \"300ms\"");
        let mut client = gateway.connect();
        assert_eq!(client.get("a.test", "/").text(), "ok");
        client.assert_closed();
    }

    /// A body that stops coming gets 408, and the backend no request that looks complete.
    fn stalled_body(driver) {
        let backend = Backend::start(|conn| {
            if let Some(mut request) = conn.head() {
                assert!(conn.content(&mut request).is_err());
            }
        });
        let gateway = gateway(driver, &backend, "body_gap = \"300ms\"");
        for (number, head) in ["Content-Length: 10", "Transfer-Encoding: chunked"].iter().enumerate() {
            let mut client = gateway.connect();
            client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\n{head}\r\n\r\n3\r\nab"));
            let response = client.response("POST");
            assert_eq!((response.status, response.text().as_str()), (408, "408 Request Timeout: body_timeout\n"));
            client.assert_closed();
            backend.wait_ended(number + 1);
        }
    }

    /// A client that does not read its response is reset in the end; the backend's connection goes with it.
    fn stalled_reader(driver) {
        let backend = Backend::start(|conn| {
            if conn.request().is_some() {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
                let piece = vec![0; 1 << 20];
                for _ in 0..95 {
                    if conn.try_send(&piece).is_err() {
                        return;
                    }
                }
                panic!("everything was taken");
            }
        });
        let gateway = gateway(driver, &backend, "write_gap = \"300ms\"");
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        backend.wait_ended(1);
        let mut response = client.head("GET").unwrap();
        assert!(matches!(client.content(&mut response), Err(Failure::Eof(_) | Failure::Reset)));
    }

    /// After so many requests the connection ends, announced in the last response.
    fn requests_per_connection(driver) {
        let backend = Backend::fixed("ok");
        let keys = "limits = { requests_per_connection_max = 3 }";
        let gateway = Gateway::start(driver, &config::single(backend.address(), keys, ""));
        let mut client = gateway.connect();
        for last in [false, false, true] {
            assert_eq!(client.get("a.test", "/").headers.lists("connection", "close"), last);
        }
        client.assert_closed();
    }
}
