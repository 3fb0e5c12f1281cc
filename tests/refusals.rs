//! Every request that is refused: the exact status and reason, a closed connection, and not one byte upstream.

use crate::pressure::Dump;
use crate::support::config;
use crate::support::{Backend, Client, Driver, Gateway};

/// Bytes that a client sends, the status, the reason code.
pub(crate) type Row<'a> = (&'a [u8], u16, &'a str);

/// Lines behind a good request line and `Host`.
macro_rules! fields {
    ($lines:literal) => {
        concat!("GET / HTTP/1.1\r\nHost: a.test\r\n", $lines, "\r\n").as_bytes()
    };
}

const REQUEST_LINES: &[Row<'_>] = &[
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 ClientHello\r\n\r\n", 400, "bad_request_line"),
    (b"GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_request_line"),
    (b"GET /  HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_request_line"),
    (b" GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_request_line"),
    (b"GET /\r\nHost: a.test\r\n\r\n", 400, "bad_request_line"),
    (b"G@T / HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_request_line"),
    (b"GET / HTTP/1.1 \r\nHost: a.test\r\n\r\n", 400, "bad_request_line"),
    (b"GET / HTTP/2.0\r\nHost: a.test\r\n\r\n", 505, "unsupported_version"),
    (b"GET / HTTP/1.2\r\nHost: a.test\r\n\r\n", 505, "unsupported_version"),
    (b"GET / HTTP/0.9\r\nHost: a.test\r\n\r\n", 505, "unsupported_version"),
    (b"GET / http/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_request_line"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "unsupported_version"),
    (b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", 501, "connect_not_supported"),
    (b"TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n", 405, "method_not_allowed"),
];

const TARGETS: &[Row<'_>] = &[
    (b"GET a HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_target"),
    (b"GET * HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_target"),
    (b"GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_target"),
    (b"GET a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_target"),
    (b"GET http:///x HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "invalid_host"),
    (b"GET http://user@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "invalid_host"),
    (b"GET /\x01 HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_target"),
    (b"GET /\x7f HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_target"),
    (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_target"),
    (b"GET /a\0b HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "nul"),
    (b"GET /#x HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_target"),
];

const HOSTS: &[Row<'_>] = &[
    (b"GET / HTTP/1.1\r\n\r\n", 400, "missing_host"),
    (b"GET / HTTP/1.1\r\nX: y\r\n\r\n", 400, "missing_host"),
    (b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n", 400, "repeated_host"),
    (b"GET / HTTP/1.1\r\nHost: a.test\r\nhOST: b.test\r\n\r\n", 400, "repeated_host"),
    (b"GET / HTTP/1.1\r\nHost: \r\n\r\n", 400, "invalid_host"),
    (b"GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", 400, "invalid_host"),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "invalid_host"),
    (b"GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n", 400, "invalid_host"),
    (b"GET / HTTP/1.1\r\nHost: user@a.test\r\n\r\n", 400, "invalid_host"),
    (b"GET / HTTP/1.1\r\nHost: a.test:port\r\n\r\n", 400, "invalid_host"),
    (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, "invalid_host"),
    (b"GET http://a.test/ HTTP/1.1\r\nHost: b@c\r\n\r\n", 400, "invalid_host"),
];

const FIELDS: &[Row<'_>] = &[
    (fields!("X Y: z\r\n"), 400, "space_before_colon"),
    (fields!("nocolon\r\n"), 400, "invalid_header_name"),
    (fields!(": no name\r\n"), 400, "invalid_header_name"),
    (fields!("X\x01: y\r\n"), 400, "invalid_header_name"),
    (fields!("X : y\r\n"), 400, "space_before_colon"),
    (fields!("X\t: y\r\n"), 400, "space_before_colon"),
    (fields!("X: y\r\n continued\r\n"), 400, "obs_fold"),
    (fields!("X: y\r\n\tcontinued\r\n"), 400, "obs_fold"),
    (b"GET / HTTP/1.1\r\n Host: a.test\r\n\r\n", 400, "obs_fold"),
    (fields!("X: y\x01\r\n"), 400, "invalid_header_value"),
    (fields!("X: y\x7f\r\n"), 400, "invalid_header_value"),
    (fields!("X: a\0b\r\n"), 400, "nul"),
    (fields!("X: a\rb\r\n"), 400, "bare_cr"),
    (fields!("X: a\nY: b\r\n"), 400, "bare_lf"),
    (b"GET / HTTP/1.1\nHost: a.test\n\n", 400, "bare_lf"),
    (b"GET / HTTP/1.1\r\nHost: a.test\r\n\n", 400, "bare_lf"),
    (fields!("Expect: 200-ok\r\nContent-Length: 1\r\n"), 417, "expectation_failed"),
];

/// Sends each row to a connection of its own, whole and once split at every byte of interest, and then proves with a
/// request of known size that none of it reached the backend.
pub(crate) fn assert_refused(driver: Driver, keys: &str, rows: &[Row<'_>], splits: bool) {
    let backend = Backend::fixed("ok");
    let gateway = Gateway::start(driver, &config::single(backend.address(), keys, ""));
    for (bytes, status, reason) in rows {
        let mut ways = vec![vec![*bytes]];
        if splits {
            ways.extend((1..bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]));
            ways.push(bytes.chunks(1).collect());
        }
        for way in ways {
            let pieces = way.len();
            let at = way[0].len();
            let mut client = gateway.connect();
            client.send_pieces(way);
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]);
            assert_refusal(
                &mut client,
                *status,
                reason,
                &format!("{shown:?}, {pieces} pieces, the first of {at}"),
            );
        }
    }
    let mut client = gateway.connect();
    assert_eq!(client.get("a.test", "/sentinel").text(), "ok", "the gateway goes on");
    let sentinel = backend.only_request();
    assert_eq!(sentinel.target, "/sentinel");
    drop(client);
    gateway.stop();
    backend.wait_ended(backend.connections());
    assert_eq!(backend.bytes(), sentinel.raw.len() as u64, "bytes of refused requests reached the backend");
}

/// Reads a refusal and the end of its connection.
pub(crate) fn assert_refusal(client: &mut Client, status: u16, reason: &str, what: &str) {
    let response = client.try_response("GET").unwrap_or_else(|broken| panic!("{what}: {broken:?}"));
    assert_eq!(response.status, status, "{what}: {:?}", response.text());
    let text = response.text();
    assert!(
        text.starts_with(&format!("{status} ")) && text.ends_with(&format!(": {reason}\n")),
        "{what}: {text:?}"
    );
    assert!(response.headers.lists("connection", "close"), "{what}: {response:?}");
    assert_eq!(client.until_end(), Ok(Vec::new()), "{what}: after the refusal");
}

both_drivers! {
    fn request_lines(driver) {
        assert_refused(driver, "", REQUEST_LINES, true);
    }

    fn targets(driver) {
        assert_refused(driver, "", TARGETS, true);
    }

    fn hosts(driver) {
        assert_refused(driver, "", HOSTS, true);
    }

    fn fields(driver) {
        assert_refused(driver, "", FIELDS, true);
    }

    /// Sizes at their limits pass, one beyond is refused. Limits of a gateway are exact.
    fn limits(driver) {
        let keys = "limits = { head_bytes_max = 8192, headers_max = 20, target_bytes_max = 4096 }";
        let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "x".repeat(length - 1));
        let count = |count: usize| format!("GET / HTTP/1.1\r\nHost: a.test\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
        let head = |length: usize| {
            let start = "GET / HTTP/1.1\r\nHost: a.test\r\nX: ";
            format!("{start}{}\r\n\r\n", "y".repeat(length - start.len() - 4))
        };
        // As one field and as many: neither may slip past the limit of the whole.
        let endless = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{}", "Xyz: abcdefghijklmnop\r\n".repeat(20_000));
        let (long_target, many, large) = (target(4097), count(21), head(8193));
        let rows: &[Row<'_>] = &[
            (long_target.as_bytes(), 414, "target_too_long"),
            (many.as_bytes(), 431, "too_many_headers"),
            (large.as_bytes(), 431, "head_too_large"),
            (endless.as_bytes(), 431, "too_many_headers"),
        ];
        assert_refused(driver, keys, rows, false);
        let backend = Backend::fixed("ok");
        let gateway = Gateway::start(driver, &config::single(backend.address(), keys, ""));
        for fits in [target(4096), count(20), head(8192)] {
            let mut client = gateway.connect();
            client.send(&fits);
            assert_eq!(client.response("GET").status, 200, "{} bytes", fits.len());
        }
    }

    /// A refusal ends what was pipelined behind it; what came before is answered first.
    fn nothing_behind_a_refusal_is_served(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send(
            "GET /first HTTP/1.1\r\nHost: a.test\r\n\r\nGET / HTTP/1.1\r\nnocolon\r\n\r\nGET /third HTTP/1.1\r\nHost: a.test\r\n\r\n",
        );
        assert_eq!(client.response("GET").text(), "ok");
        assert_refusal(&mut client, 400, "invalid_header_name", "pipelined");
        assert_eq!(backend.only_request().target, "/first");
    }

    /// One empty line before a request is skipped (RFC 9112 section 2.2), more are not.
    fn a_leading_empty_line_is_skipped(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        for _ in 0..2 {
            client.send("\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            assert_eq!(client.response("GET").text(), "ok");
        }
        client.send("\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_refusal(&mut client, 400, "bad_request_line", "two empty lines");
    }
}

both_drivers! {
    /// A refusal counts as one wherever it is found out: in the head, in the path, in the body. Other answers do not.
    fn refusals_are_counted(driver) {
        let backend = Backend::fixed("ok");
        let text = config::gateway("", &["*"])
            + &config::virtual_service("v", "a.test", "route = [{ destination = { host = \"app\" } }]")
            + &config::service("app", &[backend.address()], "");
        let gateway = Gateway::start(driver, &text);
        let rows: &[Row<'_>] = &[
            (b"GET / HTTP/1.1\r\n\r\n", 400, "missing_host"),
            (b"GET /a%2Fb HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "escaped_slash"),
            (b"TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n", 405, "method_not_allowed"),
            (b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400, "bad_chunk"),
            (b"GET / HTTP/1.1\r\nHost: b.test\r\n\r\n", 404, "no_route"),
        ];
        for (sent, status, reason) in rows {
            let mut client = gateway.connect();
            client.send(sent);
            let response = client.response("GET");
            assert_eq!((response.status, response.text().contains(reason)), (*status, true), "{}", response.text());
        }
        assert_eq!(gateway.connect().get("a.test", "/").status, 200);
        let dump = Dump::of(&gateway);
        assert_eq!((dump.sum("refusals"), dump.sum("local_replies")), (4, 5), "{dump:?}");
    }
}
