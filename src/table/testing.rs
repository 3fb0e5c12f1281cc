//! Short ways to write configurations and requests in tests.

use std::sync::Arc;

use regex::bytes::Regex;

use super::RouteFacts;
use crate::config::model::{
    Destination, ForwardPath, Gateway, HostPattern, HttpMatch, HttpRoute, Limits, Origin, PathPolicy,
    Protocol, Server, StringMatch, Timeouts, VirtualService,
};
use crate::message::{Header, HeaderId, Span};
use crate::tls::identity::ClientIdentity;

/// A request that can lend its [`RouteFacts`].
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) method: String,
    headers: Vec<Header>,
    buffer: Vec<u8>,
    pub(super) client: Option<ClientIdentity>,
}

impl Request {
    pub(super) fn new(method: &str, path: &str) -> Self {
        Self {
            authority: "example.com".to_owned(),
            path: path.to_owned(),
            method: method.to_owned(),
            headers: Vec::new(),
            buffer: Vec::new(),
            client: None,
        }
    }

    pub(super) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub(super) fn host(mut self, authority: &str) -> Self {
        self.authority = authority.to_owned();
        self
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        let mut span = |text: &str| {
            let start = self.buffer.len();
            self.buffer.extend_from_slice(text.as_bytes());
            Span::new(start, self.buffer.len())
        };
        let (name, value) = (span(name), span(value));
        self.headers.push(Header { name, value, id: HeaderId::Other });
        self
    }

    pub(super) fn facts(&self) -> RouteFacts<'_> {
        RouteFacts {
            authority: self.authority.as_bytes(),
            path: self.path.as_bytes(),
            method: self.method.as_bytes(),
            headers: &self.headers,
            buffer: &self.buffer,
            client: self.client.as_ref(),
        }
    }
}

/// `*`, `*.example.com` or `www.example.com`.
pub(super) fn pattern(host: &str) -> HostPattern {
    match host.strip_prefix('*') {
        Some("") => HostPattern::Any,
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact(host.into()),
    }
}

pub(super) fn server(port: u16, hosts: &[&str]) -> Server {
    Server {
        port,
        bind: None,
        freebind: false,
        protocol: Protocol::Http,
        tls: None,
        https_redirect: None,
        hsts: None,
        answer_plain_http: false,
        proxy_protocol: None,
        hosts: hosts.iter().map(|host| pattern(host)).collect(),
        origin: Origin::default(),
    }
}

pub(super) fn gateway(name: &str, servers: Vec<Server>) -> Gateway {
    Gateway {
        name: name.into(),
        servers,
        trusted_proxies: Vec::new(),
        limits: Limits::default(),
        timeouts: Timeouts::default(),
        path: PathPolicy::default(),
        origin: Origin::default(),
    }
}

pub(super) fn service(
    name: &str,
    hosts: &[&str],
    gateways: &[usize],
    http: Vec<HttpRoute>,
) -> VirtualService {
    VirtualService {
        name: name.into(),
        hosts: hosts.iter().map(|host| pattern(host)).collect(),
        gateways: gateways.to_vec(),
        http,
        tls: Vec::new(),
        tcp: Vec::new(),
        origin: Origin::default(),
    }
}

/// A rule with one destination, its blocks made by [`block`].
pub(super) fn rule(name: &str, matches: Vec<HttpMatch>) -> HttpRoute {
    HttpRoute {
        name: Some(name.into()),
        matches,
        route: vec![Destination { cluster: 0, weight: 1 }],
        forward_path: ForwardPath::Normalized,
        origin: Origin::default(),
    }
}

/// A block: path, method and headers in the notation of [`text`]; `""` leaves path or method open.
pub(super) fn block(path: &str, method: &str, headers: &[(&str, &str)]) -> HttpMatch {
    HttpMatch {
        uri: text(path),
        method: text(method),
        headers: headers.iter().filter_map(|(name, value)| Some(((*name).into(), text(value)?))).collect(),
        ..HttpMatch::default()
    }
}

/// `=exact`, `^prefix`, `~regex`, or nothing.
pub(super) fn text(notation: &str) -> Option<StringMatch> {
    let rest: Arc<str> = notation.get(1..)?.into();
    Some(match notation.as_bytes().first()? {
        b'=' => StringMatch::Exact(rest),
        b'^' => StringMatch::Prefix(rest),
        _ => StringMatch::Regex(Arc::new(Regex::new(&format!("^(?:{rest})$")).ok()?)),
    })
}
