//! One client connection over its whole life: waits without a buffer, is served by `active` while requests
//! follow closely, and waits again.
//!
//! An idle session is a small task that holds a socket and a timer; what it needs to serve a request lives in one boxed
//! future.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use super::accept::Listener;
use super::active::{Next, active};
use super::detect::{self, Found};
use crate::config::model::{Limits, Timeouts};
use crate::downstream::wire::Wire;
use crate::gateway::passthrough::{self, Client};
use crate::gateway::stream::ByteStream;
use crate::shard::deadlines::{OnDue, Timer};
use crate::shard::installed::Installed;
use crate::shard::process::ConnectionPlace;
use crate::shard::turnover::Opened;
use crate::shard::{FRESH_DRAIN, Shard};
use crate::sys::buffer::Buffer;
use crate::sys::socket::{Socket, has_bytes};
use crate::table::Entry;

/// A client connection. The timer stands before the socket: it must go first.
pub struct Session {
    pub(super) timer: Timer,
    pub(super) wire: Wire,
    pub(super) shard: Rc<Shard>,
    pub(super) listener: Rc<Listener>,
    pub(super) peer: SocketAddr,
    pub(super) served: Cell<u32>,
    /// The next request is expected soon enough to wait for it with a buffer.
    pub(super) hot: Cell<bool>,
    /// Bytes, or the end, are known to wait in the socket.
    pub(super) readable: Cell<bool>,
    opened: Opened,
    _place: ConnectionPlace,
}

impl Session {
    /// A session for an accepted socket.
    pub fn new(
        shard: &Rc<Shard>,
        listener: &Rc<Listener>,
        socket: Socket,
        peer: SocketAddr,
        place: ConnectionPlace,
    ) -> Self {
        shard.stats.sessions.add();
        shard.stats.sessions_open.add();
        Self {
            timer: shard.deadlines.timer(socket.fd()),
            wire: Wire::new(socket),
            shard: Rc::clone(shard),
            listener: Rc::clone(listener),
            peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            served: Cell::new(0),
            hot: Cell::new(true),
            readable: Cell::new(false),
            opened: shard.peers.opened(),
            _place: place,
        }
    }

    /// The client of a relay.
    pub(super) const fn relay_client(&self) -> Client<'_, Wire> {
        Client { stream: &self.wire, timer: &self.timer, peer: self.peer }
    }

    /// Whether the connection is to end after the response under way, for reasons of ours.
    pub(super) fn is_ending(&self, limits: &Limits) -> bool {
        self.shard.is_draining()
            || self.listener.is_closing()
            || self.served.get() >= limits.requests_per_connection_max
    }
}

impl Session {
    /// Counts the end of a wait, unless a drain ended it.
    fn count_expiry(&self) {
        let stats = &self.shard.stats;
        if self.shard.is_draining() {
            return;
        }
        if self.served.get() == 0 { &stats.timeout_header } else { &stats.timeout_keep_alive }.add();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shard.stats.sessions_open.sub();
        self.shard.peers.ended(self.opened);
    }
}

/// Serves a connection to its end. Until it speaks it holds no buffer, however many there are.
pub async fn serve(session: Session) {
    let Some(entry) = entry_of(&session) else { return };
    if entry != Entry::Http {
        match Box::pin(detect::open(&session, entry)).await {
            Found::Closed => return,
            Found::Http => {}
            Found::Relay { installed, cluster, early } => {
                return Box::pin(relay(&session, installed, cluster, early)).await;
            }
        }
    }
    loop {
        let first = session.served.get() == 0;
        let Some(timeouts) = timeouts_of(&session) else { return };
        // A drain closes idle connections at once, and soon one whose first request may be under way.
        if first {
            let draining = session.shard.is_draining();
            let timeout = if draining { timeouts.header.min(FRESH_DRAIN) } else { timeouts.header };
            session.timer.arm(timeout, OnDue::CloseFresh);
        } else {
            session.timer.arm(timeouts.keep_alive, OnDue::CloseIdle);
        }
        if session.shard.is_draining() && !first && !has_bytes(session.wire.fd()) {
            return;
        }
        let since = session.shard.deadlines.now_ms();
        if session.wire.readable().await.is_err() {
            return;
        }
        if session.timer.fired() {
            // Whatever came after the timer looked is not read: a request is served as a whole or not at all.
            return session.count_expiry();
        }
        // A wait below two sweeps: the next one is worth a buffer.
        session.hot.set(session.shard.deadlines.now_ms() - since <= 40);
        session.readable.set(true);
        match Box::pin(active(&session)).await {
            Next::Idle => {}
            Next::Closed => return,
        }
    }
}

/// What the connections of the session's listener are.
fn entry_of(session: &Session) -> Option<Entry> {
    let (installed, id) = session.listener.resolve(&session.shard)?;
    Some(installed.table().entry(id))
}

/// Relays bytes between the client and an endpoint.
async fn relay(session: &Session, installed: Rc<Installed>, cluster: usize, early: Buffer) {
    let shard = &session.shard;
    session.timer.disarm();
    match Box::pin(passthrough::connect(shard, installed, cluster)).await {
        Some(target) => passthrough::run(shard, session.relay_client(), target, early).await,
        // Nothing was sent: what the client has must not look like an answer.
        None => session.wire.abort(),
    }
}

/// The timers and limits that hold before a request names its host: those of the listener's first gateway.
fn timeouts_of(session: &Session) -> Option<Timeouts> {
    let (installed, id) = session.listener.resolve(&session.shard)?;
    Some(installed.table().listener_gateway(id).timeouts.clone())
}
