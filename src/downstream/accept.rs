//! The listeners of a shard and their accept loops.
//!
//! A listener lives over reloads as long as some generation names its key. An accept is never dropped while pending
//! (its connection would be lost): it is cancelled and awaited. A listener that goes away takes in what its queue
//! holds first; closing it earlier would reset those clients.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use monoio::io::Canceller;
use monoio::net::{TcpListener, TcpStream};
use socket2::SockRef;

use super::handover;
use super::listener::{BACKLOG, BoundListener};
use crate::shard::Shard;
use crate::shard::installed::Installed;
use crate::sys::{errno, socket};
use crate::table::{ListenerId, ListenerKey};

/// Accepts that are pending at a time on a ring: one system call takes in so many connections. epoll wakes one task per
/// socket, which finds what else waits by itself.
const ACCEPTS: usize = 4;

/// How long an accept loop rests when descriptors, memory or a cap are used up.
const PAUSE: Duration = Duration::from_millis(20);

/// Pauses that a closing listener makes for places, for all that its queue holds: one second in sum.
const CLOSING_PAUSES: u32 = 50;

/// One listener of a shard, shared with the sessions it accepted.
pub struct Listener {
    key: ListenerKey,
    id: Cell<ListenerId>,
    /// The last table that named this listener, once a newer one does not.
    last: RefCell<Option<Rc<Installed>>>,
    closing: Cell<bool>,
    /// Pauses left to a closing listener.
    patience: Cell<u32>,
    canceller: RefCell<Canceller>,
    /// Accepted connections without a place, at most one of each accept loop. The loop whose connection was the first
    /// admits them all; the others wait until it has.
    waiting: RefCell<VecDeque<(TcpStream, SocketAddr)>>,
}

impl Listener {
    /// The table to serve a request by, and this listener's place in it; `None` before the first commit.
    #[must_use]
    pub fn resolve(&self, shard: &Shard) -> Option<(Rc<Installed>, ListenerId)> {
        let installed = self.last.borrow().clone().or_else(|| shard.installed())?;
        Some((installed, self.id.get()))
    }

    /// Its place in the table.
    #[must_use]
    pub fn id(&self) -> ListenerId {
        self.id.get()
    }

    /// Whether no further request is wanted on its connections.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    fn close(&self) {
        self.closing.set(true);
        let canceller = self.canceller.take();
        self.canceller.replace(canceller.cancel());
    }
}

struct PreparedSet {
    generation: u64,
    installed: Rc<Installed>,
    sockets: Vec<BoundListener>,
}

/// The listeners a shard owns and those of a prepared generation.
#[derive(Default)]
pub struct Listeners {
    owned: RefCell<Vec<Rc<Listener>>>,
    prepared: RefCell<Option<PreparedSet>>,
    loops: Cell<usize>,
}

impl Listeners {
    /// Keeps a generation ready; one prepared before is dropped.
    pub fn prepare(&self, generation: u64, installed: Rc<Installed>, sockets: Vec<BoundListener>) {
        *self.prepared.borrow_mut() = Some(PreparedSet { generation, installed, sockets });
    }

    /// Drops a prepared generation; its sockets never listened.
    pub fn abort(&self, generation: u64) {
        self.prepared.borrow_mut().take_if(|prepared| prepared.generation == generation);
    }

    /// Takes a prepared generation out.
    pub fn take_prepared(&self, generation: u64) -> Option<(Rc<Installed>, Vec<BoundListener>)> {
        let prepared = self.prepared.borrow_mut().take_if(|prepared| prepared.generation == generation)?;
        Some((prepared.installed, prepared.sockets))
    }

