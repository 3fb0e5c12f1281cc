//! What helps clients from clear text to HTTPS: `https_redirect`, `hsts`, and the answer to a request that came in clear
//! text.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::config::diagnostic::Problem;
use crate::config::model::Protocol;
use crate::config::schema;
use crate::config::tree::{Reader, Table};

/// 0 takes back what was said before (RFC 6797 section 6.1.1).
const MAX_AGE_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10 * 365 * 86_400);

/// What the lists that browsers come with ask for (hstspreload.org).
const PRELOAD_AGE_MIN: Duration = Duration::from_secs(365 * 86_400);

/// The port that requests of an HTTP server are sent to, where they are.
pub(super) fn redirect(reader: &mut Reader<'_>, tls: &Table<'_>, protocol: Protocol) -> Option<u16> {
    let wanted = reader.boolean(tls, "https_redirect");
    let port = reader.number(tls, "https_redirect_port", 1..=65_535);
    for key in ["https_redirect", "https_redirect_port"] {
        if let Some(value) = reader.any(tls, key).filter(|_| protocol != Protocol::Http) {
            let message = format!("`{key}` of a server of protocol {protocol}");
            let problem = Problem::error("misplaced-key", value.place, message);
            reader.push(problem.expected("it at the server of protocol HTTP whose clients are to use HTTPS"));
        }
    }
    if let Some(value) = reader.any(tls, "https_redirect_port").filter(|_| wanted != Some(true)) {
        let message = "`https_redirect_port` without `https_redirect = true`";
        let hint = if wanted.is_none() { "add `https_redirect = true`" } else { "remove it" };
        reader.push(Problem::error("misplaced-key", value.place, message).hint(hint));
    }
    let port = port.map_or(443, |port| u16::try_from(port).unwrap_or(443));
    (wanted == Some(true)).then_some(port)
}

/// Beside `https_redirect` an HTTP server has nothing to say about TLS.
pub(super) fn nothing_else(reader: &mut Reader<'_>, tls: &Table<'_>) {
    for key in schema::SERVER_TLS.keys.iter().filter(|key| !key.starts_with("https_redirect")) {
        if let Some(value) = reader.any(tls, key) {
            let message = format!("`{key}` of a server without TLS");
            let problem = Problem::error("misplaced-key", value.place, message);
            reader.push(problem.expected("only `https_redirect` with `protocol = \"HTTP\"`"));
        }
    }
}

/// Whether an HTTPS server answers requests in clear text with 400.
pub(super) fn answer_plain_http(reader: &mut Reader<'_>, tls: &Table<'_>, protocol: Protocol) -> bool {
    let Some(value) = reader.any(tls, "answer_plain_http") else { return false };
    if protocol != Protocol::Https {
        let message = format!("`answer_plain_http` of a server of protocol {protocol}");
        reader.push(Problem::error("misplaced-key", value.place, message).hint("only HTTPS has it"));
    }
    reader.boolean(tls, "answer_plain_http").unwrap_or_default()
}

/// The value of `Strict-Transport-Security` (RFC 6797 section 6.1).
pub(super) fn hsts(
    reader: &mut Reader<'_>,
    server: &Table<'_>,
    protocol: Option<Protocol>,
) -> Option<Arc<str>> {
    let table = reader.child(server, "hsts", &schema::HSTS)?;
    let place = reader.place(&table.span);
    if protocol.is_some_and(|protocol| protocol != Protocol::Https) {
        let problem = Problem::error("misplaced-key", place, "`hsts` of a server that is not HTTPS");
        reader.push(problem.expected("it at the server of protocol HTTPS: in clear text it means nothing"));
        return None;
    }
    reader.missing(&table, "max_age", "`max_age = \"365d\"`");
    let max_age = reader.duration(&table, "max_age", MAX_AGE_RANGE)?;
    let subdomains = reader.boolean(&table, "include_subdomains").unwrap_or_default();
    let preload = reader.boolean(&table, "preload").unwrap_or_default();
    if preload && (!subdomains || max_age < PRELOAD_AGE_MIN) {
        let place = reader.any(&table, "preload").map_or(place, |value| value.place);
        let problem = Problem::error("bad-value", place, "`preload` asks for more than is promised here");
        reader.push(problem.expected("`include_subdomains = true` and a `max_age` of at least 365d"));
    }
    let mut value = format!("max-age={}", max_age.as_secs());
    if subdomains {
        value += "; includeSubDomains";
    }
    if preload {
        value += "; preload";
    }
    Some(Arc::from(value))
}
