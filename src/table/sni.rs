//! The names that `tls` rules tell apart: host patterns beside those of servers and virtual services, each with the
//! rules that a connection with such a name can meet.
//!
//! The most specific host of the virtual services decides whose rules these are, as for requests; among them the first
//! that matches wins. A rule matches all names of a pattern or none, because each of its SNI hosts is a pattern itself.

use super::claims::{Claims, PatternKind};
use super::door::Door;
use super::host::stored_form;
use super::layer4::L4Entry;
use crate::config::model::{Config, HostPattern, L4Match, RuleKind};

/// Lists of entries by pattern.
pub(super) struct Names {
    lists: Vec<Vec<L4Entry>>,
}

/// A pattern that passes through.
struct Name {
    /// Its text from the end, so that those under a suffix are neighbours.
    reversed: Vec<u8>,
    pattern: u32,
    /// The pattern whose virtual services it has: itself, or that of the virtual service's host.
    parent: u32,
}

impl Names {
    /// Adds the SNI hosts of rules for `port` to the patterns of `claims`, and finds the rules of each that passes
    /// through; `entry` makes one of a virtual service, a rule's position in it and a block.
    pub(super) fn collect<'c>(
        config: &'c Config,
        claims: &mut Claims<'c>,
        port: u16,
        mut entry: impl FnMut(u32, u32, &L4Match) -> L4Entry,
    ) -> Self {
        let mut services: Vec<u32> = claims
            .services
            .iter()
            .filter(|(pattern, _)| claims.pattern_kind(*pattern) == Some(RuleKind::Tls))
            .map(|(_, service)| *service)
            .collect();
        services.sort_unstable();
        services.dedup();
        let mut names = Self { lists: Vec::new() };
        if services.is_empty() {
            return names;
        }
        let blocks: Vec<(u32, u32, &'c L4Match)> = services
            .iter()
            .filter_map(|&index| Some((index, config.virtual_services.get(index as usize)?)))
            .flat_map(|(index, service)| {
                (0..).zip(&service.tls).map(move |(rule, route)| (index, rule, route))
            })
            .flat_map(|(index, rule, route)| route.matches.iter().map(move |block| (index, rule, block)))
            .filter(|(_, _, block)| block.port.is_none_or(|wanted| wanted == port))
            .collect();
        let known = add_patterns(claims, &blocks);
        names.lists.resize_with(claims.patterns.len(), Vec::new);
        for (service, rule, block) in blocks {
            let mut made = None;
            for host in &block.sni_hosts {
                for name in within(&known, host) {
                    if claims.services.binary_search(&(name.parent, service)).is_err() {
                        continue;
                    }
                    let gateway = claims.server_of(name.pattern).and_then(|server| claims.gateway_of(server));
                    let gateway = gateway.and_then(|gateway| config.gateways.get(gateway as usize));
                    let door = Door { port, gateway: gateway.map_or("", |gateway| &gateway.name) };
                    if !door.admits(block.port, &block.gateways) {
                        continue;
                    }
                    let Some(list) = names.lists.get_mut(name.pattern as usize) else { continue };
                    let entry = *made.get_or_insert_with(|| entry(service, rule, block));
                    // Blocks come in the order of the rules: nothing is reached behind one that takes all.
                    if list.last().is_none_or(|last| *last != entry && !last.takes_all()) {
                        list.push(entry);
                    }
                }
            }
        }
        names
    }

    /// The rules of a pattern.
    pub(super) fn take(&mut self, pattern: u32) -> Vec<L4Entry> {
        self.lists.get_mut(pattern as usize).map(std::mem::take).unwrap_or_default()
    }
}

/// Adds the SNI hosts as patterns. Returns all that pass through, sorted by their reversed text.
fn add_patterns<'c>(claims: &mut Claims<'c>, blocks: &[(u32, u32, &'c L4Match)]) -> Vec<Name> {
    let count = claims.patterns.len() as u32;
    let mut parents: Vec<u32> = (0..count).collect();
    for (service, _, block) in blocks {
        for host in &block.sni_hosts {
            let Some(parent) = claims.covering(host, count) else { continue };
            let taken = claims.services.binary_search(&(parent, *service)).is_ok();
            if taken
                && claims.pattern_kind(parent) == Some(RuleKind::Tls)
                && let Some(server) = claims.server_of(parent)
                && claims.add(host, server) as usize == parents.len()
            {
                parents.push(parent);
            }
        }
    }
    let mut names: Vec<Name> = (0..)
        .zip(&claims.patterns)
        .zip(parents)
        .filter(|((_, pattern), _)| claims.kind_of(pattern) == RuleKind::Tls)
        .map(|((at, pattern), parent)| {
            let mut reversed: Vec<u8> = pattern.text.bytes().rev().collect();
            // Keeps `*.a.b` under `*.a.b`, and the name `.a.b`, which nobody has, apart.
            reversed.push(if pattern.kind == PatternKind::Exact { 0 } else { 1 });
            Name { reversed, pattern: at, parent }
        })
        .collect();
    names.sort_unstable_by(|one, other| one.reversed.cmp(&other.reversed));
    names
}

/// The patterns of which all names match a host.
fn within<'n>(names: &'n [Name], host: &HostPattern) -> &'n [Name] {
    let mut under: Vec<u8> = match host {
        HostPattern::Any => return names,
        HostPattern::Exact(host) => stored_form(host).bytes().rev().collect(),
        HostPattern::Suffix(suffix) => suffix.bytes().rev().collect(),
    };
    if matches!(host, HostPattern::Exact(_)) {
        under.push(0);
    }
    let from = names.partition_point(|name| name.reversed < under);
    let rest = names.get(from..).unwrap_or_default();
    let count = rest.partition_point(|name| name.reversed.starts_with(&under));
    rest.get(..count).unwrap_or_default()
}
