//! The client's side: from a bound socket to requests, and from responses to bytes on the wire.
//!
//! [`listener`] binds, [`accept`] takes connections in, [`handover`] moves some to shards with fewer, [`session`] serves one connection: while requests come, `active` parses heads, hands each
//! request to [`crate::gateway`] with a [`request_body`] and a [`response_sink`], and decides what the connection
//! does next. [`linger`] ends a connection so that the last response arrives.

pub mod accept;
mod active;
pub mod client_hello;
pub mod handover;
pub mod linger;
pub mod listener;
pub mod request_body;
pub mod response_sink;
pub mod session;

pub use active::Scratch;
