//! What must hold for any input of the HTTP/1 parsers, of the ClientHello walker and of the PROXY protocol's parser, as
//! functions that panic when it does not.
//!
//! The targets of `tests/fuzz` call them with what the fuzzer found, and the tests below with input from a seeded
//! generator, so that every ordinary test run tries some of it. Not part of the crate's interface.

mod client_hello;
mod proxy_protocol;

use std::fmt::Debug;
use std::net::IpAddr;

use crate::config::model::{Backslashes, EscapedSlashes, PathPolicy};
use crate::http1::{
    ChunkError, ChunkEvent, ChunkLimits, Decoder, HeadLimits, Progress, Refusal, RequestFacts, ResponseFacts,
    ResponseFault, Scan, chunked, parse_request, parse_response, target, write_request, write_response,
};
use crate::message::{BodyLength, Header, HeaderId, Method, RequestHead, ResponseHead, Span, Version};

pub use client_hello::client_hello;
pub use proxy_protocol::proxy_protocol;

/// Small, so that short inputs reach each of them.
const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 1024, headers_max: 12, target_bytes_max: 128 };

/// Room for what rewriting adds.
const LIMITS_REWRITTEN: HeadLimits =
    HeadLimits { head_bytes_max: 16 * 1024, headers_max: 32, target_bytes_max: 1024 };

/// A request head: one verdict however it arrives, and what leaves says the same as what came.
pub fn request_head(data: &[u8]) {
    let whole = request_by(data, &[data.len()]);
    for cuts in [every_byte(data), some_cuts(data)] {
        assert_same(&request_by(data, &cuts), &whole, data);
    }
    let Ok(Some(head)) = whole else { return };
    assert!(
        head.head_len <= data.len().min(LIMITS.head_bytes_max) && head.headers.len() <= LIMITS.headers_max
    );
    let spans = [head.method_text, head.target, head.authority, head.path, head.query.unwrap_or_default()];
    assert_inside(&spans, &head.headers, head.head_len);
    for (trusted, tls) in [(false, true), (true, false)] {
        for policy in POLICIES {
            let mut scratch = Vec::new();
            let path = target::normalize(head.path.of(data), &policy, &mut scratch);
            if let Ok(path) = path {
                assert_normal(path, &policy);
            }
            let path = path.unwrap_or_else(|_| head.path.of(data));
            rewritten_request(&head, data, path, trusted, tls);
        }
    }
}

/// The policies that differ most.
const POLICIES: [PathPolicy; 3] = [
    PathPolicy {
        escaped_slashes: EscapedSlashes::RejectRequest,
        backslashes: Backslashes::RejectRequest,
        merge_slashes: false,
    },
    PathPolicy {
        escaped_slashes: EscapedSlashes::KeepUnchanged,
        backslashes: Backslashes::KeepUnchanged,
        merge_slashes: false,
    },
    PathPolicy {
        escaped_slashes: EscapedSlashes::UnescapeAndForward,
        backslashes: Backslashes::ConvertToSlash,
        merge_slashes: true,
    },
];

/// A normal path stays as it is, is absolute, and has no segment that climbs.
fn assert_normal(path: &[u8], policy: &PathPolicy) {
    let mut scratch = Vec::new();
    assert_eq!(target::normalize(path, policy, &mut scratch), Ok(path), "{}", path.escape_ascii());
    assert_eq!(path.first(), Some(&b'/'));
    for segment in path.split(|byte| *byte == b'/') {
        assert!(segment != b"." && segment != b"..", "{}", path.escape_ascii());
    }
    assert!(!policy.merge_slashes || !path.windows(2).any(|pair| pair == b"//"), "{}", path.escape_ascii());
}

