//! What a valid file means, and checks across entries and files.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{GATEWAY, SERVICE, codes, config, load};
use crate::config::model::{
    AcceptBalance, AcceptSteering, Cores, Driver, EscapedSlashes, ForwardPath, HostPattern, Limits,
    PathPolicy, Process, StringMatch, Timeouts,
};

fn virtual_service(name: &str, host: &str, rules: &str) -> String {
    format!("[[virtual_service]]\nname = \"{name}\"\nhosts = [\"{host}\"]\ngateways = [\"edge\"]\n{rules}")
}

/// A rule with a match and the service `web` as its destination.
fn rule(conditions: &str) -> String {
    format!("[[virtual_service.http]]\n{conditions}\nroute = [{{ destination = {{ host = \"web\" }} }}]\n")
}

/// What is not written has its documented default.
#[test]
fn defaults() {
    let web = virtual_service("web", "*", &rule(""));
    let config = config(&[GATEWAY, SERVICE, &web]);
    assert_eq!(config.process, Process::default());
    let gateway = &config.gateways[0];
    assert_eq!((&gateway.limits, &gateway.timeouts), (&Limits::default(), &Timeouts::default()));
    assert_eq!(gateway.path, PathPolicy::default());
    assert!(gateway.trusted_proxies.is_empty());
    let server = &gateway.servers[0];
    assert_eq!((server.port, server.bind, server.freebind), (80, None, false));
    assert_eq!(server.hosts, [HostPattern::Any]);
    assert_eq!((server.origin.line, server.origin.column), (3, 1));
    let cluster = &config.clusters[0];
    assert_eq!(cluster.connect_timeout, Duration::from_secs(10));
    assert_eq!(cluster.idle_timeout, Duration::from_secs(3600));
    assert_eq!(cluster.first_byte_timeout, Duration::from_secs(60));
    assert_eq!(cluster.body_gap_timeout, Duration::from_secs(60));
    assert_eq!((cluster.idle_connections_max, cluster.endpoints[0].weight), (256, 1));
    let route = &config.virtual_services[0].http[0];
    assert_eq!((route.forward_path, route.route[0].weight), (ForwardPath::Normalized, 1));
    assert_eq!(config.virtual_services[0].origin.file.as_os_str(), "2.toml");
}

