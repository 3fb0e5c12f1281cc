//! The support code against itself: client and backend without a gateway between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::rng::{Rng, checksum};
use super::wire::{Failure, Framing};
use super::{Backend, Client, Gate};

#[test]
fn a_request_arrives_as_sent_and_the_answer_comes_back() {
    let backend = Backend::echo();
    let mut client = Client::connect(backend.address());
    assert_eq!(client.post("/a?b", b"hello").text(), "hello");
    client.send(
        "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n",
    );
    assert_eq!(client.response("POST").text(), "abc");
    let requests = backend.requests();
    assert_eq!((requests[0].method.as_str(), requests[0].target.as_str()), ("POST", "/a?b"));
    assert_eq!(requests[1].content.trailers.get("t"), Some("v"));
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_cut_response_is_told_from_a_complete_one() {
    let backend = Backend::start(|conn| {
        if let Some(request) = conn.head() {
            match request.target.as_str() {
                "/length" => conn.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
                "/chunked" => conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
                _ => conn.send("HTTP/1.1 200 OK\r\n\r\nabc"),
            }
        }
    });
    for (path, whole) in [("/length", false), ("/chunked", false), ("/close", true)] {
        let mut client = Client::connect(backend.address());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        match client.try_response("GET") {
            Ok(response) => assert!(whole && response.framing == Framing::Close, "{path}"),
            Err(broken) => {
                assert!(!whole, "{path}");
                assert_eq!(broken.failure, Failure::Eof(3));
                assert_eq!(broken.partial.unwrap().text(), "abc");
            }
        }
    }
}

#[test]
fn a_reset_is_told_from_an_end() {
    let backend = Backend::start(|conn| {
        conn.head();
        conn.reset();
    });
    let mut client = Client::connect(backend.address());
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.try_response("GET").unwrap_err().failure, Failure::Reset);

    let backend = Backend::start(|conn| conn.wait_closed());
    Client::connect(backend.address()).reset();
    backend.wait_ended(1);
}

#[test]
fn half_closes_leave_the_other_direction_open() {
    let backend = Backend::start(|conn| {
        let bytes = conn.until_end().unwrap();
        conn.send(bytes);
    });
    let mut client = Client::connect(backend.address());
    client.send("tunnel");
    client.half_close();
    assert_eq!(client.until_end().unwrap(), b"tunnel");
}

#[test]
fn pieces_add_up_whatever_their_sizes() {
    let mut rng = Rng::from_env();
    let body = rng.bytes(200_000);
    let sum = checksum(&body);
    let backend = Backend::start(move |conn| {
        let request = conn.request().unwrap();
        assert_eq!(checksum(&request.content.body), sum);
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in Rng::new(7).pieces(&request.content.body, 9_000) {
            conn.send_pieces([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"]);
        }
        conn.send("0\r\n\r\n");
    });
    let mut client = Client::connect(backend.address());
    client.send(format!("PUT / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send_pieces(rng.pieces(&body, 20_000));
    assert_eq!(checksum(&client.response("PUT").content.body), sum);
}

#[test]
fn a_failed_script_fails_the_test() {
    let backend = Backend::start(|conn| assert!(conn.until_end().unwrap().is_empty(), "as arranged"));
    Client::connect(backend.address()).send("x");
    backend.wait_ended(1);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(backend)));
    assert!(outcome.is_err());
}

#[test]
fn a_gate_holds_until_it_is_opened() {
    let (gate, passed) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    let backend = Backend::start({
        let (gate, passed) = (gate.clone(), Arc::clone(&passed));
        move |conn| {
            conn.request();
            gate.wait();
            assert_eq!(passed.load(Ordering::SeqCst), 1);
            conn.reply(204, "");
        }
    });
    let mut client = Client::connect(backend.address());
    client.send("GET / HTTP/1.1\r\n\r\n");
    backend.wait_requests(1);
    passed.store(1, Ordering::SeqCst);
    gate.open();
    assert_eq!(client.response("GET").status, 204);
}

#[test]
fn a_reader_that_does_not_read_stalls_the_sender() {
    let gate = Gate::new();
    let backend = Backend::start({
        let gate = gate.clone();
        move |_| gate.wait()
    });
    let mut client = Client::connect_small(backend.address(), 4096);
    let bytes = vec![0; 64 << 20];
    let sent = client.send_until_stalled(&bytes, Duration::from_millis(200));
    assert!(sent < bytes.len(), "all of it went");
    gate.open();
}

#[test]
fn the_kernel_tells_what_has_arrived() {
    let (go, sent) = (Gate::new(), Gate::new());
    let backend = Backend::start({
        let (go, sent) = (go.clone(), sent.clone());
        move |conn| {
            conn.send_unread("unread");
            sent.open();
            go.wait();
        }
    });
    let mut client = Client::connect(backend.address());
    sent.wait();
    assert!(client.has_input());
    assert_eq!(client.bytes(6).unwrap(), b"unread");
    assert!(!client.has_input());
    go.open();
    backend.wait_ends_seen(1);
    assert!(client.has_input(), "the end");
}