    /// Makes the listeners those of `installed`: new ones listen, gone ones close, the others take their new place.
    ///
    /// # Errors
    /// When a socket can not listen; the other listeners work nevertheless.
    pub fn commit(
        &self,
        shard: &Rc<Shard>,
        before: Option<Rc<Installed>>,
        installed: &Installed,
        sockets: Vec<BoundListener>,
    ) -> Result<(), String> {
        let place = |key: &ListenerKey| {
            let at = installed.table().listeners().iter().position(|listener| listener.key == *key);
            at.map(|at| ListenerId(at as u16))
        };
        self.owned.borrow_mut().retain(|listener| {
            if let Some(id) = place(&listener.key) {
                listener.id.set(id);
                return true;
            }
            *listener.last.borrow_mut() = before.clone();
            listener.close();
            false
        });
        let mut failures = Vec::new();
        for bound in sockets {
            let Some(id) = place(&bound.key) else { continue };
            let address = bound.socket.local_addr().ok().and_then(|address| address.as_socket());
            if let Err(error) = self.open(shard, bound, id) {
                let address = address.map_or_else(|| "a socket".into(), |address| address.to_string());
                failures.push(format!("can not listen on {address}: {}", errno::text(&error)));
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
    }

    fn open(&self, shard: &Rc<Shard>, bound: BoundListener, id: ListenerId) -> io::Result<()> {
        let listener = Rc::new(Listener {
            key: bound.key.clone(),
            id: Cell::new(id),
            last: RefCell::default(),
            closing: Cell::new(false),
            patience: Cell::new(CLOSING_PAUSES),
            canceller: RefCell::default(),
            waiting: RefCell::default(),
        });
        // Also when it can not listen here: other shards may hand its connections over.
        self.owned.borrow_mut().push(Rc::clone(&listener));
        bound.listen(shard.id)?;
        // epoll needs a non-blocking socket, io_uring of older kernels a blocking one.
        bound.socket.set_nonblocking(shard.epoll)?;
        let socket = Rc::new(TcpListener::from_std(bound.socket.into())?);
        for _ in 0..if shard.epoll { 1 } else { ACCEPTS } {
            let (shard, listener, socket) = (Rc::clone(shard), Rc::clone(&listener), Rc::clone(&socket));
            self.loops.set(self.loops.get() + 1);
            monoio::spawn(async move {
                accept_all(&shard, &listener, &socket).await;
                shard.listeners.loops.set(shard.listeners.loops.get() - 1);
            });
        }
        Ok(())
    }

    /// The listener with this place in the effective table.
    #[must_use]
    pub fn by_id(&self, id: ListenerId) -> Option<Rc<Listener>> {
        self.owned.borrow().iter().find(|listener| listener.id() == id).cloned()
    }

    /// Closes all listeners; each takes in what its queue holds first.
    pub fn close_all(&self) {
        for listener in self.owned.borrow_mut().drain(..) {
            listener.close();
        }
    }

    /// Whether every accept loop has ended.
    #[must_use]
    pub fn all_closed(&self) -> bool {
        self.loops.get() == 0
    }
}

/// Accepts until the listener closes, then what its queue still holds.
async fn accept_all(shard: &Rc<Shard>, listener: &Rc<Listener>, listening: &TcpListener) {
    while !listener.closing.get() {
        let handle = listener.canceller.borrow().handle();
        match listening.cancelable_accept(handle).await {
            Ok((stream, peer)) => admit(shard, listener, stream, peer).await,
            Err(error) => match error.raw_os_error() {
                Some(libc::ECANCELED) => break,
                Some(libc::ECONNABORTED | libc::EINTR) => {}
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    shard.stats.accept_pauses.add();
                    monoio::time::sleep(PAUSE).await;
                }
                // accept(2): errors of the network that were pending on the new socket; the next may be fine.
                _ => {
                    if shard.may_warn() {
                        tracing::warn!(shard = shard.id, %error, "accept failed");
                    }
                    monoio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    // What the queue holds now, not what joins it for ever.
    let mut left = BACKLOG;
    if SockRef::from(&AsBorrowed(listening)).set_nonblocking(true).is_ok() {
        while let Ok((waiting, peer)) = SockRef::from(&AsBorrowed(listening)).accept() {
            left -= 1;
            if left == 0 {
                break;
            }
            let peer = peer.as_socket();
            if let (Some(peer), Ok(stream)) = (peer, socket::adopt(waiting.into(), shard.epoll)) {
                admit(shard, listener, stream, peer).await;
            }
        }
    }
}

/// Lends the listener's descriptor to socket2.
struct AsBorrowed<'l>(&'l TcpListener);

impl std::os::fd::AsFd for AsBorrowed<'_> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        socket::borrow_listener(self.0)
    }
}

/// Serves the connection, once there is a place under the process's caps for it and those that came before. Meanwhile
/// this loop accepts no other.
async fn admit(shard: &Rc<Shard>, listener: &Rc<Listener>, stream: TcpStream, peer: SocketAddr) {
    let leads = listener.waiting.borrow().is_empty();
    if leads && let Some(place) = shard.process.try_enter() {
        return handover::serve(shard, listener, stream, peer, place);
    }
    shard.stats.accept_pauses.add();
    if listener.patience.get() == 0 {
        return;
    }
    listener.waiting.borrow_mut().push_back((stream, peer));
    while !listener.waiting.borrow().is_empty() {
        monoio::time::sleep(PAUSE).await;
        if leads {
            admit_waiting(shard, listener);
        }
    }
}

/// Serves those who wait in the order in which they came, as far as there are places.
fn admit_waiting(shard: &Rc<Shard>, listener: &Rc<Listener>) {
    while !listener.waiting.borrow().is_empty()
        && let Some(place) = shard.process.try_enter()
    {
        let Some((stream, peer)) = listener.waiting.borrow_mut().pop_front() else { return };
        handover::serve(shard, listener, stream, peer, place);
    }
    // Only a closing listener gives up: it must not stay open for as long as the cap is reached.
    if listener.is_closing() {
        listener.patience.set(listener.patience.get().saturating_sub(1));
        if listener.patience.get() == 0 {
            listener.waiting.borrow_mut().clear();
        }
    }
}
