//! Properties of generated input: what a valid message says is what is read from it, and what is written is read back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use proptest::prelude::*;

use super::{
    ChunkEvent, ChunkLimits, Decoder, HeadLimits, Progress, Scan, authority, chunked, parse_request,
    parse_response, target,
};
use crate::config::model::{Backslashes, EscapedSlashes, PathPolicy};
use crate::message::{BodyLength, HeaderId, Method, RequestHead, ResponseHead};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 64 * 1024, headers_max: 64, target_bytes_max: 4096 };

/// Fields that ringgate does not act upon: name, white space before the value, value, white space behind it.
fn fields() -> impl Strategy<Value = Vec<(String, String, Vec<u8>, String)>> {
    let name = "Y[!#$%&'*+.^_`|~0-9A-Za-z-]{0,20}";
    let value = proptest::collection::vec(
        prop_oneof![8 => 0x21..0x7fu8, 1 => Just(b' '), 1 => Just(b'\t'), 1 => 0x80u8..],
        0..60,
    )
    .prop_map(|bytes| super::framing::trim(&bytes).to_vec());
    proptest::collection::vec((name, "[ \t]{0,3}", value, "[ \t]{0,2}"), 0..20)
}

fn push_fields(text: &mut Vec<u8>, fields: &[(String, String, Vec<u8>, String)]) {
    for (name, before, value, behind) in fields {
        text.extend_from_slice(format!("{name}:{before}").as_bytes());
        text.extend_from_slice(value);
        text.extend_from_slice(format!("{behind}\r\n").as_bytes());
    }
}

