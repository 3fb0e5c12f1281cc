//! Which hosts a listener serves, and by which virtual services: where the hosts of servers and services meet.
//!
//! A *claim* is a host pattern of a server. A host belongs to the server whose claim covers it most specifically,
//! and only virtual services that are bound to its gateway and have rules of the kind it goes by route it. A virtual service adds its own pattern where a claim
//! covers that (`www.example.com` under the claim `*.example.com`), and takes part in every claim that its pattern
//! covers (`*.example.com` in the claim `www.example.com`). Services that meet at a pattern merge in the order of
//! the configuration.

use hashbrown::HashMap;

use super::host::stored_form;
use super::listener::ServerAt;
use super::server::ServerTable;
use super::texts::Hasher;
use crate::config::model::{Config, HostPattern, RuleKind, VirtualService};

/// The host patterns of one listener.
pub(super) struct Claims<'c> {
    servers: &'c [ServerTable],
    pub(super) patterns: Vec<Pattern<'c>>,
    /// Pairs of pattern and virtual service, sorted, each once.
    pub(super) services: Vec<(u32, u32)>,
    exact: HashMap<&'c str, u32, Hasher>,
    suffixes: HashMap<&'c str, u32, Hasher>,
    any: Option<u32>,
    /// Patterns up to this index are claims.
    claim_count: u32,
    /// Claims by their text from its end, so that those under a suffix are neighbours; made when first needed.
    reversed: Vec<(Vec<u8>, u32)>,
}

/// A host pattern in the form it is stored in.
pub(super) struct Pattern<'c> {
    pub(super) kind: PatternKind,
    pub(super) text: &'c str,
    /// Index into the table's servers: the one that the pattern's hosts belong to.
    pub(super) server: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PatternKind {
    Any,
    Exact,
    Suffix,
}

impl<'c> Claims<'c> {
    /// The patterns of the given servers (indexes into the table's) and of the virtual services (ascending indexes)
    /// that are bound to their gateways and have rules of the kind that the server goes by.
    pub(super) fn new(
        config: &'c Config,
        table: &'c [ServerTable],
        servers: &[ServerAt],
        services: &[u32],
    ) -> Self {
        let mut claims = Self {
            servers: table,
            patterns: Vec::new(),
            services: Vec::with_capacity(services.len()),
            exact: HashMap::default(),
            suffixes: HashMap::default(),
            any: None,
            claim_count: 0,
            reversed: Vec::new(),
        };
        for at in servers {
            let server = config.gateways.get(at.gateway).and_then(|gateway| gateway.servers.get(at.server));
            for host in server.map(|server| server.hosts.as_slice()).unwrap_or_default() {
                claims.add(host, at.index);
            }
        }
        claims.claim_count = claims.patterns.len() as u32;
        for &index in services {
            if let Some(service) = config.virtual_services.get(index as usize) {
                for host in &service.hosts {
                    claims.bind(host, index, service);
                }
            }
        }
        claims.services.sort_unstable();
        claims.services.dedup();
        claims
    }

    /// Lets a virtual service take part wherever its host meets a claim of one of its gateways.
    fn bind(&mut self, host: &'c HostPattern, index: u32, service: &VirtualService) {
        if let Some(claim) = self.covering(host, self.claim_count)
            && let Some(server) = self.server_of(claim)
            && self.takes(server, service)
        {
            let pattern = self.add(host, server);
            self.services.push((pattern, index));
        }
        if matches!(host, HostPattern::Exact(_)) {
            return;
        }
        if self.reversed.is_empty() {
            self.reverse();
        }
        let under: Vec<u8> = match host {
            HostPattern::Suffix(suffix) => suffix.bytes().rev().collect(),
            HostPattern::Any | HostPattern::Exact(_) => Vec::new(),
        };
        let first = self.reversed.partition_point(|(text, _)| *text < under);
        let claims = self.reversed.get(first..).unwrap_or_default();
        let mut meeting = Vec::new();
        for (_, pattern) in claims.iter().take_while(|(text, _)| text.starts_with(&under)) {
            if self.server_of(*pattern).is_some_and(|server| self.takes(server, service)) {
                meeting.push((*pattern, index));
            }
        }
        self.services.append(&mut meeting);
    }

