//! Certificates of the demo: made when it starts, gone with it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa};
use rcgen::{KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, ConfigBuilder, ConfigSide, RootCertStore, ServerConfig, WantsVersions};

use super::Failure;
use crate::tls::terms::PROVIDER;

/// A certificate and its key.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
    parts: (CertificateDer<'static>, PrivatePkcs8KeyDer<'static>),
}

/// Who is who.
#[derive(Debug)]
pub(super) struct Pki {
    /// Certificate of the authority that issued all others.
    pub(super) authority: String,
    /// Of the gateway.
    pub(super) gateway: Identity,
    /// Of the services that end TLS themselves.
    pub(super) services: [Identity; 2],
    /// A client's.
    pub(super) client: Identity,
    roots: Arc<RootCertStore>,
}

/// What the demo's own client trusts and shows.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Without a certificate.
    pub(super) anonymous: Arc<ClientConfig>,
    /// With one.
    pub(super) known: Arc<ClientConfig>,
}

impl Pki {
    /// Makes certificates for these names.
    pub(super) fn new(gateway: &[&str], services: [&str; 2]) -> Result<Self, Failure> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "ringgate demo");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let issue = |names: &[&str], usage| -> Result<Identity, Failure> {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name.push(DnType::CommonName, "ringgate demo, issued");
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &authority)?;
            Ok(Identity {
                certificate: certificate.pem(),
                parts: (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der())),
                key: key.serialize_pem(),
            })
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone())?;
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        Ok(Self {
            authority: authority.pem(),
            gateway: issue(gateway, server.clone())?,
            services: [issue(&[services[0]], server.clone())?, issue(&[services[1]], server)?],
            client: issue(&["client.localhost"], ExtendedKeyUsagePurpose::ClientAuth)?,
            roots: Arc::new(roots),
        })
    }

    /// What the demo's own client needs.
    pub(super) fn trust(&self) -> Result<Trust, Failure> {
        let builder = || -> Result<_, rustls::Error> {
            let builder = with_versions(ClientConfig::builder_with_provider(Arc::clone(&PROVIDER)))?;
            Ok(builder.with_root_certificates(Arc::clone(&self.roots)))
        };
        let (certificate, key) = self.client.parts();
        Ok(Trust {
            anonymous: Arc::new(builder()?.with_no_client_auth()),
            known: Arc::new(builder()?.with_client_auth_cert(vec![certificate], key)?),
        })
    }

    /// Writes what a visitor's own client needs: `ca.pem`, `client.pem` (certificate and key).
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join("ca.pem"), &self.authority)?;
        let client = folder.join("client.pem");
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(client)?;
        file.write_all(format!("{}{}", self.client.certificate, self.client.key).as_bytes())
    }
}

impl Identity {
    /// What a service of this identity needs.
    pub(super) fn server_config(&self) -> Result<Arc<ServerConfig>, Failure> {
        let builder = with_versions(ServerConfig::builder_with_provider(Arc::clone(&PROVIDER)))?;
        let (certificate, key) = self.parts();
        Ok(Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key)?))
    }

    fn parts(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        (self.parts.0.clone(), PrivateKeyDer::Pkcs8(self.parts.1.clone_key()))
    }
}

fn with_versions<S: ConfigSide>(
    builder: ConfigBuilder<S, WantsVersions>,
) -> Result<ConfigBuilder<S, rustls::WantsVerifier>, rustls::Error> {
    builder.with_safe_default_protocol_versions()
}
