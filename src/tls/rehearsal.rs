//! A handshake in memory before a certificate is served: what clients will be sent is signed, and verified as they do.
//!
//! Whether a client trusts the issuer is its own affair and not looked at; neither is a client certificate shown.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, ConnectionCommon, DigitallySignedStruct, Error,
    ServerConfig, ServerConnection, SideData, SignatureScheme, version,
};

use super::pair::Pair;

/// Flights that a handshake takes at most, with a margin.
const FLIGHTS_MAX: usize = 8;

/// As for everybody, with one cheap group: the key exchange is not what is in question.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
});

/// Has a client that knows only signatures of the pair's kind of key make a handshake.
///
/// # Errors
/// A sentence on what such a client would say.
pub(super) fn rehearse(config: &Arc<ServerConfig>, pair: &Pair) -> Result<(), String> {
    let refused = |error: Error| format!("a handshake with it fails: {error}");
    let witness = Arc::new(Witness { pair: pair.clone(), signed: AtomicBool::new(false) });
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Witness>::clone(&witness))
        .with_no_client_auth();
    client.alpn_protocols.clone_from(&config.alpn_protocols);
    client.resumption = Resumption::disabled();
    let name = ServerName::try_from("rehearsal.invalid").map_err(|error| error.to_string())?;
    let mut client = ClientConnection::new(Arc::new(client), name).map_err(refused)?;
    let mut server = ServerConnection::new(Arc::clone(config)).map_err(refused)?;
    for _ in 0..FLIGHTS_MAX {
        match pass(&mut client, &mut server) {
            Ok(()) => {}
            // All that it could have answered is a certificate, and the server's own was good.
            Err(Error::NoCertificatesPresented) if witness.signed.load(Ordering::Relaxed) => return Ok(()),
            Err(error) => return Err(refused(error)),
        }
        pass(&mut server, &mut client).map_err(refused)?;
        if !client.is_handshaking() && !server.is_handshaking() {
            break;
        }
    }
    match witness.signed.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err("a handshake with it does not come to an end".to_owned()),
    }
}

/// Carries what one side has to say to the other.
fn pass<F: SideData, T: SideData>(
    from: &mut ConnectionCommon<F>,
    to: &mut ConnectionCommon<T>,
) -> Result<(), Error> {
    let mut flight = Vec::new();
    let broken = |error: std::io::Error| Error::General(error.to_string());
    while from.wants_write() {
        from.write_tls(&mut flight).map_err(broken)?;
    }
    let mut rest = flight.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).map_err(broken)?;
        to.process_new_packets()?;
    }
    Ok(())
}

/// A client that takes the pair's certificate and nothing else.
#[derive(Debug)]
struct Witness {
    pair: Pair,
    signed: AtomicBool,
}

impl Witness {
    fn saw(
        &self,
        verified: Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.fetch_or(verified.is_ok(), Ordering::Relaxed);
        verified
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.pair.certified.cert.first() == Some(leaf) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.saw(verify_tls12_signature(message, leaf, signed, &PROVIDER.signature_verification_algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.saw(verify_tls13_signature(message, leaf, signed, &PROVIDER.signature_verification_algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let all = PROVIDER.signature_verification_algorithms.supported_schemes();
        all.into_iter().filter(|scheme| self.pair.certified.key.choose_scheme(&[*scheme]).is_some()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use rustls::sign::CertifiedKey;

    use super::*;
    use crate::tls::clients::{ClientPolicy, Revocation, Roots};
    use crate::tls::suites;
    use crate::tls::terms::{Compiler, Wanted};
    use crate::tls::testing::Ca;

    /// Every kind of key, version and mode comes through; a key that is another's does not.
    #[test]
    fn what_is_signed_is_verified() {
        let ca = Ca::new("authority");
        let [ecdsa, other, ed25519] = [
            ca.server(&rcgen::PKCS_ECDSA_P256_SHA256),
            ca.server(&rcgen::PKCS_ECDSA_P384_SHA384),
            ca.server(&rcgen::PKCS_ED25519),
        ];
        let policy = |optional| ClientPolicy {
            optional,
            roots: Arc::new(Roots::new(std::slice::from_ref(&ca.root)).unwrap()),
            crls: None,
            revocation: Revocation::default(),
            names: Vec::new(),
            spki: Vec::new(),
            certificates: Vec::new(),
            details: Vec::new(),
        };
        let compile = |pairs: Vec<Pair>, clients, tls12, tls13| {
            let wanted =
                Wanted { pairs, clients, tls12, tls13, suites: suites::all(), alpn: vec![b"http/1.1"] };
            Compiler::default().compile(&wanted).map(|_| ())
        };
        let certified = CertifiedKey::new(ecdsa.certified.cert.clone(), Arc::clone(&other.certified.key));
        let false_pair = Pair { certified: Arc::new(certified), ..ecdsa.clone() };
        for (tls12, tls13) in [(true, true), (true, false), (false, true)] {
            for clients in [None, Some(policy(true)), Some(policy(false))] {
                let pairs = vec![ecdsa.clone(), ed25519.clone()];
                assert_eq!(compile(pairs, clients.clone(), tls12, tls13), Ok(()));
                let refused = compile(vec![ed25519.clone(), false_pair.clone()], clients, tls12, tls13);
                assert!(refused.unwrap_err().starts_with("a handshake with it fails"));
            }
        }
    }
}
