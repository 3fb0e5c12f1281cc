//! From a request's authority, or a connection's SNI, to the virtual host it names: exact, then the longest wildcard, then `*`.
//!
//! Refuses (as an unknown host) an authority that cannot be one: longer than 255 bytes, a port that is not digits, an
//! unclosed `[`, a colon outside of brackets and port. Nothing here allocates.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::layer4::L4Rules;
use super::path::RuleSet;
use super::texts::Hasher;
use crate::message::Span;

/// Bytes of the longest host looked up; a DNS name has at most 253 (RFC 1035 section 2.3.4).
pub(super) const HOST_BYTES_MAX: usize = 255;

/// A host as it is looked up: without port, brackets and trailing dot, ASCII in lower case.
pub(super) struct Host {
    bytes: [u8; HOST_BYTES_MAX],
    len: usize,
}

impl Host {
    /// `None` when the authority cannot name a host. An empty host (HTTP/1.0 without `Host`) is one.
    pub(super) fn parse(authority: &[u8]) -> Option<Self> {
        let (host, port) = match authority.strip_prefix(b"[") {
            Some(rest) => {
                let close = memchr::memchr(b']', rest)?;
                let (host, rest) = rest.split_at_checked(close)?;
                (host, rest.get(1..)?)
            }
            None => {
                let end = memchr::memchr(b':', authority).unwrap_or(authority.len());
                authority.split_at_checked(end)?
            }
        };
        // RFC 3986 section 3.2.3: `:` without digits is a port too.
        match port {
            [] => {}
            [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {}
            _ => return None,
        }
        Self::normal(host)
    }

    /// The host of an SNI name (RFC 6066 section 3), which has neither port nor brackets; `None` where it is too long.
    pub(super) fn from_sni(name: &str) -> Option<Self> {
        Self::normal(name.as_bytes())
    }

    fn normal(host: &[u8]) -> Option<Self> {
        let host = host.strip_suffix(b".").unwrap_or(host);
        let mut bytes = [0; HOST_BYTES_MAX];
        let slot = bytes.get_mut(..host.len())?;
        slot.copy_from_slice(host);
        slot.make_ascii_lowercase();
        Some(Self { bytes, len: host.len() })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The form in which an exact host of the configuration is stored: an IPv6 literal loses its brackets, as in
/// [`Host::parse`].
pub(super) fn stored_form(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// What a host pattern leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct VirtualHost {
    /// Index into the table's servers: the one that claims the host.
    pub(super) server: u32,
    /// Its rules; empty when no virtual service routes the host.
    pub(super) rules: HostRules,
}

/// The rules of a host: of the kind that its server goes by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HostRules {
    Http(RuleSet),
    L4(L4Rules),
}

/// The hosts of a listener.
#[derive(Debug, Default)]
pub(super) struct HostIndex {
    hasher: Hasher,
    exact: HashTable<(Span, VirtualHost)>,
    /// Keyed with their leading dot.
    suffixes: HashTable<(Span, VirtualHost)>,
    /// A bit for each length that a suffix has, so that a host of many labels costs no useless probes.
    suffix_lengths: [u64; 4],
    any: Option<VirtualHost>,
}

impl HostIndex {
    pub(super) fn with_capacity(exact: usize, suffixes: usize) -> Self {
        Self {
            exact: HashTable::with_capacity(exact),
            suffixes: HashTable::with_capacity(suffixes),
            ..Self::default()
        }
    }

    /// Adds an exact host; the caller adds each once.
    pub(super) fn add_exact(&mut self, host: Span, leads_to: VirtualHost, texts: &[u8]) {
        let hasher = &self.hasher;
        let hash = |(host, _): &(Span, VirtualHost)| hasher.hash_one(host.of(texts));
        self.exact.insert_unique(hasher.hash_one(host.of(texts)), (host, leads_to), hash);
    }

    /// Adds `*` and a suffix that starts with a dot; the caller adds each once. A suffix that is longer than any
    /// host can never match and is left out.
    pub(super) fn add_suffix(&mut self, suffix: Span, leads_to: VirtualHost, texts: &[u8]) {
        let hasher = &self.hasher;
        let Some(word) = self.suffix_lengths.get_mut(suffix.len() / 64) else { return };
        *word |= 1 << (suffix.len() % 64);
        let hash = |(suffix, _): &(Span, VirtualHost)| hasher.hash_one(suffix.of(texts));
        self.suffixes.insert_unique(hasher.hash_one(suffix.of(texts)), (suffix, leads_to), hash);
    }

    /// Sets what `*` leads to.
    pub(super) fn set_any(&mut self, leads_to: VirtualHost) {
        self.any = Some(leads_to);
    }

    /// What `*` leads to.
    pub(super) const fn any(&self) -> Option<VirtualHost> {
        self.any
    }

    /// Number of host patterns.
    pub(super) fn len(&self) -> usize {
        self.exact.len() + self.suffixes.len() + usize::from(self.any.is_some())
    }

    /// The most specific pattern that covers a host. `*.example.com` covers `a.b.example.com`, not `example.com`.
    pub(super) fn find(&self, host: &Host, texts: &[u8]) -> Option<VirtualHost> {
        let host = host.as_bytes();
        if !self.exact.is_empty()
            && let Some((_, found)) = self.probe(&self.exact, host, texts)
        {
            return Some(*found);
        }
        if !self.suffixes.is_empty() {
            // From the second byte on: the wildcard stands for at least one character.
            for dot in memchr::memchr_iter(b'.', host.get(1..).unwrap_or_default()) {
                let suffix = host.get(dot + 1..).unwrap_or_default();
                let word = self.suffix_lengths.get(suffix.len() / 64).copied().unwrap_or(0);
                if word & (1 << (suffix.len() % 64)) != 0
                    && let Some((_, found)) = self.probe(&self.suffixes, suffix, texts)
                {
                    return Some(*found);
                }
            }
        }
        self.any
    }

    #[inline]
    fn probe<'i>(
        &self,
        index: &'i HashTable<(Span, VirtualHost)>,
        host: &[u8],
        texts: &[u8],
    ) -> Option<&'i (Span, VirtualHost)> {
        index.find(self.hasher.hash_one(host), |(known, _)| known.of(texts) == host)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "literals")]
    use super::*;
    use crate::table::texts::Texts;

    fn parsed(authority: &str) -> Option<String> {
        Host::parse(authority.as_bytes()).map(|host| String::from_utf8(host.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn authorities_are_brought_to_one_form() {
        for (authority, host) in [
            ("example.com", "example.com"),
            ("EXAMPLE.Com:8080", "example.com"),
            ("example.com:", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:80", "example.com"),
            ("[::1]", "::1"),
            ("[2001:DB8::1]:443", "2001:db8::1"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("", ""),
            (":80", ""),
        ] {
            assert_eq!(parsed(authority).as_deref(), Some(host), "{authority}");
        }
    }

    #[test]
    fn what_cannot_be_an_authority_is_refused() {
        for authority in ["a:b", "a:80:80", "::1", "[::1", "[::1]80", "[::1]:x", "a:-1", "a:+1", "a: 1"] {
            assert_eq!(parsed(authority), None, "{authority}");
        }
        assert_eq!(parsed(&"a".repeat(255)).map(|host| host.len()), Some(255));
        assert_eq!(parsed(&"a".repeat(256)), None);
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let mut texts = Texts::default();
        let mut index = HostIndex::default();
        let to = |server| VirtualHost { server, rules: HostRules::Http(RuleSet::EMPTY) };
        let long = format!(".{}", "x".repeat(300));
        let spans = ["www.example.com", ".example.com", ".b.example.com", &long].map(|text| texts.add(text));
        index.add_exact(spans[0], to(1), texts.bytes());
        index.add_suffix(spans[1], to(2), texts.bytes());
        index.add_suffix(spans[2], to(3), texts.bytes());
        index.add_suffix(spans[3], to(4), texts.bytes());
        let find = |index: &HostIndex, host: &str| {
            index.find(&Host::parse(host.as_bytes()).unwrap(), texts.bytes()).map(|found| found.server)
        };
        for (host, server) in [
            ("www.example.com", Some(1)),
            ("a.example.com", Some(2)),
            ("a.www.example.com", Some(2)),
            ("b.example.com", Some(2)),
            ("a.b.example.com", Some(3)),
            ("c.a.b.example.com", Some(3)),
            ("example.com", None),
            (".example.com", None),
            ("badexample.com", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(find(&index, host), server, "{host}");
        }
        index.set_any(to(9));
        assert_eq!(find(&index, ""), Some(9));
        assert_eq!(find(&index, "example.com"), Some(9));
        assert_eq!(find(&index, "www.example.com"), Some(1));
        assert_eq!(index.len(), 4);
    }
}
