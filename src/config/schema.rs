//! The keys of every table: those that work, those that Istio or ringgate's design know but that are not
//! built yet, and where keys that stand in the wrong table belong. `tree` judges every table by its schema.

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
    /// Other names that people look for here, and what to write instead.
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
    ],
    &["admin", "user", "group", "on_error", "metrics", "access_log", "log", "dns"],
)
.elsewhere(&[
    ("workers", "write `cores`"),
    ("worker_processes", "write `cores`"),
    ("threads", "write `cores`"),
]);

pub(super) static GATEWAY: Schema = Schema::new(
    "[[gateway]]",
    &["name", "trusted_proxies", "limits", "timeouts", "path", "server"],
    &["access_log", "http2", "headers", "compression", "rate_limit", "forward_client_certificate"],
)
.elsewhere(&[
    ("selector", "ringgate itself is the gateway: leave the selector out"),
    ("servers", "write each server as a [[gateway.server]] table"),
    ("hosts", "hosts belong to a [[gateway.server]] table"),
    ("port", "the port belongs to a [[gateway.server]] table"),
]);

pub(super) static LIMITS: Schema = Schema::new(
    "`limits` of a gateway",
    &["head_bytes_max", "headers_max", "target_bytes_max", "requests_per_connection_max"],
    &["body_bytes_max", "connections_max", "connections_per_client_max"],
);

pub(super) static TIMEOUTS: Schema = Schema::new(
    "`timeouts` of a gateway",
    &["header", "body_gap", "write_gap", "keep_alive", "tunnel_idle", "linger"],
    &["handshake", "connection_max", "request"],
);

pub(super) static PATH: Schema =
    Schema::new("`path` of a gateway", &["escaped_slashes", "backslashes", "merge_slashes"], &[]);

pub(super) static SERVER: Schema = Schema::new(
    "[[gateway.server]]",
    &["port", "bind", "freebind", "protocol", "hosts"],
    &["tls", "proxy_protocol", "http2", "alpn", "backlog", "connections_max", "default_endpoint"],
)
.below(&GATEWAY);

pub(super) static VIRTUAL_SERVICE: Schema = Schema::new(
    "[[virtual_service]]",
    &["name", "hosts", "gateways", "http"],
    &["tls", "tcp", "export_to", "rate_limit"],
);

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
    ("uri", "conditions stand in `match = [{ uri = { prefix = \"/\" } }]`"),
]);

pub(super) static MATCH: Schema = Schema::new(
    "a block of `match`",
    &["uri", "method", "headers"],
    &[
        "name",
        "port",
        "authority",
        "scheme",
        "query_params",
        "without_headers",
        "ignore_uri_case",
        "gateways",
        "source_labels",
        "source_namespace",
        "source_subnets",
        "stat_prefix",
        "client_certificate",
    ],
)
.elsewhere(&[("path", "Istio's name is `uri`"), ("host", "hosts belong to the virtual service")]);

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

pub(super) static SERVICE: Schema = Schema::new(
    "[[service]]",
    &["name", "endpoints", "subsets", "traffic_policy"],
    &["hosts", "location", "resolution", "ports", "addresses", "health_check", "proxy_protocol", "protocol"],
);

pub(super) static ENDPOINT: Schema = Schema::new(
    "an endpoint",
    &["address", "weight", "labels"],
    &["locality", "network", "priority", "backup", "health_check", "ports"],
)
.example("`{ address = \"10.0.0.1:8080\" }`");

pub(super) static SUBSET: Schema = Schema::new("a subset", &["name", "labels"], &["traffic_policy"]);

pub(super) static TRAFFIC_POLICY: Schema = Schema::new(
    "`traffic_policy`",
    &["load_balancer", "connection_pool"],
    &["outlier_detection", "tls", "port_level_settings", "tunnel", "proxy_protocol", "retry_budget"],
)
.below(&SERVICE);

pub(super) static LOAD_BALANCER: Schema = Schema::new(
    "`load_balancer`",
    &["simple"],
    &["consistent_hash", "locality_lb_setting", "warmup", "warmup_duration_secs"],
);

pub(super) static CONNECTION_POOL: Schema = Schema::new("`connection_pool`", &["tcp", "http"], &[]);

pub(super) static POOL_TCP: Schema = Schema::new(
    "`connection_pool.tcp`",
    &["connect_timeout"],
    &["max_connections", "tcp_keepalive", "idle_timeout", "max_connection_duration"],
);

pub(super) static POOL_HTTP: Schema = Schema::new(
    "`connection_pool.http`",
    &["idle_timeout", "idle_connections_max", "first_byte_timeout", "body_gap_timeout"],
    &[
        "http1_max_pending_requests",
        "http2_max_requests",
        "max_requests_per_connection",
        "max_retries",
        "max_concurrent_streams",
        "h2_upgrade_policy",
        "use_client_protocol",
    ],
)
.elsewhere(&[("connect_timeout", "it belongs into `connection_pool.tcp`")]);
