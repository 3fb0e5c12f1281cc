//! When requests start at a constant rate.
//!
//! Request k is due at a fixed time, whatever became of the ones before it. The pacer gives each due request to the
//! connection that has been idle longest; when all are busy it waits for the first that gets free, and that wait is
//! part of its latency. So is the generator's own lag, which is also counted apart.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::task::{Poll, Waker};

use super::clock::{self, SECOND, Timer};

/// Ages that many abandoned requests are told apart by.
const ABANDONED_GROUPS: u64 = 1_000;

/// A request's start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Turn {
    /// When it was to start.
    pub(super) due: u64,
    /// When it starts.
    pub(super) started: u64,
    /// By how much the generator itself was late.
    pub(super) lag: u64,
}

#[derive(Debug, Default)]
struct Seat {
    due: Cell<Option<u64>>,
    waker: RefCell<Option<Waker>>,
}

/// The schedule of one thread's connections.
#[derive(Debug)]
pub(super) struct Schedule {
    start: u64,
    /// Nanoseconds between two requests.
    interval: f64,
    /// Requests there are.
    count: u64,
    next: Cell<u64>,
    idle: RefCell<VecDeque<usize>>,
    seats: Vec<Seat>,
    pacer: RefCell<Option<Waker>>,
}

impl Schedule {
    /// `rate` requests a second from `start` on, `count` in all.
    pub(super) fn new(start: u64, rate: f64, count: u64, connections: usize) -> Self {
        Self {
            start,
            interval: SECOND as f64 / rate,
            count,
            next: Cell::new(0),
            idle: RefCell::default(),
            seats: (0..connections).map(|_| Seat::default()).collect(),
            pacer: RefCell::default(),
        }
    }

    /// When request `number` is due.
    pub(super) fn due(&self, number: u64) -> u64 {
        self.start + (number as f64 * self.interval) as u64
    }

    /// When the last one is over: the place of the next, if there were one.
    pub(super) fn end(&self) -> u64 {
        self.due(self.count)
    }

    /// Requests that are due and not started, and connections that are idle.
    pub(super) fn backlog(&self, now: u64) -> (u64, usize) {
        let due = match now.checked_sub(self.start) {
            Some(since) => ((since as f64 / self.interval) as u64 + 1).min(self.count),
            None => 0,
        };
        (due.saturating_sub(self.next.get()), self.idle.borrow().len())
    }

    /// Takes all requests out that have not started. Those due from `from` on go to `take` in groups of about the same
    /// age: a moment in which they were due, and how many.
    pub(super) fn abandon(&self, from: u64, mut take: impl FnMut(u64, u64)) {
        let first = (from.saturating_sub(self.start) as f64 / self.interval).ceil() as u64;
        let mut next = self.next.get().max(first);
        let group = (self.count.saturating_sub(next) / ABANDONED_GROUPS).max(1);
        while next < self.count {
            let count = group.min(self.count - next);
            take(self.due(next + count / 2), count);
            next += count;
        }
        self.next.set(self.count);
        self.wake_all();
    }

    /// The next request for a connection that is free `now`, or one that falls due later; `None` when all are taken.
    #[inline]
    pub(super) async fn next(&self, connection: usize, now: u64) -> Option<Turn> {
        let number = self.next.get();
        if number == self.count {
            return None;
        }
        let due = self.due(number);
        if due <= now {
            self.next.set(number + 1);
            // With another connection idle, this request could have started before.
            let lag = if self.idle.borrow().is_empty() { 0 } else { now - due };
            return Some(Turn { due, started: now, lag });
        }
        self.idle.borrow_mut().push_back(connection);
        if let Some(pacer) = self.pacer.take() {
            pacer.wake();
        }
        let due = self.assigned(connection).await?;
        let started = clock::now();
        Some(Turn { due, started, lag: started.saturating_sub(due) })
    }

    async fn assigned(&self, connection: usize) -> Option<u64> {
        poll_fn(|context| {
            let Some(seat) = self.seats.get(connection) else { return Poll::Ready(None) };
            if let Some(due) = seat.due.take() {
                return Poll::Ready(Some(due));
            }
            if self.next.get() == self.count {
                return Poll::Ready(None);
            }
            *seat.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Gives out due requests until all are taken.
    pub(super) async fn pace(&self, timer: &Timer) -> io::Result<()> {
        loop {
            self.give_out(clock::now());
            let number = self.next.get();
            if number == self.count {
                self.wake_all();
                return Ok(());
            }
            let due = self.due(number);
            if self.idle.borrow().is_empty() {
                self.somebody_idle().await;
            } else {
                timer.until(due).await?;
            }
        }
    }

    fn give_out(&self, now: u64) {
        while self.next.get() < self.count {
            let due = self.due(self.next.get());
            if due > now {
                return;
            }
            let Some(connection) = self.idle.borrow_mut().pop_front() else { return };
            self.next.set(self.next.get() + 1);
            if let Some(seat) = self.seats.get(connection) {
                seat.due.set(Some(due));
                if let Some(waker) = seat.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    async fn somebody_idle(&self) {
        poll_fn(|context| {
            if !self.idle.borrow().is_empty() || self.next.get() == self.count {
                return Poll::Ready(());
            }
            *self.pacer.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn wake_all(&self) {
        let wakers = self.seats.iter().map(|seat| seat.waker.take()).chain([self.pacer.take()]);
        wakers.flatten().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that is busy past due times takes the oldest request, without a lag: it was not the generator.
    #[test]
    fn a_busy_time_is_no_lag() {
        let schedule = Schedule::new(1_000, 1e6, 5, 2);
        assert_eq!((schedule.due(2), schedule.end()), (3_000, 6_000));
        let mut context = std::task::Context::from_waker(Waker::noop());
        let mut turn = |connection, now| {
            let mut next = std::pin::pin!(schedule.next(connection, now));
            match next.as_mut().poll(&mut context) {
                Poll::Ready(turn) => Some(turn),
                Poll::Pending => None,
            }
        };
        assert_eq!(turn(0, 1_000), Some(Some(Turn { due: 1_000, started: 1_000, lag: 0 })));
        assert_eq!(turn(0, 2_900), Some(Some(Turn { due: 2_000, started: 2_900, lag: 0 })));
        assert_eq!(turn(1, 2_900), None);
        assert_eq!(schedule.backlog(3_100), (1, 1));
        // Connection 1 was idle all the time: now the generator is to blame.
        assert_eq!(turn(0, 3_500), Some(Some(Turn { due: 3_000, started: 3_500, lag: 500 })));
        schedule.give_out(4_000);
        assert_eq!(schedule.backlog(4_000), (0, 0));
        let mut left = Vec::new();
        schedule.abandon(0, |due, count| left.push((due, count)));
        assert_eq!(left, [(5_000, 1)]);
        assert_eq!(turn(0, 9_000), Some(None));
    }
}
