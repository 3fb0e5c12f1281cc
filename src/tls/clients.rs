//! Which client certificates are good: a chain to the configured authorities that no CRL revokes (RFC 5280), and, where
//! the operator names clients, one of their names or fingerprints.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer, GeneralName, X509Certificate, X509Version};

use super::about::About;
use super::digest::{self, Parts, Sha256};
use super::identity::CertDetail;

/// What a server asks of its clients' certificates.
#[derive(Clone, Debug)]
pub struct ClientPolicy {
    /// A client without a certificate is served, too.
    pub optional: bool,
    /// Authorities.
    pub roots: Arc<Roots>,
    /// Revocation lists.
    pub crls: Option<Arc<Crls>>,
    /// How the lists are used.
    pub revocation: Revocation,
    /// DNS, URI or e-mail names, one of which the certificate must have; empty for any.
    pub names: Vec<Box<str>>,
    /// Fingerprints of public keys (of the SubjectPublicKeyInfo).
    pub spki: Vec<Sha256>,
    /// Fingerprints of certificates. One of either list must be the client's; both empty for any.
    pub certificates: Vec<Sha256>,
    /// What endpoints learn of a client's certificate; empty for nothing.
    pub details: Vec<CertDetail>,
}

/// How revocation lists are used; by default the strict way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Revocation {
    /// Only the client's own certificate is looked up, not those of the authorities above it.
    pub leaf_only: bool,
    /// A certificate whose authority has no list here is good.
    pub allow_unknown: bool,
    /// A list beyond its time still counts.
    pub allow_expired: bool,
}

/// Bytes of authorities' names that clients are told.
const HINT_BYTES_MAX: usize = 32 * 1024;

/// Authorities that certificates are held against.
#[derive(Clone, Debug)]
pub struct Roots {
    store: Arc<RootCertStore>,
    /// Distinguished names, in DER.
    subjects: HashSet<Box<[u8]>>,
    /// Of their bytes.
    pub digest: Sha256,
    /// For people.
    pub about: Arc<About>,
}

impl Roots {
    /// Takes certificates; at least one.
    ///
    /// # Errors
    /// A sentence on which of them can not be used.
    pub fn new(certificates: &[CertificateDer<'static>]) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        for (at, certificate) in (1..).zip(certificates) {
            store.add(certificate.clone()).map_err(|error| format!("certificate {at}: {error}"))?;
        }
        Ok(Self::of(store, certificates))
    }

    /// Takes those of certificates that can be used; `None` where there is none.
    #[must_use]
    pub fn usable(certificates: &[CertificateDer<'static>]) -> Option<Self> {
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(certificates.iter().cloned());
        (added > 0).then(|| Self::of(store, certificates))
    }

    fn of(store: RootCertStore, certificates: &[CertificateDer<'static>]) -> Self {
        let mut parts = Parts::new();
        parts.list(b"roots", certificates.iter().map(AsRef::as_ref));
        let about = About::authorities(certificates.iter().map(AsRef::as_ref));
        let subject = |certificate: &CertificateDer<'_>| {
            X509Certificate::from_der(certificate).ok().map(|(_, parsed)| parsed.subject().as_raw().into())
        };
        let subjects = certificates.iter().filter_map(subject).collect();
        Self { store: Arc::new(store), subjects, digest: parts.finish(), about: Arc::new(about) }
    }

    /// Whether one of the lists is of one of them.
    #[must_use]
    pub fn has_list_in(&self, crls: &Crls) -> bool {
        crls.made.keys().any(|issuer| self.subjects.contains(issuer))
    }

    pub(super) fn store(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.store)
    }
}

/// The first certificate (from 1) that is that of no authority. One that was made with its own key counts as one: it stands
/// for itself. So does one of a version that can not say.
#[must_use]
pub fn not_of_authority(certificates: &[CertificateDer<'_>]) -> Option<usize> {
    let is_other = |certificate: &CertificateDer<'_>| {
        X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| {
            parsed.version() == X509Version::V3 && !parsed.is_ca() && parsed.issuer() != parsed.subject()
        })
    };
    certificates.iter().position(is_other).map(|at| at + 1)
}

/// Revocation lists; at least one.
#[derive(Clone, Debug)]
pub struct Crls {
    /// The newest first: of two lists of an issuer the first counts.
    lists: Vec<CertificateRevocationListDer<'static>>,
    /// When the newest list of each issuer was made, in seconds since 1970.
    made: HashMap<Box<[u8]>, i64>,
    /// Of their bytes.
    digest: Sha256,
    /// Of the text they were read from.
    pub source: Sha256,
    /// Seconds since 1970 at which the first of them is out of date.
    pub next_update: Option<i64>,
    /// For people.
    pub about: Arc<About>,
}

