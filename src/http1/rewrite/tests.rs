//! Whole heads, compared byte by byte, and rows for the fields that must or must not pass.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::http1::{HeadLimits, Scan, parse_request, parse_response};
use crate::message::Method;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, headers_max: 32, target_bytes_max: 1024 };
const FACTS: RequestFacts<'_> = RequestFacts {
    path: b"/",
    peer: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
    trusted: false,
    client_certificate: "",
    tls: false,
    request_id: b"id-1",
    body: BodyLength::None,
};

#[track_caller]
fn request(text: &str, facts: RequestFacts<'_>) -> String {
    let mut head = RequestHead::default();
    parse_request(text.as_bytes(), &mut Scan::default(), &LIMITS, &mut head).unwrap();
    let mut out = Vec::new();
    write_request(&mut out, &head, text.as_bytes(), &RequestFacts { body: head.body, ..facts });
    String::from_utf8(out).unwrap()
}

/// The values of a field in a head, in order.
fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[test]
fn writes_a_whole_request() {
    let text = "GET /a?b=c HTTP/1.1\r\nAccept: */*\r\nhost: www.example.com\r\nX-A:1\r\nX-B: 2\r\nConnection: close\r\nX-B: 3 \r\n\r\n";
    assert_eq!(
        request(text, RequestFacts { path: b"/a", ..FACTS }),
        "GET /a?b=c HTTP/1.1\r\nHost: www.example.com\r\nAccept: */*\r\nX-A: 1\r\nX-B: 2\r\nX-B: 3\r\n\
         X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: www.example.com\r\n\
         Via: 1.1 ringgate\r\nX-Request-Id: id-1\r\n\r\n"
    );
}

#[test]
fn writes_every_form_of_target() {
    for (line, path, expected) in [
        ("GET http://b/c?d HTTP/1.1", &b"/c"[..], "GET /c?d HTTP/1.1\r\nHost: b\r\n"),
        ("GET http://b?d HTTP/1.1", b"", "GET /?d HTTP/1.1\r\nHost: b\r\n"),
        ("OPTIONS * HTTP/1.1", b"", "OPTIONS * HTTP/1.1\r\nHost: a\r\n"),
        ("OPTIONS http://b:1 HTTP/1.1", b"", "OPTIONS * HTTP/1.1\r\nHost: b:1\r\n"),
        ("PURGE /x/../y? HTTP/1.1", b"/y", "PURGE /y? HTTP/1.1\r\nHost: a\r\n"),
    ] {
        let head = request(&format!("{line}\r\nHost: a\r\n\r\n"), RequestFacts { path, ..FACTS });
        assert!(head.starts_with(expected), "{head}");
        assert_eq!(values(&head, "host").len(), 1);
    }
    let head = request("GET / HTTP/1.0\r\n\r\n", FACTS);
    assert!(head.starts_with("GET / HTTP/1.1\r\nHost: \r\n"), "{head}");
    assert_eq!(values(&head, "x-forwarded-host"), [""; 0]);
    assert_eq!(values(&head, "via"), ["1.0 ringgate"]);
}

#[test]
fn drops_fields_of_the_hop() {
    let head = request(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, close\r\nx-hop: 1\r\nConnection: Date\r\nDate: 2\r\nKeep-Alive: 3\r\n\
         Proxy-Connection: 4\r\nProxy-Authorization: 5\r\nProxy-Authenticate: 6\r\nTE: gzip\r\nUpgrade: 7\r\nTrailer: 8\r\nX-End: 9\r\n\r\n",
        FACTS,
    );
    for name in [
        "connection",
        "x-hop",
        "date",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "te",
        "upgrade",
        "trailer",
    ] {
        assert_eq!(values(&head, name), [""; 0], "{name}");
    }
    assert_eq!(values(&head, "x-end"), ["9"]);
}

/// A client cannot have removed what decides about the request.
#[test]
fn keeps_what_a_client_nominates_in_abuse() {
    let protected = [
        ("Host", "a"),
        ("Content-Length", "5"),
        ("Content-Type", "t"),
        ("Authorization", "u"),
        ("Cookie", "v"),
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "a"),
        ("Via", "1.1 ringgate"),
        ("X-Request-Id", "id-1"),
    ];
    let nominated: Vec<_> = protected.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let head = request(
        &format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\nContent-Length: 5\r\nContent-Type: t\r\nAuthorization: u\r\nCookie: v\r\n\r\n",
            nominated.join(", ")
        ),
        FACTS,
    );
    for (name, value) in protected {
        assert_eq!(values(&head, name), [value], "{name}");
    }
    let trusted = RequestFacts { trusted: true, ..FACTS };
    let head = request(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: forwarded, x-real-ip, x-forwarded-port\r\nForwarded: for=1\r\nX-Real-IP: 2\r\nX-Forwarded-Port: 3\r\n\r\n",
        trusted,
    );
    for (name, value) in [("forwarded", "for=1"), ("x-real-ip", "2"), ("x-forwarded-port", "3")] {
        assert_eq!(values(&head, name), [value], "{name}");
    }
}

