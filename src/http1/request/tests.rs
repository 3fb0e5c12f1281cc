//! Each rule as a row: a head that is refused, why, and its nearest neighbour that is taken. Every row is also fed
//! byte by byte, and must come to the same verdict at the same byte.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use super::*;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 512, headers_max: 8, target_bytes_max: 64 };

/// Parses `bytes` at once and then byte by byte, and demands one result.
fn parse(bytes: &[u8]) -> Result<Option<RequestHead>, Refusal> {
    let whole = {
        let mut head = RequestHead::default();
        parse_request(bytes, &mut Scan::default(), &LIMITS, &mut head)
            .map(|progress| (progress == Progress::Complete).then_some(head))
    };
    let (mut scan, mut head) = (Scan::default(), RequestHead::default());
    let mut grown = Ok(None);
    for len in 0..=bytes.len() {
        match parse_request(&bytes[..len], &mut scan, &LIMITS, &mut head) {
            Ok(Progress::Incomplete) => continue,
            Ok(Progress::Complete) => {
                assert_eq!(head.head_len, len, "complete at its last byte: {bytes:?}");
                assert!(scan.is_fresh());
                grown = Ok(Some(head));
            }
            Err(refusal) => grown = Err(refusal),
        }
        break;
    }
    assert_eq!(format!("{grown:?}"), format!("{whole:?}"), "{:?}", String::from_utf8_lossy(bytes));
    whole
}

#[track_caller]
fn taken(text: &str) -> RequestHead {
    match parse(text.as_bytes()) {
        Ok(Some(head)) => head,
        other => panic!("{text:?}: {other:?}"),
    }
}

#[track_caller]
fn refused(text: &str, refusal: Refusal) {
    assert_eq!(parse(text.as_bytes()).map(|head| head.is_some()), Err(refusal), "{text:?}");
}

/// A head of HTTP/1.1 with a host and these field lines.
fn with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn fills_in_every_part() {
    let text = "POST /a/b?c=d?e HTTP/1.1\r\nHost: www.example.com:8080\r\nContent-Length: 12\r\nX-Y:  z \r\n\r\nbody";
    let mut head = RequestHead::default();
    let progress = parse_request(text.as_bytes(), &mut Scan::default(), &LIMITS, &mut head);
    assert_eq!(progress, Ok(Progress::Complete));
    let of = |span: Span| std::str::from_utf8(span.of(text.as_bytes())).unwrap();
    assert_eq!(head.method, Method::Post);
    assert_eq!(of(head.method_text), "POST");
    assert_eq!(of(head.target), "/a/b?c=d?e");
    assert_eq!(of(head.authority), "www.example.com:8080");
    assert_eq!(of(head.path), "/a/b");
    assert_eq!(head.query.map(of), Some("c=d?e"));
    assert!(!head.asterisk && head.keep_alive && !head.expect_continue && !head.te_trailers);
    assert_eq!((head.version, head.body, head.upgrade), (Version::Http11, BodyLength::Known(12), None));
    let fields: Vec<_> = head.headers.iter().map(|h| (of(h.name), of(h.value), h.id)).collect();
    let expected = [
        ("Host", "www.example.com:8080", HeaderId::Host),
        ("Content-Length", "12", HeaderId::ContentLength),
        ("X-Y", "z", HeaderId::Other),
    ];
    assert_eq!(fields, expected);
    assert_eq!(head.head_len, text.len() - 4);
}

/// A head left over from another message leaves no trace.
#[test]
fn forgets_the_message_before() {
    let (mut scan, mut head) = (Scan::default(), RequestHead::default());
    let first = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n";
    parse_request(first, &mut scan, &LIMITS, &mut head).unwrap();
    assert!(head.asterisk && head.expect_continue && head.te_trailers);
    let second = b"GET /?q HTTP/1.0\r\n\r\n";
    parse_request(second, &mut scan, &LIMITS, &mut head).unwrap();
    assert_eq!(format!("{head:?}"), format!("{:?}", taken("GET /?q HTTP/1.0\r\n\r\n")));
}

