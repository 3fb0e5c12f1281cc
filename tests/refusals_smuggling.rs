//! Requests whose end two receivers could see at different places: all refused (RFC 9112 section 11.2).

use crate::refusals::{Row, assert_refusal, assert_refused};
use crate::support::{Backend, Gateway};

/// A request with these framing fields, and behind its head what the one or the other reading would take for a body
/// or for a second request.
macro_rules! framed {
    ($lines:literal) => {
        concat!(
            "POST / HTTP/1.1\r\nHost: a.test\r\n",
            $lines,
            "\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"
        )
        .as_bytes()
    };
}

const LENGTHS: &[Row<'_>] = &[
    (framed!("Content-Length: 5\r\nContent-Length: 6\r\n"), 400, "bad_content_length"),
    (framed!("Content-Length: 5\r\nContent-Length: 5\r\n"), 400, "bad_content_length"),
    (framed!("Content-Length: 5, 5\r\n"), 400, "bad_content_length"),
    (framed!("Content-Length: +5\r\n"), 400, "bad_content_length"),
    (framed!("Content-Length: -5\r\n"), 400, "bad_content_length"),
    (framed!("Content-Length: 0x5\r\n"), 400, "bad_content_length"),
    (framed!("Content-Length: 5 5\r\n"), 400, "bad_content_length"),
    (framed!("Content-Length: 5.0\r\n"), 400, "bad_content_length"),
    (framed!("Content-Length: \r\n"), 400, "bad_content_length"),
    (framed!("Content-Length: ,\r\n"), 400, "bad_content_length"),
    (framed!("Content-Length: 9223372036854775808\r\n"), 400, "bad_content_length"),
    (framed!("Content-Length: 18446744073709551621\r\n"), 400, "bad_content_length"),
    (framed!("Content-Length : 5\r\n"), 400, "space_before_colon"),
    (framed!("Content-Length:\r\n 5\r\n"), 400, "obs_fold"),
    (framed!("Content-Length: 5\rX: y\r\n"), 400, "bare_cr"),
];