const FORWARDED: &str = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\n\
     X-Forwarded-Port: 8443\r\nForwarded: for=2.2.2.2\r\nX-Real-IP: 3.3.3.3\r\nVia: 1.1 x\r\nX-Forwarded-For: 4.4.4.4, 5.5.5.5\r\n\
     X-Forwarded-For:\r\nVia: 1.0 y\r\nX-Request-Id: theirs\r\nX_Forwarded_For: 6.6.6.6\r\nx-forwarded_proto: https\r\nmy_name: 7\r\n\r\n";

#[test]
fn replaces_forwarding_fields_of_a_stranger() {
    let head = request(FORWARDED, FACTS);
    for (name, expected) in [
        ("x-forwarded-for", &["192.0.2.7"][..]),
        ("x-forwarded-proto", &["http"]),
        ("x-forwarded-host", &["a"]),
        ("x-forwarded-port", &[]),
        ("forwarded", &[]),
        ("x-real-ip", &[]),
        ("via", &["1.1 ringgate"]),
        ("x-request-id", &["id-1"]),
        ("x_forwarded_for", &[]),
        ("x-forwarded_proto", &[]),
        ("my_name", &["7"]),
    ] {
        assert_eq!(values(&head, name), expected, "{name}");
    }
    let tls = request(FORWARDED, RequestFacts { tls: true, peer: "2001:db8::1".parse().unwrap(), ..FACTS });
    assert_eq!(values(&tls, "x-forwarded-proto"), ["https"]);
    assert_eq!(values(&tls, "x-forwarded-for"), ["2001:db8::1"]);
}

/// What a client says of its certificate counts nothing; what a trusted proxy says comes before what is known here.
#[test]
fn tells_who_a_client_is_by_its_certificate() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Client-Cert: Hash=1\r\nX_Forwarded_Client_Cert: Hash=2\r\n\
         X-Forwarded-Client-Cert: Hash=3\r\n\r\n";
    for (trusted, client_certificate, expected) in [
        (false, "", &[][..]),
        (false, "Hash=9;URI=u", &["Hash=9;URI=u"]),
        (true, "", &["Hash=1", "Hash=3"]),
        (true, "Hash=9", &["Hash=1, Hash=3, Hash=9"]),
    ] {
        let head = request(text, RequestFacts { trusted, client_certificate, ..FACTS });
        assert_eq!(values(&head, "x-forwarded-client-cert"), expected);
        assert!(values(&head, "x_forwarded_client_cert").is_empty());
    }
}

#[test]
fn continues_forwarding_fields_of_a_trusted_client() {
    let trusted = RequestFacts { trusted: true, ..FACTS };
    let head = request(FORWARDED, trusted);
    for (name, expected) in [
        ("x-forwarded-for", &["1.1.1.1, 4.4.4.4, 5.5.5.5, 192.0.2.7"][..]),
        ("x-forwarded-proto", &["https"]),
        ("x-forwarded-host", &["h"]),
        ("x-forwarded-port", &["8443"]),
        ("forwarded", &["for=2.2.2.2"]),
        ("x-real-ip", &["3.3.3.3"]),
        ("via", &["1.1 x, 1.0 y, 1.1 ringgate"]),
        ("x-request-id", &["theirs"]),
        ("x_forwarded_for", &[]),
    ] {
        assert_eq!(values(&head, name), expected, "{name}");
    }
    let head = request("GET / HTTP/1.1\r\nHost: a\r\n\r\n", trusted);
    assert_eq!(values(&head, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(values(&head, "x-forwarded-host"), ["a"]);
    for id in [
        "X-Request-Id: a b\r\n",
        "X-Request-Id: a\r\nX-Request-Id: b\r\n",
        "X-Request-Id:\r\n",
        "X-Request-Id: \u{e9}\r\n",
    ] {
        let head = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{id}\r\n"), trusted);
        assert_eq!(values(&head, "x-request-id"), ["id-1"], "{id}");
    }
}

#[test]
fn writes_one_framing() {
    let length = request("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0042\r\n\r\n", FACTS);
    assert_eq!(values(&length, "content-length"), ["42"]);
    let chunked =
        request("POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: CHUNKED\r\n\r\n", FACTS);
    assert_eq!(values(&chunked, "transfer-encoding"), ["chunked"]);
    assert_eq!(values(&chunked, "trailer"), ["X-Sum"]);
    let none = request(
        "POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\n\r\n",
        FACTS,
    );
    assert!(
        !none.to_ascii_lowercase().contains("content") && !none.to_ascii_lowercase().contains("transfer"),
        "{none}"
    );
}

#[test]
fn passes_on_what_was_asked_of_the_upstream() {
    let head = request(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, TE, HTTP2-Settings\r\nUpgrade: websocket\r\nTE: trailers\r\nHTTP2-Settings: x\r\n\r\n",
        FACTS,
    );
    assert_eq!(values(&head, "connection"), ["upgrade, TE"]);
    assert_eq!(values(&head, "upgrade"), ["websocket"]);
    assert_eq!(values(&head, "te"), ["trailers"]);
    assert_eq!(values(&head, "http2-settings"), [""; 0]);
    let head = request(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-Continue\r\nTE: trailers\r\n\r\n",
        FACTS,
    );
    assert_eq!(values(&head, "expect"), ["100-continue"]);
    assert_eq!(values(&head, "connection"), ["TE"]);
}

#[track_caller]
fn response(text: &str, method: Method, facts: impl Fn(BodyLength) -> ResponseFacts<'static>) -> String {
    let mut head = ResponseHead::default();
    parse_response(text.as_bytes(), &mut Scan::default(), &LIMITS, method, &mut head).unwrap();
    let mut out = Vec::new();
    write_response(&mut out, &head, text.as_bytes(), &facts(head.body));
    String::from_utf8(out).unwrap()
}

const fn to_11(body: BodyLength) -> ResponseFacts<'static> {
    ResponseFacts { version: Version::Http11, close: false, body, hsts: None }
}

const fn to_10(body: BodyLength) -> ResponseFacts<'static> {
    ResponseFacts { version: Version::Http10, close: false, body, hsts: None }
}

