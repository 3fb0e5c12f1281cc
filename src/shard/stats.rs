//! Counters of a shard: plain cells on the hot path, read by the shard itself when the supervisor asks.

use std::cell::Cell;

use serde::Serialize;

/// A counter that only its shard touches.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds one.
    #[inline]
    pub fn add(&self) {
        self.0.set(self.0.get() + 1);
    }

    /// Takes one back: for gauges.
    #[inline]
    pub fn sub(&self) {
        self.0.set(self.0.get().saturating_sub(1));
    }

    /// Its value.
    #[inline]
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.get()
    }
}

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters; those named `*_open` and `*_idle` are gauges.
        #[derive(Debug, Default)]
        pub struct Stats { $($(#[$doc])* pub $name: Counter,)* }

        /// Values of [`Stats`] at one moment.
        #[derive(Clone, Debug, Default, Serialize)]
        pub struct StatsSnapshot { $($(#[$doc])* pub $name: u64,)* }

        impl Stats {
            /// Reads all counters.
            #[must_use]
            pub fn snapshot(&self) -> StatsSnapshot {
                StatsSnapshot { $($name: self.$name.value(),)* }
            }
        }
    };
}

stats! {
    /// Downstream connections served, be they accepted here or taken over.
    sessions,
    /// Downstream connections open.
    sessions_open,
    /// Downstream connections accepted and left to another shard.
    sessions_handed_over,
    /// Downstream connections that another shard accepted.
    sessions_taken_over,
    /// Accepts put off because no file descriptor or memory was left, or a cap was reached.
    accept_pauses,
    /// Requests whose head was read.
    requests,
    /// Requests under way: from the head to the end of the response. Tunnels are among them.
    exchanges_open,
    /// TLS handshakes completed.
    tls_handshakes,
    /// TLS handshakes that resumed a session, of these.
    tls_resumed,
    /// TLS handshakes that failed or were given up.
    tls_refused,
    /// Answers that ringgate made itself, refusals among them.
    local_replies,
    /// Requests refused as malformed, ambiguous or beyond a limit: 400, 405, 414, 417, 431, 501, 505.
    refusals,
    /// Connections dialled to endpoints.
    upstream_dialled,
    /// Dials that failed.
    upstream_dial_failures,
    /// TLS handshakes with endpoints completed.
    upstream_tls_handshakes,
    /// TLS handshakes with endpoints that resumed a session, of these.
    upstream_tls_resumed,
    /// TLS with endpoints that failed, in the handshake or later.
    upstream_tls_failed,
    /// Connections to endpoints open, idle ones included.
    upstream_open,
    /// Connections to endpoints that wait in a pool.
    upstream_idle,
    /// Requests sent on a pooled connection.
    upstream_reused,
    /// Pooled connections found closed or with unasked bytes when taken.
    upstream_stale,
    /// Requests sent again because a pooled connection died.
    upstream_replays,
    /// Exchanges given up because the client's connection was reset.
    clients_gone,
    /// Responses that could not be completed.
    responses_cut,
    /// Timer `handshake`: no ClientHello, or no whole handshake.
    timeout_handshake,
    /// Timer `header`: 408.
    timeout_header,
    /// Timer `body_gap` of a gateway: 408.
    timeout_body_gap,
    /// Timer `write_gap`: the client stopped reading.
    timeout_write_gap,
    /// Timer `keep_alive`: an idle client connection closed.
    timeout_keep_alive,
    /// Timer `connect_timeout`: 504.
    timeout_connect,
    /// Timer `first_byte_timeout`: 504.
    timeout_first_byte,
    /// Timer `body_gap_timeout` of a service.
    timeout_upstream_body_gap,
    /// Timer `tunnel_idle`.
    timeout_tunnel_idle,
    /// Timer `linger`: closed although the client still sent.
    timeout_linger,
    /// Tunnels (upgraded connections) open.
    tunnels_open,
    /// Bodies relayed by splice.
    spliced_bodies,
    /// Connections relayed: TCP, TLS that passes through, and TLS that ends here and goes on as bytes.
    relays,
    /// Relays open.
    relays_open,
    /// Connections closed because no rule matched or no endpoint could be reached.
    relays_refused,
    /// Relays that ended because a side broke off.
    relays_broken,
    /// Times that a direction of a relay or tunnel was turned to splice.
    spliced_relays,
    /// Timer `idle_timeout` of `connection_pool.tcp`.
    timeout_tcp_idle,
    /// Timer `max_connection_duration`.
    timeout_connection_duration,
    /// TLS connections with a name that no server of the port has, or without one where none has `*`, or without a rule.
    tls_unknown_names,
    /// TLS connections whose ClientHello is malformed or too long.
    tls_malformed_hellos,
    /// Connections to TLS ports that do not begin as TLS.
    tls_not_tls,
    /// Connections that began with a PROXY header, of peers that are to.
    proxy_headers,
    /// Connections of such peers that began with something else, or ended in their header.
    proxy_headers_refused,
    /// Timer `timeout` of a server's `proxy_protocol`.
    timeout_proxy_header,
    /// Connections beyond a gateway's `connections_max`.
    gateway_connections_refused,
}
