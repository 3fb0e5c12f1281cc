//! Tests of routes for connections: one by one, then against a naive walk over generated configurations.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::select;

use super::oracle::{Plain, covers, most_specific, plain};
use super::testing::{gateway, pattern, rule, server, service};
use super::{Entry, ListenerId, RoutingTable, Sni};
use crate::config::model::{
    Config, Destination, L4Match, L4Route, Origin, Protocol, Server, ServerTls, TlsMode, TlsTerms,
    VirtualService,
};

const NOBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

fn passthrough(port: u16, hosts: &[&str]) -> Server {
    Server { protocol: Protocol::Tls, tls: Some(ServerTls::Passthrough), ..server(port, hosts) }
}

fn terminating(protocol: Protocol, port: u16, hosts: &[&str]) -> Server {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    let terms = TlsTerms {
        mode: TlsMode::Simple,
        config: Arc::new(config),
        clients: rustls::server::WebPkiClientVerifier::no_client_auth(),
        fingerprint: [0; 32],
        policy: [0; 32],
        settings: [0; 32],
        details: Vec::new(),
    };
    Server { protocol, tls: Some(ServerTls::Terminate(Arc::new(terms))), ..server(port, hosts) }
}

fn nets(nets: &[&str]) -> Vec<IpNet> {
    nets.iter().map(|net| net.parse().unwrap()).collect()
}

fn block(port: Option<u16>, names: &[&str], to: &[&str], from: &[&str]) -> L4Match {
    L4Match {
        port,
        sni_hosts: names.iter().map(|name| pattern(name)).collect(),
        destination_subnets: nets(to),
        source_subnets: nets(from),
        ..L4Match::default()
    }
}

/// A rule whose only destination tells it from others.
fn to(cluster: usize, matches: Vec<L4Match>) -> L4Route {
    L4Route { matches, route: vec![Destination { cluster, weight: 1 }], origin: Origin::default() }
}

fn names(cluster: usize, names: &[&str]) -> L4Route {
    to(cluster, vec![block(None, names, &[], &[])])
}

fn tls(name: &str, hosts: &[&str], gateways: &[usize], tls: Vec<L4Route>) -> VirtualService {
    VirtualService { tls, ..service(name, hosts, gateways, Vec::new()) }
}

/// `unknown`, `terminate`, or the cluster of the route.
fn ask(table: &RoutingTable, listener: u16, name: Option<&str>, from: IpAddr, to: IpAddr) -> String {
    match table.sni(ListenerId(listener), name) {
        Sni::Unknown => "unknown".to_owned(),
        Sni::Terminate { gateway, rules, .. } => {
            let route = table.l4_route(rules, from, || Some(to));
            let route = route.map_or_else(|| "-".to_owned(), |route| route.pick_cluster().to_string());
            format!("terminate {} {route}", gateway.name)
        }
        Sni::Passthrough { rules, .. } => table
            .l4_route(rules, from, || Some(to))
            .map_or_else(|| "-".to_owned(), |route| route.pick_cluster().to_string()),
    }
}

