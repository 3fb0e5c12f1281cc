//! Envoy: static resources, `--concurrency` as many as cores, limits out of the way; named hosts are virtual hosts.

use std::fmt::Write as _;

use super::{ConfigFile, Hosts, Listening, Plan, Reload, Setup};
use crate::compare::edge::Edge;
use crate::compare::measure::ANY_HOST;

const FILE: &str = "envoy.yaml";

pub(super) fn plan(setup: &Setup<'_>) -> Plan {
    let file = setup.folder.join(FILE).display().to_string();
    let threads = setup.threads.to_string();
    let arguments = ["-c", &file, "--concurrency", &threads, "--disable-hot-restart", "--log-level", "error"];
    Plan {
        files: vec![ConfigFile { name: FILE.into(), text: config(setup) }],
        arguments: arguments.map(str::to_owned).to_vec(),
        listening: Listening::OnGivenPort,
        reload: Reload::Unsupported(
            "Envoy takes no changed file by a signal: its configuration comes from a control plane",
        ),
    }
}

/// What stands in a filter chain of a passed-through connection, after what stands in the listener before it.
fn passthrough(setup: &Setup<'_>) -> String {
    let (inspector, matching) = match setup.edge {
        Edge::Sni => (
            r#"    listener_filters:
    - name: envoy.filters.listener.tls_inspector
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector
"#,
            format!("filter_chain_match: {{ server_names: [\"{ANY_HOST}\"] }}\n      "),
        ),
        _ => ("", String::new()),
    };
    format!(
        r#"{inspector}    filter_chains:
    - {matching}filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: edge
          cluster: app
          idle_timeout: 3600s
"#
    )
}

fn http(setup: &Setup<'_>) -> String {
    let secure = match setup.edge {
        Edge::Https => format!(
            r#"transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: ["http/1.1"]
            tls_params: {{ tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3 }}
            tls_certificates:
            - {{ certificate_chain: {{ filename: "{}" }}, private_key: {{ filename: "{}" }} }}
      "#,
            setup.identity.certificate.display(),
            setup.identity.key.display()
        ),
        _ => String::new(),
    };
    let mut hosts = String::new();
    let mut serve = |name: &str, host: &str| {
        let _ = writeln!(
            hosts,
            "            - {{ name: \"{name}\", domains: [\"{host}\"], routes: [{{ match: {{ prefix: \"/\" }}, \
             route: {{ cluster: app, timeout: 0s }} }}] }}"
        );
    };
    match setup.hosts {
        Hosts::Any => serve("all", "*"),
        Hosts::Named(names) => names.iter().for_each(|name| serve(name, name)),
    }
    format!(
        r#"    filter_chains:
    - {secure}filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          codec_type: HTTP1
          use_remote_address: true
          strip_any_host_port: true
          generate_request_id: false
          common_http_protocol_options: {{ idle_timeout: 300s }}
          stream_idle_timeout: 300s
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              suppress_envoy_headers: true
          route_config:
            name: hosts
            virtual_hosts:
{hosts}"#
    )
}

fn config(setup: &Setup<'_>) -> String {
    let chain = if setup.edge.is_http() { http(setup) } else { passthrough(setup) };
    format!(
        r#"static_resources:
  listeners:
  - name: edge
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
{chain}  clusters:
  - name: app
    type: STATIC
    connect_timeout: 10s
    circuit_breakers:
      thresholds:
      - {{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000, max_retries: 3 }}
    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {address}, port_value: {upstream} }} }} }}
"#,
        port = setup.port,
        address = setup.upstream.ip(),
        upstream = setup.upstream.port(),
    )
}
