//! Content in both directions: framing, trailers, size, early responses, back-pressure (RFC 9112 sections 6 and 7).

use std::time::Duration;

use crate::support::rng::{Rng, checksum};
use crate::support::sync::Watched;
use crate::support::wire::{Framing, Request};
use crate::support::{Backend, Client, Conn, Gate, Gateway};

/// More than all socket buffers between the two ends can hold.
const STALL_BYTES: usize = 64 << 20;

/// Far longer than a transfer on this host pauses, far shorter than any timeout of the gateway.
const STALL: Duration = Duration::from_secs(1);

fn send_chunked(rng: &mut Rng, body: &[u8], mut send: impl FnMut(&[u8])) {
    for piece in rng.pieces(body, 70_000) {
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        send(&chunk);
    }
    send(b"0\r\n\r\n");
}

both_drivers! {
    /// Trailers pass in both directions, with the `Trailer` fields that announce them.
    fn trailers(driver) {
        let backend = Backend::start(|conn| {
            while conn.request().is_some() {
                conn.send("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n");
            }
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send(
            "POST / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-In\r\n\
             Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-In: 7\r\n\r\n",
        );
        let response = client.response("POST");
        assert_eq!(response.text(), "abc");
        assert_eq!(response.headers.get("trailer"), Some("X-Sum"));
        assert_eq!(response.content.trailers.get("x-sum"), Some("42"));
        let request = backend.only_request();
        assert_eq!(request.headers.get("te"), Some("trailers"));
        assert_eq!(request.headers.get("trailer"), Some("X-In"));
        assert_eq!(request.content.trailers.get("x-in"), Some("7"));
        assert_eq!(request.content.body, b"hi");
    }

    /// A response that ends with its connection is chunked for an HTTP/1.1 client, whose connection stays open.
    fn close_delimited_response(driver) {
        let backend = Backend::start(|conn| {
            conn.request();
            conn.send("HTTP/1.1 200 OK\r\n\r\n");
            conn.send_pieces([&b"first "[..], b"second"]);
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        for _ in 0..2 {
            let response = client.get("a.test", "/");
            assert_eq!((response.framing, response.text().as_str()), (Framing::Chunked, "first second"));
        }
        assert_eq!(backend.connections(), 2);
    }

    /// An HTTP/1.0 backend's response is passed on, and its connection not used again.
    fn http_1_0_backend(driver) {
        let backend = Backend::start(|conn| {
            if conn.request().is_some() {
                conn.send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
                conn.wait_closed();
            }
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        for connections in 1..3 {
            let response = client.get("a.test", "/");
            assert_eq!((response.version, response.text().as_str()), (1, "ok"));
            backend.wait_ended(connections);
        }
    }

    /// 8 MiB each way, by length and by chunks, arrive unchanged.
    fn large_bodies(driver) {
        let backend = Backend::start(|conn| {
            while let Some(request) = conn.request() {
                let body = &request.content.body;
                if request.target == "/chunked" {
                    conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    send_chunked(&mut Rng::new(3), body, |bytes| conn.send(bytes));
                } else {
                    conn.reply(200, body);
                }
            }
        });
        let gateway = Gateway::single(driver, &backend);
        let mut rng = Rng::from_env();
        let body = rng.bytes(8 << 20);
        let mut client = gateway.connect();
        for target in ["/length", "/chunked"] {
            let response = client.post(target, &body);
            assert_eq!(checksum(&response.content.body), checksum(&body), "{target}");
            client.send(format!("PUT {target} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"));
            send_chunked(&mut rng, &body, |bytes| client.send(bytes));
            assert_eq!(checksum(&client.response("PUT").content.body), checksum(&body), "{target}, chunked up");
        }
        assert_eq!(backend.connections(), 1);
    }

    /// A response that begins while the request body is still coming reaches the client at once; both go on.
    fn both_directions_at_once(driver) {
        let backend = Backend::start(|conn| {
            let Some(request) = conn.head() else { return };
            assert_eq!(request.framing(), Framing::Length(8));
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n");
            for _ in 0..4 {
                let two = conn.bytes(2).unwrap();
                conn.send(two);
            }
            conn.wait_closed();
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 8\r\n\r\n");
        assert_eq!(client.head("POST").unwrap().status, 200);
        for two in ["ab", "cd", "ef", "gh"] {
            client.send(two);
            assert_eq!(client.bytes(2).unwrap(), two.as_bytes());
        }
    }

    /// A complete response before the end of the request body: the client can read it, then the connection ends.
    fn early_response(driver) {
        let backend = Backend::start(|conn| {
            if conn.head().is_some() {
                conn.reply(413, "too much");
            }
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\nbeginning");
        let response = client.response("POST");
        assert_eq!((response.status, response.text().as_str()), (413, "too much"));
        client.assert_closed();
    }

    /// A client that does not read stops the backend from sending, instead of filling the gateway's memory.
    fn slow_reader_holds_the_backend(driver) {
        let sent = std::sync::Arc::new(Watched::<Option<usize>>::default());
        let gate = Gate::new();
        let backend = Backend::start({
            let (sent, gate) = (std::sync::Arc::clone(&sent), gate.clone());
            move |conn| {
                if conn.request().is_some() {
                    let body = Rng::new(5).bytes(STALL_BYTES);
                    conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {STALL_BYTES}\r\n\r\n"));
                    let count = conn.send_until_stalled(&body, STALL);
                    sent.update(|sent| *sent = Some(count));
                    gate.wait();
                    conn.send(&body[count..]);
                    conn.wait_closed();
                }
            }
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = Client::connect_small(gateway.address(), 64 << 10);
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        sent.wait("the backend to stall", Option::is_some);
        sent.read(|sent| assert!(sent.unwrap() < STALL_BYTES, "nothing held the backend back"));
        gate.open();
        let response = client.response("GET");
        assert_eq!(checksum(&response.content.body), checksum(&Rng::new(5).bytes(STALL_BYTES)));
    }

    /// A backend that does not read stops the client from sending.
    fn slow_backend_holds_the_client(driver) {
        let gate = Gate::new();
        let backend = Backend::start({ let gate = gate.clone(); move |conn| read_late(conn, &gate) });
        let gateway = Gateway::single(driver, &backend);
        let body = Rng::new(6).bytes(STALL_BYTES);
        let mut client = gateway.connect();
        client.send(format!("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {STALL_BYTES}\r\n\r\n"));
        let sent = client.send_until_stalled(&body, STALL);
        assert!(sent < STALL_BYTES, "nothing held the client back");
        gate.open();
        client.send(&body[sent..]);
        assert_eq!(client.response("PUT").text(), checksum(&body).to_string());
    }

    /// A client that goes away while its body is coming does not leave a request behind that looks complete.
    fn client_leaves_midway(driver) {
        let backend = Backend::start(|conn| {
            if let Some(mut request) = conn.head() {
                assert!(conn.content(&mut request).is_err(), "complete: {request:?}");
            }
        });
        let gateway = Gateway::single(driver, &backend);
        for (number, head) in ["Content-Length: 10", "Transfer-Encoding: chunked"].iter().enumerate() {
            for reset in [false, true] {
                let mut client = gateway.connect();
                client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\n{head}\r\n\r\n3\r\nabc\r\n"));
                backend.wait_connections(2 * number + usize::from(reset) + 1);
                if reset { client.reset() } else { drop(client) }
                backend.wait_ended(2 * number + usize::from(reset) + 1);
            }
        }
    }
}

fn read_late(conn: &mut Conn, gate: &Gate) {
    if let Some(mut request) = conn.head() {
        gate.wait();
        conn.content(&mut request).unwrap();
        let Request { content, .. } = request;
        conn.reply(200, checksum(&content.body).to_string());
        conn.wait_closed();
    }
}
