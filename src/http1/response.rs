//! Response heads of upstreams (RFC 9112 sections 4 and 6.3).
//!
//! `gateway/exchange` calls [`parse_response`] as bytes arrive. What cannot be framed with certainty is a fault: a
//! guess here would give one client the bytes of another's response.

use super::framing::{Codings, Connection, Length, TransferCodings};
use super::refusal::ResponseFault;
use super::scan::{self, FieldFault, HeadLimits, Progress, Scan, Stage};
use crate::message::{BodyLength, HeaderId, Method, ResponseHead, Span, Version};

/// Reads a response head from the start of `buf`, as far as it is there.
///
/// Incomplete and complete as for requests. `request_method` is that of the request it answers: it decides whether
/// content follows. A 101 is taken whatever was asked; the caller knows whether an upgrade was.
///
/// # Errors
/// The first fault in the order of the bytes; the upstream connection is of no further use then.
pub fn parse_response(
    buf: &[u8],
    scan: &mut Scan,
    limits: &HeadLimits,
    request_method: Method,
    head: &mut ResponseHead,
) -> Result<Progress, ResponseFault> {
    let window = buf.get(..limits.head_bytes_max).unwrap_or(buf);
    if scan.stage == Stage::Fresh {
        scan.stage = Stage::StartLine;
        let mut headers = std::mem::take(&mut head.headers);
        headers.clear();
        *head = ResponseHead { headers, ..ResponseHead::default() };
    }
    if scan.stage == Stage::StartLine && !status_line(window, scan, head)? {
        return incomplete(buf, limits);
    }
    match scan::parse_fields(window, scan, &mut head.headers, limits.headers_max)? {
        Some(head_len) => {
            head.head_len = head_len;
            judge(buf, request_method, head)?;
            scan.reset();
            Ok(Progress::Complete)
        }
        None => incomplete(buf, limits),
    }
}

/// More is needed, and may still come.
#[inline]
fn incomplete(buf: &[u8], limits: &HeadLimits) -> Result<Progress, ResponseFault> {
    if buf.len() >= limits.head_bytes_max {
        Err(ResponseFault::HeadTooLarge)
    } else {
        Ok(Progress::Incomplete)
    }
}

/// Bytes of `HTTP/d.d ddd`.
const STATUS_BYTES: usize = 12;

/// Reads the status line; false while it is not complete.
fn status_line(window: &[u8], scan: &mut Scan, head: &mut ResponseHead) -> Result<bool, ResponseFault> {
    // Nearly all status lines start alike; the others are looked at byte by byte for the first fault.
    let alike = if window.starts_with(b"HTTP/1.1 ") { 9 } else { 0 };
    for (place, (&byte, &expected)) in window.iter().zip(b"HTTP/d.d ddd").enumerate().skip(alike) {
        let fits = if expected == b'd' { byte.is_ascii_digit() } else { byte == expected };
        if !fits {
            return stray(window, place, ResponseFault::BadStatusLine);
        }
    }
    let Some(&[_, _, _, _, _, major, _, minor, _, hundreds, tens, ones]) =
        window.first_chunk::<STATUS_BYTES>()
    else {
        return Ok(false);
    };
    head.version = match (major, minor) {
        (b'1', b'1') => Version::Http11,
        (b'1', b'0') => Version::Http10,
        _ => return Err(ResponseFault::UnsupportedVersion),
    };
    head.status =
        [hundreds, tens, ones].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    if head.status < 100 {
        return Err(ResponseFault::BadStatusLine);
    }
    // Servers that have no reason phrase to send tend to leave out the space before it, too.
    let reason_start = match window.get(STATUS_BYTES) {
        Some(b' ') => STATUS_BYTES + 1,
        Some(b'\r') => STATUS_BYTES,
        Some(_) => return stray(window, STATUS_BYTES, ResponseFault::BadStatusLine),
        None => return Ok(false),
    };
    let end = scan::find_control(window, reason_start.max(scan.at as usize));
    match (window.get(end), window.get(end + 1)) {
        (Some(b'\r'), Some(b'\n')) => {
            head.reason = Span::new(reason_start, end);
            scan.enter_fields(end + 2);
            Ok(true)
        }
        (None, _) | (Some(b'\r'), None) => {
            scan.at = end as u32;
            Ok(false)
        }
        _ => stray(window, end, ResponseFault::InvalidHeaderValue),
    }
}

/// Faults the byte at `at`; not complete while a CR may yet be part of a CRLF, which has its own verdict.
fn stray(window: &[u8], at: usize, otherwise: ResponseFault) -> Result<bool, ResponseFault> {
    match scan::fault_at(window, at, FieldFault::InvalidValue) {
        Some(FieldFault::InvalidValue) => Err(otherwise),
        Some(fault) => Err(fault.into()),
        None => Ok(false),
    }
}

/// Judges what the fields say together and fills in the rest of the head.
#[inline]
fn judge(buf: &[u8], request_method: Method, head: &mut ResponseHead) -> Result<(), ResponseFault> {
    let mut length = Length::default();
    let mut codings = TransferCodings::default();
    let mut connection = Connection::default();
    let mut upgrade = None;
    for header in &head.headers {
        let value = header.value.of(buf);
        match header.id {
            HeaderId::Connection => connection.add(value),
            HeaderId::ContentLength => length.add(value),
            HeaderId::TransferEncoding => codings.add(value),
            HeaderId::Upgrade => upgrade = Some(header.value),
            _ => {}
        }
    }
    if connection.is_excessive() {
        return Err(ResponseFault::BadConnection);
    }
    let framed = body(head.version, length, &codings)?;
    let is_interim = head.status < 200;
    let is_empty = is_interim || head.status == 204 || head.status == 304 || request_method == Method::Head;
    let announced = !matches!(framed, BodyLength::UntilClose | BodyLength::Known(0));
    if is_interim && announced {
        return Err(ResponseFault::FramedInterim);
    }
    head.body = if is_empty { BodyLength::None } else { framed };
    // A 204 that announces content may send it all the same; what follows on that connection would be misread.
    let is_ambiguous = head.status == 204 && announced;
    head.keep_alive =
        connection.persists(head.version) && head.body != BodyLength::UntilClose && !is_ambiguous;
    head.upgrade = upgrade.filter(|_| head.status == 101);
    Ok(())
}

/// Framing that the fields announce, status and request aside.
#[inline]
fn body(version: Version, length: Length, codings: &TransferCodings) -> Result<BodyLength, ResponseFault> {
    if codings.present && length != Length::Absent {
        return Err(ResponseFault::LengthAndChunked);
    }
    if codings.present && version == Version::Http10 {
        return Err(ResponseFault::ChunkedInHttp10);
    }
    match (codings.verdict(), length) {
        (Codings::Malformed | Codings::Unknown, _) => Err(ResponseFault::BadTransferEncoding),
        (Codings::Chunked, _) => Ok(BodyLength::Chunked),
        (Codings::Absent, Length::Absent) => Ok(BodyLength::UntilClose),
        (Codings::Absent, Length::Known(length) | Length::Repeated(length)) => Ok(BodyLength::Known(length)),
        (Codings::Absent, Length::Bad) => Err(ResponseFault::BadContentLength),
    }
}

#[cfg(test)]
mod tests;
