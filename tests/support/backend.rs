//! Scripted backends: a thread per connection runs a closure that says, step by step, what the server does.
//!
//! The steps cover what real and hostile servers do: answer in pieces, early, late or never, close or reset at any
//! point, half-close, send bytes nobody asked for. A panic in a script fails the test when the backend is dropped.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use super::DEADLINE;
use super::client::Sender;
use super::kernel;
use super::sync::Watched;
use super::wire::{Failure, Framing, Reader, Request};

/// What a backend saw.
#[derive(Debug, Default)]
struct Seen {
    requests: Vec<Request>,
    accepted: usize,
    ended: usize,
    /// The gateway's end, by connection.
    peers: Vec<SocketAddr>,
    bytes: u64,
    failures: Vec<String>,
    /// By connection; for stopping, given up when a script ends.
    streams: Vec<Option<TcpStream>>,
}

/// A server on a kernel-chosen port of 127.0.0.1.
pub(crate) struct Backend {
    address: SocketAddr,
    seen: Arc<Watched<Seen>>,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<Vec<JoinHandle<()>>>>,
}

impl Backend {
    /// Runs `script` on every connection; when it returns, the connection is closed.
    pub(crate) fn start(script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Watched::<Seen>::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let script = Arc::new(script);
        let acceptor = thread::spawn({
            let (seen, stopping) = (Arc::clone(&seen), Arc::clone(&stopping));
            move || {
                let mut threads = Vec::new();
                loop {
                    let (stream, peer) = listener.accept().unwrap();
                    if stopping.load(Ordering::SeqCst) {
                        return threads;
                    }
                    let number = seen.update(|seen| {
                        seen.accepted += 1;
                        seen.peers.push(peer);
                        seen.streams.push(Some(stream.try_clone().unwrap()));
                        seen.accepted - 1
                    });
                    let conn = Conn::new(stream, number, Arc::clone(&seen));
                    let (script, stopping) = (Arc::clone(&script), Arc::clone(&stopping));
                    threads.push(thread::spawn(move || run(&*script, conn, &stopping)));
                }
            }
        });
        Self { address, seen, stopping, acceptor: Some(acceptor) }
    }

    /// Answers every request with a fixed 200 of this body, keeping connections open.
    pub(crate) fn fixed(body: &'static str) -> Self {
        Self::start(move |conn| {
            while let Some(request) = conn.request() {
                conn.reply(200, if request.method == "HEAD" { "" } else { body });
            }
        })
    }

    /// Answers every request with its own content.
    pub(crate) fn echo() -> Self {
        Self::start(|conn| {
            while let Some(request) = conn.request() {
                conn.reply(200, &request.content.body);
            }
        })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests that arrived whole so far (heads read with [`Conn::head`] count at once).
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.read(|seen| seen.requests.clone())
    }

    /// The only request that arrived; panics unless it is exactly one.
    pub(crate) fn only_request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "requests that reached the backend: {requests:#?}");
        requests.remove(0)
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.seen.read(|seen| seen.accepted)
    }

    /// Bytes received so far on all connections, as far as the scripts read them.
    pub(crate) fn bytes(&self) -> u64 {
        self.seen.read(|seen| seen.bytes)
    }

    /// Waits until `count` connections were accepted.
    pub(crate) fn wait_connections(&self, count: usize) {
        self.seen.wait("connections to a backend", |seen| seen.accepted >= count);
    }

    /// Waits until the scripts of `count` connections ended.
    pub(crate) fn wait_ended(&self, count: usize) {
        self.seen.wait("connections of a backend to end", |seen| seen.ended >= count);
    }

    /// Waits until the first `count` connections ended and the gateway's kernel knows it.
    pub(crate) fn wait_ends_seen(&self, count: usize) {
        self.wait_ended(count);
        for peer in self.seen.read(|seen| seen.peers[..count].to_vec()) {
            kernel::wait_end(self.address, peer);
        }
    }

    /// Waits until `count` requests arrived.
    pub(crate) fn wait_requests(&self, count: usize) {
        self.seen.wait("requests at a backend", |seen| seen.requests.len() >= count);
    }
}

fn run(script: &(impl Fn(&mut Conn) + ?Sized), mut conn: Conn, stopping: &AtomicBool) {
    let outcome = catch_unwind(AssertUnwindSafe(|| script(&mut conn)));
    let seen = Arc::clone(&conn.seen);
    let number = conn.number;
    conn.account();
    drop(conn);
    seen.update(|seen| {
        // Only with this clone, too, is the connection closed.
        seen.streams[number] = None;
        seen.ended += 1;
        if let (Err(panic), false) = (outcome, stopping.load(Ordering::SeqCst)) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            seen.failures.push(format!("connection {number}: {}", text.unwrap_or_default()));
        }
    });
}

impl Drop for Backend {
    fn drop(&mut self) {
        let failures = self.seen.update(|seen| {
            self.stopping.store(true, Ordering::SeqCst);
            for stream in seen.streams.iter().flatten() {
                let _ = stream.shutdown(Shutdown::Both);
            }
            std::mem::take(&mut seen.failures)
        });
        // Wakes the acceptor, which then sees the flag.
        let woken = TcpStream::connect(self.address);
        if thread::panicking() {
            eprintln!("backend {}: {:#?}, failures {failures:#?}", self.address, self.requests());
            return;
        }
        if let (Ok(_), Some(acceptor)) = (woken, self.acceptor.take()) {
            for script in acceptor.join().unwrap() {
                script.join().unwrap();
            }
        }
        assert!(failures.is_empty(), "backend scripts failed: {failures:#?}");
    }
}

