//! Heads as they leave: requests towards an upstream, responses towards a client.
//!
//! `gateway/exchange` calls [`write_request`] and [`write_response`]. Hop-by-hop fields and those that `Connection`
//! nominates end here (RFC 9110 section 7.6.1), framing is written anew and exactly once, and the forwarding fields
//! tell the upstream who asked: a trusted client's are continued, any other's are replaced. All other fields pass
//! unchanged and in order; runs of them are copied at once. Names with `_` pass, too, unless they are a forwarding or
//! framing field in disguise (see [`names::is_disguised`]).

use std::net::IpAddr;

use super::forwarding::client_request_id;
use super::framing::{CONNECTION_MEMBERS_MAX, members};
use super::names;
use super::reply::{push_persistence, push_status};
use super::wire::{push_decimal, push_ip};
use crate::message::{BodyLength, Header, HeaderId, RequestHead, ResponseHead, Span, Version};

/// What a request's head cannot say about the request that leaves.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// Path to send, in its normal form or as received; empty is `/`. Not used for `*`.
    pub path: &'a [u8],
    /// The client's address.
    pub peer: IpAddr,
    /// The client's forwarding fields are believed.
    pub trusted: bool,
    /// The request came over TLS.
    pub tls: bool,
    /// The element of `X-Forwarded-Client-Cert` for its certificate; empty for none.
    pub client_certificate: &'a str,
    /// Used where the client's id is absent, malformed or not trusted.
    pub request_id: &'a [u8],
    /// Framing to send: any but [`BodyLength::UntilClose`], which is sent as none.
    pub body: BodyLength,
}

/// Appends the head of a request for an upstream, as HTTP/1.1 in origin form.
///
/// `head` lies in `buf`. `Host` is the authority that counted for routing; without one it is sent empty, as RFC 9112
/// section 3.2 asks.
pub fn write_request(out: &mut Vec<u8>, head: &RequestHead, buf: &[u8], facts: &RequestFacts<'_>) {
    // The fields that are added take less than 256 bytes beside the authority and the request id.
    let texts = facts.path.len() + facts.request_id.len() + facts.client_certificate.len();
    out.reserve(head.head_len + 2 * head.authority.len() + texts + 256);
    push_request_line(out, head, buf, facts.path);
    let nominated = Nominated::of(&head.headers, buf);
    let mut present = Present::default();
    let mut copy = FieldCopy::new(out, buf);
    for header in &head.headers {
        let keep = match header.id {
            HeaderId::Other => keeps_request_field(header.name.of(buf), &nominated),
            HeaderId::Date => !nominated.has(b"date"),
            HeaderId::Forwarded | HeaderId::XForwardedPort | HeaderId::XRealIp => facts.trusted,
            HeaderId::Trailer => facts.body == BodyLength::Chunked,
            // Continued below where there is something to add.
            HeaderId::XForwardedClientCert => facts.trusted && facts.client_certificate.is_empty(),
            HeaderId::XForwardedHost => {
                present.host = true;
                facts.trusted
            }
            HeaderId::XForwardedProto => {
                present.proto = true;
                facts.trusted
            }
            HeaderId::XForwardedFor => {
                present.for_ = true;
                false
            }
            HeaderId::Via => {
                present.via = true;
                false
            }
            HeaderId::Connection
            | HeaderId::ContentLength
            | HeaderId::Expect
            | HeaderId::Host
            | HeaderId::KeepAlive
            | HeaderId::ProxyAuthenticate
            | HeaderId::ProxyAuthorization
            | HeaderId::ProxyConnection
            | HeaderId::Te
            | HeaderId::TransferEncoding
            | HeaderId::Upgrade
            | HeaderId::XRequestId => false,
        };
        if keep {
            copy.push(header);
        }
    }
    copy.finish();
    if !facts.trusted {
        present = Present::default();
    }
    push_forwarding(out, head, buf, facts, &present);
    push_request_framing(out, head, buf, facts.body);
    out.extend_from_slice(b"\r\n");
}

/// Which forwarding fields of a trusted client there are to continue.
#[derive(Clone, Copy, Debug, Default)]
struct Present {
    for_: bool,
    host: bool,
    proto: bool,
    via: bool,
}

/// Appends the request line and `Host`.
#[inline]
fn push_request_line(out: &mut Vec<u8>, head: &RequestHead, buf: &[u8], path: &[u8]) {
    out.extend_from_slice(head.method_text.of(buf));
    out.push(b' ');
    match path {
        _ if head.asterisk => out.push(b'*'),
        [] => out.push(b'/'),
        path => out.extend_from_slice(path),
    }
    if let Some(query) = head.query {
        out.push(b'?');
        out.extend_from_slice(query.of(buf));
    }
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(head.authority.of(buf));
    out.extend_from_slice(b"\r\n");
}

/// Whether a field that ringgate does not act upon goes upstream.
#[inline]
fn keeps_request_field(name: &[u8], nominated: &Nominated<'_>) -> bool {
    let dropped = nominated.len > 0 && nominated.has(name) && !names::is_protected(name);
    !dropped && !names::is_disguised(name)
}

