//! An upgraded connection: from the switch of protocols on its bytes are relayed.

use std::time::Duration;

use super::relay::{self, End, Side, Terms};
use super::stream::ByteStream;
use crate::shard::Shard;
use crate::shard::deadlines::Timer;
use crate::sys::buffer::Buffer;
use crate::upstream::pool::Connection;

/// Relays between a client and an endpoint. `early` and `received` are what came before the switch was known. No byte in
/// either direction for `idle` ends both.
pub async fn relay(
    shard: &Shard,
    client: &impl ByteStream,
    timer: &Timer,
    early: Buffer,
    upstream: Connection,
    received: Buffer,
    idle: Duration,
) {
    shard.stats.tunnels_open.add();
    let client = Side { stream: client, timer };
    let endpoint = Side { stream: &upstream.wire, timer: &upstream.timer };
    let terms = Terms { idle, duration_max: None };
    let relayed = relay::relay(shard, client, endpoint, early, received, terms).await;
    if relayed.end == End::Idle {
        shard.stats.timeout_tunnel_idle.add();
    }
    shard.stats.tunnels_open.sub();
}
