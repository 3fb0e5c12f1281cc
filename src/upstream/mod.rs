//! The upstream side: which endpoint of a cluster takes a request, and the connections to it.

pub mod balance;
