//! Finds requests in a connection's bytes and says what they get.

use ringgate::sys::buffer::Buffer;

use super::answer::{Answer, Kind};
use crate::wire::{Content, Framing, HEADERS_MAX, Malformed, framing, keeps_alive};

/// What the bytes so far come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// More bytes are needed.
    More,
    /// As [`Step::More`], and the client waits for 100 (Continue) before it sends them.
    Continue,
    /// A request is complete.
    Answer(Answer),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Head {
    answer: Answer,
    framing: Framing,
    expects: bool,
}

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// The last head and what it came to: clients of a benchmark send the same again and again.
    last: Option<(Vec<u8>, Head)>,
    content: Option<(Content, Answer)>,
}

impl Requests {
    /// Takes a request, or a part of one, from the front of `bytes`.
    pub(super) fn next(&mut self, bytes: &mut Buffer) -> Result<Step, Malformed> {
        if self.content.is_none() {
            if bytes.is_empty() {
                return Ok(Step::More);
            }
            let Some((head, length)) = self.head(bytes.filled())? else { return Ok(Step::More) };
            bytes.consume(length);
            if head.framing == Framing::Length(0) {
                return Ok(Step::Answer(head.answer));
            }
            self.content = Some((Content::new(head.framing), head.answer));
            if head.expects && bytes.is_empty() {
                return Ok(Step::Continue);
            }
        }
        let Some((content, answer)) = &mut self.content else { return Ok(Step::More) };
        let taken = content.take(bytes.filled())?;
        bytes.consume(taken.bytes);
        if !taken.ended {
            return Ok(Step::More);
        }
        let answer = *answer;
        self.content = None;
        Ok(Step::Answer(answer))
    }

    /// Whether content is under way, which comes in large pieces.
    pub(super) const fn in_content(&self) -> bool {
        self.content.is_some()
    }

    #[inline]
    fn head(&mut self, bytes: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
        if let Some((last, head)) = &self.last
            && bytes.starts_with(last)
        {
            return Ok(Some((*head, last.len())));
        }
        let Some((head, length)) = parse(bytes)? else { return Ok(None) };
        let (last, kept) = self.last.get_or_insert_with(|| (Vec::new(), head));
        last.clear();
        last.extend_from_slice(bytes.get(..length).unwrap_or_default());
        *kept = head;
        Ok(Some((head, length)))
    }
}

fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes).map_err(|_| Malformed)? else {
        return Ok(None);
    };
    let expects = request.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("expect") && header.value.eq_ignore_ascii_case(b"100-continue")
    });
    let answer = Answer {
        kind: Kind::of_path(request.path.unwrap_or_default()),
        head_only: request.method == Some("HEAD"),
        keeps_alive: keeps_alive(request.version, request.headers),
    };
    let framing = framing(request.headers, Framing::Length(0))?;
    Ok(Some((Head { answer, framing, expects }, length)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use ringgate::sys::buffer::Class;

    use super::*;

    /// Three requests in one stream, cut at every byte.
    #[test]
    fn finds_requests_over_every_cut() {
        let stream = b"GET /bytes/7 HTTP/1.1\r\nHost: a\r\n\r\n\
                       POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
                       HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwxyz";
        let expected = [
            Answer { kind: Kind::Bytes(7), head_only: false, keeps_alive: true },
            Answer { kind: Kind::Default, head_only: false, keeps_alive: true },
            Answer { kind: Kind::Default, head_only: true, keeps_alive: false },
        ];
        for cut in 0..stream.len() {
            let (mut requests, mut buffer, mut found) =
                (Requests::default(), Buffer::new(Class::Small), Vec::new());
            for part in [&stream[..cut], &stream[cut..]] {
                buffer.extend(part);
                while let Step::Answer(answer) = requests.next(&mut buffer).unwrap() {
                    found.push(answer);
                }
            }
            assert_eq!(found, expected, "cut at {cut}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn tells_who_waits_for_100() {
        let mut buffer = Buffer::new(Class::Small);
        buffer.extend(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
        let mut requests = Requests::default();
        assert_eq!(requests.next(&mut buffer), Ok(Step::Continue));
        buffer.extend(b"x");
        assert!(matches!(requests.next(&mut buffer), Ok(Step::Answer(_))));
        buffer.extend(b"no request\r\n\r\n");
        assert_eq!(requests.next(&mut buffer), Err(Malformed));
    }
}
