//! TLS that ends here, without I/O: who we are and whom we take (`pair`, `clients`, `tickets`, compiled by `terms`, tried by
//! `rehearsal`), and what the bytes of a connection mean (`machine`).
//!
//! [`machine`] is the one place that knows rustls' connection type; `downstream::wire` moves the bytes, `config::tls`
//! reads the files.

pub mod about;
pub mod clients;
pub mod digest;
pub mod identity;
pub mod machine;
pub mod pair;
mod rehearsal;
pub mod suites;
pub mod terms;
#[cfg(test)]
pub(crate) mod testing;
pub mod tickets;
