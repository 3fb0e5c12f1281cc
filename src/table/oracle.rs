//! Tests of the whole table: its rules one by one, then against a naive walk over generated configurations.
//!
//! The walk shares nothing with the table but the model: hosts are compared as strings, rules are tried in order.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;

use super::testing::{Request, block, gateway, rule, server, service, text};
use super::{ListenerId, RoutingTable, Selection};
use crate::config::model::{
    ClientMatch, Cluster, Config, Endpoint, HostPattern, HttpMatch, HttpRoute, Origin, StringMatch,
    VirtualService,
};
use crate::tls::identity::ClientIdentity;
use crate::upstream::balance::Tried;

/// What a selection says, as text: `unknown`, `gateway: -` or `gateway: rule`.
fn outcome(selection: Selection<'_>) -> String {
    match selection {
        Selection::NoRoute { gateway } => format!("{}: -", gateway.name),
        Selection::Route { gateway, route } => {
            format!("{}: {}", gateway.name, route.name.as_deref().unwrap())
        }
        Selection::UnknownHost => "unknown".to_owned(),
    }
}

fn ask(table: &RoutingTable, host: &str, path: &str) -> String {
    outcome(table.select(ListenerId(0), &Request::get(path).host(host).facts()))
}

fn anything(name: &str) -> Vec<HttpRoute> {
    vec![rule(name, Vec::new())]
}

fn at(name: &str, path: &str) -> HttpRoute {
    rule(name, vec![block(path, "", &[])])
}

#[test]
fn hosts_of_servers_and_services_meet() {
    let config = Config {
        gateways: vec![
            gateway("wide", vec![server(80, &["*.example.com", "static.org"])]),
            gateway("narrow", vec![server(80, &["www.example.com", "*.api.example.com"])]),
        ],
        virtual_services: vec![
            service("all", &["*"], &[0], anything("all")),
            service("shop", &["shop.example.com"], &[0], anything("shop")),
            service("thief", &["www.example.com", "x.api.example.com"], &[0], anything("thief")),
            service("www", &["*.example.com"], &[1], anything("www")),
        ],
        ..Config::default()
    };
    let table = RoutingTable::build(&config, 1, 0);
    for (host, expected) in [
        ("static.org", "wide: all"),
        ("any.example.com", "wide: all"),
        // The service's own, more specific host; `all` has no part in it.
        ("shop.example.com", "wide: shop"),
        ("SHOP.example.com.:8080", "wide: shop"),
        // Claimed by `narrow`, so a service of `wide` cannot take them.
        ("www.example.com", "narrow: www"),
        ("x.api.example.com", "narrow: www"),
        ("x.www.example.com", "wide: all"),
        ("api.example.com", "wide: all"),
        ("example.com", "unknown"),
        ("other.org", "unknown"),
        ("", "unknown"),
        ("shop.example.com:http", "unknown"),
    ] {
        assert_eq!(ask(&table, host, "/"), expected, "{host}");
        let name = table.host(ListenerId(0), host.as_bytes()).map_or("unknown", |host| &host.gateway.name);
        assert!(expected.starts_with(name), "{host}");
    }
    assert_eq!(&*table.listener_gateway(ListenerId(0)).name, "wide");
}

#[test]
fn a_virtual_host_without_a_match_does_not_fall_back() {
    let config = Config {
        gateways: vec![gateway("edge", vec![server(80, &["*", "claimed.org"])])],
        virtual_services: vec![
            service("rest", &["*.example.com"], &[0], anything("rest")),
            service("www", &["www.example.com"], &[0], vec![at("api", "^/api")]),
        ],
        ..Config::default()
    };
    let table = RoutingTable::build(&config, 1, 0);
    assert_eq!(ask(&table, "www.example.com", "/api/1"), "edge: api");
    assert_eq!(ask(&table, "www.example.com", "/"), "edge: -");
    assert_eq!(ask(&table, "a.example.com", "/"), "edge: rest");
    // Claimed by a server, routed by nobody.
    assert_eq!(ask(&table, "claimed.org", "/"), "edge: -");
    assert_eq!(ask(&table, "other.org", "/"), "edge: -");
}

