//! Rules for connections that none reaches, because earlier ones of the virtual service take all that they match.
//! Warnings only; silence proves nothing: subnets and gateways are not compared beyond equality.

use std::collections::{HashMap, HashSet};

use crate::config::diagnostic::{Problem, Problems};
use crate::config::drafts::{RuleDraft, VirtualServiceDraft};
use crate::config::host::tails;
use crate::config::model::{HostPattern, L4Match, L4Route};
use crate::config::source::Place;

/// Checks each virtual service.
pub(super) fn check(drafts: &[VirtualServiceDraft], problems: &mut Problems) {
    for draft in drafts {
        let service = &draft.virtual_service;
        let mut rest = draft.rules.get(service.http.len()..).unwrap_or_default();
        for rules in [&service.tls, &service.tcp] {
            let (own, behind) = rest.split_at_checked(rules.len()).unwrap_or((rest, &[]));
            rest = behind;
            check_list(rules, own, problems);
        }
    }
}

fn check_list(rules: &[L4Route], drafts: &[RuleDraft], problems: &mut Problems) {
    let mut reach = Reach::default();
    for (rule, draft) in rules.iter().zip(drafts).filter(|(_, draft)| !draft.broken) {
        if let Some(earlier) = reach.covers(rule) {
            let problem =
                Problem::warning("unreachable-route", draft.place, "no connection reaches this route");
            problems.push(
                problem
                    .related(earlier, "this takes all that it matches")
                    .hint("put the narrower route first"),
            );
        }
        reach.add(rule, draft.place);
    }
}

/// What the rules so far take.
#[derive(Default)]
struct Reach<'r> {
    all: Option<Place>,
    /// By port and SNI host (`None` for TCP), of blocks without subnets and gateways.
    taken: HashMap<(Option<u16>, Option<&'r HostPattern>), Place>,
    /// Blocks as written.
    equal: HashMap<String, Place>,
    /// The wildcards among the SNI hosts that were taken.
    suffixes: HashSet<&'r str>,
}

impl<'r> Reach<'r> {
    fn covers(&self, rule: &L4Route) -> Option<Place> {
        if self.all.is_some() || rule.matches.is_empty() {
            return self.all;
        }
        let mut first = None;
        for block in &rule.matches {
            let covering = self.covers_block(block)?;
            first.get_or_insert(covering);
        }
        first
    }

    fn covers_block(&self, block: &L4Match) -> Option<Place> {
        if let Some(place) = self.equal.get(&canonical(block)) {
            return Some(*place);
        }
        if block.sni_hosts.is_empty() {
            return self.takes(block.port, None);
        }
        let mut first = None;
        for host in &block.sni_hosts {
            let covering = self.covers_host(block.port, host)?;
            first.get_or_insert(covering);
        }
        first
    }

    fn covers_host(&self, port: Option<u16>, host: &HostPattern) -> Option<Place> {
        let above = match host {
            HostPattern::Any => "",
            HostPattern::Exact(name) => name,
            HostPattern::Suffix(suffix) => suffix,
        };
        let wider = tails(above).filter(|tail| self.suffixes.contains(tail));
        self.takes(port, Some(host))
            .or_else(|| {
                wider.into_iter().find_map(|tail| self.takes(port, Some(&HostPattern::Suffix(tail.into()))))
            })
            .or_else(|| self.takes(port, Some(&HostPattern::Any)))
    }

    fn takes(&self, port: Option<u16>, host: Option<&HostPattern>) -> Option<Place> {
        self.taken.get(&(None, host)).or_else(|| self.taken.get(&(port, host))).copied()
    }

    fn add(&mut self, rule: &'r L4Route, place: Place) {
        if rule.matches.is_empty() {
            self.all.get_or_insert(place);
        }
        for block in &rule.matches {
            self.equal.entry(canonical(block)).or_insert(place);
            let some = [
                block.destination_subnets.is_empty(),
                block.source_subnets.is_empty(),
                block.gateways.is_empty(),
            ];
            if some.contains(&false) {
                continue;
            }
            if block.sni_hosts.is_empty() {
                self.taken.entry((block.port, None)).or_insert(place);
                if block.port.is_none() {
                    self.all.get_or_insert(place);
                }
            }
            for host in &block.sni_hosts {
                self.taken.entry((block.port, Some(host))).or_insert(place);
                if let HostPattern::Suffix(suffix) = host {
                    self.suffixes.insert(suffix);
                }
            }
        }
    }
}

/// A text that two blocks share exactly when they ask for the same.
fn canonical(block: &L4Match) -> String {
    let L4Match { port, gateways, sni_hosts, destination_subnets, source_subnets, origin: _ } = block;
    format!("{port:?} {gateways:?} {sni_hosts:?} {destination_subnets:?} {source_subnets:?}")
}
