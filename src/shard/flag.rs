//! A wake-up between tasks of one shard: sets a flag and wakes the one task that waits for it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A flag with one waiting task.
#[derive(Debug, Default)]
pub struct Flag {
    set: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Flag {
    /// Sets the flag and wakes the waiting task.
    pub fn set(&self) {
        self.set.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Waits until the flag is set; it stays set.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.set.get() {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
