//! `proxy_protocol` of a server (what is believed) and of a traffic policy (what is sent).

use std::time::Duration;

use ipnet::IpNet;

/// `proxy_protocol = { .. }` of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProxyAccept {
    /// Peers that begin each connection with a header, sorted, each once; others are clients themselves.
    pub from: Vec<IpNet>,
    /// From the accept to the end of the header: closed.
    pub timeout: Duration,
}

/// Istio's `ProxyProtocol.VERSION`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary, with what is known of TLS.
    V2,
}