/// Two services by name, a wildcard, a default, and terminated hosts on one port.
#[test]
fn names_share_a_port() {
    let config = Config {
        gateways: vec![
            gateway("a", vec![passthrough(443, &["*.example.com", "one.org"]), passthrough(443, &["*"])]),
            gateway("b", vec![terminating(Protocol::Https, 443, &["www.example.com"])]),
            gateway("c", vec![terminating(Protocol::Tls, 443, &["mail.example.com"])]),
        ],
        virtual_services: vec![
            tls("exact", &["one.org"], &[0], vec![names(1, &["one.org"])]),
            tls(
                "wild",
                &["*.example.com"],
                &[0],
                vec![names(2, &["api.example.com", "*.api.example.com"]), names(3, &["*.example.com"])],
            ),
            tls("rest", &["*"], &[0], vec![names(4, &["*"])]),
            service("www", &["www.example.com"], &[1], vec![rule("www", Vec::new())]),
            VirtualService { tcp: vec![to(6, Vec::new())], ..tls("mail", &["*"], &[2], Vec::new()) },
        ],
        ..Config::default()
    };
    let table = RoutingTable::build(&config, 1, 0);
    assert_eq!(table.entry(ListenerId(0)), Entry::Tls);
    for (name, expected) in [
        (Some("one.org"), "1"),
        (Some("ONE.org"), "1"),
        (Some("two.org"), "4"),
        (Some("api.example.com"), "2"),
        (Some("v2.api.example.com"), "2"),
        (Some("a.b.example.com"), "3"),
        (Some("www.example.com"), "terminate b -"),
        (Some("mail.example.com"), "terminate c 6"),
        (None, "4"),
    ] {
        assert_eq!(ask(&table, 0, name, NOBODY, NOBODY), expected, "{name:?}");
    }
    let host = |name: &str| table.host(ListenerId(0), name.as_bytes()).unwrap();
    assert!(
        host("www.example.com").server.tls.as_ref().is_some_and(|tls| matches!(tls, ServerTls::Terminate(_)))
    );
    assert!(matches!(host("one.org").server.tls, Some(ServerTls::Passthrough)));
    let facts = super::testing::Request::get("/").host("www.example.com");
    assert!(table.route(&host("www.example.com"), &facts.facts()).is_some());
    assert!(table.route(&host("one.org"), &facts.facts()).is_none());
    let without_default = Config {
        gateways: vec![gateway("a", vec![passthrough(443, &["*.example.com"])])],
        ..Config::default()
    };
    let table = RoutingTable::build(&without_default, 1, 0);
    assert_eq!(ask(&table, 0, None, NOBODY, NOBODY), "unknown");
    assert_eq!(ask(&table, 0, Some("one.org"), NOBODY, NOBODY), "unknown");
    assert_eq!(ask(&table, 0, Some("a.example.com"), NOBODY, NOBODY), "-");
    assert_eq!(ask(&table, 9, Some("a.example.com"), NOBODY, NOBODY), "unknown");
}

/// The first rule wins, whatever is more specific; ports and subnets are conditions.
#[test]
fn the_first_rule_wins() {
    let rules = vec![
        to(1, vec![block(Some(444), &["*.a"], &[], &[])]),
        to(2, vec![block(None, &["x.a"], &["10.0.0.0/8"], &["192.0.2.0/24"])]),
        names(3, &["*.a"]),
        names(4, &["y.a"]),
    ];
    let config = Config {
        gateways: vec![gateway("g", vec![passthrough(443, &["*"]), passthrough(444, &["*"])])],
        virtual_services: vec![tls("s", &["*.a"], &[0], rules)],
        ..Config::default()
    };
    let table = RoutingTable::build(&config, 1, 0);
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    for (listener, name, from, to, expected) in [
        (0, "x.a", "192.0.2.9", "10.9.9.9", "2"),
        (0, "x.a", "::ffff:192.0.2.9", "::ffff:10.9.9.9", "2"),
        (0, "x.a", "192.0.2.9", "11.9.9.9", "3"),
        (0, "x.a", "192.0.3.9", "10.9.9.9", "3"),
        (0, "y.a", "192.0.2.9", "10.9.9.9", "3"),
        (1, "x.a", "192.0.2.9", "10.9.9.9", "1"),
        (1, "y.a", "192.0.2.9", "10.9.9.9", "1"),
        (1, "a", "192.0.2.9", "10.9.9.9", "-"),
    ] {
        assert_eq!(ask(&table, listener, Some(name), ip(from), ip(to)), expected, "{name} {from} {to}");
    }
}

