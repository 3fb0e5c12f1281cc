//! Certificates of a comparison, made for it: one root, and one identity for whoever ends TLS, ECDSA with P-256.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};

/// What is agreed on in all connections: clients offer nothing else. nginx and HAProxy of Debian 12 know no post-quantum
/// key exchange.
pub(crate) const VERSION: &str = "1.3";
/// As [`VERSION`].
pub(crate) const KEY_EXCHANGE: &str = "x25519";
/// As [`VERSION`].
pub(crate) const CIPHER_SUITE: &str = "TLS_AES_128_GCM_SHA256";

/// Files of a certificate with its key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    /// The certificate.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// Both in one, as HAProxy wants them.
    pub(crate) both: PathBuf,
}

/// An identity and what it takes to trust it.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    /// Of proxies that end TLS, and of the backend where they pass it through.
    pub(crate) identity: Identity,
    /// For clients of this process.
    pub(crate) trust: Arc<ClientConfig>,
}

impl Pki {
    /// Makes certificates for `name` in `folder`.
    pub(crate) fn make(folder: &Path, name: &str) -> Result<Self, String> {
        let failed = |error: rcgen::Error| format!("no certificate: {error}");
        let mut root = CertificateParams::default();
        root.distinguished_name.push(DnType::CommonName, "ringgate-bench");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root =
            CertifiedIssuer::self_signed(root, KeyPair::generate().map_err(failed)?).map_err(failed)?;
        let key = KeyPair::generate().map_err(failed)?;
        let leaf = CertificateParams::new([name.to_owned()]).map_err(failed)?;
        let leaf = leaf.signed_by(&key, &root).map_err(failed)?;
        let (certificate, private) = (leaf.pem(), key.serialize_pem());
        let identity = Identity {
            certificate: write(folder, "server.crt", &certificate)?,
            key: write(folder, "server.key", &private)?,
            both: write(folder, "server.pem", &format!("{certificate}{private}"))?,
        };
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).map_err(|error| error.to_string())?;
        Ok(Self { identity, trust: Arc::new(client_config(roots)?) })
    }
}

fn client_config(roots: RootCertStore) -> Result<ClientConfig, String> {
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519];
    provider.cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// For the owner alone: keys are among them.
fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf, String> {
    let path = folder.join(name);
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}
