//! Request heads: request line, fields, and what they say together (RFC 9112 sections 3, 6, 9; RFC 9110 section 7.2).
//!
//! `downstream/session` calls [`parse_request`] whenever bytes arrive; `gateway/select` routes by the result. Bytes
//! are refused at the first one that cannot be part of a good head, without waiting for the head's end. What only the
//! whole head can show (framing, `Host`, expectations) is judged at its blank line.

use super::authority;
use super::framing::{Codings, Connection, Length, TransferCodings, members};
use super::refusal::Refusal;
use super::scan::{self, FieldFault, HeadLimits, Progress, Scan, Stage};
use crate::message::{BodyLength, HeaderId, Method, RequestHead, Span, Version};

/// Longest method taken: the longest registered one (`UPDATEREDIRECTREF`) has 17 bytes.
const METHOD_BYTES_MAX: usize = 32;

/// Bytes of `HTTP/d.d` and CRLF.
const VERSION_BYTES: usize = 10;

/// Reads a request head from the start of `buf`, as far as it is there.
///
/// `buf` starts with the message and may hold more than its head. While the answer is [`Progress::Incomplete`], call
/// again with the same `scan` and `head` and a longer `buf`. After [`Progress::Complete`] the scan is reset; all spans
/// of `head` are relative to `buf`. One empty line before the request line is skipped (RFC 9112 section 2.2).
///
/// # Errors
/// The first fault in the order of the bytes; the connection's further bytes have no meaning then.
pub fn parse_request(
    buf: &[u8],
    scan: &mut Scan,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<Progress, Refusal> {
    // Nothing beyond the limit is looked at, so that the answer does not depend on how much has arrived.
    let window = buf.get(..limits.head_bytes_max).unwrap_or(buf);
    if scan.stage == Stage::Fresh {
        match window {
            [b'\r', b'\n', ..] => scan.line = 2,
            [b'\r', _, ..] => return Err(Refusal::BareCr),
            [b'\r'] | [] => return incomplete(buf, limits),
            _ => {}
        }
        scan.stage = Stage::StartLine;
        clear(head);
    }
    if scan.stage == Stage::StartLine && !request_line(window, scan, limits, head)? {
        return incomplete(buf, limits);
    }
    match scan::parse_fields(window, scan, &mut head.headers, limits.headers_max)? {
        Some(head_len) => {
            head.head_len = head_len;
            judge(buf, head)?;
            scan.reset();
            Ok(Progress::Complete)
        }
        None => incomplete(buf, limits),
    }
}

/// More is needed, and may still come.
#[inline]
fn incomplete(buf: &[u8], limits: &HeadLimits) -> Result<Progress, Refusal> {
    if buf.len() >= limits.head_bytes_max { Err(Refusal::HeadTooLarge) } else { Ok(Progress::Incomplete) }
}

/// Empties a head for the next message; the capacity of its fields stays.
fn clear(head: &mut RequestHead) {
    let mut headers = std::mem::take(&mut head.headers);
    headers.clear();
    *head = RequestHead { headers, ..RequestHead::default() };
}

/// Reads the request line; false while it is not complete.
///
/// Each part is looked at strictly from left to right. The method is short and read again when more arrives; the
/// target goes on where it was left.
fn request_line(
    window: &[u8],
    scan: &mut Scan,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<bool, Refusal> {
    let start = scan.line as usize;
    let method_end = scan::skip_token(window.get(..start + METHOD_BYTES_MAX).unwrap_or(window), start);
    match window.get(method_end) {
        Some(b' ') if method_end > start => {}
        Some(_) => return stray(window, method_end, Refusal::BadRequestLine),
        None => return Ok(false),
    }
    let target_start = method_end + 1;
    let target_limit = target_start.saturating_add(limits.target_bytes_max).saturating_add(1);
    let target_window = window.get(..target_limit).unwrap_or(window);
    let target_end = scan::skip_target(target_window, target_start.max(scan.at as usize));
    match target_window.get(target_end) {
        Some(b' ') if target_end > target_start => {}
        Some(b' ' | b'\r') => return stray(window, target_end, Refusal::BadRequestLine),
        Some(_) => return stray(window, target_end, Refusal::BadTarget),
        None if target_end == target_limit => return Err(Refusal::TargetTooLong),
        None => {
            scan.at = target_end as u32;
            return Ok(false);
        }
    }
    let Some(version) = version(window, target_end + 1)? else {
        scan.at = target_end as u32;
        return Ok(false);
    };
    head.version = version;
    head.method_text = Span::new(start, method_end);
    head.method = method(head.method_text.of(window))?;
    head.target = Span::new(target_start, target_end);
    target(window, head)?;
    scan.enter_fields(target_end + 1 + VERSION_BYTES);
    Ok(true)
}

/// Refuses the byte at `at`; not complete while a CR may yet be part of a CRLF, which has its own verdict.
fn stray(window: &[u8], at: usize, otherwise: Refusal) -> Result<bool, Refusal> {
    match scan::fault_at(window, at, FieldFault::InvalidValue) {
        Some(FieldFault::InvalidValue) => Err(otherwise),
        Some(fault) => Err(fault.into()),
        None => Ok(false),
    }
}

/// Reads `HTTP/d.d` and CRLF at `start`; `None` while they are not complete.
#[inline]
fn version(window: &[u8], start: usize) -> Result<Option<Version>, Refusal> {
    let there = window.get(start..).unwrap_or_default();
    match there.first_chunk::<VERSION_BYTES>() {
        Some(b"HTTP/1.1\r\n") => return Ok(Some(Version::Http11)),
        Some(b"HTTP/1.0\r\n") => return Ok(Some(Version::Http10)),
        _ => {}
    }
    for (place, (&byte, &expected)) in there.iter().zip(b"HTTP/d.d\r\n").enumerate() {
        let fits = if expected == b'd' { byte.is_ascii_digit() } else { byte == expected };
        if !fits {
            // A CR that stands alone is told from one in its place only by the byte behind it.
            let at = if expected == b'\n' { start + place - 1 } else { start + place };
            return stray(window, at, Refusal::BadRequestLine).map(|_| None);
        }
    }
    if there.len() < VERSION_BYTES { Ok(None) } else { Err(Refusal::UnsupportedVersion) }
}

/// The method; `CONNECT` and `TRACE` are not served.
#[inline]
fn method(text: &[u8]) -> Result<Method, Refusal> {
    Ok(match text {
        b"GET" => Method::Get,
        b"POST" => Method::Post,
        b"HEAD" => Method::Head,
        b"PUT" => Method::Put,
        b"DELETE" => Method::Delete,
        b"OPTIONS" => Method::Options,
        b"PATCH" => Method::Patch,
        b"CONNECT" => return Err(Refusal::ConnectNotSupported),
        b"TRACE" => return Err(Refusal::MethodNotAllowed),
        _ => Method::Other,
    })
}

/// Takes the target apart: origin form, absolute form or `*` (RFC 9112 section 3.2).
#[inline]
fn target(window: &[u8], head: &mut RequestHead) -> Result<(), Refusal> {
    let text = head.target.of(window);
    let (start, end) = (head.target.start as usize, head.target.end as usize);
    let path_start = match text.first() {
        Some(b'/') => start,
        Some(b'*') if text.len() == 1 && head.method == Method::Options => {
            head.asterisk = true;
            head.path = Span::new(end, end);
            return Ok(());
        }
        _ => {
            let authority = start + scheme_len(text).ok_or(Refusal::BadTarget)?;
            let rest = window.get(authority..end).unwrap_or_default();
            let path = authority + memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
            head.authority = Span::new(authority, path);
            if !authority::is_valid(head.authority.of(window)) {
                return Err(Refusal::InvalidHost);
            }
            // RFC 9112 section 3.2.4: OPTIONS on a bare authority asks about the server as a whole.
            head.asterisk = path == end && head.method == Method::Options;
            path
        }
    };
    match memchr::memchr(b'?', window.get(path_start..end).unwrap_or_default()) {
        Some(mark) => {
            head.path = Span::new(path_start, path_start + mark);
            head.query = Some(Span::new(path_start + mark + 1, end));
        }
        None => head.path = Span::new(path_start, end),
    }
    Ok(())
}

/// Length of `http://` or `https://` at the start of `text`.
fn scheme_len(text: &[u8]) -> Option<usize> {
    [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .map(<[u8]>::len)
}

/// Judges what the fields say together and fills in the rest of the head.
#[inline]
fn judge(buf: &[u8], head: &mut RequestHead) -> Result<(), Refusal> {
    let mut host = None;
    let mut length = Length::default();
    let mut codings = TransferCodings::default();
    let mut connection = Connection::default();
    let (mut upgrade, mut upgrades) = (None, 0);
    let (mut continue_expected, mut trailers_taken) = (false, false);
    for header in &head.headers {
        let value = header.value.of(buf);
        match header.id {
            HeaderId::Host if host.is_some() => return Err(Refusal::RepeatedHost),
            HeaderId::Host => host = Some(header.value),
            HeaderId::Connection => connection.add(value),
            HeaderId::ContentLength => length.add(value),
            HeaderId::TransferEncoding => codings.add(value),
            HeaderId::Te => trailers_taken |= members(value).any(|m| m.eq_ignore_ascii_case(b"trailers")),
            HeaderId::Upgrade => {
                upgrade = Some(header.value);
                upgrades += 1;
            }
            HeaderId::Expect => {
                if !members(value).all(|member| member.eq_ignore_ascii_case(b"100-continue")) {
                    return Err(Refusal::ExpectationFailed);
                }
                continue_expected |= !value.is_empty();
            }
            _ => {}
        }
    }
    if connection.is_excessive() {
        return Err(Refusal::BadConnection);
    }
    head.body = body(head.version, length, &codings)?;
    judge_host(buf, head, host)?;
    let has_content = !matches!(head.body, BodyLength::None | BodyLength::Known(0));
    let is_11 = head.version == Version::Http11;
    head.keep_alive = connection.persists(head.version);
    // RFC 9110 section 10.1.1: from HTTP/1.0 it is ignored, and without content there is nothing to wait for.
    head.expect_continue = is_11 && continue_expected && has_content;
    head.te_trailers = is_11 && trailers_taken;
    let takes_upgrade = is_11 && connection.upgrade && upgrades == 1 && !has_content;
    head.upgrade = upgrade.filter(|value| takes_upgrade && may_upgrade_to(value.of(buf)));
    Ok(())
}

/// Framing of a request's content (RFC 9112 section 6.3).
#[inline]
fn body(version: Version, length: Length, codings: &TransferCodings) -> Result<BodyLength, Refusal> {
    if codings.present && length != Length::Absent {
        return Err(Refusal::LengthAndChunked);
    }
    if codings.present && version == Version::Http10 {
        return Err(Refusal::ChunkedInHttp10);
    }
    match (codings.verdict(), length) {
        (Codings::Malformed, _) => Err(Refusal::BadTransferEncoding),
        (Codings::Unknown, _) => Err(Refusal::UnknownTransferCoding),
        (Codings::Chunked, _) => Ok(BodyLength::Chunked),
        (Codings::Absent, Length::Absent) => Ok(BodyLength::None),
        (Codings::Absent, Length::Known(length)) => Ok(BodyLength::Known(length)),
        (Codings::Absent, Length::Bad | Length::Repeated(_)) => Err(Refusal::BadContentLength),
    }
}

/// Checks `Host` and settles the authority (RFC 9112 sections 3.2 and 3.3).
#[inline]
fn judge_host(buf: &[u8], head: &mut RequestHead, host: Option<Span>) -> Result<(), Refusal> {
    let absolute = !head.authority.is_empty();
    match host {
        None if head.version == Version::Http11 => Err(Refusal::MissingHost),
        None => Ok(()),
        Some(host) if absolute => {
            // The target's authority counts, but a Host that could mislead somebody else is still refused.
            if host.is_empty() || authority::is_valid(host.of(buf)) {
                Ok(())
            } else {
                Err(Refusal::InvalidHost)
            }
        }
        Some(host) => {
            head.authority = host;
            if authority::is_valid(host.of(buf)) { Ok(()) } else { Err(Refusal::InvalidHost) }
        }
    }
}

/// Whether an upgrade to the protocols of `value` may be passed on.
///
/// Not to `h2c`: the upstream would then take further requests on the tunnel that no route was chosen for.
fn may_upgrade_to(value: &[u8]) -> bool {
    !value.is_empty() && !members(value).any(|protocol| protocol.eq_ignore_ascii_case(b"h2c"))
}

#[cfg(test)]
mod tests;
