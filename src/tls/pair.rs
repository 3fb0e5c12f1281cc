//! A server's certificate chain and its private key, read from PEM and checked against each other.

use std::fmt;
use std::sync::Arc;

use rustls::Error;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What handshakes of a server are signed with.
#[derive(Clone)]
pub struct Pair {
    /// As rustls takes it.
    pub certified: Arc<CertifiedKey>,
    /// Seconds since 1970 from which on the certificate is good.
    pub not_before: i64,
    /// Seconds since 1970 until which it is.
    pub not_after: i64,
}

/// Why PEM texts are no pair.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PairFault {
    /// The certificate's file; a sentence.
    Certificate(String),
    /// The key's file; a sentence. Nothing of the key stands in it.
    Key(String),
    /// Both are good, for different keys.
    Mismatch,
}

/// Reads a chain (the server's certificate first) and a key.
///
/// # Errors
/// See [`PairFault`].
pub fn read_pair(
    provider: &CryptoProvider,
    chain: &str,
    key: &str,
    ocsp_response: Option<Vec<u8>>,
) -> Result<Pair, PairFault> {
    let chain = read_chain(chain).map_err(PairFault::Certificate)?;
    let Some(leaf) = chain.first() else {
        return Err(PairFault::Certificate("holds no certificate".to_owned()));
    };
    let validity = |leaf: &CertificateDer<'_>| {
        let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
        let validity = parsed.validity();
        Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
    };
    let Some((not_before, not_after)) = validity(leaf) else {
        return Err(PairFault::Certificate("holds a certificate that is not X.509".to_owned()));
    };
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| PairFault::Key("holds no private key (PKCS #8, PKCS #1 or SEC 1)".to_owned()))?;
    let mut certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        Error::InconsistentKeys(_) => PairFault::Mismatch,
        Error::InvalidCertificate(_) => {
            PairFault::Certificate("holds a certificate that can not be used".to_owned())
        }
        _ => PairFault::Key("holds a key of a kind that TLS can not use here".to_owned()),
    })?;
    certified.ocsp = ocsp_response;
    Ok(Pair { certified: Arc::new(certified), not_before, not_after })
}

/// Reads certificates.
///
/// # Errors
/// A sentence about the file.
pub fn read_chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("is not PEM: {error}"))
}

impl Pair {
    /// Whether the certificate is for this DNS name or address. `*.example.com` asks for any name directly below.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        let concrete = host.strip_prefix("*.").map(|rest| format!("any-name.{rest}"));
        let host = concrete.as_deref().unwrap_or(host);
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let (Some(leaf), Ok(name)) = (self.certified.cert.first(), ServerName::try_from(host)) else {
            return false;
        };
        ParsedCertificate::try_from(leaf).is_ok_and(|leaf| verify_server_name(&leaf, &name).is_ok())
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}
