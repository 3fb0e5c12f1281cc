//! The scanning that requests, responses and trailers share: byte classes, line ends and field lines.
//!
//! Field lines are read strictly from left to right and each byte is looked at once, also when bytes arrive one by
//! one: [`Scan`] remembers the place. A control character is found by the same word-wise search that finds the end of
//! the line, so a value needs no second look (RFC 9112 section 5, RFC 9110 section 5.5).

use super::names;
use crate::message::{Header, Span};

/// Bounds on a head; the first that is passed decides the refusal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadLimits {
    /// Bytes of the whole head, its blank line included.
    pub head_bytes_max: usize,
    /// Field lines.
    pub headers_max: usize,
    /// Bytes of the request target; unused for responses.
    pub target_bytes_max: usize,
}

/// Whether a head is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// The head is filled in; its `head_len` bytes may be consumed.
    Complete,
    /// More bytes are needed; call again with the same buffer, longer.
    Incomplete,
}

/// How far a head has been read. Belongs to one message: [`Scan::reset`] it when the buffer moves on to the next.
///
/// Between two calls the buffer may only grow (or move in memory): its bytes already seen are not looked at again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    pub(super) stage: Stage,
    /// Start of the line under way.
    pub(super) line: u32,
    /// Place of the colon of the field line under way; 0 while its name is not complete (a name is never empty).
    pub(super) colon: u32,
    /// Everything before this place is known to be good.
    pub(super) at: u32,
}

impl Scan {
    /// Forgets the message under way.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// A scan that starts with field lines, at the start of the buffer.
    pub(super) fn fields() -> Self {
        Self { stage: Stage::Fields, ..Self::default() }
    }

    /// Whether nothing of a message has been seen yet.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.stage == Stage::Fresh
    }

    /// Goes on to the field lines, which start at `line`.
    pub(super) fn enter_fields(&mut self, line: usize) {
        *self = Self { stage: Stage::Fields, line: line as u32, colon: 0, at: line as u32 };
    }
}

/// Part of the head under way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Stage {
    #[default]
    Fresh,
    StartLine,
    Fields,
}

/// What can be wrong with a field line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs, reason = "documented at the kinds of Refusal that they become")]
pub enum FieldFault {
    BareCr,
    BareLf,
    InvalidName,
    InvalidValue,
    Nul,
    ObsFold,
    SpaceBeforeColon,
    TooMany,
}

/// Reads the field lines of `window` from where `scan` stands and appends them to `headers`.
///
/// Returns the place behind the blank line, or `None` while it is not there yet.
pub(super) fn parse_fields(
    window: &[u8],
    scan: &mut Scan,
    headers: &mut Vec<Header>,
    headers_max: usize,
) -> Result<Option<usize>, FieldFault> {
    let (mut line, mut colon, mut at) = (scan.line as usize, scan.colon as usize, scan.at as usize);
    debug_assert!(line <= at && at <= window.len());
    loop {
        if colon == 0 {
            at = skip_token(window, at);
            match window.get(at) {
                Some(b':') if at > line => {
                    colon = at;
                    at += 1;
                }
                Some(b'\r') if at == line => match window.get(at + 1) {
                    Some(b'\n') => return Ok(Some(at + 2)),
                    Some(_) => return Err(FieldFault::BareCr),
                    None => break,
                },
                Some(b' ' | b'\t') if at == line => return Err(FieldFault::ObsFold),
                Some(b' ' | b'\t') => return Err(FieldFault::SpaceBeforeColon),
                Some(_) => match fault_at(window, at, FieldFault::InvalidName) {
                    Some(fault) => return Err(fault),
                    None => break,
                },
                None => break,
            }
        }
        at = find_control(window, at);
        match (window.get(at), window.get(at + 1)) {
            (Some(b'\r'), Some(b'\n')) => {
                if headers.len() >= headers_max {
                    return Err(FieldFault::TooMany);
                }
                headers.push(field(window, line, colon, at));
                line = at + 2;
                colon = 0;
                at = line;
            }
            (None, _) | (Some(b'\r'), None) => break,
            _ => return Err(fault_at(window, at, FieldFault::InvalidValue).unwrap_or(FieldFault::BareCr)),
        }
    }
    *scan = Scan { stage: Stage::Fields, line: line as u32, colon: colon as u32, at: at as u32 };
    Ok(None)
}

