//! `[[service]]`: endpoints, subsets and the traffic policy, from their tables to [`ServiceDraft`].
//!
//! Istio spreads these over ServiceEntry and DestinationRule; names and values are its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use crate::config::diagnostic::{Problem, visible};
use crate::config::drafts::{EndpointDraft, Labels, ServiceDraft, SubsetDraft, name};
use crate::config::gateway::{IDLE_RANGE, TIMER_RANGE};
use crate::config::model::{Endpoint, ProxyVersion, UpstreamTls};
use crate::config::origination;
use crate::config::schema;
use crate::config::tree::{At, Reader, Table};

/// Endpoints of one service.
const ENDPOINTS_MAX: usize = 10_000;

/// Subsets of one service. With [`ENDPOINTS_MAX`] it bounds the work of matching labels.
const SUBSETS_MAX: usize = 1000;

/// Labels of one endpoint or subset.
const LABELS_MAX: usize = 64;

/// Weight of one endpoint; the sum over all endpoints of a service fits `u32`.
const WEIGHT_MAX: u32 = 65_535;

const ADDRESS_FORM: &str = "an IP address with a port: `10.0.0.1:8080` or `[2001:db8::1]:8080`";

/// The traffic policy of a service. The defaults are Istio's where Istio has one (connect 10 s, idle 1 h),
/// else what a careful HAProxy operator sets (`timeout server 60s`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ClusterPolicy {
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) idle_connections_max: u32,
    pub(super) first_byte_timeout: Duration,
    pub(super) body_gap_timeout: Duration,
    pub(super) tcp_idle_timeout: Duration,
    pub(super) connection_duration_max: Option<Duration>,
    pub(super) proxy_protocol: Option<ProxyVersion>,
}

impl Default for ClusterPolicy {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(3600),
            idle_connections_max: 256,
            first_byte_timeout: Duration::from_secs(60),
            body_gap_timeout: Duration::from_secs(60),
            tcp_idle_timeout: Duration::from_secs(3600),
            connection_duration_max: None,
            proxy_protocol: None,
        }
    }
}

/// Lowers one service.
pub(super) fn lower(reader: &mut Reader<'_>, table: &Table<'_>) -> ServiceDraft {
    let name = name(reader, table);
    let (subsets, subsets_incomplete) = subsets(reader, table);
    let (policy, tls) = policy(reader, table);
    ServiceDraft {
        place: name.as_ref().map_or_else(|| reader.place(&table.span), |name| name.place),
        name: name.map_or_else(|| Arc::from(""), |name| name.value),
        endpoints: endpoints(reader, table),
        subsets,
        subsets_incomplete,
        policy,
        tls,
        origin: reader.origin(&table.span),
    }
}

fn endpoints(reader: &mut Reader<'_>, table: &Table<'_>) -> Vec<EndpointDraft> {
    let mut endpoints = Vec::new();
    let mut seen = HashMap::new();
    for table in reader.tables(table, "endpoints", &schema::ENDPOINT, ENDPOINTS_MAX) {
        reader.missing(&table, "address", "`address = \"10.0.0.1:8080\"`");
        let weight = reader.number(&table, "weight", 0..=WEIGHT_MAX).unwrap_or(1);
        let labels = labels(reader, &table);
        let Some(address) = address(reader, &table) else { continue };
        if let Some(first) = seen.insert(address.value, address.place) {
            let message = format!("endpoint {} stands twice in the service", address.value);
            let problem = Problem::error("duplicate-endpoint", address.place, message);
            reader
                .push(problem.related(first, "first here").hint("give one entry a larger `weight` instead"));
        }
        endpoints.push(EndpointDraft { endpoint: Endpoint { address: address.value, weight }, labels });
    }
    reader.missing_or_empty(table, "endpoints", "at least one endpoint: `[{ address = \"10.0.0.1:8080\" }]`");
    endpoints
}

fn address(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<At<SocketAddr>> {
    let text = reader.string(table, "address")?;
    let problem = match text.value.parse::<SocketAddr>() {
        Ok(address) => match unusable(&address) {
            None => return Some(At { value: address, place: text.place }),
            Some(reason) => {
                let message = format!("endpoint `{}` {reason}", visible(text.value));
                Problem::error("bad-address", text.place, message).expected(ADDRESS_FORM)
            }
        },
        Err(_) => not_an_address(text),
    };
    reader.push(problem);
    None
}

/// Why nothing can listen at an address.
fn unusable(address: &SocketAddr) -> Option<&'static str> {
    let ip = address.ip();
    if address.port() == 0 {
        return Some("has port 0");
    }
    if ip.is_unspecified() {
        return Some("is the address of no host");
    }
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    (ip.is_multicast() || broadcast).then_some("is not the address of one host")
}

