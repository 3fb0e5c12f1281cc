//! A raw client: sends exactly the bytes it is told to, reads responses strictly.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::DEADLINE;
use super::wire::{Failure, Framing, Reader, Response};

/// One connection to the gateway.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    reader: Reader,
}

/// A response that ended before it was complete.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    /// What was there: `None` when not even a head came.
    pub(crate) partial: Option<Box<Response>>,
    /// Why it stopped.
    pub(crate) failure: Failure,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&address, DEADLINE).unwrap())
    }

    /// Connects with a receive buffer of `bytes` that the kernel does not grow.
    pub(crate) fn connect_small(address: SocketAddr, bytes: usize) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Before the connection: the window scale is fixed by the handshake.
        socket.set_recv_buffer_size(bytes).unwrap();
        socket.connect_timeout(&address.into(), DEADLINE).unwrap();
        Self::over(socket.into())
    }

    /// A client over a connection made elsewhere.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let reader = Reader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    /// Sends bytes; panics when the gateway does not take them.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).unwrap_or_else(|kind| panic!("send: {kind}"));
    }

    /// Sends bytes, which the gateway may refuse by closing.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> Result<(), ErrorKind> {
        self.stream.write_all(bytes).map_err(|error| error.kind())
    }

    /// A second handle that only sends, for another thread.
    pub(crate) fn sender(&self) -> Sender {
        Sender(self.stream.try_clone().unwrap())
    }

    /// Sends each piece with its own system call, a moment apart.
    ///
    /// The moment makes it likely that the gateway meets the pieces one by one; no result may depend on it.
    pub(crate) fn send_pieces<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) {
        for piece in pieces {
            // A refusal may close the connection before the last piece.
            if self.try_send(piece).is_err() {
                return;
            }
            thread::sleep(Duration::from_micros(300));
        }
    }

    /// Whether bytes, or the end of the connection, can be read without waiting.
    pub(crate) fn has_input(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        peeked.is_ok()
    }

    /// Sends bytes until the gateway takes none for `stall`, closes, or all are sent; returns how many went.
    pub(crate) fn send_until_stalled(&mut self, bytes: &[u8], stall: Duration) -> usize {
        self.stream.set_write_timeout(Some(stall)).unwrap();
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // On a busy host the gateway's own timer may be first: it answers, lingers for a while, then closes.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::TimedOut
                            | ErrorKind::WouldBlock
                            | ErrorKind::BrokenPipe
                            | ErrorKind::ConnectionReset
                    ) =>
                {
                    break;
                }
                Err(error) => panic!("send: {error}"),
            }
        }
        self.stream.set_write_timeout(Some(DEADLINE)).unwrap();
        sent
    }

    /// Reads one head, interim or final, without its content.
    pub(crate) fn head(&mut self, method: &str) -> Result<Response, Broken> {
        self.reader.arm();
        let broken = |failure| Broken { partial: None, failure };
        let raw = self.reader.head().map_err(broken)?;
        Response::parse(&raw.ok_or_else(|| broken(Failure::Eof(0)))?, method).map_err(broken)
    }

    /// Reads the content that `response` announces; afterwards it is in `response.content`.
    pub(crate) fn content(&mut self, response: &mut Response) -> Result<(), Failure> {
        self.reader.arm();
        let content = &mut response.content;
        match response.framing {
            Framing::Chunked => self.reader.chunked(content),
            Framing::Close => self.reader.until_end(&mut content.body),
            Framing::Length(length) => self.reader.exactly(length, &mut content.body),
            Framing::None => Ok(()),
        }
    }

    /// Reads one complete response to a request of `method`, an interim one included.
    pub(crate) fn try_response(&mut self, method: &str) -> Result<Response, Broken> {
        let mut response = self.head(method)?;
        match self.content(&mut response) {
            Ok(()) => Ok(response),
            Err(failure) => Err(Broken { partial: Some(Box::new(response)), failure }),
        }
    }

    /// Reads one complete response to a request of `method`.
    #[track_caller]
    pub(crate) fn response(&mut self, method: &str) -> Response {
        match self.try_response(method) {
            Ok(response) => response,
            Err(broken) => panic!("no complete response: {broken:#?}; unread: {:?}", self.reader),
        }
    }

    /// Sends a `GET` for `host` and reads the response.
    #[track_caller]
    pub(crate) fn get(&mut self, host: &str, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.response("GET")
    }

    /// Sends a request with `Content-Length` and reads the response.
    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Response {
        self.send(format!("POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len()));
        self.send(body);
        self.response("POST")
    }

    /// Reads raw bytes, as in a tunnel.
    pub(crate) fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        self.reader.arm();
        let mut bytes = Vec::new();
        self.reader.exactly(length, &mut bytes).map(|()| bytes)
    }

    /// Reads everything up to the end of the connection.
    pub(crate) fn until_end(&mut self) -> Result<Vec<u8>, Failure> {
        self.reader.arm();
        let mut bytes = Vec::new();
        self.reader.until_end(&mut bytes).map(|()| bytes)
    }

    /// Reads what comes until the connection ends in whatever way.
    pub(crate) fn remainder(&mut self) -> Vec<u8> {
        self.reader.arm();
        let mut bytes = Vec::new();
        match self.reader.until_end(&mut bytes) {
            Ok(()) | Err(Failure::Reset) => bytes,
            Err(failure) => panic!("waiting for the end: {failure:?}"),
        }
    }

    /// Asserts that the gateway ends the connection with a clean FIN and sends nothing more.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        match self.until_end() {
            Ok(bytes) => assert!(bytes.is_empty(), "more came: {:?}", String::from_utf8_lossy(&bytes)),
            Err(failure) => panic!("expected a clean end: {failure:?}"),
        }
    }

    /// Ends the sending side only.
    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// The sending side of a connection.
#[derive(Debug)]
pub(crate) struct Sender(pub(crate) TcpStream);

impl Sender {
    /// Sends bytes; panics when the gateway does not take them.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap_or_else(|error| panic!("send: {error}"));
    }
}
