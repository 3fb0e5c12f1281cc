//! How long the sessions of a shard last, told from a few counters: each session keeps the number of the second in
//! which it was opened.

use std::cell::Cell;

/// Short sessions in a second that count for nothing: probes of a few a second say little about the others.
const SHORT_FREE: u32 = 200;

/// The second in which a session was opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Opened(u32);

/// Sessions that are open, by age, and short ones that ended lately.
#[derive(Debug, Default)]
pub struct Turnover {
    second: Cell<u32>,
    /// Open, of this second and the one before.
    fresh: [Cell<u32>; 2],
    /// Open, older.
    settled: Cell<u32>,
    /// Ended before they were settled, in this second and the one before.
    short: [Cell<u32>; 2],
}

fn add(counter: &Cell<u32>) {
    counter.set(counter.get().saturating_add(1));
}

impl Turnover {
    /// Counts a session.
    #[must_use]
    pub fn open(&self) -> Opened {
        add(&self.fresh[0]);
        Opened(self.second.get())
    }

    /// Takes an ended session out.
    pub fn end(&self, opened: Opened) {
        let counter = match self.second.get().wrapping_sub(opened.0) {
            age @ 0..=1 => {
                add(&self.short[0]);
                &self.fresh[age as usize]
            }
            _ => &self.settled,
        };
        counter.set(counter.get().saturating_sub(1));
    }

    /// Begins the next second.
    pub fn next_second(&self) {
        self.second.set(self.second.get().wrapping_add(1));
        self.settled.set(self.settled.get() + self.fresh[1].get());
        self.fresh[1].set(self.fresh[0].take());
        self.short[1].set(self.short[0].take());
    }

    /// Sessions open.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        self.settled() + self.fresh[0].get() + self.fresh[1].get()
    }

    /// Sessions open for more than a second.
    #[must_use]
    pub fn settled(&self) -> u32 {
        self.settled.get()
    }

    /// Whether most sessions are short. More of them in a second than sessions are open: by Little's law they last
    /// less than a second.
    #[must_use]
    pub fn is_high(&self) -> bool {
        self.short[0].get().max(self.short[1].get()) > self.sessions().max(SHORT_FREE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session settles after one to two seconds and is taken out of where it is counted.
    #[test]
    fn sessions_settle() {
        let turnover = Turnover::default();
        let (first, second) = (turnover.open(), turnover.open());
        turnover.next_second();
        let third = turnover.open();
        assert_eq!((turnover.sessions(), turnover.settled()), (3, 0));
        turnover.end(second);
        turnover.next_second();
        assert_eq!((turnover.sessions(), turnover.settled()), (2, 1));
        turnover.end(third);
        assert_eq!((turnover.sessions(), turnover.settled()), (1, 1));
        turnover.end(first);
        assert_eq!((turnover.sessions(), turnover.settled()), (0, 0));
    }

    /// Long sessions that end together are no turnover, short ones are for a while, few are never.
    #[test]
    fn short_sessions_make_it_high() {
        let turnover = Turnover::default();
        let long: Vec<_> = (0..1000).map(|_| turnover.open()).collect();
        turnover.next_second();
        turnover.next_second();
        long.into_iter().for_each(|opened| turnover.end(opened));
        assert!(!turnover.is_high());
        for _ in 0..SHORT_FREE {
            turnover.end(turnover.open());
        }
        assert!(!turnover.is_high());
        turnover.end(turnover.open());
        assert!(turnover.is_high());
        turnover.next_second();
        assert!(turnover.is_high());
        turnover.next_second();
        assert!(!turnover.is_high());
    }
}
