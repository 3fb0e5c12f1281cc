//! How the supervisor talks to a shard: a queue under a mutex and a doorbell socket.
//!
//! The shard has no foreign wakers (they would cost every task an atomic); it reads the doorbell like any socket.
//! Answers go back through the supervisor's own channel.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;

use super::stats::StatsSnapshot;
use crate::downstream::listener::BoundListener;
use crate::table::RoutingTable;

/// What a shard is told.
pub enum ShardCommand {
    /// Drop what `Prepare` of this generation brought.
    Abort {
        /// Generation.
        generation: u64,
    },
    /// Make the prepared generation the effective one.
    Commit {
        /// Generation.
        generation: u64,
    },
    /// Accept what waits, then no more; finish exchanges, close idle connections, end at the deadline.
    Drain {
        /// Time for what is under way.
        deadline: Duration,
    },
    /// Report the counters.
    Dump,
    /// Keep a new table and new sockets ready.
    Prepare(Box<Prepared>),
    /// End at once.
    Stop,
    /// Serve what other shards left.
    TakeOver,
}

/// A generation before its commit.
pub struct Prepared {
    /// The shard's own table.
    pub table: Box<RoutingTable>,
    /// Sockets bound and not yet listening, for listeners that this shard does not own yet.
    pub sockets: Vec<BoundListener>,
}

/// What a shard answers.
pub enum ShardEvent {
    /// A generation is effective.
    Committed {
        /// Generation.
        generation: u64,
        /// The failure, where a socket could not listen.
        error: Option<String>,
    },
    /// Counters.
    Dumped(Box<ShardDump>),
    /// The shard ended by itself or as told.
    Ended {
        /// Why, when it was not told to.
        error: Option<String>,
        /// What was still under way.
        cut: Cut,
    },
    /// A generation is ready to commit.
    Prepared {
        /// Generation.
        generation: u64,
    },
    /// Tables that no session uses any more, to be dropped away from the shard.
    Retired(Vec<Box<RoutingTable>>),
    /// The shard's runtime stands.
    Started {
        /// Driver and flags.
        rung: crate::sys::ring::Rung,
        /// Better ones, and why not those.
        passed_over: Vec<(crate::sys::ring::Rung, String)>,
    },
}

/// What a drain's deadline cut.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cut {
    /// Requests whose response was not sent to its end.
    pub exchanges: u64,
    /// Tunnels.
    pub tunnels: u64,
}

/// Counters and gauges of a shard at one moment.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ShardDump {
    /// Shard number.
    pub shard: usize,
    /// Effective generation.
    pub generation: u64,
    /// Microseconds since the shard started.
    pub age_us: u64,
    /// Microseconds of CPU time that its thread used.
    pub cpu_us: u64,
    /// Buffers in use.
    pub buffers_in_use: usize,
    /// Timers that exist.
    pub timers: usize,
    /// Counters.
    pub stats: StatsSnapshot,
}

#[derive(Default)]
struct Queue {
    commands: Mutex<VecDeque<ShardCommand>>,
}

/// The supervisor's end.
pub struct MailboxSender {
    queue: Arc<Queue>,
    doorbell: StdUnixStream,
}

/// The shard's end, to be opened on its thread.
pub struct MailboxReceiver {
    queue: Arc<Queue>,
    doorbell: StdUnixStream,
}

/// A connected pair of ends.
///
/// # Errors
/// When no descriptor is left.
pub fn mailbox() -> io::Result<(MailboxSender, MailboxReceiver)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let queue = Arc::<Queue>::default();
    Ok((
        MailboxSender { queue: Arc::clone(&queue), doorbell: ours },
        MailboxReceiver { queue, doorbell: theirs },
    ))
}

impl MailboxSender {
    /// Queues a command and rings. A full doorbell is already ringing; a closed one means that the shard ended,
    /// which its `Ended` event says.
    pub fn send(&self, command: ShardCommand) {
        self.queue.commands.lock().unwrap_or_else(PoisonError::into_inner).push_back(command);
        let _ = (&self.doorbell).write(&[1]);
    }
}

impl MailboxReceiver {
    /// Moves the doorbell into the calling thread's runtime.
    ///
    /// # Errors
    /// When the runtime can not take the socket.
    pub fn open(self, epoll: bool) -> io::Result<Mailbox> {
        // epoll needs a non-blocking socket, io_uring of older kernels a blocking one.
        self.doorbell.set_nonblocking(epoll)?;
        let doorbell = UnixStream::from_std(self.doorbell)?;
        Ok(Mailbox { queue: self.queue, doorbell, scratch: vec![0; 64] })
    }
}

/// The shard's end, open.
pub struct Mailbox {
    queue: Arc<Queue>,
    doorbell: UnixStream,
    scratch: Vec<u8>,
}

impl Mailbox {
    /// The next command; `None` once the supervisor is gone.
    pub async fn next(&mut self) -> Option<ShardCommand> {
        loop {
            let queued = self.queue.commands.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            if let Some(command) = queued {
                return Some(command);
            }
            let (result, scratch) = self.doorbell.read(std::mem::take(&mut self.scratch)).await;
            self.scratch = scratch;
            if !matches!(result, Ok(1..)) {
                return None;
            }
        }
    }
}
