//! Waiting for a condition, with a deadline instead of a sleep.

use std::sync::{Arc, Condvar, Mutex};

use super::DEADLINE;

/// A value that threads can wait on.
#[derive(Debug, Default)]
pub(crate) struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    /// Changes the value and wakes whoever waits for it.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.value.lock().unwrap());
        self.changed.notify_all();
        result
    }

    /// Looks at the value.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.value.lock().unwrap())
    }

    /// Waits until `wanted` holds; panics with `what` at the deadline.
    pub(crate) fn wait(&self, what: &str, mut wanted: impl FnMut(&T) -> bool) {
        let guard = self.value.lock().unwrap();
        let (guard, timeout) =
            self.changed.wait_timeout_while(guard, DEADLINE, |value| !wanted(value)).unwrap();
        // A panic with the lock held would poison it for those who print the diagnosis.
        drop(guard);
        assert!(!timeout.timed_out(), "waited {DEADLINE:?} for {what}");
    }
}

/// A gate that is shut until somebody opens it; clones are the same gate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<Watched<bool>>);

impl Gate {
    /// A shut gate.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Lets everybody through from now on.
    pub(crate) fn open(&self) {
        self.0.update(|open| *open = true);
    }

    /// Whether it is open.
    pub(crate) fn is_open(&self) -> bool {
        self.0.read(|open| *open)
    }

    /// Waits until the gate is open; panics at the deadline.
    pub(crate) fn wait(&self) {
        self.0.wait("a gate to open", |open| *open);
    }
}
