//! `[[virtual_service]]` and `[[virtual_service.http]]`: from their tables to [`VirtualServiceDraft`]. The rules of
//! connections stand in `l4`.

use std::sync::Arc;

use crate::config::diagnostic::Problem;
use crate::config::drafts::{
    DestinationDraft, RuleDraft, VirtualServiceDraft, check_name, name, optional_name, read_hosts,
};
use crate::config::l4;
use crate::config::matching;
use crate::config::model::{ForwardPath, HttpMatch, HttpRoute, VirtualService};
use crate::config::schema;
use crate::config::source::Place;
use crate::config::tree::{At, Reader, Table};

pub(super) const RULES_MAX: usize = 100_000;
pub(super) const MATCHES_MAX: usize = 1000;
const GATEWAYS_MAX: usize = 10_000;

/// Destinations of one rule; with [`WEIGHT_MAX`] their sum fits `u32`.
const DESTINATIONS_MAX: usize = 1000;
const WEIGHT_MAX: u32 = 1_000_000;

/// Lowers one virtual service.
pub(super) fn lower(reader: &mut Reader<'_>, table: &Table<'_>) -> VirtualServiceDraft {
    let name = name(reader, table);
    let errors_before = reader.problems.errors();
    let hosts = read_hosts(reader, table, "`hosts = [\"www.example.com\"]`");
    let mut gateways = Vec::new();
    for text in reader.strings(table, "gateways", GATEWAYS_MAX) {
        if text.value == "mesh" {
            let problem =
                Problem::error("not-supported", text.place, "gateway `mesh`: ringgate has no sidecars");
            reader.push(problem.expected("the name of a [[gateway]]"));
        } else if check_name(reader, "gateway", text) {
            gateways.push(At { value: Arc::from(text.value), place: text.place });
        }
    }
    reader.missing_or_empty(table, "gateways", "`gateways = [\"..\"]`, the gateways that serve the hosts");
    let broken = reader.problems.errors() > errors_before;
    let mut http = Vec::new();
    let mut rules = Vec::new();
    let within = (!broken).then_some(gateways.as_slice());
    for rule in reader.tables(table, "http", &schema::HTTP, RULES_MAX) {
        let (route, draft) = lower_http(reader, &rule, within);
        http.push(route);
        rules.push(draft);
    }
    let tls = l4::lower_tls(reader, table, &hosts, within, &mut rules);
    let tcp = l4::lower_tcp(reader, table, within, &mut rules);
    if !["tls", "tcp"].iter().any(|key| table.has(key) || table.means(key)) {
        reader.missing_or_empty(
            table,
            "http",
            "at least one [[virtual_service.http]] (or .tls, .tcp) below the virtual service",
        );
    }
    VirtualServiceDraft {
        place: name.as_ref().map_or_else(|| reader.place(&table.span), |name| name.place),
        virtual_service: VirtualService {
            name: name.map_or_else(|| Arc::from(""), |name| name.value),
            hosts: Vec::new(),
            gateways: Vec::new(),
            http,
            tls,
            tcp,
            origin: reader.origin(&table.span),
        },
        hosts,
        gateways,
        broken,
        rules,
    }
}

/// The gateways of a virtual service; `None` where there may be more, which could not be read.
pub(super) type Within<'w> = Option<&'w [At<Arc<str>>]>;

/// The `gateways` of a `match` block, which are among those of the virtual service.
pub(super) fn match_gateways(
    reader: &mut Reader<'_>,
    block: &Table<'_>,
    within: Within<'_>,
) -> Vec<Arc<str>> {
    let mut gateways = Vec::new();
    for text in reader.strings(block, "gateways", GATEWAYS_MAX) {
        if !check_name(reader, "gateway", text) {
            continue;
        }
        let names = || within.unwrap_or_default().iter().map(|gateway| gateway.value.as_ref());
        if within.is_some() && !names().any(|name| name == text.value) {
            let message =
                format!("gateway `{}` is not among the gateways of the virtual service", text.value);
            let hint = reader.problems.did_you_mean(text.value, names());
            let problem = Problem::error("gateway-outside", text.place, message);
            reader.push(problem.expected("one of its `gateways`").hint_if(hint));
        }
        gateways.push(Arc::from(text.value));
    }
    if block.has("gateways") {
        reader.missing_or_empty(
            block,
            "gateways",
            "one of the virtual service's `gateways`, or no `gateways` here",
        );
    }
    gateways
}

