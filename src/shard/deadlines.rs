//! The coarse deadline list of a shard: one `u32` per timer, looked through every [`SWEEP`].
//!
//! Arming a timer is a store, so a timer per read or write costs next to nothing. When one is due the sweep ends the
//! operation under way from outside: it shuts the socket's direction down, or cancels the read. The operation then
//! completes by itself and its owner asks [`Timer::fired`]: nothing is dropped while the kernel still refers to it.
//! A timer fires at the earliest when its time is up and at the latest two sweeps later.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use monoio::io::{CancelHandle, Canceller};

use crate::sys::socket::{has_bytes, is_broken, shutdown_fd};

/// Time between two sweeps.
pub const SWEEP: Duration = Duration::from_millis(20);

/// Unit of the list: coarse enough for `u32` to last 497 days.
const TICK_MS: u128 = 10;

/// How a timer ends the operation it watches over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnDue {
    /// Cancels a read started with [`Timer::cancel_handle`]; the socket stays usable.
    CancelRead,
    /// Shuts down receiving of a connection that has not sent a byte yet; a drain brings the time forward. Does nothing
    /// where bytes wait: a request whose head was read must not lose its body.
    CloseFresh,
    /// The same for a connection without a request under way; a drain does it at once.
    CloseIdle,
    /// Ends a wait for [`Timer::expiry`] at a relay, whose sockets are then reset; the end of a drain does it at once.
    EndRelay,
    /// Shuts down both directions: reads end, writes and connects fail.
    ShutBoth,
    /// Shuts down receiving: a read ends as at the end of the stream. What the peer still sends is answered with a reset,
    /// RFC 1122 section 4.2.2.13, so this is for connections that are over.
    ShutRead,
    /// Ends a wait for [`Timer::expiry`]; the socket stays usable.
    StopWaiting,
}

/// Ticks since the shard started; 0 in `due` means "not armed", so time starts at 1.
#[derive(Default)]
struct Lists {
    due: Vec<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
}

struct Entry {
    fd: RawFd,
    on_due: OnDue,
    fired: bool,
    /// A client whose going away ends the operation, too; -1 for none.
    watched: RawFd,
    client_gone: bool,
    canceller: Option<Canceller>,
    waiting: Option<Waker>,
}

/// All timers of a shard.
pub struct Deadlines {
    lists: RefCell<Lists>,
    now: Cell<u32>,
    started: Instant,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { lists: RefCell::default(), now: Cell::new(1), started: Instant::now() }
    }
}

impl Deadlines {
    /// A timer for operations on `fd`; it must be dropped before the socket is closed.
    pub fn timer(self: &Rc<Self>, fd: RawFd) -> Timer {
        let mut lists = self.lists.borrow_mut();
        let entry = Entry {
            fd,
            on_due: OnDue::ShutBoth,
            fired: false,
            watched: -1,
            client_gone: false,
            canceller: None,
            waiting: None,
        };
        let index = if let Some(index) = lists.free.pop() {
            lists.due[index as usize] = 0;
            lists.entries[index as usize] = entry;
            index
        } else {
            lists.due.push(0);
            lists.entries.push(entry);
            (lists.due.len() - 1) as u32
        };
        Timer { deadlines: Rc::clone(self), index }
    }

    /// Milliseconds since the shard started, as of the last sweep.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::from(self.now.get()) * TICK_MS as u64
    }

    /// Timers that exist, for leak checks.
    #[must_use]
    pub fn timers(&self) -> usize {
        let lists = self.lists.borrow();
        lists.due.len() - lists.free.len()
    }

    /// Fires every armed timer that would act as `on_due` says.
    pub fn fire_all(&self, on_due: OnDue) {
        let mut lists = self.lists.borrow_mut();
        let Lists { due, entries, .. } = &mut *lists;
        for (due, entry) in due.iter_mut().zip(entries) {
            if *due != 0 && entry.on_due == on_due {
                *due = 0;
                entry.fire();
            }
        }
    }

    /// Makes every armed timer that would act as `on_due` says due after `timeout` at the latest.
    pub fn hasten(&self, on_due: OnDue, timeout: Duration) {
        let latest = self.now.get() + ticks(timeout);
        let mut lists = self.lists.borrow_mut();
        let Lists { due, entries, .. } = &mut *lists;
        for (due, entry) in due.iter_mut().zip(entries) {
            if *due > latest && entry.on_due == on_due {
                *due = latest;
            }
        }
    }

    /// Ends operations whose client has gone. A system call for each that is watched, so not for every sweep.
    pub fn look_after_clients(&self) {
        for entry in &mut self.lists.borrow_mut().entries {
            if entry.watched >= 0 && is_broken(entry.watched) {
                entry.watched = -1;
                entry.client_gone = true;
                shutdown_fd(entry.fd, Shutdown::Both);
            }
        }
    }

    /// Advances the clock and fires what is due. Returns how many fired.
    pub fn sweep(&self) -> usize {
        let now = (self.started.elapsed().as_millis() / TICK_MS) as u32 + 1;
        self.now.set(now);
        let mut fired = 0;
        let mut lists = self.lists.borrow_mut();
        let Lists { due, entries, .. } = &mut *lists;
        for (due, entry) in due.iter_mut().zip(entries) {
            if *due != 0 && *due <= now {
                *due = 0;
                entry.fire();
                fired += 1;
            }
        }
        fired
    }
}

