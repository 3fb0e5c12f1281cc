//! Request ids: which one a request keeps.
//!
//! The rules for the other forwarding fields are applied in `rewrite` as it writes.

use crate::message::{HeaderId, RequestHead};

/// Longest request id taken from a trusted client.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// Whether `id` may be passed on and logged as it is: 1 to 128 visible ASCII characters.
#[must_use]
pub fn is_request_id(id: &[u8]) -> bool {
    !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.iter().all(u8::is_ascii_graphic)
}

/// The request id that the client sent, if it is there once and well-formed; only to be used from a trusted client.
#[must_use]
pub fn client_request_id<'a>(head: &RequestHead, buf: &'a [u8]) -> Option<&'a [u8]> {
    let mut ids = head.headers.iter().filter(|header| header.id == HeaderId::XRequestId);
    let id = ids.next()?.value.of(buf);
    (ids.next().is_none() && is_request_id(id)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Visible ASCII within the limit, nothing else.
    #[test]
    fn takes_printable_ids_within_the_limit() {
        assert!(is_request_id(b"0f8fad5b-d9cb-469f-a165-70867728950e"));
        assert!(is_request_id(&[b'a'; REQUEST_ID_BYTES_MAX]));
        assert!(!is_request_id(&[b'a'; REQUEST_ID_BYTES_MAX + 1]));
        for bad in [&b""[..], b"a b", b"a\tb", b"a\x7f", b"a\xe9"] {
            assert!(!is_request_id(bad), "{bad:?}");
        }
    }
}
