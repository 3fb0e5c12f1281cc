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
//! There is no way back from step 2: when no rule of the most specific virtual host matches, a less specific one is
//! not tried ([`Selection::NoRoute`]), as in Istio. The same answer is given for a host that a server claims and no
//! virtual service routes; a host that no server claims is a [`Selection::UnknownHost`].
//!
//! Everything that does not change lies behind one `Arc` that the tables of all shards can share
//! ([`RoutingTable::for_shard`]); a shard's own are the rotors and the regexes' scratch memory.

mod claims;
mod cluster;
mod gateway;
mod host;
mod listener;
#[cfg(test)]
mod oracle;
mod path;
mod predicate;
#[cfg(test)]
mod testing;
mod texts;

use std::sync::Arc;

use hashbrown::HashMap;
use regex::bytes::Regex;

use self::claims::{Claims, PatternKind};
use self::host::{Host, HostIndex, VirtualHost};
use self::listener::{ListenerServers, listener_servers};
use self::path::{PathIndex, PathIndexBuilder, RuleSet};
use self::texts::{Hasher, Texts};
use crate::config::model::Config;
use crate::message::Header;

pub use self::cluster::{ClusterTable, EndpointTable, RouteTable};
pub use self::gateway::GatewayTable;
pub use self::listener::{ListenerId, ListenerKey, ListenerTable, listener_keys};

/// Where each request of a shard goes. `Send`, but not `Sync`: its rotors are cells.
#[derive(Debug)]
pub struct RoutingTable {
    /// Counts the configurations that were put into force; part of each rotor's offset, so that frequent reloads do
    /// not favour the first endpoints.
    pub generation: u64,
    clusters: Vec<ClusterTable>,
    routes: Vec<RouteTable>,
    regexes: Vec<Regex>,
    shared: Arc<Shared>,
}

/// What all shards can share.
#[derive(Debug)]
struct Shared {
    listeners: Vec<ListenerTable>,
    gateways: Vec<GatewayTable>,
    fallback: GatewayTable,
    paths: PathIndex,
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
}

/// A host that a listener serves: whose it is, and where its rules are.
#[derive(Clone, Copy, Debug)]
pub struct HostMatch<'t> {
    /// The gateway that the host belongs to.
    pub gateway: &'t GatewayTable,
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
        let mut first_routes = Vec::with_capacity(config.virtual_services.len());
        let mut routes = Vec::new();
        for service in &config.virtual_services {
            first_routes.push(routes.len() as u32);
            routes.extend(service.http.iter().map(|route| RouteTable::new(route, offset)));
        }
        let mut builder = Builder {
            config,
            first_routes,
            paths: PathIndexBuilder::default(),
            texts: Texts::default(),
            rule_sets: HashMap::default(),
        };
        let bound = services_by_gateway(config);
        let listeners =
            listener_servers(config).into_iter().map(|listener| builder.listener(listener, &bound)).collect();
        let (paths, regexes) = builder.paths.finish();
        Self {
            generation,
            clusters: config.clusters.iter().map(|cluster| ClusterTable::new(cluster, offset)).collect(),
            routes,
            regexes: regexes.iter().map(|regex| Regex::clone(regex)).collect(),
            shared: Arc::new(Shared {
                listeners,
                gateways: config.gateways.iter().map(GatewayTable::new).collect(),
                fallback: GatewayTable::fallback(),
                paths,
                texts: builder.texts.into_bytes(),
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
            regexes: self.regexes.clone(),
            shared: Arc::clone(&self.shared),
        }
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
        self.routes.len()
    }

    /// The virtual host that an authority leads to on a listener; `None` for an unknown host.
    #[must_use]
    pub fn host<'t>(&'t self, listener: ListenerId, authority: &[u8]) -> Option<HostMatch<'t>> {
        let shared = &*self.shared;
        let hosts = &shared.listeners.get(usize::from(listener.0))?.hosts;
        let host = hosts.find(&Host::parse(authority)?, &shared.texts)?;
        Some(HostMatch { gateway: shared.gateways.get(host.gateway as usize)?, host })
    }

    /// The first rule of a virtual host that matches.
    #[must_use]
    pub fn route<'t>(&'t self, host: &HostMatch<'t>, request: &RouteFacts<'_>) -> Option<&'t RouteTable> {
        let shared = &*self.shared;
        let route = shared.paths.find(host.host.rules, &shared.texts, request, &self.regexes)?;
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

