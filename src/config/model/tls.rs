//! `tls` of a server and of a traffic policy: Istio's ServerTLSSettings and ClientTLSSettings.

use std::fmt;
use std::sync::Arc;

use crate::tls::identity::CertDetail;

/// `tls = { .. }` of a server.
#[derive(Clone, Debug)]
pub enum ServerTls {
    /// `PASSTHROUGH`: the bytes go to an endpoint as they are.
    Passthrough,
    /// `SIMPLE`, `MUTUAL`, `OPTIONAL_MUTUAL`: TLS ends here.
    Terminate(Arc<TlsTerms>),
}

/// `mode` of a server where TLS ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsMode {
    /// `SIMPLE`: no client certificate is asked for.
    Simple,
    /// `MUTUAL`: no handshake without a good client certificate.
    Mutual,
    /// `OPTIONAL_MUTUAL`: none is fine, a bad one is not.
    OptionalMutual,
}

/// How TLS ends at a server; certificates and keys are read and checked.
pub struct TlsTerms {
    /// Whether clients show certificates.
    pub mode: TlsMode,
    /// What handshakes are made with.
    pub config: Arc<rustls::ServerConfig>,
    /// What endpoints learn of client certificates.
    pub details: Vec<CertDetail>,
    /// What decides on client certificates; asked again when a session resumes.
    pub clients: Arc<dyn rustls::server::danger::ClientCertVerifier>,
    /// Equal where clients are treated alike: mode, authorities, lists, names, versions, suites. Certificates do not count.
    pub policy: [u8; 32],
    /// The same but for what revocation lists hold: a client that the new ones know nothing of stays.
    pub settings: [u8; 32],
    /// Equal where a session may be resumed: the policy and the certificates.
    pub fingerprint: [u8; 32],
}

/// Without the keys.
impl fmt::Debug for TlsTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTerms").field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// `tls = { .. }` of a traffic policy: how TLS is spoken to endpoints.
pub struct UpstreamTls {
    /// What handshakes are made with. It remembers no sessions.
    pub config: Arc<rustls::ClientConfig>,
    /// What decides on endpoints' certificates; asked again when a session resumes.
    pub verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>,
    /// The DNS name that is sent; `None`: none is, and the certificate must be for the endpoint's address.
    pub sni: Option<rustls::pki_types::ServerName<'static>>,
    /// Equal where connections can stand for each other: authorities, lists, names, certificate, versions, suites.
    pub fingerprint: [u8; 32],
}

/// Without the key.
impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTls").field("sni", &self.sni).finish_non_exhaustive()
    }
}
