//! TLS towards endpoints: from what an operator wants of it to what rustls makes handshakes with, and its fingerprint.
//!
//! Whose certificate is good: a chain to the authorities that no CRL revokes, for one of `subject_alt_names`, else for the
//! name that is sent (`sni`), else for the endpoint's address.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::clients::{Crls, Revocation, Roots, has_name};
use super::digest::{Parts, Sha256};
use super::pair::Pair;
use super::suites;
use super::terms::PROVIDER;
use crate::config::model::UpstreamTls;

#[cfg(test)]
mod tests;

/// What an operator wants; everything is read and checked.
pub struct Wanted {
    /// Whose certificates are good; `None` for anybody's.
    pub servers: Option<ServerPolicy>,
    /// What is shown to endpoints that ask for a certificate.
    pub identity: Option<Pair>,
    /// The DNS name that is sent.
    pub sni: Option<ServerName<'static>>,
    /// TLS 1.2 is spoken.
    pub tls12: bool,
    /// TLS 1.3 is spoken.
    pub tls13: bool,
    /// Cipher suites in the order of preference.
    pub suites: Vec<SupportedCipherSuite>,
}

/// What is asked of endpoints' certificates.
#[derive(Clone, Debug)]
pub struct ServerPolicy {
    /// Authorities.
    pub roots: Arc<Roots>,
    /// Revocation lists.
    pub crls: Option<Arc<Crls>>,
    /// How the lists are used.
    pub revocation: Revocation,
    /// DNS, URI or e-mail names, one of which the certificate must have; empty for the name that is connected to.
    pub names: Vec<Box<str>>,
}

impl ServerPolicy {
    /// Equal for equal chains.
    fn chain_digest(&self) -> Sha256 {
        let Revocation { leaf_only, allow_unknown, allow_expired } = self.revocation;
        let mut parts = Parts::new();
        parts.add(&[leaf_only, allow_unknown, allow_expired].map(u8::from));
        parts.add(&self.roots.digest);
        parts.list(b"crls", self.crls.iter().map(|crls| &crls.digest()[..]));
        parts.finish()
    }
}

impl Wanted {
    /// SHA-256 over everything that makes connections differ.
    fn fingerprint(&self) -> Sha256 {
        let mut parts = Parts::new();
        if let Some(policy) = &self.servers {
            parts.add(&policy.chain_digest());
            parts.list(b"names", policy.names.iter().map(|name| name.as_bytes()));
        }
        if let Some(pair) = &self.identity {
            parts.list(b"identity", pair.certified.cert.iter().map(AsRef::as_ref));
        }
        let sni = self.sni.as_ref().map(ServerName::to_str);
        parts.list(b"sni", sni.iter().map(|name| name.as_bytes()));
        parts.add(&[u8::from(self.tls12), u8::from(self.tls13)]);
        let suites: Vec<[u8; 2]> =
            self.suites.iter().map(|suite| u16::from(suite.suite()).to_be_bytes()).collect();
        parts.list(b"suites", suites.iter().map(|suite| &suite[..]));
        parts.finish()
    }
}

/// Compiles settings; equal ones become one object, and so do equal demands on chains: lists of revoked certificates are
/// large.
#[derive(Default)]
pub struct Compiler {
    settings: HashMap<Sha256, Arc<UpstreamTls>>,
    chains: HashMap<Sha256, Arc<WebPkiServerVerifier>>,
}

impl Compiler {
    /// Compiles the settings.
    ///
    /// # Errors
    /// A sentence on what can not be used together.
    pub fn compile(&mut self, wanted: &Wanted) -> Result<Arc<UpstreamTls>, String> {
        let fingerprint = wanted.fingerprint();
        if let Some(known) = self.settings.get(&fingerprint) {
            return Ok(Arc::clone(known));
        }
        let verifier: Arc<dyn ServerCertVerifier> = match &wanted.servers {
            None => Arc::new(Anybody),
            Some(policy) if policy.names.is_empty() => self.chain(policy)?,
            Some(policy) => {
                Arc::new(NamedServers { chain: self.chain(policy)?, names: policy.names.clone() })
            }
        };
        let config = Arc::new(client_config(wanted, &verifier)?);
        let settings = Arc::new(UpstreamTls { config, verifier, sni: wanted.sni.clone(), fingerprint });
        self.settings.insert(fingerprint, Arc::clone(&settings));
        Ok(settings)
    }

    fn chain(&mut self, policy: &ServerPolicy) -> Result<Arc<WebPkiServerVerifier>, String> {
        let digest = policy.chain_digest();
        if let Some(known) = self.chains.get(&digest) {
            return Ok(Arc::clone(known));
        }
        let mut builder =
            WebPkiServerVerifier::builder_with_provider(policy.roots.store(), Arc::clone(&PROVIDER));
        if let Some(crls) = &policy.crls {
            builder = builder.with_crls(crls.lists().iter().cloned());
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
        let chain = builder.build().map_err(|error| error.to_string())?;
        self.chains.insert(digest, Arc::clone(&chain));
        Ok(chain)
    }
}

/// Without a memory of sessions: each endpoint of a shard gets its own.
fn client_config(wanted: &Wanted, verifier: &Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(suites::provider_of(&wanted.suites))
        .with_protocol_versions(&suites::versions(wanted.tls12, wanted.tls13))
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(verifier));
    let mut config = match &wanted.identity {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let certified = SingleCertAndKey::from(Arc::clone(&pair.certified));
            builder.with_client_cert_resolver(Arc::new(certified))
        }
    };
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Good chains of certain servers only.
#[derive(Debug)]
struct NamedServers {
    chain: Arc<WebPkiServerVerifier>,
    names: Vec<Box<str>>,
}

impl ServerCertVerifier for NamedServers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is what rustls looks at last (a test holds it to that): the chain is good. Ours decide.
            Ok(_)
            | Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => {}
            Err(error) => return Err(error),
        }
        if has_name(end_entity, &self.names) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName))
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

/// `insecure_skip_verify`: whoever has the key of the certificate that he shows.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}