/// For each gateway the virtual services bound to it, ascending.
fn services_by_gateway(config: &Config) -> Vec<Vec<u32>> {
    let mut bound = vec![Vec::new(); config.gateways.len()];
    for (index, service) in config.virtual_services.iter().enumerate() {
        for &gateway in &service.gateways {
            if let Some(bound) = bound.get_mut(gateway) {
                bound.push(index as u32);
            }
        }
    }
    bound
}

struct Builder<'c> {
    config: &'c Config,
    /// For each virtual service the index of its first route.
    first_routes: Vec<u32>,
    paths: PathIndexBuilder,
    texts: Texts,
    /// Rules compiled so far, by the virtual services they come from: hosts with the same services share them.
    rule_sets: HashMap<Box<[u32]>, RuleSet, Hasher>,
}

impl Builder<'_> {
    fn listener(&mut self, listener: ListenerServers, bound: &[Vec<u32>]) -> ListenerTable {
        let mut gateways: Vec<usize> = listener.servers.iter().map(|&(gateway, _)| gateway).collect();
        let gateway = gateways.first().copied().unwrap_or(0) as u32;
        gateways.sort_unstable();
        gateways.dedup();
        let mut services: Vec<u32> =
            gateways.iter().filter_map(|gateway| bound.get(*gateway)).flatten().copied().collect();
        services.sort_unstable();
        services.dedup();
        let hosts = self.hosts(&Claims::new(self.config, &listener.servers, &services));
        ListenerTable { key: listener.key, freebind: listener.freebind, gateway, hosts }
    }

    fn hosts(&mut self, claims: &Claims<'_>) -> HostIndex {
        let exact = claims.patterns.iter().filter(|pattern| pattern.kind == PatternKind::Exact).count();
        let mut hosts = HostIndex::with_capacity(exact, claims.patterns.len() - exact);
        let mut rest = claims.services.as_slice();
        let mut services: Vec<u32> = Vec::new();
        for (at, pattern) in (0u32..).zip(&claims.patterns) {
            let (here, behind) = rest.split_at(rest.partition_point(|(pattern, _)| *pattern <= at));
            rest = behind;
            services.clear();
            services.extend(here.iter().map(|(_, service)| service));
            let text = self.texts.add(pattern.text);
            let rules = if services.is_empty() { RuleSet::EMPTY } else { self.rule_set(&services) };
            let leads_to = VirtualHost { gateway: pattern.gateway, rules };
            match pattern.kind {
                PatternKind::Any => hosts.set_any(leads_to),
                PatternKind::Exact => hosts.add_exact(text, leads_to, self.texts.bytes()),
                PatternKind::Suffix => hosts.add_suffix(text, leads_to, self.texts.bytes()),
            }
        }
        hosts
    }

    /// The rules of these virtual services one after another.
    fn rule_set(&mut self, services: &[u32]) -> RuleSet {
        if let Some(known) = self.rule_sets.get(services) {
            return *known;
        }
        let Self { config, first_routes, paths, texts, .. } = self;
        let rules = services.iter().flat_map(|&service| {
            let first = first_routes.get(service as usize).copied().unwrap_or(0);
            let http = config.virtual_services.get(service as usize).map(|service| service.http.as_slice());
            (first..).zip(http.unwrap_or_default())
        });
        let set = paths.add_set(rules, texts);
        self.rule_sets.insert(services.into(), set);
        set
    }
}
