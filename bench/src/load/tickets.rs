//! Sessions to resume: of one thread, with one server.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// A thread's sessions. The library's own cache keeps eight tickets of a server, and each is good for one connection.
pub(super) struct Tickets {
    kept: Mutex<Kept>,
    wanted: usize,
}

#[derive(Default)]
struct Kept {
    /// None is given out while they are collected.
    collecting: bool,
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
}

impl Tickets {
    /// For `wanted` connections at a time.
    pub(super) fn new(wanted: usize) -> Self {
        Self { kept: Mutex::default(), wanted }
    }

    /// While `on`, connections do full handshakes, and their tickets are kept.
    pub(super) fn collect(&self, on: bool) {
        self.kept().collecting = on;
    }

    /// Connections that could resume now.
    pub(super) fn count(&self) -> usize {
        let kept = self.kept();
        if kept.tls12.is_some() { self.wanted } else { kept.tls13.len() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tickets")
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _server: ServerName<'static>, group: NamedGroup) {
        self.kept().group = Some(group);
    }

    fn kx_hint(&self, _server: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept().group
    }

    fn set_tls12_session(&self, _server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.kept().tls12 = Some(value);
    }

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let kept = self.kept();
        if kept.collecting { None } else { kept.tls12.clone() }
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {
        self.kept().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _server: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut kept = self.kept();
        // Servers mostly send two: what would never be used must not pile up.
        if kept.tls13.len() >= 2 * self.wanted {
            kept.tls13.pop_front();
        }
        kept.tls13.push_back(value);
    }

    fn take_tls13_ticket(&self, _server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut kept = self.kept();
        if kept.collecting { None } else { kept.tls13.pop_front() }
    }
}