impl Crls {
    /// Takes lists.
    ///
    /// # Errors
    /// A sentence on which of them can not be used.
    pub fn new(lists: Vec<CertificateRevocationListDer<'static>>) -> Result<Self, String> {
        let mut next_update: Option<i64> = None;
        let mut about = About::default();
        let mut made: HashMap<Box<[u8]>, i64> = HashMap::new();
        let mut dates = Vec::with_capacity(lists.len());
        for (at, list) in (1..).zip(&lists) {
            let (_, parsed) = CertificateRevocationList::from_der(list)
                .map_err(|_| format!("list {at} is no certificate revocation list"))?;
            // What `openssl ca -gencrl` makes unless told otherwise, and RFC 5280 section 5.1.2.1 does not allow.
            if parsed.version() != Some(X509Version(1)) {
                return Err(format!(
                    "list {at} is of version 1, and version 2 is needed (openssl: give the list extensions, \
                     `crl_extensions` with `authorityKeyIdentifier = keyid`, and a `crlnumber` file)"
                ));
            }
            let this = parsed.last_update().timestamp();
            let newest = made.entry(parsed.issuer().as_raw().into()).or_insert(this);
            *newest = this.max(*newest);
            dates.push(this);
            let next = parsed.next_update().map(|time| time.timestamp());
            next_update = [next_update, next].into_iter().flatten().min();
            if at == 1 {
                about = About::list(&parsed, lists.len() - 1);
            }
        }
        let mut dated: Vec<_> = dates.into_iter().zip(lists).collect();
        dated.sort_by_key(|(this, _)| Reverse(*this));
        let lists: Vec<_> = dated.into_iter().map(|(_, list)| list).collect();
        let mut parts = Parts::new();
        parts.list(b"crls", lists.iter().map(AsRef::as_ref));
        about.not_after = next_update;
        let digest = parts.finish();
        Ok(Self { digest, source: digest, lists, made, next_update, about: Arc::new(about) })
    }

    /// Reads a PEM file.
    ///
    /// # Errors
    /// A sentence about the file.
    pub fn read(pem: &[u8]) -> Result<Self, String> {
        let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            // What the error would show of the file may be a key.
            .map_err(|_| "is not PEM".to_owned())?;
        match lists.is_empty() {
            true => Err("holds no certificate revocation list".to_owned()),
            false => Ok(Self { source: digest::of([pem]), ..Self::new(lists)? }),
        }
    }
}

impl Crls {
    /// When the newest list was made, in seconds since 1970.
    #[must_use]
    pub fn newest(&self) -> i64 {
        self.made.values().copied().max().unwrap_or_default()
    }

    /// Whether an issuer's list here was made before that issuer's list there: revocations would be taken back.
    #[must_use]
    pub fn is_older_than(&self, other: &Self) -> bool {
        other.made.iter().any(|(issuer, theirs)| self.made.get(issuer).is_some_and(|ours| ours < theirs))
    }

    pub(super) fn lists(&self) -> &[CertificateRevocationListDer<'static>] {
        &self.lists
    }

    pub(super) const fn digest(&self) -> &Sha256 {
        &self.digest
    }
}

impl ClientPolicy {
    /// Equal for equal policies.
    pub(super) fn digest(&self) -> Sha256 {
        let mut parts = Parts::new();
        parts.add(&self.settings());
        parts.list(b"crls", self.crls.iter().map(|crls| &crls.digest[..]));
        parts.finish()
    }

    /// Equal for policies that are equal but for what the lists hold.
    pub(super) fn settings(&self) -> Sha256 {
        let Revocation { leaf_only, allow_unknown, allow_expired } = self.revocation;
        let mut parts = Parts::new();
        parts.add(&[self.optional, leaf_only, allow_unknown, allow_expired].map(u8::from));
        parts.add(&self.roots.digest);
        parts.add(&[u8::from(self.crls.is_some())]);
        parts.list(b"names", self.names.iter().map(|name| name.as_bytes()));
        parts.list(b"spki", self.spki.iter().map(|pin| &pin[..]));
        parts.list(b"pins", self.certificates.iter().map(|pin| &pin[..]));
        parts.add(&self.details.iter().map(|detail| *detail as u8).collect::<Vec<_>>());
        parts.finish()
    }
}

/// The verifier of a policy.
///
/// # Errors
/// A sentence on what in the authorities or lists can not be used.
pub fn verifier(
    policy: &ClientPolicy,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let roots = Arc::clone(&policy.roots.store);
    let hints: usize = roots.subjects().iter().map(|name| 2 + name.as_ref().len()).sum();
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    if hints > HINT_BYTES_MAX {
        // The list has two bytes for its length, and clients choose well without it (RFC 8446 section 4.2.4).
        builder = builder.clear_root_hint_subjects();
    }
    if let Some(crls) = &policy.crls {
        builder = builder.with_crls(crls.lists.iter().cloned());
        if policy.revocation.leaf_only {
            builder = builder.only_check_end_entity_revocation();
        }
        if policy.revocation.allow_unknown {
            builder = builder.allow_unknown_revocation_status();
        }
        if !policy.revocation.allow_expired {
            builder = builder.enforce_revocation_expiration();
        }
    }
    if policy.optional {
        builder = builder.allow_unauthenticated();
    }
    let chain = builder.build().map_err(|error| error.to_string())?;
    if policy.names.is_empty() && policy.spki.is_empty() && policy.certificates.is_empty() {
        return Ok(chain);
    }
    let ClientPolicy { names, spki, certificates, .. } = policy.clone();
    Ok(Arc::new(NamedClients { chain, names, spki, certificates }))
}

