//! A server's certificate chain and its private key, read from PEM and checked against each other.

use std::fmt;
use std::sync::Arc;

use memchr::memmem;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys, SupportedCipherSuite};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use super::about::About;
use super::digest::{self, Sha256};

/// What handshakes of a server are signed with.
#[derive(Clone)]
pub struct Pair {
    /// As rustls takes it.
    pub certified: Arc<CertifiedKey>,
    /// Seconds since 1970 from which on the certificate is good.
    pub not_before: i64,
    /// Seconds since 1970 until which it is.
    pub not_after: i64,
    /// The first certificate of the chain (the server's is 1) that did not issue the one before it.
    pub gap: Option<usize>,
    /// Whether its extendedKeyUsage lets servers show it.
    pub for_servers: bool,
    /// Whether it lets clients.
    pub for_clients: bool,
    /// It is that of an authority.
    pub is_authority: bool,
    /// Of the texts it was read from: [`digest_of`].
    pub digest: Sha256,
    /// For people.
    pub about: Arc<About>,
}

/// Equal for equal texts of chain, key and OCSP response.
#[must_use]
pub fn digest_of(chain: &[u8], key: &[u8], ocsp_response: Option<&[u8]>) -> Sha256 {
    digest::of([chain, key].into_iter().chain(ocsp_response))
}

/// What is wrong with a file. Nothing of a key stands in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fault {
    /// Goes on from the file's name.
    pub reason: &'static str,
    /// What to do.
    pub hint: Option<&'static str>,
}

impl Fault {
    const fn new(reason: &'static str) -> Self {
        Self { reason, hint: None }
    }

    const fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }
}

/// Why PEM texts are no pair.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PairFault {
    /// The certificate's file.
    Certificate(Fault),
    /// The key's file.
    Key(Fault),
    /// Both are good, for different keys.
    Mismatch,
    /// The key is that of a later certificate of the chain.
    Order,
    /// The OCSP response's file.
    Response(Fault),
}

const SWAPPED: &str = "perhaps the two paths are swapped";

/// Reads a chain (the server's certificate first), a key, and an OCSP response to staple.
///
/// # Errors
/// See [`PairFault`].
pub fn read_pair(
    provider: &CryptoProvider,
    chain: &[u8],
    key: &[u8],
    ocsp_response: Option<Vec<u8>>,
) -> Result<Pair, PairFault> {
    let digest = digest_of(chain, key, ocsp_response.as_deref());
    let chain = read_chain(chain).map_err(PairFault::Certificate)?;
    let fault = |reason| PairFault::Certificate(Fault::new(reason));
    let parsed: Vec<X509Certificate<'_>> = chain
        .iter()
        .map(|certificate| X509Certificate::from_der(certificate).map(|(_, parsed)| parsed))
        .collect::<Result<_, _>>()
        .map_err(|_| fault("holds a certificate that is not X.509"))?;
    let Some(leaf) = parsed.first() else { return Err(fault("holds no certificate")) };
    if leaf.version() != X509Version::V3 {
        let fault = Fault::new("holds a certificate of an X.509 version before 3, which clients refuse");
        return Err(PairFault::Certificate(fault.hint("make it anew with subjectAltName")));
    }
    let (not_before, not_after) =
        (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    let linked =
        |pair: &[X509Certificate<'_>]| matches!(pair, [lower, upper] if lower.issuer() == upper.subject());
    let usage = leaf.extended_key_usage().ok().flatten().map(|usage| usage.value);
    let for_servers = usage.is_none_or(|usage| usage.any || usage.server_auth);
    let for_clients = usage.is_none_or(|usage| usage.any || usage.client_auth);
    let is_authority = leaf.is_ca();
    let about = Arc::new(About::certificate(leaf));
    let gap = parsed.windows(2).position(|pair| !linked(pair)).map(|at| at + 2);
    drop(parsed);
    let key = read_key(provider, key).map_err(PairFault::Key)?;
    let mut certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => return Err(mismatch(&certified)),
        Err(_) => return Err(fault("holds a certificate that TLS can not use")),
    }
    if let Some(response) = &ocsp_response {
        check_response(response).map_err(PairFault::Response)?;
    }
    certified.ocsp = ocsp_response;
    let certified = Arc::new(certified);
    Ok(Pair { certified, not_before, not_after, gap, for_servers, for_clients, is_authority, digest, about })
}

fn mismatch(certified: &CertifiedKey) -> PairFault {
    let later = certified.cert.iter().skip(1).any(|certificate| {
        CertifiedKey::new(vec![certificate.clone()], Arc::clone(&certified.key)).keys_match().is_ok()
    });
    if later { PairFault::Order } else { PairFault::Mismatch }
}

/// Reads certificates; at least one.
///
/// # Errors
/// What is wrong with the file.
pub fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| Fault::new("has a PEM block that is damaged"))?;
    if !chain.is_empty() {
        return Ok(chain);
    }
    Err(match pem {
        _ if is_pkcs12(pem) => PKCS12,
        // A sequence, in DER.
        [0x30, ..] => Fault::new("is not PEM but DER")
            .hint("turn it into PEM: openssl x509 -inform DER -in FILE -out FILE.pem"),
        _ if holds(pem, "PRIVATE KEY-----") => {
            Fault::new("holds a private key and no certificate").hint(SWAPPED)
        }
        _ => Fault::new("holds no certificate"),
    })
}

