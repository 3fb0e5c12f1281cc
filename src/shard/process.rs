//! What all shards share: the process's caps and switches, as relaxed atomics touched once per connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::config::model::{AcceptBalance, Process};
use crate::sys::buffer;

/// Caps of the process and what is used of them.
#[derive(Debug)]
pub struct ProcessLimits {
    connections: AtomicU64,
    connections_max: AtomicU64,
    buffer_bytes_max: AtomicU64,
    balances_accepts: AtomicBool,
    /// By gateway: what the tables of several generations count their connections in.
    gateways: Mutex<HashMap<Arc<str>, Weak<AtomicU64>>>,
}

/// A place under `connections_max`, given back when dropped.
#[derive(Debug)]
pub struct ConnectionPlace(Arc<ProcessLimits>);

impl ProcessLimits {
    /// The caps of a configuration.
    #[must_use]
    pub fn new(process: &Process) -> Self {
        let limits = Self {
            connections: AtomicU64::new(0),
            connections_max: AtomicU64::new(0),
            buffer_bytes_max: AtomicU64::new(0),
            balances_accepts: AtomicBool::new(false),
            gateways: Mutex::default(),
        };
        limits.set(process);
        limits
    }

    /// Takes the caps of a newer configuration.
    pub fn set(&self, process: &Process) {
        self.connections_max.store(u64::from(process.connections_max), Ordering::Relaxed);
        self.buffer_bytes_max.store(process.buffer_bytes_max, Ordering::Relaxed);
        self.balances_accepts.store(process.accept_balance == AcceptBalance::Auto, Ordering::Relaxed);
    }

    /// The count of a gateway's connections, where a table or a connection still has it. Not for shards: it locks.
    #[must_use]
    pub fn gateway_connections(&self, gateway: &Arc<str>) -> Arc<AtomicU64> {
        let mut gateways = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        gateways.retain(|_, count| count.strong_count() > 0);
        if let Some(count) = gateways.get(gateway).and_then(Weak::upgrade) {
            return count;
        }
        let count = Arc::default();
        gateways.insert(Arc::clone(gateway), Arc::downgrade(&count));
        count
    }

    /// Whether a shard may hand connections over to another.
    #[must_use]
    pub fn balances_accepts(&self) -> bool {
        self.balances_accepts.load(Ordering::Relaxed)
    }

    /// Whether the buffers of the process, in use and kept for reuse, are beyond `buffer_bytes_max`.
    #[must_use]
    pub fn buffers_exhausted(&self) -> bool {
        buffer::allocated_bytes() > self.buffer_bytes_max.load(Ordering::Relaxed)
    }

    /// Takes a place for a downstream connection, exact over all shards; `None` at a cap.
    pub fn try_enter(self: &Arc<Self>) -> Option<ConnectionPlace> {
        let max = self.connections_max.load(Ordering::Relaxed);
        if self.buffers_exhausted() {
            return None;
        }
        if self.connections.fetch_add(1, Ordering::Relaxed) >= max {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(ConnectionPlace(Arc::clone(self)))
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
