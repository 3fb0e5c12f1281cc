//! The PROXY protocol, versions 1 and 2, without I/O: what a proxy in front of us, or we to an endpoint, say of the
//! client before its first byte.
//!
//! Grammar and numbers: "The PROXY protocol", Willy Tarreau, 2020/03/05, sections 2.1 and 2.2. A header is refused when
//! anything in it is not as the text has it. Of the TLVs the checksum is looked at, the others are skipped.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

mod crc32c;
mod write;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crc32c::crc32c;
pub use write::{ClientCertificate, Facts, write_v1, write_v2};

/// The longest header taken: a version 1 line has at most 107 bytes, a version 2 header of this size has room for
/// kilobytes of TLVs.
pub const HEADER_BYTES_MAX: usize = 4096;

/// Section 2.1: the longest line, with its CRLF.
const V1_BYTES_MAX: usize = 107;

/// Section 2.2.
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;

const TLV_CRC32C: u8 = 0x03;

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

impl Invalid {
    /// A word for logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoHeader => "no_header",
            Self::Malformed => "malformed_header",
            Self::TooLong => "header_too_long",
        }
    }
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
    let rest = line.strip_prefix(b"PROXY ")?;
    if rest == b"UNKNOWN" || rest.starts_with(b"UNKNOWN ") {
        return Some(None);
    }
    let mut words = std::str::from_utf8(rest).ok()?.split(' ');
    let mut word = || words.next();
    let family = word()?;
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let (source, destination) = (address(word()?)?, address(word()?)?);
    let (source_port, destination_port) = (port(word()?)?, port(word()?)?);
    word().is_none().then(|| {
        Some(Addresses {
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
        })
    })
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
        (_, 0x11) => v2_addresses::<4>(fixed, body).map(Some),
        (_, 0x21) => v2_addresses::<16>(fixed, body).map(Some),
        // Datagrams and UNIX sockets are no clients of ours.
        _ => None,
    };
    match addresses {
        Some(addresses) => Outcome::Complete { addresses, length: V2_FIXED_BYTES + length },
        None => Outcome::Invalid(Invalid::Malformed),
    }
}

/// Both addresses, both ports, then TLVs that must fill the rest.
fn v2_addresses<const N: usize>(fixed: &[u8], body: &[u8]) -> Option<Addresses>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, mut tlvs) = rest.split_first_chunk::<2>()?;
    while !tlvs.is_empty() {
        let ([kind, high, low], rest) = tlvs.split_first_chunk::<3>()?;
        let (value, behind) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        if *kind == TLV_CRC32C {
            let before = body.get(..body.len() - rest.len())?;
            // Section 2.2.4: over the whole header, its own four bytes taken for zeros.
            let sum = crc32c(&[fixed, before, &[0; 4], behind]);
            if *value != sum.to_be_bytes() {
                return None;
            }
        }
        tlvs = behind;
    }
    Some(Addresses {
        source: SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes(*destination_port)),
    })
}

#[cfg(test)]
mod tests;
