//! A connection to a client or an endpoint: plain bytes over TCP, or over TLS once a handshake has made it so.
//!
//! [`crate::downstream`] makes handshakes as a server, [`crate::upstream`] as a client; from then on there is no difference.
//! Both directions may be under way at once. Nothing is held over a wait but what a peer's partial record makes
//! necessary: an idle connection has no buffer here.

use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::io;
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::rc::Rc;

use monoio::io::CancelHandle;

use crate::gateway::stream::ByteStream;
use crate::shard::Shard;
use crate::shard::turn::Turns;
use crate::sys::buffer::{Buffer, Class};
use crate::sys::socket::{Liveness, Socket};
use crate::tls::fault::TlsFault;
use crate::tls::machine::{Machine, TlsError};

/// Plain bytes that are encrypted at a time: three records and what they add lie in one buffer.
const PIECE_BYTES: usize = 48 * 1024;

/// What a received byte that brings no content costs of a session's turn: in the smallest records, a KiB takes as long as
/// ten of content.
const FRUITLESS_COST: usize = 8;

/// Records that an idle connection may have received at most: more than tickets and key updates come to.
const IDLE_BYTES_MAX: usize = 64 * 1024;

/// A connection. Over TLS it also knows `M`, what it was made for.
pub struct Wire<M = ()> {
    socket: Socket,
    tls: OnceCell<Box<Tls<M>>>,
}

struct Tls<M> {
    /// On epoll.
    turns: Option<Rc<Turns>>,
    made_for: M,
    machine: RefCell<Machine>,
    /// Why it failed.
    fault: Cell<Option<TlsFault>>,
    /// Part of what was encrypted may not be sent yet: nothing else can go out.
    mid_write: Cell<bool>,
    /// The end of the bytes must look like what it is, a cut.
    cut: Cell<bool>,
}

impl<M> Wire<M> {
    /// A plain connection.
    #[must_use]
    pub fn new(socket: Socket) -> Self {
        Self { socket, tls: OnceCell::new() }
    }

    /// From now on everything goes through TLS, whose handshake is over. Once.
    pub fn start_tls(&self, shard: &Shard, machine: Machine, made_for: M) {
        let tls = Tls {
            turns: shard.epoll.then(|| Rc::clone(&shard.turns)),
            made_for,
            machine: RefCell::new(machine),
            fault: Cell::new(None),
            mid_write: Cell::new(false),
            cut: Cell::new(false),
        };
        let started = self.tls.set(Box::new(tls));
        debug_assert!(started.is_ok());
    }

    /// Whether the bytes go through TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls.get().is_some()
    }

    /// What the connection was made for; `None` without TLS.
    #[must_use]
    pub fn made_for(&self) -> Option<&M> {
        self.tls.get().map(|tls| &tls.made_for)
    }

    /// The TLS connection, where TLS ends here.
    #[must_use]
    pub fn machine(&self) -> Option<Ref<'_, Machine>> {
        self.tls.get().map(|tls| tls.machine.borrow())
    }

    /// The descriptor, valid while the connection lives.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.socket.fd()
    }

    /// Whether bytes are here that a wait for the socket would not tell of.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.tls.get().is_some_and(|tls| tls.machine.borrow().has_plain())
    }

    /// Whether part of a record is here and its rest is not.
    #[must_use]
    pub fn is_mid_record(&self) -> bool {
        self.tls.get().is_some_and(|tls| tls.machine.borrow().is_mid_record())
    }

    /// Why TLS failed; `None` where it did not.
    #[must_use]
    pub fn tls_fault(&self) -> Option<TlsFault> {
        self.tls.get().and_then(|tls| tls.fault.get())
    }

    /// Looks at an idle connection without waiting. Records that are no content (tickets, key updates) are used up.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        match self.tls.get() {
            None => self.socket.liveness(),
            Some(tls) => tls.liveness(&self.socket),
        }
    }

    /// Makes the coming close a reset.
    pub(crate) fn abort(&self) {
        self.cut();
        self.socket.reset_on_close();
    }

    /// Sends close_notify, unless part of something else is under way or the content was cut.
    fn say_goodbye(&self) {
        let Some(tls) = self.tls.get() else { return };
        if tls.cut.get() || tls.mid_write.get() {
            return;
        }
        let mut record = Buffer::new(Class::Small);
        if tls.machine.borrow_mut().close(&mut record).is_ok() {
            self.socket.send_now(record.filled());
        }
    }
}

impl<M> ByteStream for Wire<M> {
    async fn readable(&self) -> io::Result<()> {
        if self.has_pending() {
            return Ok(());
        }
        self.socket.readable().await
    }

    /// An end that TLS did not announce is `UnexpectedEof`.
    async fn read(&self, buffer: Buffer) -> (io::Result<usize>, Buffer) {
        match self.tls.get() {
            None => self.socket.read(buffer).await,
            Some(tls) => tls.read(&self.socket, async |room| self.socket.read(room).await, buffer).await,
        }
    }

    async fn read_cancelable(&self, buffer: Buffer, handle: CancelHandle) -> (io::Result<usize>, Buffer) {
        match self.tls.get() {
            None => self.socket.read_cancelable(buffer, handle).await,
            Some(tls) => {
                let read = async |room| self.socket.read_cancelable(room, handle.clone()).await;
                tls.read(&self.socket, read, buffer).await
            }
        }
    }