/// The field whose name lies in `line..colon` and whose value, still with its white space, in `colon + 1..end`.
#[inline]
fn field(window: &[u8], line: usize, colon: usize, end: usize) -> Header {
    let name = Span::new(line, colon);
    let (mut start, mut end) = (colon + 1, end);
    while start < end && matches!(window.get(start), Some(b' ' | b'\t')) {
        start += 1;
    }
    while start < end && matches!(window.get(end - 1), Some(b' ' | b'\t')) {
        end -= 1;
    }
    Header { name, value: Span::new(start, end), id: names::classify(name.of(window)) }
}

/// What the byte at `at`, which cannot stand there, is; `None` while a CR may yet turn out to be part of a CRLF.
#[inline]
pub(super) fn fault_at(window: &[u8], at: usize, otherwise: FieldFault) -> Option<FieldFault> {
    match (window.get(at), window.get(at + 1)) {
        (Some(0), _) => Some(FieldFault::Nul),
        (Some(b'\n'), _) => Some(FieldFault::BareLf),
        (Some(b'\r'), None) => None,
        (Some(b'\r'), Some(next)) if *next != b'\n' => Some(FieldFault::BareCr),
        _ => Some(otherwise),
    }
}

/// Byte class bits: a token character (RFC 9110 section 5.6.2).
const TOKEN: u8 = 1;
/// Byte class bits: allowed in a request target (visible ASCII without `#`).
const TARGET: u8 = 2;

/// Classes of all bytes.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        let mut class = 0;
        if (byte as u8).is_ascii_alphanumeric() || memchr_const(b"!#$%&'*+-.^_`|~", byte as u8) {
            class |= TOKEN;
        }
        if byte != b'#' as usize {
            class |= TARGET;
        }
        #[allow(clippy::indexing_slicing, reason = "evaluated when compiled")]
        {
            classes[byte] = class;
        }
        byte += 1;
    }
    classes
};

/// Whether `set` has `byte`, when compiled.
const fn memchr_const(set: &[u8], byte: u8) -> bool {
    let mut rest = set;
    while let [first, tail @ ..] = rest {
        if *first == byte {
            return true;
        }
        rest = tail;
    }
    false
}

#[inline(always)]
#[allow(clippy::indexing_slicing, reason = "a u8 always lies in a table of 256")]
fn has_class(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// Whether `byte` may stand in a token.
#[inline(always)]
#[must_use]
pub fn is_token_byte(byte: u8) -> bool {
    has_class(byte, TOKEN)
}

/// Whether `bytes` are a token: not empty and of token characters only.
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// First place from `at` on that has no token character.
#[inline]
pub(super) fn skip_token(window: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = window.get(at)
        && is_token_byte(byte)
    {
        at += 1;
    }
    at
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Marks the bytes of `word` below `n`; the lowest mark is exact, those above it need not be (`n` up to 128).
#[inline(always)]
const fn below(word: u64, n: u8) -> u64 {
    word.wrapping_sub(LOW_BITS * n as u64) & !word & HIGH_BITS
}

/// Marks the bytes of `word` equal to `byte`; the lowest mark is exact, those above it need not be.
#[inline(always)]
const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (LOW_BITS * byte as u64), 1)
}

/// First place from `at` on with a control character other than HTAB, or the end of `window`.
#[inline]
pub(super) fn find_control(window: &[u8], mut at: usize) -> usize {
    loop {
        while let Some(word) = word_at(window, at) {
            let marks = below(word, 0x20) | equal(word, 0x7f);
            if marks != 0 {
                at += (marks.trailing_zeros() / 8) as usize;
                break;
            }
            at += 8;
        }
        match window.get(at) {
            Some(&byte) if byte == b'\t' || (byte >= 0x20 && byte != 0x7f) => at += 1,
            _ => return at.min(window.len()),
        }
    }
}