/// What is written arrives.
#[test]
fn written_values() {
    let process = "[process]\ncores = \"0-1\"\ndriver = \"epoll\"\nring_entries = 512\nconnections_max = 7\nbuffer_bytes_max = \"64MiB\"\n\
        accept_balance = \"off\"\naccept_steering = \"cpu\"\n";
    let gateway = "[[gateway]]\nname = \"edge\"\ntrusted_proxies = [\"10.1.2.3/8\", \"::1\"]\n\
        limits = { head_bytes_max = 8192 }\ntimeouts = { linger = \"100ms\" }\n\
        path = { escaped_slashes = \"UNESCAPE_AND_FORWARD\", merge_slashes = true }\n\
        [[gateway.server]]\nport = 0\nbind = \"127.0.0.1\"\nfreebind = true\n\
        protocol = \"HTTP\"\nhosts = [\"A.b.\"]\n";
    let rules = "[[virtual_service.http]]\nforward_path = \"ORIGINAL\"\n\
        match = [{ headers = { X-B = { exact = \"1\" }, x-a = { regex = \"a|b\" } }, \
        uri = { prefix = \"/a\" } }]\n\
        route = [{ destination = { host = \"web\" } }]\n";
    let policy = "[service.traffic_policy]\nconnection_pool.tcp.connect_timeout = \"1m30s\"\n";
    let service = virtual_service("web", "a.b", rules);
    let config = config(&[process, gateway, &service, &format!("{SERVICE}{policy}")]);
    assert_eq!(config.process.cores, Cores::List(vec![0, 1]));
    assert_eq!((config.process.driver, config.process.connections_max), (Driver::Epoll, 7));
    assert_eq!(config.process.ring_entries, 512);
    assert_eq!(config.process.buffer_bytes_max, 64 << 20);
    assert_eq!(config.process.accept_balance, AcceptBalance::Off);
    assert_eq!(config.process.accept_steering, AcceptSteering::Cpu);
    let gateway = &config.gateways[0];
    let proxies: Vec<String> = gateway.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "::1/128"]);
    assert_eq!((gateway.limits.head_bytes_max, gateway.limits.target_bytes_max), (8192, 8192));
    assert_eq!(gateway.timeouts.linger, Duration::from_millis(100));
    assert_eq!(gateway.path.escaped_slashes, EscapedSlashes::UnescapeAndForward);
    assert!(gateway.path.merge_slashes && gateway.servers[0].freebind);
    assert_eq!(gateway.servers[0].bind, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    assert_eq!(gateway.servers[0].hosts, [HostPattern::Exact("a.b".into())]);
    let route = &config.virtual_services[0].http[0];
    assert_eq!(route.forward_path, ForwardPath::Original);
    let block = &route.matches[0];
    assert_eq!(block.headers.iter().map(|(name, _)| name.as_ref()).collect::<Vec<_>>(), ["x-a", "x-b"]);
    assert!(matches!(&block.uri, Some(StringMatch::Prefix(prefix)) if prefix.as_ref() == "/a"));
    assert!(matches!(&block.headers[0].1, StringMatch::Regex(regex) if !regex.is_match(b"ab")));
    assert_eq!(config.clusters[0].connect_timeout, Duration::from_secs(90));
}

/// Each form of `cores` as written in a file.
#[test]
fn forms_of_cores() {
    for (text, cores) in [
        ("\"auto\"", Cores::Auto),
        ("\"all\"", Cores::All),
        ("3", Cores::Count(3)),
        ("\"3\"", Cores::Count(3)),
        ("\"3,1\"", Cores::List(vec![3, 1])),
        ("\"numa:0\"", Cores::Numa(vec![0])),
        ("\"numa:1,0\"", Cores::Numa(vec![1, 0])),
    ] {
        let config = config(&[
            &format!("[process]\ncores = {text}\n{GATEWAY}"),
            SERVICE,
            &virtual_service("web", "*", &rule("")),
        ]);
        assert_eq!(config.process.cores, cores, "{text}");
        // What is printed reads the same again.
        assert_eq!(crate::config::parse_cores(&cores.to_string()), Ok(cores));
    }
}

/// Only services and subsets that routes use become clusters, each once, in the order of use.
#[test]
fn makes_the_clusters_in_use() {
    let service = "[[service]]\nname = \"web\"\nendpoints = [\n\
        { address = \"10.0.0.1:1\", labels = { v = \"1\", zone = \"a\" } },\n\
        { address = \"10.0.0.2:1\", labels = { v = \"2\", zone = \"a\" } }]\n\
        subsets = [{ name = \"v1\", labels = { v = \"1\" } }, { name = \"v2\", labels = { v = \"2\" } },\n\
        { name = \"both\", labels = { zone = \"a\" } }, { name = \"unused\" }]\n\
        [[service]]\nname = \"unused\"\nendpoints = [{ address = \"10.0.0.3:1\" }]\n";
    let to =
        |subset: &str| format!("{{ destination = {{ host = \"web\", subset = \"{subset}\" }}, weight = 5 }}");
    let rules = format!(
        "[[virtual_service.http]]\nmatch = [{{ uri = {{ prefix = \"/a\" }} }}]\nroute = [{}, {}]\n\
         [[virtual_service.http]]\nroute = [{}, {}]\n",
        to("v2"),
        to("both"),
        to("v1"),
        to("v2")
    );
    let loaded = load(&[GATEWAY, service, &virtual_service("web", "*", &rules)]);
    assert_eq!(codes(&loaded), ["~9:unused-service"]);
    let config = loaded.config.unwrap();
    assert_eq!((config.services, config.endpoints), (2, 3));
    let clusters: Vec<_> =
        config.clusters.iter().map(|cluster| (cluster.name.as_ref(), cluster.endpoints.len())).collect();
    assert_eq!(clusters, [("web|v2", 1), ("web|both", 2), ("web|v1", 1)]);
    assert_eq!(config.clusters[0].endpoints[0].address.to_string(), "10.0.0.2:1");
    let http = &config.virtual_services[0].http;
    let indexes = |rule: usize| http[rule].route.iter().map(|to| to.cluster).collect::<Vec<_>>();
    assert_eq!((indexes(0), indexes(1)), (vec![0, 1], vec![2, 0]));
}