/// Writes the request and reads it again as an upstream would.
fn rewritten_request(head: &RequestHead, data: &[u8], path: &[u8], trusted: bool, tls: bool) {
    let facts = RequestFacts {
        path,
        peer: IpAddr::from([192, 0, 2, 1]),
        trusted,
        tls,
        client_certificate: if tls { "Hash=0;Subject=\"\"" } else { "" },
        request_id: b"0f8fad5b-d9cb-469f-a165-70867728950e",
        body: head.body,
    };
    let mut out = Vec::new();
    write_request(&mut out, head, data, &facts);
    let mut again = RequestHead::default();
    let progress = parse_request(&out, &mut Scan::default(), &LIMITS_REWRITTEN, &mut again);
    if head.authority.is_empty() {
        assert_eq!(progress, Err(Refusal::InvalidHost), "an empty Host stands for none");
        return;
    }
    let shown = out.escape_ascii();
    assert_eq!(progress, Ok(Progress::Complete), "{shown}");
    assert_eq!(again.head_len, out.len(), "{shown}");
    let path = if path.is_empty() && !head.asterisk { b"/" } else { path };
    assert!(head.asterisk == again.asterisk && (head.asterisk || again.path.of(&out) == path), "{shown}");
    assert_eq!(
        (again.method, again.method_text.of(&out)),
        (head.method, head.method_text.of(data)),
        "{shown}"
    );
    assert_eq!(again.query.map(|span| span.of(&out)), head.query.map(|span| span.of(data)), "{shown}");
    assert_eq!(again.authority.of(&out), head.authority.of(data), "{shown}");
    assert_eq!((again.version, again.body), (Version::Http11, head.body), "{shown}");
    assert_eq!(again.te_trailers, head.te_trailers, "{shown}");
    assert_eq!(again.expect_continue, head.expect_continue, "{shown}");
    assert_eq!(again.upgrade.map(|span| span.of(&out)), head.upgrade.map(|span| span.of(data)), "{shown}");
    for (id, count) in [
        (HeaderId::Host, 1),
        (HeaderId::Via, 1),
        (HeaderId::XForwardedFor, 1),
        (HeaderId::XRequestId, 1),
        (HeaderId::KeepAlive, 0),
        (HeaderId::ProxyConnection, 0),
        (HeaderId::ContentLength, usize::from(matches!(head.body, BodyLength::Known(_)))),
        (HeaderId::TransferEncoding, usize::from(head.body == BodyLength::Chunked)),
        (HeaderId::Connection, usize::from(head.upgrade.is_some() || head.te_trailers)),
    ] {
        assert_eq!(again.headers.iter().filter(|header| header.id == id).count(), count, "{id:?} in {shown}");
    }
}

/// A response head, to `GET` or, by its first byte, `HEAD`: one verdict however it arrives, and what leaves says the
/// same as what came.
pub fn response_head(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let method = if *first == b'H' { Method::Head } else { Method::Get };
    let whole = response_by(data, &[data.len()], method);
    for cuts in [every_byte(data), some_cuts(data)] {
        assert_same(&response_by(data, &cuts, method), &whole, data);
    }
    let Ok(Some(head)) = whole else { return };
    assert!(
        head.head_len <= data.len().min(LIMITS.head_bytes_max) && head.headers.len() <= LIMITS.headers_max
    );
    assert_inside(&[head.reason, head.upgrade.unwrap_or_default()], &head.headers, head.head_len);
    for close in [false, true] {
        let mut out = Vec::new();
        let facts = ResponseFacts { version: Version::Http11, close, body: head.body, hsts: None };
        write_response(&mut out, &head, data, &facts);
        let shown = out.escape_ascii();
        let mut again = ResponseHead::default();
        let progress = parse_response(&out, &mut Scan::default(), &LIMITS_REWRITTEN, method, &mut again);
        assert_eq!((progress, again.head_len), (Ok(Progress::Complete), out.len()), "{shown}");
        assert_eq!((again.status, again.body), (head.status, head.body), "{shown}");
        assert_eq!(again.reason.of(&out), head.reason.of(data), "{shown}");
        if head.status >= 200 {
            assert_eq!(again.keep_alive, !close && head.body != BodyLength::UntilClose, "{shown}");
        }
        let framings = again
            .headers
            .iter()
            .filter(|header| matches!(header.id, HeaderId::ContentLength | HeaderId::TransferEncoding));
        assert!(framings.count() <= 1, "{shown}");
    }
}

