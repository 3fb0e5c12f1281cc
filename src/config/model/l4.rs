//! Routes of connections: Istio's TLSRoute and TCPRoute.

use std::sync::Arc;

use ipnet::IpNet;

use super::{Destination, HostPattern, Origin, Protocol, Server, ServerTls, VirtualService};

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
    /// Names of gateways, of those of the virtual service; empty for all of them.
    pub gateways: Vec<Arc<str>>,
    /// SNI names, within the virtual service's hosts; empty for TCP routes.
    pub sni_hosts: Vec<HostPattern>,
    /// Networks of the address that the client connected to; empty matches all.
    pub destination_subnets: Vec<IpNet>,
    /// Networks of the client's address; empty matches all.
    pub source_subnets: Vec<IpNet>,
    /// Where it was written.
    pub origin: Origin,
}

/// Which rules of virtual services decide.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RuleKind {
    /// `http`, for each request.
    Http,
    /// `tls`, for each connection that passes through as TLS.
    Tls,
    /// `tcp`, for each connection whose bytes are relayed: plain, or out of TLS that ends here.
    Tcp,
}

impl RuleKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Http, Self::Tls, Self::Tcp];

    /// The key of such rules.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Tcp => "tcp",
        }
    }
}

impl Server {
    /// The rules that decide over what comes to the server.
    #[must_use]
    pub const fn rule_kind(&self) -> RuleKind {
        match (self.protocol, &self.tls) {
            (Protocol::Https | Protocol::Tls, Some(ServerTls::Passthrough)) => RuleKind::Tls,
            (Protocol::Http | Protocol::Https, _) => RuleKind::Http,
            (Protocol::Tcp | Protocol::Tls, _) => RuleKind::Tcp,
        }
    }
}

impl VirtualService {
    /// Whether it has rules of a kind.
    #[must_use]
    pub const fn has_rules(&self, kind: RuleKind) -> bool {
        match kind {
            RuleKind::Http => !self.http.is_empty(),
            RuleKind::Tls => !self.tls.is_empty(),
            RuleKind::Tcp => !self.tcp.is_empty(),
        }
    }
}
