//! HTTP/1 bytes as both test sides read them: heads through httparse, bodies by a strict reader of our own.
//! Nothing here is shared with the code under test.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::DEADLINE;

/// Header fields in the order received.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

impl Fields {
    /// All values of `name`, whatever its case.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// The only value of `name`; `None` when absent, a panic when there are several.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} occurs {} times: {self:?}", all.len());
        all.first().copied()
    }

    /// Whether `name` occurs.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// Whether the comma-separated list `name` holds `token`.
    pub(crate) fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name).iter().flat_map(|v| v.split(',')).any(|t| t.trim().eq_ignore_ascii_case(token))
    }

    fn from_httparse(headers: &[httparse::Header<'_>]) -> Self {
        let text = |bytes: &[u8]| bytes.iter().map(|byte| *byte as char).collect();
        Self(headers.iter().map(|h| (h.name.to_owned(), text(h.value))).collect())
    }
}

/// Why reading stopped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// The peer ended its side cleanly in the middle of something, after this many body bytes.
    Eof(usize),
    /// The bytes are not what the protocol allows.
    Malformed(String),
    /// The peer reset the connection.
    Reset,
    /// Nothing came until the deadline.
    Timeout,
    /// TLS bytes ended without a close_notify.
    Truncated,
}

/// The parts of a message's content.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Content {
    /// The bytes, without framing.
    pub(crate) body: Vec<u8>,
    /// Trailer fields of a chunked body.
    pub(crate) trailers: Fields,
}

/// What a [`Reader`] reads from.
pub(crate) trait Source: Read + Send {
    /// Bounds each read.
    fn set_timeout(&self, timeout: Duration);
}

impl Source for TcpStream {
    fn set_timeout(&self, timeout: Duration) {
        self.set_read_timeout(Some(timeout)).unwrap();
    }
}

/// A reading side of a connection with the bytes that were read ahead.
pub(crate) struct Reader {
    stream: Box<dyn Source>,
    buffer: Vec<u8>,
    received: u64,
    deadline: Instant,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("unread", &String::from_utf8_lossy(&self.buffer)).finish()
    }
}

impl Reader {
    pub(crate) fn new(stream: impl Source + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: Vec::new(),
            received: 0,
            deadline: Instant::now() + DEADLINE,
        }
    }

    /// Starts a new deadline; each public reading step of the client and the backend does.
    pub(crate) fn arm(&mut self) {
        self.deadline = Instant::now() + DEADLINE;
    }

    /// Bytes received so far.
    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    /// Reads once more; `Ok(false)` is the end of the stream.
    pub(crate) fn fill(&mut self) -> Result<bool, Failure> {
        let mut chunk = [0; 64 * 1024];
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Timeout);
            }
            // A zero timeout would mean "none".
            self.stream.set_timeout(left.max(Duration::from_millis(1)));
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.received += count as u64;
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return Ok(true);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::TimedOut | ErrorKind::WouldBlock => return Err(Failure::Timeout),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {
                        return Err(Failure::Reset);
                    }
                    // Only of TLS: the end came without a close_notify.
                    ErrorKind::UnexpectedEof => return Err(Failure::Truncated),
                    ErrorKind::InvalidData => return Err(Failure::Malformed(error.to_string())),
                    _ => panic!("read: {error}"),
                },
            }
        }
    }

    /// Reads up to and including the blank line after a head; `None` when the stream ended before its first byte.
    pub(crate) fn head(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(Some(self.buffer.drain(..searched + at + 4).collect()));
            }
            searched = self.buffer.len().saturating_sub(3);
            if !self.fill()? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(Failure::Eof(0)) };
            }
        }
    }

    /// Reads a line that ends in CRLF, without its end.
    fn line(&mut self, body_bytes: usize) -> Result<String, Failure> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return String::from_utf8(line[..at].to_vec())
                    .map_err(|_| Failure::Malformed("a line of chunk framing is not text".into()));
            }
            if !self.fill()? {
                return Err(Failure::Eof(body_bytes));
            }
        }
    }

    /// Appends `length` bytes to `body`.
    pub(crate) fn exactly(&mut self, mut length: usize, body: &mut Vec<u8>) -> Result<(), Failure> {
        while length > 0 {
            let count = self.buffer.len().min(length);
            body.extend(self.buffer.drain(..count));
            length -= count;
            if length > 0 && !self.fill()? {
                return Err(Failure::Eof(body.len()));
            }
        }
        Ok(())
    }

    /// Appends all bytes up to the end of the stream.
    pub(crate) fn until_end(&mut self, body: &mut Vec<u8>) -> Result<(), Failure> {
        loop {
            body.append(&mut self.buffer);
            if !self.fill()? {
                return Ok(());
            }
        }
    }

    /// Reads a chunked body; what came of it before a failure stays in `content`.
    pub(crate) fn chunked(&mut self, content: &mut Content) -> Result<(), Failure> {
        loop {
            let line = self.line(content.body.len())?;
            let size = line.split(';').next().unwrap_or_default().trim_end();
            let size = usize::from_str_radix(size, 16)
                .map_err(|_| Failure::Malformed(format!("chunk size {line:?}")))?;
            if size == 0 {
                break;
            }
            self.exactly(size, &mut content.body)?;
            let end = self.line(content.body.len())?;
            if !end.is_empty() {
                return Err(Failure::Malformed(format!("{end:?} after a chunk of {size}")));
            }
        }
        loop {
            let line = self.line(content.body.len())?;
            if line.is_empty() {
                return Ok(());
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| Failure::Malformed(format!("trailer {line:?}")))?;
            content.trailers.0.push((name.to_owned(), value.trim().to_owned()));
        }
    }
}

