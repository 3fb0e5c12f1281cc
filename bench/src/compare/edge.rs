//! What a proxy does with a connection before it forwards anything.

/// Where proxy and backend stand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Edge {
    /// It forwards requests.
    Http,
    /// It ends TLS and forwards requests.
    Https,
    /// It passes TLS through by the name that the client asks for; the backend ends it.
    Sni,
    /// It passes bytes through.
    Tcp,
}

impl Edge {
    /// Whether clients of the proxy speak TLS.
    pub(crate) const fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::Sni)
    }

    /// Whether the backend does.
    pub(crate) const fn is_backend_secure(self) -> bool {
        matches!(self, Self::Sni)
    }

    /// Whether it reads requests.
    pub(crate) const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}
