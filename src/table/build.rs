//! Builds a table: listeners, the hosts of each, and the rules that each host leads to.
//!
//! Which patterns there are and which virtual services meet at each says `claims`; `sni` adds the names that `tls`
//! rules tell apart.

use std::sync::Arc;

use hashbrown::HashMap;

use super::claims::{Claims, PatternKind};
use super::door::{Door, Doors};
use super::host::{HostIndex, HostRules, VirtualHost};
use super::layer4::{Entry, L4Entry, L4Index, L4Rules};
use super::listener::{ListenerServers, ListenerTable, ProxyTable, ServerAt, listener_servers};
use super::path::{PathIndex, PathIndexBuilder, RuleSet};
use super::server::ServerTable;
use super::sni::Names;
use super::texts::{Hasher, Texts};
use crate::config::model::{Config, L4Route, Protocol, RuleKind};

/// What all shards share, before it is put together.
pub(super) struct Built {
    pub(super) listeners: Vec<ListenerTable>,
    pub(super) servers: Vec<ServerTable>,
    pub(super) paths: PathIndex,
    pub(super) regexes: Vec<Arc<regex::bytes::Regex>>,
    pub(super) layer4: L4Index,
    pub(super) texts: Vec<u8>,
}

/// Compiles a configuration.
pub(super) fn build(config: &Config) -> Built {
    let mut first_routes = Vec::with_capacity(config.virtual_services.len());
    let mut next = FirstRoutes::default();
    for service in &config.virtual_services {
        first_routes.push(next);
        next.http += service.http.len() as u32;
        next.l4 += (service.tls.len() + service.tcp.len()) as u32;
    }
    let mut builder = Builder {
        config,
        first_routes,
        paths: PathIndexBuilder::default(),
        layer4: L4Index::default(),
        texts: Texts::default(),
        rule_sets: HashMap::default(),
        l4_rules: HashMap::default(),
        doors: Doors::of(config),
    };
    let servers = ServerTable::all(&config.gateways);
    let bound = services_by_gateway(config);
    let listeners = listener_servers(config);
    let listeners =
        listeners.into_iter().map(|listener| builder.listener(listener, &servers, &bound)).collect();
    let (paths, regexes) = builder.paths.finish();
    Built { listeners, servers, paths, regexes, layer4: builder.layer4, texts: builder.texts.into_bytes() }
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

/// Indexes of a virtual service's first routes among all of a kind; those of its `tcp` rules follow those of `tls`.
#[derive(Clone, Copy, Debug, Default)]
struct FirstRoutes {
    http: u32,
    l4: u32,
}

struct Builder<'c> {
    config: &'c Config,
    first_routes: Vec<FirstRoutes>,
    paths: PathIndexBuilder,
    layer4: L4Index,
    texts: Texts,
    /// Rules compiled so far, by the virtual services they come from: hosts with the same services share them.
    rule_sets: HashMap<Box<[u32]>, RuleSet, Hasher>,
    /// Rules for connections laid down so far: hosts with the same share them.
    l4_rules: HashMap<Box<[L4Entry]>, L4Rules, Hasher>,
    doors: Doors<'c>,
}

impl<'c> Builder<'c> {
    fn listener(
        &mut self,
        listener: ListenerServers,
        servers: &[ServerTable],
        bound: &[Vec<u32>],
    ) -> ListenerTable {
        let mut gateways: Vec<usize> = listener.servers.iter().map(|server| server.gateway).collect();
        let gateway = gateways.first().copied().unwrap_or(0) as u32;
        gateways.sort_unstable();
        gateways.dedup();
        let mut services: Vec<u32> =
            gateways.iter().filter_map(|gateway| bound.get(*gateway)).flatten().copied().collect();
        services.sort_unstable();
        services.dedup();
        // The servers of a listener are of one family.
        let first = listener.servers.first().and_then(|server| servers.get(server.index as usize));
        let entry = match first.map_or(Protocol::Http, |server| server.protocol) {
            Protocol::Http => Entry::Http,
            Protocol::Tcp => Entry::Tcp,
            Protocol::Https | Protocol::Tls => Entry::Tls,
        };
        let answers = |server: &ServerAt| {
            let gateway = self.config.gateways.get(server.gateway);
            gateway
                .and_then(|gateway| gateway.servers.get(server.server))
                .is_some_and(|s| s.answer_plain_http)
        };
        let answers_plain_http = listener.servers.iter().any(answers);
        let mut claims = Claims::new(self.config, servers, &listener.servers, &services);
        let port = listener.key.port;
        let (hosts, tcp) = match entry {
            Entry::Tcp => {
                let door = Door { port, gateway: self.gateway_name(gateway) };
                (HostIndex::default(), self.tcp_rules(claims.all_services(), door))
            }
            Entry::Http | Entry::Tls => (self.hosts(&mut claims, port), L4Rules::EMPTY),
        };
        // The servers of a listener agree on it.
        let first = listener.servers.first().and_then(|first| {
            self.config.gateways.get(first.gateway).and_then(|gateway| gateway.servers.get(first.server))
        });
        let proxy = first.and_then(|server| server.proxy_protocol.as_ref()).map(ProxyTable::new);
        let ListenerServers { key, freebind, .. } = listener;
        ListenerTable { key, freebind, gateway, entry, answers_plain_http, hosts, tcp, proxy }
    }

