//! The protocol-neutral form of a request and a response: a flat byte buffer plus spans into it.
//!
//! `http1` fills these from the bytes it parsed in place; another protocol fills them from a buffer it decoded
//! its header block into. Everything behind (`table`, `gateway`, `http1::rewrite`) reads only these types.

/// A half-open byte range in the buffer that a head lies in. `u32` keeps a head small; buffers stay far below 4 GiB.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// A span over `start..end`.
    #[must_use]
    pub const fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= u32::MAX as usize);
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes of `buffer` under the span; empty when the span does not lie in `buffer`, so that it never panics.
    #[inline]
    #[must_use]
    pub fn of<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        buffer.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether the span covers nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// The header names that ringgate itself acts upon; all others are [`HeaderId::Other`] and only copied.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum HeaderId {
    /// `Connection`
    Connection,
    /// `Content-Length`
    ContentLength,
    /// `Date`
    Date,
    /// `Expect`
    Expect,
    /// `Forwarded` (RFC 7239)
    Forwarded,
    /// `Host`
    Host,
    /// `Keep-Alive`
    KeepAlive,
    /// Any other name.
    #[default]
    Other,
    /// `Proxy-Authenticate`
    ProxyAuthenticate,
    /// `Proxy-Authorization`
    ProxyAuthorization,
    /// `Proxy-Connection`
    ProxyConnection,
    /// `TE`
    Te,
    /// `Trailer`
    Trailer,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Upgrade`
    Upgrade,
    /// `Via`
    Via,
    /// `X-Forwarded-Client-Cert`
    XForwardedClientCert,
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `X-Forwarded-Host`
    XForwardedHost,
    /// `X-Forwarded-Port`
    XForwardedPort,
    /// `X-Forwarded-Proto`
    XForwardedProto,
    /// `X-Real-IP`
    XRealIp,
    /// `X-Request-Id`
    XRequestId,
}

/// One header field line. `value` has its optional white space trimmed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Header {
    /// Field name as received (case kept).
    pub name: Span,
    /// Field value without surrounding white space.
    pub value: Span,
    /// What the name means to ringgate.
    pub id: HeaderId,
}

/// Request method (RFC 9110 section 9); `Other` is any further valid token, its text is in the head's `method_text`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[allow(missing_docs, reason = "the names are the methods")]
pub enum Method {
    Connect,
    Delete,
    #[default]
    Get,
    Head,
    Options,
    Other,
    Patch,
    Post,
    Put,
    Trace,
}

impl Method {
    /// RFC 9110 section 9.2.2: repeating the request has the effect of sending it once.
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        matches!(self, Self::Delete | Self::Get | Self::Head | Self::Options | Self::Put | Self::Trace)
    }
}

/// HTTP version of a message as received.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
}

/// How a message's content is delimited.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BodyLength {
    /// Of unknown length, delimited by the protocol itself (HTTP/1.1 chunked, an HTTP/2 stream).
    Chunked,
    /// Exactly this many bytes.
    Known(u64),
    /// No content.
    #[default]
    None,
    /// Up to the end of the connection (responses of HTTP/1.0 style only).
    UntilClose,
}

/// A request head. The vectors keep their capacity, so one value serves all requests of a session.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// Method.
    pub method: Method,
    /// The method's text.
    pub method_text: Span,
    /// The request target as received, for logs.
    pub target: Span,
    /// The authority that counts: of an absolute-form target, else of `Host`. Empty only for HTTP/1.0 without `Host`.
    pub authority: Span,
    /// The path as received, without the query; empty stands for `/` (or for `*` when `asterisk`).
    pub path: Span,
    /// The query as received, without its `?`; `None` where the target had no `?`.
    pub query: Option<Span>,
    /// The target was `*` (server-wide `OPTIONS`).
    pub asterisk: bool,
    /// Version.
    pub version: Version,
    /// All header fields in the order received.
    pub headers: Vec<Header>,
    /// Content framing.
    pub body: BodyLength,
    /// The client allows a further request on this connection.
    pub keep_alive: bool,
    /// `Expect: 100-continue` (only ever set for HTTP/1.1).
    pub expect_continue: bool,
    /// The `Upgrade` value, when `Connection` names it and the version is HTTP/1.1.
    pub upgrade: Option<Span>,
    /// `TE: trailers` was sent.
    pub te_trailers: bool,
    /// Bytes of the buffer that the head took, its blank line included.
    pub head_len: usize,
}

/// A response head.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Status code, 100 to 999.
    pub status: u16,
    /// Reason phrase.
    pub reason: Span,
    /// Version.
    pub version: Version,
    /// All header fields in the order received.
    pub headers: Vec<Header>,
    /// Content framing, with the request's method and the status taken into account (RFC 9112 section 6.3).
    pub body: BodyLength,
    /// The upstream connection may carry a further request afterwards.
    pub keep_alive: bool,
    /// The `Upgrade` value of a 101 response.
    pub upgrade: Option<Span>,
    /// Bytes of the buffer that the head took, its blank line included.
    pub head_len: usize,
}
