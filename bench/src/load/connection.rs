//! One connection of the generator: one request under way at a time, opened again when it has ended.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use monoio::net::TcpStream;
use ringgate::sys::buffer::{Buffer, Class};
use ringgate::sys::socket::Socket;

use super::clock;
use super::response::{Reader, Response};
use super::secure;
use super::session::Session;
use super::tally::ErrorKind;
use super::worker::{Slot, Worker};

/// Rest after a failed dial: a target that is gone must not be hammered.
const PAUSE: Duration = Duration::from_millis(10);

/// Opens a connection within `timeout` nanoseconds.
pub(super) async fn dial(address: SocketAddr, timeout: u64) -> io::Result<Socket> {
    // A connect has no cancelable form. Dropped, its operation is cancelled and the socket it owns closes with it.
    let stream = monoio::select! {
        stream = TcpStream::connect_addr(address) => stream,
        () = monoio::time::sleep(Duration::from_nanos(timeout)) => Err(io::ErrorKind::TimedOut.into()),
    }?;
    let socket = Socket::new(stream);
    socket.set_nodelay();
    Ok(socket)
}

struct Connection {
    worker: Rc<Worker>,
    /// The request: sent, it is rewound and sent again.
    output: Buffer,
    input: Buffer,
    /// TLS on the open connection.
    session: Option<Box<Session>>,
    /// The response said that the connection ends behind it.
    ends: bool,
}

/// Sends requests until there are no more.
pub(super) async fn run(worker: Rc<Worker>, id: usize) {
    let Some(slot) = worker.slots.get(id) else { return };
    let (output, input) = (Buffer::default(), Buffer::new(Class::Medium));
    let session = slot.session.take();
    let mut connection = Connection { worker: Rc::clone(&worker), output, input, session, ends: false };
    let mut now = clock::now();
    while let Some(turn) = worker.next(id, now).await {
        slot.started.set(turn.started);
        let mut outcome = connection.request(slot).await;
        now = clock::now();
        slot.started.set(0);
        if slot.expired.replace(false) {
            outcome = Err(ErrorKind::Timeout);
            slot.socket.take();
        }
        worker.record(turn, outcome, slot.handshake.take(), now);
        if connection.ends {
            connection.await_end(slot, now).await;
            now = clock::now();
        }
        if outcome == Err(ErrorKind::Connect) && !worker.is_stopping() {
            monoio::time::sleep(PAUSE).await;
            now = clock::now();
        }
    }
    slot.socket.take();
    worker.leave();
}

impl Connection {
    /// One request on the open connection, or on a new one; the length of the content.
    async fn request(&mut self, slot: &Slot) -> Result<u64, ErrorKind> {
        let worker = Rc::clone(&self.worker);
        let plan = &worker.shared.plan;
        let open = slot.socket.borrow().clone();
        let socket = match open {
            Some(socket) => socket,
            None => {
                let dialled = dial(plan.address, plan.timeout).await;
                let socket = Rc::new(dialled.map_err(|_| ErrorKind::Connect)?);
                slot.socket.replace(Some(Rc::clone(&socket)));
                self.input.clear();
                if let Some(client) = &worker.client {
                    self.session = None;
                    let session = secure::handshake(client, &socket).await.map_err(|_| {
                        slot.socket.take();
                        ErrorKind::Tls
                    })?;
                    slot.handshake.set(session.kind());
                    self.session = Some(Box::new(session));
                }
                socket
            }
        };
        let mut random = worker.random.get();
        plan.requests.render(&mut random, &mut self.output);
        worker.random.set(random);
        let answered = match &mut self.session {
            None => exchange(&worker, &socket, &mut self.output, &mut self.input).await,
            Some(session) => {
                secure::exchange(&worker, &socket, session, self.output.filled(), &mut self.input).await
            }
        };
        match answered {
            Err(kind) => {
                slot.socket.take();
                Err(kind)
            }
            Ok(response) => {
                self.ends = !response.keeps_alive;
                if plan.close && response.keeps_alive {
                    if let Some(session) = &mut self.session {
                        secure::close(session, &socket).await;
                    }
                    slot.socket.take();
                }
                response.check(&plan.expected)?;
                Ok(response.content)
            }
        }
    }

    /// Waits for the server to close: who closes first keeps the port for a minute, and that must not be this end.
    async fn await_end(&mut self, slot: &Slot, now: u64) {
        self.ends = false;
        slot.ending.set(true);
        slot.started.set(now);
        if let Some(socket) = slot.socket.take() {
            slot.socket.replace(Some(Rc::clone(&socket)));
            loop {
                self.input.clear();
                let (received, input) = socket.read(mem::take(&mut self.input)).await;
                self.input = input;
                // With TLS, records come before the end.
                if self.session.is_none() || !matches!(received, Ok(1..)) {
                    break;
                }
            }
        }
        slot.socket.take();
        slot.started.set(0);
        slot.ending.set(false);
        slot.expired.set(false);
    }
}

/// Sends the request and receives its response; the first receive is submitted together with the send.
async fn exchange(
    worker: &Worker,
    socket: &Socket,
    output: &mut Buffer,
    input: &mut Buffer,
) -> Result<Response, ErrorKind> {
    let head_only = worker.shared.plan.expected.head_only;
    let mut reader = Reader::default();
    let mut write = pin!(socket.write_all(mem::take(output), || ()));
    let mut written = None;
    let outcome = loop {
        let mut read = pin!(socket.read(mem::take(input)));
        let (received, filled) = poll_fn(|context| {
            if written.is_none()
                && let Poll::Ready(sent) = write.as_mut().poll(context)
            {
                written = Some(sent);
            }
            read.as_mut().poll(context)
        })
        .await;
        *input = filled;
        let response = match received {
            Ok(0) => break reader.end().ok_or(ErrorKind::Closed),
            Ok(_) => reader.feed(input, &worker.last_head, head_only),
            Err(_) => break Err(ErrorKind::Read),
        };
        match response {
            Ok(Some(response)) if input.is_empty() => break Ok(response),
            Ok(None) if make_room(input, reader.left()) => {}
            _ => break Err(ErrorKind::Malformed),
        }
    };
    input.clear();
    match written {
        Some((Ok(()), sent)) => {
            *output = sent;
            outcome
        }
        // It did not want the whole request: what it said is its answer, but this connection is done.
        Some((Err(_), _)) => outcome.map(Response::last).map_err(|_| ErrorKind::Write),
        None => outcome.map(Response::last),
    }
}

/// Room for the next receive: content is dropped as it comes, in pieces as large as the response makes worthwhile.
fn make_room(input: &mut Buffer, left: u64) -> bool {
    if input.is_empty() && left > input.total() as u64 && input.total() < Class::Large.bytes() {
        *input = Buffer::new(Class::Large);
    }
    input.make_room(Class::Large.bytes())
}