#[test]
fn services_that_share_a_host_merge_in_order() {
    let config = Config {
        gateways: vec![gateway("edge", vec![server(80, &["example.com"])])],
        virtual_services: vec![
            service("first", &["example.com"], &[0], vec![at("a", "=/a"), at("b", "^/b")]),
            service("elsewhere", &["example.com"], &[], anything("elsewhere")),
            service("second", &["*", "example.com"], &[0], vec![at("a2", "=/a"), at("any", "^/")]),
        ],
        ..Config::default()
    };
    let table = RoutingTable::build(&config, 1, 0);
    for (path, expected) in [("/a", "a"), ("/a/", "any"), ("/b/c", "b"), ("/c", "any"), ("*", "-")] {
        assert_eq!(ask(&table, "example.com", path), format!("edge: {expected}"), "{path}");
    }
}

#[test]
fn an_unknown_listener_has_no_hosts_and_trusts_nobody() {
    let table = RoutingTable::build(&Config::default(), 1, 0);
    let facts = Request::get("/");
    assert!(matches!(table.select(ListenerId(7), &facts.facts()), Selection::UnknownHost));
    assert!(table.host(ListenerId(7), b"example.com").is_none());
    assert!(!table.listener_gateway(ListenerId(7)).is_trusted([127, 0, 0, 1].into()));
}

#[test]
fn ten_thousand_rules_of_one_host_keep_their_order() {
    // Exact and prefix paths of every sort, and the same path several times.
    let mut rules: Vec<_> = (0..10_000)
        .map(|at| {
            let kind = if at % 2 == 0 { '=' } else { '^' };
            let tail = if at % 3 == 0 { "/tail" } else { "" };
            rule(&format!("r{at}"), vec![block(&format!("{kind}/section/{}{tail}", at % 4_000), "", &[])])
        })
        .collect();
    rules.push(at("last", "^/"));
    let config = Config {
        gateways: vec![gateway("edge", vec![server(80, &["*"])])],
        virtual_services: vec![service("one", &["*"], &[0], rules)],
        ..Config::default()
    };
    let table = RoutingTable::build(&config, 1, 0);
    for path in
        (0..4_100).flat_map(|at| ["", "/tail", "/x"].map(|tail| format!("/section/{at}{tail}"))).step_by(13)
    {
        let request = Request::get(&path).host("example.com");
        assert_eq!(
            outcome(table.select(ListenerId(0), &request.facts())),
            walk(&config, 80, &request),
            "{path}"
        );
    }
}

#[test]
fn tables_of_shards_are_apart_in_rotors_only() {
    fn sendable<T: Send>(value: T) -> T {
        value
    }
    let mut split = anything("split");
    split[0].route = vec![
        crate::config::model::Destination { cluster: 0, weight: 1 },
        crate::config::model::Destination { cluster: 1, weight: 1 },
    ];
    let endpoint = |port| Endpoint { address: ([127, 0, 0, 1], port).into(), weight: 1 };
    let cluster = |name: &str| Cluster {
        name: name.into(),
        endpoints: (1..=3).map(endpoint).collect(),
        tls: None,
        connect_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        idle_connections_max: 8,
        first_byte_timeout: Duration::from_secs(60),
        body_gap_timeout: Duration::from_secs(30),
        tcp_idle_timeout: Duration::from_secs(30),
        connection_duration_max: None,
        proxy_protocol: None,
        origin: Origin::default(),
    };
    let config = Config {
        gateways: vec![gateway("edge", vec![server(80, &["*"])])],
        virtual_services: vec![service("one", &["*"], &[0], split)],
        clusters: vec![cluster("a"), cluster("b")],
        ..Config::default()
    };
    let first = sendable(RoutingTable::build(&config, 4, 0));
    for shard in 0..6 {
        let picks = |table: &RoutingTable| {
            let Selection::Route { route, .. } = table.select(ListenerId(0), &Request::get("/").facts())
            else {
                panic!("no route");
            };
            (route.pick_cluster(), table.clusters()[1].rotor.pick(&Tried::new()))
        };
        let expected = ((4 + shard) % 2, Some((4 + shard) % 3));
        assert_eq!(picks(&RoutingTable::build(&config, 4, shard)), expected);
        assert_eq!(picks(&first.for_shard(shard)), expected);
    }
    assert_eq!(first.clusters()[0].endpoints[2].address.port(), 3);
}

