//! What the demo's gateway routes to: a small HTTP/1.1 server, one that ends TLS itself, and an echo. A thread per
//! connection, bounded in number.
//!
//! | path | answer |
//! | --- | --- |
//! | `/echo` | the request as it arrived, head and body |
//! | `/stream` | five lines, one every 100 ms, chunked |
//! | `/slow` | 200 after half a second |
//! | `/ws` | WebSocket (RFC 6455) that echoes messages |
//! | `/fail/500` | 500 |
//! | `/fail/close` | the connection ends without an answer |
//! | `/fail/cut` | a body that stops midway |
//! | `/fail/reset` | the same, by a reset |
//! | `/fail/garbage` | bytes that are not HTTP |
//! | anything else | the backend's name |

use std::io::{self, Read as _, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;
use tungstenite::WebSocket;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocketConfig};

use super::wire::{BODY_BYTES_MAX, Framing, HEADERS_MAX, Wire, field, framing, set_options};

/// Most connections served at a time; further ones are closed at once.
const CONNECTIONS_MAX: usize = 256;

/// Lines of `/stream`.
const STREAM_LINES: usize = 5;

/// Pause between the lines of `/stream`.
const STREAM_GAP: Duration = Duration::from_millis(100);

/// Pause of `/slow`.
const SLOW: Duration = Duration::from_millis(500);

/// A running backend. It serves until the process ends.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum After {
    Close,
    KeepOpen,
}

impl Backend {
    /// Starts a backend that calls itself `name` on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port or thread can be had.
    pub fn start(name: &'static str) -> io::Result<Self> {
        Self::listen(name, move |stream| serve(stream, name))
    }

    /// Starts a backend that speaks TLS itself and answers every request with its name.
    ///
    /// # Errors
    /// When no port or thread can be had.
    pub fn start_secure(name: &'static str, config: Arc<ServerConfig>) -> io::Result<Self> {
        Self::listen(name, move |stream| serve_secure(stream, name, &config))
    }

    /// Starts a backend that sends back what it receives.
    ///
    /// # Errors
    /// When no port or thread can be had.
    pub fn start_echo() -> io::Result<Self> {
        Self::listen("echo", echo)
    }

    fn listen(
        name: &'static str,
        serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        thread::Builder::new().name(format!("demo-{name}")).spawn(move || accept(&listener, name, &serve))?;
        Ok(Self { address })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Gives its place back when the connection's thread ends, however it ends.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn accept(
    listener: &TcpListener,
    name: &'static str,
    serve: &(impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static),
) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors, most likely: give the others time to end.
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        let place = Place(Arc::clone(&open));
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            continue;
        }
        let serve = serve.clone();
        // Without a thread the connection is closed by dropping it.
        let _ = thread::Builder::new().name(format!("demo-{name}-conn")).spawn(move || {
            let _place = place;
            // A connection that fails only ends: the peer learns all there is to know.
            let _ = serve(stream);
        });
    }
}

fn serve(stream: TcpStream, name: &str) -> io::Result<()> {
    let mut wire = Wire::new(stream)?;
    while let Some(head) = wire.head()? {
        if answer(&mut wire, &head, name)? == After::Close {
            break;
        }
    }
    Ok(())
}

fn serve_secure(stream: TcpStream, name: &str, config: &Arc<ServerConfig>) -> io::Result<()> {
    set_options(&stream)?;
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut wire = Wire::over(StreamOwned::new(connection, stream));
    while wire.head()?.is_some() {
        let body = format!("TLS service {name}\n");
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len());
        wire.stream.write_all(format!("{head}{body}").as_bytes())?;
        wire.stream.flush()?;
    }
    wire.stream.conn.send_close_notify();
    wire.stream.flush()
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    set_options(&stream)?;
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes)? {
            0 => return stream.shutdown(Shutdown::Write),
            count => stream.write_all(bytes.get(..count).unwrap_or_default())?,
        }
    }
}

fn answer(wire: &mut Wire, head: &[u8], name: &str) -> io::Result<After> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(head).map_err(io::Error::other)?;
    let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
    let method = request.method.unwrap_or_default();
    if path == "/ws" {
        return web_socket(wire, request.headers);
    }
    if field(request.headers, "expect").is_some() {
        wire.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = Vec::new();
    wire.body(framing(request.headers, Framing::Length(0))?, &mut body)?;
    match path {
        "/echo" => {
            let mut echo = head.to_vec();
            echo.append(&mut body);
            reply(wire, method, "200 OK", &echo)
        }
        "/fail/500" => reply(wire, method, "500 Internal Server Error", b"500 from the backend\n"),
        "/fail/close" => Ok(After::Close),
        "/fail/cut" | "/fail/reset" => {
            wire.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this\n")?;
            if path == "/fail/reset" {
                SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO))?;
            }
            Ok(After::Close)
        }
        "/fail/garbage" => {
            wire.stream.write_all(b"this is not HTTP\r\n\r\n")?;
            Ok(After::Close)
        }
        "/slow" => {
            thread::sleep(SLOW);
            reply(wire, method, "200 OK", format!("backend {name}, {SLOW:?} later\n").as_bytes())
        }
        "/stream" => stream_lines(wire, name),
        _ => reply(wire, method, "200 OK", format!("backend {name}\n").as_bytes()),
    }
}

fn reply(wire: &mut Wire, method: &str, status: &str, body: &[u8]) -> io::Result<After> {
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut bytes = head.into_bytes();
    if method != "HEAD" {
        bytes.extend_from_slice(body);
    }
    wire.stream.write_all(&bytes)?;
    Ok(After::KeepOpen)
}

fn stream_lines(wire: &mut Wire, name: &str) -> io::Result<After> {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
    wire.stream.write_all(head)?;
    for number in 1..=STREAM_LINES {
        let line = format!("line {number} of {STREAM_LINES} from backend {name}\n");
        wire.stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes())?;
        thread::sleep(STREAM_GAP);
    }
    wire.stream.write_all(b"0\r\n\r\n")?;
    Ok(After::KeepOpen)
}

/// Answers the handshake of RFC 6455 section 4.2.2, then echoes text and binary messages until the peer closes.
fn web_socket(wire: &mut Wire, headers: &[httparse::Header<'_>]) -> io::Result<After> {
    let upgrade = field(headers, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    let version = field(headers, "sec-websocket-version") == Some("13");
    let (Some(key), true, true) = (field(headers, "sec-websocket-key"), upgrade, version) else {
        wire.stream.write_all(
            b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade, close\r\n\
              Sec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n",
        )?;
        return Ok(After::Close);
    };
    let accept = derive_accept_key(key.as_bytes());
    wire.stream.write_all(
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .as_bytes(),
    )?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(BODY_BYTES_MAX))
        .max_frame_size(Some(BODY_BYTES_MAX));
    let early = std::mem::take(&mut wire.buffer);
    let mut socket = WebSocket::from_partially_read(&wire.stream, early, Role::Server, Some(config));
    // The library answers pings and the closing handshake itself; an error ends the connection.
    while let Ok(message) = socket.read() {
        if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
            break;
        }
    }
    Ok(After::Close)
}