/// Names, hosts and `[process]` clash across files as they do within one, and both places are named.
#[test]
fn clashes_across_files() {
    let loaded = load(&["[process]\n", GATEWAY, GATEWAY, "[process]\n", SERVICE, SERVICE]);
    let mut clashes = Vec::new();
    for diagnostic in &loaded.diagnostics {
        let file = |path: &std::path::Path| path.display().to_string();
        let Some(related) = diagnostic.related.first() else { continue };
        clashes.push((diagnostic.code, file(&diagnostic.location.file), file(&related.location.file)));
    }
    let expected = [
        ("duplicate-name", "2.toml", "1.toml"),
        ("duplicate-host", "2.toml", "1.toml"),
        ("duplicate-process", "3.toml", "0.toml"),
        ("duplicate-name", "5.toml", "4.toml"),
    ];
    assert_eq!(clashes, expected.map(|(code, at, first)| (code, at.to_owned(), first.to_owned())));
}

/// Servers on port 0 get ports of their own, and other addresses are other listeners: no clash.
#[test]
fn hosts_clash_only_on_one_address() {
    let server = |port: u16, bind: &str| {
        format!(
            "[[gateway.server]]\nport = {port}\nbind = \"{bind}\"\nprotocol = \"HTTP\"\nhosts = [\"a\"]\n"
        )
    };
    let gateway = |servers: &[String]| format!("[[gateway]]\nname = \"edge\"\n{}", servers.concat());
    let web = virtual_service("web", "*", &rule(""));
    let rest = [SERVICE, web.as_str()].concat();
    config(&[&gateway(&[server(0, "[::]"), server(0, "[::]")]), &rest]);
    let servers = [server(80, "[::]"), server(80, "0.0.0.0"), server(80, "::1"), server(81, "::")];
    config(&[&gateway(&servers), &rest]);
    let loaded = load(&[&gateway(&[server(80, "[::]"), server(80, "::")]), &rest]);
    assert_eq!(codes(&loaded), ["12:duplicate-host"]);
    let loaded = load(&[&gateway(&[server(0, "[::]").replace("[\"a\"]", "[\"a\", \"A.\"]")]), &rest]);
    assert_eq!(codes(&loaded), ["7:duplicate-host"]);
}

/// A host of a virtual service is served when any name matches it and a host of a server.
#[test]
fn finds_unserved_hosts() {
    let cases = [
        ("a.example.com", "a.example.com", true),
        ("a.example.com", "b.example.com", false),
        ("*.example.com", "a.b.example.com", true),
        ("*.example.com", "example.com", false),
        ("a.example.com", "*.example.com", true),
        ("*.b.example.com", "*.example.com", true),
        ("*.example.com", "*.b.example.com", true),
        ("*.example.com", "*.example.org", false),
        ("a.example.com", "*", true),
        ("*", "a.example.com", true),
    ];
    for (server, host, served) in cases {
        let gateway = GATEWAY.replace("[\"*\"]", &format!("[\"{server}\"]"));
        let loaded = load(&[&gateway, SERVICE, &virtual_service("web", host, &rule(""))]);
        let expected: &[&str] = if served { &[] } else { &["~3:unreached-server", "~3:unserved-host"] };
        assert_eq!(codes(&loaded), expected, "{server} {host}");
        assert!(loaded.config.is_some());
    }
}

