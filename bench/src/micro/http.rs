//! Operations on HTTP/1 messages.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use ringgate::config::model::PathPolicy;
use ringgate::http1::chunked::{ChunkEvent, ChunkLimits, Decoder, write_chunk_head, write_last_chunk};
use ringgate::http1::request::parse_request;
use ringgate::http1::response::parse_response;
use ringgate::http1::rewrite::{RequestFacts, ResponseFacts, write_request, write_response};
use ringgate::http1::scan::{HeadLimits, Progress, Scan};
use ringgate::http1::target::normalize;
use ringgate::message::{BodyLength, Method, RequestHead, ResponseHead, Version};

use super::cases::Operation;

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 32 * 1024, headers_max: 100, target_bytes_max: 16 * 1024 };

const SMALL: &[u8] =
    b"GET / HTTP/1.1\r\nHost: www.example.test\r\nUser-Agent: load/1.0\r\nAccept: */*\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Tue, 24 Nov 2026 10:00:00 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\nContent-Length: 5120\r\nConnection: keep-alive\r\n\
    Cache-Control: public, max-age=600\r\nETag: \"5f3c-1a2b3c4d5e6f\"\r\nVary: Accept-Encoding\r\n\
    X-Frame-Options: SAMEORIGIN\r\nStrict-Transport-Security: max-age=31536000\r\n\r\n";

/// A head as a browser sends it to a site with cookies.
fn browser() -> Vec<u8> {
    let mut head = b"GET /shop/articles/4711/details?ref=start&page=2 HTTP/1.1\r\n".to_vec();
    let fields: &[(&str, &str)] = &[
        ("Host", "www.example.test"),
        ("Connection", "keep-alive"),
        ("Cache-Control", "max-age=0"),
        ("sec-ch-ua", "\"Chromium\";v=\"140\", \"Not.A/Brand\";v=\"24\""),
        ("sec-ch-ua-mobile", "?0"),
        ("sec-ch-ua-platform", "\"Linux\""),
        ("Upgrade-Insecure-Requests", "1"),
        (
            "User-Agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0",
        ),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
        ("Referer", "https://www.example.test/shop/articles"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
    ];
    for (name, value) in fields {
        head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    head.extend_from_slice(
        format!("Cookie: session={}; basket={}\r\n\r\n", "a1".repeat(64), "7f".repeat(120)).as_bytes(),
    );
    head
}

fn parse(bytes: Vec<u8>) -> Operation {
    let (mut scan, mut head) = (Scan::default(), RequestHead::default());
    Box::new(move || {
        let done = parse_request(black_box(&bytes), &mut scan, &LIMITS, &mut head);
        assert_eq!(done, Ok(Progress::Complete));
        black_box(&head);
    })
}

pub(super) fn parse_request_small() -> Operation {
    parse(SMALL.to_vec())
}

pub(super) fn parse_request_browser() -> Operation {
    parse(browser())
}

pub(super) fn parse_response_typical() -> Operation {
    let (mut scan, mut head) = (Scan::default(), ResponseHead::default());
    Box::new(move || {
        let done = parse_response(black_box(RESPONSE), &mut scan, &LIMITS, Method::Get, &mut head);
        assert_eq!(done, Ok(Progress::Complete));
        black_box(&head);
    })
}

fn normal_form(path: &'static [u8]) -> Operation {
    let mut scratch = Vec::new();
    Box::new(move || {
        let normal = normalize(black_box(path), &PathPolicy::default(), &mut scratch);
        assert!(normal.is_ok());
        let _ = black_box(normal);
    })
}

pub(super) fn normalize_plain() -> Operation {
    normal_form(b"/shop/articles/4711/details")
}

pub(super) fn normalize_escaped() -> Operation {
    normal_form(b"/shop/./a/../articles/%34711/d%65tails%20x")
}

pub(super) fn write_request_browser() -> Operation {
    let bytes = browser();
    let mut head = RequestHead::default();
    let parsed = parse_request(&bytes, &mut Scan::default(), &LIMITS, &mut head);
    assert_eq!(parsed, Ok(Progress::Complete));
    let mut out = Vec::with_capacity(4096);
    Box::new(move || {
        out.clear();
        let facts = RequestFacts {
            path: head.path.of(&bytes),
            peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 17)),
            trusted: false,
            tls: false,
            client_certificate: "",
            request_id: b"0123456789abcdef0123456789abcdef",
            body: BodyLength::None,
        };
        write_request(&mut out, black_box(&head), &bytes, &facts);
        black_box(&out);
    })
}

pub(super) fn write_response_typical() -> Operation {
    let mut head = ResponseHead::default();
    let parsed = parse_response(RESPONSE, &mut Scan::default(), &LIMITS, Method::Get, &mut head);
    assert_eq!(parsed, Ok(Progress::Complete));
    let mut out = Vec::with_capacity(4096);
    Box::new(move || {
        out.clear();
        let facts = ResponseFacts { version: Version::Http11, close: false, body: head.body, hsts: None };
        write_response(&mut out, black_box(&head), RESPONSE, &facts);
        black_box(&out);
    })
}

pub(super) fn chunked_64k() -> Operation {
    let mut bytes = Vec::new();
    for _ in 0..16 {
        write_chunk_head(&mut bytes, 4096);
        bytes.extend_from_slice(&[b'x'; 4096]);
        bytes.extend_from_slice(b"\r\n");
    }
    write_last_chunk(&mut bytes, std::iter::empty());
    Box::new(move || {
        let mut decoder = Decoder::new(ChunkLimits::default());
        let (mut at, mut content) = (0, 0);
        loop {
            match decoder.decode(black_box(bytes.get(at..).unwrap_or_default())) {
                Ok((used, ChunkEvent::Data(range))) => {
                    content += range.len();
                    at += used;
                }
                Ok((_, ChunkEvent::End)) => break,
                other => unreachable!("whole and well-formed content gave {other:?}"),
            }
        }
        assert_eq!(content, 65_536);
    })
}