/// Whether a certificate has one of these DNS, URI or e-mail names, as a whole.
pub(super) fn has_name(leaf: &CertificateDer<'_>, names: &[Box<str>]) -> bool {
    X509Certificate::from_der(leaf).is_ok_and(|(_, parsed)| holds_name(&parsed, names))
}

fn holds_name(parsed: &X509Certificate<'_>, names: &[Box<str>]) -> bool {
    let Ok(Some(held)) = parsed.subject_alternative_name() else { return false };
    held.value.general_names.iter().any(|name| match name {
        GeneralName::DNSName(name) => names.iter().any(|known| known.eq_ignore_ascii_case(name)),
        GeneralName::URI(name) | GeneralName::RFC822Name(name) => names.iter().any(|known| **known == **name),
        _ => false,
    })
}

/// Good chains of certain clients only.
#[derive(Debug)]
struct NamedClients {
    chain: Arc<dyn ClientCertVerifier>,
    names: Vec<Box<str>>,
    spki: Vec<Sha256>,
    certificates: Vec<Sha256>,
}

impl NamedClients {
    fn is_named(&self, leaf: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return false };
        let pinned = |pins: &[Sha256], bytes: &[u8]| {
            pins.iter().any(|pin| pin[..] == *digest(&SHA256, bytes).as_ref())
        };
        let unpinned = self.spki.is_empty() && self.certificates.is_empty();
        (self.names.is_empty() || holds_name(&parsed, &self.names))
            && (unpinned || pinned(&self.spki, parsed.public_key().raw) || pinned(&self.certificates, leaf))
    }
}

impl ClientCertVerifier for NamedClients {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        if self.is_named(end_entity) {
            Ok(verified)
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The common name of a certificate's subject, where it has one and that is text.
#[must_use]
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    let name = name.as_str().ok()?;
    // It goes into endpoints' logs.
    (!name.chars().any(char::is_control)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::tls::testing::Ca;

    /// As `openssl ca -gencrl` makes it of a configuration without `crl_extensions`.
    const VERSION_1: &str = "\
-----BEGIN X509 CRL-----
MIGPMDgwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBeBcNMjYxMTI1MTQ0NTMyWhcN
MjYxMjI1MTQ0NTMyWjAKBggqhkjOPQQDAgNHADBEAiAF1COr/J/JVHUvjVtDiF+3
Q1CyoXnPgIUhgzCkdcansgIgZ8/I2jzLeONXt4caKo94NcnW36h8qB8PFAP+e38U
FGA=
-----END X509 CRL-----
";

    /// Of two lists of an issuer the newer counts, wherever it stands; and an older one is known as such.
    #[test]
    fn the_newest_list_counts() {
        let ca = Ca::new("clients");
        let (old, new) = (ca.crl_of(1, &[]), ca.crl_of(2, &[7]));
        let both = [vec![old.clone(), new.clone()], vec![new.clone(), old.clone()]]
            .map(|lists| Crls::new(lists).unwrap());
        for crls in &both {
            assert_eq!(crls.lists[0], new);
            assert!(!crls.is_older_than(&both[0]));
        }
        let [old, new] = [old, new].map(|list| Crls::new(vec![list]).unwrap());
        assert!(old.is_older_than(&new) && !new.is_older_than(&old) && old.is_older_than(&both[0]));
        let other = Crls::new(vec![Ca::new("others").crl_of(1, &[])]).unwrap();
        assert!(!other.is_older_than(&new) && !new.is_older_than(&other));
    }

    /// Many authorities have more names than the list for clients has room for.
    #[test]
    fn many_authorities() {
        let roots: Vec<_> = (0..900).map(|at| Ca::new(&format!("{at} {}", "x".repeat(50))).root).collect();
        let policy = ClientPolicy {
            optional: false,
            roots: Arc::new(Roots::new(&roots).unwrap()),
            crls: None,
            revocation: Revocation::default(),
            names: Vec::new(),
            spki: Vec::new(),
            certificates: Vec::new(),
            details: Vec::new(),
        };
        assert!(verifier(&policy, &crate::tls::terms::PROVIDER).unwrap().root_hint_subjects().is_empty());
    }

    /// webpki would only say that it can not be parsed.
    #[test]
    fn lists_of_version_1_are_told_of() {
        let said = Crls::read(VERSION_1.as_bytes()).err();
        assert!(said.is_some_and(
            |said| said.starts_with("list 1 is of version 1") && said.contains("crl_extensions")
        ));
    }
}