/// Chunked content: one outcome however it arrives, and what is written again decodes to the same.
pub fn chunked(data: &[u8]) {
    let limits = ChunkLimits {
        extension_bytes_max: 32,
        extensions_bytes_max: 64,
        trailer_bytes_max: 128,
        trailers_max: 6,
    };
    let whole = decode_by(data, &[data.len()], limits);
    for cuts in [every_byte(data), some_cuts(data)] {
        assert_same(&decode_by(data, &cuts, limits), &whole, data);
    }
    let (content, Ok(Some((used, trailers)))) = whole else { return };
    assert!(used <= data.len() && content.len() < used);
    let mut out = Vec::new();
    for piece in content.chunks(7) {
        chunked::write_chunk_head(&mut out, piece.len());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    chunked::write_last_chunk(&mut out, trailers.iter().map(|(name, value)| (&name[..], &value[..])));
    // A trailer "a:b" is written "a: b", so the section may grow by a byte per field.
    let limits = ChunkLimits { trailer_bytes_max: 256, ..limits };
    let (content_again, ended) = decode_by(&out, &[out.len()], limits);
    assert_eq!(content_again, content);
    let Ok(Some((used_again, trailers_again))) = ended else {
        panic!("{ended:?} from {}", out.escape_ascii());
    };
    assert_eq!(used_again, out.len());
    assert!(trailers_again.iter().all(|trailer| trailers.contains(trailer)));
    assert!(!trailers_again.iter().any(|(name, _)| chunked_names_forbidden(name)));
}

/// A few names that must never pass as a trailer, told without the table under test.
fn chunked_names_forbidden(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    [&b"content-length"[..], b"transfer-encoding", b"host", b"authorization", b"connection", b"cookie"]
        .contains(&&name[..])
}

type Parsed<Head, Fault> = Result<Option<Head>, Fault>;

/// Parses growing prefixes of `data`, as long as `cuts` says, until there is a verdict.
fn request_by(data: &[u8], cuts: &[usize]) -> Parsed<RequestHead, Refusal> {
    let (mut scan, mut head) = (Scan::default(), RequestHead::default());
    for prefix in cuts.iter().filter_map(|cut| data.get(..*cut)) {
        if parse_request(prefix, &mut scan, &LIMITS, &mut head)? == Progress::Complete {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

fn response_by(data: &[u8], cuts: &[usize], method: Method) -> Parsed<ResponseHead, ResponseFault> {
    let (mut scan, mut head) = (Scan::default(), ResponseHead::default());
    for prefix in cuts.iter().filter_map(|cut| data.get(..*cut)) {
        if parse_response(prefix, &mut scan, &LIMITS, method, &mut head)? == Progress::Complete {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

type Trailers = Vec<(Vec<u8>, Vec<u8>)>;
/// Content, then the bytes it took and its trailers once it has ended.
type Decoded = (Vec<u8>, Result<Option<(usize, Trailers)>, ChunkError>);

/// Decodes the parts of `data` between `cuts`.
fn decode_by(data: &[u8], cuts: &[usize], limits: ChunkLimits) -> Decoded {
    let mut decoder = Decoder::new(limits);
    let (mut content, mut at) = (Vec::new(), 0);
    for &cut in cuts {
        loop {
            let part = data.get(at..cut).unwrap_or_default();
            let (used, event) = match decoder.decode(part) {
                Ok(step) => step,
                Err(error) => return (content, Err(error)),
            };
            assert!(used <= part.len());
            at += used;
            match event {
                ChunkEvent::Data(range) => {
                    assert!(!range.is_empty() && range.end == used);
                    content.extend_from_slice(part.get(range).unwrap_or_default());
                }
                ChunkEvent::NeedMore => {
                    assert_eq!(used, part.len());
                    break;
                }
                ChunkEvent::End => {
                    let owned = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
                    return (content, Ok(Some((at, decoder.trailers().map(owned).collect()))));
                }
            }
        }
    }
    (content, Ok(None))
}

/// Cuts behind every byte.
fn every_byte(data: &[u8]) -> Vec<usize> {
    (0..=data.len()).collect()
}

/// Some cuts that depend on nothing but `data`, so that a failure repeats.
fn some_cuts(data: &[u8]) -> Vec<usize> {
    let seed = data.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut numbers = Numbers(seed | 1);
    let (mut cuts, mut cut) = (Vec::new(), 0);
    while cut < data.len() {
        cut = data.len().min(cut + numbers.below(40));
        cuts.push(cut);
    }
    cuts
}

/// Demands that two ways of reading `data` came to the same.
fn assert_same<T: Debug>(one: &T, other: &T, data: &[u8]) {
    assert_eq!(format!("{one:?}"), format!("{other:?}"), "from {}", data.escape_ascii());
}

/// Demands that all spans lie inside the head.
fn assert_inside(spans: &[Span], headers: &[Header], head_len: usize) {
    let fields = headers.iter().flat_map(|header| [header.name, header.value]);
    for span in spans.iter().copied().chain(fields) {
        assert!(span.start <= span.end && span.end as usize <= head_len);
    }
}

/// xorshift64: numbers that a seed repeats.
struct Numbers(u64);

impl Numbers {
    /// A number from 0 to `bound - 1`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }
}

#[cfg(test)]
mod tests;
