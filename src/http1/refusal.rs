//! Why a message is not usable: one kind, one status, one reason code.
//!
//! `downstream/session` answers a [`Refusal`] with its status and closes the connection, because the bytes behind a
//! message that was not understood have no meaning. `gateway/exchange` answers a [`ResponseFault`] with 502 and does
//! not use the upstream connection again. Reason codes are stable: they stand in access logs and counters.

use super::chunked::ChunkError;
use super::scan::FieldFault;

/// Declares an error enum together with the table of its statuses and reason codes.
macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$kind_doc:meta])* $kind:ident = $status:literal $reason:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $name { $($(#[$kind_doc])* $kind,)* }

        impl $name {
            /// Every kind, for counters.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Status of the local reply.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)* }
            }

            /// Stable reason code, in snake case.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$kind => $reason,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.reason())
            }
        }

        impl std::error::Error for $name {}
    };
}

kinds! {
    /// Why a request is refused; the connection is closed after the reply.
    Refusal {
        /// A backslash in the path where the policy refuses it.
        Backslash = 400 "backslash",
        /// Chunk framing that does not follow RFC 9112 section 7.1.
        BadChunk = 400 "bad_chunk",
        /// More `Connection` members than anyone has a use for.
        BadConnection = 400 "bad_connection",
        /// `Content-Length` that is not one decimal number below 2^63, or is there twice.
        BadContentLength = 400 "bad_content_length",
        /// A path that is not absolute, or has a malformed percent-escape.
        BadPath = 400 "bad_path",
        /// Request line that does not follow RFC 9112 section 3.
        BadRequestLine = 400 "bad_request_line",
        /// Request target in no allowed form, or with a byte that it cannot hold.
        BadTarget = 400 "bad_target",
        /// `Transfer-Encoding` that is malformed, or in which `chunked` is not last or there twice.
        BadTransferEncoding = 400 "bad_transfer_encoding",
        /// CR that no LF follows.
        BareCr = 400 "bare_cr",
        /// LF that no CR precedes.
        BareLf = 400 "bare_lf",
        /// Chunk extensions beyond their limits.
        ChunkExtensionTooLong = 400 "chunk_extension_too_long",
        /// Chunk size of more than 16 digits or above 2^63 - 1.
        ChunkSizeOverflow = 400 "chunk_size_overflow",
        /// `Transfer-Encoding` in an HTTP/1.0 request.
        ChunkedInHttp10 = 400 "chunked_in_http10",
        /// `CONNECT`.
        ConnectNotSupported = 501 "connect_not_supported",
        /// `%00` in the path.
        EscapedNul = 400 "escaped_nul",
        /// `%2F` in the path where the policy refuses it.
        EscapedSlash = 400 "escaped_slash",
        /// `Expect` with anything but `100-continue`.
        ExpectationFailed = 417 "expectation_failed",
        /// Head beyond its limit.
        HeadTooLarge = 431 "head_too_large",
        /// Field name that is not a token, or a line without a colon.
        InvalidHeaderName = 400 "invalid_header_name",
        /// Control character in a field value.
        InvalidHeaderValue = 400 "invalid_header_value",
        /// `Host`, or an absolute target's authority, that is not `uri-host [ ":" port ]`.
        InvalidHost = 400 "invalid_host",
        /// Both `Content-Length` and `Transfer-Encoding`.
        LengthAndChunked = 400 "length_and_chunked",
        /// `TRACE`.
        MethodNotAllowed = 405 "method_not_allowed",
        /// HTTP/1.1 without `Host`.
        MissingHost = 400 "missing_host",
        /// NUL in the head.
        Nul = 400 "nul",
        /// A line that continues the one before it, or white space before the first field.
        ObsFold = 400 "obs_fold",
        /// More than one `Host`.
        RepeatedHost = 400 "repeated_host",
        /// White space between field name and colon.
        SpaceBeforeColon = 400 "space_before_colon",
        /// Request target beyond its limit.
        TargetTooLong = 414 "target_too_long",
        /// More fields than the limit.
        TooManyHeaders = 431 "too_many_headers",
        /// Trailer section beyond its limits.
        TrailersTooLarge = 431 "trailers_too_large",
        /// A transfer coding other than `chunked`.
        UnknownTransferCoding = 501 "unknown_transfer_coding",
        /// A version other than HTTP/1.0 and HTTP/1.1.
        UnsupportedVersion = 505 "unsupported_version",
    }
}

