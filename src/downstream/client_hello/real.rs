//! Hellos of real clients, and what rustls reads from a hello.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::sync::Arc;

use rustls::client::ClientConnection;
use rustls::crypto::aws_lc_rs;
use rustls::server::Acceptor;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::samples::records;
use super::*;

/// What rustls' server reads from a hello: the name in lower case, and the protocols.
pub(super) type Read = (Option<String>, Vec<Vec<u8>>);

/// What rustls' server makes of `bytes`: a hello, the need for more, or an error.
pub(super) fn rustls_reads(mut bytes: &[u8]) -> Result<Option<Read>, rustls::Error> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).unwrap();
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let names = hello.alpn().map(|names| names.map(<[u8]>::to_vec).collect()).unwrap_or_default();
                return Ok(Some((hello.server_name().map(str::to_owned), names)));
            }
            Ok(None) => {}
            Err((error, _)) => return Err(error),
        }
    }
    Ok(None)
}

/// The first bytes of rustls' client.
fn rustls_hello(host: &str, alpn: &[&str], versions: &[&'static SupportedProtocolVersion]) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let mut client = ClientConnection::new(Arc::new(config), host.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// A hello with the hybrid key share of X25519MLKEM768 takes more than a segment; whole, cut anywhere, and in two
/// records at any place it says the same.
#[test]
fn reads_the_hellos_of_rustls() {
    for (versions, highest, hybrid) in
        [(&[&TLS13, &TLS12][..], TlsVersion::Tls13, true), (&[&TLS12], TlsVersion::Tls12, false)]
    {
        let bytes = rustls_hello("www.example.test", &["h2", "http/1.1"], versions);
        assert_eq!(bytes.len() > 1216, hybrid, "X25519MLKEM768 has a key share of 1 216 bytes");
        let check = |bytes: &[u8], count: usize| match walk(bytes, &mut Scratch::default()) {
            Outcome::Complete(hello) => {
                assert_eq!(hello.server_name, Some("www.example.test"));
                assert_eq!(hello.alpn.names().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
                assert_eq!(hello.versions.highest(), Some(highest));
                assert_eq!((hello.records, hello.wire_bytes), (count, bytes.len()));
            }
            other => panic!("{other:?}"),
        };
        check(&bytes, 1);
        crate::fuzz::client_hello(&bytes);
        let message = &bytes[RECORD_HEADER..];
        for first in 1..message.len() {
            check(&records(message, &[first, message.len()]), 2);
        }
        let most = [vec![1; RECORDS_MAX - 1], vec![message.len()]].concat();
        check(&records(message, &most), RECORDS_MAX);
        crate::fuzz::client_hello(&records(message, &most));
    }
    // rustls sends no server name for an address.
    let bytes = rustls_hello("192.0.2.1", &[], &[&TLS13]);
    assert!(matches!(walk(&bytes, &mut Scratch::default()), Outcome::Complete(hello)
        if hello.server_name.is_none() && hello.alpn.names().next().is_none()));
}

/// OpenSSL 3.0 with TLS 1.2 only, TLS 1.3 only, and TLS 1.2 without a server name.
#[test]
fn reads_the_hellos_of_openssl() {
    const TLS12: &str = "16030100ae010000aa0303ae0a58c17d7d61008c560eed3545bbaa7dfd1b8d5bf500f0f0aee1c211ac253600\
        0004c02b00ff0100007d0000001500130000107777772e6578616d706c652e74657374000b000403000102000a000c000a001d0017\
        001e00190018002300000010000e000c02683208687474702f312e310016000000170000000d002a00280403050306030807080808\
        09080a080b080408050806040105010601030303010302040205020602";
    const TLS13: &str = "16030100c5010000c10303685ffc1008583236182b4c103eb12995580f8b6f9271f6f4ec0f0dfd7b4fa37820\
        efaa1a635149ed9132bf51c68609abd031dff815c857810954b6b6677dc6c6c30004130100ff010000740000001500130000107777\
        772e6578616d706c652e74657374000b000403000102000a00040002001d002300000016000000170000000d000400020403002b00\
        03020304002d00020101003300260024001d00207a3d5851e57f5699b6c755bca360a7eb671ecff03e4a8dbaa492b212c81c5965";
    const NAMELESS: &str = "16030100590100005503032f3922266da37e986a3f08f0b868febef4337d8c119c99a555fe5b707df72ac\
        2000004c02b00ff01000028000b000403000102000a000c000a001d0017001e001900180016000000170000000d000400020403";
    let name = Some("www.example.test");
    for (hex, name, protocols, version) in [
        (TLS12, name, &[&b"h2"[..], b"http/1.1"][..], TlsVersion::Tls12),
        (TLS13, name, &[], TlsVersion::Tls13),
        (NAMELESS, None, &[], TlsVersion::Tls12),
    ] {
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        crate::fuzz::client_hello(&bytes);
        match walk(&bytes, &mut Scratch::default()) {
            Outcome::Complete(hello) => {
                assert_eq!((hello.server_name, hello.versions.highest()), (name, Some(version)));
                assert_eq!(hello.alpn.names().collect::<Vec<_>>(), protocols);
                assert_eq!(hello.wire_bytes, bytes.len());
            }
            other => panic!("{other:?}"),
        }
        let protocols = protocols.iter().map(|name| name.to_vec()).collect();
        assert_eq!(rustls_reads(&bytes), Ok(Some((name.map(str::to_owned), protocols))));
    }
}