/// Which rules are found unreachable behind which, within one virtual service.
#[test]
fn finds_unreachable_rules() {
    let uri = |form: &str, path: &str| format!("match = [{{ uri = {{ {form} = \"{path}\" }} }}]");
    let get = "match = [{ uri = { prefix = \"/a\" }, method = { exact = \"GET\" } }]".to_owned();
    let header = "match = [{ headers = { a = { exact = \"1\" } } }]".to_owned();
    let either = "match = [{ uri = { exact = \"/a/x\" } }, { uri = { exact = \"/b\" } }]".to_owned();
    let client = |asked: &str| {
        format!("match = [{{ uri = {{ prefix = \"/c\" }}, client_certificate = {{ {asked} }} }}]")
    };
    let (known, unknown) = (client("uri = { prefix = \"spiffe:\" }"), client("present = false"));
    let cases: [(Vec<String>, bool); 21] = [
        (vec![known.clone(), uri("prefix", "/c")], false),
        (vec![known.clone(), unknown.clone()], false),
        (vec![unknown.clone(), unknown], true),
        (vec![uri("prefix", "/c"), known], true),
        (vec![String::new(), uri("exact", "/a")], true),
        (vec![String::new(), String::new()], true),
        (vec!["match = [{}]".to_owned(), header.clone()], true),
        (vec![uri("prefix", "/a"), uri("prefix", "/a/b")], true),
        (vec![uri("prefix", "/a"), uri("exact", "/ab")], true),
        (vec![uri("prefix", "/a"), get.clone()], true),
        (vec![uri("prefix", "/a"), uri("prefix", "/a")], true),
        (vec![uri("exact", "/a"), uri("exact", "/a")], true),
        (vec![uri("regex", "/a.*"), uri("regex", "/a.*")], true),
        (vec![header.clone(), header.clone()], true),
        (vec![uri("prefix", "/a"), uri("prefix", "/b"), either.clone()], true),
        (vec![uri("prefix", "/a/b"), uri("prefix", "/a"), uri("prefix", "/a/z")], true),
        (vec![uri("prefix", "/a"), either], false),
        (vec![get, uri("prefix", "/a")], false),
        (vec![uri("prefix", "/a/b"), uri("prefix", "/a")], false),
        (vec![uri("exact", "/a"), uri("prefix", "/a")], false),
        (vec![header, String::new()], false),
    ];
    for (conditions, unreachable) in cases {
        let rules: String = conditions.iter().map(|conditions| rule(conditions)).collect();
        let loaded = load(&[GATEWAY, SERVICE, &virtual_service("web", "*", &rules)]);
        let line = 5 + 3 * (conditions.len() - 1);
        let expected = if unreachable { vec![format!("~{line}:unreachable-route")] } else { Vec::new() };
        let mut found = codes(&loaded);
        // No server here asks for certificates.
        found.retain(|code| !code.ends_with("no-client-certificates"));
        assert_eq!(found, expected, "{conditions:?}");
    }
}

/// Virtual services merge only where they share a host on a gateway; each rule is reported once.
#[test]
fn finds_rules_that_another_virtual_service_hides() {
    let all = virtual_service("first", "a", &rule(""));
    let later = virtual_service("later", "a", &rule("match = [{ uri = { prefix = \"/a\" } }]"));
    let loaded = load(&[GATEWAY, SERVICE, &all, &later, &later.replace("later", "last")]);
    assert_eq!(codes(&loaded), ["~5:unreachable-route", "~5:unreachable-route"]);
    assert_eq!(loaded.diagnostics[0].related[0].location.file.as_os_str(), "2.toml");
    config(&[GATEWAY, SERVICE, &later, &all]);
    config(&[GATEWAY, SERVICE, &all, &later.replace("[\"a\"]", "[\"b\"]")]);
    let other = GATEWAY.replace("edge", "other").replace("80", "81");
    config(&[GATEWAY, &other, SERVICE, &all, &later.replace("[\"edge\"]", "[\"other\"]")]);
}

