//! What is known of a server beside its hosts.

use std::sync::Arc;

use crate::config::model::{Gateway, Protocol, RuleKind, Server, ServerTls};

/// A gateway's port entry. Two hosts of one connection may be served together where they have the same.
#[derive(Clone, Debug)]
pub struct ServerTable {
    /// What is spoken.
    pub protocol: Protocol,
    /// For HTTPS and TLS.
    pub tls: Option<ServerTls>,
    /// The port of the same host to send requests to, over HTTPS.
    pub https_redirect: Option<u16>,
    /// The value of `Strict-Transport-Security` in responses.
    pub hsts: Option<Arc<str>>,
    /// Index into the table's gateways.
    pub(super) gateway: u32,
    pub(super) kind: RuleKind,
}

impl ServerTable {
    fn new(gateway: usize, server: &Server) -> Self {
        Self {
            protocol: server.protocol,
            tls: server.tls.clone(),
            https_redirect: server.https_redirect,
            hsts: server.hsts.clone(),
            gateway: gateway as u32,
            kind: server.rule_kind(),
        }
    }

    /// The servers of all gateways, in order.
    pub(super) fn all(gateways: &[Gateway]) -> Vec<Self> {
        let servers = gateways
            .iter()
            .enumerate()
            .flat_map(|(at, gateway)| gateway.servers.iter().map(move |server| Self::new(at, server)));
        servers.collect()
    }
}
