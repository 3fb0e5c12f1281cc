//! Which hosts a listener serves, and by which virtual services: where the hosts of servers and services meet.
//!
//! A *claim* is a host pattern of a server. A host belongs to the gateway whose claim covers it most specifically,
//! and only virtual services bound to that gateway route it. A virtual service adds its own pattern where a claim
//! covers that (`www.example.com` under the claim `*.example.com`), and takes part in every claim that its pattern
//! covers (`*.example.com` in the claim `www.example.com`). Services that meet at a pattern merge in the order of
//! the configuration.

use hashbrown::HashMap;

use super::host::stored_form;
use super::texts::Hasher;
use crate::config::model::{Config, HostPattern, VirtualService};

/// The host patterns of one listener.
pub(super) struct Claims<'c> {
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
    /// Index of the gateway that the pattern's hosts belong to.
    pub(super) gateway: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PatternKind {
    Any,
    Exact,
    Suffix,
}

impl<'c> Claims<'c> {
    /// The patterns of the given servers (indexes of gateway and server) and of the virtual services (ascending
    /// indexes) that are bound to their gateways.
    pub(super) fn new(config: &'c Config, servers: &[(usize, usize)], services: &[u32]) -> Self {
        let mut claims = Self {
            patterns: Vec::new(),
            services: Vec::with_capacity(services.len()),
            exact: HashMap::default(),
            suffixes: HashMap::default(),
            any: None,
            claim_count: 0,
            reversed: Vec::new(),
        };
        for &(gateway, server) in servers {
            let server = config.gateways.get(gateway).and_then(|gateway| gateway.servers.get(server));
            for host in server.map(|server| server.hosts.as_slice()).unwrap_or_default() {
                claims.add(host, gateway as u32);
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
        if let Some(gateway) = self.owner(host)
            && service.gateways.contains(&(gateway as usize))
        {
            let pattern = self.add(host, gateway);
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
        for (_, pattern) in claims.iter().take_while(|(text, _)| text.starts_with(&under)) {
            let gateway = self.patterns.get(*pattern as usize).map(|pattern| pattern.gateway as usize);
            if gateway.is_some_and(|gateway| service.gateways.contains(&gateway)) {
                self.services.push((*pattern, index));
            }
        }
    }

    /// The gateway of the most specific claim that covers all hosts of a pattern.
    fn owner(&self, host: &HostPattern) -> Option<u32> {
        let claim = |at: Option<&u32>| at.copied().filter(|at| *at < self.claim_count);
        let covering = match host {
            HostPattern::Any => None,
            HostPattern::Exact(host) => {
                let host = stored_form(host);
                claim(self.exact.get(host)).or_else(|| {
                    let dots = host.char_indices().skip(1).filter(|(_, letter)| *letter == '.');
                    dots.filter_map(|(dot, _)| host.get(dot..))
                        .find_map(|suffix| claim(self.suffixes.get(suffix)))
                })
            }
            HostPattern::Suffix(suffix) => suffix
                .match_indices('.')
                .filter_map(|(dot, _)| suffix.get(dot..))
                .find_map(|suffix| claim(self.suffixes.get(suffix))),
        };
        let at = covering.or(self.any)?;
        self.patterns.get(at as usize).map(|pattern| pattern.gateway)
    }

    /// The index of a pattern; the first to add it decides its gateway.
    fn add(&mut self, host: &'c HostPattern, gateway: u32) -> u32 {
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
            self.patterns.push(Pattern { kind, text, gateway });
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
