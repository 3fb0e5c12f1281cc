//! Replies that ringgate gives itself, and the date they carry.
//!
//! `downstream/session` writes one for each refusal, unknown host or failed exchange. The body names the reason code
//! and nothing of the request, so that a reply reflects no byte a client sent.

use super::rewrite::{HSTS, push_field};
use super::wire::push_decimal;
use crate::message::Version;

/// The interim reply to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Methods that a 405 names; any other token but `CONNECT` and `TRACE` is passed on, too.
const ALLOW: &[u8] = b"Allow: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS\r\n";

/// What a local reply says.
#[derive(Clone, Copy, Debug)]
pub struct ReplyFacts<'a> {
    /// Status, of a kind that has content.
    pub status: u16,
    /// Stable code of the reason.
    pub reason_code: &'a str,
    /// `Location`, of a redirect.
    pub location: Option<&'a [u8]>,
    /// `Strict-Transport-Security`, over TLS.
    pub hsts: Option<&'a str>,
    /// The connection is closed after it.
    pub close: bool,
    /// The client's version.
    pub version: Version,
    /// It answers `HEAD`, so its content is left out.
    pub head_request: bool,
}

/// Appends a local reply, such as `404 Not Found: unknown_host` as plain text.
///
/// A connection that an HTTP/1.0 client may keep is confirmed with `Connection: keep-alive`.
pub fn write_reply(out: &mut Vec<u8>, date: &[u8; 29], facts: &ReplyFacts<'_>) {
    let ReplyFacts { status, reason_code, close, version, .. } = *facts;
    debug_assert!((200..=999).contains(&status) && status != 204 && status != 304, "a reply with content");
    let phrase = phrase(status);
    let content_len = 3 + 1 + phrase.len() + 2 + reason_code.len() + 1;
    out.reserve(256 + content_len);
    out.extend_from_slice(b"HTTP/1.1 ");
    push_status(out, status);
    out.push(b' ');
    out.extend_from_slice(phrase.as_bytes());
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(date);
    out.extend_from_slice(b"\r\nContent-Type: text/plain\r\nContent-Length: ");
    push_decimal(out, content_len as u64);
    out.extend_from_slice(b"\r\n");
    if status == 405 {
        out.extend_from_slice(ALLOW);
    }
    if let Some(location) = facts.location {
        push_field(out, b"Location", location);
    }
    if let Some(hsts) = facts.hsts {
        push_field(out, HSTS, hsts.as_bytes());
    }
    push_persistence(out, close, version);
    out.extend_from_slice(b"\r\n");
    if !facts.head_request {
        push_status(out, status);
        out.push(b' ');
        out.extend_from_slice(phrase.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(reason_code.as_bytes());
        out.push(b'\n');
    }
}

/// Appends what a client of `version` must be told about the connection.
#[inline]
pub(super) fn push_persistence(out: &mut Vec<u8>, close: bool, version: Version) {
    match (close, version) {
        (true, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (false, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (false, Version::Http11) => {}
    }
}

/// Appends a status code, always of three digits.
#[inline]
pub(super) fn push_status(out: &mut Vec<u8>, status: u16) {
    let digit = |divisor: u16| b'0' + (status / divisor % 10) as u8;
    out.extend_from_slice(&[digit(100), digit(10), digit(1)]);
}

/// Reason phrase of a status (RFC 9110 section 15); that of its class for one that is not used here.
#[must_use]
pub const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => match status / 100 {
            1 => "Informational",
            2 => "Success",
            3 => "Redirection",
            4 => "Client Error",
            _ => "Server Error",
        },
    }
}

/// A date as replies carry it (IMF-fixdate, RFC 9110 section 5.6.7), formatted at most once per second.
#[derive(Clone, Debug)]
pub struct DateCache {
    unix_seconds: u64,
    text: [u8; 29],
}

impl DateCache {
    /// A cache that holds the date of a Unix time.
    #[must_use]
    pub fn new(unix_seconds: u64) -> Self {
        Self { unix_seconds, text: format_date(unix_seconds) }
    }

    /// Moves on to a Unix time; does nothing within the same second.
    #[inline]
    pub fn refresh(&mut self, unix_seconds: u64) {
        if unix_seconds != self.unix_seconds {
            *self = Self::new(unix_seconds);
        }
    }

    /// The date, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
    #[inline]
    #[must_use]
    pub const fn text(&self) -> &[u8; 29] {
        &self.text
    }
}

/// 9999-12-31 23:59:59, the last second of which the year has four digits.
const LAST_SECOND: u64 = 253_402_300_799;

/// Formats a Unix time; one beyond the year 9999 is taken as that year's last second.
fn format_date(unix_seconds: u64) -> [u8; 29] {
    let seconds = unix_seconds.min(LAST_SECOND);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let weekday = three_letters(b"ThuFriSatSunMonTueWed", days % 7);
    let month = three_letters(b"JanFebMarAprMayJunJulAugSepOctNovDec", month - 1);
    let pair = |number: u64| [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8];
    let [[d1, d0], [h1, h0], [m1, m0], [s1, s0]] =
        [pair(day), pair(second / 3600), pair(second / 60 % 60), pair(second % 60)];
    let [[y3, y2], [y1, y0]] = [pair(year / 100), pair(year % 100)];
    let ([w0, w1, w2], [n0, n1, n2]) = (weekday, month);
    [
        w0, w1, w2, b',', b' ', d1, d0, b' ', n0, n1, n2, b' ', y3, y2, y1, y0, b' ', h1, h0, b':', m1, m0,
        b':', s1, s0, b' ', b'G', b'M', b'T',
    ]
}

/// The `index`th name of a table of three-letter names.
fn three_letters(table: &[u8], index: u64) -> [u8; 3] {
    table.chunks_exact(3).nth(index as usize).and_then(|name| name.first_chunk().copied()).unwrap_or(*b"???")
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar.
///
/// Counts in years that start in March, so that the leap day is a year's last: 146 097 days are 400 years.
const fn civil_date(days: u64) -> (u64, u64, u64) {
    let since_march = days + 719_468;
    let (era, day_of_era) = (since_march / 146_097, since_march % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dates around leap days, centuries and both ends, from an independent calendar.
    #[test]
    fn formats_dates() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(String::from_utf8_lossy(&format_date(seconds)), text);
            let mut cache = DateCache::new(1);
            cache.refresh(seconds);
            assert_eq!(cache.text(), &format_date(seconds));
        }
    }

    fn reply(status: u16, close: bool, version: Version, head_request: bool) -> String {
        let mut out = Vec::new();
        let reason_code = "unknown_host";
        let facts =
            ReplyFacts { status, reason_code, location: None, hsts: None, close, version, head_request };
        write_reply(&mut out, &format_date(0), &facts);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// A whole reply, byte by byte.
    #[test]
    fn writes_a_reply() {
        assert_eq!(
            reply(404, true, Version::Http11, false),
            "HTTP/1.1 404 Not Found\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
             Content-Length: 28\r\nConnection: close\r\n\r\n404 Not Found: unknown_host\n"
        );
    }

    /// `HEAD` gets the same head without content; the connection fields follow version and intent.
    #[test]
    fn adapts_to_the_request() {
        let whole = reply(404, false, Version::Http11, false);
        let head = reply(404, false, Version::Http11, true);
        assert!(whole.starts_with(&head) && head.ends_with("\r\n\r\n") && whole.len() == head.len() + 28);
        assert!(!whole.contains("Connection"));
        assert!(reply(404, false, Version::Http10, false).contains("\r\nConnection: keep-alive\r\n"));
        assert!(reply(404, true, Version::Http10, false).contains("\r\nConnection: close\r\n"));
        assert!(reply(405, true, Version::Http11, false).contains("\r\nAllow: GET, "));
        assert!(!whole.contains("Allow"));
    }

    /// Every refusal's status has a phrase of its own, and the announced length is that of the content.
    #[test]
    fn knows_the_phrase_of_every_refusal() {
        for kind in super::super::Refusal::ALL {
            let reply = reply(kind.status(), true, Version::Http11, false);
            assert!(!["Client Error", "Server Error"].contains(&phrase(kind.status())), "{kind}");
            let (head, content) = reply.split_once("\r\n\r\n").unwrap_or_default();
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", content.len())), "{reply}");
        }
    }
}
