//! Header names: which ringgate knows, which a client must not have dropped, which cannot be trailers.
//!
//! Called for each field of each head ([`classify`]), and by `rewrite` and `chunked` for what they pass on.

use crate::message::HeaderId;

/// What a field name, in any case, means to ringgate.
#[inline]
#[must_use]
pub fn classify(name: &[u8]) -> HeaderId {
    // Length and first letter leave one candidate, rarely two, so that nearly every name costs at most one comparison.
    let Some(&first) = name.first() else { return HeaderId::Other };
    let candidates: &[(&[u8], HeaderId)] = match (name.len(), first | 0x20) {
        (2, b't') => &[(b"te", HeaderId::Te)],
        (3, b'v') => &[(b"via", HeaderId::Via)],
        (4, b'd') => &[(b"date", HeaderId::Date)],
        (4, b'h') => &[(b"host", HeaderId::Host)],
        (6, b'e') => &[(b"expect", HeaderId::Expect)],
        (7, b't') => &[(b"trailer", HeaderId::Trailer)],
        (7, b'u') => &[(b"upgrade", HeaderId::Upgrade)],
        (9, b'f') => &[(b"forwarded", HeaderId::Forwarded)],
        (9, b'x') => &[(b"x-real-ip", HeaderId::XRealIp)],
        (10, b'c') => &[(b"connection", HeaderId::Connection)],
        (10, b'k') => &[(b"keep-alive", HeaderId::KeepAlive)],
        (12, b'x') => &[(b"x-request-id", HeaderId::XRequestId)],
        (14, b'c') => &[(b"content-length", HeaderId::ContentLength)],
        (15, b'x') => &[(b"x-forwarded-for", HeaderId::XForwardedFor)],
        (16, b'p') => &[(b"proxy-connection", HeaderId::ProxyConnection)],
        (16, b'x') => &[
            (b"x-forwarded-host", HeaderId::XForwardedHost),
            (b"x-forwarded-port", HeaderId::XForwardedPort),
        ],
        (17, b't') => &[(b"transfer-encoding", HeaderId::TransferEncoding)],
        (17, b'x') => &[(b"x-forwarded-proto", HeaderId::XForwardedProto)],
        (18, b'p') => &[(b"proxy-authenticate", HeaderId::ProxyAuthenticate)],
        (19, b'p') => &[(b"proxy-authorization", HeaderId::ProxyAuthorization)],
        (23, b'x') => &[(b"x-forwarded-client-cert", HeaderId::XForwardedClientCert)],
        _ => &[],
    };
    for (text, id) in candidates {
        if name.eq_ignore_ascii_case(text) {
            return *id;
        }
    }
    HeaderId::Other
}

/// Whether `name` is a name known to [`classify`] with `_` for `-`.
///
/// Backends of the CGI family see `X_Forwarded_For` and `X-Forwarded-For` as one variable, so such a field would
/// carry a client's word past the rules for the real one. Other names with `_` are passed on unchanged.
#[must_use]
pub fn is_disguised(name: &[u8]) -> bool {
    // The longest known name has 23 bytes.
    if !(9..=23).contains(&name.len()) || memchr::memchr(b'_', name).is_none() {
        return false;
    }
    let mut plain = [0; 23];
    for (to, from) in plain.iter_mut().zip(name) {
        *to = if *from == b'_' { b'-' } else { *from };
    }
    plain.get(..name.len()).is_some_and(|plain| classify(plain) != HeaderId::Other)
}

/// Names that a `Connection` field cannot remove from a request, beside those that [`classify`] knows: a client would
/// use it to make an upstream see a request without credentials, cookies or the description of its content.
const PROTECTED: [&[u8]; 5] = [b"authorization", b"cookie", b"origin", b"referer", b"range"];

/// Whether a `Connection` field may not remove the field `name`, which [`classify`] does not know.
#[must_use]
pub fn is_protected(name: &[u8]) -> bool {
    name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"))
        || name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"))
        || PROTECTED.iter().any(|text| name.eq_ignore_ascii_case(text))
}

/// Names beside those of [`classify`] that must not be merged from a trailer section into a message: what decides
/// about routing, authentication, control or the processing of content (RFC 9110 section 6.5.1).
const NOT_IN_TRAILERS: [&[u8]; 30] = [
    b"age",
    b"authentication-info",
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expires",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"location",
    b"max-forwards",
    b"origin",
    b"pragma",
    b"proxy-authentication-info",
    b"range",
    b"referer",
    b"retry-after",
    b"set-cookie",
    b"strict-transport-security",
    b"vary",
    b"warning",
    b"www-authenticate",
    b"access-control-allow-origin",
    b"access-control-allow-credentials",
    b"http2-settings",
];