/// A host pattern as text and whether it is a wildcard: `*.a` is (`.a`, true), `*` is (``, true).
pub(super) type Plain = (String, bool);

pub(super) fn plain(host: &HostPattern) -> Plain {
    match host {
        HostPattern::Any => (String::new(), true),
        HostPattern::Exact(host) => (host.trim_matches(['[', ']']).to_owned(), false),
        HostPattern::Suffix(suffix) => (suffix.to_string(), true),
    }
}

pub(super) fn covers(wide: &Plain, narrow: &Plain) -> bool {
    wide == narrow
        || (wide.1
            && narrow.0.ends_with(&wide.0)
            && (narrow.1 || wide.0.is_empty() || narrow.0.len() > wide.0.len()))
}

/// The most specific of the patterns that cover a host or pattern.
pub(super) fn most_specific<'p, T>(patterns: &'p [(Plain, T)], narrow: &Plain) -> Option<&'p (Plain, T)> {
    let mut best: Option<&(Plain, T)> = None;
    for pattern in patterns.iter().filter(|(wide, _)| covers(wide, narrow)) {
        if best.is_none_or(|best| covers(&best.0, &pattern.0) && best.0 != pattern.0) {
            best = Some(pattern);
        }
    }
    best
}

/// What the table should answer on the listener of `port`.
fn walk(config: &Config, port: u16, request: &Request) -> String {
    let mut host = request.authority.to_ascii_lowercase();
    if let Some(rest) = host.strip_prefix('[') {
        host = rest.split(']').next().unwrap().to_owned();
    } else if let Some((name, _)) = host.split_once(':') {
        host = name.to_owned();
    }
    let host = (host.strip_suffix('.').unwrap_or(&host).to_owned(), false);

    let mut claims = Vec::new();
    for (index, gateway) in config.gateways.iter().enumerate() {
        for server in gateway.servers.iter().filter(|server| server.port == port) {
            claims.extend(server.hosts.iter().map(|host| (plain(host), index)));
        }
    }
    let mut meetings: Vec<(Plain, Vec<usize>)> =
        claims.iter().map(|(claim, _)| (claim.clone(), vec![])).collect();
    let with_rules = |service: &&VirtualService| !service.http.is_empty();
    for (index, service) in
        config.virtual_services.iter().enumerate().filter(|(_, service)| with_rules(service))
    {
        for (claim, wanted) in
            service.hosts.iter().flat_map(|host| claims.iter().map(move |claim| (claim, host)))
        {
            let wanted = plain(wanted);
            let meeting = if covers(&claim.0, &wanted) { &wanted } else { &claim.0 };
            let owner = most_specific(&claims, meeting).unwrap();
            if covers(&wanted, meeting) && covers(&claim.0, meeting) && service.gateways.contains(&owner.1) {
                match meetings.iter_mut().find(|(pattern, _)| pattern == meeting) {
                    Some((_, services)) => services.push(index),
                    None => meetings.push((meeting.clone(), vec![index])),
                }
            }
        }
    }
    let Some((pattern, services)) = most_specific(&meetings, &host) else { return "unknown".to_owned() };
    let gateway = &config.gateways[most_specific(&claims, pattern).unwrap().1].name;
    for (index, service) in config.virtual_services.iter().enumerate() {
        if services.contains(&index) {
            for rule in &service.http {
                if rule.matches.is_empty() || rule.matches.iter().any(|block| holds(block, request)) {
                    return format!("{gateway}: {}", rule.name.as_deref().unwrap());
                }
            }
        }
    }
    format!("{gateway}: -")
}

