//! The client that the demo's own checks use: one connection, any number of requests, strict about what it reads.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};

use tungstenite::Message;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Request;

use super::Failure;
use super::wire::{Framing, HEADERS_MAX, READ_TIMEOUT, Wire, framing, set_options};

/// Bytes that an echo may come to.
const ECHO_BYTES_MAX: u64 = 64 * 1024;

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
pub struct Client<S = TcpStream>(Wire<S>);

/// A connection over TLS.
pub type SecureClient = Client<StreamOwned<ClientConnection, TcpStream>>;

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When the gateway does not accept.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(Wire::new(TcpStream::connect_timeout(&address, READ_TIMEOUT)?)?))
    }
}

impl SecureClient {
    /// Connects and makes a handshake with `name`, whose certificate is verified.
    ///
    /// # Errors
    /// When it is not accepted; one without a client certificate that is wanted may learn of that only with the first
    /// answer.
    pub fn connect_secure(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let mut socket = TcpStream::connect_timeout(&address, READ_TIMEOUT)?;
        set_options(&socket)?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(config), name);
        let mut connection = connection.map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Self(Wire::over(StreamOwned::new(connection, socket))))
    }

    /// Whether the handshake resumed an earlier session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.0.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

impl<S: Read + Write> Client<S> {
    /// Sends these bytes as they are and reads the final response.
    ///
    /// # Errors
    /// When no whole head comes back, or bytes that are not HTTP.
    pub fn exchange(&mut self, request: &str) -> io::Result<Answer> {
        self.0.stream.write_all(request.as_bytes())?;
        self.0.stream.flush()?;
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

/// Sends `text`, ends sending, and returns what comes back to the end.
///
/// # Errors
/// When the connection fails.
pub fn echo(address: SocketAddr, text: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, READ_TIMEOUT)?;
    set_options(&stream)?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.take(ECHO_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
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
