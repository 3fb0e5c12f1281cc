//! Connections to an endpoint and the idle ones kept for reuse: newest first, checked when taken.
//!
//! An idle connection has no operation pending. What happened to it meanwhile (closed, or bytes that nobody asked
//! for, which would become the answer to the next request) is found by a look before its next use. Bytes that an
//! endpoint sends unasked after that look can not be told from its answer, in HTTP/1.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::config::model::UpstreamTls;
use crate::gateway::stream::ByteStream;
use crate::shard::deadlines::Timer;
use crate::shard::stats::Stats;
use crate::sys::buffer::Buffer;
use crate::sys::socket::{Liveness, Socket};
use crate::upstream::handshake::Origination;
use crate::upstream::trouble::{Fault, Line, Troubles};
use crate::wire::Wire;

/// A connection to an endpoint. The timer stands before the socket: it must go first.
pub struct Connection {
    /// Bounds the operation under way.
    pub timer: Timer,
    /// Its bytes.
    pub wire: Wire,
    /// Whether a request went over it before this one.
    pub reused: bool,
    stats: Rc<Stats>,
}

impl Connection {
    /// A fresh connection.
    #[must_use]
    pub fn new(socket: Socket, timer: Timer, stats: Rc<Stats>) -> Self {
        stats.upstream_open.add();
        Self { timer, wire: Wire::new(socket), reused: false, stats }
    }

    /// [`ByteStream::read`] of an exchange. What TLS needs for it is boxed: exchanges over plain TCP stay small.
    pub async fn read(&self, buffer: Buffer) -> (io::Result<usize>, Buffer) {
        match self.wire.plain() {
            Some(socket) => socket.read(buffer).await,
            None => Box::pin(self.wire.read(buffer)).await,
        }
    }

    /// [`ByteStream::write_all`] of an exchange, boxed in the same way.
    pub async fn write_all(&self, buffer: Buffer, advance: impl Fn()) -> (io::Result<()>, Buffer) {
        match self.wire.plain() {
            Some(socket) => socket.write_all(buffer, advance).await,
            None => Box::pin(self.wire.write_all(buffer, advance)).await,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stats.upstream_open.sub();
    }
}

/// Idle connections of an endpoint that a reap looks at: a system call each.
const LOOKS_MAX: usize = 64;

struct Idle {
    connection: Connection,
    expires_ms: u64,
}

/// One address as a shard knows it, shared by all clusters and generations that name it and speak TLS there in the same
/// way, or none.
pub struct Endpoint {
    /// Where to connect.
    pub address: SocketAddr,
    /// How TLS is spoken there.
    pub origination: Option<Origination>,
    idle: RefCell<Vec<Idle>>,
    troubles: Troubles,
}

impl Endpoint {
    /// An endpoint without connections.
    #[must_use]
    pub fn new(address: SocketAddr, tls: Option<&Arc<UpstreamTls>>) -> Self {
        let origination = tls.map(|settings| Origination::new(settings, address));
        Self { address, origination, idle: RefCell::default(), troubles: Troubles::default() }
    }

    /// The newest idle connection that is still good.
    pub fn take(&self, now_ms: u64) -> Option<Connection> {
        loop {
            let idle = self.idle.borrow_mut().pop()?;
            let mut connection = idle.connection;
            connection.stats.upstream_idle.sub();
            if idle.expires_ms > now_ms && connection.wire.liveness() == Liveness::Alive {
                connection.stats.upstream_reused.add();
                connection.reused = true;
                return Some(connection);
            }
            connection.stats.upstream_stale.add();
        }
    }

    /// Keeps a connection whose last response was read to its end, for `idle_timeout` and while at most `idle_max` are
    /// kept; the oldest goes where there are more.
    pub fn put(&self, connection: Connection, now_ms: u64, idle_timeout: Duration, idle_max: u32) {
        if idle_max == 0 {
            return;
        }
        connection.timer.disarm();
        connection.stats.upstream_idle.add();
        let expires_ms = now_ms + u64::try_from(idle_timeout.as_millis()).unwrap_or(u64::MAX / 2);
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= idle_max as usize {
            idle.remove(0).connection.stats.upstream_idle.sub();
        }
        idle.push(Idle { connection, expires_ms });
    }

    /// Takes down what went wrong for a service, for the log.
    pub fn note(&self, service: &Arc<str>, fault: Fault, now_ms: u64) {
        self.say(self.troubles.note(service, fault, now_ms));
    }

    /// Logs failures that were held back, where it is time to.
    pub fn say_due(&self, now_ms: u64) {
        self.say(self.troubles.due(now_ms));
    }

    /// Logs all failures that were held back.
    pub fn say_rest(&self) {
        self.say(self.troubles.rest());
    }

    fn say(&self, line: Option<Line>) {
        if let Some(line) = line {
            tracing::warn!("endpoint {} {line}", self.address);
        }
    }

    /// Closes what is beyond its time, and what an endpoint closed: of the oldest `LOOKS_MAX`, the others when they
    /// have become the oldest or are taken.
    pub fn reap(&self, now_ms: u64) {
        let mut looks = LOOKS_MAX;
        self.idle.borrow_mut().retain(|idle| {
            let look = looks > 0;
            looks -= usize::from(look);
            let alive = !look || idle.connection.wire.liveness() == Liveness::Alive;
            let keep = alive && idle.expires_ms > now_ms;
            if !keep {
                idle.connection.stats.upstream_idle.sub();
                if !alive {
                    idle.connection.stats.upstream_stale.add();
                }
            }
            keep
        });
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.say_rest();
        for idle in self.idle.get_mut() {
            idle.connection.stats.upstream_idle.sub();
        }
    }
}
