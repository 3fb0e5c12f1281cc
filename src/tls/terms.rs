//! From what an operator wants of TLS at a server to what rustls makes handshakes with, and its fingerprint: equal
//! terms, equal fingerprint, whenever and from whichever file they were read.

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
        let fingerprint = self.fingerprint();
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
        Ok(TlsTerms { mode, config: Arc::new(config), clients, fingerprint })
    }

    /// SHA-256 over everything that decides who is served how. The certificate counts: a session with one is not resumed
    /// with another.
    fn fingerprint(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let mut add = |part: &[u8]| {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        };
        for pair in &self.pairs {
            pair.certified.cert.iter().for_each(|certificate| add(certificate));
            add(b"pair");
        }
        if let Some(policy) = &self.clients {
            let revocation = policy.revocation;
            add(&[
                u8::from(policy.optional),
                u8::from(revocation.leaf_only),
                u8::from(revocation.allow_unknown),
                u8::from(revocation.allow_expired),
            ]);
            policy.roots.iter().for_each(|root| add(root));
            add(b"roots");
            policy.crls.iter().for_each(|crl| add(crl));
            add(b"crls");
            policy.names.iter().for_each(|name| add(name.as_bytes()));
            add(b"names");
            policy.spki.iter().for_each(|pin| add(pin));
            add(b"spki");
            policy.certificates.iter().for_each(|pin| add(pin));
            add(b"pins");
        }
        add(&[u8::from(self.tls12), u8::from(self.tls13)]);
        self.suites.iter().for_each(|suite| add(&u16::from(suite.suite()).to_be_bytes()));
        add(b"suites");
        self.alpn.iter().for_each(|protocol| add(protocol));
        let digest = context.finish();
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest.as_ref());
        fingerprint
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