fn policies() -> impl Strategy<Value = PathPolicy> {
    let escaped = prop_oneof![
        Just(EscapedSlashes::KeepUnchanged),
        Just(EscapedSlashes::RejectRequest),
        Just(EscapedSlashes::UnescapeAndForward)
    ];
    let back = prop_oneof![
        Just(Backslashes::KeepUnchanged),
        Just(Backslashes::RejectRequest),
        Just(Backslashes::ConvertToSlash)
    ];
    (escaped, back, any::<bool>()).prop_map(|(escaped_slashes, backslashes, merge_slashes)| PathPolicy {
        escaped_slashes,
        backslashes,
        merge_slashes,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A valid request is taken, wherever it was cut, and every part of it is what was put in.
    #[test]
    fn reads_what_a_valid_request_says(
        method in "[A-Z!#$%&'*+.^_`|~-]{1,20}".prop_filter("served", |m| m != "TRACE" && m != "CONNECT"),
        path in "/[!\"$-.0->@-~/]{0,40}",
        query in proptest::option::of("[!-\"$-~]{0,40}"),
        host in "[a-z0-9.-]{1,20}(:[0-9]{1,4})?",
        fields in fields(),
        body in prop_oneof![Just(None), (0..=i64::MAX as u64).prop_map(Some)],
        cut in any::<proptest::sample::Index>(),
    ) {
        let query_text = query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let mut text = format!("{method} {path}{query_text} HTTP/1.1\r\nhOST:{host}\r\n").into_bytes();
        push_fields(&mut text, &fields);
        if let Some(length) = body {
            text.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
        }
        text.extend_from_slice(b"\r\n");
        let head_len = text.len();
        text.extend_from_slice(b"GET /next HTTP/1.1\r\n\r\n");

        let (mut scan, mut head) = (Scan::default(), RequestHead::default());
        let first = &text[..cut.index(head_len)];
        prop_assert_eq!(parse_request(first, &mut scan, &LIMITS, &mut head), Ok(Progress::Incomplete));
        prop_assert_eq!(parse_request(&text, &mut scan, &LIMITS, &mut head), Ok(Progress::Complete));
        prop_assert_eq!(head.head_len, head_len);
        prop_assert_eq!(head.method_text.of(&text), method.as_bytes());
        prop_assert_eq!(head.path.of(&text), path.as_bytes());
        prop_assert_eq!(head.query.map(|span| span.of(&text)), query.as_ref().map(|query| query.as_bytes()));
        prop_assert_eq!(head.authority.of(&text), host.as_bytes());
        prop_assert_eq!(head.body, body.map_or(BodyLength::None, BodyLength::Known));
        let read: Vec<_> = head.headers.iter().filter(|header| header.id == HeaderId::Other)
            .map(|header| (header.name.of(&text), header.value.of(&text))).collect();
        let put_in: Vec<_> = fields.iter().map(|(name, _, value, _)| (name.as_bytes(), &value[..])).collect();
        prop_assert_eq!(read, put_in);
    }

    /// The same for responses.
    #[test]
    fn reads_what_a_valid_response_says(
        status in 200u16..1000,
        reason in "[ -~\t]{0,30}",
        fields in fields(),
        length in 0..=i64::MAX as u64,
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut text = format!("HTTP/1.1 {status} {reason}\r\n").into_bytes();
        push_fields(&mut text, &fields);
        text.extend_from_slice(format!("CONTENT-length: {length}\r\n\r\n").as_bytes());
        let (mut scan, mut head) = (Scan::default(), ResponseHead::default());
        let first = &text[..cut.index(text.len())];
        let progress = parse_response(first, &mut scan, &LIMITS, Method::Get, &mut head);
        prop_assert_eq!(progress, Ok(Progress::Incomplete));
        let progress = parse_response(&text, &mut scan, &LIMITS, Method::Get, &mut head);
        prop_assert_eq!(progress, Ok(Progress::Complete));
        prop_assert_eq!((head.status, head.reason.of(&text)), (status, reason.as_bytes()));
        let has_content = status != 204 && status != 304;
        prop_assert_eq!(head.body, if has_content { BodyLength::Known(length) } else { BodyLength::None });
        prop_assert_eq!(head.headers.len(), fields.len() + 1);
    }

    /// The normal form of a path is its own normal form, and only one path has no normal form: a malformed one.
    #[test]
    fn normalizes_once_and_for_all(
        pieces in proptest::collection::vec(
            prop_oneof!["/", "a", "\\.", "\\.\\.", "%2[eEfF]", "%5[cC]", "\\\\", "%[0-9a-fA-F]{2}", "//", "[!-~]", "%25"], 0..12),
        policy in policies(),
    ) {
        let path = format!("/{}", pieces.concat());
        let (mut first, mut second) = (Vec::new(), Vec::new());
        if let Ok(normal) = target::normalize(path.as_bytes(), &policy, &mut first) {
            prop_assert_eq!(target::normalize(normal, &policy, &mut second), Ok(normal));
            prop_assert!(normal.starts_with(b"/"));
            prop_assert!(normal.split(|byte| *byte == b'/').all(|segment| segment != b"." && segment != b".."));
            prop_assert!(normal.iter().all(u8::is_ascii_graphic));
            prop_assert!(normal.len() <= 3 * path.len());
        }
    }

    /// Dot segments are removed as RFC 3986 section 5.2.4 spells it out, checked against its literal transcription.
    #[test]
    fn removes_dot_segments_as_the_rfc_does(path in "(/|/\\.|/\\.\\.|/a|/b\\.|//){1,10}") {
        let mut scratch = Vec::new();
        let normal = target::normalize(path.as_bytes(), &PathPolicy::default(), &mut scratch).unwrap();
        prop_assert_eq!(String::from_utf8_lossy(normal), remove_dot_segments(&path));
    }

    /// Content of any chunks comes back whole, whatever the parts in which it arrives.
    #[test]
    fn decodes_what_is_encoded(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..8),
        part_len in 1usize..60,
    ) {
        let mut encoded = Vec::new();
        for chunk in &chunks {
            chunked::write_chunk_head(&mut encoded, chunk.len());
            encoded.extend_from_slice(chunk);
            encoded.extend_from_slice(b"\r\n");
        }
        chunked::write_last_chunk(&mut encoded, [(&b"X-Sum"[..], &b"1"[..])]);
        let mut decoder = Decoder::new(ChunkLimits::default());
        let mut data = Vec::new();
        for mut part in encoded.chunks(part_len) {
            loop {
                let (used, event) = decoder.decode(part).unwrap();
                match event {
                    ChunkEvent::Data(range) => data.extend_from_slice(&part[range]),
                    ChunkEvent::NeedMore | ChunkEvent::End => break,
                }
                part = &part[used..];
            }
        }
        prop_assert!(decoder.is_ended());
        prop_assert_eq!(data, chunks.concat());
        prop_assert_eq!(decoder.trailers().collect::<Vec<_>>(), [(&b"X-Sum"[..], &b"1"[..])]);
    }

    /// Whatever authority is valid splits into a host that is not empty and the rest.
    #[test]
    fn splits_valid_authorities(text in "[a-z0-9.:@%\\[\\]_ -]{0,24}") {
        if authority::is_valid(text.as_bytes()) {
            let (host, port) = authority::split(text.as_bytes());
            prop_assert!(!host.is_empty() && text.as_bytes().starts_with(host));
            let rest = &text[host.len()..];
            match port {
                Some(port) => prop_assert_eq!(rest.strip_prefix(':').and_then(|p| p.parse().ok()), Some(port)),
                None => prop_assert!(rest.is_empty() || rest == ":"),
            }
        }
    }
}

/// RFC 3986 section 5.2.4, step by step.
fn remove_dot_segments(path: &str) -> String {
    let (mut input, mut output) = (path.to_owned(), String::new());
    while !input.is_empty() {
        if input.starts_with("/./") {
            input.replace_range(..2, "");
        } else if input == "/." {
            input = "/".into();
        } else if input.starts_with("/../") || input == "/.." {
            input = if input == "/.." { "/".into() } else { input[3..].to_owned() };
            output.truncate(output.rfind('/').unwrap_or(0));
        } else {
            let end = input[1..].find('/').map_or(input.len(), |slash| slash + 1);
            output.push_str(&input[..end]);
            input.replace_range(..end, "");
        }
    }
    output
}
