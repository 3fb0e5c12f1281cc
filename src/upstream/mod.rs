//! From a cluster to a usable connection: [`balance`] picks an endpoint, [`pool`] keeps idle connections to it, [`own`]
//! those of one client, [`connect`] dials, [`handshake`] adds TLS, [`response_body`] reads what comes back, [`trouble`]
//! tells the log what does not.

pub mod balance;
pub mod connect;
pub mod handshake;
pub mod own;
pub mod pool;
pub mod response_body;
pub mod trouble;
