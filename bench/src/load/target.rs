//! What is asked: the URL, and where it leads.

use std::net::{SocketAddr, ToSocketAddrs};

/// A checked `http` or `https` URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    /// The URL as given.
    pub(crate) url: String,
    /// Host and port as they stand in the URL, for the Host field.
    pub(crate) authority: String,
    /// Whether it is `https`.
    pub(crate) secure: bool,
    host: String,
    port: u16,
    /// Path and query.
    pub(crate) path: String,
}

impl Target {
    /// Reads a URL.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let wanted = "expected a URL such as http://127.0.0.1:8080/path or https://example.com/";
        let (secure, rest) = match url.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("http://").ok_or(wanted)?),
        };
        if rest.contains(|c: char| c.is_ascii_control() || c.is_whitespace() || !c.is_ascii()) {
            return Err("a URL has only printable ASCII characters: escape the others as %XX".to_owned());
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let slash = if path.starts_with('/') { "" } else { "/" };
        if authority.contains('@') {
            return Err("user names in URLs are not supported: use --header 'Authorization: ..'".to_owned());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().map_err(|_| format!("`{port}` is not a port"))?)
            }
            _ => (authority, if secure { 443 } else { 80 }),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(wanted.to_owned());
        }
        Ok(Self {
            url: url.to_owned(),
            authority: authority.to_owned(),
            secure,
            host: host.to_owned(),
            port,
            path: format!("{slash}{path}"),
        })
    }

    /// The first address of the host.
    pub(crate) fn resolve(&self) -> Result<SocketAddr, String> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        let mut addresses = addresses.map_err(|error| format!("`{}` has no address: {error}", self.host))?;
        addresses.next().ok_or_else(|| format!("`{}` has no address", self.host))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn reads_urls() {
        for (url, authority, host, port, path) in [
            ("http://a", "a", "a", 80, "/"),
            ("http://a:81?q", "a:81", "a", 81, "/?q"),
            ("http://127.0.0.1:9/x/y?z#f", "127.0.0.1:9", "127.0.0.1", 9, "/x/y?z"),
            ("http://[::1]:8080/", "[::1]:8080", "::1", 8080, "/"),
            ("http://[::1]", "[::1]", "::1", 80, "/"),
            ("https://a", "a", "a", 443, "/"),
        ] {
            let target = Target::parse(url).unwrap();
            let parts = (target.authority.as_str(), target.host.as_str(), target.port, target.path.as_str());
            assert_eq!(parts, (authority, host, port, path), "{url}");
            assert_eq!(target.secure, url.starts_with("https:"), "{url}");
        }
        for wrong in [
            "",
            "a",
            "ftp://a",
            "https://",
            "http://",
            "http://:80",
            "http://a:x",
            "http://u@a/",
            "http://a/ b",
        ] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Target::parse("http://[::1]:7/").unwrap().resolve(), Ok("[::1]:7".parse().unwrap()));
    }
}
