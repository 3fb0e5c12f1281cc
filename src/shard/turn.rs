//! Giving way to the other tasks of a shard.
//!
//! On io_uring every operation waits for a completion, so tasks take turns by themselves. On epoll an operation whose
//! data is there ends at once: a fast peer's session could run for ever. Such a session counts what it moves and
//! steps back behind the others from time to time. A task that wakes itself would run again at once in monoio 0.2.4,
//! so a second task does the waking.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Bytes that one session moves before it gives way; a request counts as [`REQUEST_COST`].
pub const TURN_BYTES: usize = 256 * 1024;

/// What a request costs of a turn: 32 of them are one.
pub const REQUEST_COST: usize = TURN_BYTES / 32;

/// The tasks of a shard that gave way.
#[derive(Debug, Default)]
pub struct Turns {
    waiting: RefCell<Vec<Waker>>,
    usher: RefCell<Option<Waker>>,
    /// What the running tasks moved since the last of them gave way.
    spent: Cell<usize>,
}

impl Turns {
    /// Counts `cost` bytes; once a turn is used up, lets all other tasks run first.
    pub async fn spend(&self, cost: usize) {
        let spent = self.spent.get() + cost;
        if spent < TURN_BYTES {
            self.spent.set(spent);
            return;
        }
        self.spent.set(0);
        let mut gave_way = false;
        poll_fn(|context| {
            if std::mem::replace(&mut gave_way, true) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            if let Some(usher) = self.usher.take() {
                usher.wake();
            }
            Poll::Pending
        })
        .await;
    }

    /// Wakes the tasks that gave way, behind those that are due already. Runs as a task of its own, for ever.
    pub async fn usher(&self) -> std::convert::Infallible {
        poll_fn(|context| {
            self.waiting.take().into_iter().for_each(Waker::wake);
            *self.usher.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}