/// A request as a backend received it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    /// 0 or 1: the minor version.
    pub(crate) version: u8,
    pub(crate) headers: Fields,
    pub(crate) content: Content,
    /// Number of the connection it came on, from 0.
    pub(crate) connection: usize,
    /// The head as received.
    pub(crate) raw: Vec<u8>,
}

impl Request {
    pub(crate) fn parse(raw: Vec<u8>) -> Self {
        let mut headers = [httparse::EMPTY_HEADER; 256];
        let mut parsed = httparse::Request::new(&mut headers);
        let status = parsed.parse(&raw).unwrap_or_else(|error| {
            panic!("the gateway sent a malformed head ({error}): {:?}", String::from_utf8_lossy(&raw))
        });
        assert!(status.is_complete());
        Self {
            method: parsed.method.unwrap().to_owned(),
            target: parsed.path.unwrap().to_owned(),
            version: parsed.version.unwrap(),
            headers: Fields::from_httparse(parsed.headers),
            content: Content::default(),
            connection: 0,
            raw,
        }
    }

    /// How its content is delimited; panics on anything that two receivers could read differently.
    pub(crate) fn framing(&self) -> Framing {
        match (self.headers.get("content-length"), self.headers.get("transfer-encoding")) {
            (None, None) => Framing::Length(0),
            (Some(length), None) => Framing::Length(length.parse().expect("Content-Length")),
            (None, Some(coding)) => {
                assert!(coding.eq_ignore_ascii_case("chunked"), "Transfer-Encoding: {coding}");
                Framing::Chunked
            }
            (Some(_), Some(_)) => panic!("both framings sent upstream: {:?}", self.headers),
        }
    }
}

/// How content is delimited.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Framing {
    Chunked,
    Close,
    Length(usize),
    #[default]
    None,
}

/// A response as a client received it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) version: u8,
    pub(crate) reason: String,
    pub(crate) headers: Fields,
    pub(crate) framing: Framing,
    pub(crate) content: Content,
}

impl Response {
    /// Parses a head; `method` is that of the request, which decides whether content follows.
    pub(crate) fn parse(raw: &[u8], method: &str) -> Result<Self, Failure> {
        let mut headers = [httparse::EMPTY_HEADER; 256];
        let mut parsed = httparse::Response::new(&mut headers);
        let complete = parsed.parse(raw).is_ok_and(|status| status.is_complete());
        if !complete {
            return Err(Failure::Malformed(format!("response head {:?}", String::from_utf8_lossy(raw))));
        }
        let headers = Fields::from_httparse(parsed.headers);
        let status = parsed.code.unwrap();
        let framing = if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            Framing::None
        } else {
            match (headers.get("content-length"), headers.get("transfer-encoding")) {
                (None, None) => Framing::Close,
                (Some(length), None) => Framing::Length(length.parse().expect("Content-Length")),
                (None, Some("chunked")) => Framing::Chunked,
                other => return Err(Failure::Malformed(format!("response framing {other:?}"))),
            }
        };
        Ok(Self {
            status,
            version: parsed.version.unwrap(),
            reason: parsed.reason.unwrap_or_default().to_owned(),
            headers,
            framing,
            content: Content::default(),
        })
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.content.body).into_owned()
    }
}
