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

use std::cmp::Ordering;
use std::sync::Arc;

use hashbrown::HashMap;
use regex::bytes::Regex;

use super::RouteFacts;
use super::predicate::{Conditions, RegexId, TextMatch};
use super::texts::{Hasher, Texts};
use crate::config::model::{HttpMatch, HttpRoute, StringMatch};
use crate::message::Span;

/// The compiled rules of all hosts.
#[derive(Debug, Default)]
pub(super) struct PathIndex {
    nodes: Box<[Node]>,
    entries: Box<[Entry]>,
    conditions: Box<[Conditions]>,
    sets: Box<[RuleSet]>,
}

/// Index into the sets: the rules of one host, or of many hosts that have the same virtual services.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RuleSetId(pub(super) u32);

/// A path that exact or prefix entries name.
#[derive(Clone, Copy, Debug)]
struct Node {
    text: Span,
    /// First entry of each list, or [`NONE`].
    exact: u32,
    prefix: u32,
    /// The node of the longest shorter prefix that has prefix entries, or [`NONE`].
    shorter: u32,
}

/// A `match` block.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Position among the set's entries.
    order: u32,
    /// Index into the table's routes.
    route: u32,
    /// Index into the conditions, or [`NO_CONDITIONS`]; [`LAST`] is set on the last entry of its list.
    conditions: u32,
}

#[derive(Clone, Copy, Debug)]
struct RuleSet {
    first_node: u32,
    node_count: u32,
    /// First residual entry, or [`NONE`].
    residual: u32,
}

const NONE: u32 = u32::MAX;
const LAST: u32 = 1 << 31;
const NO_CONDITIONS: u32 = LAST - 1;

impl PathIndex {
    /// The route of the first rule that matches, an index into the table's routes.
    pub(super) fn find(
        &self,
        set: RuleSetId,
        texts: &[u8],
        request: &RouteFacts<'_>,
        regexes: &[Regex],
    ) -> Option<u32> {
        let set = self.sets.get(set.0 as usize)?;
        let first = set.first_node as usize;
        let nodes = self.nodes.get(first..first + set.node_count as usize)?;
        let mut best = Best { order: u32::MAX, route: None };
        let (at, common) = last_not_after(nodes, texts, request.path);
        if let Some(node) = at.checked_sub(1).and_then(|at| nodes.get(at)) {
            if common == node.text.len() && common == request.path.len() {
                self.scan(node.exact, &mut best, request, regexes);
            }
            let mut node = Some(node);
            while let Some(prefix) = node {
                // What `common` covers of the node's text, it covers of the shorter prefixes on the way up too.
                if prefix.text.len() <= common {
                    self.scan(prefix.prefix, &mut best, request, regexes);
                }
                node = self.nodes.get(prefix.shorter as usize);
            }
        }
        // Last, because regexes cost most and only those before the best entry need a look.
        self.scan(set.residual, &mut best, request, regexes);
        best.route
    }

    /// Takes the first entry of a list that matches, if it comes before the best one so far.
    #[inline]
    fn scan(&self, first: u32, best: &mut Best, request: &RouteFacts<'_>, regexes: &[Regex]) {
        if first == NONE {
            return;
        }
        for entry in self.entries.get(first as usize..).unwrap_or_default() {
            if entry.order >= best.order {
                return;
            }
            let id = entry.conditions & !LAST;
            let conditions = self.conditions.get(id as usize);
            if id == NO_CONDITIONS || conditions.is_some_and(|conditions| conditions.hold(request, regexes)) {
                *best = Best { order: entry.order, route: Some(entry.route) };
                return;
            }
            if entry.conditions & LAST != 0 {
                return;
            }
        }
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
    nodes: Vec<Node>,
    entries: Vec<Entry>,
    conditions: Vec<Conditions>,
    sets: Vec<RuleSet>,
    regexes: Vec<Arc<Regex>>,
    regex_ids: HashMap<*const Regex, RegexId, Hasher>,
    /// Kept for its memory.
    pending: Vec<Pending>,
}

/// An entry that is not in its list yet.
struct Pending {
    text: Span,
    place: Place,
    entry: Entry,
}

#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Place {
    Exact,
    Prefix,
    Residual,
}

