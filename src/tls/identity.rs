//! Who a client is by its certificate: the names that routes match, and the `X-Forwarded-Client-Cert` element that tells
//! endpoints.
//!
//! Made once for each connection, of a certificate that was verified. What it says goes into a header, and the
//! certificate's authority may be careless: nothing of it can end an element, a field or a line.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE64, HEXLOWER};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::x509::X509Name;

/// Names of a certificate that are looked at; the others do not count.
const NAMES_MAX: usize = 64;

/// Bytes of an element beyond which no further name goes into it.
const NAMES_BYTES_MAX: usize = 4 * 1024;

/// Bytes of certificates that one element passes on.
const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// What is passed on of a client's certificate: Envoy's `set_current_client_cert_details`, beside the hash of the certificate.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CertDetail {
    /// The certificate itself, PEM in URL encoding.
    Cert,
    /// All certificates that the client sent, likewise.
    Chain,
    /// DNS names.
    Dns,
    /// The subject, as RFC 4514 writes it.
    Subject,
    /// URIs, such as SPIFFE ids.
    Uri,
}

/// A client that showed a certificate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientIdentity {
    /// The subject, as RFC 4514 writes it.
    pub subject: Box<str>,
    /// URIs of the subject alternative name.
    pub uris: Vec<Box<str>>,
    /// DNS names, in lower case.
    pub dns_names: Vec<Box<str>>,
    /// E-mail addresses.
    pub emails: Vec<Box<str>>,
    /// An element of `X-Forwarded-Client-Cert`; empty where nothing is passed on.
    pub element: Box<str>,
}

