//! Hosts of servers and virtual services: from text to [`HostPattern`].
//!
//! Accepts `*`, `*.suffix`, DNS names and IP literals; refuses what Istio would silently never match
//! (schemes, ports, inner wildcards, namespaces) and names that are not in their ASCII form (RFC 5890).

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::config::diagnostic::visible;
use crate::config::model::HostPattern;

/// RFC 1035 section 2.3.4, without the length bytes.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// What a host may look like, for messages.
pub(super) const HOST_FORM: &str = "a host such as `www.example.com`, `*.example.com` or `*`";

/// Why a host was refused.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct BadHost {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// Reads a host: lower-cases it and removes a trailing dot.
pub(super) fn parse(text: &str) -> Result<HostPattern, BadHost> {
    let bad = |message: String, hint: Option<&str>| BadHost { message, hint: hint.map(str::to_owned) };
    if text.is_empty() {
        return Err(bad("a host must not be empty".to_owned(), Some("`*` stands for every host")));
    }
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    if !text.is_ascii() {
        let hint = "write internationalised names in punycode (`xn--...`)";
        return Err(bad(format!("host `{}` is not ASCII", visible(text)), Some(hint)));
    }
    if text.contains("://") {
        let hint = "a host has no scheme and no path";
        return Err(bad(format!("`{}` is a URL, not a host", visible(text)), Some(hint)));
    }
    if text.contains('/') {
        let hint = "ringgate has no namespaces: write the part behind the `/`";
        return Err(bad(format!("host `{}` contains `/`", visible(text)), Some(hint)));
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(address) => Ok(HostPattern::Exact(Arc::from(format!("[{address}]")))),
            Err(_) => Err(bad(format!("`{}` is not an IPv6 address in brackets", visible(text)), None)),
        };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(bad(
            format!("IPv6 host `{text}` stands without brackets"),
            Some(&format!("write `[{text}]`")),
        ));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        let hint = format!("write `{}`; the port belongs to the server", visible(host));
        return Err(bad(format!("host `{}` has a port", visible(text)), Some(&hint)));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let (wildcard, labels) = match name.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, name.as_str()),
    };
    check_labels(text, labels)?;
    if wildcard {
        return Ok(HostPattern::Suffix(Arc::from(name.get(1..).unwrap_or_default())));
    }
    // `1.2.3` or `256.0.0.1` are no addresses, but no client sends them as names either.
    let numeric =
        labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric && labels.parse::<IpAddr>().is_err() {
        return Err(bad(format!("host `{}` is not an IPv4 address", visible(text)), None));
    }
    Ok(HostPattern::Exact(Arc::from(labels)))
}

fn check_labels(text: &str, labels: &str) -> Result<(), BadHost> {
    let bad = |message: String, hint: Option<&str>| BadHost { message, hint: hint.map(str::to_owned) };
    let shown = visible(text);
    if labels.contains('*') {
        let hint = "a wildcard is the whole leftmost label: `*.example.com`, or `*` alone";
        return Err(bad(format!("host `{shown}` has a wildcard in the wrong place"), Some(hint)));
    }
    if labels.len() > NAME_BYTES_MAX {
        return Err(bad(format!("host `{shown}` is longer than {NAME_BYTES_MAX} bytes"), None));
    }
    for label in labels.split('.') {
        if label.is_empty() {
            return Err(bad(format!("host `{shown}` has an empty label"), None));
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(bad(format!("host `{shown}` has a label longer than {LABEL_BYTES_MAX} bytes"), None));
        }
        // Underscores are no host names by RFC 952, but clients send them.
        let wrong = label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-' && *c != '_');
        if let Some(wrong) = wrong {
            return Err(bad(format!("host `{shown}` contains `{}`", wrong.escape_default()), None));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(bad(format!("host `{shown}` has a label that begins or ends with `-`"), None));
        }
    }
    Ok(())
}

/// The way a host is written.
pub(super) fn show(host: &HostPattern) -> String {
    match host {
        HostPattern::Any => "*".to_owned(),
        HostPattern::Exact(name) => name.to_string(),
        HostPattern::Suffix(suffix) => format!("*{suffix}"),
    }
}

/// The tails `.b.c` and `.c` of `a.b.c` (or of `.a.b.c`, with itself): the suffixes that cover a name.
pub(super) fn tails(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').filter_map(|(at, _)| name.get(at..))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Good hosts and their normal form.
    #[test]
    fn reads_hosts() {
        for (text, shown) in [
            ("*", "*"),
            ("WWW.Example.COM.", "www.example.com"),
            ("*.Example.com", "*.example.com"),
            ("*.com", "*.com"),
            ("localhost", "localhost"),
            ("my_host-1.x", "my_host-1.x"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(parse(text).map(|host| show(&host)), Ok(shown.to_owned()), "{text}");
        }
    }

    /// Bad hosts and a word of the reason.
    #[test]
    fn refuses_bad_hosts() {
        let long = format!("{}.com", "a".repeat(64));
        let longer = "a.".repeat(130);
        for (text, reason) in [
            ("", "empty"),
            (".", "empty label"),
            ("*.", "wildcard"),
            ("a..b", "empty label"),
            ("a.*.b", "wildcard"),
            ("*a.b", "wildcard"),
            ("*.*.b", "wildcard"),
            ("**", "wildcard"),
            ("http://a.b", "URL"),
            ("ns/a.b", "`/`"),
            ("a.b:80", "port"),
            ("::1", "brackets"),
            ("[::g]", "not an IPv6"),
            ("b\u{fc}cher.example", "ASCII"),
            ("a b", "contains ` `"),
            ("-a.b", "`-`"),
            ("a-.b", "`-`"),
            ("1.2.3", "IPv4"),
            ("256.1.1.1", "IPv4"),
            (long.as_str(), "63"),
            (longer.as_str(), "253"),
        ] {
            let message = parse(text).err().map(|bad| bad.message).unwrap_or_default();
            assert!(message.contains(reason), "{text:?}: {message:?}");
        }
    }
}
