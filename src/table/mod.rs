//! The routing table of a shard: immutable, built off the shard from a checked [`Config`], swapped in whole.
//!
//! `supervisor` builds it (on a helper thread) and drops it; `downstream` asks it for a listener's settings;
//! `gateway::select` asks it for the route of each request; what comes next is [`crate::upstream::balance`]. It does
//! no I/O and never blocks; a lookup allocates only where a header that a rule looks at was sent several times.
//!
//! # How a request finds its route
//!
//! 1. `listener` and authority lead to a virtual host (`host`): exact, then the longest wildcard, then `*`. Which
//!    patterns there are and which virtual services meet at each is worked out in `claims`.
//! 2. The virtual host's rules are searched (`path`), and the first that matches in list order wins.
//!
//! Connections that are not HTTP are routed by `layer4`.
//!
//! There is no way back from step 2: when no rule of the most specific virtual host matches, a less specific one is
//! not tried ([`Selection::NoRoute`]), as in Istio. The same answer is given for a host that a server claims and no
//! virtual service routes; a host that no server claims is a [`Selection::UnknownHost`].
//!
//! Everything that does not change lies behind one `Arc` that the tables of all shards can share
//! ([`RoutingTable::for_shard`]); a shard's own are the rotors and the regexes' scratch memory.

mod build;
mod claims;
mod cluster;
mod door;
mod gateway;
mod host;
mod layer4;
#[cfg(test)]
mod layer4_tests;
mod listener;
#[cfg(test)]
mod oracle;
mod path;
mod predicate;
mod server;
mod sni;
mod subnets;
#[cfg(test)]
mod testing;
mod texts;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use regex::bytes::Regex;

use self::build::{Built, build};
use self::host::{Host, HostRules, VirtualHost};
use self::layer4::L4Index;
use self::path::PathIndex;
use crate::config::model::Config;
use crate::message::Header;
use crate::tls::identity::ClientIdentity;

pub use self::cluster::{ClusterTable, EndpointTable, RouteTable};
pub use self::gateway::{ConnectionsBound, GatewayPlace, GatewayTable};
pub use self::layer4::{Entry, L4RouteTable, L4Rules, Sni};
pub use self::listener::{ListenerId, ListenerKey, ListenerTable, ServerName, listener_keys};
pub use self::server::ServerTable;

/// Where each request of a shard goes. `Send`, but not `Sync`: its rotors are cells.
#[derive(Debug)]
pub struct RoutingTable {
    /// Counts the configurations that were put into force; part of each rotor's offset, so that frequent reloads do
    /// not favour the first endpoints.
    pub generation: u64,
    clusters: Vec<ClusterTable>,
    routes: Vec<RouteTable>,
    l4_routes: Vec<L4RouteTable>,
    regexes: Vec<Regex>,
    shared: Arc<Shared>,
}

/// What all shards can share.
#[derive(Debug)]
struct Shared {
    listeners: Vec<ListenerTable>,
    servers: Vec<ServerTable>,
    gateways: Vec<GatewayTable>,
    fallback: GatewayTable,
    paths: PathIndex,
    layer4: L4Index,
    texts: Vec<u8>,
}

/// What a route can depend on.
#[derive(Clone, Copy, Debug)]
pub struct RouteFacts<'a> {
    /// As received: in any case, perhaps with a port, a trailing dot, brackets; empty if there was none.
    pub authority: &'a [u8],
    /// In normal form, without the query.
    pub path: &'a [u8],
    /// The method's text.
    pub method: &'a [u8],
    /// The header fields, spans into `buffer`.
    pub headers: &'a [Header],
    /// What the spans refer to.
    pub buffer: &'a [u8],
    /// Who the client is, where it showed a certificate.
    pub client: Option<&'a ClientIdentity>,
}

/// A host that a listener serves: whose it is, and where its rules are.
#[derive(Clone, Copy, Debug)]
pub struct HostMatch<'t> {
    /// The gateway that the host belongs to.
    pub gateway: &'t GatewayTable,
    /// The server that claims the host.
    pub server: &'t ServerTable,
    host: VirtualHost,
}

/// The outcome of [`RoutingTable::select`].
#[derive(Clone, Copy, Debug)]
pub enum Selection<'t> {
    /// The host is known, but no rule matches (or there is none): 404.
    NoRoute {
        /// The gateway that the host belongs to.
        gateway: &'t GatewayTable,
    },
    /// The first rule that matches.
    Route {
        /// The gateway that the host belongs to.
        gateway: &'t GatewayTable,
        /// The rule.
        route: &'t RouteTable,
    },
    /// No server on this listener has the host, or the authority cannot be one: 404.
    UnknownHost,
}

impl RoutingTable {
    /// Compiles a configuration. `shard` sets the rotors apart: shard n starts n picks into each sequence.
    ///
    /// Takes some 0.3 s for a million routes, so it does not belong on a shard; neither does the drop.
    #[must_use]
    pub fn build(config: &Config, generation: u64, shard: usize) -> Self {
        let offset = rotor_offset(generation, shard);
        let services = &config.virtual_services;
        let routes = services.iter().flat_map(|service| &service.http);
        let l4_routes = services.iter().flat_map(|service| service.tls.iter().chain(&service.tcp));
        let Built { listeners, servers, paths, regexes, layer4, texts } = build(config);
        Self {
            generation,
            clusters: config.clusters.iter().map(|cluster| ClusterTable::new(cluster, offset)).collect(),
            routes: routes.map(|route| RouteTable::new(route, offset)).collect(),
            l4_routes: l4_routes.map(|route| L4RouteTable::new(route, offset)).collect(),
            regexes: regexes.iter().map(|regex| Regex::clone(regex)).collect(),
            shared: Arc::new(Shared {
                listeners,
                servers,
                gateways: config.gateways.iter().map(GatewayTable::new).collect(),
                fallback: GatewayTable::fallback(),
                paths,
                layer4,
                texts,
            }),
        }
    }

