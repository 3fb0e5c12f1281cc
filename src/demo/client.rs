//! The client that the demo's own checks use: one connection, any number of requests, strict about what it reads.

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};

use tungstenite::Message;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Request;

use super::Failure;
use super::wire::{Framing, HEADERS_MAX, READ_TIMEOUT, Wire, framing};

/// What came back.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Content, as far as it came.
    pub body: String,
    /// Whether the response came to its end.
    pub complete: bool,
}

/// A connection to the gateway.
#[derive(Debug)]
pub struct Client(Wire);

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When the gateway does not accept.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(Wire::new(TcpStream::connect_timeout(&address, READ_TIMEOUT)?)?))
    }

    /// Sends these bytes as they are and reads the final response.
    ///
    /// # Errors
    /// When no whole head comes back, or bytes that are not HTTP.
    pub fn exchange(&mut self, request: &str) -> io::Result<Answer> {
        self.0.stream.write_all(request.as_bytes())?;
        loop {
            let head = self.0.head()?.ok_or(ErrorKind::UnexpectedEof)?;
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut response = httparse::Response::new(&mut headers);
            response.parse(&head).map_err(io::Error::other)?;
            let status = response.code.unwrap_or_default();
            if status < 200 {
                continue;
            }
            let mut body = Vec::new();
            let complete = self.0.body(framing(response.headers, Framing::Close)?, &mut body).is_ok();
            return Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned(), complete });
        }
    }
}

/// Opens a WebSocket on `path` of `host`, sends `text` and returns the message that comes back.
///
/// # Errors
/// When the handshake fails or anything but a text message answers.
pub fn web_socket(address: SocketAddr, host: &str, path: &str, text: &str) -> Result<String, Failure> {
    let stream = TcpStream::connect_timeout(&address, READ_TIMEOUT)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.set_write_timeout(Some(READ_TIMEOUT))?;
    let request: Request = format!("ws://{host}{path}").into_client_request()?;
    let (mut socket, _) = tungstenite::client(request, stream).map_err(|error| error.to_string())?;
    socket.send(Message::text(text))?;
    let answer = loop {
        match socket.read()? {
            Message::Text(answer) => break answer.to_string(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => return Err(format!("not a text message: {other}").into()),
        }
    };
    socket.close(None)?;
    // Reads until the peer has answered the closing handshake.
    while socket.read().is_ok() {}
    Ok(answer)
}