kinds! {
    /// Why an upstream's response is not usable; the client gets 502 if nothing was sent to it yet.
    ResponseFault {
        /// Chunk framing that does not follow RFC 9112 section 7.1.
        BadChunk = 502 "upstream_bad_chunk",
        /// More `Connection` members than anyone has a use for.
        BadConnection = 502 "upstream_bad_connection",
        /// `Content-Length` that is not one decimal number below 2^63, or two that differ.
        BadContentLength = 502 "upstream_bad_content_length",
        /// Status line that does not follow RFC 9112 section 4.
        BadStatusLine = 502 "upstream_bad_status_line",
        /// `Transfer-Encoding` other than a single `chunked`.
        BadTransferEncoding = 502 "upstream_bad_transfer_encoding",
        /// CR that no LF follows.
        BareCr = 502 "upstream_bare_cr",
        /// LF that no CR precedes.
        BareLf = 502 "upstream_bare_lf",
        /// Chunk extensions beyond their limits.
        ChunkExtensionTooLong = 502 "upstream_chunk_extension_too_long",
        /// Chunk size of more than 16 digits or above 2^63 - 1.
        ChunkSizeOverflow = 502 "upstream_chunk_size_overflow",
        /// `Transfer-Encoding` in an HTTP/1.0 response.
        ChunkedInHttp10 = 502 "upstream_chunked_in_http10",
        /// Content framing in an interim (1xx) response.
        FramedInterim = 502 "upstream_framed_interim",
        /// Head beyond its limit.
        HeadTooLarge = 502 "upstream_head_too_large",
        /// Field name that is not a token, or a line without a colon.
        InvalidHeaderName = 502 "upstream_invalid_header_name",
        /// Control character in a field value or in the reason phrase.
        InvalidHeaderValue = 502 "upstream_invalid_header_value",
        /// Both `Content-Length` and `Transfer-Encoding`.
        LengthAndChunked = 502 "upstream_length_and_chunked",
        /// NUL in the head.
        Nul = 502 "upstream_nul",
        /// A line that continues the one before it.
        ObsFold = 502 "upstream_obs_fold",
        /// White space between field name and colon.
        SpaceBeforeColon = 502 "upstream_space_before_colon",
        /// More fields than the limit.
        TooManyHeaders = 502 "upstream_too_many_headers",
        /// Trailer section beyond its limits.
        TrailersTooLarge = 502 "upstream_trailers_too_large",
        /// A version other than HTTP/1.0 and HTTP/1.1.
        UnsupportedVersion = 502 "upstream_unsupported_version",
    }
}

/// Maps the faults that requests, responses and trailers share.
macro_rules! from_shared {
    ($target:ident) => {
        impl From<FieldFault> for $target {
            fn from(fault: FieldFault) -> Self {
                match fault {
                    FieldFault::BareCr => Self::BareCr,
                    FieldFault::BareLf => Self::BareLf,
                    FieldFault::InvalidName => Self::InvalidHeaderName,
                    FieldFault::InvalidValue => Self::InvalidHeaderValue,
                    FieldFault::Nul => Self::Nul,
                    FieldFault::ObsFold => Self::ObsFold,
                    FieldFault::SpaceBeforeColon => Self::SpaceBeforeColon,
                    FieldFault::TooMany => Self::TooManyHeaders,
                }
            }
        }

        impl From<ChunkError> for $target {
            fn from(error: ChunkError) -> Self {
                match error {
                    ChunkError::BadChunk => Self::BadChunk,
                    ChunkError::ExtensionTooLong => Self::ChunkExtensionTooLong,
                    ChunkError::SizeOverflow => Self::ChunkSizeOverflow,
                    ChunkError::Trailer(FieldFault::TooMany) | ChunkError::TrailersTooLarge => {
                        Self::TrailersTooLarge
                    }
                    ChunkError::Trailer(fault) => fault.into(),
                }
            }
        }
    };
}

from_shared!(Refusal);
from_shared!(ResponseFault);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Reason codes are keys of counters: no two kinds share one, and each is snake case.
    #[test]
    fn reasons_are_distinct_and_snake_case() {
        let reasons: Vec<_> = Refusal::ALL
            .iter()
            .map(|kind| kind.reason())
            .chain(ResponseFault::ALL.iter().map(|kind| kind.reason()))
            .collect();
        assert_eq!(reasons.iter().collect::<HashSet<_>>().len(), reasons.len());
        for reason in reasons {
            assert!(
                reason.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{reason}"
            );
        }
    }

    /// A refusal blames the client or names what is not supported; a response fault is a bad gateway.
    #[test]
    fn statuses_are_of_their_side() {
        for kind in Refusal::ALL {
            assert!((400..=431).contains(&kind.status()) || [501, 505].contains(&kind.status()), "{kind}");
        }
        assert!(ResponseFault::ALL.iter().all(|kind| kind.status() == 502));
    }
}
