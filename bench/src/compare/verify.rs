//! Whether a proxy gives the answers that the backend gives: a few requests before anything is measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an answer that are looked at; more than any scenario asks for.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// A request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// Path.
    pub(crate) path: &'a str,
    /// Host.
    pub(crate) host: &'a str,
    /// Content bytes of a POST; absent: GET.
    pub(crate) post_bytes: Option<usize>,
}

/// What came back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    status: u16,
    content_length: Option<String>,
    content: Vec<u8>,
}

impl Answer {
    /// The status code.
    pub(crate) const fn status(&self) -> u16 {
        self.status
    }

    /// What is different here, if anything is.
    pub(crate) fn difference(&self, expected: &Self) -> Option<String> {
        let length = |answer: &Self| answer.content_length.clone().unwrap_or_else(|| "none".into());
        if self.status != expected.status {
            return Some(format!("status {} instead of {}", self.status, expected.status));
        }
        if self.content_length != expected.content_length {
            return Some(format!("Content-Length {} instead of {}", length(self), length(expected)));
        }
        if self.content != expected.content {
            let at =
                self.content.iter().zip(&expected.content).take_while(|(own, other)| own == other).count();
            let (own, other) = (self.content.len(), expected.content.len());
            return Some(format!("other content from byte {at} on ({own} bytes instead of {other})"));
        }
        None
    }
}

/// A connection to ask on.
pub(crate) enum Stream {
    Plain(TcpStream),
    Secure(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects, with all of the handshake where `trust` is there for one, asking for `host`.
    pub(crate) fn open(
        address: SocketAddr,
        host: &str,
        trust: Option<&Arc<ClientConfig>>,
    ) -> std::io::Result<Self> {
        let mut socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        let Some(trust) = trust else { return Ok(Self::Plain(socket)) };
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(trust), name).map_err(std::io::Error::other);
        let mut connection = connection?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Self::Secure(Box::new(StreamOwned::new(connection, socket))))
    }

    /// Whether the other end has closed it. From an idle connection nothing is to be read, but for tickets.
    pub(crate) fn is_closed(&self) -> bool {
        let (socket, may_speak) = match self {
            Self::Plain(socket) => (socket, false),
            Self::Secure(stream) => (&stream.sock, true),
        };
        match socket.set_nonblocking(true).and_then(|()| socket.peek(&mut [0])) {
            Ok(count) => count == 0 || !may_speak,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Secure(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Secure(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Secure(stream) => stream.flush(),
        }
    }
}

/// Sends a request on a connection of its own and reads the answer to its end; over TLS where `trust` is there for it.
pub(crate) fn ask(
    address: SocketAddr,
    question: Question<'_>,
    trust: Option<&Arc<ClientConfig>>,
) -> Result<Answer, String> {
    let Question { path, host, post_bytes } = question;
    let failed = |error: std::io::Error| format!("{address}{path}: {error}");
    let mut stream = Stream::open(address, host, trust).map_err(failed)?;
    let (method, length) = match post_bytes {
        Some(bytes) => ("POST", format!("Content-Length: {bytes}\r\n")),
        None => ("GET", String::new()),
    };
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{length}Connection: close\r\n\r\n").into_bytes();
    request.resize(request.len() + post_bytes.unwrap_or_default(), b'x');
    stream.write_all(&request).and_then(|()| stream.flush()).map_err(failed)?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    parse(&bytes).map_err(|error| format!("{address}{path}: {error}"))
}

/// Sends a request on a connection that stays open, reads the answer, and returns its status.
pub(crate) fn ask_kept(stream: &mut Stream, question: Question<'_>) -> Result<u16, String> {
    let failed = |error: std::io::Error| error.to_string();
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", question.path, question.host);
    stream.write_all(request.as_bytes()).and_then(|()| stream.flush()).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).map_err(failed)?;
        if count == 0 {
            return Err(format!("closed after {} bytes of an answer", bytes.len()));
        }
        bytes.extend_from_slice(&chunk[..count]);
        if let Ok(answer) = parse(&bytes) {
            let length = answer.content_length.as_deref().and_then(|length| length.parse::<usize>().ok());
            let length = length.ok_or("an answer without Content-Length")?;
            if answer.content.len() >= length {
                return Ok(answer.status);
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Answer, String> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let status = response.parse(bytes).map_err(|error| format!("no HTTP response: {error}"))?;
    let httparse::Status::Complete(head) = status else {
        return Err(format!("an incomplete response of {} bytes", bytes.len()));
    };
    let length = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    Ok(Answer {
        status: response.code.unwrap_or_default(),
        content_length: length.map(|field| String::from_utf8_lossy(field.value).into_owned()),
        content: bytes.get(head..).unwrap_or_default().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn differences_are_named() {
        let expected = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        let difference = |text: &[u8]| parse(text).unwrap().difference(&expected);
        assert_eq!(difference(b"HTTP/1.1 200 Fine\r\nServer: x\r\nCONTENT-LENGTH: 5\r\n\r\nhello"), None);
        for (text, named) in [
            ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nhello", "status 502 instead of 200"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhell", "Content-Length 4 instead of 5"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "Content-Length none instead of 5"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelp!", "other content from byte 3 on (5 bytes"),
        ] {
            assert!(difference(text.as_bytes()).unwrap().starts_with(named), "{text}");
        }
        assert!(parse(b"HTTP/1.1 200 OK\r\n").unwrap_err().contains("incomplete"));
        assert!(parse(b"SSH-2.0\r\n\r\n").unwrap_err().contains("no HTTP response"));
    }
}