const CODINGS: &[Row<'_>] = &[
    (framed!("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, "length_and_chunked"),
    (framed!("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400, "length_and_chunked"),
    (framed!("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), 400, "length_and_chunked"),
    (framed!("Transfer-Encoding: identity\r\nContent-Length: 5\r\n"), 400, "length_and_chunked"),
    (framed!("Transfer-Encoding: chunked, chunked\r\n"), 400, "bad_transfer_encoding"),
    (framed!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400, "bad_transfer_encoding"),
    (framed!("Transfer-Encoding: chunked, identity\r\n"), 400, "bad_transfer_encoding"),
    (framed!("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), 400, "bad_transfer_encoding"),
    (framed!("Transfer-Encoding: chunked;q=1\r\n"), 400, "bad_transfer_encoding"),
    (framed!("Transfer-Encoding: \"chunked\"\r\n"), 400, "bad_transfer_encoding"),
    (framed!("Transfer-Encoding: ,chunked\r\n"), 400, "bad_transfer_encoding"),
    (framed!("Transfer-Encoding: \r\n"), 400, "bad_transfer_encoding"),
    (framed!("Transfer-Encoding: gzip, chunked\r\n"), 501, "unknown_transfer_coding"),
    (framed!("Transfer-Encoding: xchunked\r\n"), 501, "unknown_transfer_coding"),
    (framed!("Transfer-Encoding: identity\r\n"), 501, "unknown_transfer_coding"),
    (framed!("Transfer-Encoding : chunked\r\n"), 400, "space_before_colon"),
    (framed!("Transfer-Encoding:\r\n chunked\r\n"), 400, "obs_fold"),
    (framed!("Transfer-Encoding: chunked\nX: y\r\n"), 400, "bare_lf"),
    (framed!("Transfer-Encoding: \x0bchunked\r\n"), 400, "invalid_header_value"),
    (framed!(" Transfer-Encoding: chunked\r\n"), 400, "obs_fold"),
    (
        b"POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "chunked_in_http10",
    ),
];

/// Chunk framing that is malformed from its first byte on.
const CHUNKS: &[(&str, &str)] = &[
    ("x\r\n", "bad_chunk"),
    ("\r\n", "bad_chunk"),
    (" 3\r\nabc\r\n0\r\n\r\n", "bad_chunk"),
    ("+3\r\nabc\r\n0\r\n\r\n", "bad_chunk"),
    ("-1\r\n", "bad_chunk"),
    ("0x3\r\nabc\r\n0\r\n\r\n", "bad_chunk"),
    ("3\nabc\r\n0\r\n\r\n", "bad_chunk"),
    ("3\rabc\r\n0\r\n\r\n", "bad_chunk"),
    ("3\r\nabcd\r\n0\r\n\r\n", "bad_chunk"),
    ("3\r\nabc\n0\r\n\r\n", "bad_chunk"),
    ("3\r\nabc0\r\n\r\n", "bad_chunk"),
    ("ffffffffffffffff\r\nabc", "chunk_size_overflow"),
    ("00000000000000003\r\nabc\r\n0\r\n\r\n", "chunk_size_overflow"),
    ("3;a\nb\r\nabc\r\n0\r\n\r\n", "bad_chunk"),
    ("0\r\nX Y: z\r\n\r\n", "space_before_colon"),
    ("0\r\n folded: z\r\n\r\n", "obs_fold"),
    ("0\r\nX: a\nb\r\n\r\n", "bare_lf"),
];

both_drivers! {
    fn lengths(driver) {
        assert_refused(driver, "", LENGTHS, false);
    }

    fn codings(driver) {
        assert_refused(driver, "", CODINGS, false);
    }

    /// The two most used, split at every byte.
    fn split_at_every_byte(driver) {
        assert_refused(driver, "", &[LENGTHS[0], CODINGS[0], CODINGS[1]], true);
    }

    /// Malformed chunks end the exchange with 400, and the backend gets no request that looks complete.
    fn chunks(driver) {
        let backend = Backend::start(|conn| {
            while let Some(mut request) = conn.head() {
                if request.target == "/sentinel" {
                    conn.reply(200, "ok");
                } else if conn.content(&mut request).is_ok() {
                    panic!("a malformed body arrived as a complete one: {request:?}");
                } else {
                    return;
                }
            }
        });
        let gateway = Gateway::single(driver, &backend);
        for (body, reason) in CHUNKS {
            let request = format!("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            let head = request.len() - body.len();
            for at in [0, head, head + 1, head + body.len() - 1] {
                let mut client = gateway.connect();
                client.send_pieces([&request.as_bytes()[..at], &request.as_bytes()[at..]].into_iter().filter(|p| !p.is_empty()));
                assert_refusal(&mut client, 400, reason, &format!("{body:?} split at {at}"));
            }
        }
        assert_eq!(gateway.connect().get("a.test", "/sentinel").text(), "ok");
    }

    /// What is behind a well-framed request is the next request, and goes upstream as a request of its own.
    fn the_end_of_a_request_is_exact(driver) {
        let backend = Backend::echo();
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send(
            "POST /1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nGET \
             POST /2 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\n\
             GET /3 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        );
        for body in ["GET ", "GET ", ""] {
            assert_eq!(client.response("POST").text(), body);
        }
        let targets: Vec<_> = backend.requests().into_iter().map(|request| request.target).collect();
        assert_eq!(targets, ["/1", "/2", "/3"]);
    }

    /// Framing fields that `Connection` nominates still count and still go upstream; names in disguise do not pass.
    fn framing_cannot_be_nominated_away(driver) {
        let backend = Backend::echo();
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send(
            "POST /1 HTTP/1.1\r\nHost: a.test\r\nConnection: content-length, transfer-encoding\r\nContent-Length: 5\r\n\r\nhello",
        );
        assert_eq!(client.response("POST").text(), "hello");
        client.send(
            "POST /2 HTTP/1.1\r\nHost: a.test\r\nContent_Length: 9\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        );
        assert_eq!(client.response("POST").text(), "hello");
        for request in backend.requests() {
            assert_eq!(request.headers.get("content-length"), Some("5"));
            assert!(!request.headers.has("content_length") && !request.headers.has("transfer_encoding"), "{request:?}");
        }
    }
}
