//! The authority of a request: `uri-host [ ":" port ]` (RFC 9110 section 7.2, RFC 3986 section 3.2.2).
//!
//! `request` refuses what [`is_valid`] does not take; routing splits what was taken with [`split`]. Userinfo, empty
//! hosts, IPvFuture and zone identifiers are not taken.

use std::net::Ipv6Addr;

/// Whether `authority` is a host that is not empty, with an optional port.
#[inline]
#[must_use]
pub fn is_valid(authority: &[u8]) -> bool {
    if authority.first() == Some(&b'[') {
        return is_valid_literal(authority);
    }
    let mut rest = authority;
    loop {
        rest = match rest {
            [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
            [byte, tail @ ..] if is_reg_name_byte(*byte) => tail,
            [b':', port @ ..] => return rest.len() < authority.len() && is_valid_port(port),
            [] => return !authority.is_empty(),
            _ => return false,
        };
    }
}

/// Splits a valid authority into host (IPv6 in its brackets) and port; an empty port is none.
#[must_use]
pub fn split(authority: &[u8]) -> (&[u8], Option<u16>) {
    let after_literal = memchr::memchr(b']', authority).map_or(0, |end| end + 1);
    let colon = authority.get(after_literal..).and_then(|tail| memchr::memchr(b':', tail));
    match colon.and_then(|colon| authority.split_at_checked(after_literal + colon)) {
        Some((host, port)) => (host, port_number(port.get(1..).unwrap_or_default())),
        None => (authority, None),
    }
}

/// `unreserved / sub-delims`.
#[inline(always)]
const fn is_reg_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~')
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

/// `"[" IPv6address "]" [ ":" port ]`.
fn is_valid_literal(authority: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b']', authority) else { return false };
    let (Some(address), Some(tail)) = (authority.get(1..end), authority.get(end + 1..)) else { return false };
    let address = std::str::from_utf8(address).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
    address.is_some()
        && match tail {
            [] => true,
            [b':', port @ ..] => is_valid_port(port),
            _ => false,
        }
}

/// `*DIGIT`, up to 65535; RFC 3986 allows an empty port.
fn is_valid_port(port: &[u8]) -> bool {
    port.is_empty() || port_number(port).is_some()
}

fn port_number(port: &[u8]) -> Option<u16> {
    // Five digits hold every port; more would only be leading zeros.
    if port.is_empty() || port.len() > 5 {
        return None;
    }
    let mut number = 0u32;
    for digit in port {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u32::from(digit - b'0');
    }
    u16::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row: a valid authority, its host, its port, and a malformed neighbour.
    #[test]
    fn takes_hosts_and_refuses_their_neighbours() {
        for (good, host, port, bad) in [
            ("example.com", "example.com", None, "exam ple.com"),
            ("example.com", "example.com", None, "example.com/"),
            ("example.com", "example.com", None, "user@example.com"),
            ("example.com:", "example.com", None, ":"),
            ("example.com:80", "example.com", Some(80), ":80"),
            ("example.com:65535", "example.com", Some(65535), "example.com:65536"),
            ("example.com:080", "example.com", Some(80), "example.com:000080"),
            ("example.com:8080", "example.com", Some(8080), "example.com:80:80"),
            ("example.com:8080", "example.com", Some(8080), "example.com:+80"),
            ("example.com:8080", "example.com", Some(8080), "example.com:8o"),
            ("a_b-c.~", "a_b-c.~", None, "a\"b"),
            ("a%2Fb", "a%2Fb", None, "a%2"),
            ("a%2Fb", "a%2Fb", None, "a%zz"),
            ("127.0.0.1:1", "127.0.0.1", Some(1), "a,b c"),
            ("[::1]", "[::1]", None, "[::1"),
            ("[::1]:443", "[::1]", Some(443), "[::1]443"),
            ("[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]", None, "[::g]"),
            ("[fe80::1]", "[fe80::1]", None, "[fe80::1%25eth0]"),
            ("[fe80::1]", "[fe80::1]", None, "::1"),
            ("h", "h", None, ""),
            ("h", "h", None, "h\u{e9}"),
            ("h", "h", None, "[v1.a]"),
            ("h", "h", None, "[]"),
        ] {
            assert!(is_valid(good.as_bytes()), "{good}");
            assert_eq!(split(good.as_bytes()), (host.as_bytes(), port), "{good}");
            assert!(!is_valid(bad.as_bytes()), "{bad}");
        }
    }
}
