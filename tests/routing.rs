//! Which service a request goes to: hosts, ports, order of rules, predicates, weights.

use std::collections::BTreeMap;

use crate::support::config::{self, rule, rule_to, service, virtual_service};
use crate::support::{Backend, Client, Gateway};

const BACKENDS: [&str; 4] = ["a", "b", "c", "d"];

/// Backends that answer with their own name, as the services `a` to `d`.
fn backends() -> (Vec<Backend>, String) {
    let backends: Vec<_> = BACKENDS.into_iter().map(Backend::fixed).collect();
    let text = BACKENDS.iter().zip(&backends).map(|(name, backend)| service(name, &[backend.address()], ""));
    let text = text.collect();
    (backends, text)
}

fn to(service: &str) -> String {
    format!("route = [{{ destination = {{ host = {service:?} }} }}]")
}

/// Sends a request with these lines and returns `status body`.
fn ask(client: &mut Client, method: &str, target: &str, lines: &str) -> String {
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n"));
    let response = client.response(method);
    format!("{} {}", response.status, response.text().trim_end())
}

both_drivers! {
    /// Exact before the longest wildcard before `*`; case, port and a trailing dot do not matter.
    fn hosts(driver) {
        let (_backends, services) = backends();
        let mut text = config::gateway("", &["*"]);
        text += &virtual_service("any", "*", &to("d"));
        text += &virtual_service("wild", "*.example.test", &to("b"));
        text += &virtual_service("deep", "*.deep.example.test", &to("c"));
        text += &virtual_service("exact", "www.example.test", &to("a"));
        text += &services;
        let gateway = Gateway::start(driver, &text);
        let mut client = gateway.connect();
        for (host, expected) in [
            ("www.example.test", "a"),
            ("WWW.Example.TEST", "a"),
            ("www.example.test:8080", "a"),
            ("www.example.test.", "a"),
            ("www.example.test.:80", "a"),
            ("x.example.test", "b"),
            ("x.y.example.test", "b"),
            ("X.EXAMPLE.test:1", "b"),
            ("x.deep.example.test", "c"),
            ("deep.example.test", "b"),
            ("example.test", "d"),
            ("xexample.test", "d"),
            ("www.example.test.evil.test", "d"),
            ("127.0.0.1", "d"),
            ("[::1]:80", "d"),
        ] {
            assert_eq!(client.get(host, "/").text(), expected, "{host}");
        }
        // HTTP/1.0 without a Host names none: only `*` serves it.
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(client.response("GET").text(), "d");
    }

    /// A host that nobody serves gets 404, and so does one that the server does not have, though a virtual service does.
    fn unknown_hosts(driver) {
        let (backends, services) = backends();
        let mut text = config::gateway("", &["*.example.test", "only.test"]);
        text += &virtual_service("any", "*", &to("a"));
        text += &services;
        let gateway = Gateway::start(driver, &text);
        let mut client = gateway.connect();
        for (host, expected) in [
            ("x.example.test", "200 a"),
            ("only.test", "200 a"),
            ("example.test", "404 404 Not Found: unknown_host"),
            ("other.test", "404 404 Not Found: unknown_host"),
            ("sub.only.test", "404 404 Not Found: unknown_host"),
        ] {
            let response = client.get(host, "/");
            assert_eq!(format!("{} {}", response.status, response.text().trim_end()), expected, "{host}");
        }
        assert_eq!(backends[0].requests().len(), 2);
    }

    /// The first rule that matches wins, in the order written; none is 404 on a connection that stays usable.
    fn order_and_paths(driver) {
        let (_backends, services) = backends();
        let mut text = config::gateway("", &["*"]);
        text += "[[virtual_service]]\nname = \"v\"\nhosts = [\"a.test\"]\ngateways = [\"web\"]\n";
        text += &rule_to("uri = { prefix = \"/a/b\" }", "a");
        text += &rule_to("uri = { exact = \"/a\" }", "b");
        text += &rule_to("uri = { prefix = \"/a\" }", "c");
        text += &rule_to("uri = { exact = \"/a/b/exact\" }", "d");
        text += &rule_to("uri = { regex = \"/[0-9]+(/.*)?\" }", "d");
        text += &services;
        let gateway = Gateway::start(driver, &text);
        let mut client = gateway.connect();
        for (path, expected) in [
            ("/a/b", "200 a"),
            ("/a/b/exact", "200 a"),
            ("/a/bc", "200 a"),
            ("/a", "200 b"),
            ("/a?query", "200 b"),
            ("/a/", "200 c"),
            ("/abc", "200 c"),
            ("/123", "200 d"),
            ("/123/x", "200 d"),
            ("/123x", "404 404 Not Found: no_route"),
            ("/x/123", "404 404 Not Found: no_route"),
            ("/", "404 404 Not Found: no_route"),
            ("/A", "404 404 Not Found: no_route"),
        ] {
            assert_eq!(ask(&mut client, "GET", path, ""), expected, "{path}");
        }
    }

    /// Fields of one match block are AND, several blocks are OR; header names ignore case, values do not, several
    /// fields of one name count as one list, regexes match the whole value.
    fn predicates(driver) {
        let (_backends, services) = backends();
        let mut text = config::gateway("", &["*"]);
        text += "[[virtual_service]]\nname = \"v\"\nhosts = [\"*\"]\ngateways = [\"web\"]\n";
        text += &rule(&format!(
            "match = [{{ uri = {{ prefix = \"/x\" }}, method = {{ exact = \"PUT\" }}, headers = {{ X-Canary = {{ exact = \"yes\" }} }} }}, \
             {{ method = {{ regex = \"PATCH|DELETE\" }} }}]\n{}",
            to("a")
        ));
        text += &rule_to("headers = { x-version = { regex = \"v[0-9]\" } }", "b");
        text += &rule_to("headers = { x-user = { prefix = \"test-\" }, x-canary = { exact = \"yes\" } }", "c");
        text += &rule_to("headers = { x-list = { exact = \"1,2\" } }", "c");
        text += &rule(&to("d"));
        text += &services;
        let gateway = Gateway::start(driver, &text);
        let mut client = gateway.connect();
        for (method, target, lines, expected) in [
            ("PUT", "/x", "x-canary: yes\r\n", "200 a"),
            ("PUT", "/x", "X-CANARY:   yes  \r\n", "200 a"),
            ("PUT", "/x", "x-canary: Yes\r\n", "200 d"),
            ("PUT", "/y", "x-canary: yes\r\n", "200 d"),
            ("POST", "/x", "x-canary: yes\r\n", "200 d"),
            ("PATCH", "/anything", "", "200 a"),
            ("DELETE", "/anything", "", "200 a"),
            ("PATCHX", "/anything", "", "200 d"),
            ("GET", "/", "X-Version: v7\r\n", "200 b"),
            ("GET", "/", "X-Version: v77\r\n", "200 d"),
            ("GET", "/", "X-Version: xv7\r\n", "200 d"),
            ("GET", "/", "X-User: test-1\r\nX-Canary: yes\r\n", "200 c"),
            ("GET", "/", "X-User: test-1\r\n", "200 d"),
            ("GET", "/", "X-User: a-test-\r\nX-Canary: yes\r\n", "200 d"),
            ("GET", "/", "X-List: 1\r\nX-List: 2\r\n", "200 c"),
            ("GET", "/", "X-List: 2\r\nX-List: 1\r\n", "200 d"),
        ] {
            assert_eq!(ask(&mut client, method, target, lines), expected, "{method} {target} {lines:?}");
        }
    }

    /// Over a cycle of the weights' sum each destination gets exactly its weight.
    fn weights(driver) {
        let (_backends, services) = backends();
        let mut text = config::gateway("", &["*"]);
        text += &virtual_service(
            "v",
            "*",
            "route = [\n  { destination = { host = \"a\" }, weight = 90 },\n  { destination = { host = \"b\" }, weight = 9 },\n  \
             { destination = { host = \"c\" }, weight = 1 },\n  { destination = { host = \"d\" }, weight = 0 },\n]",
        );
        text += &services;
        let gateway = Gateway::start(driver, &text);
        let mut client = gateway.connect();
        let mut counts = BTreeMap::new();
        for _ in 0..200 {
            *counts.entry(client.get("a.test", "/").text()).or_insert(0) += 1;
        }
        assert_eq!(counts, BTreeMap::from([("a".into(), 180), ("b".into(), 18), ("c".into(), 2)]));
    }

    /// Virtual services that share a host merge in the order written.
    fn virtual_services_merge(driver) {
        let (_backends, services) = backends();
        let mut text = config::gateway("", &["*"]);
        for (name, path, service) in [("one", "/one", "a"), ("two", "/two", "b")] {
            text += &format!("[[virtual_service]]\nname = {name:?}\nhosts = [\"a.test\"]\ngateways = [\"web\"]\n");
            text += &rule_to(&format!("uri = {{ prefix = {path:?} }}"), service);
        }
        text += &services;
        let gateway = Gateway::start(driver, &text);
        let mut client = gateway.connect();
        assert_eq!(ask(&mut client, "GET", "/one", ""), "200 a");
        assert_eq!(ask(&mut client, "GET", "/two", ""), "200 b");
        assert_eq!(client.get("b.test", "/one").status, 404);
    }

    /// Each gateway serves its own virtual services; each of its servers its own hosts.
    fn gateways_and_servers_are_separate(driver) {
        let (_backends, services) = backends();
        let server = |hosts: &str| format!("[[gateway.server]]\nport = 0\nbind = \"127.0.0.1\"\nprotocol = \"HTTP\"\nhosts = [{hosts}]\n");
        let mut text = format!("[[gateway]]\nname = \"web\"\n{}{}", server("\"*\""), server("\"inner.test\""));
        text += &format!("[[gateway]]\nname = \"other\"\n{}", server("\"*\""));
        text += &virtual_service("v", "*", &to("a"));
        text += &virtual_service("w", "*", &to("b")).replace("\"web\"", "\"other\"");
        text += &services;
        let gateway = Gateway::start(driver, &text);
        assert_eq!(gateway.listening().len(), 3);
        assert!(gateway.listening().iter().all(|listening| listening.protocol == "HTTP"));
        let mut outer = Client::connect(gateway.address_of("web", 1));
        assert_eq!(outer.get("x.test", "/").text(), "a");
        let mut inner = Client::connect(gateway.address_of("web", 2));
        assert_eq!((inner.get("inner.test", "/").status, inner.get("x.test", "/").status), (200, 404));
        let mut other = Client::connect(gateway.address_of("other", 1));
        assert_eq!(other.get("x.test", "/").text(), "b");
    }
}
