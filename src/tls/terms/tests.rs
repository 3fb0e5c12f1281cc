//! Handshakes with rustls' client, in memory: what the terms of a server let in and what they do not.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Mutex;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::{
    AlertDescription, CertificateError, CipherSuite, ClientConfig, ClientConnection, Error, HandshakeKind,
    NamedGroup, ProtocolVersion, RootCertStore, ServerConnection, SignatureAlgorithm as KeyKind,
    SupportedProtocolVersion, version,
};

use super::*;
use crate::tls::clients::{Crls, Revocation, Roots};
use crate::tls::testing::{AnyServer, Ca, Holder, SPIFFE};

const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

fn policy(ca: &Ca) -> ClientPolicy {
    ClientPolicy {
        optional: false,
        roots: roots(&[&ca.root]),
        crls: None,
        revocation: Revocation::default(),
        names: Vec::new(),
        spki: Vec::new(),
        certificates: Vec::new(),
        details: Vec::new(),
    }
}

fn roots(certificates: &[&CertificateDer<'static>]) -> Arc<Roots> {
    let certificates: Vec<_> = certificates.iter().copied().cloned().collect();
    Arc::new(Roots::new(&certificates).unwrap())
}

fn lists(crls: Vec<CertificateRevocationListDer<'static>>) -> Option<Arc<Crls>> {
    Some(Arc::new(Crls::new(crls).unwrap()))
}

/// As a reload does: without what was compiled before.
fn compile(wanted: &Wanted) -> Arc<TlsTerms> {
    Compiler::default().compile(wanted).unwrap()
}

fn wanted(pairs: Vec<Pair>, clients: Option<ClientPolicy>) -> Wanted {
    Wanted { pairs, clients, tls12: true, tls13: true, suites: suites::all(), alpn: vec![b"http/1.1"] }
}

fn mutual(ca: &Ca, change: impl FnOnce(&mut ClientPolicy)) -> Arc<TlsTerms> {
    let mut policy = policy(ca);
    change(&mut policy);
    compile(&wanted(vec![ca.server(&rcgen::PKCS_ECDSA_P256_SHA256)], Some(policy)))
}

/// Both ends after a handshake and the tickets behind it, or what the server had against it; what the client then hears
/// is checked to be an alert.
fn shake(
    client: &Arc<ClientConfig>,
    terms: &TlsTerms,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let mut client = ClientConnection::new(Arc::clone(client), "a.test".try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::clone(&terms.config)).unwrap();
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        let mut refused = None;
        while !rest.is_empty() && refused.is_none() {
            server.read_tls(&mut rest).unwrap();
            refused = server.process_new_packets().err();
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            match client.process_new_packets() {
                Err(Error::AlertReceived(_)) if refused.is_some() => break,
                result => {
                    result?;
                }
            }
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

fn refusal(client: ClientConfig, terms: &TlsTerms) -> Error {
    shake(&Arc::new(client), terms).err().unwrap()
}

/// Whether a client with this certificate gets in, with both versions alike.
fn admits(ca: &Ca, terms: &TlsTerms, holder: Option<&Holder>) -> Result<(), Error> {
    let [first, second] =
        BOTH.map(|version| shake(&Arc::new(ca.trust(&[version], holder)), terms).map(|_| ()));
    assert_eq!(first, second);
    first
}

#[test]
fn simple_speaks_both_versions_and_prefers_post_quantum() {
    let ca = Ca::new("servers");
    let terms = compile(&wanted(vec![ca.server(&rcgen::PKCS_ECDSA_P256_SHA256)], None));
    assert_eq!(terms.mode, TlsMode::Simple);
    assert!(!terms.config.ignore_client_order && terms.config.max_early_data_size == 0);
    for (versions, spoken, group) in [
        (&BOTH[..], ProtocolVersion::TLSv1_3, NamedGroup::X25519MLKEM768),
        (&BOTH[1..], ProtocolVersion::TLSv1_3, NamedGroup::X25519MLKEM768),
        (&BOTH[..1], ProtocolVersion::TLSv1_2, NamedGroup::X25519),
    ] {
        let mut client = ca.trust(versions, None);
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let (_, server) = shake(&Arc::new(client), &terms).unwrap();
        assert_eq!(server.protocol_version(), Some(spoken));
        assert_eq!(server.negotiated_key_exchange_group().unwrap().name(), group);
        assert_eq!(server.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(server.server_name(), Some("a.test"));
    }
}

#[test]
fn versions_and_suites_are_bounds() {
    let ca = Ca::new("servers");
    let pair = || vec![ca.server(&rcgen::PKCS_ECDSA_P256_SHA256)];
    let only12 = compile(&Wanted { tls13: false, ..wanted(pair(), None) });
    let only13 = compile(&Wanted { tls12: false, ..wanted(pair(), None) });
    assert!(shake(&Arc::new(ca.trust(&BOTH, None)), &only12).is_ok());
    assert!(shake(&Arc::new(ca.trust(&BOTH, None)), &only13).is_ok());
    for (terms, version) in [(&only12, BOTH[1]), (&only13, BOTH[0])] {
        assert!(matches!(refusal(ca.trust(&[version], None), terms), Error::PeerIncompatible(_)));
    }
    let chosen = ["ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_AES_256_GCM_SHA384"];
    let chosen = chosen.map(|name| suites::by_name(name).unwrap()).to_vec();
    let terms = compile(&Wanted { suites: chosen, ..wanted(pair(), None) });
    for (version, suite) in [
        (BOTH[0], CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
        (BOTH[1], CipherSuite::TLS13_AES_256_GCM_SHA384),
    ] {
        let (_, server) = shake(&Arc::new(ca.trust(&[version], None)), &terms).unwrap();
        assert_eq!(server.negotiated_cipher_suite().unwrap().suite(), suite);
    }
}

/// A client that knows only one kind of signature gets the certificate of that kind, whatever the order.
#[test]
fn each_client_gets_a_certificate_that_it_can_check() {
    let ca = Ca::new("servers");
    let (ecdsa, rsa) = (ca.server(&rcgen::PKCS_ECDSA_P256_SHA256), ca.server(&rcgen::PKCS_RSA_SHA256));
    let leaf = |pair: &Pair| pair.certified.cert[0].clone();
    let mut rsa_only = CryptoProvider::clone(&PROVIDER);
    rsa_only.signature_verification_algorithms.mapping = rsa_only
        .signature_verification_algorithms
        .mapping
        .iter()
        .position(|(scheme, _)| *scheme == rustls::SignatureScheme::RSA_PSS_SHA512)
        .map(|first| &PROVIDER.signature_verification_algorithms.mapping[first..first + 6])
        .unwrap();
    for order in [[&ecdsa, &rsa], [&rsa, &ecdsa]] {
        let terms = compile(&wanted(order.into_iter().cloned().collect(), None));
        let mut roots = RootCertStore::empty();
        roots.add(ca.root.clone()).unwrap();
        for version in BOTH {
            let (client, _) = shake(&Arc::new(ca.trust(&[version], None)), &terms).unwrap();
            assert_eq!(client.peer_certificates().unwrap()[0], leaf(order[0]));
            let client = ClientConfig::builder_with_provider(Arc::new(rsa_only.clone()))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            // The test authority signs with ECDSA: only the chain stays unchecked by such a client.
            let offered = shake_for_certificate(client, &terms);
            assert_eq!(offered, KeyKind::RSA);
        }
    }
}

/// The kind of key that the server signs with for this client.
fn shake_for_certificate(mut client: ClientConfig, terms: &TlsTerms) -> KeyKind {
    let seen = Arc::new(AnyServer(Mutex::new(None), client.crypto_provider().clone()));
    client.dangerous().set_certificate_verifier(Arc::clone(&seen) as Arc<_>);
    shake(&Arc::new(client), terms).unwrap();
    let leaf = seen.0.lock().unwrap().take().unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let rsa = x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;
    if parsed.public_key().algorithm.algorithm == rsa { KeyKind::RSA } else { KeyKind::ECDSA }
}

#[test]
fn mutual_wants_a_good_certificate() {
    let (ca, other) = (Ca::new("clients"), Ca::new("others"));
    let terms = mutual(&ca, |_| {});
    assert_eq!(terms.mode, TlsMode::Mutual);
    let good = ca.client(|_| {});
    assert_eq!(admits(&ca, &terms, Some(&good)), Ok(()));
    assert_eq!(admits(&ca, &terms, None), Err(Error::NoCertificatesPresented));
    let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
    // A client that follows the hints of the server would keep a certificate of another authority to itself.
    let stranger = other.client(|params| params.distinguished_name.push(DnType::CommonName, "x"));
    let verified = terms.clients.verify_client_cert(stranger.certificate.der(), &[], UnixTime::now());
    assert_eq!(verified.err(), Some(unknown));
    for (change, code) in [
        (expire as fn(&mut CertificateParams), AlertDescription::CertificateExpired),
        (not_yet, AlertDescription::CertificateExpired),
        (for_servers, AlertDescription::UnsupportedCertificate),
    ] {
        let Err(Error::InvalidCertificate(error)) = admits(&ca, &terms, Some(&ca.client(change))) else {
            unreachable!("refused for its certificate")
        };
        assert_eq!(AlertDescription::from(error), code);
    }
}

fn expire(params: &mut CertificateParams) {
    params.not_after = date_time_ymd(2020, 1, 1);
}

fn not_yet(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(3000, 1, 1);
}

fn for_servers(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}

#[test]
fn revoked_clients_are_refused() {
    let ca = Ca::new("clients");
    let good = ca.client(|_| {});
    let verdict = |crls: Vec<CertificateRevocationListDer<'static>>, revocation: Revocation| {
        let terms = mutual(&ca, |policy| {
            policy.crls = lists(crls);
            policy.revocation = revocation;
        });
        admits(&ca, &terms, Some(&good)).map_err(|error| match error {
            Error::InvalidCertificate(error) => error,
            error => unreachable!("{error}"),
        })
    };
    let strict = Revocation::default();
    assert_eq!(verdict(vec![ca.crl(4000, &[6, 8])], strict), Ok(()));
    assert_eq!(verdict(vec![ca.crl(4000, &[7])], strict), Err(CertificateError::Revoked));
    assert_eq!(
        verdict(vec![ca.crl(2020, &[7])], Revocation { allow_expired: true, ..strict }),
        Err(CertificateError::Revoked)
    );
    assert!(matches!(
        verdict(vec![ca.crl(2020, &[])], strict),
        Err(CertificateError::ExpiredRevocationListContext { .. })
    ));
    assert_eq!(verdict(vec![ca.crl(2020, &[])], Revocation { allow_expired: true, ..strict }), Ok(()));
    let foreign = || vec![Ca::new("others").crl(4000, &[])];
    assert_eq!(verdict(foreign(), strict), Err(CertificateError::UnknownRevocationStatus));
    assert_eq!(verdict(foreign(), Revocation { allow_unknown: true, ..strict }), Ok(()));
}

/// An intermediate authority without a list of its issuer: unknown for the chain, of no matter for the leaf.
#[test]
fn lists_cover_the_chain_or_the_leaf() {
    let root = Ca::new("root");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "intermediate");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let Holder { certificate, key } = root.sign(&params, &rcgen::PKCS_ECDSA_P256_SHA256);
    let below = Ca { root: certificate.der().clone(), issuer: Issuer::new(params, key) };
    let leaf = below.client(|_| {});
    for (crls, leaf_only, good) in [
        (vec![below.crl(4000, &[])], false, false),
        (vec![below.crl(4000, &[])], true, true),
        (vec![below.crl(4000, &[]), root.crl(4000, &[])], false, true),
    ] {
        let terms = mutual(&root, |policy| {
            policy.crls = lists(crls);
            policy.revocation.leaf_only = leaf_only;
        });
        let now = UnixTime::now();
        let chain = [below.root.clone()];
        assert_eq!(
            terms.clients.verify_client_cert(leaf.certificate.der(), &chain, now).is_ok(),
            good,
            "{leaf_only}"
        );
    }
}

/// Each kind of name alone lets the client in; names that are merely alike do not.
#[test]
fn clients_are_known_by_name() {
    let ca = Ca::new("clients");
    let client = ca.client(|_| {});
    let verdict = |names: &[&str]| {
        let names = names.iter().map(|name| Box::from(*name)).collect();
        admits(&ca, &mutual(&ca, |policy| policy.names = names), Some(&client))
    };
    for names in [&["web.example.org"][..], &["WEB.example.org"], &["web@example.org"], &["x.org", SPIFFE]] {
        assert_eq!(verdict(names), Ok(()), "{names:?}");
    }
    let near = [
        "example.org",
        "*.example.org",
        "eb.example.org",
        "Web@example.org",
        "spiffe://example.org/ns",
        "spiffe://example.org/ns/Web",
        "spiffe://example.org/ns/web/",
    ];
    let refused = Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
    for name in near {
        assert_eq!(verdict(&[name]), refused, "{name}");
    }
    assert_eq!(verdict(&near), refused);
    let nameless = ca.client(|params| params.subject_alt_names.clear());
    let terms = mutual(&ca, |policy| policy.names = vec![Box::from("web.example.org")]);
    assert_eq!(admits(&ca, &terms, Some(&nameless)), refused);
}

/// As in Istio, a pin of either list is enough, and names count beside pins.
#[test]
fn clients_are_known_by_pin() {
    use aws_lc_rs::digest::{SHA256, digest};
    let ca = Ca::new("clients");
    let client = ca.client(|_| {});
    let sha = |bytes: &[u8]| -> [u8; 32] { digest(&SHA256, bytes).as_ref().try_into().unwrap() };
    let certificate = sha(client.certificate.der());
    let (_, parsed) = x509_parser::parse_x509_certificate(client.certificate.der()).unwrap();
    let spki = sha(parsed.public_key().raw);
    let verdict = |spki: &[[u8; 32]], certificates: &[[u8; 32]], names: &[&str]| {
        let terms = mutual(&ca, |policy| {
            policy.spki = spki.to_vec();
            policy.certificates = certificates.to_vec();
            policy.names = names.iter().map(|name| Box::from(*name)).collect();
        });
        admits(&ca, &terms, Some(&client))
    };
    let other = [9; 32];
    let refused = Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
    for (keys, certificates) in [
        (&[spki][..], &[][..]),
        (&[], &[certificate]),
        (&[other, spki], &[]),
        (&[other], &[certificate]),
        (&[spki], &[other]),
    ] {
        assert_eq!(verdict(keys, certificates, &[]), Ok(()));
        assert_eq!(verdict(keys, certificates, &[SPIFFE]), Ok(()));
        assert_eq!(verdict(keys, certificates, &["x.org"]), refused);
    }
    assert_eq!(verdict(&[other], &[], &[]), refused);
    assert_eq!(verdict(&[], &[other], &[]), refused);
    assert_eq!(verdict(&[certificate], &[spki], &[]), refused);
}

#[test]
fn optional_takes_none_but_no_bad_one() {
    let ca = Ca::new("clients");
    let terms = mutual(&ca, |policy| policy.optional = true);
    assert_eq!(terms.mode, TlsMode::OptionalMutual);
    assert_eq!(admits(&ca, &terms, None), Ok(()));
    assert_eq!(admits(&ca, &terms, Some(&ca.client(|_| {}))), Ok(()));
    assert!(matches!(admits(&ca, &terms, Some(&ca.client(expire))), Err(Error::InvalidCertificate(_))));
}

/// A kind of connection after one with `first`, when `second` has taken its place.
fn resumed(client: &Arc<ClientConfig>, first: &TlsTerms, second: &TlsTerms) -> HandshakeKind {
    let (_, server) = shake(client, first).unwrap();
    assert_ne!(server.handshake_kind(), Some(HandshakeKind::Resumed));
    shake(client, second).unwrap().1.handshake_kind().unwrap()
}

/// What a reload may change and what it may not: equal terms resume in both versions, others never.
#[test]
fn sessions_resume_under_equal_terms_only() {
    let ca = Ca::new("clients");
    let pair = ca.server(&rcgen::PKCS_ECDSA_P256_SHA256);
    let client = ca.client(|_| {});
    let crl = ca.crl(4000, &[]);
    let base = || ClientPolicy { crls: lists(vec![crl.clone()]), names: vec![SPIFFE.into()], ..policy(&ca) };
    let with = |policy: ClientPolicy| compile(&wanted(vec![pair.clone()], Some(policy)));
    let terms = with(base());
    let same = with(base());
    assert_eq!(terms.fingerprint, same.fingerprint);
    let other_ca = Ca::new("more").root;
    let others = [
        with(ClientPolicy { roots: roots(&[&ca.root, &other_ca]), ..base() }),
        with(ClientPolicy { crls: lists(vec![ca.crl(4000, &[8])]), ..base() }),
        with(ClientPolicy { names: vec![SPIFFE.into(), "x.org".into()], ..base() }),
        with(ClientPolicy {
            revocation: Revocation { allow_expired: true, ..Revocation::default() },
            ..base()
        }),
        with(ClientPolicy { optional: true, ..base() }),
        compile(&Wanted { alpn: Vec::new(), ..wanted(vec![pair.clone()], Some(base())) }),
        compile(&wanted(vec![ca.server(&rcgen::PKCS_ECDSA_P256_SHA256)], Some(base()))),
        compile(&wanted(vec![pair.clone()], None)),
    ];
    for version in BOTH {
        let fresh = || Arc::new(ca.trust(&[version], Some(&client)));
        assert_eq!(resumed(&fresh(), &terms, &terms), HandshakeKind::Resumed);
        assert_eq!(resumed(&fresh(), &terms, &same), HandshakeKind::Resumed);
        for (at, other) in others.iter().enumerate() {
            assert_ne!(terms.fingerprint, other.fingerprint, "{at}");
            assert_ne!(resumed(&fresh(), &terms, other), HandshakeKind::Resumed, "{at}");
            assert_ne!(resumed(&fresh(), other, &terms), HandshakeKind::Resumed, "{at}");
        }
    }
}

/// The client that is revoked between two connections comes with a ticket, and is refused all the same.
#[test]
fn a_ticket_does_not_outlive_a_revocation() {
    let ca = Ca::new("clients");
    let pair = ca.server(&rcgen::PKCS_ECDSA_P256_SHA256);
    let holder = ca.client(|_| {});
    let with = |serials: &[u64]| {
        let policy = ClientPolicy { crls: lists(vec![ca.crl(4000, serials)]), ..policy(&ca) };
        compile(&wanted(vec![pair.clone()], Some(policy)))
    };
    for version in BOTH {
        let client = Arc::new(ca.trust(&[version], Some(&holder)));
        shake(&client, &with(&[])).unwrap();
        let refused = shake(&client, &with(&[7])).err();
        assert_eq!(refused, Some(Error::InvalidCertificate(CertificateError::Revoked)));
    }
}

/// Equal terms are one object, and equal policies on clients one verifier; a new OCSP response is no new policy.
#[test]
fn equal_terms_are_shared() {
    let ca = Ca::new("clients");
    let pair = ca.server(&rcgen::PKCS_ECDSA_P256_SHA256);
    let mut stapled = CertifiedKey::clone(&pair.certified);
    stapled.ocsp = Some(b"response".to_vec());
    let stapled = Pair { certified: Arc::new(stapled), ..pair.clone() };
    let mut compiler = Compiler::default();
    let mut with = |pair: &Pair, tls12| {
        compiler.compile(&Wanted { tls12, ..wanted(vec![pair.clone()], Some(policy(&ca))) }).unwrap()
    };
    let (first, second, stapled, stricter) =
        (with(&pair, true), with(&pair, true), with(&stapled, true), with(&pair, false));
    assert!(Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(&first, &stapled) && first.fingerprint == stapled.fingerprint);
    assert!(Arc::ptr_eq(&first.clients, &stricter.clients) && first.fingerprint != stricter.fingerprint);
}
