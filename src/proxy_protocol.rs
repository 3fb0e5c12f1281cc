//! The PROXY protocol, versions 1 and 2, without I/O: what a proxy in front of us, or we to an endpoint, say of the
//! client before its first byte.
//!
//! Grammar and numbers: "The PROXY protocol", Willy Tarreau, 2020/03/05, sections 2.1 and 2.2. A header is refused when
//! anything in it is not as the text has it; only TLVs of unknown types are skipped.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header taken: a version 1 line has at most 107 bytes, a version 2 header of this size has room for
/// kilobytes of TLVs.
pub const HEADER_BYTES_MAX: usize = 4096;

/// Section 2.1: the longest line, with its CRLF.
const V1_BYTES_MAX: usize = 107;

/// Section 2.2.
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;

const TLV_ALPN: u8 = 0x01;
const TLV_AUTHORITY: u8 = 0x02;
const TLV_SSL: u8 = 0x20;
const SUBTYPE_SSL_VERSION: u8 = 0x21;
const CLIENT_SSL: u8 = 0x01;

/// The addresses of the connection that a proxy took.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Addresses {
    /// The client's.
    pub source: SocketAddr,
    /// The one it connected to.
    pub destination: SocketAddr,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A whole header.
    Complete {
        /// `None` for a connection of the proxy's own (`LOCAL`, a health check) or one it says nothing of (`UNKNOWN`).
        addresses: Option<Addresses>,
        /// Bytes of the header.
        length: usize,
    },
    /// All bytes so far belong to a header.
    Incomplete,
    /// No header, or not a valid one.
    Invalid(Invalid),
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Invalid {
    /// They begin with something else.
    NoHeader,
    /// The header is malformed.
    Malformed,
    /// The header is longer than [`HEADER_BYTES_MAX`].
    TooLong,
}

/// Reads a header at the start of `bytes`.
#[must_use]
pub fn parse(bytes: &[u8]) -> Outcome {
    let begins = |text: &[u8]| {
        let length = text.len().min(bytes.len());
        bytes.get(..length) == text.get(..length)
    };
    if begins(&V2_SIGNATURE) {
        parse_v2(bytes)
    } else if begins(b"PROXY ") {
        parse_v1(bytes)
    } else {
        Outcome::Invalid(Invalid::NoHeader)
    }
}

