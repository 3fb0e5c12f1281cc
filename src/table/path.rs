//! Finds the first rule of a host that matches a request, without walking the rules.
//!
//! The `match` blocks of a host's rules, in order, are its *entries*. Those with an exact or prefix path hang from
//! the node of that path; nodes are sorted by path, so one binary search finds the exact path and the longest
//! prefix, and from there each node knows the next shorter prefix. Entries with a regex or no path are the
//! *residual* list. Each list is in order and is left at the first entry that matches or comes after the best one
//! found so far: the smallest entry that matches wins, which is what a walk in order would find.
//!
//! A lookup costs O(log exact and prefix paths), plus the prefixes that the path has, plus the residual entries
//! before the match; entries that no request can reach are left out at build time. All sets lie in a few flat
//! arrays: compact, and quick to drop.

use std::sync::Arc;

use hashbrown::HashMap;
use regex::bytes::Regex;

use super::RouteFacts;
use super::predicate::{ClientCondition, Conditions, RegexId, TextMatch};
use super::texts::{Hasher, Texts};
use crate::config::model::{HttpMatch, HttpRoute, StringMatch};
use crate::message::Span;

/// The compiled rules of all hosts.
///
/// What one lookup reads lies close together, because with many hosts it is the memory's latency that counts: a node
/// holds its entry, and the texts of a set follow one another.
#[derive(Debug, Default)]
pub(super) struct PathIndex {
    nodes: Vec<Node>,
    /// Residual lists, and the lists of nodes that have several entries.
    entries: Vec<Entry>,
    conditions: Vec<Conditions>,
}

/// The rules of one host, or of many hosts that have the same virtual services.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RuleSet {
    first_node: u32,
    node_count: u32,
    /// First residual entry, or [`NONE`].
    residual: u32,
}

impl RuleSet {
    /// Matches nothing.
    pub(super) const EMPTY: Self = Self { first_node: 0, node_count: 0, residual: NONE };
}

/// A path that entries name, as exact or as prefix; where both occur the exact one's node comes second.
#[derive(Clone, Copy, Debug)]
struct Node {
    text: Span,
    /// The node of the longest prefix of `text` (or the same text, as prefix) that has prefix entries, or [`NONE`].
    shorter: u32,
    /// The node's only entry; with [`MANY`] its `route` is where the list of all starts.
    entry: Entry,
}

/// A `match` block.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Position among the set's entries.
    order: u32,
    /// Index into the table's routes.
    route: u32,
    /// Index into the conditions or [`NO_CONDITIONS`], and flags.
    conditions: u32,
}

const NONE: u32 = u32::MAX;
/// The last entry of its list.
const LAST: u32 = 1 << 31;
/// The node has several entries.
const MANY: u32 = 1 << 30;
/// The node's path is a prefix.
const PREFIX: u32 = 1 << 29;
const NO_CONDITIONS: u32 = PREFIX - 1;

impl PathIndex {
    /// The route of the first rule that matches, an index into the table's routes.
    pub(super) fn find(
        &self,
        set: RuleSet,
        texts: &[u8],
        request: &RouteFacts<'_>,
        regexes: &[Regex],
    ) -> Option<u32> {
        let first = set.first_node as usize;
        let nodes = self.nodes.get(first..first + set.node_count as usize)?;
        let mut best = Best { order: u32::MAX, route: None };
        let (at, common) = last_not_after(nodes, texts, request.path);
        let mut node = at.checked_sub(1).and_then(|at| nodes.get(at));
        while let Some(Node { text, shorter, entry }) = node {
            // What `common` covers of a node's text, it covers of the shorter prefixes on the way up too.
            let covers = text.len() <= common;
            if covers && (entry.conditions & PREFIX != 0 || text.len() == request.path.len()) {
                if entry.conditions & MANY != 0 {
                    self.scan(entry.route, &mut best, request, regexes);
                } else if entry.order < best.order && self.holds(entry, request, regexes) {
                    best = Best { order: entry.order, route: Some(entry.route) };
                }
            }
            node = self.nodes.get(*shorter as usize);
        }
        // Last, because regexes cost most and only those before the best entry need a look.
        self.scan(set.residual, &mut best, request, regexes);
        best.route
    }

