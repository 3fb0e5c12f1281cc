//! Integration tests: one binary, one module per concern. They start the real `ringgate` on port 0 and talk raw
//! bytes to it, on both I/O drivers.
//!
//! Environment: `RINGGATE_TEST_NO_URING=1` leaves the io_uring variants out on a host that forbids io_uring (without
//! it they fail there); `RINGGATE_SEED=n` replays a random test; `RINGGATE_TEST_BINARY=path` tests another build.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking; the message is the diagnosis"
)]

#[macro_use]
mod support;

mod accept_balance;
mod accept_steering;
mod bounds;
mod certificates;
mod certs_command;
mod check;
mod client_identity;
mod cores;
mod cores_command;
mod drain;
mod drivers;
mod handshakes;
mod headers;
mod help;
mod http1;
mod http1_bodies;
mod https;
mod istio_in_action;
mod layer4;
mod leaks;
mod lifecycle;
mod lingering;
mod logs;
mod mixed;
mod origination;
mod origination_live;
mod origination_traffic;
mod passthrough;
mod paths;
mod pressure;
mod proxy_protocol;
mod proxy_protocol_sent;
mod readme;
mod refusals;
mod refusals_smuggling;
mod reload;
mod reload_command;
mod repo_rules;
mod routing;
mod scripts;
mod start;
mod tcp;
mod timeouts;
mod timers;
mod tls;
mod tune;
mod upgrade;
mod upstream;
mod upstream_failures;