    /// The same table for another shard: as if built for it, but sharing all that can be shared.
    #[must_use]
    pub fn for_shard(&self, shard: usize) -> Self {
        let offset = rotor_offset(self.generation, shard);
        Self {
            generation: self.generation,
            clusters: self.clusters.iter().map(|cluster| cluster.with_offset(offset)).collect(),
            routes: self.routes.iter().map(|route| route.with_offset(offset)).collect(),
            l4_routes: self.l4_routes.iter().map(|route| route.with_offset(offset)).collect(),
            regexes: self.regexes.clone(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Has the gateways with a bound on connections count in what `count` gives for their names. Before any other table
    /// shares this one's parts.
    pub fn count_connections(&mut self, mut count: impl FnMut(&Arc<str>) -> Arc<AtomicU64>) {
        let gateways = Arc::get_mut(&mut self.shared).map(|shared| shared.gateways.iter_mut());
        debug_assert!(gateways.is_some(), "not shared yet");
        for gateway in gateways.into_iter().flatten() {
            if let Some(bound) = &mut gateway.connections {
                bound.open = count(&gateway.name);
            }
        }
    }

    /// How long a peer has for the PROXY protocol's header, where it must begin with one.
    #[must_use]
    pub fn proxy_header(&self, listener: ListenerId, peer: IpAddr) -> Option<Duration> {
        let accept = self.shared.listeners.get(usize::from(listener.0))?.proxy.as_ref()?;
        accept.from.contains(peer).then_some(accept.timeout)
    }

    /// The listeners; [`ListenerId`] indexes them.
    #[must_use]
    pub fn listeners(&self) -> &[ListenerTable] {
        &self.shared.listeners
    }

    /// The clusters; [`RouteTable::pick_cluster`] indexes them. In the order of the configuration.
    #[must_use]
    pub fn clusters(&self) -> &[ClusterTable] {
        &self.clusters
    }

    /// The gateways, in the order of the configuration.
    #[must_use]
    pub fn gateways(&self) -> &[GatewayTable] {
        &self.shared.gateways
    }

    /// Number of rules in all virtual services.
    #[must_use]
    pub fn route_count(&self) -> usize {
        self.routes.len() + self.l4_routes.len()
    }

    /// The virtual host that an authority leads to on a listener; `None` for an unknown host.
    #[must_use]
    pub fn host<'t>(&'t self, listener: ListenerId, authority: &[u8]) -> Option<HostMatch<'t>> {
        let shared = &*self.shared;
        let hosts = &shared.listeners.get(usize::from(listener.0))?.hosts;
        let host = hosts.find(&Host::parse(authority)?, &shared.texts)?;
        let server = shared.servers.get(host.server as usize)?;
        Some(HostMatch { gateway: shared.gateways.get(server.gateway as usize)?, server, host })
    }

    /// Whether a request in clear text that comes in on a TLS port is told so.
    #[must_use]
    pub fn answers_plain_http(&self, listener: ListenerId) -> bool {
        self.shared.listeners.get(usize::from(listener.0)).is_some_and(|listener| listener.answers_plain_http)
    }

    /// The first rule of a virtual host that matches; none where connections are routed, not requests.
    #[must_use]
    pub fn route<'t>(&'t self, host: &HostMatch<'t>, request: &RouteFacts<'_>) -> Option<&'t RouteTable> {
        let shared = &*self.shared;
        let HostRules::Http(rules) = host.host.rules else { return None };
        let route = shared.paths.find(rules, &shared.texts, request, &self.regexes)?;
        self.routes.get(route as usize)
    }

    /// The route of a request that came in on a listener.
    #[must_use]
    pub fn select<'t>(&'t self, listener: ListenerId, request: &RouteFacts<'_>) -> Selection<'t> {
        let Some(host) = self.host(listener, request.authority) else { return Selection::UnknownHost };
        match self.route(&host, request) {
            Some(route) => Selection::Route { gateway: host.gateway, route },
            None => Selection::NoRoute { gateway: host.gateway },
        }
    }

    /// The gateway whose limits, timers and path policy hold before the host is known, and for requests of unknown
    /// hosts: that of the first server on the listener's port, in the order of the configuration.
    ///
    /// For a listener that the table does not have, a nameless gateway with default limits that trusts nobody.
    #[must_use]
    pub fn listener_gateway(&self, listener: ListenerId) -> &GatewayTable {
        let shared = &*self.shared;
        shared
            .listeners
            .get(usize::from(listener.0))
            .and_then(|listener| shared.gateways.get(listener.gateway as usize))
            .unwrap_or(&shared.fallback)
    }
}

fn rotor_offset(generation: u64, shard: usize) -> usize {
    (generation as usize).wrapping_add(shard)
}