/// First place from `at` on with a byte that a request target cannot hold, or the end of `window`.
#[inline]
pub(super) fn skip_target(window: &[u8], mut at: usize) -> usize {
    while let Some(word) = word_at(window, at) {
        let marks = below(word, 0x21) | (word & HIGH_BITS) | equal(word, 0x7f) | equal(word, b'#');
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(&byte) = window.get(at)
        && has_class(byte, TARGET)
    {
        at += 1;
    }
    at
}

/// The eight bytes at `at`, first byte lowest.
#[inline(always)]
fn word_at(window: &[u8], at: usize) -> Option<u64> {
    window.get(at..).and_then(<[u8]>::first_chunk::<8>).map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test may panic")]

    use super::*;

    /// The word-wise searches against a plain loop: every byte value at every place of a run.
    #[test]
    fn searches_agree_with_a_plain_loop() {
        for byte in 0..=255u8 {
            for place in 0..20 {
                for tail in [b'a', 0x1f, 0x7f, 0xff, b'#', b'\t'] {
                    let mut run = vec![b'a'; 20];
                    run[place] = byte;
                    run[(place + 3) % 20] = tail;
                    let control = |b: &u8| (*b < 0x20 && *b != b'\t') || *b == 0x7f;
                    let stop = |b: &u8| *b <= 0x20 || *b >= 0x7f || *b == b'#';
                    for from in 0..20 {
                        let plain = |f: &dyn Fn(&u8) -> bool| {
                            run[from..].iter().position(f).map_or(run.len(), |i| i + from)
                        };
                        assert_eq!(find_control(&run, from), plain(&control), "{run:?} from {from}");
                        assert_eq!(skip_target(&run, from), plain(&stop), "{run:?} from {from}");
                    }
                }
            }
        }
    }

    /// The token characters are exactly those of RFC 9110 section 5.6.2.
    #[test]
    fn token_bytes_are_tchar() {
        let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        for byte in 0..=255 {
            assert_eq!(is_token_byte(byte), tchar(byte), "{byte:#x}");
        }
    }

    fn read(bytes: &[u8], headers_max: usize) -> Result<Option<usize>, FieldFault> {
        parse_fields(bytes, &mut Scan::fields(), &mut Vec::new(), headers_max)
    }

    /// Each malformed field line has its own fault; its well-formed neighbour is taken.
    #[test]
    fn names_the_fault_of_a_field_line() {
        for (good, bad, fault) in [
            ("A: b\r\n\r\n", "A: b\n\r\n", FieldFault::BareLf),
            ("A: b\r\n\r\n", "A\n: b\r\n\r\n", FieldFault::BareLf),
            ("A: b\r\n\r\n", "A: b\r\n\n", FieldFault::BareLf),
            ("A: b\r\n\r\n", "A: b\rc\r\n\r\n", FieldFault::BareCr),
            ("A: b\r\n\r\n", "A\rb: c\r\n\r\n", FieldFault::BareCr),
            ("A: b\r\n\r\n", "A: b\r\n\rA", FieldFault::BareCr),
            ("A: b\r\n\r\n", "A: b\0\r\n\r\n", FieldFault::Nul),
            ("A: b\r\n\r\n", "A\0: b\r\n\r\n", FieldFault::Nul),
            ("A: b\tc\r\n\r\n", "A: b\x01c\r\n\r\n", FieldFault::InvalidValue),
            ("A: \u{e9}\r\n\r\n", "A: \x7f\r\n\r\n", FieldFault::InvalidValue),
            ("A: b\r\nC: d\r\n\r\n", "A: b\r\n C: d\r\n\r\n", FieldFault::ObsFold),
            ("A: b\r\nC: d\r\n\r\n", "A: b\r\n\tC: d\r\n\r\n", FieldFault::ObsFold),
            ("A:b\r\n\r\n", "A :b\r\n\r\n", FieldFault::SpaceBeforeColon),
            ("A:b\r\n\r\n", "A\t:b\r\n\r\n", FieldFault::SpaceBeforeColon),
            ("A!:b\r\n\r\n", "A(:b\r\n\r\n", FieldFault::InvalidName),
            ("A:\r\n\r\n", ":b\r\n\r\n", FieldFault::InvalidName),
            ("A:\r\n\r\n", "A\r\n\r\n", FieldFault::InvalidName),
            ("A_:\r\n\r\n", "\u{e9}: b\r\n\r\n", FieldFault::InvalidName),
        ] {
            assert_eq!(read(good.as_bytes(), 9), Ok(Some(good.len())), "{good:?}");
            assert_eq!(read(bad.as_bytes(), 9), Err(fault), "{bad:?}");
        }
        assert_eq!(read(b"A:b\r\nC:d\r\n\r\n", 2), Ok(Some(12)));
        assert_eq!(read(b"A:b\r\nC:d\r\n\r\n", 1), Err(FieldFault::TooMany));
    }

    /// White space around a value is no part of it, inside it is.
    #[test]
    fn trims_optional_white_space() {
        let bytes = b"A: \t b \t c\t \r\nB:\r\nC: \t\r\n\r\n";
        let mut headers = Vec::new();
        assert_eq!(parse_fields(bytes, &mut Scan::fields(), &mut headers, 9), Ok(Some(bytes.len())));
        let values: Vec<_> = headers.iter().map(|h| h.value.of(bytes)).collect();
        assert_eq!(values, [&b"b \t c"[..], b"", b""]);
    }
}