    /// Takes the first entry of a list that matches, if it comes before the best one so far.
    fn scan(&self, first: u32, best: &mut Best, request: &RouteFacts<'_>, regexes: &[Regex]) {
        // NONE is beyond the entries.
        for entry in self.entries.get(first as usize..).unwrap_or_default() {
            if entry.order >= best.order {
                return;
            }
            if self.holds(entry, request, regexes) {
                *best = Best { order: entry.order, route: Some(entry.route) };
                return;
            }
            if entry.conditions & LAST != 0 {
                return;
            }
        }
    }

    #[inline]
    fn holds(&self, entry: &Entry, request: &RouteFacts<'_>, regexes: &[Regex]) -> bool {
        let id = entry.conditions & NO_CONDITIONS;
        id == NO_CONDITIONS
            || self.conditions.get(id as usize).is_some_and(|conditions| conditions.hold(request, regexes))
    }
}

struct Best {
    order: u32,
    route: Option<u32>,
}

/// How many of the sorted `nodes` are not after `path`, and how many bytes the last of these has in common with it.
fn last_not_after(nodes: &[Node], texts: &[u8], path: &[u8]) -> (usize, usize) {
    let (mut low, mut high) = (0, nodes.len());
    // Everything between two texts shares with `path` at least what both share with it: no need to compare that.
    let (mut low_common, mut high_common) = (0, 0);
    while low < high {
        let middle = low + (high - low) / 2;
        let Some(node) = nodes.get(middle) else { break };
        let text = node.text.of(texts);
        let common = common_prefix(text, path, low_common.min(high_common));
        let after = match (text.get(common), path.get(common)) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(text), Some(path)) => text > path,
        };
        if after {
            (high, high_common) = (middle, common);
        } else {
            (low, low_common) = (middle + 1, common);
        }
    }
    (low, low_common)
}

/// Length of the common prefix of two texts, of which the first `known` bytes are known to be common.
fn common_prefix(left: &[u8], right: &[u8], known: usize) -> usize {
    let (left_rest, right_rest) =
        (left.get(known..).unwrap_or_default(), right.get(known..).unwrap_or_default());
    let mut common = known;
    for (left, right) in left_rest.chunks_exact(8).zip(right_rest.chunks_exact(8)) {
        if left != right {
            break;
        }
        common += 8;
    }
    let (left_rest, right_rest) =
        (left.get(common..).unwrap_or_default(), right.get(common..).unwrap_or_default());
    common + left_rest.iter().zip(right_rest).take_while(|(left, right)| left == right).count()
}

/// Compiles rule sets.
#[derive(Default)]
pub(super) struct PathIndexBuilder {
    index: PathIndex,
    regexes: Vec<Arc<Regex>>,
    regex_ids: HashMap<*const Regex, RegexId, Hasher>,
}

/// An entry that is not in its place yet.
struct Pending<'c> {
    place: Place,
    text: &'c str,
    entry: Entry,
}

impl Pending<'_> {
    /// Residual entries last, the others by path; each list in order.
    fn key(&self) -> (bool, &str, Place, u32) {
        (self.place == Place::Residual, self.text, self.place, self.entry.order)
    }
}

#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Place {
    Prefix,
    Exact,
    Residual,
}

