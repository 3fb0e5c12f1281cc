//! Options of TLS, and whom the generator trusts.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion,
};

use super::tickets::Tickets;

/// Versions of TLS by number.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Version {
    #[value(name = "1.2")]
    Tls12,
    #[value(name = "1.3")]
    Tls13,
}

/// Key exchanges by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum KeyExchange {
    #[value(name = "x25519")]
    X25519,
    #[value(name = "secp256r1")]
    Secp256r1,
    #[value(name = "secp384r1")]
    Secp384r1,
    #[value(name = "x25519mlkem768")]
    X25519MlKem768,
}

impl KeyExchange {
    fn group(self) -> &'static dyn SupportedKxGroup {
        match self {
            Self::X25519 => kx_group::X25519,
            Self::Secp256r1 => kx_group::SECP256R1,
            Self::Secp384r1 => kx_group::SECP384R1,
            Self::X25519MlKem768 => kx_group::X25519MLKEM768,
        }
    }
}

/// TLS, for `https://` URLs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "TLS (https:// URLs)")]
pub(crate) struct TlsArgs {
    /// Version [default: both are offered, and 1.3 is preferred]
    #[arg(long, value_enum, value_name = "VERSION")]
    tls_version: Option<Version>,
    /// Key exchange [default: all are offered, in the order of the library]
    #[arg(long, value_enum, value_name = "NAME")]
    tls_key_exchange: Option<KeyExchange>,
    /// Cipher suite, as TLS_AES_128_GCM_SHA256 [default: all are offered, in the order of the library]
    #[arg(long, value_name = "NAME", value_parser = cipher_suite)]
    tls_cipher_suite: Option<SupportedCipherSuite>,
    /// Resume sessions: a connection uses a ticket or session of an earlier one of its thread
    #[arg(long)]
    tls_resume: bool,
    /// Root certificates to verify the server with, PEM [default: those of this host]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Take any certificate and do not even check its signature: for measuring, never where it matters who answers
    #[arg(long)]
    insecure: bool,
    /// Name to ask for and to verify [default: that of --host, else of the URL]
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
}

/// What connections need for TLS, shared by all threads.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    config: ClientConfig,
    name: ServerName<'static>,
    /// Whether sessions are to be resumed.
    pub(crate) resume: bool,
}

/// A thread's: with sessions to resume of its own.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
    /// Sessions to resume, where that is wanted.
    pub(super) tickets: Option<Arc<Tickets>>,
}

impl Tls {
    /// The part of a thread with so many connections.
    pub(super) fn client(&self, connections: usize) -> Client {
        let tickets = self.resume.then(|| Arc::new(Tickets::new(connections)));
        let mut config = self.config.clone();
        config.resumption = match &tickets {
            Some(tickets) => Resumption::store(Arc::<Tickets>::clone(tickets)),
            None => Resumption::disabled(),
        };
        Client { config: Arc::new(config), name: self.name.clone(), tickets }
    }
}

impl TlsArgs {
    /// Refuses what has no meaning without TLS.
    pub(super) fn check_unused(&self) -> Result<(), String> {
        let given = [
            (self.tls_version.is_some(), "--tls-version"),
            (self.tls_key_exchange.is_some(), "--tls-key-exchange"),
            (self.tls_cipher_suite.is_some(), "--tls-cipher-suite"),
            (self.tls_resume, "--tls-resume"),
            (self.ca.is_some(), "--ca"),
            (self.insecure, "--insecure"),
            (self.sni.is_some(), "--sni"),
        ];
        match given.iter().find(|(given, _)| *given) {
            Some((_, option)) => Err(format!("{option} is for https:// URLs")),
            None => Ok(()),
        }
    }

    /// Reads the certificates; `host` is whom the requests are for.
    pub(super) fn tls(&self, host: &str) -> Result<Tls, String> {
        let name = self.sni.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("`{name}` is neither a DNS name nor an address: give a --sni NAME"))?;
        let mut provider = aws_lc_rs::default_provider();
        if let Some(chosen) = self.tls_key_exchange {
            if chosen == KeyExchange::X25519MlKem768 && self.tls_version == Some(Version::Tls12) {
                return Err("x25519mlkem768 needs TLS 1.3: leave --tls-version 1.2 out".to_owned());
            }
            provider.kx_groups = vec![chosen.group()];
        }
        if let Some(suite) = self.tls_cipher_suite {
            provider.cipher_suites = vec![suite];
        }
        let provider = Arc::new(provider);
        let versions: &[&SupportedProtocolVersion] = match self.tls_version {
            None => &[&TLS13, &TLS12],
            Some(Version::Tls12) => &[&TLS12],
            Some(Version::Tls13) => &[&TLS13],
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| format!("--tls-cipher-suite, --tls-version: {error}"))?;
        let mut config = if self.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        } else {
            builder.with_root_certificates(match &self.ca {
                Some(path) => roots_of_file(path)?,
                None => roots_of_host()?,
            })
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls { config, name, resume: self.tls_resume })
    }
}

/// The name of a suite: IANA's. The library marks those of TLS 1.3.
fn suite_name(suite: &SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    name.strip_prefix("TLS13_").map_or_else(|| name.clone(), |rest| format!("TLS_{rest}"))
}

fn cipher_suite(name: &str) -> Result<SupportedCipherSuite, String> {
    let all = aws_lc_rs::ALL_CIPHER_SUITES;
    all.iter().find(|suite| suite_name(suite) == name).copied().ok_or_else(|| {
        let known: Vec<_> = all.iter().map(suite_name).collect();
        format!("`{name}` is none of {}", known.join(", "))
    })
}

/// The name in a Host field: without a port.
pub(super) fn name_of(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, _)) if host.parse::<IpAddr>().is_err() && !host.ends_with(']') => name,
        _ => host,
    };
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name)
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, String> {
    let shown = path.display();
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| format!("--ca {shown}: {error}"))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| format!("--ca {shown}: {error}"))?;
        roots.add(certificate).map_err(|error| format!("--ca {shown}: not a root certificate: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!("--ca {shown}: no certificate in it: expected PEM, -----BEGIN CERTIFICATE-----"));
    }
    Ok(roots)
}

fn roots_of_host() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!("this host has no root certificates{why}: give some with --ca, or --insecure"));
    }
    Ok(roots)
}

/// Takes any certificate.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_port() {
        for (host, name) in
            [("a", "a"), ("a:1", "a"), ("127.0.0.1:1", "127.0.0.1"), ("[::1]:1", "::1"), ("[::1]", "::1")]
        {
            assert_eq!(name_of(host), name);
        }
    }
}