#[test]
fn reads_request_lines() {
    for method in ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE", "M-SEARCH", "get"] {
        let head = taken(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        let known = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"].contains(&method);
        assert_eq!(head.method != Method::Other, known, "{method}");
    }
    taken(&format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(32)));
    for line in [
        "GET  / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /",
        "GET",
        "GET ",
        "GET\t/ HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.d",
        "GET / HTTP/d.1",
        "GET / HTTP/1.10",
        "GET / HTTP/11",
        "GET / HTTP/1,1",
        "GET / HTTP/a.1",
        "GET / HTTPS/1.1",
        "GET / HTTP/1.",
        "G(T / HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "GET / /b HTTP/1.1",
        "\u{16}\u{3}\u{1}",
        "GET / ",
    ] {
        refused(&format!("{line}\r\nHost: a\r\n\r\n"), Refusal::BadRequestLine);
    }
    refused(&format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(33)), Refusal::BadRequestLine);
    refused("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Refusal::ConnectNotSupported);
    refused("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::MethodNotAllowed);
    assert_eq!(taken("connect / HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::Other);
}

#[test]
fn takes_two_versions_only() {
    assert_eq!(taken("GET / HTTP/1.0\r\n\r\n").version, Version::Http10);
    assert_eq!(taken("GET / HTTP/1.1\r\nHost: a\r\n\r\n").version, Version::Http11);
    for version in ["0.9", "1.2", "1.9", "2.0", "3.0"] {
        refused(&format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"), Refusal::UnsupportedVersion);
    }
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::UnsupportedVersion);
}

#[test]
fn tolerates_one_empty_line() {
    let head = taken("\r\nGET / HTTP/1.0\r\n\r\n");
    assert_eq!((head.target, head.head_len), (Span::new(6, 7), 20));
    refused("\r\n\r\nGET / HTTP/1.0\r\n\r\n", Refusal::BadRequestLine);
    refused("\nGET / HTTP/1.0\r\n\r\n", Refusal::BareLf);
    refused("\rGET / HTTP/1.0\r\n\r\n", Refusal::BareCr);
}

#[test]
fn reads_targets() {
    for (method, target, authority, path, query) in [
        ("GET", "/", "host", "/", None),
        ("GET", "/?", "host", "/", Some("")),
        ("GET", "//x/y", "host", "//x/y", None),
        ("GET", "/a\"<>^`{|}\\%zz", "host", "/a\"<>^`{|}\\%zz", None),
        ("GET", "http://b.example", "b.example", "", None),
        ("GET", "HTTP://b.example:81/c?d", "b.example:81", "/c", Some("d")),
        ("GET", "https://[::1]/c", "[::1]", "/c", None),
        ("GET", "http://b.example?d/e", "b.example", "", Some("d/e")),
        ("OPTIONS", "*", "host", "", None),
        ("OPTIONS", "http://b.example:8001", "b.example:8001", "", None),
        ("OPTIONS", "http://b.example/", "b.example", "/", None),
        ("OPTIONS", "/", "host", "/", None),
    ] {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: host\r\n\r\n");
        let head = taken(&text);
        let of = |span: Span| std::str::from_utf8(span.of(text.as_bytes())).unwrap();
        assert_eq!(
            (of(head.authority), of(head.path), head.query.map(of)),
            (authority, path, query),
            "{target}"
        );
        assert_eq!(head.asterisk, target == "*" || target == "http://b.example:8001", "{target}");
    }
    for target in [
        "*",
        "a",
        "a/b",
        "example.com:80",
        "?a",
        "ftp://a/",
        "http:/a",
        "http:a",
        "/a#b",
        "#",
        "/\u{e9}",
        "/\u{7f}",
        "/a\tb",
    ] {
        refused(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), Refusal::BadTarget);
    }
    refused("OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::BadTarget);
    for target in [
        "http://",
        "http:///a",
        "http://u@a/",
        "http://a:b/",
        "http://a:65536/",
        "http://[::1/",
        "http://:80/",
    ] {
        refused(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), Refusal::InvalidHost);
    }
}

#[test]
fn demands_one_valid_host() {
    for host in ["a", "a:80", "127.0.0.1:8080", "[::1]:80", "xn--e1afmkfd.example", "a_b"] {
        taken(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
    for host in
        ["", " ", "a b", "u@a", "a/", "a, b", "a:x", "a:99999", "http://a", "[::1", "a\tb", "a?", "\u{e9}"]
    {
        refused(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), Refusal::InvalidHost);
        refused(&format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n"), Refusal::InvalidHost);
    }
    refused("GET / HTTP/1.1\r\n\r\n", Refusal::MissingHost);
    refused("GET http://a/ HTTP/1.1\r\n\r\n", Refusal::MissingHost);
    refused(&with("Host: a\r\n"), Refusal::RepeatedHost);
    refused(&with("host: b\r\n"), Refusal::RepeatedHost);
    refused("GET http://a/ HTTP/1.1\r\nHost: b c\r\n\r\n", Refusal::InvalidHost);
    taken("GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n");
    assert!(taken("GET / HTTP/1.0\r\n\r\n").authority.is_empty());
    assert!(!taken("GET http://a/ HTTP/1.0\r\n\r\n").authority.is_empty());
}

/// RFC 9112 section 6: only one length or one chunked coding; everything else could be read in two ways.
#[test]
fn frames_content_in_one_way_only() {
    for (fields, body) in [
        ("", BodyLength::None),
        ("Content-Length: 0\r\n", BodyLength::Known(0)),
        ("content-length:5\r\n", BodyLength::Known(5)),
        ("Content-Length: \t 0042 \t\r\n", BodyLength::Known(42)),
        ("Content-Length: 9223372036854775807\r\n", BodyLength::Known(i64::MAX as u64)),
        ("Transfer-Encoding: chunked\r\n", BodyLength::Chunked),
        ("transfer-encoding:CHUNKED\t\r\n", BodyLength::Chunked),
    ] {
        assert_eq!(taken(&with(fields)).body, body, "{fields}");
    }
    for value in [
        "",
        "+5",
        "-5",
        "5 5",
        "0x5",
        "5,5",
        "5, 5",
        "5;",
        "5.0",
        "a",
        "9223372036854775808",
        "99999999999999999999",
        "\u{bc}",
    ] {
        refused(&with(&format!("Content-Length: {value}\r\n")), Refusal::BadContentLength);
    }
    refused(&with("Content-Length: 5\r\nContent-Length: 6\r\n"), Refusal::BadContentLength);
    refused(&with("Content-Length: 5\r\nContent-Length: 5\r\n"), Refusal::BadContentLength);
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: x\r\n",
    ] {
        refused(&with(fields), Refusal::LengthAndChunked);
    }
    for value in [
        "",
        "chunked, chunked",
        "chunked, gzip",
        "chunked,",
        ",chunked",
        "chunked;a=b",
        "\"chunked\"",
        "chu nked",
    ] {
        refused(&with(&format!("Transfer-Encoding: {value}\r\n")), Refusal::BadTransferEncoding);
    }
    refused(
        &with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        Refusal::BadTransferEncoding,
    );
    for value in ["gzip", "identity", "foo", "gzip, chunked", "xchunked"] {
        refused(&with(&format!("Transfer-Encoding: {value}\r\n")), Refusal::UnknownTransferCoding);
    }
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::ChunkedInHttp10);
    refused(
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        Refusal::LengthAndChunked,
    );
    assert_eq!(taken("POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\n").body, BodyLength::Known(1));
}

/// The line syntax, in a whole head; `scan` has the finer rows.
#[test]
fn refuses_malformed_lines() {
    for (text, refusal) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Refusal::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", Refusal::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", Refusal::BareLf),
        ("GET /\nHTTP/1.1\r\nHost: a\r\n\r\n", Refusal::BareLf),
        ("GET\n/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::BareLf),
        ("GET / HTTP/1.1\rHost: a\r\n\r\n", Refusal::BareCr),
        ("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::BareCr),
        ("GET / HTTP\r/1.1\r\nHost: a\r\n\r\n", Refusal::BareCr),
        ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Refusal::BareCr),
        ("GET / HTTP/1.1\r\nHost: a\r\n\rX", Refusal::BareCr),
        ("G\0T / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Nul),
        ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Nul),
        ("GET / HTTP/\0.1\r\nHost: a\r\n\r\n", Refusal::Nul),
        ("GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", Refusal::Nul),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Refusal::ObsFold),
        ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", Refusal::ObsFold),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Refusal::SpaceBeforeColon),
        ("GET / HTTP/1.1\r\nHo@st: a\r\n\r\n", Refusal::InvalidHeaderName),
        ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", Refusal::InvalidHeaderName),
        ("GET / HTTP/1.1\r\nHost: a\r\nb\r\n\r\n", Refusal::InvalidHeaderName),
        ("GET / HTTP/1.1\r\nHost: a\r\nB: \x1b\r\n\r\n", Refusal::InvalidHeaderValue),
        ("GET / HTTP/1.1\r\nHost: a\r\nB: \x7f\r\n\r\n", Refusal::InvalidHeaderValue),
    ] {
        refused(text, refusal);
    }
    let text = with("B: \u{e9}\tc\r\n");
    assert_eq!(taken(&text).headers[1].value.of(text.as_bytes()), "\u{e9}\tc".as_bytes());
}