impl PathIndexBuilder {
    /// Compiles rules in order, each with its index into the table's routes.
    pub(super) fn add_set<'c>(
        &mut self,
        rules: impl Iterator<Item = (u32, &'c HttpRoute)>,
        texts: &mut Texts,
    ) -> RuleSetId {
        let mut pending = std::mem::take(&mut self.pending);
        pending.clear();
        'rules: for (route, rule) in rules {
            let any = HttpMatch::default();
            let blocks =
                if rule.matches.is_empty() { std::slice::from_ref(&any) } else { rule.matches.as_slice() };
            for block in blocks {
                let order = pending.len() as u32;
                let block = self.block(block, order, route, texts);
                let catches_all = block.place == Place::Residual && block.entry.conditions == NO_CONDITIONS;
                pending.push(block);
                if catches_all {
                    break 'rules; // Nothing behind it can be reached.
                }
            }
        }
        let by_path = |left: &Pending, right: &Pending| {
            let residual = (left.place == Place::Residual).cmp(&(right.place == Place::Residual));
            let text = || left.text.of(texts.bytes()).cmp(right.text.of(texts.bytes()));
            residual
                .then_with(|| if left.text == right.text { Ordering::Equal } else { text() })
                .then(left.place.cmp(&right.place))
                .then(left.entry.order.cmp(&right.entry.order))
        };
        pending.sort_unstable_by(by_path);
        let id = RuleSetId(self.sets.len() as u32);
        let set = self.lay_out(&pending, texts);
        self.sets.push(set);
        self.pending = pending;
        id
    }

    /// The index, and the regexes it refers to.
    pub(super) fn finish(self) -> (PathIndex, Vec<Arc<Regex>>) {
        let index = PathIndex {
            nodes: self.nodes.into_boxed_slice(),
            entries: self.entries.into_boxed_slice(),
            conditions: self.conditions.into_boxed_slice(),
            sets: self.sets.into_boxed_slice(),
        };
        (index, self.regexes)
    }

    fn block(&mut self, block: &HttpMatch, order: u32, route: u32, texts: &mut Texts) -> Pending {
        let Self { conditions: all, regexes, regex_ids, .. } = self;
        let mut regex_id = |regex: &Arc<Regex>| {
            *regex_ids.entry(Arc::as_ptr(regex)).or_insert_with(|| {
                regexes.push(Arc::clone(regex));
                RegexId(regexes.len() as u32 - 1)
            })
        };
        let (place, text, path) = match &block.uri {
            Some(StringMatch::Exact(path)) => (Place::Exact, texts.intern(path), None),
            Some(StringMatch::Prefix(path)) => (Place::Prefix, texts.intern(path), None),
            Some(StringMatch::Regex(regex)) => (Place::Residual, Span::default(), Some(regex_id(regex))),
            None => (Place::Residual, Span::default(), None),
        };
        let conditions = Conditions {
            path,
            method: block.method.as_ref().map(|method| TextMatch::new(method, &mut regex_id)),
            headers: block
                .headers
                .iter()
                .map(|(name, text)| (Arc::clone(name), TextMatch::new(text, &mut regex_id)))
                .collect(),
        };
        let mut id = NO_CONDITIONS;
        if !conditions.is_empty() {
            id = all.len() as u32;
            all.push(conditions);
        }
        Pending { text, place, entry: Entry { order, route, conditions: id } }
    }

    /// Moves sorted entries into nodes and lists.
    fn lay_out(&mut self, pending: &[Pending], texts: &Texts) -> RuleSet {
        let first_node = self.nodes.len() as u32;
        let mut residual = NONE;
        // Nodes with prefix entries whose texts are prefixes of one another, the longest on top.
        let mut prefixes: Vec<u32> = Vec::new();
        for list in pending.chunk_by(|left, right| left.place == right.place && left.text == right.text) {
            let Some(head) = list.first() else { continue };
            let first = self.list(list);
            if head.place == Place::Residual {
                residual = first;
                continue;
            }
            let newest = self.nodes.len() as u32;
            let same = newest > first_node && self.nodes.last().is_some_and(|node| node.text == head.text);
            if !same {
                let text = head.text.of(texts.bytes());
                let is_prefix = |at: u32| {
                    self.nodes
                        .get(at as usize)
                        .is_some_and(|node| text.starts_with(node.text.of(texts.bytes())))
                };
                while prefixes.pop_if(|at| !is_prefix(*at)).is_some() {}
                let shorter = prefixes.last().copied().unwrap_or(NONE);
                self.nodes.push(Node { text: head.text, exact: NONE, prefix: NONE, shorter });
            }
            let at = self.nodes.len() as u32 - 1;
            if let Some(node) = self.nodes.last_mut() {
                if head.place == Place::Exact {
                    node.exact = first;
                } else {
                    node.prefix = first;
                    prefixes.push(at);
                }
            }
        }
        RuleSet { first_node, node_count: self.nodes.len() as u32 - first_node, residual }
    }

    /// Appends one list, up to the first entry that always matches, and returns where it starts.
    fn list(&mut self, list: &[Pending]) -> u32 {
        let first = self.entries.len() as u32;
        for pending in list {
            self.entries.push(pending.entry);
            if pending.entry.conditions == NO_CONDITIONS {
                break;
            }
        }
        if let Some(last) = self.entries.last_mut() {
            last.conditions |= LAST;
        }
        first
    }
}
