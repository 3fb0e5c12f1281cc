//! The keys of `[[service]]` and of the tables below it.

use super::Schema;

pub(in crate::config) static SERVICE: Schema = Schema::new(
    "[[service]]",
    &["name", "endpoints", "subsets", "traffic_policy"],
    &["hosts", "location", "resolution", "ports", "addresses", "health_check", "protocol"],
)
.elsewhere(&[
    ("proxy_protocol", "write it below [service.traffic_policy]"),
    ("send_proxy", "write `proxy_protocol = { version = \"V1\" }` below [service.traffic_policy]"),
    ("send_proxy_v2", "write `proxy_protocol = { version = \"V2\" }` below [service.traffic_policy]"),
    ("load_balancer", "write it below [service.traffic_policy]"),
    ("connection_pool", "write it below [service.traffic_policy]"),
    ("connect_timeout", "write `connection_pool.tcp.connect_timeout` below [service.traffic_policy]"),
    ("timeout", "write `connection_pool.http.first_byte_timeout` below [service.traffic_policy]"),
]);

pub(in crate::config) static ENDPOINT: Schema = Schema::new(
    "an endpoint",
    &["address", "weight", "labels"],
    &["locality", "network", "priority", "backup", "health_check", "ports"],
)
.example("`{ address = \"10.0.0.1:8080\" }`")
.elsewhere(&[
    ("ip", "write both in one: `address = \"10.0.0.1:8080\"`"),
    ("host", "write both in one: `address = \"10.0.0.1:8080\"`"),
    ("port", "write both in one: `address = \"10.0.0.1:8080\"`"),
]);

pub(in crate::config) static SUBSET: Schema =
    Schema::new("a subset", &["name", "labels", "traffic_policy"], &[]);

/// Of a subset: what the service's own policy does not decide for it.
pub(in crate::config) static SUBSET_POLICY: Schema = Schema::new(
    "`traffic_policy` of a subset",
    &["tls"],
    &["load_balancer", "connection_pool", "outlier_detection", "port_level_settings"],
)
.elsewhere(&[
    ("load_balancer", "write it in the `traffic_policy` of the service"),
    ("connection_pool", "write it in the `traffic_policy` of the service"),
]);

pub(in crate::config) static TRAFFIC_POLICY: Schema = Schema::new(
    "`traffic_policy`",
    &["load_balancer", "connection_pool", "tls", "proxy_protocol"],
    &["outlier_detection", "port_level_settings", "tunnel", "retry_budget"],
)
.below(&SERVICE)
.elsewhere(&[
    ("send_proxy", "write `proxy_protocol = { version = \"V1\" }`"),
    ("send_proxy_v2", "write `proxy_protocol = { version = \"V2\" }`"),
]);

pub(in crate::config) static SEND_PROXY: Schema =
    Schema::new("`proxy_protocol` of a `traffic_policy`", &["version"], &["tlvs", "pass_through_tlvs"])
        .example("`{ version = \"V2\" }`")
        .elsewhere(&[(
            "from",
            "whose headers are believed stands in `proxy_protocol` of a [[gateway.server]]",
        )]);

pub(in crate::config) static UPSTREAM_TLS: Schema = Schema::new(
    "`tls` of a traffic policy",
    &[
        "mode",
        "client_certificate",
        "private_key",
        "ca_certificates",
        "ca_crl",
        "crl_depth",
        "crl_unknown_status",
        "crl_expired",
        "sni",
        "subject_alt_names",
        "insecure_skip_verify",
        "min_protocol_version",
        "max_protocol_version",
        "cipher_profile",
        "cipher_suites",
    ],
    &["credential_name"],
)
.example("`{ mode = \"SIMPLE\", sni = \"..\" }`")
.elsewhere(&[
    ("credential_name", "write `client_certificate`, `private_key` and `ca_certificates`, paths of files"),
    ("server_certificate", "write `client_certificate`"),
    ("certificate", "write `client_certificate`"),
    ("cert", "write `client_certificate`"),
    ("crt", "write `client_certificate`"),
    ("key", "write `private_key`"),
    ("ca", "write `ca_certificates`"),
    ("ca_file", "write `ca_certificates`"),
    ("ssl_crl", "write `ca_crl`"),
    ("crl", "write `ca_crl`"),
    ("crl_file", "write `ca_crl`"),
    ("1.2", "write `TLSV1_2`"),
    ("1.3", "write `TLSV1_3`"),
    ("server_name", "write `sni`"),
    ("verifyhost", "write `subject_alt_names`, or `sni` for both"),
    ("verify", "it is on; `insecure_skip_verify = true` turns it off"),
    ("ssl_verify", "it is on; `insecure_skip_verify = true` turns it off"),
    ("proxy_ssl_name", "write `sni`"),
    ("ISTIO_MUTUAL", "write `MUTUAL` with certificates of your own: there is no Istio to issue them"),
]);

pub(in crate::config) static LOAD_BALANCER: Schema = Schema::new(
    "`load_balancer`",
    &["simple"],
    &["consistent_hash", "locality_lb_setting", "warmup", "warmup_duration_secs"],
);

pub(in crate::config) static CONNECTION_POOL: Schema =
    Schema::new("`connection_pool`", &["tcp", "http"], &[]);

pub(in crate::config) static POOL_TCP: Schema = Schema::new(
    "`connection_pool.tcp`",
    &["connect_timeout", "idle_timeout", "max_connection_duration"],
    &["max_connections", "tcp_keepalive"],
);

pub(in crate::config) static POOL_HTTP: Schema = Schema::new(
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
