//! Large bodies of known length between two plain sockets: spliced, not copied.
//!
//! Set-up costs some system calls, so only what is at least [`BULK_BYTES_MIN`] long goes this way.

use std::time::Duration;

use crate::shard::Shard;
use crate::shard::deadlines::{OnDue, Timer};
use crate::shard::turn::TURN_BYTES;
use crate::sys::socket::Socket;
use crate::sys::splice::{Pipe, Splice, Step};

/// From how many bytes on a body is spliced.
pub const BULK_BYTES_MIN: u64 = 40 * 1024;

/// Pipes a shard keeps, two descriptors each.
const PIPES_KEPT_MAX: usize = 32;

/// One end of the way: a socket, the timer that watches over waiting for it, and how long that may take.
#[derive(Clone, Copy)]
pub struct End<'e> {
    /// The socket.
    pub socket: &'e Socket,
    /// Its timer.
    pub timer: &'e Timer,
    /// The longest wait.
    pub gap: Duration,
    /// What ends a longer one.
    pub on_due: OnDue,
}

/// Which end failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BulkError {
    /// The destination closed, or its timer fired.
    Destination,
    /// No pipe could be had: nothing was moved.
    NoPipe,
    /// The source ended early, failed, or its timer fired.
    Source,
}

/// Moves exactly `left` bytes from one end to the other.
///
/// # Errors
/// See [`BulkError`]; the timer that fired says so itself.
pub async fn relay(shard: &Shard, from: End<'_>, to: End<'_>, mut left: u64) -> Result<(), BulkError> {
    let pipe = take_pipe(shard).ok_or(BulkError::NoPipe)?;
    shard.stats.spliced_bodies.add();
    let mut splice = Splice::new(from.socket, to.socket, pipe, shard.epoll);
    while left > 0 || splice.pending() > 0 {
        let taken = fill(&mut splice, left)?;
        left -= taken as u64;
        let given = splice.empty().map_err(|_| BulkError::Destination)?;
        match given {
            Step::Ended => return Err(BulkError::Destination),
            Step::WouldWait => wait_writable(&splice, to).await?,
            Step::Moved(_) if taken == 0 && splice.pending() == 0 && left > 0 => wait_readable(from).await?,
            // The destination may answer to the last bytes at once: who sent them must know that they are gone.
            Step::Moved(_) if left == 0 && splice.pending() == 0 => break,
            Step::Moved(count) => give_way(shard, to, count).await?,
        }
    }
    keep_pipe(shard, splice);
    Ok(())
}

/// A pipe that was kept, or a new one; `None` when no descriptor is left.
pub(super) fn take_pipe(shard: &Shard) -> Option<Pipe> {
    let kept = shard.pipes.borrow_mut().pop();
    kept.or_else(|| Pipe::new().ok())
}

/// Keeps the pipe for others, where it is empty.
pub(super) fn keep_pipe(shard: &Shard, splice: Splice<'_>) {
    if let Some(pipe) = splice.into_pipe() {
        let mut pipes = shard.pipes.borrow_mut();
        if pipes.len() < PIPES_KEPT_MAX {
            pipes.push(pipe);
        }
    }
}

fn fill(splice: &mut Splice<'_>, left: u64) -> Result<usize, BulkError> {
    if left == 0 {
        return Ok(0);
    }
    match splice.fill(usize::try_from(left).unwrap_or(usize::MAX)) {
        Ok(Step::Moved(count)) => Ok(count),
        Ok(Step::WouldWait) => Ok(0),
        Ok(Step::Ended) | Err(_) => Err(BulkError::Source),
    }
}

async fn wait_readable(from: End<'_>) -> Result<(), BulkError> {
    from.timer.arm(from.gap, from.on_due);
    let ready = monoio::select! {
        ready = from.socket.readable() => ready,
        () = from.timer.expiry() => Ok(()),
    };
    from.timer.disarm();
    if ready.is_err() || from.timer.fired() { Err(BulkError::Source) } else { Ok(()) }
}

async fn wait_writable(splice: &Splice<'_>, to: End<'_>) -> Result<(), BulkError> {
    debug_assert!(splice.pending() > 0);
    to.timer.arm(to.gap, to.on_due);
    let ready = to.socket.writable().await;
    to.timer.disarm();
    if ready.is_err() || to.timer.fired() { Err(BulkError::Destination) } else { Ok(()) }
}

/// Lets others run: these calls never wait by themselves. On io_uring the wait for a socket that is writable does it.
async fn give_way(shard: &Shard, to: End<'_>, count: usize) -> Result<(), BulkError> {
    if shard.epoll {
        shard.give_way(count).await;
        return Ok(());
    }
    if count >= TURN_BYTES / 4 {
        to.timer.arm(to.gap, to.on_due);
        let _ = to.socket.writable().await;
        to.timer.disarm();
    }
    Ok(())
}
