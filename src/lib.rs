//! ringgate: an edge load balancer for Linux hosts.
//!
//! # Path of a connection
//!
//! ```text
//! downstream/listener -> downstream/accept -> downstream/handover -> downstream/session
//!   behind a proxy: -> downstream/proxied (proxy_protocol)
//!   TCP, TLS: -> downstream/detect (client_hello, table/layer4) -> gateway/passthrough -> gateway/relay,
//!             or downstream/handshake (tls/machine), and on over TLS (wire)
//!   HTTP: -> downstream/active -> http1/request (+ http1/target) -> gateway/plan (table/*)
//!   -> upstream/balance -> upstream/pool | upstream/connect (+ upstream/handshake)
//!   -> gateway/exchange -> gateway/attempt -> gateway/incoming (http1/response, http1/rewrite)
//!   -> downstream/response_sink -> back to downstream/active, or gateway/tunnel after an upgrade
//! ```
//!
//! Control path: `supervisor` -> `config/*` -> `table` -> `supervisor/reload` -> `shard/mailbox` -> each shard.
//!
//! `http1`, `tls`, `proxy_protocol`, `table`, `message` and `upstream/balance` are sans-I/O: they take slices and clocks and return
//! decisions, and never import monoio.

pub mod cli;
pub mod config;
pub mod demo;
pub mod downstream;
#[doc(hidden)]
pub mod fuzz;
pub mod gateway;
pub mod http1;
pub mod lines;
pub mod message;
pub mod proxy_protocol;
pub mod shard;
pub mod stdio;
pub mod supervisor;
pub mod sys;
pub mod table;
pub mod tls;
pub mod upstream;
pub mod wire;