/// The `port` of a `match` block.
pub(super) fn match_port(reader: &mut Reader<'_>, block: &Table<'_>) -> Option<u16> {
    reader.integer(block, "port", 1..=65_535).and_then(|port| u16::try_from(port.value).ok())
}

fn lower_http(reader: &mut Reader<'_>, table: &Table<'_>, within: Within<'_>) -> (HttpRoute, RuleDraft) {
    let name = optional_name(reader, table, "name").map(|name| name.value);
    let errors_before = reader.problems.errors();
    let matches = reader.tables(table, "match", &schema::MATCH, MATCHES_MAX);
    let matches = matches
        .iter()
        .map(|block| HttpMatch {
            port: match_port(reader, block),
            gateways: match_gateways(reader, block, within),
            ..matching::lower(reader, block)
        })
        .collect();
    let broken = reader.problems.errors() > errors_before || table.means("match");
    let forms = [("NORMALIZED", ForwardPath::Normalized), ("ORIGINAL", ForwardPath::Original)];
    let forward_path = reader.word(table, "forward_path", &forms, &[]).unwrap_or_default();
    let (destinations, lost) = destinations(reader, table);
    let origin = reader.origin(&table.span);
    let draft = RuleDraft { place: reader.place(&table.span), destinations, lost, broken };
    (HttpRoute { name, matches, route: Vec::new(), forward_path, origin }, draft)
}

/// What a rule may do instead of routing; none of it is built yet, which was said.
const INSTEAD_OF_ROUTE: [&str; 3] = ["redirect", "direct_response", "delegate"];

/// The destinations of a rule, and whether there are others that could not be read.
pub(super) fn destinations(reader: &mut Reader<'_>, table: &Table<'_>) -> (Vec<DestinationDraft>, bool) {
    let example = "`route = [{ destination = { host = \"..\" } }]`";
    let entries = reader.tables(table, "route", &schema::ROUTE, DESTINATIONS_MAX);
    let alone = entries.len() == 1;
    let mut destinations = Vec::with_capacity(entries.len());
    let mut sum = Some(0u32);
    for entry in &entries {
        reader.missing(entry, "destination", "`destination = { host = \"..\" }`");
        let weight = weight(reader, entry, alone);
        sum = sum.zip(weight).and_then(|(sum, weight)| sum.checked_add(weight));
        if let Some(destination) = destination(reader, entry, weight.unwrap_or(1)) {
            destinations.push(destination);
        }
    }
    if !INSTEAD_OF_ROUTE.iter().any(|key| table.has(key)) {
        reader.missing_or_empty(table, "route", example);
    }
    if sum == Some(0) && !entries.is_empty() {
        let place = route_place(reader, table);
        let problem = Problem::error("bad-weight", place, "the weights of the route sum to 0");
        reader.push(problem.expected("at least one destination with a positive `weight`"));
    }
    let lost = entries.is_empty() || destinations.len() < entries.len();
    (destinations, lost)
}

/// Istio: a lone destination without a weight takes everything. Of several, each needs its own.
fn weight(reader: &mut Reader<'_>, entry: &Table<'_>, alone: bool) -> Option<u32> {
    if alone && !entry.has("weight") {
        return Some(1);
    }
    reader.missing(entry, "weight", "a `weight` for each of several destinations");
    reader.number(entry, "weight", 0..=WEIGHT_MAX)
}

fn destination(reader: &mut Reader<'_>, entry: &Table<'_>, weight: u32) -> Option<DestinationDraft> {
    let table = reader.child(entry, "destination", &schema::DESTINATION)?;
    reader.missing(&table, "host", "`host = \"..\"`, the name of a [[service]]");
    let subset = optional_name(reader, &table, "subset");
    let host = optional_name(reader, &table, "host")?;
    Some(DestinationDraft { host, subset, weight })
}

fn route_place(reader: &Reader<'_>, table: &Table<'_>) -> Place {
    match reader.any(table, "route") {
        Some(route) => route.place,
        None => reader.place(&table.span),
    }
}
