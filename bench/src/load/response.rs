//! Reads responses, without I/O.
//!
//! Responses of one server mostly have the same head, byte for byte: each is compared with the last one that was
//! parsed, and only a different one is parsed again.

use std::cell::RefCell;

use ringgate::sys::buffer::Buffer;

use super::tally::ErrorKind;
use crate::wire::{Content, Framing, HEADERS_MAX, Malformed, framing, keeps_alive};

/// What a response must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Status.
    pub(crate) status: u16,
    /// Length of the content, where it matters.
    pub(crate) bytes: Option<u64>,
    /// Whether it answers HEAD and so has no content.
    pub(crate) head_only: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Head {
    status: u16,
    framing: Framing,
    keeps_alive: bool,
}

/// The last head that was parsed; one per thread.
#[derive(Debug, Default)]
pub(super) struct LastHead(RefCell<Option<(Vec<u8>, Head)>>);

/// A response that has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Response {
    status: u16,
    /// Length of its content.
    pub(super) content: u64,
    /// Whether the connection may carry another request.
    pub(super) keeps_alive: bool,
}

impl Response {
    /// The same on a connection that can not be used again.
    pub(super) const fn last(self) -> Self {
        Self { keeps_alive: false, ..self }
    }

    /// Whether it is what it must be.
    #[inline]
    pub(super) fn check(&self, expected: &Expected) -> Result<(), ErrorKind> {
        if self.status != expected.status {
            return Err(ErrorKind::Status);
        }
        match expected.bytes {
            Some(bytes) if bytes != self.content => Err(ErrorKind::Content),
            _ => Ok(()),
        }
    }
}

/// Reads the response to one request.
#[derive(Debug, Default)]
pub(super) struct Reader {
    under_way: Option<(Head, Content)>,
    content: u64,
}

impl Reader {
    /// Takes what is in `input`; a response that is complete is returned. Bytes behind it stay.
    #[inline]
    pub(super) fn feed(
        &mut self,
        input: &mut Buffer,
        last: &LastHead,
        head_only: bool,
    ) -> Result<Option<Response>, Malformed> {
        if self.under_way.is_none() {
            let Some((head, length)) = last.head(input.filled(), head_only)? else { return Ok(None) };
            input.consume(length);
            self.under_way = Some((head, Content::new(head.framing)));
        }
        let Some((head, content)) = &mut self.under_way else { return Ok(None) };
        let taken = content.take(input.filled())?;
        input.consume(taken.bytes);
        self.content += taken.content;
        let response = Response { status: head.status, content: self.content, keeps_alive: head.keeps_alive };
        Ok(taken.ended.then_some(response))
    }

    /// The connection has ended: a response that lasts until then is complete.
    pub(super) fn end(&self) -> Option<Response> {
        match self.under_way {
            Some((head, Content::UntilClose)) => {
                Some(Response { status: head.status, content: self.content, keeps_alive: false })
            }
            _ => None,
        }
    }

    /// Bytes of content still to come, as far as that is known.
    pub(super) const fn left(&self) -> u64 {
        match self.under_way {
            Some((_, Content::Length(left) | Content::Chunk(left))) => left,
            _ => 0,
        }
    }
}

impl LastHead {
    /// The head at the front of `bytes` and its length, informational ones before it included.
    #[inline]
    fn head(&self, bytes: &[u8], head_only: bool) -> Result<Option<(Head, usize)>, Malformed> {
        if let Some((last, head)) = &*self.0.borrow()
            && bytes.starts_with(last)
        {
            return Ok(Some((*head, last.len())));
        }
        self.parse(bytes, head_only)
    }

    #[cold]
    fn parse(&self, bytes: &[u8], head_only: bool) -> Result<Option<(Head, usize)>, Malformed> {
        let mut start = 0;
        loop {
            let rest = bytes.get(start..).unwrap_or_default();
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut response = httparse::Response::new(&mut headers);
            let httparse::Status::Complete(length) = response.parse(rest).map_err(|_| Malformed)? else {
                return Ok(None);
            };
            let status = response.code.unwrap_or_default();
            if (100..200).contains(&status) && status != 101 {
                start += length;
                continue;
            }
            let without_content = head_only || matches!(status, 101 | 204 | 304);
            let framing = if without_content {
                Framing::Length(0)
            } else {
                framing(response.headers, Framing::UntilClose)?
            };
            let keeps_alive = framing != Framing::UntilClose
                && status != 101
                && keeps_alive(response.version, response.headers);
            let head = Head { status, framing, keeps_alive };
            if start == 0 {
                let mut last = self.0.borrow_mut();
                let (kept, known) = last.get_or_insert_with(|| (Vec::new(), head));
                kept.clear();
                kept.extend_from_slice(rest.get(..length).unwrap_or_default());
                *known = head;
            }
            return Ok(Some((head, start + length)));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use ringgate::sys::buffer::Class;

    use super::*;

    /// Feeds `text` in two parts, cut at `cut`.
    fn read(text: &[u8], cut: usize, last: &LastHead, head_only: bool) -> Option<Response> {
        let (mut reader, mut input) = (Reader::default(), Buffer::new(Class::Small));
        for part in [&text[..cut], &text[cut..]] {
            input.extend(part);
            if let Some(response) = reader.feed(&mut input, last, head_only).unwrap() {
                assert!(input.is_empty());
                return Some(response);
            }
        }
        reader.end()
    }

    #[test]
    fn reads_every_framing_over_every_cut() {
        let cases: &[(&[u8], bool, u16, u64, bool)] = &[
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", false, 200, 3, true),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, 200, 0, true),
            (b"HTTP/1.1 204 No\r\n\r\n", false, 204, 0, true),
            (b"HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", false, 503, 0, false),
            (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", false, 200, 1, true),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
                false,
                200,
                4,
                true,
            ),
            (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", false, 200, 13, false),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", false, 200, 1, false),
        ];
        for &(text, head_only, status, content, keeps_alive) in cases {
            // Once with a parse, then with the kept head.
            let last = LastHead::default();
            for cut in 0..=text.len() {
                let response = read(text, cut, &last, head_only);
                assert_eq!(response, Some(Response { status, content, keeps_alive }), "{cut}");
            }
        }
    }

    #[test]
    fn refuses_what_is_no_response() {
        let last = LastHead::default();
        for text in [
            "HTTP/1.1 OK\r\n\r\n",
            "nonsense\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        ] {
            let mut input = Buffer::new(Class::Small);
            input.extend(text.as_bytes());
            assert_eq!(Reader::default().feed(&mut input, &last, false), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn an_unexpected_response_is_an_error() {
        let expected = Expected { status: 200, bytes: Some(3), head_only: false };
        let response = Response { status: 200, content: 3, keeps_alive: true };
        assert_eq!(response.check(&expected), Ok(()));
        assert_eq!(Response { status: 404, ..response }.check(&expected), Err(ErrorKind::Status));
        assert_eq!(Response { content: 4, ..response }.check(&expected), Err(ErrorKind::Content));
        assert_eq!(Response { content: 4, ..response }.check(&Expected { bytes: None, ..expected }), Ok(()));
    }
}
