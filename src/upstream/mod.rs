//! From a cluster to a usable connection: [`balance`] picks an endpoint, [`pool`] keeps idle connections to it,
//! [`connect`] dials, [`response_body`] reads what comes back.

pub mod balance;
pub mod connect;
pub mod pool;
pub mod response_body;
