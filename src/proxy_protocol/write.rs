//! Headers as they are sent to endpoints.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{Addresses, V2_SIGNATURE};

/// Section 2.2, types of TLVs.
const TLV_ALPN: u8 = 0x01;
const TLV_AUTHORITY: u8 = 0x02;
const TLV_SSL: u8 = 0x20;
const SUBTYPE_SSL_VERSION: u8 = 0x21;
const SUBTYPE_SSL_CN: u8 = 0x22;

/// Bits of the SSL TLV's first byte: over TLS, a certificate was shown on this connection, or in its session.
const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERT_CONN: u8 = 0x02;
const CLIENT_CERT_SESS: u8 = 0x04;

/// A longer value is left out: cut short, it would be another one. A host has 253 bytes, a protocol 255, a common name
/// 64 (RFC 5280 appendix A.1), in four-byte characters at most.
const VALUE_BYTES_MAX: usize = 256;

/// What a version 2 header says of the client beside its addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'f> {
    /// The name it asked for in its ClientHello.
    pub sni: Option<&'f str>,
    /// The protocol chosen, where TLS ended here.
    pub alpn: Option<&'f [u8]>,
    /// TLS version where TLS ended here, such as `TLSv1.3`.
    pub tls_version: Option<&'f str>,
    /// The client's certificate, which was found good, where it showed one.
    pub certificate: Option<ClientCertificate<'f>>,
}

/// A client's certificate.
#[derive(Clone, Copy, Debug)]
pub struct ClientCertificate<'f> {
    /// Common name of the subject.
    pub common_name: Option<&'f str>,
    /// It was shown when the session began that this connection resumes.
    pub of_resumed_session: bool,
}

/// Both as IPv6 where one is, IPv4 mapped into it.
fn of_one_family(addresses: &Addresses) -> (SocketAddr, SocketAddr) {
    let Addresses { source, destination } = *addresses;
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let mapped = |address: SocketAddr| SocketAddr::new(as_ipv6(address.ip()).into(), address.port());
    (mapped(source), mapped(destination))
}

const fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Appends a version 1 header. Where one address is IPv6, the other is written as one, too.
pub fn write_v1(out: &mut Vec<u8>, addresses: &Addresses) {
    let (source, destination) = of_one_family(addresses);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    // Writing into a vector cannot fail.
    let _ = write!(
        out,
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    );
}

/// Appends a version 2 header. Where one address is IPv6, the other is written as one, too.
pub fn write_v2(out: &mut Vec<u8>, addresses: &Addresses, facts: &Facts<'_>) {
    let (source, destination) = of_one_family(addresses);
    out.extend_from_slice(&V2_SIGNATURE);
    out.extend_from_slice(&[0x21, if source.is_ipv4() { 0x11 } else { 0x21 }]);
    with_length(out, |body| {
        for address in [source, destination] {
            match address.ip() {
                IpAddr::V4(address) => body.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => body.extend_from_slice(&address.octets()),
            }
        }
        body.extend_from_slice(&source.port().to_be_bytes());
        body.extend_from_slice(&destination.port().to_be_bytes());
        if let Some(alpn) = facts.alpn {
            tlv(body, TLV_ALPN, alpn);
        }
        if let Some(sni) = facts.sni {
            tlv(body, TLV_AUTHORITY, sni.as_bytes());
        }
        if let Some(version) = facts.tls_version {
            body.push(TLV_SSL);
            with_length(body, |body| ssl(body, version, facts.certificate.as_ref()));
        }
    });
}

/// Section 2.2.5: client flags, then 0 where a certificate was shown and good, then TLVs of its own.
fn ssl(out: &mut Vec<u8>, version: &str, certificate: Option<&ClientCertificate<'_>>) {
    let flags = match certificate {
        None => CLIENT_SSL,
        Some(shown) if shown.of_resumed_session => CLIENT_SSL | CLIENT_CERT_SESS,
        Some(_) => CLIENT_SSL | CLIENT_CERT_CONN | CLIENT_CERT_SESS,
    };
    out.extend_from_slice(&[flags, 0, 0, 0, u8::from(certificate.is_none())]);
    tlv(out, SUBTYPE_SSL_VERSION, version.as_bytes());
    if let Some(name) = certificate.and_then(|certificate| certificate.common_name) {
        tlv(out, SUBTYPE_SSL_CN, name.as_bytes());
    }
}

fn tlv(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    if value.len() <= VALUE_BYTES_MAX {
        out.push(kind);
        with_length(out, |out| out.extend_from_slice(value));
    }
}

/// Appends the length of what `write` appends in two bytes, then that.
fn with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 2]);
    write(out);
    let length = u16::try_from(out.len() - at - 2).unwrap_or(u16::MAX);
    if let Some(place) = out.get_mut(at..at + 2) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}
