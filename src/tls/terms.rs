//! From what an operator wants of TLS at a server to what rustls makes handshakes with, and its fingerprints: equal
//! terms, equal fingerprints, whenever and from whichever file they were read.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version};

use super::clients::{ClientPolicy, verifier};
use super::pair::Pair;
use super::tickets::Tickets;
use crate::config::model::{TlsMode, TlsTerms};

#[cfg(test)]
mod tests;

/// Cryptography: aws-lc with X25519MLKEM768 before the classical groups (RFC 9794's hybrid, draft-ietf-tls-ecdhe-mlkem).
pub static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

/// Tickets of a TLS 1.3 connection: one for the next connection and one for a second beside it.
const TLS13_TICKETS: usize = 2;

/// What an operator wants; everything is read and checked.
pub struct Wanted {
    /// Certificates with their keys, in the order of preference; at least one.
    pub pairs: Vec<Pair>,
    /// For the modes that look at client certificates.
    pub clients: Option<ClientPolicy>,
    /// TLS 1.2 is spoken.
    pub tls12: bool,
    /// TLS 1.3 is spoken.
    pub tls13: bool,
    /// Cipher suites in the order of preference.
    pub suites: Vec<SupportedCipherSuite>,
    /// Application protocols in the order of preference (ALPN, RFC 7301).
    pub alpn: Vec<&'static [u8]>,
}

impl Wanted {
    /// Compiles the terms.
    ///
    /// # Errors
    /// A sentence on what can not be used together.
    pub fn compile(&self) -> Result<TlsTerms, String> {
        let mut provider = CryptoProvider::clone(&PROVIDER);
        provider.cipher_suites.clone_from(&self.suites);
        let versions: Vec<&'static SupportedProtocolVersion> =
            [(self.tls13, &version::TLS13), (self.tls12, &version::TLS12)]
                .into_iter()
                .filter_map(|(wanted, version)| wanted.then_some(version))
                .collect();
        let clients: Arc<dyn ClientCertVerifier> = match &self.clients {
            Some(policy) => verifier(policy, &PROVIDER)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let policy = self.policy();
        let fingerprint = self.fingerprint(&policy);
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&versions)
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(Arc::clone(&clients))
            .with_cert_resolver(Arc::new(BySignature(
                self.pairs.iter().map(|pair| Arc::clone(&pair.certified)).collect(),
            )));
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::new(Tickets::new(fingerprint));
        config.send_tls13_tickets = TLS13_TICKETS;
        let mode = match &self.clients {
            None => TlsMode::Simple,
            Some(policy) if policy.optional => TlsMode::OptionalMutual,
            Some(_) => TlsMode::Mutual,
        };
        Ok(TlsTerms { mode, config: Arc::new(config), clients, policy, fingerprint })
    }

    /// SHA-256 over everything that decides who is served how, but for who we say we are: a renewed certificate changes
    /// nothing for those who are connected.
    fn policy(&self) -> [u8; 32] {
        let mut parts = Parts::new();
        if let Some(policy) = &self.clients {
            let revocation = policy.revocation;
            parts.add(&[
                u8::from(policy.optional),
                u8::from(revocation.leaf_only),
                u8::from(revocation.allow_unknown),
                u8::from(revocation.allow_expired),
            ]);
            parts.list(b"roots", policy.roots.iter().map(AsRef::as_ref));
            parts.list(b"crls", policy.crls.iter().map(AsRef::as_ref));
            parts.list(b"names", policy.names.iter().map(|name| name.as_bytes()));
            parts.list(b"spki", policy.spki.iter().map(|pin| &pin[..]));
            parts.list(b"pins", policy.certificates.iter().map(|pin| &pin[..]));
        }
        parts.add(&[u8::from(self.tls12), u8::from(self.tls13)]);
        let suites: Vec<[u8; 2]> =
            self.suites.iter().map(|suite| u16::from(suite.suite()).to_be_bytes()).collect();
        parts.list(b"suites", suites.iter().map(|suite| &suite[..]));
        parts.list(b"alpn", self.alpn.iter().copied());
        parts.finish()
    }

    /// The policy and the certificates: what a session that is resumed must agree in.
    fn fingerprint(&self, policy: &[u8; 32]) -> [u8; 32] {
        let mut parts = Parts::new();
        parts.add(policy);
        for pair in &self.pairs {
            parts.list(b"pair", pair.certified.cert.iter().map(AsRef::as_ref));
        }
        parts.finish()
    }
}

/// A digest over parts that can not be shifted into each other: each goes in behind its length.
struct Parts(Context);

impl Parts {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn add(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    fn list<'p>(&mut self, name: &[u8], parts: impl ExactSizeIterator<Item = &'p [u8]>) {
        self.add(name);
        self.0.update(&(parts.len() as u64).to_be_bytes());
        parts.for_each(|part| self.add(part));
    }

    fn finish(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        bytes
    }
}

/// The first certificate that the client can verify the signature of.
#[derive(Debug)]
struct BySignature(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for BySignature {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered = hello.signature_schemes();
        let usable = |certified: &&Arc<CertifiedKey>| certified.key.choose_scheme(offered).is_some();
        self.0.iter().find(usable).or_else(|| self.0.first()).cloned()
    }
}