/// Limits hold to the byte, and are seen as soon as they are passed.
#[test]
fn holds_limits_to_the_byte() {
    taken(&format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(63)));
    refused(&format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(64)), Refusal::TargetTooLong);
    refused(&format!("GET /{}", "a".repeat(64)), Refusal::TargetTooLong);
    assert!(parse(format!("GET /{}", "a".repeat(63)).as_bytes()).unwrap().is_none());
    let fields = |count: usize| format!("GET / HTTP/1.0\r\n{}\r\n", "A: b\r\n".repeat(count));
    taken(&fields(8));
    refused(&fields(9), Refusal::TooManyHeaders);
    let frame = "GET / HTTP/1.0\r\nA: \r\n\r\n".len();
    let filled = |len: usize| format!("GET / HTTP/1.0\r\nA: {}\r\n\r\n", "a".repeat(len - frame));
    assert_eq!(taken(&filled(512)).head_len, 512);
    refused(&filled(513), Refusal::HeadTooLarge);
    refused(&format!("GET / HTTP/1.0\r\nA: {}", "a".repeat(493)), Refusal::HeadTooLarge);
    assert!(parse(format!("GET / HTTP/1.0\r\nA: {}", "a".repeat(492)).as_bytes()).unwrap().is_none());
}

/// What can never become a good head is refused where it stands, long before a blank line.
#[test]
fn refuses_without_waiting_for_the_end() {
    refused("\x16\x03\x01\x02", Refusal::BadRequestLine);
    refused("(", Refusal::BadRequestLine);
    refused("GET / HTTP/1.1\r\nA: b\n", Refusal::BareLf);
    refused("GET / HTTP/1.1\r\nA(", Refusal::InvalidHeaderName);
    refused("GET / HTTP/1.1\r\nA: b\x01", Refusal::InvalidHeaderValue);
    refused("GET / HTTX", Refusal::BadRequestLine);
    assert!(parse(b"GET / HTTP").unwrap().is_none());
    refused("TRACE / HTTP/1.1\r\n", Refusal::MethodNotAllowed);
}

