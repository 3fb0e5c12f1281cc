//! Where a request goes: host, normal form of its path, route, cluster; and its head as the endpoint will read it.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::model::{ForwardPath, ServerTls, TlsMode, TlsTerms};
use crate::http1::refusal::Refusal;
use crate::http1::rewrite::{RequestFacts, write_request};
use crate::http1::target::{is_ambiguous, normalize};
use crate::message::{BodyLength, Method, RequestHead};
use crate::shard::Shard;
use crate::shard::installed::Installed;
use crate::shard::stats::Stats;
use crate::sys::buffer::{Buffer, Class};
use crate::table::{HostMatch, ListenerId, RouteFacts, RouteTable};
use crate::tls::identity::ClientIdentity;

/// An answer that ringgate makes itself: a status and the reason code in its body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalReply {
    /// Status.
    pub status: u16,
    /// Stable reason code.
    pub reason: &'static str,
}

impl LocalReply {
    /// Counts the answer, and a refusal by its status: 404, 408 and the 50x of endpoints or of exhaustion are none.
    pub fn count(self, stats: &Stats) {
        stats.local_replies.add();
        if matches!(self.status, 400 | 405 | 414 | 417 | 431 | 501 | 505) {
            stats.refusals.add();
        }
    }
}

impl From<Refusal> for LocalReply {
    fn from(refusal: Refusal) -> Self {
        Self { status: refusal.status(), reason: refusal.reason() }
    }
}

/// A request that no endpoint gets.
#[derive(Debug)]
pub struct Refused {
    /// The answer instead.
    pub reply: LocalReply,
    /// Where the client is to go.
    pub location: Option<Box<[u8]>>,
    /// Over this connection the client would be told the same again.
    pub close: bool,
}

impl From<LocalReply> for Refused {
    fn from(reply: LocalReply) -> Self {
        Self { reply, location: None, close: false }
    }
}

/// What a connection over TLS was made for.
#[derive(Clone, Debug)]
pub struct MadeFor {
    /// Name of the gateway whose server was chosen.
    pub gateway: Arc<str>,
    /// The policy of that server; the last one that the client is known to be good for.
    pub policy: Cell<[u8; 32]>,
    /// Its settings.
    pub settings: [u8; 32],
    /// The host that the client named (SNI).
    pub name: Option<Box<str>>,
    /// Who the client is, where it showed a certificate.
    pub client: Option<Box<ClientIdentity>>,
}

/// Facts of the connection a request came by.
#[derive(Clone, Copy)]
pub struct Client<'c> {
    /// Its address.
    pub peer: IpAddr,
    /// What it was made for, over TLS.
    pub tls: Option<&'c MadeFor>,
    /// Whether its certificate, if it showed one, is good on other terms.
    pub is_good_for: &'c dyn Fn(&TlsTerms) -> bool,
}

/// A request on its way.
#[derive(Debug)]
pub struct Plan {
    /// Index of the cluster in the table.
    pub cluster: usize,
    /// The upstream head.
    pub outgoing: Buffer,
    /// Framing of the body as sent upstream.
    pub framing: BodyLength,
    /// Method.
    pub method: Method,
    /// Whether a 101 is an answer.
    pub upgrade: bool,
}

/// What is to be done with a request.
#[derive(Debug)]
pub struct Planned<'t> {
    /// `Strict-Transport-Security` of its host.
    pub hsts: Option<&'t str>,
    /// Where it goes, or the answer to give instead.
    pub outcome: Result<Plan, Refused>,
}

/// Plans a request whose head lies in `bytes`.
pub fn plan<'t>(
    shard: &Shard,
    installed: &'t Installed,
    listener: ListenerId,
    head: &RequestHead,
    bytes: &[u8],
    client: Client<'_>,
    scratch: &mut Vec<u8>,
) -> Planned<'t> {
    match find_host(installed, listener, head.authority.of(bytes), client) {
        Ok(host) => Planned {
            hsts: host.server.hsts.as_deref(),
            outcome: plan_for(shard, installed, &host, head, bytes, client, scratch),
        },
        Err(reply) => {
            let name = client.tls.and_then(|made_for| made_for.name.as_deref());
            let host = without_port(head.authority.of(bytes));
            let close =
                reply.status == 421 && name.is_some_and(|name| host.eq_ignore_ascii_case(name.as_bytes()));
            Planned { hsts: None, outcome: Err(Refused { reply, location: None, close }) }
        }
    }
}

/// The host that an authority names on a listener, as far as it is served over such a connection.
fn find_host<'t>(
    installed: &'t Installed,
    listener: ListenerId,
    authority: &[u8],
    client: Client<'_>,
) -> Result<HostMatch<'t>, LocalReply> {
    let Some(host) = installed.table().host(listener, authority) else {
        return Err(LocalReply { status: 404, reason: "unknown_host" });
    };
    if is_misdirected(&host, client) {
        return Err(LocalReply { status: 421, reason: "misdirected_request" });
    }
    Ok(host)
}

