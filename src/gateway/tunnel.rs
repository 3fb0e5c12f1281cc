//! An upgraded connection: bytes both ways until both sides have ended, each end passed on as it comes (half-close).
//!
//! A direction that waits holds no buffer. Either side failing, or no byte in either direction for `idle`, ends both.

use std::net::Shutdown;
use std::time::Duration;

use super::stream::ByteStream;
use crate::shard::Shard;
use crate::shard::deadlines::{OnDue, Timer};
use crate::sys::buffer::{Buffer, Class};
use crate::sys::socket::Socket;
use crate::upstream::pool::Connection;

struct Ends<'t> {
    idle: Duration,
    timers: [&'t Timer; 2],
    sockets: [&'t Socket; 2],
}

impl Ends<'_> {
    fn rearm(&self) {
        for timer in self.timers {
            timer.arm(self.idle, OnDue::ShutBoth);
        }
    }

    fn abort(&self) {
        for socket in self.sockets {
            socket.shutdown(Shutdown::Both);
        }
    }
}

/// Relays between a client and an endpoint. `early` and `received` are what came before the switch was known.
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
    let ends = Ends { idle, timers: [timer, &upstream.timer], sockets: [client.socket(), &upstream.socket] };
    ends.rearm();
    monoio::join!(
        direction(shard, &ends, client, &upstream.socket, early),
        direction(shard, &ends, &upstream.socket, client, received)
    );
    if timer.fired() || upstream.timer.fired() {
        shard.stats.timeout_tunnel_idle.add();
    }
    timer.disarm();
    shard.stats.tunnels_open.sub();
}

async fn direction(
    shard: &Shard,
    ends: &Ends<'_>,
    from: &impl ByteStream,
    to: &impl ByteStream,
    first: Buffer,
) {
    let mut buffer = if first.is_empty() { Buffer::default() } else { first };
    loop {
        if !buffer.is_empty() {
            let filled = buffer.spare() == 0;
            let (result, returned) = to.write_all(buffer, || ends.rearm()).await;
            buffer = returned;
            buffer.clear();
            if result.is_err() {
                return ends.abort();
            }
            // A read that filled its buffer has more behind it: keep a buffer, a larger one.
            buffer = if filled { Buffer::new(Class::Large) } else { Buffer::default() };
        }
        if buffer.spare() == 0 {
            if from.readable().await.is_err() {
                return ends.abort();
            }
            buffer = Buffer::new(Class::Small);
        }
        let (result, returned) = from.read(buffer).await;
        buffer = returned;
        match result {
            Ok(0) => return to.end_sending(),
            Ok(count) => {
                ends.rearm();
                shard.give_way(count).await;
            }
            Err(_) => return ends.abort(),
        }
    }
}
