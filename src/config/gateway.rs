//! `[[gateway]]` and `[[gateway.server]]`: from their tables to [`Gateway`].

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use crate::config::diagnostic::{Problem, visible};
use crate::config::drafts::{GatewayDraft, HostAt, name, read_hosts};
use crate::config::https;
use crate::config::model::{
    Backslashes, EscapedSlashes, Gateway, Limits, PathPolicy, Protocol, ProxyAccept, Server, Timeouts,
};
use crate::config::schema;
use crate::config::source::Place;
use crate::config::subnets;
use crate::config::tls::{self, Said};
use crate::config::tree::{Reader, Table};

/// A head lies in one buffer of at most 64 KiB, with room for the first bytes behind it.
const HEAD_BYTES_MAX: u32 = 60 * 1024;

/// The range of the timers of one exchange. Below 100 ms a single lost packet fires them.
pub(super) const TIMER_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(86_400);

/// The range of the timers of connections at rest.
pub(super) const IDLE_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(7 * 86_400);

/// Linger holds a socket only for a peer's last segments.
const LINGER_RANGE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// How long a peer may take for the PROXY protocol's header unless set: more than the second after which TCP sends a
/// first packet again, as section 2.1 of the protocol's text asks for.
const PROXY_TIMEOUT: Duration = Duration::from_secs(3);

/// As of the process.
const CONNECTIONS_MAX: u32 = 10_000_000;

const SERVERS_MAX: usize = 10_000;
const PROXIES_MAX: usize = 10_000;

/// Lowers one gateway.
pub(super) fn lower(reader: &mut Reader<'_>, table: &Table<'_>) -> GatewayDraft {
    let name = name(reader, table);
    let mut hosts = Vec::new();
    let mut servers = Vec::new();
    let mut places = Vec::new();
    for table in reader.tables(table, "server", &schema::SERVER, SERVERS_MAX) {
        let (server, server_hosts) = lower_server(reader, &table);
        reader.files.used_by(name.as_ref().map(|name| &name.value), servers.len());
        servers.push(server);
        hosts.push(server_hosts);
        places.push(reader.place(&table.span));
    }
    reader.missing_or_empty(table, "server", "at least one [[gateway.server]] below the gateway");
    GatewayDraft {
        place: name.as_ref().map_or_else(|| reader.place(&table.span), |name| name.place),
        hosts,
        server_places: places,
        gateway: Gateway {
            name: name.map_or_else(|| Arc::from(""), |name| name.value),
            servers,
            trusted_proxies: subnets::read(reader, table, "trusted_proxies", PROXIES_MAX),
            limits: limits(reader, table),
            timeouts: timeouts(reader, table),
            path: path(reader, table),
            origin: reader.origin(&table.span),
        },
    }
}

fn lower_server(reader: &mut Reader<'_>, table: &Table<'_>) -> (Server, Vec<HostAt>) {
    reader.missing(table, "port", "a TCP port, for example `port = 80`");
    reader.missing(table, "protocol", "`protocol = \"HTTP\"`");
    let protocols = [
        ("HTTP", Protocol::Http),
        ("HTTPS", Protocol::Https),
        ("TLS", Protocol::Tls),
        ("TCP", Protocol::Tcp),
    ];
    let protocol = reader.word(table, "protocol", &protocols, &["HTTP2", "GRPC", "MONGO"]);
    let hosts = read_hosts(reader, table, "`hosts = [\"*\"]`, or the names served on this port");
    let Said { tls, https_redirect, answer_plain_http } = tls::lower(reader, table, protocol, &hosts);
    let server = Server {
        port: port(reader, table).unwrap_or_default(),
        bind: bind(reader, table),
        freebind: reader.boolean(table, "freebind").unwrap_or_default(),
        protocol: protocol.unwrap_or(Protocol::Http),
        tls,
        https_redirect,
        hsts: https::hsts(reader, table, protocol),
        answer_plain_http,
        proxy_protocol: proxy_protocol(reader, table),
        hosts: hosts.iter().map(|host| host.value.clone()).collect(),
        origin: reader.origin(&table.span),
    };
    (server, hosts)
}