#[test]
fn judges_persistence() {
    for (version, connection, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, Close\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let head = taken(&format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n"));
        assert_eq!(head.keep_alive, keep_alive, "{version} {connection}");
    }
    taken(&with(&format!("Connection: {}\r\n", "a,".repeat(32))));
    refused(&with(&format!("Connection: {}\r\n", "a,".repeat(33))), Refusal::BadConnection);
}

#[test]
fn judges_expectations() {
    let expects = |text: &str| taken(text).expect_continue;
    assert!(expects(&with("Content-Length: 5\r\nExpect: 100-continue\r\n")));
    assert!(expects(&with("Transfer-Encoding: chunked\r\nexpect: 100-Continue\r\n")));
    assert!(!expects(&with("Content-Length: 5\r\n")));
    assert!(!expects(&with("Content-Length: 0\r\nExpect: 100-continue\r\n")));
    assert!(!expects(&with("Expect: 100-continue\r\n")));
    assert!(!expects("POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"));
    for value in ["200-ok", "100-continue, x", "100-continued", "100"] {
        refused(&with(&format!("Content-Length: 5\r\nExpect: {value}\r\n")), Refusal::ExpectationFailed);
    }
}

#[test]
fn takes_upgrades_only_when_all_agree() {
    let upgrade = |text: &str| taken(text).upgrade.map(|span| span.of(text.as_bytes()).to_vec());
    let nominated = "Connection: keep-alive, Upgrade\r\n";
    assert_eq!(
        upgrade(&with(&format!("{nominated}Upgrade: websocket\r\n"))).as_deref(),
        Some(&b"websocket"[..])
    );
    assert_eq!(
        upgrade(&with(&format!("Upgrade: a/1, b\r\nContent-Length: 0\r\n{nominated}"))).as_deref(),
        Some(&b"a/1, b"[..])
    );
    for fields in [
        "Upgrade: websocket\r\n".to_owned(),
        "Connection: upgraded\r\nUpgrade: websocket\r\n".to_owned(),
        nominated.to_owned(),
        format!("{nominated}Upgrade:\r\n"),
        format!("{nominated}Upgrade: websocket\r\nContent-Length: 5\r\n"),
        format!("{nominated}Upgrade: websocket\r\nTransfer-Encoding: chunked\r\n"),
        format!("{nominated}Upgrade: a\r\nUpgrade: b\r\n"),
        format!("{nominated}Upgrade: h2c\r\n"),
        format!("{nominated}Upgrade: websocket, H2C\r\n"),
    ] {
        assert_eq!(upgrade(&with(&fields)), None, "{fields}");
    }
    assert_eq!(upgrade(&format!("GET / HTTP/1.0\r\n{nominated}Upgrade: websocket\r\n\r\n")), None);
}

#[test]
fn notices_who_takes_trailers() {
    assert!(taken(&with("TE: trailers\r\n")).te_trailers);
    assert!(taken(&with("TE: deflate;q=0.5, Trailers\r\nConnection: TE\r\n")).te_trailers);
    assert!(!taken(&with("TE: deflate\r\n")).te_trailers);
    assert!(!taken("GET / HTTP/1.0\r\nTE: trailers\r\n\r\n").te_trailers);
}

/// A head that arrives byte by byte takes time in proportion to its length, because what was seen is not looked at
/// again: it is overwritten here with what would be refused, and nobody notices.
#[test]
fn looks_at_each_byte_once() {
    let limits = HeadLimits { head_bytes_max: 1 << 20, headers_max: 8, target_bytes_max: 1 << 18 };
    let long = "a".repeat(1 << 10);
    let text = format!("GET /{long} HTTP/1.1\r\n{long}: {long}\r\nHost: a\r\n\r\n");
    let (method, host) = ("GET ".len(), text.len() - "Host: a\r\n\r\n".len());
    let (mut scan, mut head) = (Scan::default(), RequestHead::default());
    let mut arrived = Vec::new();
    for byte in text.bytes() {
        assert_eq!(parse_request(&arrived, &mut scan, &limits, &mut head), Ok(Progress::Incomplete));
        // Only the short method, the version and a CR are read again when more arrives.
        assert!(arrived.len() - (scan.at as usize) <= 16, "at {} of {}", scan.at, arrived.len());
        if let Some(seen) = arrived.get_mut(method + 1..(scan.at as usize).min(host)) {
            seen.iter_mut().filter(|byte| **byte == b'a').for_each(|byte| *byte = 0);
        }
        arrived.push(byte);
    }
    assert_eq!(parse_request(&arrived, &mut scan, &limits, &mut head), Ok(Progress::Complete));
    assert_eq!(head.target.len(), long.len() + 1);
    assert_eq!(head.headers.first().map(|header| header.value.len()), Some(long.len()));
}
