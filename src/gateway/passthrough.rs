//! A connection that no request is read from: its bytes go to an endpoint of a service as they are, and back.
//!
//! Until the endpoint is connected nothing was sent to anyone, so another may be tried. The routing table is let go of
//! before the relay begins, which may last for days.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::REFUSED;
use super::exchange::DIALS_MAX;
use super::relay::{self, End, Side, Terms};
use super::stream::ByteStream;
use crate::config::model::ProxyVersion;
use crate::shard::Shard;
use crate::shard::deadlines::Timer;
use crate::shard::installed::Installed;
use crate::sys::buffer::Buffer;
use crate::table::L4Rules;
use crate::upstream::balance::Tried;
use crate::upstream::connect::dial;
use crate::upstream::pool::Connection;

/// The client's side.
#[derive(Clone, Copy)]
pub struct Client<'c, S> {
    /// Its bytes.
    pub stream: &'c S,
    /// A timer on its socket.
    pub timer: &'c Timer,
    /// Its address.
    pub peer: SocketAddr,
    /// The address that it connected to, where that is not the socket's.
    pub destination: Option<IpAddr>,
}

/// What else is known of a client when its bytes go on to an endpoint.
#[derive(Clone, Debug)]
pub struct RelayFacts {
    /// Name of the gateway.
    pub gateway: Arc<str>,
    /// The name in its ClientHello.
    pub sni: Option<Box<str>>,
}

/// A connection to an endpoint, and what the relay is to know of its service.
pub struct Target {
    connection: Connection,
    address: SocketAddr,
    cluster: Arc<str>,
    terms: Terms,
}

/// The cluster whose turn it is by the first rule that matches; `None` where none does, which is counted.
#[must_use]
pub fn route<S: ByteStream>(
    shard: &Shard,
    installed: &Installed,
    rules: L4Rules,
    client: Client<'_, S>,
) -> Option<usize> {
    let socket_ip = || client.stream.socket().local_address().map(|address| address.ip());
    let destination = || client.destination.or_else(socket_ip);
    let route = installed.table().l4_route(rules, client.peer.ip(), destination);
    if route.is_none() {
        shard.stats.relays_refused.add();
        tracing::debug!(target: REFUSED, peer = %client.peer, "no rule matches the connection");
    }
    route.map(|route| route.pick_cluster())
}

/// Connects to an endpoint of a cluster; `None` where none can be reached, which is counted. `header` makes the PROXY
/// protocol's, for services that ask for it.
pub async fn connect(
    shard: &Rc<Shard>,
    installed: Rc<Installed>,
    cluster: usize,
    header: &dyn Fn(ProxyVersion) -> Vec<u8>,
) -> Option<Target> {
    let target = reach(shard, &installed, cluster, header).await;
    if target.is_none() {
        shard.stats.relays_refused.add();
    }
    target
}

async fn reach(
    shard: &Rc<Shard>,
    installed: &Installed,
    cluster: usize,
    header: &dyn Fn(ProxyVersion) -> Vec<u8>,
) -> Option<Target> {
    let settings = installed.table().clusters().get(cluster)?;
    let header = settings.proxy_protocol.map(header).unwrap_or_default();
    let endpoints = installed.endpoints.get(cluster)?;
    let mut tried = Tried::new();
    for _ in 0..DIALS_MAX {
        let index = settings.rotor.pick(&tried).filter(|index| !tried.contains(*index))?;
        let endpoint = endpoints.get(index)?;
        let Ok(connection) = dial(shard, endpoint, settings, &header).await else {
            tried.insert(index);
            continue;
        };
        return Some(Target {
            connection,
            address: endpoint.address,
            cluster: Arc::clone(&settings.name),
            terms: Terms { idle: settings.tcp_idle_timeout, duration_max: settings.connection_duration_max },
        });
    }
    None
}

/// Relays to the end. `early` is what came from the client so far.
pub async fn run<S: ByteStream>(
    shard: &Shard,
    client: Client<'_, S>,
    target: Target,
    early: Buffer,
    facts: &RelayFacts,
) {
    let Target { connection, address, cluster, terms } = target;
    let stats = &shard.stats;
    stats.relays.add();
    stats.relays_open.add();
    let began = Instant::now();
    let side = Side { stream: client.stream, timer: client.timer };
    let endpoint = Side { stream: &connection.wire, timer: &connection.timer };
    let relayed = relay::relay(shard, side, endpoint, early, Buffer::default(), terms).await;
    if let Some(fault) = connection.wire.tls_fault() {
        stats.upstream_tls_failed.add();
        if shard.may_warn() {
            tracing::warn!("endpoint {address} of service {cluster}: TLS failed: {fault}");
        }
    }
    match relayed.end {
        End::Idle => stats.timeout_tcp_idle.add(),
        End::Expired => stats.timeout_connection_duration.add(),
        End::Broken => stats.relays_broken.add(),
        End::ClientClosed | End::EndpointClosed | End::Drained => {}
    }
    stats.relays_open.sub();
    tracing::debug!(
        target: "ringgate::connection",
        peer = %client.peer,
        gateway = %facts.gateway,
        sni = facts.sni.as_deref(),
        %cluster,
        endpoint = %address,
        received = relayed.received,
        sent = relayed.sent,
        ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        reason = relayed.end.reason(),
        "relay ended"
    );
}