    /// Whether a virtual service takes part at a server.
    fn takes(&self, server: u32, service: &VirtualService) -> bool {
        self.servers.get(server as usize).is_some_and(|server| {
            service.gateways.contains(&(server.gateway as usize)) && service.has_rules(server.kind)
        })
    }

    /// The kind of rules that decide over the hosts of a pattern.
    pub(super) fn kind_of(&self, pattern: &Pattern<'_>) -> RuleKind {
        self.servers.get(pattern.server as usize).map_or(RuleKind::Http, |server| server.kind)
    }

    /// The same by the pattern's index.
    pub(super) fn pattern_kind(&self, pattern: u32) -> Option<RuleKind> {
        self.patterns.get(pattern as usize).map(|pattern| self.kind_of(pattern))
    }

    /// The virtual services that take part anywhere, ascending.
    pub(super) fn all_services(&self) -> impl Iterator<Item = u32> + use<> {
        let mut services: Vec<u32> = self.services.iter().map(|(_, service)| *service).collect();
        services.sort_unstable();
        services.dedup();
        services.into_iter()
    }

    /// The server that a pattern belongs to.
    pub(super) fn server_of(&self, pattern: u32) -> Option<u32> {
        self.patterns.get(pattern as usize).map(|pattern| pattern.server)
    }

    /// The gateway of a server.
    pub(super) fn gateway_of(&self, server: u32) -> Option<u32> {
        self.servers.get(server as usize).map(|server| server.gateway)
    }

    /// The most specific of the first `count` patterns that covers all hosts of `host`.
    pub(super) fn covering(&self, host: &HostPattern, count: u32) -> Option<u32> {
        let among = |at: Option<&u32>| at.copied().filter(|at| *at < count);
        let covering = match host {
            HostPattern::Any => None,
            HostPattern::Exact(host) => {
                let host = stored_form(host);
                among(self.exact.get(host)).or_else(|| {
                    let dots = host.char_indices().skip(1).filter(|(_, letter)| *letter == '.');
                    dots.filter_map(|(dot, _)| host.get(dot..))
                        .find_map(|suffix| among(self.suffixes.get(suffix)))
                })
            }
            HostPattern::Suffix(suffix) => suffix
                .match_indices('.')
                .filter_map(|(dot, _)| suffix.get(dot..))
                .find_map(|suffix| among(self.suffixes.get(suffix))),
        };
        covering.or_else(|| among(self.any.as_ref()))
    }

    /// The index of a pattern; the first to add it decides its server.
    pub(super) fn add(&mut self, host: &'c HostPattern, server: u32) -> u32 {
        let next = self.patterns.len() as u32;
        let (kind, text, at) = match host {
            HostPattern::Any => (PatternKind::Any, "", *self.any.get_or_insert(next)),
            HostPattern::Exact(host) => {
                let host = stored_form(host);
                (PatternKind::Exact, host, *self.exact.entry(host).or_insert(next))
            }
            HostPattern::Suffix(suffix) => {
                (PatternKind::Suffix, &**suffix, *self.suffixes.entry(suffix).or_insert(next))
            }
        };
        if at == next {
            self.patterns.push(Pattern { kind, text, server });
        }
        at
    }

    fn reverse(&mut self) {
        let claims = self.patterns.iter().take(self.claim_count as usize).enumerate();
        self.reversed = claims
            .filter(|(_, pattern)| pattern.kind != PatternKind::Any)
            .map(|(at, pattern)| (pattern.text.bytes().rev().collect(), at as u32))
            .collect();
        self.reversed.sort_unstable();
    }
}
