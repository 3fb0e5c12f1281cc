//! Configurations as the tests write them: TOML text with the parts that a test varies.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// One gateway on a kernel-chosen port, one service for everything.
///
/// `gateway_keys` are further lines of `[[gateway]]`, `service_keys` of `[[service]]`.
pub(crate) fn single(backend: SocketAddr, gateway_keys: &str, service_keys: &str) -> String {
    let mut text = gateway(gateway_keys, &["*"]);
    text.push_str(&virtual_service("all", "*", "route = [{ destination = { host = \"app\" } }]"));
    text.push_str(&service("app", &[backend], service_keys));
    text
}

/// `[[gateway]]` `web` with one server.
pub(crate) fn gateway(keys: &str, hosts: &[&str]) -> String {
    format!(
        "[[gateway]]\nname = \"web\"\n{keys}\n[[gateway.server]]\nport = 0\nbind = \"127.0.0.1\"\n\
         protocol = \"HTTP\"\nhosts = {hosts:?}\n"
    )
}

/// `[[virtual_service]]` of one host with one route, on the gateway `web`.
pub(crate) fn virtual_service(name: &str, host: &str, route: &str) -> String {
    format!("[[virtual_service]]\nname = {name:?}\nhosts = [{host:?}]\ngateways = [\"web\"]\n{}", rule(route))
}

/// One more `[[virtual_service.http]]` of the virtual service written before it.
pub(crate) fn rule(keys: &str) -> String {
    format!("[[virtual_service.http]]\n{keys}\n")
}

/// A rule with one match block and one destination.
pub(crate) fn rule_to(matches: &str, service: &str) -> String {
    rule(&format!("match = [{{ {matches} }}]\nroute = [{{ destination = {{ host = {service:?} }} }}]"))
}

/// `[[service]]`.
pub(crate) fn service(name: &str, endpoints: &[SocketAddr], keys: &str) -> String {
    let mut list = String::new();
    for address in endpoints {
        write!(list, "{{ address = \"{address}\" }}, ").unwrap();
    }
    format!("[[service]]\nname = {name:?}\nendpoints = [{list}]\n{keys}\n")
}

/// `traffic_policy` with settings of the HTTP connection pool.
pub(crate) fn http_pool(keys: &str) -> String {
    format!("traffic_policy = {{ connection_pool = {{ http = {{ {keys} }} }} }}")
}

/// `traffic_policy` with settings of the TCP connections.
pub(crate) fn tcp_pool(keys: &str) -> String {
    format!("traffic_policy = {{ connection_pool = {{ tcp = {{ {keys} }} }} }}")
}
