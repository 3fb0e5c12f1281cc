//! The ports of the configuration: which listeners there are, and which servers stand behind each.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use super::host::HostIndex;
use super::layer4::{Entry, L4Rules};
use super::subnets::AddressSet;
use super::texts::Hasher;
use crate::config::model::{Config, Protocol, ProxyAccept, Server};

/// A port the process listens on: one per distinct `bind` and `port` of the servers.
///
/// Servers that differ only in `freebind` share a listener, which then binds freely: two sockets of one address
/// would share its connections at random.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ListenerKey {
    /// Address to bind; `None` is every address of both families.
    pub bind: Option<IpAddr>,
    /// TCP port; 0 lets the kernel choose.
    pub port: u16,
    /// Tells servers with port 0 apart, counted over all of them: each gets a port of its own. 0 for other ports.
    pub ordinal: u16,
}

/// Index into [`super::RoutingTable::listeners`] and [`listener_keys`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ListenerId(pub u16);

/// A listener and the hosts behind it.
#[derive(Debug)]
pub struct ListenerTable {
    /// Address and port.
    pub key: ListenerKey,
    /// IP_FREEBIND: bind before the address is present on the host.
    pub freebind: bool,
    /// Gateway of the first server.
    pub(super) gateway: u32,
    pub(super) entry: Entry,
    /// A request in clear text on a TLS port is told so.
    pub(super) answers_plain_http: bool,
    pub(super) hosts: HostIndex,
    /// Of a TCP server.
    pub(super) tcp: L4Rules,
    /// Who begins with the PROXY protocol's header.
    pub(super) proxy: Option<ProxyTable>,
}

/// [`ProxyAccept`] as a shard uses it.
#[derive(Debug)]
pub(super) struct ProxyTable {
    pub(super) from: AddressSet,
    pub(super) timeout: Duration,
}

impl ProxyTable {
    pub(super) fn new(accept: &ProxyAccept) -> Self {
        Self { from: AddressSet::new(&accept.from), timeout: accept.timeout }
    }
}

impl ListenerTable {
    /// Number of host patterns that are served.
    #[must_use]
    pub fn host_count(&self) -> usize {
        self.hosts.len()
    }
}

/// How people find a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerName {
    /// Name of its gateway.
    pub gateway: Arc<str>,
    /// Index into the gateway's servers.
    pub server: usize,
    /// What it speaks.
    pub protocol: Protocol,
}

/// What the supervisor binds, in the order of [`super::RoutingTable::listeners`]: key, `freebind`, and the servers
/// behind it.
///
/// A process has at most 65 536 listeners; servers beyond are left out.
#[must_use]
pub fn listener_keys(config: &Config) -> Vec<(ListenerKey, bool, Vec<ServerName>)> {
    let named = |at: ServerAt| {
        let gateway = config.gateways.get(at.gateway)?;
        let protocol = gateway.servers.get(at.server)?.protocol;
        Some(ServerName { gateway: Arc::clone(&gateway.name), server: at.server, protocol })
    };
    listener_servers(config)
        .into_iter()
        .map(|listener| {
            let servers = listener.servers.into_iter().filter_map(named).collect();
            (listener.key, listener.freebind, servers)
        })
        .collect()
}

/// A server: its place in the configuration and in the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerAt {
    pub(super) gateway: usize,
    /// Among the servers of its gateway.
    pub(super) server: usize,
    /// Among the servers of all gateways.
    pub(super) index: u32,
}

/// A listener and its servers.
pub(super) struct ListenerServers {
    pub(super) key: ListenerKey,
    pub(super) freebind: bool,
    pub(super) servers: Vec<ServerAt>,
}

/// The listeners in the order in which the configuration first names them.
pub(super) fn listener_servers(config: &Config) -> Vec<ListenerServers> {
    let mut listeners: Vec<ListenerServers> = Vec::new();
    let mut known: HashMap<ListenerKey, usize, Hasher> = HashMap::default();
    let mut ordinals = 0..=u16::MAX;
    let mut index = 0..;
    for (gateway_at, gateway) in config.gateways.iter().enumerate() {
        for (server_at, (server, index)) in gateway.servers.iter().zip(&mut index).enumerate() {
            let Some(key) = key_of(server, &mut ordinals) else { continue };
            let at = *known.entry(key.clone()).or_insert(listeners.len());
            if at == listeners.len() && at <= usize::from(u16::MAX) {
                listeners.push(ListenerServers { key, freebind: false, servers: Vec::new() });
            }
            if let Some(listener) = listeners.get_mut(at) {
                listener.freebind |= server.freebind;
                listener.servers.push(ServerAt { gateway: gateway_at, server: server_at, index });
            }
        }
    }
    listeners
}

fn key_of(server: &Server, ordinals: &mut impl Iterator<Item = u16>) -> Option<ListenerKey> {
    let ordinal = if server.port == 0 { ordinals.next()? } else { 0 };
    Some(ListenerKey { bind: server.bind, port: server.port, ordinal })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "literals")]
    use super::*;
    use crate::table::testing::{gateway, server};

    #[test]
    fn servers_share_listeners_by_address_and_port() {
        let bound = |port, bind: &str, freebind| Server {
            bind: Some(bind.parse().unwrap()),
            freebind,
            ..server(port, &["*"])
        };
        let config = Config {
            gateways: vec![
                gateway("a", vec![server(80, &["a"]), server(0, &["*"]), bound(80, "10.0.0.1", false)]),
                gateway("b", vec![server(0, &["*"]), server(80, &["b"]), bound(80, "10.0.0.1", true)]),
            ],
            ..Config::default()
        };
        let keys: Vec<_> = listener_keys(&config)
            .into_iter()
            .map(|(key, freebind, servers)| {
                let servers: Vec<_> =
                    servers.iter().map(|name| format!("{}{}", name.gateway, name.server)).collect();
                (key.bind.is_some(), key.port, key.ordinal, freebind, servers.join(" "))
            })
            .collect();
        assert_eq!(
            keys,
            [
                (false, 80, 0, false, "a0 b1".to_owned()),
                (false, 0, 0, false, "a1".to_owned()),
                (true, 80, 0, true, "a2 b2".to_owned()),
                (false, 0, 1, false, "b0".to_owned()),
            ]
        );
    }
}
