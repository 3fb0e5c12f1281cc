//! The client's side: from a bound socket to requests, and from responses to bytes on the wire.
//!
//! [`listener`] binds, [`accept`] takes connections in, [`handover`] moves some to shards with fewer, [`session`] serves
//! one connection over its [`Wire`]: `proxied` reads a PROXY header where one is to come, `detect` finds out what comes in over TLS ([`client_hello`], `handshake`) and where
//! TCP goes; while requests come, `active` parses heads, hands each request to [`crate::gateway`] with a [`request_body`]
//! and a [`response_sink`], and decides what the connection does next. [`linger`] ends a connection so that the last response arrives.

pub mod accept;
mod active;
pub mod client_hello;
mod detect;
pub mod handover;
mod handshake;
pub mod linger;
pub mod listener;
mod proxied;
pub mod request_body;
pub mod response_sink;
pub mod session;

pub use active::Scratch;

use crate::gateway::plan::MadeFor;

/// A client's connection. Over TLS it knows which server it was made for.
pub type Wire = crate::wire::Wire<MadeFor>;
