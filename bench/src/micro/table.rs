//! Operations on routing tables.

use std::hint::black_box;

use ringgate::config::model::{
    Cluster, Config, Destination, Endpoint, ForwardPath, Gateway, HostPattern, HttpMatch, HttpRoute, Limits,
    Origin, PathPolicy, Protocol, Server, StringMatch, Timeouts, VirtualService,
};
use ringgate::table::{ListenerId, RouteFacts, RoutingTable, Selection};

use super::cases::Operation;
use crate::random::Random;

/// Requests that an operation goes through in turn.
const REQUESTS: usize = 1 << 16;

/// One gateway with `hosts` virtual services of `routes` prefix rules each.
fn config(hosts: usize, routes: usize) -> Config {
    let origin = Origin::default();
    let route = |route: usize| HttpRoute {
        name: None,
        matches: vec![HttpMatch {
            uri: Some(StringMatch::Prefix(format!("/part-{route}/").into())),
            ..HttpMatch::default()
        }],
        route: vec![Destination { cluster: 0, weight: 1 }],
        forward_path: ForwardPath::Normalized,
        origin: Origin::default(),
    };
    let service = |host: usize| VirtualService {
        name: format!("service-{host}").into(),
        hosts: vec![HostPattern::Exact(name(host).into())],
        gateways: vec![0],
        tls: Vec::new(),
        tcp: Vec::new(),
        http: (0..routes).map(route).collect(),
        origin: Origin::default(),
    };
    Config {
        gateways: vec![Gateway {
            name: "edge".into(),
            servers: vec![Server {
                port: 80,
                bind: None,
                freebind: false,
                protocol: Protocol::Http,
                tls: None,
                https_redirect: None,
                hsts: None,
                answer_plain_http: false,
                proxy_protocol: None,
                hosts: vec![HostPattern::Any],
                origin: origin.clone(),
            }],
            trusted_proxies: Vec::new(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            path: PathPolicy::default(),
            origin: origin.clone(),
        }],
        virtual_services: (0..hosts).map(service).collect(),
        clusters: vec![Cluster {
            name: "origin".into(),
            endpoints: vec![Endpoint { address: ([127, 0, 0, 1], 9).into(), weight: 1 }],
            tls: None,
            connect_timeout: std::time::Duration::from_secs(1),
            idle_timeout: std::time::Duration::from_secs(1),
            idle_connections_max: 1,
            first_byte_timeout: std::time::Duration::from_secs(1),
            body_gap_timeout: std::time::Duration::from_secs(1),
            tcp_idle_timeout: std::time::Duration::from_secs(1),
            connection_duration_max: None,
            proxy_protocol: None,
            origin,
        }],
        ..Config::default()
    }
}

fn name(host: usize) -> String {
    format!("host-{host}.example.test")
}

/// Ranks of hosts: uniform, or Zipf-distributed with exponent 1 by inversion of its cumulative sums.
enum Popularity {
    Uniform,
    Zipf,
}

impl Popularity {
    fn ranks(&self, hosts: usize) -> Vec<usize> {
        let mut random = Random::new(7);
        match self {
            Self::Uniform => (0..REQUESTS).map(|_| random.below(hosts as u32) as usize).collect(),
            Self::Zipf => {
                let sums: Vec<f64> = (1..=hosts)
                    .scan(0.0, |sum, rank| {
                        *sum += 1.0 / rank as f64;
                        Some(*sum)
                    })
                    .collect();
                let total = sums.last().copied().unwrap_or(1.0);
                (0..REQUESTS).map(|_| sums.partition_point(|sum| *sum < random.share() * total)).collect()
            }
        }
    }
}

/// A table and the requests that go through it.
struct Traffic {
    table: RoutingTable,
    requests: Vec<(String, String)>,
    next: usize,
}

impl Traffic {
    /// `path` gives each request its path from its number.
    fn new(hosts: usize, routes: usize, popularity: &Popularity, path: impl Fn(usize) -> String) -> Self {
        let table = RoutingTable::build(&config(hosts, routes), 1, 0);
        let ranks = popularity.ranks(hosts);
        let requests = ranks.into_iter().enumerate().map(|(at, rank)| (name(rank), path(at))).collect();
        Self { table, requests, next: 0 }
    }

    fn select(mut self) -> Operation {
        Box::new(move || {
            let (authority, path) = &self.requests[self.next % REQUESTS];
            self.next += 1;
            let facts = RouteFacts {
                authority: authority.as_bytes(),
                path: path.as_bytes(),
                method: b"GET",
                headers: &[],
                buffer: &[],
                client: None,
            };
            let selection = self.table.select(ListenerId(0), black_box(&facts));
            assert!(matches!(selection, Selection::Route { .. }), "{authority}{path} has a route");
            black_box(selection);
        })
    }

    fn host(mut self) -> Operation {
        Box::new(move || {
            let (authority, _) = &self.requests[self.next % REQUESTS];
            self.next += 1;
            let host = self.table.host(ListenerId(0), black_box(authority.as_bytes()));
            assert!(host.is_some(), "{authority} is known");
        })
    }
}

pub(super) fn host_10() -> Operation {
    Traffic::new(10, 1, &Popularity::Uniform, |_| "/part-0/".into()).host()
}

pub(super) fn host_10_000() -> Operation {
    Traffic::new(10_000, 1, &Popularity::Uniform, |_| "/part-0/".into()).host()
}

pub(super) fn route_10_of_10() -> Operation {
    Traffic::new(10, 10, &Popularity::Uniform, |_| "/part-9/details".into()).select()
}

pub(super) fn route_1_000() -> Operation {
    Traffic::new(1, 1_000, &Popularity::Uniform, |at| format!("/part-{}/details", at * 7 % 1_000)).select()
}

pub(super) fn select_100_000_zipf() -> Operation {
    Traffic::new(100_000, 10, &Popularity::Zipf, |at| format!("/part-{}/details", at % 10)).select()
}

pub(super) fn select_100_000_uniform() -> Operation {
    Traffic::new(100_000, 10, &Popularity::Uniform, |at| format!("/part-{}/details", at % 10)).select()
}

fn build(hosts: usize) -> Operation {
    let config = config(hosts, 10);
    Box::new(move || {
        black_box(RoutingTable::build(black_box(&config), 1, 0));
    })
}

pub(super) fn build_1_000() -> Operation {
    build(1_000)
}

pub(super) fn build_10_000() -> Operation {
    build(10_000)
}