fn not_an_address(text: At<&str>) -> Problem {
    let shown = visible(text.value);
    if text.value.starts_with("unix:") || text.value.starts_with('/') {
        let message = format!("endpoint `{shown}`: UNIX sockets are not yet supported");
        return Problem::error("not-supported", text.place, message).expected(ADDRESS_FORM);
    }
    let problem =
        Problem::error("bad-address", text.place, format!("`{shown}` is not an endpoint's address"))
            .expected(ADDRESS_FORM);
    let (host, port) = text.value.rsplit_once(':').unwrap_or((text.value, ""));
    if host.contains(':') && !host.starts_with('[') {
        return problem.hint("an IPv6 address with a port stands in brackets: `[2001:db8::1]:8080`");
    }
    if let Ok(ip) = text.value.trim_matches(['[', ']']).parse::<IpAddr>() {
        let example = SocketAddr::new(ip, 8080);
        return problem.hint(format!("the port is missing: `{example}`"));
    }
    let is_name = host.bytes().any(|byte| byte.is_ascii_alphabetic())
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && port.bytes().all(|byte| byte.is_ascii_digit());
    if is_name {
        let message = format!("endpoint `{shown}`: DNS names are not yet supported");
        return Problem::error("not-supported", text.place, message).expected(ADDRESS_FORM);
    }
    problem
}

fn subsets(reader: &mut Reader<'_>, table: &Table<'_>) -> (Vec<SubsetDraft>, bool) {
    let mut incomplete = false;
    let mut subsets: Vec<SubsetDraft> = Vec::new();
    let mut seen = HashMap::new();
    for table in reader.tables(table, "subsets", &schema::SUBSET, SUBSETS_MAX) {
        let name = name(reader, &table);
        let labels = labels(reader, &table);
        let policy = reader.child(&table, "traffic_policy", &schema::SUBSET_POLICY);
        let tls = policy.and_then(|policy| origination::lower(reader, &policy));
        let Some(name) = name else {
            incomplete = true;
            continue;
        };
        if let Some(first) = seen.insert(Arc::clone(&name.value), name.place) {
            let message = format!("subset `{}` stands twice in the service", name.value);
            let problem = Problem::error("duplicate-name", name.place, message);
            reader.push(problem.related(first, "first here"));
            continue;
        }
        subsets.push(SubsetDraft { name: name.value, place: name.place, labels, tls });
    }
    (subsets, incomplete)
}

fn labels(reader: &mut Reader<'_>, table: &Table<'_>) -> Labels {
    let mut labels = Labels::new();
    let pairs = reader.pairs(table, "labels");
    if let Some((name, _)) = pairs.get(LABELS_MAX) {
        let problem = Problem::error("out-of-range", name.place, format!("there are {} labels", pairs.len()));
        reader.push(problem.expected(format!("at most {LABELS_MAX}")));
    }
    for (name, value) in pairs.into_iter().take(LABELS_MAX) {
        match value.get_ref() {
            DeValue::String(text) => labels.push((Box::from(name.value), Box::from(text.as_ref()))),
            _ => {
                reader.wrong_type::<()>(name.value, value, "a string", Some("put it in quotes".to_owned()));
            }
        }
    }
    labels.sort_unstable();
    labels
}

fn policy(reader: &mut Reader<'_>, table: &Table<'_>) -> (ClusterPolicy, Option<Arc<UpstreamTls>>) {
    let Some(table) = reader.child(table, "traffic_policy", &schema::TRAFFIC_POLICY) else {
        return (ClusterPolicy::default(), None);
    };
    if let Some(balancer) = reader.child(&table, "load_balancer", &schema::LOAD_BALANCER) {
        let later = ["LEAST_REQUEST", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "UNSPECIFIED"];
        reader.word(&balancer, "simple", &[("ROUND_ROBIN", ())], &later);
    }
    let tls = origination::lower(reader, &table).flatten();
    (connections(reader, &table), tls)
}

fn connections(reader: &mut Reader<'_>, table: &Table<'_>) -> ClusterPolicy {
    let mut policy = ClusterPolicy::default();
    if let Some(table) = reader.child(table, "proxy_protocol", &schema::SEND_PROXY) {
        let versions = [("V1", ProxyVersion::V1), ("V2", ProxyVersion::V2)];
        // Istio's default.
        policy.proxy_protocol =
            Some(reader.word(&table, "version", &versions, &[]).unwrap_or(ProxyVersion::V1));
    }
    let Some(pool) = reader.child(table, "connection_pool", &schema::CONNECTION_POOL) else { return policy };
    if let Some(tcp) = reader.child(&pool, "tcp", &schema::POOL_TCP) {
        if let Some(timeout) = reader.duration(&tcp, "connect_timeout", TIMER_RANGE) {
            policy.connect_timeout = timeout;
        }
        if let Some(timeout) = reader.duration(&tcp, "idle_timeout", IDLE_RANGE) {
            policy.tcp_idle_timeout = timeout;
        }
        policy.connection_duration_max = reader.duration(&tcp, "max_connection_duration", IDLE_RANGE);
    }
    let Some(http) = reader.child(&pool, "http", &schema::POOL_HTTP) else { return policy };
    if let Some(timeout) = reader.duration(&http, "idle_timeout", IDLE_RANGE) {
        policy.idle_timeout = timeout;
    }
    if let Some(count) = reader.number(&http, "idle_connections_max", 0..=65_536) {
        policy.idle_connections_max = count;
    }
    if let Some(timeout) = reader.duration(&http, "first_byte_timeout", TIMER_RANGE) {
        policy.first_byte_timeout = timeout;
    }
    if let Some(timeout) = reader.duration(&http, "body_gap_timeout", TIMER_RANGE) {
        policy.body_gap_timeout = timeout;
    }
    policy
}
