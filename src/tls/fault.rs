//! Why TLS with an endpoint failed, in words that tell an operator what to do.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error};

/// A cause, small enough to be kept per endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsFault {
    /// The peer refused, by this alert.
    Alert(AlertDescription),
    /// The certificate is damaged, or one that TLS servers can not have.
    BadCertificate,
    /// The peer ended the connection without a word.
    Closed,
    /// The revocation list is out of date.
    CrlExpired,
    /// No revocation list is that of the certificate's issuer.
    CrlUnknown,
    /// The certificate has ended.
    Expired,
    /// Nothing in common: versions, suites, groups.
    Incompatible,
    /// The certificate is for other names.
    Name,
    /// The peer does not speak TLS.
    NotTls,
    /// The certificate is not good yet.
    NotYetValid,
    /// Anything else that TLS does not allow.
    Protocol,
    /// The certificate is revoked.
    Revoked,
    /// No authority of ours issued the certificate.
    UnknownIssuer,
}

impl TlsFault {
    /// The cause behind an error.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::AlertReceived(alert) => Self::Alert(*alert),
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::InvalidCertRevocationList(_) => Self::CrlUnknown,
            Error::InvalidMessage(_) => Self::NotTls,
            Error::NoCertificatesPresented => Self::BadCertificate,
            Error::PeerIncompatible(_) => Self::Incompatible,
            _ => Self::Protocol,
        }
    }

    const fn of_certificate(error: &CertificateError) -> Self {
        use CertificateError as C;
        match error {
            C::Expired | C::ExpiredContext { .. } => Self::Expired,
            C::NotValidYet | C::NotValidYetContext { .. } => Self::NotYetValid,
            C::Revoked => Self::Revoked,
            C::UnknownIssuer | C::BadSignature => Self::UnknownIssuer,
            C::UnknownRevocationStatus => Self::CrlUnknown,
            C::ExpiredRevocationList | C::ExpiredRevocationListContext { .. } => Self::CrlExpired,
            C::NotValidForName | C::NotValidForNameContext { .. } => Self::Name,
            _ => Self::BadCertificate,
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alert(AlertDescription::CertificateRequired) => {
                "it asks for a client certificate: mode MUTUAL shows one"
            }
            Self::Alert(alert) => return write!(f, "it refused, with the alert {alert:?}"),
            Self::BadCertificate => "its certificate is not one that a TLS server can have",
            Self::Closed => "it closed the connection in the middle of the handshake",
            Self::CrlExpired => "the revocation list in ca_crl is out of date",
            Self::CrlUnknown => "ca_crl holds no list of its certificate's issuer",
            Self::Expired => "its certificate has ended, or the clock of this host is wrong",
            Self::Incompatible => "no TLS version or cipher suite in common",
            Self::Name => {
                "its certificate is for another name than subject_alt_names, else sni, else its address"
            }
            Self::NotTls => "what it sends is not TLS: is this the right port?",
            Self::NotYetValid => "its certificate is not good yet, or the clock of this host is wrong",
            Self::Protocol => "it does what TLS does not allow",
            Self::Revoked => "its certificate is revoked",
            Self::UnknownIssuer => {
                "its certificate is issued by none of the authorities in ca_certificates, \
                 or, without that key, of this host"
            }
        })
    }
}