fn proxy_protocol(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<ProxyAccept> {
    let table = reader.child(table, "proxy_protocol", &schema::ACCEPT_PROXY)?;
    reader.missing_or_empty(
        &table,
        "from",
        "`from = [\"10.0.0.0/8\"]`, the proxies in front that send a header",
    );
    let mut from = subnets::read(reader, &table, "from", PROXIES_MAX);
    from.sort_unstable();
    from.dedup();
    let timeout = reader.duration(&table, "timeout", TIMER_RANGE).unwrap_or(PROXY_TIMEOUT);
    Some(ProxyAccept { from, timeout })
}

/// 0 lets the kernel choose.
fn port(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<u16> {
    let value = reader.any(table, "port")?;
    if let DeValue::Table(_) = value.value {
        let problem = Problem::error("wrong-type", value.place, "`port` is a table")
            .expected("an integer from 0 to 65535")
            .hint("Istio's `port` is written as two keys here: `port = 80` and `protocol = \"HTTP\"`");
        reader.push(problem);
        return None;
    }
    reader.integer(table, "port", 0..=65_535).and_then(|port| u16::try_from(port.value).ok())
}

fn bind(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<IpAddr> {
    let text = reader.string(table, "bind")?;
    let bare = text.value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.value.parse::<IpAddr>().ok(),
    };
    let Some(address) = address else {
        let shown = visible(text.value);
        let message = format!("`{shown}` is not an IP address");
        let hint = if text.value.starts_with("unix:") {
            Some("UNIX sockets are not yet supported")
        } else if text.value.contains(':') && bare.is_none() {
            Some("the port stands in `port`")
        } else {
            None
        };
        let problem = Problem::error("bad-address", text.place, message)
            .expected("`\"[::]\"` (every address), `\"0.0.0.0\"`, or one address of this host");
        reader.push(problem.hint_if(hint.map(str::to_owned)));
        return None;
    };
    // `[::]` is the default, both families on one socket.
    (address != IpAddr::V6(Ipv6Addr::UNSPECIFIED)).then_some(address)
}

fn limits(reader: &mut Reader<'_>, table: &Table<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(table) = reader.child(table, "limits", &schema::LIMITS) else { return limits };
    if let Some(bytes) = reader.number(&table, "head_bytes_max", 1024..=HEAD_BYTES_MAX) {
        limits.head_bytes_max = bytes;
    }
    if let Some(count) = reader.number(&table, "headers_max", 8..=1000) {
        limits.headers_max = count;
    }
    if let Some(count) = reader.number(&table, "requests_per_connection_max", 1..=1_000_000_000) {
        limits.requests_per_connection_max = count;
    }
    limits.connections_max = reader.number(&table, "connections_max", 1..=CONNECTIONS_MAX);
    match reader.integer(&table, "target_bytes_max", 256..=u64::from(HEAD_BYTES_MAX)) {
        Some(bytes) if bytes.value > u64::from(limits.head_bytes_max) => {
            let message = "`target_bytes_max` is larger than `head_bytes_max`, which includes the target";
            let expected = format!("at most {}", limits.head_bytes_max);
            reader.push(Problem::error("out-of-range", bytes.place, message).expected(expected));
        }
        Some(bytes) => limits.target_bytes_max = u32::try_from(bytes.value).unwrap_or(u32::MAX),
        // A head made smaller makes the default target smaller too.
        None => limits.target_bytes_max = limits.target_bytes_max.min(limits.head_bytes_max),
    }
    limits
}

fn timeouts(reader: &mut Reader<'_>, table: &Table<'_>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let Some(table) = reader.child(table, "timeouts", &schema::TIMEOUTS) else { return timeouts };
    let fields: [(&str, &mut Duration, RangeInclusive<Duration>); 7] = [
        ("header", &mut timeouts.header, TIMER_RANGE),
        ("body_gap", &mut timeouts.body_gap, TIMER_RANGE),
        ("write_gap", &mut timeouts.write_gap, TIMER_RANGE),
        ("keep_alive", &mut timeouts.keep_alive, IDLE_RANGE),
        ("tunnel_idle", &mut timeouts.tunnel_idle, IDLE_RANGE),
        ("linger", &mut timeouts.linger, LINGER_RANGE),
        ("handshake", &mut timeouts.handshake, TIMER_RANGE),
    ];
    for (key, field, range) in fields {
        if let Some(duration) = reader.duration(&table, key, range) {
            *field = duration;
        }
    }
    timeouts
}

fn path(reader: &mut Reader<'_>, table: &Table<'_>) -> PathPolicy {
    let mut policy = PathPolicy::default();
    let Some(table) = reader.child(table, "path", &schema::PATH) else { return policy };
    let escaped = [
        ("KEEP_UNCHANGED", EscapedSlashes::KeepUnchanged),
        ("REJECT_REQUEST", EscapedSlashes::RejectRequest),
        ("UNESCAPE_AND_FORWARD", EscapedSlashes::UnescapeAndForward),
    ];
    if let Some(action) = reader.word(&table, "escaped_slashes", &escaped, &["UNESCAPE_AND_REDIRECT"]) {
        policy.escaped_slashes = action;
    }
    let backslashes = [
        ("KEEP_UNCHANGED", Backslashes::KeepUnchanged),
        ("REJECT_REQUEST", Backslashes::RejectRequest),
        ("CONVERT_TO_SLASH", Backslashes::ConvertToSlash),
    ];
    if let Some(action) = reader.word(&table, "backslashes", &backslashes, &[]) {
        policy.backslashes = action;
    }
    if let Some(merge) = reader.boolean(&table, "merge_slashes") {
        policy.merge_slashes = merge;
    }
    policy
}

/// Where a server stands, for checks across servers.
pub(super) fn server_place(draft: &GatewayDraft, server: usize) -> Place {
    draft.server_places.get(server).copied().unwrap_or(draft.place)
}
