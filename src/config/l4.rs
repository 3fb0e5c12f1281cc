//! `[[virtual_service.tls]]` and `[[virtual_service.tcp]]`: rules for connections, from their tables to [`L4Route`].
//!
//! Istio's rules: of a `tls` rule every block names SNI hosts, and they lie within the virtual service's hosts; a `tcp`
//! rule without a `match` takes every connection.

use crate::config::claims::Served;
use crate::config::diagnostic::Problem;
use crate::config::drafts::{HostAt, RuleDraft, read_hosts_of};
use crate::config::host::show;
use crate::config::model::{HostPattern, L4Match, L4Route};
use crate::config::schema::{self, Schema};
use crate::config::subnets;
use crate::config::tree::{Reader, Table};
use crate::config::virtual_service::{
    MATCHES_MAX, RULES_MAX, Within, destinations, match_gateways, match_port,
};

/// Networks of one key of a block.
const SUBNETS_MAX: usize = 10_000;

/// Lowers the `tls` rules of a virtual service with these hosts and gateways; without the latter there may be more hosts,
/// too, which could not be read.
pub(super) fn lower_tls(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    hosts: &[HostAt],
    within: Within<'_>,
    drafts: &mut Vec<RuleDraft>,
) -> Vec<L4Route> {
    let served = Served::of(hosts.iter());
    let mut rules = Vec::new();
    for rule in reader.tables(table, "tls", &schema::TLS, RULES_MAX) {
        reader.missing_or_empty(&rule, "match", "`match = [{ sni_hosts = [\"www.example.com\"] }]`");
        rules.push(lower(reader, &rule, &schema::TLS_MATCH, within, drafts, |reader, block| {
            let names = read_hosts_of(reader, block, "sni_hosts", "`sni_hosts = [\"www.example.com\"]`");
            for name in &names {
                check_name(reader, name, within.is_some().then_some(&served));
            }
            names.into_iter().map(|name| name.value).collect()
        }));
    }
    rules
}

/// Lowers the `tcp` rules of a virtual service.
pub(super) fn lower_tcp(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    within: Within<'_>,
    drafts: &mut Vec<RuleDraft>,
) -> Vec<L4Route> {
    let rules = reader.tables(table, "tcp", &schema::TCP, RULES_MAX);
    rules
        .iter()
        .map(|rule| lower(reader, rule, &schema::TCP_MATCH, within, drafts, |_, _| Vec::new()))
        .collect()
}

fn lower(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    schema: &'static Schema,
    within: Within<'_>,
    drafts: &mut Vec<RuleDraft>,
    mut sni_hosts: impl FnMut(&mut Reader<'_>, &Table<'_>) -> Vec<HostPattern>,
) -> L4Route {
    let errors_before = reader.problems.errors();
    let mut matches = Vec::new();
    for block in reader.tables(table, "match", schema, MATCHES_MAX) {
        matches.push(L4Match {
            sni_hosts: sni_hosts(reader, &block),
            port: match_port(reader, &block),
            gateways: match_gateways(reader, &block, within),
            destination_subnets: subnets::read(reader, &block, "destination_subnets", SUBNETS_MAX),
            source_subnets: subnets::read(reader, &block, "source_subnets", SUBNETS_MAX),
            origin: reader.origin(&block.span),
        });
    }
    let broken = reader.problems.errors() > errors_before || table.means("match");
    let (destinations, lost) = destinations(reader, table);
    drafts.push(RuleDraft { place: reader.place(&table.span), destinations, lost, broken });
    L4Route { matches, route: Vec::new(), origin: reader.origin(&table.span) }
}

/// An SNI host that no connection could have is a mistake.
fn check_name(reader: &mut Reader<'_>, name: &HostAt, served: Option<&Served<'_>>) {
    let shown = show(&name.value);
    // RFC 6066 section 3.
    let address = matches!(&name.value, HostPattern::Exact(host) if is_address(host));
    if address {
        let message = format!("`{shown}` is an address: clients send only names as SNI");
        let problem = Problem::error("bad-host", name.place, message);
        reader.push(problem.expected("a name; for clients without SNI, `*`"));
    } else if served.is_some_and(|served| !served.covers(&name.value)) {
        let message = format!("SNI host `{shown}` is not within the hosts of the virtual service");
        let problem = Problem::error("sni-outside-hosts", name.place, message);
        reader.push(problem.expected("one of its `hosts`, or a name that a wildcard among them covers"));
    }
}

fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok()
}
