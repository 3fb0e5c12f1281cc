//! Lingering close: a socket closed with unread bytes answers them with a reset, and the reset can destroy a response
//! that the client has not read yet. So sending ends first, and what still comes is read and dropped for a while.

use std::net::Shutdown;
use std::time::Duration;

use crate::shard::Shard;
use crate::shard::deadlines::{OnDue, Timer};
use crate::sys::buffer::{Buffer, Class};
use crate::sys::socket::Socket;

/// Bytes read and dropped before the connection is closed all the same.
const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Ends sending, then reads until the client closes, `linger` is over or `LINGER_BYTES_MAX` came.
pub async fn linger(shard: &Shard, socket: &Socket, timer: &Timer, linger: Duration) {
    socket.shutdown(Shutdown::Write);
    timer.arm(linger, OnDue::ShutRead);
    let mut buffer = Buffer::new(Class::Medium);
    let mut dropped = 0;
    while dropped < LINGER_BYTES_MAX {
        buffer.clear();
        let (result, returned) = socket.read(buffer).await;
        buffer = returned;
        match result {
            Ok(count @ 1..) if !timer.fired() => dropped += count,
            _ => break,
        }
    }
    if timer.fired() {
        shard.stats.timeout_linger.add();
    }
    timer.disarm();
}