/// A TCP listener has the `tcp` rules of all its virtual services, in order; destinations share by weight.
#[test]
fn tcp_rules() {
    let tcp = |port: u16| Server { protocol: Protocol::Tcp, ..server(port, &["*"]) };
    let weighted = L4Route {
        route: vec![Destination { cluster: 7, weight: 3 }, Destination { cluster: 8, weight: 1 }],
        ..to(0, vec![block(None, &[], &[], &["127.0.0.0/8"]), block(Some(5000), &[], &[], &[])])
    };
    let of = |name: &str, tcp| VirtualService { tcp, ..tls(name, &["*"], &[0], Vec::new()) };
    let config = Config {
        gateways: vec![gateway("g", vec![tcp(5000), tcp(6000)])],
        virtual_services: vec![of("one", vec![weighted]), of("two", vec![to(9, Vec::new())])],
        ..Config::default()
    };
    let first = RoutingTable::build(&config, 1, 0);
    let table = first.for_shard(3);
    assert_eq!(table.entry(ListenerId(1)), Entry::Tcp);
    let pick = |listener: u16, from: &str| {
        let rules = table.tcp(ListenerId(listener));
        table.l4_route(rules, from.parse().unwrap(), || None).unwrap().pick_cluster()
    };
    let picks: Vec<usize> = (0..8).map(|_| pick(0, "192.0.2.1")).collect();
    assert_eq!(picks.iter().filter(|pick| **pick == 7).count(), 6, "{picks:?}");
    assert_eq!(pick(1, "192.0.2.1"), 9);
    assert!([7, 8].contains(&pick(1, "127.0.0.1")));
    assert!(table.l4_route(table.tcp(ListenerId(7)), NOBODY, || None).is_none());
}

/// What the table should answer for a name on the listener of `port`.
fn walk(config: &Config, port: u16, name: Option<&str>, from: IpAddr) -> String {
    let mut claims = Vec::new();
    for (index, gateway) in config.gateways.iter().enumerate() {
        for server in gateway.servers.iter().filter(|server| server.port == port) {
            claims.extend(server.hosts.iter().map(|host| (plain(host), index)));
        }
    }
    let mut meetings: Vec<(Plain, Vec<usize>)> =
        claims.iter().map(|(claim, _)| (claim.clone(), vec![])).collect();
    for (index, service) in config.virtual_services.iter().enumerate() {
        for (claim, wanted) in
            service.hosts.iter().flat_map(|host| claims.iter().map(move |claim| (claim, plain(host))))
        {
            let meeting = if covers(&claim.0, &wanted) { &wanted } else { &claim.0 };
            let owner = most_specific(&claims, meeting).unwrap();
            let bound = service.gateways.contains(&owner.1) && !service.tls.is_empty();
            if covers(&wanted, meeting) && covers(&claim.0, meeting) && bound {
                match meetings.iter_mut().find(|(pattern, _)| pattern == meeting) {
                    Some((_, services)) => services.push(index),
                    None => meetings.push((meeting.clone(), vec![index])),
                }
            }
        }
    }
    // Without a name only `*` is meant.
    let host = name.map_or((String::new(), true), |name| (name.to_owned(), false));
    let Some((_, services)) = most_specific(&meetings, &host) else { return "unknown".to_owned() };
    let rules = config.virtual_services.iter().enumerate().filter(|(index, _)| services.contains(index));
    for rule in rules.flat_map(|(_, service)| &service.tls) {
        let holds = |block: &L4Match| {
            block.port.is_none_or(|wanted| wanted == port)
                && block.sni_hosts.iter().any(|sni| covers(&plain(sni), &host))
                && (block.source_subnets.is_empty()
                    || block.source_subnets.iter().any(|net| net.contains(&from)))
        };
        if rule.matches.iter().any(holds) {
            return rule.route[0].cluster.to_string();
        }
    }
    "-".to_owned()
}

const HOSTS: [&str; 10] = ["*", "*.a", "*.b.a", "*.c.b.a", "a", "b.a", "c.b.a", "d.c.b.a", "x.b.a", "e.org"];

