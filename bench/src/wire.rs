//! HTTP/1.1 framing as both ends of the harness need it, without I/O.
//!
//! It shares no code with the gateway that is measured: what both got wrong in the same way would go unnoticed.

use httparse::{Header, Status};

/// Most header fields of a message.
pub(crate) const HEADERS_MAX: usize = 128;

/// How the end of a message's content is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// The end of the connection.
    UntilClose,
}

/// Bytes that are not what HTTP/1.1 allows here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed;

/// What the framing fields of a message say; `absent` holds where there are none.
pub(crate) fn framing(headers: &[Header<'_>], absent: Framing) -> Result<Framing, Malformed> {
    let (mut length, mut chunked) = (None, false);
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            let value = digits(header.value).ok_or(Malformed)?;
            if length.replace(value).is_some() {
                return Err(Malformed);
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed);
            }
            chunked = true;
        }
    }
    match (length, chunked) {
        (Some(_), true) => Err(Malformed),
        (Some(length), false) => Ok(Framing::Length(length)),
        (None, true) => Ok(Framing::Chunked),
        (None, false) => Ok(absent),
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Whether the connection may carry another message after this one.
pub(crate) fn keeps_alive(minor_version: Option<u8>, headers: &[Header<'_>]) -> bool {
    let mut keeps = minor_version == Some(1);
    for header in headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection")) {
        for option in header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                return false;
            }
            keeps |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    keeps
}

/// Follows a message's content to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    /// So many bytes are left.
    Length(u64),
    /// At the start of a chunk's size line.
    ChunkSize,
    /// So many bytes are left of a chunk and the line end behind it.
    Chunk(u64),
    /// In the trailers behind the last chunk.
    Trailers,
    /// Everything until the end of the connection.
    UntilClose,
}

/// What [`Content::take`] made of some bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Taken {
    /// Bytes that are done with.
    pub(crate) bytes: usize,
    /// Those of them that are content.
    pub(crate) content: u64,
    /// Whether the message has ended.
    pub(crate) ended: bool,
}

impl Content {
    /// The content that a head announces.
    pub(crate) const fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::ChunkSize,
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Takes what it can of `bytes`. What it leaves must be shown again with more behind it.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Taken, Malformed> {
        match self {
            Self::Length(left) => {
                let taken = (bytes.len() as u64).min(*left);
                *left -= taken;
                Ok(Taken { bytes: taken as usize, content: taken, ended: *left == 0 })
            }
            Self::UntilClose => Ok(Taken { bytes: bytes.len(), content: bytes.len() as u64, ended: false }),
            _ => self.take_chunks(bytes),
        }
    }

    fn take_chunks(&mut self, bytes: &[u8]) -> Result<Taken, Malformed> {
        let mut taken = Taken { bytes: 0, content: 0, ended: false };
        loop {
            let rest = bytes.get(taken.bytes..).unwrap_or_default();
            match self {
                Self::ChunkSize => match httparse::parse_chunk_size(rest).map_err(|_| Malformed)? {
                    Status::Partial => return Ok(taken),
                    Status::Complete((line, size)) => {
                        taken.bytes += line;
                        let with_line_end = size.checked_add(2).ok_or(Malformed)?;
                        *self = if size == 0 { Self::Trailers } else { Self::Chunk(with_line_end) };
                    }
                },
                Self::Chunk(left) => {
                    let data = (*left - 2).min(rest.len() as u64);
                    if data > 0 {
                        taken.bytes += data as usize;
                        taken.content += data;
                        *left -= data;
                    } else if rest.len() < 2 {
                        return Ok(taken);
                    } else if rest.starts_with(b"\r\n") {
                        taken.bytes += 2;
                        *self = Self::ChunkSize;
                    } else {
                        return Err(Malformed);
                    }
                }
                _ => {
                    let Some(line) = memchr::memchr(b'\n', rest) else { return Ok(taken) };
                    taken.bytes += line + 1;
                    if matches!(rest.get(..=line), Some(b"\r\n" | b"\n")) {
                        taken.ended = true;
                        return Ok(taken);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn header<'h>(name: &'h str, value: &'h str) -> Header<'h> {
        Header { name, value: value.as_bytes() }
    }

    #[test]
    fn reads_framing() {
        let absent = Framing::UntilClose;
        let of = |headers: &[Header<'_>]| framing(headers, absent);
        assert_eq!(of(&[]), Ok(absent));
        assert_eq!(of(&[header("content-LENGTH", "12")]), Ok(Framing::Length(12)));
        assert_eq!(of(&[header("Transfer-Encoding", "Chunked")]), Ok(Framing::Chunked));
        for wrong in ["", "+1", "1,1", "99999999999999999999"] {
            assert_eq!(of(&[header("Content-Length", wrong)]), Err(Malformed), "{wrong}");
        }
        let both = [header("Content-Length", "1"), header("Transfer-Encoding", "chunked")];
        assert_eq!(of(&both), Err(Malformed));
        assert_eq!(of(&[header("Transfer-Encoding", "gzip")]), Err(Malformed));
    }

    #[test]
    fn knows_who_keeps_the_connection() {
        assert!(keeps_alive(Some(1), &[]));
        assert!(!keeps_alive(Some(0), &[]));
        assert!(keeps_alive(Some(0), &[header("Connection", "Keep-Alive")]));
        assert!(!keeps_alive(Some(1), &[header("connection", "a, close")]));
    }

    /// A chunked message, cut at every byte: the same content and the same end.
    #[test]
    fn follows_chunks_over_every_cut() {
        let message = b"5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nT: x\r\n\r\n";
        for cut in 0..=message.len() {
            let mut content = Content::new(Framing::Chunked);
            let first = content.take(&message[..cut]).unwrap();
            let rest = content.take(&message[first.bytes..]).unwrap();
            assert_eq!((first.content + rest.content, first.ended || rest.ended), (15, true), "{cut}");
            assert!(cut < message.len() || first.ended);
        }
        assert_eq!(Content::ChunkSize.take(b"2\r\nabc\r\n"), Err(Malformed));
        assert_eq!(Content::ChunkSize.take(b"x\r\n"), Err(Malformed));
    }
}
