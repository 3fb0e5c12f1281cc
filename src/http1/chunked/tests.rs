//! Content is decoded at once, byte by byte, and split in two at every place; all ways must agree.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use super::*;

const LIMITS: ChunkLimits =
    ChunkLimits { extension_bytes_max: 8, extensions_bytes_max: 12, trailer_bytes_max: 32, trailers_max: 2 };

/// What one way of decoding came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Outcome {
    data: Vec<u8>,
    trailers: Vec<(String, String)>,
    /// Bytes used when the content ended.
    used: Option<usize>,
    error: Option<ChunkError>,
}

/// Decodes `parts` one after the other.
fn decode_parts(parts: &[&[u8]]) -> Outcome {
    let mut decoder = Decoder::new(LIMITS);
    let mut outcome = Outcome::default();
    let mut before = 0;
    for part in parts {
        let mut at = 0;
        loop {
            let rest = &part[at..];
            match decoder.decode(rest) {
                Ok((used, ChunkEvent::Data(range))) => {
                    assert!(!range.is_empty() && range.end == used);
                    outcome.data.extend_from_slice(&rest[range]);
                    at += used;
                }
                Ok((used, ChunkEvent::NeedMore)) => {
                    assert_eq!(used, rest.len());
                    break;
                }
                Ok((used, ChunkEvent::End)) => {
                    assert!(decoder.is_ended());
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    outcome.trailers =
                        decoder.trailers().map(|(name, value)| (text(name), text(value))).collect();
                    outcome.used = Some(before + at + used);
                    return outcome;
                }
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
        before += part.len();
    }
    outcome
}

/// Decodes in all ways and demands one outcome.
fn decode(bytes: &[u8]) -> Outcome {
    let whole = decode_parts(&[bytes]);
    assert_eq!(decode_parts(&bytes.chunks(1).collect::<Vec<_>>()), whole, "{bytes:?} by bytes");
    for middle in 0..bytes.len() {
        let (first, second) = bytes.split_at(middle);
        assert_eq!(decode_parts(&[first, second]), whole, "{bytes:?} at {middle}");
    }
    whole
}

#[test]
fn decodes_content() {
    for (content, data, behind) in [
        ("0\r\n\r\n", "", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5\r\nhello\r\n6\r\n\r\n0\r\n\r\r\n0\r\n\r\n", "hello\r\n0\r\n\r", ""),
        ("a\r\n0123456789\r\n00A\r\n0123456789\r\n000\r\n\r\nGET /", "01234567890123456789", "GET /"),
        ("3;a=b\r\nabc\r\n0;c\r\n\r\n", "abc", ""),
        ("1;\r\nx\r\n1;\t\u{e9}\r\ny\r\n0\r\n\r\n\r\n", "xy", "\r\n"),
    ] {
        let outcome = decode(content.as_bytes());
        assert_eq!(outcome.error, None, "{content:?}");
        assert_eq!(String::from_utf8_lossy(&outcome.data), data);
        assert_eq!(&content[outcome.used.unwrap()..], behind);
        assert_eq!(outcome.trailers, []);
    }
}

/// Nothing but a size stands before CRLF or `;`, and data ends where its size says.
#[test]
fn refuses_malformed_chunks() {
    for content in [
        "\r\n",
        ";a\r\n",
        "g\r\n",
        "0x5\r\n",
        "+5\r\nhello\r\n",
        "-5\r\n",
        " 5\r\n",
        "5 \r\nhello\r\n",
        "5\t;a\r\n",
        "5\nhello\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloo\r\n",
        "5\rhello\r\n",
        "5;a\nhello\r\n",
        "5;a\rb\r\n",
        "5;\0\r\n",
        "5;\x7f\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "0\r\n\rX",
        "5\r\rhello\r\n",
        "\n",
        "5\r\nhello\r\n\r\n",
    ] {
        assert_eq!(decode(content.as_bytes()).error, Some(ChunkError::BadChunk), "{content:?}");
    }
}

#[test]
fn bounds_sizes() {
    for size in [
        "8000000000000000",
        "ffffffffffffffff",
        "10000000000000000",
        "00000000000000005",
        "fffffffffffffffff",
    ] {
        assert_eq!(decode(format!("{size}\r\n").as_bytes()).error, Some(ChunkError::SizeOverflow), "{size}");
    }
    assert_eq!(decode(b"7fffffffffffffff\r\nx").data, b"x");
    assert_eq!(decode(b"0000000000000001\r\nx\r\n").data, b"x");
}

#[test]
fn bounds_extensions() {
    assert_eq!(decode(b"1;12345678\r\nx\r\n").error, None);
    assert_eq!(decode(b"1;123456789").error, Some(ChunkError::ExtensionTooLong));
    assert_eq!(decode(b"1;123456\r\nx\r\n1;123456\r\ny\r\n0\r\n\r\n").error, None);
    assert_eq!(decode(b"1;123456\r\nx\r\n1;1234567\r\ny\r\n").error, Some(ChunkError::ExtensionTooLong));
}

#[test]
fn collects_trailers() {
    let outcome = decode(b"1\r\nx\r\n0\r\nA: b \r\nC-D:\r\n\r\nGET /");
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.used, Some(24));
    assert_eq!(outcome.trailers, [("A".into(), "b".into()), ("C-D".into(), String::new())]);
    for (trailers, error) in [
        ("A: b\n\r\n", ChunkError::Trailer(FieldFault::BareLf)),
        ("A: b\r\n\n", ChunkError::Trailer(FieldFault::BareLf)),
        ("\n", ChunkError::Trailer(FieldFault::BareLf)),
        ("A : b\r\n\r\n", ChunkError::Trailer(FieldFault::SpaceBeforeColon)),
        (" A: b\r\n\r\n", ChunkError::Trailer(FieldFault::ObsFold)),
        ("A: b\r\n c\r\n\r\n", ChunkError::Trailer(FieldFault::ObsFold)),
        ("A: \0\r\n\r\n", ChunkError::Trailer(FieldFault::Nul)),
        ("5\r\nhello\r\n", ChunkError::Trailer(FieldFault::InvalidName)),
        ("A:\r\nB:\r\nC:\r\n\r\n", ChunkError::Trailer(FieldFault::TooMany)),
        ("A: 0123456789012345678901234567890", ChunkError::TrailersTooLarge),
    ] {
        assert_eq!(decode(format!("0\r\n{trailers}").as_bytes()).error, Some(error), "{trailers:?}");
    }
    let filled = |len: usize| format!("0\r\nA: {}\r\n\r\nGET", "a".repeat(len - 7));
    assert_eq!(decode(filled(32).as_bytes()).used, Some(35));
    assert_eq!(decode(filled(33).as_bytes()).error, Some(ChunkError::TrailersTooLarge));
}

/// What the writers write, the decoder reads; what decides about the message is left out.
#[test]
fn writes_what_it_reads() {
    let mut out = Vec::new();
    write_chunk_head(&mut out, 26);
    out.extend_from_slice(b"abcdefghijklmnopqrstuvwxyz\r\n");
    let trailers = [
        ("X-Sum", "1"),
        ("Content-Length", "5"),
        ("transfer-encoding", "chunked"),
        ("Host", "a"),
        ("Authorization", "b"),
        ("Set-Cookie", "c"),
        ("content_length", "6"),
        ("Trailer", "d"),
        ("Connection", "e"),
        ("X-Forwarded-For", "f"),
        ("Y", ""),
    ];
    write_last_chunk(&mut out, trailers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    assert!(out.starts_with(b"1a\r\na"));
    let outcome = decode(&out);
    assert_eq!(outcome.data, b"abcdefghijklmnopqrstuvwxyz");
    assert_eq!(outcome.trailers, [("X-Sum".into(), "1".into()), ("Y".into(), String::new())]);
    out.clear();
    write_last_chunk(&mut out, []);
    assert_eq!(out, b"0\r\n\r\n");
}
