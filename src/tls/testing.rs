//! Certificates for tests, made on the spot, and clients that hold them against the server's.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};

use super::pair::{Pair, read_pair};
use super::terms::PROVIDER;

/// The URI name of [`Ca::client`].
pub(crate) const SPIFFE: &str = "spiffe://example.org/ns/web";

pub(crate) struct Ca {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) root: CertificateDer<'static>,
}

/// A certificate with its key.
pub(crate) struct Holder {
    pub(crate) certificate: Certificate,
    pub(crate) key: KeyPair,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    pub(crate) fn sign(&self, params: &CertificateParams, kind: &'static SignatureAlgorithm) -> Holder {
        let key = KeyPair::generate_for(kind).unwrap();
        Holder { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    pub(crate) fn server(&self, kind: &'static SignatureAlgorithm) -> Pair {
        let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let Holder { certificate, key } = self.sign(&params, kind);
        read_pair(&PROVIDER, certificate.pem().as_bytes(), key.serialize_pem().as_bytes(), None).unwrap()
    }

    /// A client with three names and serial number 7.
    pub(crate) fn client(&self, change: impl FnOnce(&mut CertificateParams)) -> Holder {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::DnsName("web.example.org".try_into().unwrap()),
            SanType::Rfc822Name("web@example.org".try_into().unwrap()),
            SanType::URI(SPIFFE.try_into().unwrap()),
        ];
        params.serial_number = Some(SerialNumber::from(7));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        self.sign(&params, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// A list that ends with a year and holds these serial numbers.
    pub(crate) fn crl(&self, year: i32, serials: &[u64]) -> CertificateRevocationListDer<'static> {
        self.list(1, year, serials)
    }

    /// A list made on a day of January 2020.
    pub(crate) fn crl_of(&self, day: u8, serials: &[u64]) -> CertificateRevocationListDer<'static> {
        self.list(day, 4000, serials)
    }

    fn list(&self, day: u8, year: i32, serials: &[u64]) -> CertificateRevocationListDer<'static> {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, day),
            next_update: date_time_ymd(year, 12, 31),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().into()
    }

    pub(crate) fn trust(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        who: Option<&Holder>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let builder = ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots);
        let Some(holder) = who else { return builder.with_no_client_auth() };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(holder.key.serialize_der()));
        builder.with_client_auth_cert(vec![holder.certificate.der().clone()], key).unwrap()
    }
}

/// Takes any chain and keeps its first certificate.
#[derive(Debug)]
pub(crate) struct AnyServer(
    pub(crate) Mutex<Option<CertificateDer<'static>>>,
    pub(crate) Arc<CryptoProvider>,
);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.0.lock().unwrap() = Some(leaf.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.1.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.1.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.1.signature_verification_algorithms.supported_schemes()
    }
}