/// Appends the fields that tell the upstream who asked.
#[inline]
fn push_forwarding(
    out: &mut Vec<u8>,
    head: &RequestHead,
    buf: &[u8],
    facts: &RequestFacts<'_>,
    present: &Present,
) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    if present.for_ {
        push_list(out, head, buf, HeaderId::XForwardedFor);
    }
    push_ip(out, facts.peer);
    if !present.proto {
        let proto: &[u8] =
            if facts.tls { b"\r\nX-Forwarded-Proto: https" } else { b"\r\nX-Forwarded-Proto: http" };
        out.extend_from_slice(proto);
    }
    if !present.host && !head.authority.is_empty() {
        out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
        out.extend_from_slice(head.authority.of(buf));
    }
    if !facts.client_certificate.is_empty() {
        out.extend_from_slice(b"\r\nX-Forwarded-Client-Cert: ");
        if facts.trusted {
            push_list(out, head, buf, HeaderId::XForwardedClientCert);
        }
        out.extend_from_slice(facts.client_certificate.as_bytes());
    }
    out.extend_from_slice(b"\r\nVia: ");
    if present.via {
        push_list(out, head, buf, HeaderId::Via);
    }
    let received: &[u8] = match head.version {
        Version::Http10 => b"1.0 ringgate\r\nX-Request-Id: ",
        Version::Http11 => b"1.1 ringgate\r\nX-Request-Id: ",
    };
    out.extend_from_slice(received);
    let request_id = if facts.trusted { client_request_id(head, buf) } else { None };
    out.extend_from_slice(request_id.unwrap_or(facts.request_id));
    out.extend_from_slice(b"\r\n");
}

/// Appends all values of a list field, each with a comma behind it.
fn push_list(out: &mut Vec<u8>, head: &RequestHead, buf: &[u8], id: HeaderId) {
    for header in head.headers.iter().filter(|header| header.id == id && !header.value.is_empty()) {
        out.extend_from_slice(header.value.of(buf));
        out.extend_from_slice(b", ");
    }
}

