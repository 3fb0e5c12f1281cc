//! What the tests stand on: the gateway as a child process, scripted backends, a raw client, seeded randomness.
//!
//! Rules that all of it keeps: no assertion rests on what one `read()` returned, every wait has a deadline, and
//! nothing sleeps in the hope that something else happens meanwhile.

pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod gateway;
pub(crate) mod help_text;
mod kernel;
pub(crate) mod rng;
mod selftest;
pub(crate) mod sync;
pub(crate) mod tempdir;
pub(crate) mod tls;
pub(crate) mod tls_backend;
pub(crate) mod tls_records;
pub(crate) mod wire;

use std::time::Duration;

pub(crate) use backend::{Backend, Conn};
pub(crate) use client::Client;
pub(crate) use gateway::{Driver, Gateway};
pub(crate) use sync::Gate;
pub(crate) use wire::Failure;

/// How long anything that must happen may take. Far above what it takes, so that only a hang reaches it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Turns each function into two tests, `name::io_uring` and `name::epoll`.
macro_rules! both_drivers {
    ($($(#[$meta:meta])* fn $name:ident($driver:ident) $body:block)*) => { $(
        $(#[$meta])*
        mod $name {
            use super::*;

            fn run($driver: crate::support::Driver) $body

            #[test]
            fn epoll() {
                run(crate::support::Driver::Epoll);
            }

            #[test]
            fn io_uring() {
                if crate::support::Driver::io_uring_wanted() {
                    run(crate::support::Driver::IoUring);
                }
            }
        }
    )* };
}
