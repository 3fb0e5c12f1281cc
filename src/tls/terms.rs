//! From what an operator wants of TLS at a server to what rustls makes handshakes with, and its fingerprints: equal
//! terms, equal fingerprints, whenever and from whichever file they were read.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedCipherSuite};

use super::clients::{ClientPolicy, verifier};
use super::digest::{self, Parts, Sha256};
use super::pair::Pair;
use super::rehearsal::rehearse;
use super::suites;
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
    /// SHA-256 over everything that decides who is served how, but for who we say we are: a renewed certificate changes
    /// nothing for those who are connected.
    fn policy(&self) -> Sha256 {
        self.digest(ClientPolicy::digest)
    }

    /// The same but for what revocation lists hold.
    fn settings(&self) -> Sha256 {
        self.digest(ClientPolicy::settings)
    }

    fn digest(&self, of_clients: impl Fn(&ClientPolicy) -> Sha256) -> Sha256 {
        let mut parts = Parts::new();
        if let Some(policy) = &self.clients {
            parts.add(&of_clients(policy));
        }
        parts.add(&[u8::from(self.tls12), u8::from(self.tls13)]);
        let suites: Vec<[u8; 2]> =
            self.suites.iter().map(|suite| u16::from(suite.suite()).to_be_bytes()).collect();
        parts.list(b"suites", suites.iter().map(|suite| &suite[..]));
        parts.list(b"alpn", self.alpn.iter().copied());
        parts.finish()
    }

    /// The policy and the certificates: what a session that is resumed must agree in.
    fn fingerprint(&self, policy: &Sha256) -> Sha256 {
        let mut parts = Parts::new();
        parts.add(policy);
        for pair in &self.pairs {
            parts.list(b"pair", pair.certified.cert.iter().map(AsRef::as_ref));
        }
        parts.finish()
    }
}

/// Compiles terms; equal ones become one object, and so do equal policies on clients: lists of revoked certificates are
/// large.
#[derive(Clone, Default)]
pub struct Compiler {
    terms: HashMap<Sha256, Arc<TlsTerms>>,
    verifiers: HashMap<Sha256, Arc<dyn ClientCertVerifier>>,
    /// Of the generation before: what is equal is not made again.
    before: Option<Arc<Self>>,
    /// Policies with kinds of keys that went through a handshake.
    tried: HashSet<Sha256>,
}

impl Compiler {
    /// One that takes what is equal from another.
    #[must_use]
    pub fn after(before: Arc<Self>) -> Self {
        Self { before: (!before.terms.is_empty()).then_some(before), ..Self::default() }
    }

    /// Forgets the one before.
    #[must_use]
    pub fn finish(self) -> Self {
        Self { before: None, tried: HashSet::new(), ..self }
    }

    /// Compiles the terms, and tries new ones in a handshake.
    ///
    /// # Errors
    /// A sentence on what can not be used together.
    pub fn compile(&mut self, wanted: &Wanted) -> Result<Arc<TlsTerms>, String> {
        let policy = wanted.policy();
        let fingerprint = wanted.fingerprint(&policy);
        // A new OCSP response is no other policy, but it is another configuration.
        let mut parts = Parts::new();
        parts.add(&fingerprint);
        for pair in &wanted.pairs {
            parts.list(b"response", pair.certified.ocsp.iter().map(|response| &response[..]));
        }
        let key = parts.finish();
        if let Some(known) = self.terms.get(&key) {
            return Ok(Arc::clone(known));
        }
        if let Some(known) = self.before.as_ref().and_then(|before| before.terms.get(&key)).cloned() {
            self.terms.insert(key, Arc::clone(&known));
            if let Some(clients) = &wanted.clients {
                self.verifiers.insert(clients.digest(), Arc::clone(&known.clients));
            }
            return Ok(known);
        }
        let clients = match &wanted.clients {
            Some(policy) => self.verifier(policy)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mode = match &wanted.clients {
            None => TlsMode::Simple,
            Some(policy) if policy.optional => TlsMode::OptionalMutual,
            Some(_) => TlsMode::Mutual,
        };
        let config = Arc::new(server_config(wanted, &clients, Tickets::new(fingerprint, mode))?);
        if self.is_to_be_tried(wanted, &policy) {
            wanted.pairs.iter().try_for_each(|pair| rehearse(&config, pair))?;
        }
        let details = wanted.clients.as_ref().map(|policy| policy.details.clone()).unwrap_or_default();
        let terms = Arc::new(TlsTerms {
            mode,
            config,
            details,
            clients,
            policy,
            settings: wanted.settings(),
            fingerprint,
        });
        self.terms.insert(key, Arc::clone(&terms));
        Ok(terms)
    }

    /// New pairs are tried one and all. At a start there is nothing to fall back to, and there may be thousands: there one
    /// of each sort is, for 1 ms with RSA; that key and certificate belong together is known by then.
    fn is_to_be_tried(&mut self, wanted: &Wanted, policy: &Sha256) -> bool {
        let kinds = wanted.pairs.iter().map(|pair| pair.about.key.as_bytes());
        let sort = digest::of([&policy[..]].into_iter().chain(kinds));
        self.tried.insert(sort) || self.before.is_some()
    }

    fn verifier(&mut self, policy: &ClientPolicy) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let digest = policy.digest();
        if let Some(known) = self.verifiers.get(&digest) {
            return Ok(Arc::clone(known));
        }
        let known = self.before.as_ref().and_then(|before| before.verifiers.get(&digest)).cloned();
        let verifier = match known {
            Some(known) => known,
            None => verifier(policy, &PROVIDER)?,
        };
        self.verifiers.insert(digest, Arc::clone(&verifier));
        Ok(verifier)
    }
}

fn server_config(
    wanted: &Wanted,
    clients: &Arc<dyn ClientCertVerifier>,
    tickets: Tickets,
) -> Result<ServerConfig, String> {
    let certified = wanted.pairs.iter().map(|pair| Arc::clone(&pair.certified)).collect();
    let mut config = ServerConfig::builder_with_provider(suites::provider_of(&wanted.suites))
        .with_protocol_versions(&suites::versions(wanted.tls12, wanted.tls13))
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(Arc::clone(clients))
        .with_cert_resolver(Arc::new(BySignature(certified)));
    config.alpn_protocols = wanted.alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(tickets);
    config.send_tls13_tickets = TLS13_TICKETS;
    Ok(config)
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
