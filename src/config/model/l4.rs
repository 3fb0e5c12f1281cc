//! Routes of connections: Istio's TLSRoute and TCPRoute.

use ipnet::IpNet;

use super::{Destination, HostPattern, Origin};

/// `[[virtual_service.tls]]` and `[[virtual_service.tcp]]`.
#[derive(Clone, Debug)]
pub struct L4Route {
    /// Any of these; empty matches every connection (only TCP routes may be so).
    pub matches: Vec<L4Match>,
    /// Weighted destinations; weights are positive in sum.
    pub route: Vec<Destination>,
    /// Where it was written.
    pub origin: Origin,
}

/// One block of `match`: all of its fields must hold.
#[derive(Clone, Debug, Default)]
pub struct L4Match {
    /// Port of the server.
    pub port: Option<u16>,
    /// SNI names, within the virtual service's hosts; empty for TCP routes.
    pub sni_hosts: Vec<HostPattern>,
    /// Networks of the address that the client connected to; empty matches all.
    pub destination_subnets: Vec<IpNet>,
    /// Networks of the client's address; empty matches all.
    pub source_subnets: Vec<IpNet>,
    /// Where it was written.
    pub origin: Origin,
}