fn config_strategy() -> impl Strategy<Value = Config> {
    let hosts = || prop::collection::vec(select(&HOSTS[..]), 1..4);
    let servers = prop::collection::vec((select(&[443u16, 444][..]), hosts()), 1..3);
    let gateways = prop::collection::vec(servers, 1..3);
    let port = select(&[None, None, Some(443u16), Some(444)][..]);
    let source = prop_oneof![2 => Just(&[][..]), 1 => Just(&["10.0.0.0/8"][..])];
    let blocks = prop::collection::vec((port, hosts(), source), 1..3);
    let rules = prop::collection::vec(blocks, 0..5);
    let services = prop::collection::vec((hosts(), prop::collection::vec(0usize..3, 1..3), rules), 0..5);
    (gateways, services).prop_map(|(gateways, services)| {
        let gateways: Vec<_> = gateways
            .iter()
            .map(|servers| {
                gateway("g", servers.iter().map(|(port, hosts)| passthrough(*port, hosts)).collect())
            })
            .collect();
        let mut cluster = 0;
        let mut virtual_services = Vec::new();
        for (hosts, bound, rules) in services {
            let bound: Vec<_> = bound.into_iter().map(|bound| bound % gateways.len()).collect();
            let patterns: Vec<Plain> = hosts.iter().map(|host| plain(&pattern(host))).collect();
            let rules = rules.into_iter().map(|blocks| {
                cluster += 1;
                let blocks = blocks.into_iter().map(|(port, mut names, source)| {
                    // Within the hosts, as the configuration demands.
                    names.retain(|name| patterns.iter().any(|host| covers(host, &plain(&pattern(name)))));
                    block(port, &names, &[], source)
                });
                to(cluster, blocks.collect())
            });
            let rules = rules.collect();
            virtual_services.push(tls("s", &hosts, &bound, rules));
        }
        Config { gateways, virtual_services, ..Config::default() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn names_are_answered_as_by_a_walk_in_order(config in config_strategy()) {
        let table = RoutingTable::build(&config, 1, 0);
        let names = ["a", "b.a", "c.b.a", "d.c.b.a", "x.b.a", "y.x.b.a", "z", "e.org", "q.d.c.b.a"];
        for (listener, at) in (0..).zip(table.listeners()) {
            for name in names.into_iter().map(Some).chain([None]) {
                for from in ["10.1.1.1", "192.0.2.1"] {
                    let from: IpAddr = from.parse().unwrap();
                    let answer = ask(&table, listener, name, from, NOBODY);
                    prop_assert_eq!(answer, walk(&config, at.key.port, name, from), "{:?} from {}", name, from);
                }
            }
        }
    }
}

/// Tens of thousands of names in one virtual service cost one look-up each.
#[test]
fn many_names() {
    let rules: Vec<L4Route> = (0..30_000).map(|n| names(n, &[&format!("n{n}.a")])).collect();
    let rules = rules.into_iter().chain([names(99_999, &["*.a"])]).collect();
    let config = Config {
        gateways: vec![gateway("g", vec![passthrough(443, &["*"])])],
        virtual_services: vec![tls("s", &["*.a"], &[0], rules)],
        ..Config::default()
    };
    let table = RoutingTable::build(&config, 1, 0);
    for n in [0, 1, 15_000, 29_999] {
        assert_eq!(ask(&table, 0, Some(&format!("n{n}.a")), NOBODY, NOBODY), n.to_string());
    }
    assert_eq!(ask(&table, 0, Some("other.a"), NOBODY, NOBODY), "99999");
    // A name's own list is its rule alone: what follows is never reached.
    let Sni::Passthrough { rules, .. } = table.sni(ListenerId(0), Some("n7.a")) else { panic!("no rules") };
    assert!(format!("{rules:?}").contains("count: 1"), "{rules:?}");
}