fn parse_v1(bytes: &[u8]) -> Outcome {
    let window = bytes.get(..bytes.len().min(V1_BYTES_MAX)).unwrap_or_default();
    let Some(end) = memchr::memmem::find(window, b"\r\n") else {
        return if bytes.len() < V1_BYTES_MAX {
            Outcome::Incomplete
        } else {
            Outcome::Invalid(Invalid::TooLong)
        };
    };
    let line = window.get(..end).unwrap_or_default();
    match v1_addresses(line) {
        Some(addresses) => Outcome::Complete { addresses, length: end + 2 },
        None => Outcome::Invalid(Invalid::Malformed),
    }
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`, or `PROXY UNKNOWN` and anything behind it.
fn v1_addresses(line: &[u8]) -> Option<Option<Addresses>> {
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("PROXY ")?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let words: Vec<&str> = rest.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = words[..] else { return None };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    Some(Some(Addresses {
        source: SocketAddr::new(address(source)?, port(source_port)?),
        destination: SocketAddr::new(address(destination)?, port(destination_port)?),
    }))
}

/// Digits only, without a leading zero.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

fn parse_v2(bytes: &[u8]) -> Outcome {
    let Some((fixed, rest)) = bytes.split_at_checked(V2_FIXED_BYTES) else { return Outcome::Incomplete };
    let &[.., command, family, high, low] = fixed else { return Outcome::Incomplete };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if V2_FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Outcome::Invalid(Invalid::TooLong);
    }
    if !matches!(command, 0x20 | 0x21) {
        return Outcome::Invalid(Invalid::Malformed);
    }
    let Some(body) = rest.get(..length) else { return Outcome::Incomplete };
    let addresses = match (command, family) {
        // LOCAL: the proxy's own connection; what the body says is to be skipped.
        (0x20, _) => Some(None),
        (_, 0x00) => Some(None),
        (_, 0x11) => v2_addresses::<4>(body).map(Some),
        (_, 0x21) => v2_addresses::<16>(body).map(Some),
        // Datagrams and UNIX sockets are no clients of ours.
        _ => None,
    };
    match addresses {
        Some(addresses) => Outcome::Complete { addresses, length: V2_FIXED_BYTES + length },
        None => Outcome::Invalid(Invalid::Malformed),
    }
}

/// Both addresses, both ports, then TLVs that must fill the rest.
fn v2_addresses<const N: usize>(body: &[u8]) -> Option<Addresses>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, mut tlvs) = rest.split_first_chunk::<2>()?;
    while !tlvs.is_empty() {
        let ([_, high, low], rest) = tlvs.split_first_chunk::<3>()?;
        tlvs = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..)?;
    }
    Some(Addresses {
        source: SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes(*destination_port)),
    })
}

/// What a version 2 header says of the client beside its addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'f> {
    /// The name it asked for in its ClientHello.
    pub sni: Option<&'f str>,
    /// The protocol chosen, or the first it offered where TLS passes through.
    pub alpn: Option<&'f [u8]>,
    /// TLS version where TLS ended here, such as `TLSv1.3`.
    pub tls_version: Option<&'f str>,
}

/// Appends a version 1 header. Addresses of different families are written as `UNKNOWN`.
pub fn write_v1(out: &mut Vec<u8>, addresses: &Addresses) {
    let Addresses { source, destination } = addresses;
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
        _ => return out.extend_from_slice(b"PROXY UNKNOWN\r\n"),
    };
    let line = format!(
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    );
    out.extend_from_slice(line.as_bytes());
}

/// Appends a version 2 header. Where one address is IPv6, the other is written as one, too.
pub fn write_v2(out: &mut Vec<u8>, addresses: &Addresses, facts: &Facts<'_>) {
    let Addresses { source, destination } = addresses;
    out.extend_from_slice(&V2_SIGNATURE);
    let mut body = Vec::with_capacity(64);
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            body.extend_from_slice(&source.octets());
            body.extend_from_slice(&destination.octets());
            0x11
        }
        (source, destination) => {
            for address in [source, destination] {
                let address = match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped(),
                    IpAddr::V6(address) => address,
                };
                body.extend_from_slice(&address.octets());
            }
            0x21
        }
    };
    body.extend_from_slice(&source.port().to_be_bytes());
    body.extend_from_slice(&destination.port().to_be_bytes());
    if let Some(alpn) = facts.alpn {
        tlv(&mut body, TLV_ALPN, alpn);
    }
    if let Some(sni) = facts.sni {
        tlv(&mut body, TLV_AUTHORITY, sni.as_bytes());
    }
    if let Some(version) = facts.tls_version {
        // Client flags, then "verify" (0: a certificate was good or none was needed), then sub-TLVs.
        let mut ssl = vec![CLIENT_SSL, 0, 0, 0, 0];
        tlv(&mut ssl, SUBTYPE_SSL_VERSION, version.as_bytes());
        tlv(&mut body, TLV_SSL, &ssl);
    }
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&[0x21, family]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&body);
}

/// A value has at most 64 KiB; those written here come from a ClientHello's fields, which are shorter.
fn tlv(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let value = value.get(..value.len().min(16 * 1024)).unwrap_or_default();
    out.push(kind);
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "literals")]

    use proptest::prelude::*;

    use super::*;

    fn addresses(source: &str, destination: &str) -> Addresses {
        Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn pairs() -> [Addresses; 3] {
        [
            addresses("192.0.2.1:56324", "198.51.100.2:443"),
            addresses("[2001:db8::1]:1", "[2001:db8::2]:65535"),
            addresses("[::ffff:192.0.2.1]:9", "[::1]:0"),
        ]
    }

    #[test]
    fn reads_what_it_writes_at_every_cut() {
        let facts = Facts { sni: Some("a.test"), alpn: Some(b"h2"), tls_version: Some("TLSv1.3") };
        for pair in pairs() {
            for version in 0..3 {
                let mut bytes = Vec::new();
                match version {
                    0 => write_v1(&mut bytes, &pair),
                    1 => write_v2(&mut bytes, &pair, &Facts::default()),
                    _ => write_v2(&mut bytes, &pair, &facts),
                }
                let whole = Outcome::Complete { addresses: Some(pair), length: bytes.len() };
                for cut in 1..bytes.len() {
                    assert_eq!(parse(&bytes[..cut]), Outcome::Incomplete, "{cut} of {bytes:?}");
                }
                assert_eq!(parse(&bytes), whole);
                bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
                assert_eq!(parse(&bytes), whole);
            }
        }
        assert_eq!(parse(b""), Outcome::Incomplete);
    }

    #[test]
    fn mixed_families() {
        let mixed = addresses("192.0.2.1:1", "[2001:db8::2]:2");
        let mut bytes = Vec::new();
        write_v1(&mut bytes, &mixed);
        assert_eq!(bytes, b"PROXY UNKNOWN\r\n");
        bytes.clear();
        write_v2(&mut bytes, &mixed, &Facts::default());
        let read = addresses("[::ffff:192.0.2.1]:1", "[2001:db8::2]:2");
        assert_eq!(parse(&bytes), Outcome::Complete { addresses: Some(read), length: bytes.len() });
    }

    #[test]
    fn connections_of_the_proxy_itself() {
        for text in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:f::1 :: 1 2\r\n"] {
            assert_eq!(parse(text.as_bytes()), Outcome::Complete { addresses: None, length: text.len() });
        }
        let mut local = V2_SIGNATURE.to_vec();
        local.extend_from_slice(&[0x20, 0x00, 0, 3, 9, 9, 9]);
        assert_eq!(parse(&local), Outcome::Complete { addresses: None, length: 19 });
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UNKNOWNX\r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(parse(text.as_bytes()), Outcome::Invalid(Invalid::Malformed), "{text}");
        }
        assert_eq!(
            parse(format!("PROXY UNKNOWN {}", "x".repeat(100)).as_bytes()),
            Outcome::Invalid(Invalid::TooLong)
        );
        for text in ["GET / HTTP/1.1\r\n", "proxy TCP4", "\r\n\r\nGET", "\x16\x03\x01"] {
            assert_eq!(parse(text.as_bytes()), Outcome::Invalid(Invalid::NoHeader), "{text:?}");
        }
        let v2 = |tail: &[u8]| parse(&[&V2_SIGNATURE[..], tail].concat());
        // Version, command, family, a body that is too short, TLVs that do not fill it, a length beyond the bound.
        assert_eq!(v2(&[0x11, 0x11, 0, 0]), Outcome::Invalid(Invalid::Malformed));
        assert_eq!(v2(&[0x22, 0x11, 0, 0]), Outcome::Invalid(Invalid::Malformed));
        assert_eq!(v2(&[0x21, 0x12, 0, 0]), Outcome::Invalid(Invalid::Malformed));
        assert_eq!(v2(&[0x21, 0x11, 0, 0]), Outcome::Invalid(Invalid::Malformed));
        assert_eq!(v2(&[&[0x21, 0x11, 0, 14][..], &[0; 14]].concat()), Outcome::Invalid(Invalid::Malformed));
        assert_eq!(
            v2(&[&[0x21, 0x11, 0, 15][..], &[0; 14], &[9]].concat()).clone(),
            Outcome::Invalid(Invalid::Malformed)
        );
        assert_eq!(v2(&[0x21, 0x11, 0xff, 0xff]), Outcome::Invalid(Invalid::TooLong));
    }

    proptest! {
        /// Never a header that is longer than the bytes, and a decision once made is kept with more bytes.
        #[test]
        fn decisions_are_final(start in 0..3_usize, noise in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..220_usize) {
            let mut bytes = [&V2_SIGNATURE[..], b"PROXY TCP4 ", b""][start].to_vec();
            bytes.extend_from_slice(&noise);
            let cut = cut.min(bytes.len());
            let (early, late) = (parse(&bytes[..cut]), parse(&bytes));
            if let Outcome::Complete { length, .. } = early {
                prop_assert!(length <= cut);
            }
            if early != Outcome::Incomplete {
                prop_assert_eq!(early, late);
            }
        }
    }
}