impl PathIndexBuilder {
    /// Compiles rules in order, each with its index into the table's routes, and of their blocks those that `admits` is
    /// for. Appends their paths to `texts`.
    pub(super) fn add_set<'c>(
        &mut self,
        rules: impl Iterator<Item = (u32, &'c HttpRoute)>,
        admits: impl Fn(&HttpMatch) -> bool,
        texts: &mut Texts,
    ) -> RuleSet {
        let any = HttpMatch::default();
        let mut pending: Vec<Pending<'_>> = Vec::with_capacity(rules.size_hint().0);
        'rules: for (route, rule) in rules {
            let blocks = if rule.matches.is_empty() { std::slice::from_ref(&any) } else { &rule.matches };
            for block in blocks.iter().filter(|block| admits(block)) {
                let (place, text, conditions) = self.block(block);
                let order = pending.len() as u32;
                pending.push(Pending { place, text, entry: Entry { order, route, conditions } });
                if place == Place::Residual && conditions == NO_CONDITIONS {
                    break 'rules; // It matches everything: nothing behind it can be reached.
                }
            }
        }
        pending.sort_unstable_by(|left, right| left.key().cmp(&right.key()));
        self.lay_out(&pending, texts)
    }

    /// The index, and the regexes it refers to.
    pub(super) fn finish(self) -> (PathIndex, Vec<Arc<Regex>>) {
        (self.index, self.regexes)
    }

    /// Where a block belongs, its path there, and its conditions.
    fn block<'c>(&mut self, block: &'c HttpMatch) -> (Place, &'c str, u32) {
        let Self { index, regexes, regex_ids } = self;
        let mut regex_id = |regex: &Arc<Regex>| {
            *regex_ids.entry(Arc::as_ptr(regex)).or_insert_with(|| {
                regexes.push(Arc::clone(regex));
                RegexId(regexes.len() as u32 - 1)
            })
        };
        let (place, text, path) = match &block.uri {
            Some(StringMatch::Exact(path)) => (Place::Exact, &**path, None),
            Some(StringMatch::Prefix(path)) => (Place::Prefix, &**path, None),
            Some(StringMatch::Regex(regex)) => (Place::Residual, "", Some(regex_id(regex))),
            None => (Place::Residual, "", None),
        };
        if path.is_none() && block.method.is_none() && block.headers.is_empty() && block.client.is_none() {
            return (place, text, NO_CONDITIONS);
        }
        let client =
            block.client.as_ref().map(|client| Box::new(ClientCondition::new(client, &mut regex_id)));
        index.conditions.push(Conditions {
            path,
            client,
            method: block.method.as_ref().map(|method| TextMatch::new(method, &mut regex_id)),
            headers: block
                .headers
                .iter()
                .map(|(name, text)| (Arc::clone(name), TextMatch::new(text, &mut regex_id)))
                .collect(),
        });
        (place, text, index.conditions.len() as u32 - 1)
    }

    /// Moves sorted entries into nodes and lists.
    fn lay_out(&mut self, pending: &[Pending<'_>], texts: &mut Texts) -> RuleSet {
        let nodes = self.index.nodes.len() as u32;
        let mut set = RuleSet { first_node: nodes, node_count: 0, residual: NONE };
        // Prefix nodes of which each is a prefix of the next, the longest last.
        let mut prefixes: Vec<(u32, &str)> = Vec::new();
        let mut last_text = ("", Span::default());
        for list in pending.chunk_by(|left, right| left.place == right.place && left.text == right.text) {
            let Some(&Pending { place, text, entry }) = list.first() else { continue };
            if place == Place::Residual {
                set.residual = self.list(list);
                continue;
            }
            while prefixes.pop_if(|(_, prefix)| !text.starts_with(*prefix)).is_some() {}
            let shorter = prefixes.last().map_or(NONE, |(at, _)| *at);
            let mut entry = entry;
            if list.len() > 1 && entry.conditions != NO_CONDITIONS {
                entry.conditions |= MANY;
                entry.route = self.list(list);
            }
            if place == Place::Prefix {
                entry.conditions |= PREFIX;
                prefixes.push((nodes + set.node_count, text));
            }
            if text != last_text.0 {
                last_text = (text, texts.add(text));
            }
            self.index.nodes.push(Node { text: last_text.1, shorter, entry });
            set.node_count += 1;
        }
        set
    }

    /// Appends one list, up to the first entry that always matches, and returns where it starts.
    fn list(&mut self, list: &[Pending<'_>]) -> u32 {
        let entries = &mut self.index.entries;
        let first = entries.len() as u32;
        for pending in list {
            entries.push(pending.entry);
            if pending.entry.conditions == NO_CONDITIONS {
                break;
            }
        }
        if let Some(last) = entries.last_mut() {
            last.conditions |= LAST;
        }
        first
    }
}