/// One connection of a backend, as its script sees it.
pub(crate) struct Conn {
    /// Number of the connection, from 0.
    pub(crate) number: usize,
    stream: TcpStream,
    reader: Reader,
    accounted: u64,
    seen: Arc<Watched<Seen>>,
}

impl Conn {
    fn new(stream: TcpStream, number: usize, seen: Arc<Watched<Seen>>) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let reader = Reader::new(stream.try_clone().unwrap());
        Self { number, stream, reader, accounted: 0, seen }
    }

    fn account(&mut self) {
        let received = self.reader.received();
        let fresh = received - std::mem::replace(&mut self.accounted, received);
        self.seen.update(|seen| seen.bytes += fresh);
    }

    /// Reads a request head and records it; `None` when the gateway closed instead.
    pub(crate) fn head(&mut self) -> Option<Request> {
        // A connection may stay idle for as long as the test lives, so only bytes that stop midway are a failure.
        let raw = loop {
            self.reader.arm();
            match self.reader.head() {
                Ok(raw) => break raw?,
                Err(Failure::Timeout) => {}
                // A pooled connection may be reset rather than closed.
                Err(Failure::Reset) => return None,
                Err(failure) => panic!("head: {failure:?} in {:?}", self.reader),
            }
        };
        self.account();
        let request = Request { connection: self.number, ..Request::parse(raw) };
        self.seen.update(|seen| seen.requests.push(request.clone()));
        Some(request)
    }

    /// Reads the content of a request whose head was read.
    pub(crate) fn content(&mut self, request: &mut Request) -> Result<(), Failure> {
        self.reader.arm();
        let result = match request.framing() {
            Framing::Chunked => self.reader.chunked(&mut request.content),
            Framing::Length(length) => self.reader.exactly(length, &mut request.content.body),
            Framing::Close | Framing::None => Ok(()),
        };
        self.account();
        result
    }

    /// Reads a whole request and records it; `None` when the gateway closed instead of sending one.
    pub(crate) fn request(&mut self) -> Option<Request> {
        let mut request = self.head()?;
        self.content(&mut request).unwrap_or_else(|failure| panic!("content: {failure:?} of {request:?}"));
        self.seen.update(|seen| {
            // The head was recorded by `head`; complete that very entry.
            let entry = seen.requests.iter_mut().rev().find(|entry| entry.connection == self.number);
            entry.expect("recorded").content = request.content.clone();
        });
        Some(request)
    }

    /// Reads `length` raw bytes, as in a tunnel.
    pub(crate) fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        self.reader.arm();
        let mut bytes = Vec::new();
        let result = self.reader.exactly(length, &mut bytes).map(|()| bytes);
        self.account();
        result
    }

    /// Reads raw bytes until the gateway ends its side.
    pub(crate) fn until_end(&mut self) -> Result<Vec<u8>, Failure> {
        self.reader.arm();
        let mut bytes = Vec::new();
        let result = self.reader.until_end(&mut bytes).map(|()| bytes);
        self.account();
        result
    }

    /// Sends bytes; panics when the gateway does not take them.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).unwrap_or_else(|kind| panic!("send: {kind}"));
    }

    /// A second handle that only sends, for another thread.
    pub(crate) fn sender(&self) -> Sender {
        Sender(self.stream.try_clone().unwrap())
    }

    /// A second handle, for who does the reading, too.
    pub(crate) fn stream(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Sends bytes to a connection that the gateway does not read from, and waits until they lie there.
    pub(crate) fn send_unread(&mut self, bytes: impl AsRef<[u8]>) {
        self.send(bytes);
        kernel::wait_arrival(self.stream.local_addr().unwrap(), self.stream.peer_addr().unwrap());
    }

    /// Sends bytes, which the gateway may refuse by closing.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> Result<(), ErrorKind> {
        self.stream.write_all(bytes).map_err(|error| error.kind())
    }

    /// Sends each piece with its own system call.
    pub(crate) fn send_pieces<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) {
        pieces.into_iter().for_each(|piece| self.send(piece));
    }

    /// Sends bytes until the gateway takes none for `stall`, or all are sent; returns how many went.
    pub(crate) fn send_until_stalled(&mut self, bytes: &[u8], stall: Duration) -> usize {
        self.stream.set_write_timeout(Some(stall)).unwrap();
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => break,
                Err(error) => panic!("send: {error}"),
            }
        }
        self.stream.set_write_timeout(Some(DEADLINE)).unwrap();
        sent
    }

    /// Sends a response with `Content-Length`.
    pub(crate) fn reply(&mut self, status: u16, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut bytes =
            format!("HTTP/1.1 {status} Reply\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        self.send(bytes);
    }

    /// Ends the sending side only.
    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Waits until the gateway ends the connection, by FIN or RST; panics when it sends anything before.
    pub(crate) fn wait_closed(&mut self) {
        match self.until_end() {
            Ok(bytes) => assert!(bytes.is_empty(), "unexpected: {:?}", String::from_utf8_lossy(&bytes)),
            Err(Failure::Reset) => {}
            Err(failure) => panic!("waiting for the end: {failure:?}"),
        }
    }

    /// Resets the connection: what is in flight in either direction is lost.
    pub(crate) fn reset(&mut self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
        // The reset is sent when the socket's last descriptor goes, and three are held: the reader's, the one kept for
        // stopping, and ours. A stream that is dead already takes their place.
        let dead = dead_stream();
        self.account();
        self.reader = Reader::new(dead.try_clone().unwrap());
        self.accounted = 0;
        self.seen.update(|seen| seen.streams[self.number] = None);
        self.stream = dead;
    }
}

/// A connected stream whose peer is gone.
fn dead_stream() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    drop(listener.accept().unwrap());
    stream
}
