//! One client connection over its whole life: waits without a buffer, is served by `active` while requests
//! follow closely, and waits again.
//!
//! An idle session is a small task that holds a socket and a timer; what it needs to serve a request lives in one boxed
//! future.

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::accept::Listener;
use super::active::{Next, active};
use super::detect::{self, Found};
use super::handshake::still_good;
use super::proxied;
use crate::config::model::{Limits, Timeouts, TlsTerms};
use crate::downstream::Wire;
use crate::gateway::REFUSED;
use crate::gateway::passthrough::{self, Client, RelayFacts};
use crate::gateway::stream::ByteStream;
use crate::proxy_protocol::Addresses;
use crate::shard::deadlines::{OnDue, Timer};
use crate::shard::installed::Installed;
use crate::shard::process::ConnectionPlace;
use crate::shard::turnover::Opened;
use crate::shard::{FRESH_DRAIN, Shard};
use crate::sys::buffer::Buffer;
use crate::sys::socket::{Socket, has_bytes};
use crate::table::{Entry, GatewayPlace, GatewayTable};
use crate::upstream::own::OwnPools;

/// A client connection. The timer stands before the socket: it must go first.
pub struct Session {
    pub(super) timer: Timer,
    pub(super) wire: Wire,
    pub(super) shard: Rc<Shard>,
    pub(super) listener: Rc<Listener>,
    /// Who connected: the client, or a proxy in front.
    pub(super) peer: SocketAddr,
    /// Whom a proxy in front said that it speaks for.
    spoken_for: OnceCell<Box<Addresses>>,
    /// Connections to endpoints that only this client's requests go over.
    pub(super) own: OwnPools,
    pub(super) served: Cell<u32>,
    /// The next request is expected soon enough to wait for it with a buffer.
    pub(super) hot: Cell<bool>,
    /// Bytes, or the end, are known to wait in the socket.
    pub(super) readable: Cell<bool>,
    /// There are too many connections of the gateway: the first request gets no other answer.
    pub(super) crowded_out: Cell<bool>,
    opened: Opened,
    gateway_place: Cell<Option<GatewayPlace>>,
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
            spoken_for: OnceCell::new(),
            own: OwnPools::default(),
            served: Cell::new(0),
            hot: Cell::new(true),
            readable: Cell::new(false),
            crowded_out: Cell::new(false),
            opened: shard.peers.opened(),
            gateway_place: Cell::default(),
            _place: place,
        }
    }

    /// The client's address, as far as it is to be believed.
    pub(super) fn client(&self) -> SocketAddr {
        self.spoken_for.get().map_or(self.peer, |addresses| addresses.source)
    }

    /// The address that the client connected to, where a proxy in front says so.
    pub(super) fn destination(&self) -> Option<SocketAddr> {
        self.spoken_for.get().map(|addresses| addresses.destination)
    }

    /// Takes what a proxy in front says. Once.
    pub(super) fn speaks_for(&self, addresses: Addresses) {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let Addresses { source, destination } = addresses;
        let addresses = Addresses { source: canonical(source), destination: canonical(destination) };
        let first = self.spoken_for.set(Box::new(addresses));
        debug_assert!(first.is_ok());
    }

    /// Counts as a connection of the gateway from here on; false where it has too many.
    pub(super) fn enter(&self, gateway: &GatewayTable) -> bool {
        let Some(bound) = &gateway.connections else { return true };
        let place = bound.try_enter();
        let entered = place.is_some();
        if entered {
            self.gateway_place.set(place);
        } else {
            self.shard.stats.gateway_connections_refused.add();
            if self.shard.may_warn() {
                tracing::warn!(gateway = %gateway.name, "limits.connections_max is reached: connections are refused");
            }
            tracing::debug!(target: REFUSED, peer = %self.client(), gateway = %gateway.name, "connections_max is reached");
        }
        entered
    }

    /// Whether the client's certificate, if it showed one, is good on these terms.
    pub(super) fn is_client_good_for(&self, terms: &TlsTerms) -> bool {
        self.wire.machine().is_some_and(|machine| still_good(&machine, terms).is_ok())
    }

    /// The client of a relay.
    pub(super) fn relay_client(&self) -> Client<'_, Wire> {
        let destination = self.destination().map(|address| address.ip());
        Client { stream: &self.wire, timer: &self.timer, peer: self.client(), destination }
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
    let Some(Opening { entry, header_timeout }) = open(&session) else { return };
    let mut early = Buffer::default();
    if let Some(timeout) = header_timeout {
        let Some(behind) = Box::pin(proxied::read(&session, timeout)).await else { return };
        early = behind;
    }
    if entry != Entry::Http {
        match Box::pin(detect::open(&session, entry, std::mem::take(&mut early))).await {
            Found::Closed => return,
            Found::Http => {}
            Found::Relay { installed, cluster, early, facts } => {
                return Box::pin(relay(&session, installed, cluster, early, facts)).await;
            }
        }
    }
    if !early.is_empty()
        && let Next::Closed = Box::pin(active(&session, early)).await
    {
        return;
    }
    loop {
        let first = session.served.get() == 0;
        let Some(timeouts) = timeouts_of(&session) else { return };
        // A drain closes idle connections at once, and soon one whose first request may be under way.
        if first {
            // One that is to be turned away must not keep others out meanwhile.
            let hasty = session.shard.is_draining() || session.crowded_out.get();
            let timeout = if hasty { timeouts.header.min(FRESH_DRAIN) } else { timeouts.header };
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
        match Box::pin(active(&session, Buffer::default())).await {
            Next::Idle => {}
            Next::Closed => return,
        }
    }
}

/// What a connection begins as.
struct Opening {
    entry: Entry,
    /// How long a proxy's header may take, where there is to be one.
    header_timeout: Option<Duration>,
}

/// What the connections of the session's listener begin as; `None` where this one is over.
fn open(session: &Session) -> Option<Opening> {
    let (installed, id) = session.listener.resolve(&session.shard)?;
    let table = installed.table();
    let entry = table.entry(id);
    // The gateway of a connection to a TLS port is that of its name.
    let entered = entry == Entry::Tls || session.enter(table.listener_gateway(id));
    if !entered && entry == Entry::Tcp {
        session.wire.abort();
        return None;
    }
    session.crowded_out.set(!entered);
    Some(Opening { entry, header_timeout: table.proxy_header(id, session.peer.ip()) })
}

/// Relays bytes between the client and an endpoint.
async fn relay(
    session: &Session,
    installed: Rc<Installed>,
    cluster: usize,
    early: Buffer,
    facts: RelayFacts,
) {
    let shard = &session.shard;
    session.timer.disarm();
    let target = {
        let header = |version| session.proxy_header(version, facts.sni.as_deref());
        Box::pin(passthrough::connect(shard, installed, cluster, &header)).await
    };
    match target {
        Some(target) => passthrough::run(shard, session.relay_client(), target, early, &facts).await,
        // Nothing was sent: what the client has must not look like an answer.
        None => session.wire.abort(),
    }
}

/// The timers and limits that hold before a request names its host: those of the listener's first gateway.
fn timeouts_of(session: &Session) -> Option<Timeouts> {
    let (installed, id) = session.listener.resolve(&session.shard)?;
    Some(installed.table().listener_gateway(id).timeouts.clone())
}
