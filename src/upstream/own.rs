//! Connections to endpoints that speak for one client, because the PROXY protocol's header that they began with names it.
//!
//! They never enter the pools that requests of all clients share. Idle ones are kept for the next request of the same
//! client's connection and end with it.

use std::cell::{OnceCell, RefCell};
use std::time::Duration;

use super::pool::{Connection, Endpoint};
use crate::config::model::ProxyVersion;

/// Endpoints that a client's connection keeps one idle connection to; the oldest is closed where there are more.
const POOLS_MAX: usize = 4;

/// What makes one connection as good as another for the same client: the endpoint, and the table with all that its
/// cluster asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Key {
    /// Generation of the table.
    pub generation: u64,
    /// Index of the cluster.
    pub cluster: usize,
    /// Index of the endpoint in it.
    pub endpoint: usize,
}

/// What endpoints are told of a client, and the connections that were.
#[derive(Clone, Copy)]
pub struct Own<'o> {
    /// The connections at rest.
    pub pools: &'o OwnPools,
    /// Makes a header.
    pub header: &'o dyn Fn(ProxyVersion) -> Vec<u8>,
}

/// The idle connections of one client.
#[derive(Default)]
pub struct OwnPools {
    /// Most clients never have one.
    pools: OnceCell<Box<Pools>>,
}

/// In the order of their last use.
type Pools = RefCell<Vec<(Key, Endpoint)>>;

impl OwnPools {
    /// The idle connection, if it is still good.
    pub fn take(&self, key: Key, now_ms: u64) -> Option<Connection> {
        let mut pools = self.pools.get()?.borrow_mut();
        let at = pools.iter().position(|(other, _)| *other == key)?;
        let (_, pool) = pools.remove(at);
        pool.take(now_ms)
    }

    /// Keeps a connection whose last response was read to its end, for `idle_timeout`.
    pub fn put(
        &self,
        key: Key,
        endpoint: &Endpoint,
        connection: Connection,
        now_ms: u64,
        idle_timeout: Duration,
    ) {
        let pool = Endpoint::new(endpoint.address, None);
        pool.put(connection, now_ms, idle_timeout, 1);
        let mut pools = self.pools.get_or_init(Box::default).borrow_mut();
        // Those of a table before are never asked for again.
        pools.retain(|(other, _)| other.generation == key.generation && *other != key);
        if pools.len() == POOLS_MAX {
            pools.remove(0);
        }
        pools.push((key, pool));
    }
}
