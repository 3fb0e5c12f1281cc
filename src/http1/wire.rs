//! Numbers and addresses as text, appended to a send buffer without formatting machinery.

use std::io::Write as _;
use std::net::IpAddr;

/// Appends `number` in decimal.
#[inline]
pub fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    // u64::MAX has 20 digits.
    let mut digits = [0; 20];
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// Appends `number` in lower-case hexadecimal, without leading zeros.
#[inline]
pub fn push_hex(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 16];
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        let nibble = (number & 15) as u8;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
        number >>= 4;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// Appends an address; one of IPv4 that came in over a dual-stack socket is written as IPv4.
pub fn push_ip(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                push_decimal(out, u64::from(octet));
            }
        }
        // Writing to a vector cannot fail.
        IpAddr::V6(address) => {
            let _ = write!(out, "{address}");
        }
    }
}

/// Value of a decimal number of digits only; `None` when empty, too long, or beyond 2^63 - 1.
///
/// The bound leaves room for the signed arithmetic of whoever is behind us.
#[inline]
#[must_use]
pub fn parse_decimal(text: &[u8]) -> Option<u64> {
    // 19 digits cannot overflow a u64; more are a number beyond the bound or padding that nobody sends.
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    let mut number = 0u64;
    for digit in text {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    (number <= i64::MAX as u64).then_some(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    /// The digits agree with the standard library's at the edges of every length.
    #[test]
    fn writes_numbers_as_the_standard_library_does() {
        let edges =
            (0..64).flat_map(|bit| [1u64 << bit, (1u64 << bit) - 1]).chain([0, u64::MAX, 9, 10, 99, 100]);
        for number in edges {
            let (mut decimal, mut hex) = (Vec::new(), Vec::new());
            push_decimal(&mut decimal, number);
            push_hex(&mut hex, number);
            assert_eq!(String::from_utf8_lossy(&decimal), number.to_string());
            assert_eq!(String::from_utf8_lossy(&hex), format!("{number:x}"));
            let expected = (number <= i64::MAX as u64).then_some(number);
            assert_eq!(parse_decimal(&decimal), expected);
        }
    }

    /// Only plain digits are a number.
    #[test]
    fn refuses_what_is_not_digits() {
        for text in
            ["", "+5", "-5", " 5", "5 ", "0x5", "5,5", "5.", "9223372036854775808", "00000000000000000001"]
        {
            assert_eq!(parse_decimal(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_decimal(b"9223372036854775807"), Some(i64::MAX as u64));
        assert_eq!(parse_decimal(b"007"), Some(7));
    }

    /// Addresses are written as the standard library does, a mapped one as IPv4.
    #[test]
    fn writes_addresses() {
        for (address, text) in [
            ("192.0.2.1", "192.0.2.1"),
            ("0.0.0.0", "0.0.0.0"),
            ("255.255.255.255", "255.255.255.255"),
            ("::ffff:10.0.0.7", "10.0.0.7"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            let mut out = Vec::new();
            push_ip(&mut out, address.parse().unwrap());
            assert_eq!(String::from_utf8_lossy(&out), text);
        }
    }
}
