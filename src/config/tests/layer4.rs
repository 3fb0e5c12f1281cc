//! Servers of protocols TCP and TLS, and rules for connections.

use std::time::Duration;

use super::{SERVICE, codes, config, load};
use crate::config::model::{HostPattern, Protocol, RuleKind};

fn server(port: u16, protocol: &str, hosts: &str) -> String {
    let tls = if protocol == "TLS" { "tls = { mode = \"PASSTHROUGH\" }\n" } else { "" };
    format!("[[gateway.server]]\nport = {port}\nprotocol = \"{protocol}\"\nhosts = [{hosts}]\n{tls}")
}

fn gateway(name: &str, servers: &[String]) -> String {
    format!("[[gateway]]\nname = \"{name}\"\n{}", servers.concat())
}

fn virtual_service(hosts: &str, rules: &str) -> String {
    format!("[[virtual_service]]\nname = \"vs\"\nhosts = [{hosts}]\ngateways = [\"edge\"]\n{rules}")
}

fn rule(kind: &str, conditions: &str) -> String {
    format!("[[virtual_service.{kind}]]\n{conditions}\nroute = [{{ destination = {{ host = \"web\" }} }}]\n")
}

/// What is written arrives.
#[test]
fn written_values() {
    let block = "match = [{ port = 443, sni_hosts = [\"A.b\", \"*.b\"], source_subnets = [\"10.1.2.3/8\"], \
        destination_subnets = [\"::1\"] }, { sni_hosts = [\"*.b\"] }]";
    let rules = rule("tls", block) + &rule("tcp", "") + &rule("http", "");
    let edge = gateway(
        "edge",
        &[server(443, "TLS", "\"*.b\""), server(90, "TCP", "\"*\""), server(80, "HTTP", "\"*\"")],
    );
    let edge = edge.replace("\"edge\"\n", "\"edge\"\ntimeouts = { handshake = \"3s\" }\n");
    let policy = "[service.traffic_policy]\nconnection_pool.tcp = { idle_timeout = \"5m\", \
        max_connection_duration = \"1h\" }\n";
    let config = config(&[&edge, &format!("{SERVICE}{policy}"), &virtual_service("\"*.b\"", &rules)]);
    let edge = &config.gateways[0];
    assert_eq!(edge.timeouts.handshake, Duration::from_secs(3));
    let protocols: Vec<_> = edge.servers.iter().map(|server| (server.protocol, server.rule_kind())).collect();
    assert_eq!(
        protocols,
        [(Protocol::Tls, RuleKind::Tls), (Protocol::Tcp, RuleKind::Tcp), (Protocol::Http, RuleKind::Http)]
    );
    let service = &config.virtual_services[0];
    let block = &service.tls[0].matches[0];
    assert_eq!(block.sni_hosts, [HostPattern::Exact("a.b".into()), HostPattern::Suffix(".b".into())]);
    assert_eq!((block.port, block.source_subnets[0].to_string()), (Some(443), "10.0.0.0/8".to_owned()));
    assert_eq!(block.destination_subnets[0].to_string(), "::1/128");
    assert!(service.tcp[0].matches.is_empty());
    for route in [&service.http[0].route, &service.tls[0].route, &service.tcp[0].route] {
        assert_eq!((route[0].cluster, route[0].weight), (0, 1));
    }
    let cluster = &config.clusters[0];
    assert_eq!(cluster.tcp_idle_timeout, Duration::from_secs(300));
    assert_eq!(cluster.connection_duration_max, Some(Duration::from_secs(3600)));
}

/// Which servers may share a port.
#[test]
fn protocols_share_ports() {
    for (first, second, clash) in [
        ("HTTP", "HTTP", false),
        ("TLS", "TLS", false),
        ("TCP", "TCP", true),
        ("HTTP", "TLS", true),
        ("TCP", "TLS", true),
        ("HTTP", "TCP", true),
    ] {
        let edge = gateway("edge", &[server(80, first, "\"a\"")]);
        let other = gateway("other", &[server(80, second, "\"b\"")]);
        let loaded = load(&[&edge, &other]);
        let clashes = codes(&loaded).iter().filter(|code| code.ends_with(":protocol-clash")).count();
        assert_eq!(clashes, usize::from(clash), "{first} {second}: {:?}", codes(&loaded));
        // Each server on port 0 has a port of its own.
        let free = load(&[&edge.replace("80", "0"), &other.replace("80", "0")]);
        assert!(free.config.is_some());
    }
}

