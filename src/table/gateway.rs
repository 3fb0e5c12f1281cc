//! What holds for every request of a gateway: limits, timers, path policy, trusted peers.
//!
//! Built with the table; read by `downstream` and `http1` while a request is parsed, and by `gateway` for
//! forwarding headers.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::subnets::AddressSet;
use crate::config::model::{Gateway, Limits, PathPolicy, Timeouts};

/// A gateway as a shard uses it.
#[derive(Clone, Debug)]
pub struct GatewayTable {
    /// Name, for logs and metrics.
    pub name: Arc<str>,
    /// Bounds on what a client may send.
    pub limits: Limits,
    /// Timers on the client's side.
    pub timeouts: Timeouts,
    /// How paths are brought to their normal form.
    pub path: PathPolicy,
    /// Bound on its clients' connections.
    pub connections: Option<ConnectionsBound>,
    trusted: AddressSet,
}

/// How many connections there may be, and how many there are on all shards.
#[derive(Clone, Debug)]
pub struct ConnectionsBound {
    max: u64,
    pub(super) open: Arc<AtomicU64>,
}

/// A place under a bound, given back when dropped.
#[derive(Debug)]
pub struct GatewayPlace(Arc<AtomicU64>);

impl ConnectionsBound {
    /// Takes a place; `None` where there is none left.
    #[must_use]
    pub fn try_enter(&self) -> Option<GatewayPlace> {
        // One that does not fit counts for a moment: another may be refused meanwhile, and none is let in too many.
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(GatewayPlace(Arc::clone(&self.open)))
    }
}

impl Drop for GatewayPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl GatewayTable {
    pub(super) fn new(gateway: &Gateway) -> Self {
        Self {
            name: Arc::clone(&gateway.name),
            limits: gateway.limits.clone(),
            timeouts: gateway.timeouts.clone(),
            path: gateway.path,
            connections: gateway
                .limits
                .connections_max
                .map(|max| ConnectionsBound { max: u64::from(max), open: Arc::default() }),
            trusted: AddressSet::new(&gateway.trusted_proxies),
        }
    }

    /// Stands in for the gateway of a listener that the table does not have: default limits, nobody trusted.
    pub(super) fn fallback() -> Self {
        Self {
            name: Arc::from(""),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            path: PathPolicy::default(),
            connections: None,
            trusted: AddressSet::default(),
        }
    }

    /// Whether the forwarding headers of this peer are believed.
    ///
    /// An IPv4 client of a dual-stack socket shows up as `::ffff:a.b.c.d`; it is looked up as `a.b.c.d`, and only
    /// there: `::/0` does not trust IPv4 peers.
    #[must_use]
    pub fn is_trusted(&self, peer: IpAddr) -> bool {
        self.trusted.contains(peer)
    }
}
