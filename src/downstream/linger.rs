//! Lingering close: a socket closed with unread bytes answers them with a reset, and the reset can destroy a response
//! that the client has not read yet. So sending ends first, and what still comes is dropped for a while, without a
//! buffer.

use std::io;
use std::time::Duration;

use super::Wire;
use crate::gateway::stream::ByteStream;
use crate::shard::Shard;
use crate::shard::deadlines::{OnDue, Timer};

/// Bytes dropped before the connection is closed all the same.
const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Ends sending, then drops what comes until the client closes, `linger` is over or `LINGER_BYTES_MAX` came.
pub async fn linger(shard: &Shard, wire: &Wire, timer: &Timer, linger: Duration) {
    wire.end_sending();
    let socket = wire.socket();
    timer.arm(linger, OnDue::ShutRead);
    let mut dropped = 0;
    while dropped < LINGER_BYTES_MAX && !timer.fired() {
        match socket.discard_now(LINGER_BYTES_MAX - dropped) {
            Ok(count @ 1..) => dropped += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if socket.readable().await.is_err() {
                    break;
                }
            }
            _ => break,
        }
    }
    if timer.fired() {
        shard.stats.timeout_linger.add();
    }
    timer.disarm();
}