fn read_key(provider: &CryptoProvider, pem: &[u8]) -> Result<Arc<dyn SigningKey>, Fault> {
    // `ENCRYPTED PRIVATE KEY` of PKCS #8, or `Proc-Type: 4,ENCRYPTED` of older files.
    if holds(pem, "ENCRYPTED") {
        let fault = Fault::new("holds a key behind a pass phrase, for which nobody can be asked");
        return Err(
            fault.hint("take the pass phrase away: openssl pkey -in FILE -out NEW, and chmod 600 NEW")
        );
    }
    let Ok(key) = PrivateKeyDer::from_pem_slice(pem) else {
        return Err(match pem {
            _ if is_pkcs12(pem) => PKCS12,
            [0x30, ..] => Fault::new("is not PEM but DER")
                .hint("turn it into PEM: openssl pkey -inform DER -in FILE -out FILE.pem"),
            _ if holds(pem, "CERTIFICATE-----") => {
                Fault::new("holds a certificate and no private key").hint(SWAPPED)
            }
            _ => Fault::new("holds no private key (PKCS #8, PKCS #1 or SEC 1)"),
        });
    };
    let unusable = Fault::new("holds a key that TLS can not use here");
    provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| unusable.hint("RSA from 2048 bits, P-256, P-384, P-521 and Ed25519 work"))
}

const PKCS12: Fault = Fault {
    reason: "is not PEM but PKCS #12",
    hint: Some("turn it into PEM: openssl pkcs12 -in FILE -nodes -out FILE.pem, and chmod 600 FILE.pem"),
};

/// A PFX begins with its version, which is 3 (RFC 7292 section 4).
fn is_pkcs12(file: &[u8]) -> bool {
    let [0x30, length, rest @ ..] = file else { return false };
    let more = if *length < 0x80 { 0 } else { usize::from(*length & 0x7f) };
    rest.get(more..).is_some_and(|body| body.starts_with(&[0x02, 1, 3]))
}

fn holds(pem: &[u8], text: &str) -> bool {
    memmem::find(pem, text.as_bytes()).is_some()
}

/// Responses have some kilobytes; in a handshake there is room for 64 KiB.
const RESPONSE_BYTES_MAX: usize = 32 * 1024;

/// OCSPResponse of RFC 6960 section 4.2.1, as far as its status.
fn check_response(response: &[u8]) -> Result<(), Fault> {
    if response.len() > RESPONSE_BYTES_MAX {
        return Err(Fault::new("is longer than any OCSP response: 32 KiB"));
    }
    let body = match response {
        [0x30, length, body @ ..] if *length < 0x80 => Some(body),
        [0x30, length, rest @ ..] => rest.get(usize::from(length & 0x7f)..),
        _ => None,
    };
    match body {
        Some([0x0a, 1, 0, ..]) => Ok(()),
        Some([0x0a, 1, _, ..]) => Err(Fault::new("is the refusal of an OCSP responder")
            .hint("fetch a response again: openssl ocsp -respout FILE")),
        _ => Err(Fault::new("is no OCSP response in DER").hint("openssl ocsp -respout FILE writes one")),
    }
}

impl Pair {
    /// Whether clients take it at this time, in seconds since 1970.
    #[must_use]
    pub const fn is_valid(&self, now: i64) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Whether a suite of TLS 1.2 goes with the kind of key. Those of TLS 1.3 say nothing of it.
    #[must_use]
    pub fn signs(&self, suite: &SupportedCipherSuite) -> bool {
        match suite {
            SupportedCipherSuite::Tls12(suite) => self.certified.key.choose_scheme(suite.sign).is_some(),
            SupportedCipherSuite::Tls13(_) => false,
        }
    }

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
