//! Handshakes with rustls' server, in memory: whom the settings take for an endpoint.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use rcgen::{CertificateParams, SerialNumber};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConnection, ServerConfig, ServerConnection};

use super::*;
use crate::tls::fault::TlsFault;
use crate::tls::suites;
use crate::tls::testing::{Ca, Holder, SPIFFE};

const NAME: &str = "a.test";

fn policy(ca: &Ca) -> ServerPolicy {
    ServerPolicy {
        roots: Arc::new(Roots::new(std::slice::from_ref(&ca.root)).unwrap()),
        crls: None,
        revocation: Revocation::default(),
        names: Vec::new(),
    }
}

fn wanted(servers: Option<ServerPolicy>) -> Wanted {
    let sni = Some(NAME.try_into().unwrap());
    Wanted { servers, identity: None, sni, tls12: true, tls13: true, suites: suites::all() }
}

/// A server of `NAME`, and of the names of [`Ca::client`].
fn server(ca: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
    let Holder { certificate, key } = ca.client(|params| {
        params.extended_key_usages.clear();
        params.subject_alt_names.push(rcgen::SanType::DnsName(NAME.try_into().unwrap()));
        change(params);
    });
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth();
    Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap())
}

/// What a client with these settings has against a server.
fn shake(wanted: &Wanted, server: &Arc<ServerConfig>) -> Result<(), TlsFault> {
    let settings = Compiler::default().compile(wanted).unwrap();
    let name = settings.sni.clone().unwrap();
    let mut client = ClientConnection::new(Arc::clone(&settings.config), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    for _ in 0..4 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().unwrap();
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().map_err(|error| TlsFault::of(&error))?;
        }
    }
    assert!(!client.is_handshaking());
    Ok(())
}

/// A name of ours never makes up for a chain that is not good, and without ours the name that is sent counts.
#[test]
fn names_and_chains_count_both() {
    let (ca, stranger) = (Ca::new("endpoints"), Ca::new("strangers"));
    let named = |names: &[&str]| {
        let names = names.iter().map(|name| Box::from(*name)).collect();
        wanted(Some(ServerPolicy { names, ..policy(&ca) }))
    };
    let good = server(&ca, |_| {});
    let other_name = server(&ca, |params| params.subject_alt_names.truncate(3));
    assert_eq!(shake(&named(&[]), &good), Ok(()));
    assert_eq!(shake(&named(&[]), &other_name), Err(TlsFault::Name));
    for names in [&["web.example.org"][..], &["x", "WEB.example.org"], &[SPIFFE], &["web@example.org"]] {
        assert_eq!(shake(&named(names), &good), Ok(()), "{names:?}");
        // Not for the name that is sent, and still one of ours.
        assert_eq!(shake(&named(names), &other_name), Ok(()), "{names:?}");
        for bad in
            [server(&stranger, |_| {}), server(&stranger, |params| params.subject_alt_names.truncate(3))]
        {
            assert_eq!(shake(&named(names), &bad), Err(TlsFault::UnknownIssuer), "{names:?}");
        }
        let old = server(&ca, |params| {
            params.subject_alt_names.truncate(3);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        });
        assert_eq!(shake(&named(names), &old), Err(TlsFault::Expired), "{names:?}");
    }
    for names in [&["a.example.org"][..], &["WEB@example.org"], &["spiffe://example.org/ns"]] {
        assert_eq!(shake(&named(names), &good), Err(TlsFault::Name), "{names:?}");
    }
    // Anybody is good where that was asked for.
    assert_eq!(shake(&wanted(None), &server(&stranger, |params| params.subject_alt_names.clear())), Ok(()));
}

#[test]
fn revocation() {
    let (ca, stranger) = (Ca::new("endpoints"), Ca::new("strangers"));
    let with = |list, change: &dyn Fn(&mut Revocation), names: &[&str]| {
        let mut policy = ServerPolicy { crls: Some(Arc::new(Crls::new(vec![list]).unwrap())), ..policy(&ca) };
        change(&mut policy.revocation);
        policy.names = names.iter().map(|name| Box::from(*name)).collect();
        wanted(Some(policy))
    };
    let numbered =
        |serial: u64| server(&ca, move |params| params.serial_number = Some(SerialNumber::from(serial)));
    let strict = |_: &mut Revocation| {};
    // Names of ours do not make up for it.
    for names in [&[][..], &[NAME]] {
        assert_eq!(shake(&with(ca.crl(4000, &[7]), &strict, names), &numbered(7)), Err(TlsFault::Revoked));
        assert_eq!(shake(&with(ca.crl(4000, &[7]), &strict, names), &numbered(8)), Ok(()));
        assert_eq!(shake(&with(ca.crl(2021, &[7]), &strict, names), &numbered(8)), Err(TlsFault::CrlExpired));
        let of_others = stranger.crl(4000, &[]);
        assert_eq!(shake(&with(of_others, &strict, names), &numbered(8)), Err(TlsFault::CrlUnknown));
    }
    let expired = |revocation: &mut Revocation| revocation.allow_expired = true;
    assert_eq!(shake(&with(ca.crl(2021, &[7]), &expired, &[]), &numbered(8)), Ok(()));
    assert_eq!(shake(&with(ca.crl(2021, &[7]), &expired, &[]), &numbered(7)), Err(TlsFault::Revoked));
    let unknown = |revocation: &mut Revocation| revocation.allow_unknown = true;
    assert_eq!(shake(&with(stranger.crl(4000, &[]), &unknown, &[]), &numbered(8)), Ok(()));
}

/// Everything that makes connections differ is in the fingerprint, and only that.
#[test]
fn fingerprints() {
    let (ca, stranger) = (Ca::new("endpoints"), Ca::new("strangers"));
    let changes: [&dyn Fn(&mut Wanted); 9] = [
        &|wanted| wanted.servers = None,
        &|wanted| wanted.servers = Some(policy(&stranger)),
        &|wanted| wanted.servers.as_mut().unwrap().names = vec!["x".into()],
        &|wanted| {
            let crls = Crls::new(vec![ca.crl(4000, &[1])]).unwrap();
            wanted.servers.as_mut().unwrap().crls = Some(Arc::new(crls));
        },
        &|wanted| wanted.servers.as_mut().unwrap().revocation.allow_expired = true,
        &|wanted| wanted.sni = None,
        &|wanted| wanted.sni = Some("b.test".try_into().unwrap()),
        &|wanted| wanted.identity = Some(ca.server(&rcgen::PKCS_ECDSA_P256_SHA256)),
        &|wanted| wanted.tls12 = false,
    ];
    let mut compiler = Compiler::default();
    let base = compiler.compile(&wanted(Some(policy(&ca)))).unwrap();
    let mut seen = vec![base.fingerprint];
    for change in changes {
        let mut changed = wanted(Some(policy(&ca)));
        change(&mut changed);
        let fingerprint = compiler.compile(&changed).unwrap().fingerprint;
        assert!(!seen.contains(&fingerprint), "change {}", seen.len());
        seen.push(fingerprint);
    }
    let again = Compiler::default().compile(&wanted(Some(policy(&ca)))).unwrap();
    assert_eq!(again.fingerprint, base.fingerprint);
    assert!(Arc::ptr_eq(&base, &compiler.compile(&wanted(Some(policy(&ca)))).unwrap()));
    let mut fewer = wanted(Some(policy(&ca)));
    fewer.suites.pop();
    assert_ne!(compiler.compile(&fewer).unwrap().fingerprint, base.fingerprint);
}
