//! What a run does: the checked form of its arguments, shared by all threads.

use std::net::SocketAddr;

use ringgate::config::model::Driver;

use super::requests::Requests;
use super::response::Expected;
use super::trust::Tls;
use crate::cores::CoreList;

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where to.
    pub(crate) address: SocketAddr,
    /// TLS, for an `https` URL.
    pub(crate) tls: Option<Tls>,
    /// What is sent.
    pub(crate) requests: Requests,
    /// What must come back.
    pub(crate) expected: Expected,
    /// Connections over all threads, at least one per thread.
    pub(crate) connections: usize,
    /// Threads.
    pub(crate) threads: usize,
    /// Where they are pinned.
    pub(crate) cores: Option<CoreList>,
    /// I/O driver.
    pub(crate) driver: Driver,
    /// Requests per second over all threads; `None` is the closed loop.
    pub(crate) rate: Option<f64>,
    /// Nanoseconds before the measured part.
    pub(crate) warmup: u64,
    /// Nanoseconds of the measured part.
    pub(crate) duration: u64,
    /// Measured requests at which the run ends early.
    pub(crate) requests_max: Option<u64>,
    /// A connection per request.
    pub(crate) close: bool,
    /// Nanoseconds that a request may take.
    pub(crate) timeout: u64,
    /// Nanoseconds that the generator may be late at the 99th percentile.
    pub(crate) lag_max: u64,
    /// Share of requests that may fail.
    pub(crate) errors_max: f64,
}

impl Plan {
    /// The part of `whole` that falls to a thread; parts add up.
    pub(crate) const fn part(&self, whole: u64, thread: usize) -> u64 {
        let (threads, thread) = (self.threads as u64, thread as u64);
        whole / threads + (thread < whole % threads) as u64
    }

    /// A thread's connections.
    pub(crate) const fn connections_of(&self, thread: usize) -> usize {
        self.part(self.connections as u64, thread) as usize
    }
}
