//! Blocking HTTP/1 reading for both ends of the demo: heads through httparse, bodies with a bound.

use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

/// Longest head taken.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Longest body taken.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Most header fields taken.
pub(super) const HEADERS_MAX: usize = 128;

/// Longest wait for any bytes.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How a body is delimited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    /// Chunked transfer coding.
    Chunked,
    /// Up to the end of the connection.
    Close,
    /// This many bytes.
    Length(usize),
}

/// A connection with the bytes that were read ahead.
#[derive(Debug)]
pub(super) struct Wire<S = TcpStream> {
    pub(super) stream: S,
    pub(super) buffer: Vec<u8>,
}

impl Wire {
    /// Takes over a connection.
    ///
    /// # Errors
    /// When its options cannot be set.
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        set_options(&stream)?;
        Ok(Self::over(stream))
    }
}

/// Low latency, and a limit to every wait.
pub(super) fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.set_write_timeout(Some(READ_TIMEOUT))
}

impl<S: Read> Wire<S> {
    /// Takes over a stream whose options are set.
    pub(super) const fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Reads more; `Ok(false)` at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 8192];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(count) => {
                    self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a head with its blank line; `None` when the peer ended before its first byte.
    ///
    /// # Errors
    /// When it is longer than [`HEAD_BYTES_MAX`] or ends midway.
    pub(super) fn head(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut searched: usize = 0;
        loop {
            let tail = self.buffer.get(searched..).unwrap_or_default();
            if let Some(at) = memchr::memmem::find(tail, b"\r\n\r\n") {
                return Ok(Some(self.take(searched + at + 4)));
            }
            searched = self.buffer.len().saturating_sub(3);
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("head too large"));
            }
            if !self.fill()? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Reads a body into `body`, which keeps what came before an error.
    ///
    /// # Errors
    /// When it is longer than [`BODY_BYTES_MAX`], malformed, or ends midway.
    pub(super) fn body(&mut self, framing: Framing, body: &mut Vec<u8>) -> io::Result<()> {
        match framing {
            Framing::Chunked => self.chunked(body),
            Framing::Close => loop {
                body.append(&mut self.buffer);
                check_size(body.len())?;
                if !self.fill()? {
                    return Ok(());
                }
            },
            Framing::Length(length) => self.exactly(length, body),
        }
    }

    fn exactly(&mut self, mut length: usize, body: &mut Vec<u8>) -> io::Result<()> {
        check_size(body.len().saturating_add(length))?;
        loop {
            let part = self.take(length.min(self.buffer.len()));
            length -= part.len();
            body.extend(part);
            if length == 0 {
                return Ok(());
            }
            if !self.fill()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn chunked(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        let malformed = || io::Error::other("malformed chunk");
        loop {
            match httparse::parse_chunk_size(&self.buffer).map_err(|_| malformed())? {
                httparse::Status::Complete((line, 0)) => {
                    self.take(line);
                    return self.trailers();
                }
                httparse::Status::Complete((line, size)) => {
                    self.take(line);
                    let size = usize::try_from(size).map_err(|_| malformed())?;
                    self.exactly(size, body)?;
                    let mut end = Vec::new();
                    self.exactly(2, &mut end)?;
                    if end != b"\r\n" {
                        return Err(malformed());
                    }
                }
                httparse::Status::Partial => {
                    if self.buffer.len() > HEAD_BYTES_MAX || !self.fill()? {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    /// Drops the trailer section with its blank line.
    fn trailers(&mut self) -> io::Result<()> {
        let mut seen = 0;
        loop {
            match memchr::memmem::find(&self.buffer, b"\r\n") {
                Some(0) => {
                    self.take(2);
                    return Ok(());
                }
                Some(end) => {
                    seen += end;
                    self.take(end + 2);
                }
                None if !self.fill()? => return Err(ErrorKind::UnexpectedEof.into()),
                None => {}
            }
            if seen + self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("trailers too large"));
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.buffer.drain(..count.min(self.buffer.len())).collect()
    }
}

fn check_size(length: usize) -> io::Result<()> {
    if length > BODY_BYTES_MAX { Err(io::Error::other("body too large")) } else { Ok(()) }
}

/// How the fields of a head delimit its body; `otherwise` when they do not say.
pub(super) fn framing(headers: &[httparse::Header<'_>], otherwise: Framing) -> io::Result<Framing> {
    for header in headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(Framing::Chunked);
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).ok();
            let length = text.and_then(|text| text.parse().ok());
            return length.map(Framing::Length).ok_or_else(|| io::Error::other("malformed length"));
        }
    }
    Ok(otherwise)
}

/// The value of the first field `name` as text.
pub(super) fn field<'h>(headers: &'h [httparse::Header<'_>], name: &str) -> Option<&'h str> {
    let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(header.value).ok()
}
