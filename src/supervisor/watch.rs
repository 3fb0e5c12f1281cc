//! Looks at the files that TLS settings name, and at the clock for the dates in them, on a thread of its own: a file
//! system that hangs holds up nobody else.
//!
//! A look asks for each file's stamp, nothing is opened. A change counts when two looks see the same: a writer may be half
//! way. After an event the thread rests until it is told what is in effect.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::event::{Event, EventSender};
use crate::config::effective::{Stamp, Stamps};

/// The second look at a change follows the first after this, or sooner.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Looks at a change before it counts though it goes on: other files may have changed for good.
const LOOKS_MAX: u32 = 10;

/// The clock may be set: dates are held against it at least this often.
const CLOCK: Duration = Duration::from_secs(60);

/// What the thread is to do.
#[derive(Clone, Default)]
pub(super) struct Orders {
    /// Time between two looks; `None`: there are none.
    pub(super) interval: Option<Duration>,
    /// What the files were like when they were read.
    pub(super) stamps: Arc<Stamps>,
    /// When a date passes, in seconds since 1970.
    pub(super) wake_at: Option<i64>,
}

#[derive(Default)]
struct State {
    orders: Orders,
    /// Grows with each order.
    serial: u64,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's handle; it ends with it.
#[derive(Default)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    is_running: bool,
}

impl Watch {
    /// Gives new orders; the first that ask for something start the thread.
    pub(super) fn order(&mut self, orders: Orders, events: &EventSender) {
        let is_idle = orders.stamps.is_empty() && orders.wake_at.is_none();
        if !self.is_running && is_idle {
            return;
        }
        let mut state = self.shared.lock();
        state.orders = orders;
        state.serial += 1;
        drop(state);
        self.shared.changed.notify_one();
        if !self.is_running {
            let (shared, events) = (Arc::clone(&self.shared), events.clone());
            let thread =
                thread::Builder::new().name("certificates".into()).spawn(move || watch(&shared, &events));
            self.is_running = thread.is_ok();
            if let Err(error) = thread {
                tracing::error!("certificates are not watched: no thread: {error}");
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_one();
    }
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed())
}

fn watch(shared: &Shared, events: &EventSender) {
    let (mut orders, mut serial, mut looker) = (Orders::default(), 0, Looker::default());
    loop {
        let pause = looker.pause(&orders);
        let state = shared.lock();
        let unchanged = |state: &mut State| state.serial == serial && !state.ended;
        let waited = shared.changed.wait_timeout_while(state, pause, unchanged);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return;
        }
        if state.serial != serial {
            (orders, serial, looker) = (state.orders.clone(), state.serial, Looker::default());
            continue;
        }
        drop(state);
        for event in looker.look(&orders) {
            if events.send(event).is_err() {
                return;
            }
        }
    }
}

/// What was seen since the last order.
#[derive(Default)]
struct Looker {
    /// Files by position, and what they are like now.
    changed: Vec<(usize, Option<Stamp>)>,
    looks: u32,
    told_change: bool,
    told_date: bool,
}

impl Looker {
    fn pause(&self, orders: &Orders) -> Duration {
        let look = orders.interval.filter(|_| !self.told_change);
        let look =
            look.map(|interval| if self.changed.is_empty() { interval } else { interval.min(SECOND_LOOK) });
        let date = orders.wake_at.filter(|_| !self.told_date);
        let date = date.map(|at| Duration::from_secs(u64::try_from(at - now()).unwrap_or(0)).min(CLOCK));
        look.into_iter().chain(date).min().unwrap_or(Duration::from_secs(3600))
    }

    fn look(&mut self, orders: &Orders) -> impl Iterator<Item = Event> + use<> {
        let is_date = !self.told_date && orders.wake_at.is_some_and(|at| at <= now());
        self.told_date |= is_date;
        let is_change = orders.interval.is_some() && !self.told_change && self.sees_change(&orders.stamps);
        self.told_change |= is_change;
        let date = is_date.then_some(Event::CertificatesDue);
        date.into_iter().chain(is_change.then_some(Event::CertificatesChanged))
    }

    fn sees_change(&mut self, stamps: &Stamps) -> bool {
        let changed = (0..).zip(stamps).filter_map(|(at, (path, old))| {
            let new = Stamp::of(path);
            (new != *old).then_some((at, new))
        });
        let changed: Vec<_> = changed.collect();
        self.looks = if changed.is_empty() { 0 } else { self.looks + 1 };
        let is_calm = changed == self.changed || self.looks == LOOKS_MAX;
        self.changed = changed;
        is_calm && !self.changed.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn stamps(paths: &[&Path]) -> Arc<Stamps> {
        Arc::new(paths.iter().map(|path| (path.to_path_buf(), Stamp::of(path))).collect())
    }

    /// Nothing, then a change that two looks agree on, then rest.
    #[test]
    fn a_change_counts_when_it_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let (a, gone) = (directory.path().join("a"), directory.path().join("gone"));
        fs::write(&a, "1").unwrap();
        let orders = Orders { interval: Some(CLOCK), stamps: stamps(&[&a, &gone]), wake_at: None };
        let mut looker = Looker::default();
        let mut sees = |content: Option<&str>| {
            content.iter().for_each(|content| fs::write(&a, content).unwrap());
            looker.sees_change(&orders.stamps)
        };
        assert!(!sees(Some("22")));
        assert!(!sees(Some("333")));
        for size in 4..LOOKS_MAX as usize {
            assert!(!sees(Some(&"x".repeat(size))));
        }
        // It never ends.
        assert!(!sees(Some("a")) && sees(Some("bc")));
        let mut looker = Looker::default();
        assert!(!looker.sees_change(&orders.stamps));
        // It may be just growing old enough.
        assert!(looker.sees_change(&orders.stamps) || looker.sees_change(&orders.stamps));
    }

    /// Dates pass whether files are looked at or not, and once.
    #[test]
    fn dates_pass_once() {
        let orders = Orders { interval: None, stamps: Arc::default(), wake_at: Some(now() - 1) };
        let mut looker = Looker::default();
        assert_eq!(looker.pause(&orders), Duration::ZERO);
        assert!(matches!(looker.look(&orders).collect::<Vec<_>>()[..], [Event::CertificatesDue]));
        assert_eq!(looker.look(&orders).count(), 0);
        assert!(looker.pause(&orders) > CLOCK);
        let later = Orders { wake_at: Some(now() + 7000), ..orders };
        assert_eq!(Looker::default().pause(&later), CLOCK);
    }
}