impl Entry {
    fn fire(&mut self) {
        let may_be_too_late = matches!(self.on_due, OnDue::CloseFresh | OnDue::CloseIdle);
        if may_be_too_late && has_bytes(self.fd) {
            return;
        }
        self.fired = true;
        match self.on_due {
            OnDue::CancelRead => self.canceller = self.canceller.take().map(Canceller::cancel),
            OnDue::EndRelay | OnDue::StopWaiting => {
                if let Some(waker) = self.waiting.take() {
                    waker.wake();
                }
            }
            OnDue::ShutBoth => shutdown_fd(self.fd, Shutdown::Both),
            OnDue::CloseFresh | OnDue::CloseIdle | OnDue::ShutRead => shutdown_fd(self.fd, Shutdown::Read),
        }
    }
}

/// `timeout` in ticks from the last sweep on. One tick more: the clock may be almost a sweep behind, and a timer never
/// fires early.
fn ticks(timeout: Duration) -> u32 {
    let behind = SWEEP.as_millis() / TICK_MS + 1;
    (timeout.as_millis() / TICK_MS + behind).min(u128::from(u32::MAX / 2)) as u32
}

/// One timer; disarmed and freed when dropped.
pub struct Timer {
    deadlines: Rc<Deadlines>,
    index: u32,
}

impl Timer {
    /// Starts or restarts the timer: due after `timeout`.
    #[inline]
    pub fn arm(&self, timeout: Duration, on_due: OnDue) {
        let ticks = ticks(timeout);
        let mut lists = self.deadlines.lists.borrow_mut();
        lists.due[self.index as usize] = self.deadlines.now.get() + ticks;
        let entry = &mut lists.entries[self.index as usize];
        entry.on_due = on_due;
        entry.fired = false;
    }

    /// Stops the timer; whether it fired stays known.
    #[inline]
    pub fn disarm(&self) {
        self.deadlines.lists.borrow_mut().due[self.index as usize] = 0;
    }

    /// Ends the operations on this socket, too, once the connection of `client` is reset. The caller ends the watch
    /// before that socket closes.
    pub fn watch(&self, client: RawFd) {
        let entry = &mut self.deadlines.lists.borrow_mut().entries[self.index as usize];
        entry.watched = client;
        entry.client_gone = false;
    }

    /// Ends the watch. Returns whether the client had gone.
    pub fn unwatch(&self) -> bool {
        let entry = &mut self.deadlines.lists.borrow_mut().entries[self.index as usize];
        entry.watched = -1;
        entry.client_gone
    }

    /// Whether it fired since it was last armed.
    #[inline]
    #[must_use]
    pub fn fired(&self) -> bool {
        self.deadlines.lists.borrow().entries[self.index as usize].fired
    }

    /// Waits until the timer fires, armed with [`OnDue::StopWaiting`] or [`OnDue::EndRelay`].
    pub async fn expiry(&self) {
        poll_fn(|context| {
            let entry = &mut self.deadlines.lists.borrow_mut().entries[self.index as usize];
            if entry.fired {
                return Poll::Ready(());
            }
            if !entry.waiting.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                entry.waiting = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// The handle that [`OnDue::CancelRead`] works through.
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        let mut lists = self.deadlines.lists.borrow_mut();
        lists.entries[self.index as usize].canceller.get_or_insert_with(Canceller::new).handle()
    }

    /// Gives the canceller's memory back: a session that turns idle keeps only its number in the list.
    pub fn forget_canceller(&self) {
        self.deadlines.lists.borrow_mut().entries[self.index as usize].canceller = None;
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut lists = self.deadlines.lists.borrow_mut();
        lists.due[self.index as usize] = 0;
        lists.entries[self.index as usize].fd = -1;
        lists.entries[self.index as usize].watched = -1;
        lists.entries[self.index as usize].canceller = None;
        lists.entries[self.index as usize].waiting = None;
        lists.free.push(self.index);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    /// Closing an idle connection leaves one alone on which a request has arrived: all of it can still be read.
    #[test]
    fn spares_connections_with_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let deadlines = Rc::new(Deadlines::default());
        for sends in [false, true] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut session, _) = listener.accept().unwrap();
            let timer = deadlines.timer(session.as_raw_fd());
            timer.arm(Duration::from_secs(60), OnDue::CloseIdle);
            if sends {
                client.write_all(b"head").unwrap();
                // A blocking look: until the bytes are there.
                session.peek(&mut [0]).unwrap();
            }
            deadlines.fire_all(OnDue::CloseIdle);
            assert_eq!(timer.fired(), !sends);
            if sends {
                client.write_all(b"body").unwrap();
                let mut all = [0; 8];
                session.read_exact(&mut all).unwrap();
                assert_eq!(&all, b"headbody");
            } else {
                assert_eq!(session.read(&mut [0]).unwrap(), 0);
            }
        }
    }
}
