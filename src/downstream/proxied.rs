//! The PROXY protocol on a client's side: a header that a trusted proxy begins the connection with, and what endpoints
//! that ask for one are told.
//!
//! The header is read by the shard that keeps the connection, before anything else. A proxy that says nothing costs no
//! buffer; one that does not come to the end of its header in time, or begins with something else, is closed
//! without a word: whose bytes these are nobody could say. What came behind the header is handed on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::session::Session;
use crate::config::model::ProxyVersion;
use crate::gateway::REFUSED;
use crate::gateway::stream::ByteStream;
use crate::proxy_protocol::{
    Addresses, ClientCertificate, Facts, HEADER_BYTES_MAX, Outcome, parse, write_v1, write_v2,
};
use crate::shard::FRESH_DRAIN;
use crate::shard::deadlines::OnDue;
use crate::sys::buffer::{Buffer, Class};
use crate::tls::clients::common_name;

/// A buffer that is full holds enough for a verdict.
const _: () = assert!(HEADER_BYTES_MAX <= Class::Small.bytes());

/// Reads the header, which is to be whole within `timeout`. Returns what came behind it; `None` when the connection is
/// over.
pub(super) async fn read(session: &Session, timeout: Duration) -> Option<Buffer> {
    let Session { shard, wire, timer, .. } = session;
    let stats = &shard.stats;
    let began_ms = shard.deadlines.now_ms();
    let timeout = if shard.is_draining() { timeout.min(FRESH_DRAIN) } else { timeout };
    timer.arm(timeout, OnDue::CloseFresh);
    wire.readable().await.ok()?;
    if timer.fired() {
        if !shard.is_draining() {
            stats.timeout_proxy_header.add();
            tell(session, "timed out");
        }
        return None;
    }
    if shard.process.buffers_exhausted() {
        return None;
    }
    let waited = Duration::from_millis(shard.deadlines.now_ms() - began_ms);
    timer.arm(timeout.saturating_sub(waited), OnDue::ShutRead);
    let mut bytes = Buffer::new(Class::Small);
    loop {
        let (result, returned) = wire.read(bytes).await;
        bytes = returned;
        let reason = match result {
            Ok(1..) => match parse(bytes.filled()) {
                Outcome::Complete { addresses, length } => {
                    timer.disarm();
                    stats.proxy_headers.add();
                    if let Some(addresses) = addresses {
                        session.speaks_for(addresses);
                    }
                    bytes.consume(length);
                    return Some(if bytes.is_empty() { Buffer::default() } else { bytes });
                }
                Outcome::Incomplete => continue,
                Outcome::Invalid(why) => why.reason(),
            },
            _ if timer.fired() => {
                stats.timeout_proxy_header.add();
                tell(session, "timed out");
                return None;
            }
            // Opened and closed again, as monitors do.
            _ if bytes.is_empty() => return None,
            _ => "closed_in_header",
        };
        stats.proxy_headers_refused.add();
        tell(session, reason);
        return None;
    }
}

/// A peer that is to send headers and does not is most likely a mistake of configuration, here or there.
fn tell(session: &Session, reason: &str) {
    let peer = session.peer;
    if session.shard.may_warn() {
        tracing::warn!(%peer, reason, "connections are closed: no valid PROXY header from a peer that `proxy_protocol.from` names");
    }
    tracing::debug!(target: REFUSED, %peer, reason, "no valid PROXY header");
}

impl Session {
    /// The header for an endpoint. `sni` is the name that the client asked for where its TLS passes through.
    pub(super) fn proxy_header(&self, version: ProxyVersion, sni: Option<&str>) -> Vec<u8> {
        let destination = self.destination().or_else(|| self.wire.socket().local_address());
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let addresses = Addresses { source: self.client(), destination: destination.unwrap_or(nowhere) };
        let mut header = Vec::with_capacity(128);
        match (version, self.wire.machine()) {
            (ProxyVersion::V1, _) => write_v1(&mut header, &addresses),
            (ProxyVersion::V2, None) => {
                write_v2(&mut header, &addresses, &Facts { sni, ..Facts::default() });
            }
            (ProxyVersion::V2, Some(machine)) => {
                let leaf = machine.peer_certificates().first();
                let name = leaf.and_then(common_name);
                let certificate = leaf.map(|_| ClientCertificate {
                    common_name: name.as_deref(),
                    of_resumed_session: machine.is_resumed(),
                });
                let facts = Facts {
                    sni: sni.or_else(|| self.wire.made_for()?.name.as_deref()),
                    alpn: machine.alpn(),
                    tls_version: machine.version(),
                    certificate,
                };
                write_v2(&mut header, &addresses, &facts);
            }
        }
        header
    }
}
