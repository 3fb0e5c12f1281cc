//! What begins like TLS, and what the rest most likely is: at most 8 bytes decide.

use super::{NotTls, Stop};

/// Content type of the only record that a connection may begin with (RFC 8446 section 5.1).
pub(super) const HANDSHAKE: u8 = 22;

/// How other things begin.
///
/// Of HTTP the methods of RFC 9110 section 9, PATCH, PROPFIND, and the preface of HTTP/2 (RFC 9113 section 3.4): any
/// upper-case word would do for a method, and SMTP begins with one, too.
const SIGNATURES: &[(&[u8], NotTls)] = &[
    (b"GET ", NotTls::PlainHttp),
    (b"POST ", NotTls::PlainHttp),
    (b"HEAD ", NotTls::PlainHttp),
    (b"PUT ", NotTls::PlainHttp),
    (b"DELETE ", NotTls::PlainHttp),
    (b"OPTIONS ", NotTls::PlainHttp),
    (b"CONNECT ", NotTls::PlainHttp),
    (b"PATCH ", NotTls::PlainHttp),
    (b"TRACE ", NotTls::PlainHttp),
    (b"PROPFIND", NotTls::PlainHttp),
    (b"PRI * HT", NotTls::PlainHttp),
    (b"PROXY ", NotTls::ProxyProtocol),
    (b"\r\n\r\n\0\r\nQ", NotTls::ProxyProtocol),
    (&[20, 3], NotTls::OtherRecord),
    (&[21, 3], NotTls::OtherRecord),
    (&[23, 3], NotTls::OtherRecord),
];

/// Passes what may be TLS; at least its first two bytes are there then.
pub(super) fn judge(bytes: &[u8]) -> Result<(), Stop> {
    match *bytes {
        [] => Err(Stop::Need(1)),
        [HANDSHAKE] => Err(Stop::Need(2)),
        [HANDSHAKE, 3, ..] => Ok(()),
        // RFC 6101 appendix E: two bytes of length with the high bit set, then the message type, 1 for the hello.
        [0x80..=0xff, _, 1, ..] => Err(Stop::NotTls(NotTls::Ssl2)),
        [0x80..=0xff] | [0x80..=0xff, _] => Err(Stop::Need(3)),
        _ => Err(signature(bytes)),
    }
}

fn signature(bytes: &[u8]) -> Stop {
    for (signature, what) in SIGNATURES {
        if bytes.starts_with(signature) {
            return Stop::NotTls(*what);
        }
        if signature.starts_with(bytes) {
            return Stop::Need(bytes.len() + 1);
        }
    }
    Stop::NotTls(NotTls::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few bytes must decide, and no signature may hide another.
    #[test]
    fn signatures_are_short_and_distinct() {
        for (at, (signature, _)) in SIGNATURES.iter().enumerate() {
            assert!(signature.len() <= 8 && signature.first().is_some_and(|first| *first < 0x80));
            let hides = SIGNATURES
                .iter()
                .skip(at + 1)
                .any(|(other, _)| other.starts_with(signature) || signature.starts_with(other));
            assert!(!hides, "{}", signature.escape_ascii());
        }
    }
}