fn holds(block: &HttpMatch, request: &Request) -> bool {
    let facts = request.facts();
    let text = |text: &StringMatch, value: &[u8]| match text {
        StringMatch::Exact(text) => value == text.as_bytes(),
        StringMatch::Prefix(text) => value.starts_with(text.as_bytes()),
        StringMatch::Regex(regex) => regex.is_match(value),
    };
    let client = |wanted: &ClientMatch| {
        let Some(client) = facts.client else { return !wanted.present };
        let holds = |asked: &Option<StringMatch>, name: &str| {
            asked.as_ref().is_none_or(|asked| text(asked, name.as_bytes()))
        };
        let some = |asked: &Option<StringMatch>, names: &[Box<str>]| {
            asked.is_none() || names.iter().any(|name| holds(asked, name))
        };
        wanted.present
            && holds(&wanted.subject, &client.subject)
            && some(&wanted.uri, &client.uris)
            && some(&wanted.dns, &client.dns_names)
            && some(&wanted.email, &client.emails)
    };
    block.client.as_ref().is_none_or(client)
        && block.uri.as_ref().is_none_or(|uri| text(uri, facts.path))
        && block.method.as_ref().is_none_or(|method| text(method, facts.method))
        && block.headers.iter().all(|(name, wanted)| {
            let values: Vec<_> = facts
                .headers
                .iter()
                .filter(|header| header.name.of(facts.buffer).to_ascii_lowercase() == name.as_bytes())
                .map(|header| header.value.of(facts.buffer))
                .collect();
            !values.is_empty() && text(wanted, &values.join(&b','))
        })
}

const HOSTS: [&str; 12] =
    ["*", "*.a", "*.b.a", "*.c.b.a", "a", "b.a", "c.b.a", "d.c.b.a", "x.b.a", "*.x.b.a", "[::1]", "e.org"];
const PATHS: [&str; 14] = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/c",
    "/ab",
    "/b",
    "/section/one",
    "/section/one/1",
    "/section/one/2",
    "/section/two",
    "/section/",
    "",
    "*",
];
const VALUES: [&str; 5] = ["=1", "=1,2", "^1", "~[12]+", "~.*,2"];

fn block_strategy() -> impl Strategy<Value = HttpMatch> {
    let path = prop_oneof![
        4 => (select(&["=", "^"][..]), select(&PATHS[..])).prop_map(|(kind, path)| format!("{kind}{path}")),
        1 => select(&["~/a.*", "~.*one.*", "~/(a|b)", "~.*"][..]).prop_map(str::to_owned),
        1 => Just(String::new()),
    ];
    let method = prop_oneof![3 => Just(""), 1 => select(&["=GET", "=POST", "^P", "~(GET|PUT)"][..])];
    let headers = prop_oneof![
        3 => Just(vec![]),
        1 => prop::collection::vec((select(&["x-a", "x-b"][..]), select(&VALUES[..])), 1..3),
    ];
    (path, method, headers, client_match_strategy())
        .prop_map(|(path, method, headers, client)| HttpMatch { client, ..block(&path, method, &headers) })
}

fn client_match_strategy() -> impl Strategy<Value = Option<ClientMatch>> {
    let name = || prop_oneof![3 => Just(""), 1 => select(&["=1", "^1", "~.*2"][..])].prop_map(text);
    let names = (name(), name(), name(), name())
        .prop_map(|(subject, uri, dns, email)| Some(ClientMatch { present: true, subject, uri, dns, email }));
    prop_oneof![8 => Just(None), 1 => Just(Some(ClientMatch::default())), 2 => names]
}

