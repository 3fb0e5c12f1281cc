//! A client's TLS session: what it begins with, what was agreed on, and what its errors mean.

use rustls::client::UnbufferedClientConnection;
use rustls::{CertificateError, Error, HandshakeKind};

use super::trust::Client;
pub(super) use crate::tls::Event;

/// One connection's state.
pub(super) type Session = crate::tls::Session<UnbufferedClientConnection>;

impl Session {
    /// A session that begins.
    pub(super) fn client(client: &Client) -> Result<Self, Error> {
        Ok(Self::new(UnbufferedClientConnection::new(client.config.clone(), client.name.clone())?))
    }

    /// How the handshake went; `None` before it is known.
    pub(super) fn kind(&self) -> Option<HandshakeKind> {
        self.connection.handshake_kind()
    }

    /// Whether a later connection can resume this one.
    pub(super) fn is_resumable(&self) -> bool {
        // Sessions of TLS 1.2 are known when the handshake has ended, tickets of TLS 1.3 come behind it.
        self.connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_2)
            || self.connection.tls13_tickets_received() > 0
    }

    /// What was agreed on: version, cipher suite, key exchange.
    pub(super) fn agreed(&self) -> [String; 3] {
        let version = match self.connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
            _ => "",
        };
        let suite = self.connection.negotiated_cipher_suite();
        let group = self.connection.negotiated_key_exchange_group();
        [
            version.to_owned(),
            suite.map(|suite| format!("{:?}", suite.suite())).unwrap_or_default(),
            group.map(|group| format!("{:?}", group.name())).unwrap_or_default(),
        ]
    }
}

/// What a failed handshake means to the user, and what to do.
pub(super) fn explain(error: &Error, name: &str) -> String {
    let advice = match error {
        // A root of the right name, but with another key.
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is signed by none of the trusted roots: give the root with --ca, or measure without \
             verification (--insecure)"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "give a name that it has with --sni, or --insecure",
        Error::InvalidCertificate(_) if error.to_string().contains("CaUsedAsEndEntity") => {
            "a root certificate can not be the server's own as well: sign one with it, or verify nothing with --insecure"
        }
        Error::InvalidCertificate(_) => "verify nothing with --insecure",
        Error::AlertReceived(_) | Error::PeerIncompatible(_) => {
            "the server refuses what is offered: see --tls-version, --tls-key-exchange and --sni"
        }
        Error::InvalidMessage(_) => "is this a port for TLS?",
        _ => return format!("TLS with `{name}`: {error}"),
    };
    format!("TLS with `{name}`: {error}; {advice}")
}
