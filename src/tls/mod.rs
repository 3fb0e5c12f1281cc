//! TLS that ends here, without I/O: what the bytes of a connection mean, and what to send.
//!
//! [`machine`] is the one place that knows rustls' connection type; `downstream::wire` moves the bytes.

pub mod machine;
