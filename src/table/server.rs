//! What is known of a server beside its hosts.

use crate::config::model::{Gateway, Protocol, RuleKind, Server, ServerTls};

/// A gateway's port entry. Two hosts of one connection may be served together where they have the same.
#[derive(Clone, Debug)]
pub struct ServerTable {
    /// What is spoken.
    pub protocol: Protocol,
    /// For HTTPS and TLS.
    pub tls: Option<ServerTls>,
    /// Index into the table's gateways.
    pub(super) gateway: u32,
    pub(super) kind: RuleKind,
}

impl ServerTable {
    fn new(gateway: usize, server: &Server) -> Self {
        Self {
            protocol: server.protocol,
            tls: server.tls.clone(),
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