/// What is unused is said only where every name that could lead there is known.
#[test]
fn finds_unused_services_and_servers() {
    let web = virtual_service("web", "a", &rule(""));
    let other = SERVICE.replace("web", "other");
    let gateways = GATEWAY.replace("[\"*\"]", "[\"a\"]");
    let gateways = format!("{gateways}[[gateway.server]]\nport = 81\nprotocol = \"HTTP\"\nhosts = [\"b\"]\n");
    let spare = GATEWAY.replace("edge", "spare").replace("80", "82");
    let loaded = load(&[&gateways, &spare, SERVICE, &other, &web]);
    assert_eq!(codes(&loaded), ["~7:unreached-server", "~2:unused-gateway", "~2:unused-service"]);
    assert!(loaded.config.is_some());
    let cases = [
        (web.replace("\"edge\"", "\"edge\", \"spar\""), "4:unknown-gateway"),
        (web.replace("\"a\"", "\"a\", \"b:81\""), "3:bad-host"),
        (web.replace("{ host = \"web\" }", "{ host = \"othr\" }"), "7:unknown-service"),
    ];
    for (web, error) in cases {
        let codes = codes(&load(&[&gateways, &spare, SERVICE, &other, &web]));
        let unused = codes.iter().filter(|code| code.contains("service") && code.starts_with('~')).count();
        assert!(codes.iter().any(|code| code == error), "{codes:?}");
        assert_eq!(unused, usize::from(error != "7:unknown-service"), "{codes:?}");
        assert_eq!(codes.len(), if error == "7:unknown-service" { 3 } else { 2 }, "{codes:?}");
    }
    let misspelt = load(&[&gateways, SERVICE, &web.replace("virtual_service]]", "virtual_servce]]")]);
    assert_eq!(codes(&misspelt), ["1:unknown-key"]);
}

/// After a syntax error nothing is called missing or unknown that may stand in the lost part.
#[test]
fn guesses_nothing_after_syntax_errors() {
    let web = virtual_service("web", "*", &rule(""));
    let loaded = load(&["[[gateway]]\nname\n[[gateway.server]]\n", &web]);
    assert_eq!(codes(&loaded), ["2:syntax"]);
    // Of the same line nothing else is said; problems elsewhere in the file stand.
    let loaded = load(&["[[gateway]]\nname =\n[[gateway.server]]\nport = 80\nhots = 1\n", &web]);
    assert_eq!(codes(&loaded), ["2:syntax", "5:unknown-key"]);
    // A lost header takes the keys below it along, up to the next header.
    let loaded = load(&["[process]\n[[service]\nname = \"a\"\nx = 1\n[[gateway]]\ny = 1\n", &web]);
    assert_eq!(codes(&loaded), ["2:syntax", "6:unknown-key"]);
    let loaded = load(&["[[gateway]]\nname = 1\n", SERVICE, &web]);
    assert_eq!(codes(&loaded), ["1:missing-key", "2:wrong-type"]);
}

/// Several broken files give all of their problems at once.
#[test]
fn reports_all_files() {
    let loaded = load(&["a = 1\n", "b = = 1\n", "c = 1\n"]);
    assert_eq!(codes(&loaded), ["1:unknown-key", "1:syntax", "1:unknown-key"]);
}

/// No configuration at all is valid but worth a word.
#[test]
fn warns_of_an_empty_configuration() {
    let loaded = load(&["# nothing\n"]);
    assert_eq!(codes(&loaded), ["~0:no-gateway"]);
    assert!(loaded.config.is_some());
}