/// Appends the fields about this hop and about the content's framing.
#[inline]
fn push_request_framing(out: &mut Vec<u8>, head: &RequestHead, buf: &[u8], body: BodyLength) {
    if head.expect_continue {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    let connection: &[u8] = match (head.upgrade, head.te_trailers) {
        (None, false) => b"",
        (None, true) => b"Connection: TE\r\nTE: trailers\r\n",
        (Some(_), false) => b"Connection: upgrade\r\n",
        (Some(_), true) => b"Connection: upgrade, TE\r\nTE: trailers\r\n",
    };
    out.extend_from_slice(connection);
    if let Some(upgrade) = head.upgrade {
        push_field(out, b"Upgrade", upgrade.of(buf));
    }
    push_framing(out, body);
}

/// Appends the one framing field that `body` needs, if any.
#[inline]
fn push_framing(out: &mut Vec<u8>, body: BodyLength) {
    match body {
        BodyLength::Known(length) => {
            out.extend_from_slice(b"Content-Length: ");
            push_decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        BodyLength::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyLength::None | BodyLength::UntilClose => {}
    }
}

/// Appends one field line.
#[inline]
pub(super) fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// What a response's head cannot say about the response that leaves.
#[derive(Clone, Copy, Debug)]
pub struct ResponseFacts<'a> {
    /// The client's version.
    pub version: Version,
    /// The connection is closed after this response.
    pub close: bool,
    /// Framing to send. [`BodyLength::None`] for every response without content by its request or status;
    /// [`BodyLength::UntilClose`] implies `close` and is what an HTTP/1.0 client gets instead of chunks.
    pub body: BodyLength,
    /// `Strict-Transport-Security` to say instead of the origin's; not in interim responses.
    pub hsts: Option<&'a str>,
}

/// Said over TLS alone (RFC 6797 section 7.2).
pub(super) const HSTS: &[u8] = b"Strict-Transport-Security";

/// Appends the head of a response for a client, as HTTP/1.1.
///
/// `head` lies in `buf`. Interim responses carry no connection or framing fields; a 101 keeps its `Upgrade`. The
/// origin's `Content-Length` is kept in responses to `HEAD` and in 304, where it describes content not sent.
pub fn write_response(out: &mut Vec<u8>, head: &ResponseHead, buf: &[u8], facts: &ResponseFacts<'_>) {
    out.reserve(head.head_len + 128);
    out.extend_from_slice(b"HTTP/1.1 ");
    push_status(out, head.status);
    out.push(b' ');
    out.extend_from_slice(head.reason.of(buf));
    out.extend_from_slice(b"\r\n");
    let is_interim = head.status < 200;
    let chunked = facts.body == BodyLength::Chunked && facts.version == Version::Http11;
    let describes_length = facts.body == BodyLength::None && !is_interim && head.status != 204;
    let nominated = Nominated::of(&head.headers, buf);
    let hsts = facts.hsts.filter(|_| !is_interim);
    let mut length = None;
    let mut copy = FieldCopy::new(out, buf);
    for header in &head.headers {
        let keep = match header.id {
            HeaderId::Connection
            | HeaderId::KeepAlive
            | HeaderId::ProxyAuthenticate
            | HeaderId::ProxyAuthorization
            | HeaderId::ProxyConnection
            | HeaderId::Te
            | HeaderId::TransferEncoding
            | HeaderId::Upgrade => false,
            HeaderId::ContentLength => {
                length = Some(header.value);
                false
            }
            HeaderId::Trailer => chunked,
            _ => {
                // A client takes the first of two (RFC 6797 section 8.1), so there must be one.
                let ours = hsts.is_some() && header.name.of(buf).eq_ignore_ascii_case(HSTS);
                !ours && (nominated.len == 0 || !nominated.has(header.name.of(buf)))
            }
        };
        if keep {
            copy.push(header);
        }
    }
    copy.finish();
    if let Some(hsts) = hsts {
        push_field(out, HSTS, hsts.as_bytes());
    }
    if head.status == 101 {
        out.extend_from_slice(b"Connection: upgrade\r\n");
        push_field(out, b"Upgrade", head.upgrade.unwrap_or_default().of(buf));
    } else if !is_interim {
        push_response_framing(out, buf, facts, length.filter(|_| describes_length), chunked);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the framing and connection fields of a final response.
#[inline]
fn push_response_framing(
    out: &mut Vec<u8>,
    buf: &[u8],
    facts: &ResponseFacts<'_>,
    described_length: Option<Span>,
    chunked: bool,
) {
    match facts.body {
        BodyLength::Known(_) => push_framing(out, facts.body),
        BodyLength::Chunked if chunked => push_framing(out, facts.body),
        _ => {}
    }
    if let Some(length) = described_length {
        push_field(out, b"Content-Length", length.of(buf));
    }
    // Without any framing only the end of the connection can tell the client where the content ends.
    let is_unframed = match facts.body {
        BodyLength::UntilClose => true,
        BodyLength::Chunked => !chunked,
        BodyLength::Known(_) | BodyLength::None => false,
    };
    push_persistence(out, facts.close || is_unframed, facts.version);
}

/// The field names that `Connection` nominates, beside the options that ringgate handles itself.
struct Nominated<'a> {
    names: [&'a [u8]; CONNECTION_MEMBERS_MAX],
    len: usize,
}

impl<'a> Nominated<'a> {
    /// Gathers the names; the parser has bounded their number.
    #[inline]
    fn of(headers: &[Header], buf: &'a [u8]) -> Self {
        let mut nominated = Self { names: [&[]; CONNECTION_MEMBERS_MAX], len: 0 };
        for header in headers.iter().filter(|header| header.id == HeaderId::Connection) {
            for member in members(header.value.of(buf)) {
                if !is_known_option(member)
                    && let Some(slot) = nominated.names.get_mut(nominated.len)
                {
                    *slot = member;
                    nominated.len += 1;
                }
            }
        }
        nominated
    }

    fn has(&self, name: &[u8]) -> bool {
        let names = self.names.get(..self.len).unwrap_or_default();
        names.iter().any(|nominated| nominated.eq_ignore_ascii_case(name))
    }
}

/// Whether a `Connection` member is an option and no name of a field that would have to be looked for.
fn is_known_option(member: &[u8]) -> bool {
    [&b"close"[..], b"keep-alive", b"upgrade", b"te"].iter().any(|option| member.eq_ignore_ascii_case(option))
}

/// Copies field lines, consecutive ones in one piece.
struct FieldCopy<'o, 'b> {
    out: &'o mut Vec<u8>,
    buf: &'b [u8],
    /// The run of bytes not yet copied.
    start: usize,
    end: usize,
}

impl<'o, 'b> FieldCopy<'o, 'b> {
    fn new(out: &'o mut Vec<u8>, buf: &'b [u8]) -> Self {
        Self { out, buf, start: 0, end: 0 }
    }

    /// Adds a field. One that stands in the buffer just as it would be written extends the run.
    #[inline]
    fn push(&mut self, header: &Header) {
        let (start, value_end) = (header.name.start as usize, header.value.end as usize);
        let (name_end, value_start) = (header.name.end as usize, header.value.start as usize);
        let is_verbatim = self.buf.get(name_end..value_start) == Some(b": ")
            && self.buf.get(value_end..value_end + 2) == Some(b"\r\n");
        if is_verbatim && start == self.end {
            self.end = value_end + 2;
            return;
        }
        self.flush();
        if is_verbatim {
            (self.start, self.end) = (start, value_end + 2);
        } else {
            push_field(self.out, header.name.of(self.buf), header.value.of(self.buf));
        }
    }

    #[inline]
    fn flush(&mut self) {
        self.out.extend_from_slice(self.buf.get(self.start..self.end).unwrap_or_default());
        (self.start, self.end) = (0, 0);
    }

    fn finish(mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests;