fn client_strategy() -> impl Strategy<Value = Option<ClientIdentity>> {
    let name = || select(&["1", "12", "2", ""][..]).prop_map(Box::from);
    let names = || prop::collection::vec(name(), 0..3);
    let client = (name(), names(), names(), names()).prop_map(|(subject, uris, dns_names, emails)| {
        Some(ClientIdentity { subject, uris, dns_names, emails, element: "".into() })
    });
    prop_oneof![Just(None), client]
}

fn config_strategy() -> impl Strategy<Value = Config> {
    let hosts = || prop::collection::vec(select(&HOSTS[..]), 1..4);
    let servers = prop::collection::vec((select(&[80u16, 81][..]), hosts()), 1..3);
    let gateways = prop::collection::vec(servers, 1..4);
    let rules = prop::collection::vec(prop::collection::vec(block_strategy(), 0..3), 0..9);
    let services = prop::collection::vec((hosts(), prop::collection::vec(0usize..4, 0..3), rules), 0..6);
    (gateways, services).prop_map(|(gateways, services)| {
        let gateways: Vec<_> = gateways
            .iter()
            .enumerate()
            .map(|(at, servers)| {
                let servers = servers.iter().map(|(port, hosts)| server(*port, hosts)).collect();
                gateway(&format!("g{at}"), servers)
            })
            .collect();
        let virtual_services = services
            .into_iter()
            .enumerate()
            .map(|(at, (hosts, bound, rules))| {
                let bound: Vec<_> = bound.into_iter().map(|bound| bound % gateways.len()).collect();
                let rules = rules.into_iter().enumerate();
                let rules = rules.map(|(index, blocks)| rule(&format!("s{at}r{index}"), blocks)).collect();
                service(&format!("s{at}"), &hosts, &bound, rules)
            })
            .collect();
        Config { gateways, virtual_services, ..Config::default() }
    })
}

fn request_strategy() -> impl Strategy<Value = Request> {
    let host = prop_oneof![
        6 => select(&["a", "b.a", "c.b.a", "d.c.b.a", "x.b.a", "y.x.b.a", "z", "e.org", "q.d.c.b.a"][..]),
        1 => select(&["", "[::1]", "C.b.A"][..]),
    ];
    let tail = select(&["", "", ":80", ".", ".:8080"][..]);
    let path = prop_oneof![3 => select(&PATHS[..]).prop_map(str::to_owned), 1 => "(/|a|b|section|one){0,6}"];
    let method = select(&["GET", "POST", "PUT"][..]);
    let headers = prop::collection::vec(
        (select(&["x-a", "X-A", "x-b", "x-c"][..]), select(&["1", "2", "1,2", ""][..])),
        0..4,
    );
    (host, tail, path, method, headers, client_strategy()).prop_map(
        |(host, tail, path, method, headers, client)| {
            let tail =
                if host.starts_with('[') || host.is_empty() { tail.trim_start_matches('.') } else { tail };
            let mut request = Request::new(method, &path).host(&format!("{host}{tail}"));
            request.client = client;
            headers.into_iter().fold(request, |request, (name, value)| request.header(name, value))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_table_answers_as_a_walk_in_order_does(
        config in config_strategy(),
        requests in prop::collection::vec(request_strategy(), 40),
    ) {
        let table = RoutingTable::build(&config, 1, 0);
        for (listener, at) in (0..).zip(table.listeners()) {
            for request in &requests {
                let answer = outcome(table.select(ListenerId(listener), &request.facts()));
                prop_assert_eq!(answer, walk(&config, at.key.port, request), "{:?}", request);
            }
        }
    }

    #[test]
    fn no_authority_makes_a_lookup_fail(authority in prop::collection::vec(any::<u8>(), 0..300)) {
        let config = Config {
            gateways: vec![gateway("edge", vec![server(80, &["*.a", "*", "b"])])],
            virtual_services: vec![service("one", &["*"], &[0], anything("any"))],
            ..Config::default()
        };
        let table = RoutingTable::build(&config, 1, 0);
        let known = table.host(ListenerId(0), &authority).is_some();
        prop_assert!(known || authority.len() > 255 || authority.iter().any(|byte| b":[".contains(byte)));
    }
}
