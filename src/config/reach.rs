//! Rules that no request reaches, because an earlier rule takes all that they match. Warnings only.
//!
//! The first matching rule wins, in list order; virtual services that share a host on a gateway count as one
//! list, in the order of file name, then position. A rule is found unreachable when each of its match blocks
//! is covered by an earlier rule without a match, by an earlier block that asks only for a path prefix of its
//! own path, or by an equal block. Regexes are not compared beyond equality, so silence proves nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::ops::Bound;

use crate::config::diagnostic::{Problem, Problems};
use crate::config::drafts::VirtualServiceDraft;
use crate::config::host::show;
use crate::config::lower::Linked;
use crate::config::model::{ClientMatch, HostPattern, HttpMatch, HttpRoute, StringMatch};
use crate::config::source::Place;

/// Rules that are looked at for virtual services that share hosts. Their combinations may be as many as the
/// square of the file, and warnings are not worth that.
const SHARED_RULES_MAX: usize = 1_000_000;

/// Checks each virtual service, and those that share a host on one of `gateways` gateways.
pub(super) fn check(
    drafts: &[VirtualServiceDraft],
    linked: &[Linked],
    gateways: usize,
    problems: &mut Problems,
) {
    let mut reported: HashSet<Place> = HashSet::new();
    for draft in drafts {
        let mut reach = Reach::default();
        for (rule, place) in rules(draft) {
            if let Some(earlier) = reach.covers(rule) {
                let message = "no request reaches this route";
                let problem = Problem::warning("unreachable-route", place, message);
                problems.push(
                    problem
                        .related(earlier, "this takes all that it matches")
                        .hint("put the narrower route first"),
                );
                reported.insert(place);
            }
            reach.add(rule, place);
        }
    }
    check_shared(drafts, linked, gateways, &mut reported, problems);
}

fn check_shared(
    drafts: &[VirtualServiceDraft],
    linked: &[Linked],
    gateways: usize,
    reported: &mut HashSet<Place>,
    problems: &mut Problems,
) {
    let mut members: Vec<HashMap<&HostPattern, Vec<usize>>> = vec![HashMap::new(); gateways];
    let mut order = Vec::new();
    for (index, (draft, linked)) in drafts.iter().zip(linked).enumerate() {
        for &gateway in &linked.gateways {
            let Some(hosts) = members.get_mut(gateway) else { continue };
            for host in &draft.hosts {
                let list = hosts.entry(&host.value).or_default();
                if list.last() == Some(&index) {
                    continue;
                }
                list.push(index);
                if list.len() == 2 {
                    order.push((gateway, &host.value));
                }
            }
        }
    }
    let mut budget = SHARED_RULES_MAX;
    let mut groups_seen: HashSet<&[usize]> = HashSet::new();
    for (gateway, host) in order {
        let Some(group) = members.get(gateway).and_then(|hosts| hosts.get(host)) else { continue };
        if !groups_seen.insert(group) {
            continue;
        }
        let mut reach = Reach::default();
        for (position, draft) in group.iter().filter_map(|index| drafts.get(*index)).enumerate() {
            for (rule, place) in rules(draft) {
                let Some(left) = budget.checked_sub(1) else { return };
                budget = left;
                if position > 0
                    && let Some(earlier) = reach.covers(rule)
                    && reported.insert(place)
                {
                    let host = show(host);
                    let message = format!("no request for host `{host}` reaches this route");
                    let problem = Problem::warning("unreachable-route", place, message)
                        .related(earlier, "an earlier virtual service takes all that it matches")
                        .hint("virtual services that share a host merge by file name, then position");
                    problems.push(problem);
                }
                reach.add(rule, place);
            }
        }
    }
}

/// The rules whose conditions are known.
fn rules(draft: &VirtualServiceDraft) -> impl Iterator<Item = (&HttpRoute, Place)> {
    let rules = draft.virtual_service.http.iter().zip(&draft.rules);
    rules.filter(|(_, rule)| !rule.broken).map(|(route, rule)| (route, rule.place))
}

/// What the rules so far take.
#[derive(Default)]
struct Reach {
    all: Option<Place>,
    /// Prefixes that are taken whole. No key is a prefix of another, so the only key that can cover a path is
    /// the greatest one that is not greater than it.
    prefixes: BTreeMap<Box<str>, Place>,
    blocks: HashMap<String, Place>,
}

impl Reach {
    /// The rule that takes all that `rule` matches (of several, the one that takes its first block).
    fn covers(&self, rule: &HttpRoute) -> Option<Place> {
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

    fn covers_block(&self, block: &HttpMatch) -> Option<Place> {
        if let Some(StringMatch::Exact(path) | StringMatch::Prefix(path)) = &block.uri {
            let below = (Bound::Unbounded, Bound::Included(path.as_ref()));
            let nearest = self.prefixes.range::<str, _>(below).next_back();
            if let Some((prefix, place)) = nearest
                && path.starts_with(prefix.as_ref())
            {
                return Some(*place);
            }
        }
        self.blocks.get(&canonical(block)).copied()
    }

    fn add(&mut self, rule: &HttpRoute, place: Place) {
        if rule.matches.is_empty() {
            self.all.get_or_insert(place);
        }
        for block in &rule.matches {
            let door = block.port.is_none() && block.gateways.is_empty();
            match (&block.uri, &block.method, door && block.headers.is_empty() && block.client.is_none()) {
                (None, None, true) => {
                    self.all.get_or_insert(place);
                }
                (Some(StringMatch::Prefix(prefix)), None, true) => self.add_prefix(prefix, place),
                _ => {
                    self.blocks.entry(canonical(block)).or_insert(place);
                }
            }
        }
    }

    fn add_prefix(&mut self, prefix: &str, place: Place) {
        let below = (Bound::Unbounded, Bound::Included(prefix));
        let nearest = self.prefixes.range::<str, _>(below).next_back();
        if nearest.is_some_and(|(wider, _)| prefix.starts_with(wider.as_ref())) {
            return;
        }
        let from = (Bound::Included(prefix), Bound::Unbounded);
        while let Some((narrower, _)) = self.prefixes.range::<str, _>(from).next()
            && narrower.starts_with(prefix)
        {
            let narrower = narrower.clone();
            self.prefixes.remove(&narrower);
        }
        self.prefixes.insert(Box::from(prefix), place);
    }
}

/// A text that two blocks share exactly when they ask for the same. Debug quoting keeps the parts apart.
fn canonical(block: &HttpMatch) -> String {
    let mut text = String::new();
    // Headers are sorted by name, and none is named like these.
    if block.port.is_some() || !block.gateways.is_empty() {
        // Writing into a string cannot fail.
        let _ = write!(text, "{:?} {:?} ", block.port, block.gateways);
    }
    let mut part = |name: &str, value: &StringMatch| {
        let _ = match value {
            StringMatch::Exact(value) => write!(text, "{name:?}={value:?} "),
            StringMatch::Prefix(value) => write!(text, "{name:?}^{value:?} "),
            StringMatch::Regex(value) => write!(text, "{name:?}~{:?} ", value.as_str()),
        };
    };
    if let Some(uri) = &block.uri {
        part(":uri", uri);
    }
    if let Some(method) = &block.method {
        part(":method", method);
    }
    for (name, value) in &block.headers {
        part(name, value);
    }
    if let Some(ClientMatch { present, subject, uri, dns, email }) = &block.client {
        for (name, value) in [(":subject", subject), (":san-uri", uri), (":dns", dns), (":email", email)] {
            if let Some(value) = value {
                part(name, value);
            }
        }
        let _ = write!(text, "client={present} ");
    }
    text
}
