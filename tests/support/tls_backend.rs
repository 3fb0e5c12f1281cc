//! Scripted backends that speak TLS: what [`super::backend`] does, behind a handshake over rustls.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use super::DEADLINE;
use super::backend::{Backend, Conn};
use super::wire::{Failure, Framing, Reader, Request, Source};

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// What a handshake came to.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    /// Why it failed.
    pub(crate) error: Option<String>,
    pub(crate) sni: Option<String>,
    pub(crate) resumed: bool,
    /// The gateway showed a certificate.
    pub(crate) has_certificate: bool,
}

/// A TLS server on a kernel-chosen port of 127.0.0.1.
pub(crate) struct TlsBackend {
    backend: Backend,
    handshakes: Arc<Mutex<Vec<Handshake>>>,
}

impl TlsBackend {
    /// Runs `script` on every connection whose handshake is good; afterwards it is closed in order.
    pub(crate) fn start(
        config: Arc<ServerConfig>,
        script: impl Fn(&mut TlsConn) + Send + Sync + 'static,
    ) -> Self {
        let handshakes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&handshakes);
        let backend = Backend::start(move |conn| {
            let (stream, handshake) = accept(conn, &config);
            let good = handshake.error.is_none();
            seen.lock().unwrap().push(handshake);
            if good {
                let stream = Shared(Arc::new(Mutex::new(stream)));
                let mut conn = TlsConn { number: conn.number, reader: Reader::new(stream.clone()), stream };
                script(&mut conn);
                conn.with(|stream| {
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                });
            }
        });
        Self { backend, handshakes }
    }

    /// Answers every request with its target, the length of its body and the forwarded scheme.
    pub(crate) fn mirror(config: Arc<ServerConfig>) -> Self {
        Self::start(config, |conn| while conn.answer().is_some() {})
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.backend.address()
    }

    /// The backend below.
    pub(crate) const fn below(&self) -> &Backend {
        &self.backend
    }

    /// All handshakes so far.
    pub(crate) fn handshakes(&self) -> Vec<Handshake> {
        self.handshakes.lock().unwrap().clone()
    }
}

/// Makes a handshake on a connection.
pub(crate) fn accept(conn: &Conn, config: &Arc<ServerConfig>) -> (Stream, Handshake) {
    let mut socket = conn.stream();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut connection = ServerConnection::new(Arc::clone(config)).unwrap();
    let mut error = None;
    while connection.is_handshaking() && error.is_none() {
        error = connection.complete_io(&mut socket).err().map(|error| error.to_string());
    }
    let handshake = Handshake {
        error,
        sni: connection.server_name().map(str::to_owned),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        has_certificate: connection.peer_certificates().is_some(),
    };
    (StreamOwned::new(connection, socket), handshake)
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Stream>>);

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap().read(buffer)
    }
}

impl Source for Shared {
    fn set_timeout(&self, timeout: Duration) {
        self.0.lock().unwrap().sock.set_read_timeout(Some(timeout)).unwrap();
    }
}

/// One connection, as its script sees it.
pub(crate) struct TlsConn {
    /// Number of the connection, from 0.
    pub(crate) number: usize,
    stream: Shared,
    reader: Reader,
}

impl TlsConn {
    /// Lets a script do what rustls offers.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Stream) -> T) -> T {
        act(&mut self.stream.0.lock().unwrap())
    }

    /// Reads a request; `None` when the gateway closed instead of sending one.
    pub(crate) fn request(&mut self) -> Option<Request> {
        let raw = loop {
            self.reader.arm();
            match self.reader.head() {
                Ok(raw) => break raw?,
                Err(Failure::Timeout) => {}
                Err(Failure::Reset | Failure::Truncated) => return None,
                Err(failure) => panic!("head: {failure:?}"),
            }
        };
        let mut request = Request::parse(raw);
        let framing = request.framing();
        let content = &mut request.content;
        match framing {
            Framing::Chunked => self.reader.chunked(content).unwrap(),
            Framing::Length(length) => self.reader.exactly(length, &mut content.body).unwrap(),
            Framing::Close | Framing::None => {}
        }
        Some(request)
    }

    /// Reads a request and answers with what it was.
    pub(crate) fn answer(&mut self) -> Option<Request> {
        let request = self.request()?;
        let scheme = request.headers.get("x-forwarded-proto").unwrap_or("none");
        self.reply(format!("{} {} {scheme}", request.target, request.content.body.len()));
        Some(request)
    }

    pub(crate) fn reply(&self, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        self.send(bytes);
    }

    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.with(|stream| stream.write_all(bytes.as_ref()).and_then(|()| stream.flush()).unwrap());
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        self.reader.arm();
        let mut bytes = Vec::new();
        self.reader.exactly(length, &mut bytes).map(|()| bytes)
    }

    /// Reads everything up to a close_notify.
    pub(crate) fn until_end(&mut self) -> Result<Vec<u8>, Failure> {
        self.reader.arm();
        let mut bytes = Vec::new();
        self.reader.until_end(&mut bytes).map(|()| bytes)
    }

    /// Says that nothing follows and ends the sending side.
    pub(crate) fn half_close(&self) {
        self.with(|stream| {
            stream.conn.send_close_notify();
            stream.flush().unwrap();
            stream.sock.shutdown(Shutdown::Write).unwrap();
        });
    }

    /// Ends the sending side without a word.
    pub(crate) fn truncate(&self) {
        self.with(|stream| stream.sock.shutdown(Shutdown::Write).unwrap());
    }
}
