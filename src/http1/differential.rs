//! Our parsers against httparse, on valid heads and on damaged ones.
//!
//! Whatever we take, httparse takes with the same parts; what it rejects, we refuse. The other way round we are
//! stricter on purpose, and the tests name every refusal that may happen to a head that httparse takes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::{HeadLimits, Progress, Refusal, ResponseFault, Scan, parse_request, parse_response};
use crate::message::{Method, RequestHead, ResponseHead, Version};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 8192, headers_max: 64, target_bytes_max: 4096 };

/// Lines that meet every branch of both parsers.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        6 => "[A-Za-z-]{1,12}: ?[ -~]{0,30}",
        1 => "[!-~]{1,6}:[ -~\t]{0,10}",
        1 => Just("Content-Length: 5".to_owned()),
        1 => Just("Transfer-Encoding: chunked".to_owned()),
        1 => Just("Connection: close".to_owned()),
        1 => "[ \t][ -~]{0,5}",
    ];
    proptest::collection::vec((line, prop_oneof![19 => Just("\r\n"), 1 => Just("\n")]), 0..8)
        .prop_map(|lines| lines.into_iter().map(|(line, end)| line + end).collect::<String>().into_bytes())
}

/// Bytes put at places of a head, each instead of what is there or before it.
fn damages() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, bool)>> {
    let byte = prop_oneof![3 => prop::sample::select(&b"\r\n\0 \t:/#\x7f\x80"[..]), 1 => any::<u8>()];
    let damage = (any::<prop::sample::Index>(), byte, any::<bool>());
    prop_oneof![1 => Just(Vec::new()), 2 => proptest::collection::vec(damage, 1..4)]
}

fn damaged(mut bytes: Vec<u8>, damages: &[(prop::sample::Index, u8, bool)]) -> Vec<u8> {
    for (place, byte, replaces) in damages {
        let at = place.index(bytes.len());
        bytes.splice(at..at + usize::from(*replaces), [*byte]);
    }
    bytes
}

/// Refusals that a head may meet although httparse takes it, with the reason why we are stricter.
fn is_stricter(refusal: Refusal) -> bool {
    match refusal {
        // What the fields mean is not httparse's business.
        Refusal::BadConnection
        | Refusal::BadContentLength
        | Refusal::BadTransferEncoding
        | Refusal::ChunkedInHttp10
        | Refusal::ExpectationFailed
        | Refusal::InvalidHost
        | Refusal::LengthAndChunked
        | Refusal::MissingHost
        | Refusal::RepeatedHost
        | Refusal::UnknownTransferCoding => true,
        // Nor are methods, and it takes any text for a target, with bytes above ASCII and `#`.
        Refusal::BadTarget | Refusal::ConnectNotSupported | Refusal::MethodNotAllowed => true,
        // It takes a lone LF for a line end and any number of empty lines before the request line.
        Refusal::BareLf | Refusal::BadRequestLine => true,
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_agree_with_httparse(
        line in "(GET|POST|OPTIONS|[A-Z]{1,8}) (/[!-~]{0,20}|http://[a-z.]{1,9}/[!-~]{0,9}|\\*) HTTP/1\\.[01]\r\n",
        host in prop_oneof![4 => Just("Host: a.example\r\n"), 1 => Just("")],
        lines in lines(),
        damages in damages(),
    ) {
        let text = [line.as_bytes(), host.as_bytes(), &lines, b"\r\n"].concat();
        let text = damaged(text, &damages);
        let mut head = RequestHead::default();
        let ours = parse_request(&text, &mut Scan::default(), &LIMITS, &mut head);
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut oracle = httparse::Request::new(&mut fields);
        match (ours, oracle.parse(&text)) {
            (Ok(Progress::Complete), Ok(httparse::Status::Complete(head_len))) => {
                prop_assert_eq!(head.head_len, head_len);
                prop_assert_eq!(head.method_text.of(&text), oracle.method.unwrap().as_bytes());
                prop_assert_eq!(head.target.of(&text), oracle.path.unwrap().as_bytes());
                prop_assert_eq!(head.version == Version::Http11, oracle.version == Some(1));
                let ours: Vec<_> = head.headers.iter().map(|h| (h.name.of(&text), h.value.of(&text))).collect();
                let theirs: Vec<_> = oracle.headers.iter().map(|h| (h.name.as_bytes(), h.value)).collect();
                prop_assert_eq!(ours, theirs);
            }
            (Ok(Progress::Incomplete), Ok(httparse::Status::Partial)) => {}
            // We refuse the first bad byte; httparse may still wait for more of the line.
            (Err(_), Err(_) | Ok(httparse::Status::Partial)) => {}
            (Err(refusal), Ok(httparse::Status::Complete(_))) => {
                prop_assert!(is_stricter(refusal), "{refusal} for {}", text.escape_ascii());
            }
            (ours, theirs) => prop_assert!(false, "{ours:?}, {theirs:?} for {}", text.escape_ascii()),
        }
    }

    #[test]
    fn responses_agree_with_httparse(
        line in "HTTP/1\\.[01] [1-9][0-9]{2}( [ -~\t]{0,12})?\r\n",
        lines in lines(),
        damages in damages(),
    ) {
        let text = damaged([line.as_bytes(), &lines, b"\r\n"].concat(), &damages);
        let mut head = ResponseHead::default();
        let ours = parse_response(&text, &mut Scan::default(), &LIMITS, Method::Get, &mut head);
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut oracle = httparse::Response::new(&mut fields);
        match (ours, oracle.parse(&text)) {
            (Ok(Progress::Complete), Ok(httparse::Status::Complete(head_len))) => {
                prop_assert_eq!((head.head_len, Some(head.status)), (head_len, oracle.code));
                // httparse gives an empty reason where the phrase has bytes above ASCII.
                let reason = head.reason.of(&text);
                prop_assert!(oracle.reason.unwrap().as_bytes() == reason || !reason.is_ascii());
                let ours: Vec<_> = head.headers.iter().map(|h| (h.name.of(&text), h.value.of(&text))).collect();
                let theirs: Vec<_> = oracle.headers.iter().map(|h| (h.name.as_bytes(), h.value)).collect();
                prop_assert_eq!(ours, theirs);
            }
            (Ok(Progress::Incomplete), Ok(httparse::Status::Partial)) => {}
            (Err(_), Err(_) | Ok(httparse::Status::Partial)) => {}
            (Err(fault), Ok(httparse::Status::Complete(_))) => {
                let stricter = [
                    ResponseFault::BadConnection,
                    ResponseFault::BadContentLength,
                    ResponseFault::BadStatusLine,
                    ResponseFault::BadTransferEncoding,
                    ResponseFault::BareLf,
                    ResponseFault::ChunkedInHttp10,
                    ResponseFault::FramedInterim,
                    ResponseFault::LengthAndChunked,
                ];
                prop_assert!(stricter.contains(&fault), "{fault} for {}", text.escape_ascii());
            }
            (ours, theirs) => prop_assert!(false, "{ours:?}, {theirs:?} for {}", text.escape_ascii()),
        }
    }
}