/// SNI hosts lie within the hosts of the virtual service.
#[test]
fn sni_hosts_lie_within() {
    for (hosts, sni, within) in [
        ("\"a.b\"", "a.b", true),
        ("\"a.b\"", "c.b", false),
        ("\"*.b\"", "c.d.b", true),
        ("\"*.b\"", "b", false),
        ("\"*.b\"", "*.c.b", true),
        ("\"*.c.b\"", "*.b", false),
        ("\"*.b\"", "*", false),
        ("\"*\"", "*", true),
        ("\"a.b\", \"bad host\"", "c.b", true),
    ] {
        let rule = rule("tls", &format!("match = [{{ sni_hosts = [\"{sni}\"] }}]"));
        let loaded = load(&[
            &gateway("edge", &[server(443, "TLS", "\"*\"")]),
            SERVICE,
            &virtual_service(hosts, &rule),
        ]);
        let outside = codes(&loaded).iter().any(|code| code.ends_with(":sni-outside-hosts"));
        assert_eq!(outside, !within, "{hosts} {sni}: {:?}", codes(&loaded));
    }
}

/// Rules that no server goes by, and servers that no rule is for.
#[test]
fn kinds_that_do_not_meet() {
    let tls = rule("tls", "match = [{ sni_hosts = [\"a\"] }]");
    let cases: [(&[&str], String, &[&str]); 7] = [
        (&["TCP"], rule("http", ""), &["~3:unreached-server", "~3:unserved-host"]),
        (&["TLS"], rule("tcp", ""), &["~3:unreached-server", "~3:unserved-host"]),
        (&["TCP"], rule("tcp", ""), &[]),
        (&["TLS"], tls.clone(), &[]),
        (&["TLS"], tls.clone() + &rule("http", ""), &["~8:unserved-rules"]),
        (&["TLS", "HTTP"], tls.clone() + &rule("http", ""), &[]),
        (&["TLS", "TCP"], tls, &["~8:unreached-server"]),
    ];
    for (protocols, rules, expected) in cases {
        let servers: Vec<String> =
            protocols.iter().zip(80..).map(|(protocol, port)| server(port, protocol, "\"a\"")).collect();
        let loaded = load(&[&gateway("edge", &servers), SERVICE, &virtual_service("\"a\"", &rules)]);
        assert_eq!(codes(&loaded), expected, "{protocols:?} {rules}");
        assert!(loaded.config.is_some());
    }
}

/// Which rules are found unreachable behind which.
#[test]
fn finds_unreachable_rules() {
    let sni = |names: &str, more: &str| format!("match = [{{ sni_hosts = [{names}]{more} }}]");
    let port = |port: u16| format!("match = [{{ port = {port} }}]");
    let from = |net: &str| format!("match = [{{ source_subnets = [\"{net}\"] }}]");
    let cases: [(&str, Vec<String>, bool); 14] = [
        ("tcp", vec![String::new(), port(5)], true),
        ("tcp", vec!["match = [{}]".to_owned(), from("10.0.0.0/8")], true),
        ("tcp", vec![port(5), port(5)], true),
        ("tcp", vec![port(5), String::new()], false),
        ("tcp", vec![port(5), port(6)], false),
        ("tcp", vec![from("10.0.0.0/8"), from("10.0.0.0/8")], true),
        ("tcp", vec![from("10.0.0.0/8"), from("10.1.0.0/16")], false),
        ("tls", vec![sni("\"*.a\"", ""), sni("\"x.a\", \"y.z.a\"", "")], true),
        ("tls", vec![sni("\"*.a\"", ""), sni("\"a\"", "")], false),
        ("tls", vec![sni("\"x.a\"", ""), sni("\"*.a\"", "")], false),
        ("tls", vec![sni("\"x.a\"", ""), sni("\"y.a\"", ""), sni("\"x.a\", \"y.a\"", ", port = 5")], true),
        ("tls", vec![sni("\"x.a\"", ", port = 5"), sni("\"x.a\"", "")], false),
        ("tls", vec![sni("\"*\"", ""), sni("\"a\"", "")], true),
        ("tls", vec![sni("\"*\"", ", port = 5"), sni("\"a\"", ", port = 5")], true),
    ];
    for (kind, conditions, unreachable) in cases {
        let rules: String = conditions.iter().map(|conditions| rule(kind, conditions)).collect();
        let protocol = if kind == "tls" { "TLS" } else { "TCP" };
        let edge = gateway("edge", &[5, 6].map(|port| server(port, protocol, "\"*\"")));
        let loaded = load(&[&edge, SERVICE, &virtual_service("\"*\"", &rules)]);
        let line = 5 + 3 * (conditions.len() - 1);
        let expected = if unreachable { vec![format!("~{line}:unreachable-route")] } else { Vec::new() };
        assert_eq!(codes(&loaded), expected, "{conditions:?}");
    }
}
