//! What people want to know of a certificate, a bundle of authorities or a revocation list.

use std::net::IpAddr;

use x509_parser::prelude::{CertificateRevocationList, FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::config::visible;

/// Names that are kept of a certificate; some have hundreds.
const NAMES_MAX: usize = 100;

/// What stands in a file with certificates or lists.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct About {
    /// Distinguished name; of several the first, with the number of the others.
    pub subject: String,
    /// Names and addresses that it is for.
    pub names: Vec<String>,
    /// Distinguished name of the issuer.
    pub issuer: String,
    /// Kind and size of the key; empty for lists.
    pub key: String,
    /// Seconds since 1970 at which it ends; of several the first that does.
    pub not_after: Option<i64>,
}

impl About {
    /// Of a parsed certificate.
    #[must_use]
    pub(super) fn certificate(certificate: &X509Certificate<'_>) -> Self {
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(name);
        Self {
            subject: shown(&certificate.subject().to_string()),
            names: names.take(NAMES_MAX).collect(),
            issuer: shown(&certificate.issuer().to_string()),
            key: key(certificate),
            not_after: Some(certificate.validity().not_after.timestamp()),
        }
    }

    /// Of authorities.
    #[must_use]
    pub(super) fn authorities<'c>(certificates: impl ExactSizeIterator<Item = &'c [u8]>) -> Self {
        let others = certificates.len().saturating_sub(1);
        let mut about: Option<Self> = None;
        for der in certificates {
            let Ok((_, parsed)) = X509Certificate::from_der(der) else { continue };
            let not_after = parsed.validity().not_after.timestamp();
            let about = about.get_or_insert_with(|| Self::certificate(&parsed));
            about.not_after = about.not_after.map(|first| first.min(not_after));
        }
        let mut about = about.unwrap_or_default();
        about.subject = with_others(about.subject, others);
        about
    }

    /// Of revocation lists; `others` stand behind the first.
    #[must_use]
    pub(super) fn list(first: &CertificateRevocationList<'_>, others: usize) -> Self {
        let issuer = with_others(shown(&first.issuer().to_string()), others);
        Self { issuer, ..Self::default() }
    }
}

fn with_others(name: String, others: usize) -> String {
    if others == 0 { name } else { format!("{name} (+{others})") }
}

/// Names come from outside, and go to terminals.
fn shown(name: &str) -> String {
    visible(name).into_owned()
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
            Some(shown(name))
        }
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

fn key(certificate: &X509Certificate<'_>) -> String {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
        Ok(PublicKey::EC(point)) => match point.key_size() {
            size @ (256 | 384) => format!("ECDSA P-{size}"),
            _ => "ECDSA P-521".to_owned(),
        },
        // The object identifier of RFC 8410.
        _ if certificate.public_key().algorithm.algorithm.to_id_string() == "1.3.101.112" => {
            "Ed25519".to_owned()
        }
        _ => "other".to_owned(),
    }
}
