//! Cipher suites by name (IANA's, as rustls has them, and OpenSSL's for TLS 1.2), and the cryptography and versions of a
//! choice of them.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};

use super::terms::PROVIDER;

/// OpenSSL's names of the TLS 1.2 suites, for those who bring a list along.
const OPENSSL: [(&str, &str); 6] = [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    ("ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
];

/// The name of a suite; rustls marks those of TLS 1.3, IANA does not.
#[must_use]
pub fn name(suite: SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    name.strip_prefix("TLS13_").map_or_else(|| name.clone(), |rest| format!("TLS_{rest}"))
}

/// The suite of a name.
#[must_use]
pub fn by_name(wanted: &str) -> Option<SupportedCipherSuite> {
    let iana = OPENSSL.iter().find(|(openssl, _)| *openssl == wanted).map_or(wanted, |(_, iana)| *iana);
    all().into_iter().find(|suite| name(*suite) == iana)
}

/// OpenSSL's names.
pub fn openssl_names() -> impl Iterator<Item = &'static str> {
    OPENSSL.iter().map(|(openssl, _)| *openssl)
}

/// All suites in the order of preference: AES-128, which every client has and which costs least, then as rustls has them.
#[must_use]
pub fn all() -> Vec<SupportedCipherSuite> {
    let mut suites = PROVIDER.cipher_suites.clone();
    suites.sort_by_key(|suite| !name(*suite).contains("AES_128"));
    suites
}

/// The cryptography with these suites alone.
pub(super) fn provider_of(suites: &[SupportedCipherSuite]) -> Arc<CryptoProvider> {
    let mut provider = CryptoProvider::clone(&PROVIDER);
    provider.cipher_suites = suites.to_vec();
    Arc::new(provider)
}

/// The versions that are spoken, the newest first.
pub(super) fn versions(tls12: bool, tls13: bool) -> Vec<&'static SupportedProtocolVersion> {
    let versions = [(tls13, &version::TLS13), (tls12, &version::TLS12)];
    versions.into_iter().filter_map(|(spoken, version)| spoken.then_some(version)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "literals")]

    use super::*;

    #[test]
    fn every_name_leads_to_its_suite() {
        assert!(all().into_iter().all(|suite| by_name(&name(suite)) == Some(suite)));
        for (openssl, iana) in OPENSSL {
            assert_eq!(name(by_name(openssl).unwrap()), iana);
        }
        assert!(by_name("TLS_AES_128_GCM_SHA256").is_some());
        assert!(by_name("RC4-MD5").is_none() && by_name("").is_none());
    }
}