#[test]
fn writes_a_whole_response() {
    let text = "HTTP/1.0 200 Fine\r\nServer: x\r\nContent-Length: 5\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: 2\r\n\
         Proxy-Connection: 3\r\nProxy-Authenticate: 4\r\nUpgrade: h2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(
        response(text, Method::Get, to_11),
        "HTTP/1.1 200 Fine\r\nServer: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 5\r\n\r\n"
    );
    assert_eq!(
        response("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Method::Get, to_11),
        "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn frames_responses_for_either_version() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
    let head = response(chunked, Method::Get, to_11);
    assert_eq!(values(&head, "transfer-encoding"), ["chunked"]);
    assert_eq!(values(&head, "trailer"), ["X-Sum"]);
    for body in [BodyLength::UntilClose, BodyLength::Chunked] {
        let head = response(chunked, Method::Get, |_| to_10(body));
        assert_eq!(head, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    }
    let unframed = "HTTP/1.1 200 OK\r\n\r\n";
    assert_eq!(values(&response(unframed, Method::Get, to_11), "connection"), ["close"]);
    assert_eq!(
        values(&response(unframed, Method::Get, |_| to_11(BodyLength::Chunked)), "transfer-encoding"),
        ["chunked"]
    );
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
    assert_eq!(values(&response(length, Method::Get, to_11), "connection"), [""; 0]);
    assert_eq!(values(&response(length, Method::Get, to_10), "connection"), ["keep-alive"]);
    let closing = |body| ResponseFacts { close: true, ..to_11(body) };
    assert_eq!(values(&response(length, Method::Get, closing), "connection"), ["close"]);
}

/// The length that a response without content describes is the origin's, and there is at most one.
#[test]
fn keeps_a_described_length() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 0123\r\nContent-Length: 0123\r\n\r\n";
    assert_eq!(values(&response(text, Method::Head, to_11), "content-length"), ["0123"]);
    assert_eq!(values(&response(text, Method::Get, to_11), "content-length"), ["123"]);
    let not_modified = text.replace("200", "304");
    assert_eq!(values(&response(&not_modified, Method::Get, to_11), "content-length"), ["0123"]);
    let no_content = text.replace("200", "204");
    assert_eq!(values(&response(&no_content, Method::Get, to_11), "content-length"), [""; 0]);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(response(chunked, Method::Head, to_11), "HTTP/1.1 200 OK\r\n\r\n");
}

#[test]
fn passes_interim_responses() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let closing = |body| ResponseFacts { close: true, ..to_11(body) };
    assert_eq!(response(early, Method::Get, closing), "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
    assert_eq!(
        response(switching, Method::Get, to_11),
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
}

/// A head that does not lie in its buffer as HTTP/1 lays it out, such as a decoded HTTP/2 one, is written the same.
#[test]
fn writes_heads_of_any_layout() {
    let buf = b"GETaccept*/*example.comxyz";
    let header = |name: (usize, usize), value: (usize, usize)| Header {
        name: Span::new(name.0, name.1),
        value: Span::new(value.0, value.1),
        id: HeaderId::Other,
    };
    let head = RequestHead {
        method_text: Span::new(0, 3),
        authority: Span::new(12, 23),
        headers: vec![header((3, 9), (9, 12)), header((23, 24), (24, 26))],
        ..RequestHead::default()
    };
    let mut out = Vec::new();
    write_request(&mut out, &head, buf, &FACTS);
    let out = String::from_utf8(out).unwrap();
    assert!(
        out.starts_with("GET / HTTP/1.1\r\nHost: example.com\r\naccept: */*\r\nx: yz\r\nX-Forwarded-For: "),
        "{out}"
    );
}
