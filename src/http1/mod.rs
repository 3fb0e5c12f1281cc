//! HTTP/1.0 and HTTP/1.1 on the wire, without I/O: parsing, framing, rewriting and local replies.
//!
//! `downstream/session` calls [`request::parse_request`] on the bytes that arrived, `gateway/exchange` calls
//! [`rewrite::write_request`] and [`response::parse_response`], and both relay content with [`chunked`]. Every
//! function takes slices and returns a decision; what it remembers between arrivals is in [`scan::Scan`] or
//! [`chunked::Decoder`]. The result never depends on how the bytes were split on their way.
//!
//! ```text
//! request-line = method SP request-target SP "HTTP/1." ("0" / "1") CRLF   RFC 9112 section 3
//! status-line  = "HTTP/1." ("0" / "1") SP 3DIGIT [ SP reason ] CRLF       RFC 9112 section 4
//! field-line   = token ":" OWS field-value OWS CRLF                       RFC 9112 section 5
//! head         = (request-line / status-line) *field-line CRLF
//! ```
//!
//! Refused wherever RFC 9112 leaves a choice that two implementations could make differently: bare CR or LF, NUL,
//! obs-fold, white space before a colon, both `Content-Length` and `Transfer-Encoding`, any repeated or listed
//! request length, any coding but a single `chunked`, and any transfer coding in HTTP/1.0 (sections 2.2, 5.1, 5.2, 6.1, 6.3, 11.2).

#![deny(clippy::indexing_slicing)]

pub mod authority;
pub mod chunked;
#[cfg(test)]
mod differential;
pub mod forwarding;
mod framing;
pub mod names;
#[cfg(test)]
mod properties;
pub mod refusal;
pub mod reply;
pub mod request;
pub mod response;
pub mod rewrite;
pub mod scan;
pub mod target;
pub mod wire;

pub use chunked::{ChunkError, ChunkEvent, ChunkLimits, Decoder};
pub use refusal::{Refusal, ResponseFault};
pub use reply::DateCache;
pub use request::parse_request;
pub use response::parse_response;
pub use rewrite::{RequestFacts, ResponseFacts, write_request, write_response};
pub use scan::{HeadLimits, Progress, Scan};