/// Whether a trailer field of this name is dropped instead of forwarded: all that [`classify`] knows, in any
/// disguise, and what decides about routing, authentication, control or content.
#[must_use]
pub fn is_forbidden_trailer(name: &[u8]) -> bool {
    classify(name) != HeaderId::Other
        || is_disguised(name)
        || name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"))
        || NOT_IN_TRAILERS.iter().any(|text| name.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every known name is found in any case, and with one letter changed it is not.
    #[test]
    fn classifies_in_any_case() {
        for (name, id) in [
            ("Connection", HeaderId::Connection),
            ("Content-Length", HeaderId::ContentLength),
            ("Date", HeaderId::Date),
            ("Expect", HeaderId::Expect),
            ("Forwarded", HeaderId::Forwarded),
            ("Host", HeaderId::Host),
            ("Keep-Alive", HeaderId::KeepAlive),
            ("Proxy-Authenticate", HeaderId::ProxyAuthenticate),
            ("Proxy-Authorization", HeaderId::ProxyAuthorization),
            ("Proxy-Connection", HeaderId::ProxyConnection),
            ("TE", HeaderId::Te),
            ("Trailer", HeaderId::Trailer),
            ("Transfer-Encoding", HeaderId::TransferEncoding),
            ("Upgrade", HeaderId::Upgrade),
            ("Via", HeaderId::Via),
            ("X-Forwarded-For", HeaderId::XForwardedFor),
            ("X-Forwarded-Host", HeaderId::XForwardedHost),
            ("X-Forwarded-Client-Cert", HeaderId::XForwardedClientCert),
            ("X-Forwarded-Port", HeaderId::XForwardedPort),
            ("X-Forwarded-Proto", HeaderId::XForwardedProto),
            ("X-Real-IP", HeaderId::XRealIp),
            ("X-Request-Id", HeaderId::XRequestId),
        ] {
            assert_eq!(classify(name.as_bytes()), id);
            assert_eq!(classify(name.to_ascii_uppercase().as_bytes()), id);
            assert_eq!(classify(name.to_ascii_lowercase().as_bytes()), id);
            assert_eq!(classify(format!("{name}s").as_bytes()), HeaderId::Other);
            let last_changed = format!("{}_", name.get(..name.len() - 1).unwrap_or_default());
            assert_eq!(classify(last_changed.as_bytes()), HeaderId::Other);
            assert!(is_forbidden_trailer(name.as_bytes()), "{name}");
            let disguise = name.replace('-', "_");
            assert_eq!(is_disguised(disguise.as_bytes()), disguise != name, "{disguise}");
        }
        assert_eq!(classify(b""), HeaderId::Other);
    }

    /// Only the dash is disguised; ordinary names with an underscore are left alone.
    #[test]
    fn leaves_ordinary_underscores_alone() {
        for name in
            ["user_id_of_client", "x_custom_header_", "X-Forwarded-For", "_", "x_forwarded_for_longer"]
        {
            assert!(!is_disguised(name.as_bytes()), "{name}");
        }
        assert!(is_disguised(b"x-forwarded_for"));
    }

    /// Digest-like trailers pass; credentials and content description do not.
    #[test]
    fn forbids_trailers_that_decide_something() {
        for name in ["X-Checksum", "Server-Timing", "grpc-status", "ETag", "Digest"] {
            assert!(!is_forbidden_trailer(name.as_bytes()), "{name}");
        }
        for name in ["Set-Cookie", "AUTHORIZATION", "content-type", "Content_Length", "X-Forwarded-Prefix"] {
            assert!(is_forbidden_trailer(name.as_bytes()), "{name}");
        }
    }

    /// What a client cannot nominate away.
    #[test]
    fn protects_credentials_and_content_description() {
        for name in ["Authorization", "cookie", "Content-Type", "X-Forwarded-Prefix"] {
            assert!(is_protected(name.as_bytes()), "{name}");
        }
        for name in ["X-Mine", "Accept", "HTTP2-Settings", "content"] {
            assert!(!is_protected(name.as_bytes()), "{name}");
        }
    }
}
