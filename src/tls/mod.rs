//! TLS that ends or begins here, without I/O: who we are and whom we take (`pair`, `clients`, `tickets`, compiled by
//! `terms`, tried by `rehearsal`), what endpoints we trust (`origination`), who a client is (`identity`),
//! and what the bytes of a connection mean (`machine`).
//!
//! [`machine`] is the one place that knows rustls' connection types; `wire` moves the bytes, `config::tls` and
//! `config::origination` read the files.

pub mod about;
pub mod clients;
pub mod digest;
pub mod fault;
pub mod identity;
pub mod machine;
pub mod origination;
pub mod pair;
mod rehearsal;
pub mod suites;
pub mod terms;
#[cfg(test)]
pub(crate) mod testing;
pub mod tickets;