    async fn write_all(&self, buffer: Buffer, advance: impl Fn()) -> (io::Result<()>, Buffer) {
        match self.tls.get() {
            None => self.socket.write_all(buffer, advance).await,
            Some(tls) => tls.write_all(&self.socket, buffer, advance).await,
        }
    }

    /// Over TLS it is said first, where that does not mean to wait.
    fn end_sending(&self) {
        self.say_goodbye();
        self.socket.shutdown(Shutdown::Write);
    }

    fn cut(&self) {
        if let Some(tls) = self.tls.get() {
            tls.cut.set(true);
        }
    }

    fn plain(&self) -> Option<&Socket> {
        (!self.is_tls()).then_some(&self.socket)
    }

    fn socket(&self) -> &Socket {
        &self.socket
    }
}

/// Every end of a connection that was not cut is announced.
impl<M> Drop for Wire<M> {
    fn drop(&mut self) {
        self.say_goodbye();
    }
}

impl<M> Tls<M> {
    fn feed(&self, received: Buffer, into: &mut Buffer) {
        if let Err(TlsError(error)) = self.machine.borrow_mut().feed(received, into) {
            self.fault.set(Some(TlsFault::of(&error)));
        }
    }

    fn liveness(&self, socket: &Socket) -> Liveness {
        let mut used = 0;
        loop {
            {
                let machine = self.machine.borrow();
                if machine.has_plain() || used > IDLE_BYTES_MAX {
                    return Liveness::Unasked;
                }
                if machine.is_peer_closed() || machine.has_failed() {
                    return Liveness::Closed;
                }
            }
            // Most often there is nothing, which costs no buffer to find out.
            let liveness = socket.liveness();
            if liveness != Liveness::Unasked {
                // The rest of a record would come behind the next request, and look like its answer.
                let begun = liveness == Liveness::Alive && self.machine.borrow().is_mid_record();
                return if begun { Liveness::Unasked } else { liveness };
            }
            let mut received = Buffer::new(Class::Medium);
            match socket.receive_now(&mut received) {
                Ok(count @ 1..) => used += count,
                _ => return Liveness::Closed,
            }
            self.feed(received, &mut Buffer::default());
        }
    }

    async fn read(
        &self,
        socket: &Socket,
        receive: impl AsyncFn(Buffer) -> (io::Result<usize>, Buffer),
        mut buffer: Buffer,
    ) -> (io::Result<usize>, Buffer) {
        // The caller's room says how much it can use at a time; a record needs a buffer of its own class at least.
        let class = if buffer.spare() >= Class::Large.bytes() / 2 { Class::Large } else { Class::Medium };
        loop {
            {
                let mut machine = self.machine.borrow_mut();
                let count = machine.take_plain(&mut buffer);
                if count > 0 {
                    return (Ok(count), buffer);
                }
                if machine.is_peer_closed() {
                    return (Ok(0), buffer);
                }
                if machine.has_failed() {
                    let mut alert = Buffer::new(Class::Small);
                    if !self.mid_write.get() && machine.take_output(&mut alert) {
                        socket.send_now(alert.filled());
                    }
                    return (Err(io::ErrorKind::InvalidData.into()), buffer);
                }
            }
            let (result, received) = receive(Buffer::new(class)).await;
            match result {
                Ok(0) => return (Err(io::ErrorKind::UnexpectedEof.into()), buffer),
                Ok(count) => {
                    let before = buffer.len();
                    // What came before an error is still good; the next look tells of it.
                    self.feed(received, &mut buffer);
                    if buffer.len() > before {
                        return (Ok(buffer.len() - before), buffer);
                    }
                    // Records that hold nothing (key updates, empty ones) cost more than their length.
                    if let Some(turns) = &self.turns {
                        turns.spend(count * FRUITLESS_COST).await;
                    }
                }
                Err(error) => return (Err(error), buffer),
            }
        }
    }

    async fn write_all(
        &self,
        socket: &Socket,
        mut buffer: Buffer,
        advance: impl Fn(),
    ) -> (io::Result<()>, Buffer) {
        while !buffer.is_empty() {
            let piece = buffer.filled().get(..buffer.len().min(PIECE_BYTES)).unwrap_or_default();
            let count = piece.len();
            let mut records = Buffer::new(class_for(count));
            if let Err(TlsError(error)) = self.machine.borrow_mut().encrypt(piece, &mut records) {
                return (Err(io::Error::new(io::ErrorKind::InvalidData, error)), buffer);
            }
            self.mid_write.set(true);
            let (sent, rest) = socket.write_all(records, &advance).await;
            if let Err(error) = sent {
                // Whoever could send it again must see that some of it has gone.
                if rest.is_touched() {
                    buffer.consume(1);
                }
                return (Err(error), buffer);
            }
            self.mid_write.set(false);
            buffer.consume(count);
        }
        (Ok(()), buffer)
    }
}

/// The class that holds the records of so many bytes, in the common case.
const fn class_for(plain: usize) -> Class {
    if plain < Class::Small.bytes() - 64 {
        Class::Small
    } else if plain < Class::Medium.bytes() - 128 {
        Class::Medium
    } else {
        Class::Large
    }
}