impl ClientIdentity {
    /// Who showed these certificates, its own first; `None` for none.
    #[must_use]
    pub fn of(certificates: &[CertificateDer<'_>], details: &[CertDetail]) -> Option<Self> {
        let leaf = certificates.first()?;
        let mut identity = Self::default();
        if let Ok((_, parsed)) = X509Certificate::from_der(leaf) {
            identity.subject = subject(parsed.subject()).into();
            if let Ok(Some(names)) = parsed.subject_alternative_name() {
                let visible = |name: &str| name.bytes().all(|byte| byte.is_ascii_graphic());
                for name in names.value.general_names.iter().take(NAMES_MAX) {
                    match *name {
                        GeneralName::URI(uri) if visible(uri) => identity.uris.push(uri.into()),
                        GeneralName::DNSName(name) if visible(name) => {
                            identity.dns_names.push(name.to_ascii_lowercase().into());
                        }
                        GeneralName::RFC822Name(email) if visible(email) => {
                            identity.emails.push(email.into());
                        }
                        _ => {}
                    }
                }
            }
        }
        if !details.is_empty() {
            identity.element = identity.element(certificates, leaf, details).into();
        }
        Some(identity)
    }

    /// Envoy's form: `Hash=..;Subject="..";URI=..`.
    fn element(&self, chain: &[CertificateDer<'_>], leaf: &[u8], details: &[CertDetail]) -> String {
        let mut element = format!("Hash={}", HEXLOWER.encode(digest(&SHA256, leaf).as_ref()));
        for detail in details {
            match detail {
                CertDetail::Cert => push_pem(&mut element, "Cert", &[leaf]),
                CertDetail::Chain => {
                    let chain: Vec<&[u8]> = chain.iter().map(AsRef::as_ref).collect();
                    push_pem(&mut element, "Chain", &chain);
                }
                CertDetail::Subject => push_quoted(&mut element, "Subject", &self.subject),
                CertDetail::Uri => push_names(&mut element, "URI", &self.uris),
                CertDetail::Dns => push_names(&mut element, "DNS", &self.dns_names),
            }
        }
        element
    }
}

/// As many as there is room for: endpoints have bounds for headers, too.
fn push_names(element: &mut String, key: &str, names: &[Box<str>]) {
    for name in names {
        if element.len() + name.len() < NAMES_BYTES_MAX {
            push_pair(element, key, name);
        }
    }
}

/// Quoted only where it must be, as Envoy does.
fn push_pair(element: &mut String, key: &str, value: &str) {
    if value.contains([',', ';', '=', '"', '\\']) {
        return push_quoted(element, key, value);
    }
    element.extend([";", key, "=", value]);
}

fn push_quoted(element: &mut String, key: &str, value: &str) {
    element.extend([";", key, "=\""]);
    for char in value.chars() {
        if matches!(char, '"' | '\\') {
            element.push('\\');
        }
        element.push(char);
    }
    element.push('"');
}

/// PEM in URL encoding; left out where it is large.
fn push_pem(element: &mut String, key: &str, certificates: &[&[u8]]) {
    if certificates.iter().map(|certificate| certificate.len()).sum::<usize>() > CERTIFICATE_BYTES_MAX {
        return;
    }
    element.extend([";", key, "=\""]);
    for certificate in certificates {
        element.push_str("-----BEGIN%20CERTIFICATE-----%0A");
        let text = BASE64.encode(certificate);
        for line in text.as_bytes().chunks(64) {
            for byte in line {
                match byte {
                    b'+' => element.push_str("%2B"),
                    b'/' => element.push_str("%2F"),
                    b'=' => element.push_str("%3D"),
                    byte => element.push(char::from(*byte)),
                }
            }
            element.push_str("%0A");
        }
        element.push_str("-----END%20CERTIFICATE-----%0A");
    }
    element.push('"');
}

/// Short names of attribute types (RFC 4514 section 3).
const TYPES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// A distinguished name in the form of RFC 4514 section 2, in ASCII: the last part first; a type without a short name as
/// its number with the value's bytes in hex.
fn subject(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for part in parts.iter().rev() {
        for (at, attribute) in part.iter().enumerate() {
            if !text.is_empty() {
                text.push(if at == 0 { ',' } else { '+' });
            }
            let number = attribute.attr_type().to_id_string();
            let short = TYPES.iter().find(|(known, _)| *known == number).map(|(_, short)| *short);
            match (short, attribute.as_str()) {
                (Some(short), Ok(value)) => {
                    text.extend([short, "="]);
                    push_value(&mut text, value);
                }
                _ => {
                    let value = HEXLOWER.encode(attribute.as_slice());
                    text.extend([&number, "=#", &value]);
                }
            }
        }
    }
    text
}

/// RFC 4514 section 2.4; beside what it asks for, all that is not visible ASCII is escaped by its bytes.
fn push_value(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (at, char) in value.char_indices() {
        match char {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => text.extend(['\\', char]),
            '#' | ' ' if at == 0 => text.extend(['\\', char]),
            ' ' if at == last => text.push_str("\\ "),
            ' '..='~' => text.push(char),
            _ => {
                let mut bytes = [0; 4];
                for byte in char.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(text, "\\{byte:02X}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]
    use rcgen::{CertificateParams, DnType, DnValue, SanType};

    use super::*;
    use crate::tls::testing::Ca;

    const ALL: [CertDetail; 3] = [CertDetail::Subject, CertDetail::Uri, CertDetail::Dns];

    fn identity(change: impl FnOnce(&mut CertificateParams), details: &[CertDetail]) -> ClientIdentity {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        let holder = Ca::new("clients").sign(&params, &rcgen::PKCS_ECDSA_P256_SHA256);
        ClientIdentity::of(&[holder.certificate.der().clone()], details).unwrap()
    }

    fn san(name: &str) -> rcgen::string::Ia5String {
        name.try_into().unwrap()
    }

    #[test]
    fn names_are_told() {
        let identity = identity(
            |params| {
                params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
                params.distinguished_name.push(DnType::CommonName, "shop");
                params.subject_alt_names = vec![
                    SanType::URI(san("spiffe://example.com/shop")),
                    SanType::DnsName(san("Shop.Example.com")),
                    SanType::Rfc822Name(san("ops@example.com")),
                    SanType::URI(san("https://a.test/?b=c")),
                ];
            },
            &ALL,
        );
        assert_eq!(&*identity.subject, "CN=shop,O=Example\\, Inc.");
        assert_eq!(identity.uris, ["spiffe://example.com/shop".into(), "https://a.test/?b=c".into()]);
        assert_eq!(
            (identity.dns_names, identity.emails),
            (vec!["shop.example.com".into()], vec!["ops@example.com".into()])
        );
        let (hash, rest) = identity.element.split_at(5 + 64);
        assert!(hash.starts_with("Hash="));
        assert_eq!(
            rest,
            ";Subject=\"CN=shop,O=Example\\\\, Inc.\";URI=spiffe://example.com/shop;URI=\"https://a.test/?b=c\";\
             DNS=shop.example.com"
        );
    }

    /// An authority that signs anything can not make its clients look like others.
    #[test]
    fn nothing_gets_out_of_its_place() {
        let identity = identity(
            |params| {
                let evil = "x\",URI=spiffe://admin\r\nX-Admin: yes;\u{e9}\u{0}";
                params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String(evil.into()));
                params.subject_alt_names = vec![
                    SanType::URI(san("a\",Hash=0;URI=spiffe://admin")),
                    SanType::URI(san("spiffe://admin\r\nX-Admin: yes")),
                    SanType::DnsName(san("a b")),
                ];
            },
            &ALL,
        );
        assert_eq!(&*identity.subject, "CN=x\\\"\\,URI\\=spiffe://admin\\0D\\0AX-Admin: yes\\;\\C3\\A9\\00");
        assert_eq!(identity.uris, ["a\",Hash=0;URI=spiffe://admin".into()]);
        assert!(identity.dns_names.is_empty());
        assert!(identity.element.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
        let (_, rest) = identity.element.split_at(5 + 64);
        assert_eq!(
            rest,
            ";Subject=\"CN=x\\\\\\\"\\\\,URI\\\\=spiffe://admin\\\\0D\\\\0AX-Admin: yes\\\\;\\\\C3\\\\A9\\\\00\";\
             URI=\"a\\\",Hash=0;URI=spiffe://admin\""
        );
    }

    /// Certificates are passed on as Envoy does it; only the hash where nothing is asked for.
    #[test]
    fn certificates_are_passed_on() {
        let with = identity(|_| {}, &[CertDetail::Cert, CertDetail::Chain]);
        let (_, rest) = with.element.split_at(5 + 64);
        let encoded = rest.strip_prefix(";Cert=\"").unwrap().split('"').next().unwrap();
        assert!(encoded.starts_with("-----BEGIN%20CERTIFICATE-----%0AMII"));
        assert!(encoded.ends_with("%0A-----END%20CERTIFICATE-----%0A"));
        assert_eq!(rest, format!(";Cert=\"{encoded}\";Chain=\"{encoded}\""));
        assert_eq!(&*identity(|_| {}, &[]).element, "");
        assert_eq!(ClientIdentity::of(&[], &ALL), None);
        let broken = ClientIdentity::of(&[CertificateDer::from(vec![1, 2, 3])], &ALL).unwrap();
        assert!(broken.element.starts_with("Hash=") && broken.uris.is_empty());
    }
}
