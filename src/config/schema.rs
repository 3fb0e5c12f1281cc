//! The keys of every table: those that work, those that Istio or ringgate's design know but that are not
//! built yet, and where keys that stand in the wrong table belong. `tree` judges every table by its schema.

mod service;

pub(super) use service::*;

/// What one kind of table may hold.
#[derive(Debug)]
pub(super) struct Schema {
    /// How messages call the table.
    pub(super) title: &'static str,
    /// Keys that work.
    pub(super) keys: &'static [&'static str],
    /// Keys that are refused as not yet supported instead of as unknown.
    pub(super) later: &'static [&'static str],
    /// The table whose keys slip into this one when they are written below its header.
    pub(super) parent: Option<&'static Self>,
    /// Other names, and words as values, that people look for here, and what to write instead. Also what to do meanwhile
    /// without those of `later`.
    pub(super) elsewhere: &'static [(&'static str, &'static str)],
    /// How such a table is written inline, for those that are often written as a mere string.
    pub(super) example: Option<&'static str>,
}

impl Schema {
    const fn new(title: &'static str, keys: &'static [&'static str], later: &'static [&'static str]) -> Self {
        Self { title, keys, later, parent: None, elsewhere: &[], example: None }
    }

    const fn below(self, parent: &'static Self) -> Self {
        Self { parent: Some(parent), ..self }
    }

    const fn elsewhere(self, elsewhere: &'static [(&'static str, &'static str)]) -> Self {
        Self { elsewhere, ..self }
    }

    /// What to write instead of a name or word.
    pub(super) fn instead(&self, name: &str) -> Option<&'static str> {
        self.elsewhere.iter().find(|(other, _)| *other == name).map(|(_, instead)| *instead)
    }

    const fn example(self, example: &'static str) -> Self {
        Self { example: Some(example), ..self }
    }
}

pub(super) static ROOT: Schema = Schema::new(
    "the file",
    &["process", "gateway", "virtual_service", "service"],
    &["include", "outbound_traffic_policy", "tls", "defaults"],
)
.elsewhere(&[
    ("destination_rule", "subsets and the traffic policy stand in [[service]]"),
    ("service_entry", "write a [[service]]"),
    ("upstream", "write a [[service]]"),
    ("backend", "write a [[service]]"),
    ("cluster", "write a [[service]]"),
    ("server", "write a [[gateway]] with a [[gateway.server]]"),
    ("listener", "write a [[gateway]] with a [[gateway.server]]"),
    ("route", "write a [[virtual_service]] with [[virtual_service.http]]"),
    ("http", "write [[virtual_service.http]]"),
]);

pub(super) static PROCESS: Schema = Schema::new(
    "[process]",
    &[
        "cores",
        "driver",
        "ring_entries",
        "accept_balance",
        "accept_steering",
        "connections_max",
        "buffer_bytes_max",
        "drain_timeout",
        "status_file",
        "certificate_check",
    ],
    &["admin", "user", "group", "on_error", "metrics", "access_log", "log", "dns"],
)
.elsewhere(&[
    ("workers", "write `cores`"),
    ("worker_processes", "write `cores`"),
    ("threads", "write `cores`"),
    ("nbthread", "write `cores`"),
    ("concurrency", "write `cores`"),
    ("cpu_map", "write `cores`"),
    ("worker_connections", "write `connections_max`"),
    ("max_connections", "write `connections_max`"),
    ("maxconn", "write `connections_max`"),
    ("pid", "write `status_file`: the process's id stands in it"),
    ("pid_file", "write `status_file`: the process's id stands in it"),
    ("pidfile", "write `status_file`: the process's id stands in it"),
    ("log", "set RUST_LOG: `RUST_LOG=debug ringgate run ..`"),
    ("log_level", "set RUST_LOG: `RUST_LOG=debug ringgate run ..`"),
    ("error_log", "set RUST_LOG: `RUST_LOG=debug ringgate run ..`; logs go to stderr"),
    ("daemon", "leave it out: ringgate stays in the foreground, systemd keeps it running"),
    ("worker_shutdown_timeout", "write `drain_timeout`"),
    ("hard_stop_after", "write `drain_timeout`"),
    ("admin", "remove the key; meanwhile SIGUSR1 prints counters as JSON"),
    ("metrics", "remove the key; meanwhile SIGUSR1 prints counters as JSON"),
]);

pub(super) static GATEWAY: Schema = Schema::new(
    "[[gateway]]",
    &["name", "trusted_proxies", "limits", "timeouts", "path", "server"],
    &["access_log", "http2", "headers", "compression", "rate_limit"],
)
.elsewhere(&[
    ("selector", "ringgate itself is the gateway: leave the selector out"),
    ("servers", "write each server as a [[gateway.server]] table"),
    ("hosts", "hosts belong to a [[gateway.server]] table"),
    ("port", "the port belongs to a [[gateway.server]] table"),
    ("tls", "it belongs to a [[gateway.server]] table"),
    ("forward_client_certificate", "it belongs to `tls` of a [[gateway.server]] table"),
]);

pub(super) static LIMITS: Schema = Schema::new(
    "`limits` of a gateway",
    &["head_bytes_max", "headers_max", "target_bytes_max", "requests_per_connection_max", "connections_max"],
    &["body_bytes_max", "connections_per_client_max"],
)
.elsewhere(&[
    ("maxconn", "write `connections_max`"),
    ("max_connections", "write `connections_max`"),
    ("limit_conn", "write `connections_max`"),
]);

pub(super) static TIMEOUTS: Schema = Schema::new(
    "`timeouts` of a gateway",
    &["header", "body_gap", "write_gap", "keep_alive", "tunnel_idle", "linger", "handshake"],
    &["connection_max", "request"],
)
.elsewhere(&[
    ("ssl_handshake_timeout", "write `handshake`"),
    ("tcp_idle", "write `connection_pool.tcp.idle_timeout` in the service's `traffic_policy`"),
    ("client_header_timeout", "write `header`"),
    ("http_request", "write `header`"),
    ("client_body_timeout", "write `body_gap`"),
    ("send_timeout", "write `write_gap`"),
    ("client", "write `body_gap` and `write_gap`"),
    ("idle", "write `keep_alive`"),
    ("keepalive_timeout", "write `keep_alive`"),
    ("http_keep_alive", "write `keep_alive`"),
    ("tunnel", "write `tunnel_idle`"),
    ("connect", "write `connection_pool.tcp.connect_timeout` in the service's `traffic_policy`"),
    ("server", "write `connection_pool.http.first_byte_timeout` in the service's `traffic_policy`"),
]);

pub(super) static PATH: Schema =
    Schema::new("`path` of a gateway", &["escaped_slashes", "backslashes", "merge_slashes"], &[]);

const SERVER_TLS_FORM: &str = "write `tls = { mode = \"SIMPLE\", server_certificate = \"..\", private_key = \"..\" }` with `protocol = \"HTTPS\"`";

pub(super) static SERVER: Schema = Schema::new(
    "[[gateway.server]]",
    &["port", "bind", "freebind", "protocol", "hosts", "tls", "hsts", "proxy_protocol"],
    &["http2", "alpn", "backlog", "connections_max", "default_endpoint"],
)
.below(&GATEWAY)
.elsewhere(&[
    ("listen", "write `port`, and `bind` for one address"),
    ("address", "write `bind`"),
    ("server_name", "write `hosts`"),
    ("https_redirect", "it belongs to `tls`: `tls = { https_redirect = true }`"),
    ("redirect_scheme", "write `tls = { https_redirect = true }`"),
    ("connections_max", "write `limits = { connections_max = .. }` in the [[gateway]]"),
    ("ssl", SERVER_TLS_FORM),
    ("ssl_certificate", SERVER_TLS_FORM),
    ("crt", SERVER_TLS_FORM),
    ("strict_transport_security", "write `hsts = { max_age = \"365d\" }`"),
    ("accept_proxy", "write `proxy_protocol = { from = [\"10.0.0.0/8\"] }`"),
    ("expect_proxy", "write `proxy_protocol = { from = [\"10.0.0.0/8\"] }`"),
    ("set_real_ip_from", "write `proxy_protocol = { from = [\"10.0.0.0/8\"] }`"),
]);

pub(super) static HSTS: Schema =
    Schema::new("`hsts` of a server", &["max_age", "include_subdomains", "preload"], &[])
        .example("`{ max_age = \"365d\" }`");

pub(super) static ACCEPT_PROXY: Schema =
    Schema::new("`proxy_protocol` of a server", &["from", "timeout"], &["versions", "tlvs"])
        .example("`{ from = [\"10.0.0.0/8\"] }`")
        .elsewhere(&[
            ("set_real_ip_from", "write `from`"),
            ("trusted_proxies", "write `from`"),
            ("sources", "write `from`"),
            ("version", "both versions are read, whichever a peer sends"),
        ]);

pub(super) static SERVER_TLS: Schema = Schema::new(
    "`tls` of a server",
    &[
        "mode",
        "server_certificate",
        "private_key",
        "ocsp_response",
        "certificates",
        "ca_certificates",
        "ca_crl",
        "crl_depth",
        "crl_unknown_status",
        "crl_expired",
        "subject_alt_names",
        "verify_certificate_spki",
        "verify_certificate_hash",
        "forward_client_certificate",
        "min_protocol_version",
        "max_protocol_version",
        "cipher_profile",
        "cipher_suites",
        "https_redirect",
        "https_redirect_port",
        "answer_plain_http",
    ],
    &["credential_name", "credential_names", "insecure_skip_verify", "workload"],
)
.example("`{ mode = \"SIMPLE\", server_certificate = \"..\", private_key = \"..\" }` or `{ mode = \"PASSTHROUGH\" }`")
.elsewhere(&[
    ("forward_client_cert_details", "write `forward_client_certificate`"),
    ("ssl_certificate", "write `server_certificate`"),
    ("certificate", "write `server_certificate`"),
    ("cert", "write `server_certificate`"),
    ("crt", "write `server_certificate`"),
    ("ssl_certificate_key", "write `private_key`"),
    ("key", "write `private_key`"),
    ("ca", "write `ca_certificates`"),
    ("ca_file", "write `ca_certificates`"),
    ("client_ca", "write `ca_certificates`"),
    ("ssl_client_certificate", "write `ca_certificates`"),
    ("ssl_crl", "write `ca_crl`"),
    ("crl", "write `ca_crl`"),
    ("crl_file", "write `ca_crl`"),
    ("verify", "write `mode = \"MUTUAL\"`, or `\"OPTIONAL_MUTUAL\"`"),
    ("ssl_verify_client", "write `mode = \"MUTUAL\"`, or `\"OPTIONAL_MUTUAL\"`"),
    ("OPTIONAL", "write `OPTIONAL_MUTUAL`"),
    ("1.2", "write `TLSV1_2`"),
    ("1.3", "write `TLSV1_3`"),
    ("ssl_protocols", "write `min_protocol_version` and `max_protocol_version`"),
    ("ssl_ciphers", "write `cipher_suites` or `cipher_profile`"),
    ("tls_certificates", "write `certificates`"),
    ("hsts", "it stands beside `tls`: `hsts = { max_age = \"365d\" }`"),
    ("credential_name", "write `server_certificate` and `private_key`, paths of files"),
    ("AUTO_PASSTHROUGH", "`PASSTHROUGH` with [[virtual_service.tls]] rules says where each name goes"),
    ("ISTIO_MUTUAL", "write `MUTUAL` with certificates of your own: there is no Istio to issue them"),
]);

pub(super) static CERTIFICATE: Schema = Schema::new(
    "an entry of `certificates`",
    &["server_certificate", "private_key", "ocsp_response"],
    &["ca_certificates"],
)
.example("`{ server_certificate = \"..\", private_key = \"..\" }`");

pub(super) static VIRTUAL_SERVICE: Schema = Schema::new(
    "[[virtual_service]]",
    &["name", "hosts", "gateways", "http", "tls", "tcp"],
    &["export_to", "rate_limit"],
)
.elsewhere(&[
    ("server_name", "write `hosts`"),
    ("domains", "write `hosts`"),
    ("routes", "write [[virtual_service.http]]"),
    ("route", "write it below a [[virtual_service.http]]"),
    ("match", "write it below a [[virtual_service.http]]"),
]);

pub(super) static HTTP: Schema = Schema::new(
    "[[virtual_service.http]]",
    &["name", "match", "route", "forward_path"],
    &[
        "timeout",
        "retries",
        "fault",
        "mirror",
        "mirrors",
        "mirror_percentage",
        "rewrite",
        "redirect",
        "direct_response",
        "cors_policy",
        "headers",
        "delegate",
        "rate_limit",
    ],
)
.below(&VIRTUAL_SERVICE)
.elsewhere(&[
    ("destination", "a destination stands in a route: `route = [{ destination = { host = \"..\" } }]`"),
    ("proxy_pass", "write `route = [{ destination = { host = \"..\" } }]`"),
    ("cluster", "write `route = [{ destination = { host = \"..\" } }]`"),
    (
        "timeout",
        "nearest is `first_byte_timeout` in the `connection_pool.http` of the service's `traffic_policy`",
    ),
    ("uri", "conditions stand in `match = [{ uri = { prefix = \"/\" } }]`"),
    (
        "redirect",
        "remove the key; to HTTPS: `tls = { https_redirect = true }` in the [[gateway.server]] of protocol HTTP",
    ),
]);

pub(super) static MATCH: Schema = Schema::new(
    "a block of `match`",
    &["uri", "method", "headers", "client_certificate", "port", "gateways"],
    &[
        "name",
        "authority",
        "scheme",
        "query_params",
        "without_headers",
        "ignore_uri_case",
        "source_labels",
        "source_namespace",
        "source_subnets",
        "stat_prefix",
    ],
)
.elsewhere(&[("path", "Istio's name is `uri`"), ("host", "hosts belong to the virtual service")]);

pub(super) static CLIENT_MATCH: Schema =
    Schema::new("`client_certificate`", &["present", "subject", "uri", "dns", "email"], &["hash", "spki"])
        .example("`{ uri = { exact = \"spiffe://..\" } }` or `{ present = true }`")
        .elsewhere(&[
            ("san", "write `uri`, `dns` or `email`"),
            ("cn", "write `subject`, as a regex over all of it"),
            ("spiffe", "write `uri`"),
        ]);

pub(super) static TLS: Schema =
    Schema::new("[[virtual_service.tls]]", &["match", "route"], &["name", "rate_limit"])
        .below(&VIRTUAL_SERVICE)
        .elsewhere(&[
            ("mode", "`tls = { mode = .. }` belongs to a [[gateway.server]]"),
            ("sni_hosts", "conditions stand in `match = [{ sni_hosts = [\"..\"] }]`"),
            ("port", "conditions stand in `match = [{ port = 443, sni_hosts = [\"..\"] }]`"),
            (
                "destination",
                "a destination stands in a route: `route = [{ destination = { host = \"..\" } }]`",
            ),
        ]);

pub(super) static TLS_MATCH: Schema = Schema::new(
    "a block of `match`",
    &["port", "gateways", "sni_hosts", "destination_subnets", "source_subnets"],
    &["source_labels", "source_namespace"],
)
.elsewhere(&[
    ("sni", "Istio's name is `sni_hosts`"),
    ("hosts", "Istio's name is `sni_hosts`"),
    ("source_subnet", "write `source_subnets = [\"..\"]`"),
    ("uri", "what passes through can not be read: requests are routed where TLS ends, by [[virtual_service.http]]"),
]);

pub(super) static TCP: Schema =
    Schema::new("[[virtual_service.tcp]]", &["match", "route"], &["name", "rate_limit"])
        .below(&VIRTUAL_SERVICE)
        .elsewhere(&[
            ("port", "conditions stand in `match = [{ port = 31400 }]`"),
            (
                "destination",
                "a destination stands in a route: `route = [{ destination = { host = \"..\" } }]`",
            ),
        ]);

pub(super) static TCP_MATCH: Schema = Schema::new(
    "a block of `match`",
    &["port", "gateways", "destination_subnets", "source_subnets"],
    &["source_labels", "source_namespace"],
)
.elsewhere(&[
    ("sni_hosts", "only [[virtual_service.tls]] matches names"),
    ("source_subnet", "write `source_subnets = [\"..\"]`"),
]);

pub(super) static STRING_MATCH: Schema =
    Schema::new("a string match", &["exact", "prefix", "regex"], &["suffix", "contains", "ignore_case"])
        .example("`{ exact = \"..\" }` or `{ prefix = \"..\" }`");

pub(super) static ROUTE: Schema =
    Schema::new("an entry of `route`", &["destination", "weight"], &["headers"]).elsewhere(&[
        ("host", "write `destination = { host = \"..\" }`"),
        ("subset", "it belongs into `destination`"),
    ]);

pub(super) static DESTINATION: Schema = Schema::new("`destination`", &["host", "subset"], &["port"])
    .example("`{ host = \"..\" }`")
    .elsewhere(&[("weight", "the weight stands beside `destination`, not in it")]);