fn plan_for(
    shard: &Shard,
    installed: &Installed,
    host: &HostMatch<'_>,
    head: &RequestHead,
    bytes: &[u8],
    client: Client<'_>,
    scratch: &mut Vec<u8>,
) -> Result<Plan, Refused> {
    let table = installed.table();
    let authority = head.authority.of(bytes);
    let gateway = host.gateway;
    let received = head.path.of(bytes);
    let path = if head.asterisk {
        b"*"
    } else {
        normalize(received, &gateway.path, scratch).map_err(LocalReply::from)?
    };
    if let Some(port) = host.server.https_redirect
        && !is_acme_challenge(path)
    {
        return Err(to_https(head, bytes, port));
    }
    let identity = client.tls.and_then(|made_for| made_for.client.as_deref());
    let facts = RouteFacts {
        authority,
        path,
        method: head.method_text.of(bytes),
        headers: &head.headers,
        buffer: bytes,
        client: identity,
    };
    let Some(route) = table.route(host, &facts) else {
        return Err(LocalReply { status: 404, reason: "no_route" }.into());
    };
    let cluster = cluster_of(installed, route)?;
    let path = match route.forward_path {
        ForwardPath::Normalized => path,
        ForwardPath::Original if is_ambiguous(received) => {
            return Err(LocalReply { status: 400, reason: "ambiguous_path" }.into());
        }
        ForwardPath::Original => received,
    };
    let request_id = shard.random.request_id();
    let facts = RequestFacts {
        path,
        peer: client.peer,
        trusted: gateway.is_trusted(client.peer),
        tls: client.tls.is_some(),
        client_certificate: identity.map_or("", |identity| &identity.element),
        request_id: &request_id,
        body: head.body,
    };
    let mut outgoing = Buffer::new(Class::Small);
    outgoing.append_with(|out| write_request(out, head, bytes, &facts));
    Ok(Plan { cluster, outgoing, framing: head.body, method: head.method, upgrade: head.upgrade.is_some() })
}

/// Challenges come over HTTP (RFC 8555 section 8.3), also to hosts that have no certificate yet.
const ACME_CHALLENGES: &[u8] = b"/.well-known/acme-challenge/";

/// A token and nothing else, of the base64url alphabet (RFC 8555 section 8.3): no server reads a way out of it.
fn is_acme_challenge(path: &[u8]) -> bool {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    path.strip_prefix(ACME_CHALLENGES).is_some_and(|rest| !rest.is_empty() && rest.iter().all(token))
}

/// Sends a client to the same resource over HTTPS; its bytes went through the parser, which leaves no more than a URI's.
fn to_https(head: &RequestHead, bytes: &[u8], port: u16) -> Refused {
    let host = without_port(head.authority.of(bytes));
    // What an escape in a host stands for is read in different ways.
    if host.is_empty() || host.contains(&b'%') {
        return LocalReply { status: 400, reason: "no_host_to_redirect_to" }.into();
    }
    let mut location = b"https://".to_vec();
    location.extend_from_slice(host);
    if port != 443 {
        location.extend_from_slice(format!(":{port}").as_bytes());
    }
    let path = head.path.of(bytes);
    location.extend_from_slice(if path.is_empty() { b"/" } else { path });
    if let Some(query) = head.query {
        location.push(b'?');
        location.extend_from_slice(query.of(bytes));
    }
    let reply = LocalReply { status: 301, reason: "https_redirect" };
    Refused { reply, location: Some(location.into_boxed_slice()), close: false }
}

/// The host of an authority that the table knows, in its brackets where it has them.
fn without_port(authority: &[u8]) -> &[u8] {
    let end = match memchr::memrchr(b']', authority) {
        Some(bracket) => bracket + 1,
        None => memchr::memchr(b':', authority).unwrap_or(authority.len()),
    };
    authority.get(..end).unwrap_or_default()
}

/// Whether a host is served only over other connections (RFC 9110 section 7.4): those that were made for its gateway
/// and on its terms. A client that reuses a connection for all names of a certificate must not slip past what its host
/// asks of clients; one that named no host does not reach one that needs a certificate.
///
/// Lists that revoke others than this client are no other terms: renewed every few days, they would end all connections.
fn is_misdirected(host: &HostMatch<'_>, client: Client<'_>) -> bool {
    match (client.tls, &host.server.tls) {
        (None, None) => false,
        (Some(made_for), Some(ServerTls::Terminate(terms))) => {
            let unnamed = terms.mode == TlsMode::Mutual && made_for.name.is_none();
            let is_good = || {
                let is_good = made_for.settings == terms.settings && (client.is_good_for)(terms);
                if is_good {
                    made_for.policy.set(terms.policy);
                }
                is_good
            };
            let elsewhere = unnamed || host.gateway.name != made_for.gateway;
            elsewhere || terms.policy != made_for.policy.get() && !is_good()
        }
        _ => true,
    }
}

fn cluster_of(installed: &Installed, route: &RouteTable) -> Result<usize, LocalReply> {
    let cluster = route.pick_cluster();
    if cluster < installed.endpoints.len() {
        Ok(cluster)
    } else {
        Err(LocalReply { status: 503, reason: "no_cluster" })
    }
}