    fn gateway_name(&self, gateway: u32) -> &'c str {
        self.config.gateways.get(gateway as usize).map_or("", |gateway| &gateway.name)
    }

    fn hosts<'s>(&mut self, claims: &mut Claims<'s>, port: u16) -> HostIndex
    where
        'c: 's,
    {
        let mut names = Names::collect(self.config, claims, port, |service, rule, block| {
            let first = self.first_routes.get(service as usize).map_or(0, |first| first.l4);
            self.layer4.entry(first + rule, block)
        });
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
            let gateway = claims.gateway_of(pattern.server).map_or("", |gateway| self.gateway_name(gateway));
            let door = Door { port, gateway };
            let rules = match claims.kind_of(pattern) {
                RuleKind::Http if services.is_empty() => HostRules::Http(RuleSet::EMPTY),
                RuleKind::Http => HostRules::Http(self.rule_set(&services, door)),
                RuleKind::Tls => HostRules::L4(self.lay_down(&names.take(at))),
                RuleKind::Tcp => HostRules::L4(self.tcp_rules(services.iter().copied(), door)),
            };
            let leads_to = VirtualHost { server: pattern.server, rules };
            match pattern.kind {
                PatternKind::Any => hosts.set_any(leads_to),
                PatternKind::Exact => hosts.add_exact(text, leads_to, self.texts.bytes()),
                PatternKind::Suffix => hosts.add_suffix(text, leads_to, self.texts.bytes()),
            }
        }
        hosts
    }

    /// The rules of these virtual services one after another.
    fn rule_set(&mut self, services: &[u32], door: Door<'c>) -> RuleSet {
        let Self { config, first_routes, paths, texts, doors, .. } = self;
        let mut key = std::borrow::Cow::Borrowed(services);
        if services.iter().any(|service| doors.asks(*service)) {
            // No service has this number: what comes behind it is the door.
            key.to_mut().extend([u32::MAX, doors.number(door)]);
        }
        if let Some(known) = self.rule_sets.get(&*key) {
            return *known;
        }
        let rules = services.iter().flat_map(|&service| {
            let first = first_routes.get(service as usize).map_or(0, |first| first.http);
            let http = config.virtual_services.get(service as usize).map(|service| service.http.as_slice());
            (first..).zip(http.unwrap_or_default())
        });
        let set = paths.add_set(rules, |block| door.admits(block.port, &block.gateways), texts);
        self.rule_sets.insert((*key).into(), set);
        set
    }

    /// The `tcp` rules of these virtual services, as far as they are for the port and the gateway.
    fn tcp_rules(&mut self, services: impl Iterator<Item = u32>, door: Door<'_>) -> L4Rules {
        let mut entries = Vec::new();
        let config = self.config;
        'rules: for index in services {
            let Some(service) = config.virtual_services.get(index as usize) else { continue };
            let first = self.first_routes.get(index as usize).map_or(0, |first| first.l4);
            for (route, rule) in (first + service.tls.len() as u32..).zip(&service.tcp) {
                self.tcp_rule(route, rule, door, &mut entries);
                if entries.last().is_some_and(|entry: &L4Entry| entry.takes_all()) {
                    break 'rules;
                }
            }
        }
        self.lay_down(&entries)
    }

    fn tcp_rule(&mut self, route: u32, rule: &L4Route, door: Door<'_>, entries: &mut Vec<L4Entry>) {
        if rule.matches.is_empty() {
            entries.push(L4Entry::of_rule(route));
        }
        for block in rule.matches.iter().filter(|block| door.admits(block.port, &block.gateways)) {
            entries.push(self.layer4.entry(route, block));
            if entries.last().is_some_and(|entry| entry.takes_all()) {
                return;
            }
        }
    }

    fn lay_down(&mut self, entries: &[L4Entry]) -> L4Rules {
        if entries.is_empty() {
            return L4Rules::EMPTY;
        }
        if let Some(known) = self.l4_rules.get(entries) {
            return *known;
        }
        let rules = self.layer4.add(entries);
        self.l4_rules.insert(entries.into(), rules);
        rules
    }
}
