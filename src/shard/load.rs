//! What the shards of a process know of each other: how many sessions each has open, and a queue in which one leaves
//! connections for another.
//!
//! A shard publishes its count with one relaxed store to a cache line of its own. A connection on its way counts for the
//! shard it goes to from the moment it is promised, so that a burst does not all go the same way. A queue takes
//! connections for one generation only: [`Peers::turn`] empties it when its shard takes over the next one or
//! drains, and whoever comes later is refused and keeps the connection. So the shard at the end always has the
//! listener in question, and none of its connections is under way when it ends.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::mailbox::{MailboxSender, ShardCommand};
use super::process::ConnectionPlace;
use super::random::Random;
use super::turnover::{Opened, Turnover};
use crate::table::ListenerId;

/// Up to this many shards an accept looks at all of them (a cache line each), beyond at two others.
const LOOKED_AT_MAX: usize = 128;

/// How often an accept looks when others got there first.
const LOOKS_MAX: usize = 4;

/// Connections that may wait in a shard's queue; it is emptied at each of the shard's turns.
const WAITING_MAX: usize = 256;

/// A connection on its way to another shard. No operation of a runtime refers to it.
#[derive(Debug)]
pub struct HandedOver {
    /// The socket.
    pub stream: TcpStream,
    /// The client.
    pub peer: SocketAddr,
    /// Its listener, the same number on both shards: they serve the same generation.
    pub listener: ListenerId,
    /// Its place under the process's cap.
    pub place: ConnectionPlace,
    /// To be dropped once the session counts.
    pub promise: Promise,
}

/// Counts a connection for a shard while it is on its way there.
#[derive(Debug)]
pub struct Promise {
    loads: Arc<Loads>,
    to: usize,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.loads.shards[self.to].counts.promised.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Two cache lines: processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    /// Sessions open; only the shard itself writes it, as the next.
    open: AtomicU32,
    /// Those of them that are older than a second.
    settled: AtomicU32,
    /// Connections on their way to the shard.
    promised: AtomicU32,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The generation whose listeners the shard has; `None` while it takes nothing.
    generation: Option<u64>,
    connections: Vec<HandedOver>,
}

struct OneShard {
    counts: Counts,
    waiting: Mutex<Waiting>,
    /// Weak: a mailbox closes with the supervisor, not with the last shard.
    mailbox: Weak<MailboxSender>,
}

/// The published loads and the queues of all shards.
pub struct Loads {
    shards: Box<[OneShard]>,
}

impl std::fmt::Debug for Loads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.shards.iter().map(|shard| &shard.counts)).finish()
    }
}

impl Loads {
    /// Of shards with these mailboxes.
    #[must_use]
    pub fn new(mailboxes: &[Arc<MailboxSender>]) -> Self {
        let shard = |mailbox| OneShard {
            counts: Counts::default(),
            waiting: Mutex::default(),
            mailbox: Arc::downgrade(mailbox),
        };
        Self { shards: mailboxes.iter().map(shard).collect() }
    }

    fn load(&self, shard: usize) -> Load {
        let Counts { open, settled, promised } = &self.shards[shard].counts;
        Load {
            sessions: open.load(Ordering::Relaxed).saturating_add(promised.load(Ordering::Relaxed)),
            settled: settled.load(Ordering::Relaxed),
        }
    }

    /// Counts one more for a shard unless its load is beyond `seen`: of several shards that look at once, one gets
    /// the place.
    fn promise(&self, shard: usize, seen: u32) -> bool {
        let Counts { open, promised, .. } = &self.shards[shard].counts;
        let before = promised.load(Ordering::Relaxed);
        open.load(Ordering::Relaxed).saturating_add(before) <= seen
            && promised.compare_exchange(before, before + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// A shard's view of the loads.
#[derive(Debug)]
pub struct Peers {
    loads: Arc<Loads>,
    id: usize,
    turnover: Turnover,
}

impl Peers {
    /// The view of shard `id`.
    #[must_use]
    pub fn new(loads: Arc<Loads>, id: usize) -> Self {
        Self { loads, id, turnover: Turnover::default() }
    }

    /// Counts a session of this shard.
    #[inline]
    #[must_use]
    pub fn opened(&self) -> Opened {
        let opened = self.turnover.open();
        self.publish();
        opened
    }

    /// Counts the end of a session.
    #[inline]
    pub fn ended(&self, opened: Opened) {
        self.turnover.end(opened);
        self.publish();
    }

    /// Tells that a second has passed.
    pub fn next_second(&self) {
        self.turnover.next_second();
        self.publish();
    }

    #[inline]
    fn publish(&self) {
        let counts = &self.loads.shards[self.id].counts;
        counts.open.store(self.turnover.sessions(), Ordering::Relaxed);
        counts.settled.store(self.turnover.settled(), Ordering::Relaxed);
    }

    /// The shard that a connection just accepted had better go to, if there is one: it counts there from now on.
    pub fn promise(&self, random: &Random) -> Option<Promise> {
        let own = self.loads.load(self.id);
        let count = self.loads.shards.len();
        if own.sessions == 0 || count == 1 {
            return None;
        }
        let high = self.turnover.is_high();
        let other = |step: usize| (self.id + 1 + step % (count - 1)) % count;
        for _ in 0..LOOKS_MAX {
            let (least, load) = if count <= LOOKED_AT_MAX {
                self.least(own, high, (0..count - 1).map(other))
            } else {
                self.least(own, high, [random.next(), random.next()].map(|step| other(step as usize)))
            }?;
            if self.loads.promise(least, load) {
                return Some(Promise { loads: Arc::clone(&self.loads), to: least });
            }
        }
        None
    }

    fn least(&self, own: Load, high: bool, others: impl IntoIterator<Item = usize>) -> Option<(usize, u32)> {
        let (mut sessions, mut settled) = (u64::from(own.sessions), u64::from(own.settled));
        let (mut seen, mut least) = (1, None);
        for shard in others {
            let load = self.loads.load(shard);
            sessions += u64::from(load.sessions);
            settled += u64::from(load.settled);
            seen += 1;
            if least.is_none_or(|(_, least)| load.sessions < least) {
                least = Some((shard, load.sessions));
            }
        }
        let mean = Load { sessions: (sessions / seen) as u32, settled: (settled / seen) as u32 };
        least.filter(|(_, least)| is_above(own, *least, mean, high))
    }

    /// Leaves a connection of `generation` with the shard it is promised to; false when that takes none any more.
    pub fn leave(&self, generation: u64, promise: Promise, make: impl FnOnce(Promise) -> HandedOver) -> bool {
        let to = &self.loads.shards[promise.to];
        // A supervisor that is gone takes the shards with it.
        let Some(mailbox) = to.mailbox.upgrade() else { return false };
        let mut waiting = to.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.generation != Some(generation) || waiting.connections.len() >= WAITING_MAX {
            return false;
        }
        waiting.connections.push(make(promise));
        let first = waiting.connections.len() == 1;
        drop(waiting);
        if first {
            mailbox.send(ShardCommand::TakeOver);
        }
        true
    }

    /// The connections that others left.
    pub fn take(&self) -> Vec<HandedOver> {
        std::mem::take(&mut self.waiting().connections)
    }

    /// As [`Self::take`]; from now on only connections of `generation` are taken, or none at all.
    pub fn turn(&self, generation: Option<u64>) -> Vec<HandedOver> {
        let mut waiting = self.waiting();
        waiting.generation = generation;
        std::mem::take(&mut waiting.connections)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.loads.shards[self.id].waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a shard has, or all have on average.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Load {
    /// Sessions open, or on their way.
    sessions: u32,
    /// Those that are older than a second.
    settled: u32,
}

/// Whether a shard with `own` sessions had better hand the next over to one with `least`.
///
/// As a rule: an eighth of the mean more, or one session where that is less. Where most sessions are short chance alone
/// makes such differences, and they are gone before moving a connection pays: there the shard must be a quarter
/// above the mean in sessions that last, too, and beyond what chance does (two standard deviations) in all.
fn is_above(own: Load, least: u32, mean: Load, high_turnover: bool) -> bool {
    if own.sessions < least.saturating_add((mean.sessions / 8).max(1)) {
        return false;
    }
    let quarter_above = |count: u32| count + count / 4;
    !high_turnover
        || own.settled > quarter_above(mean.settled)
            && own.sessions > quarter_above(mean.sessions) + 2 * mean.sessions.isqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::shard::mailbox::mailbox;

    fn shards(count: usize) -> (Vec<Arc<MailboxSender>>, Vec<Peers>) {
        let mailboxes: Vec<_> = (0..count).map(|_| Arc::new(mailbox().unwrap().0)).collect();
        let loads = Arc::new(Loads::new(&mailboxes));
        let peers = (0..count).map(|id| Peers::new(Arc::clone(&loads), id)).collect();
        (mailboxes, peers)
    }

    /// Opens `opened` sessions, each first on the shard that `kernel` chooses; returns the counts and the moves.
    fn spread(count: usize, opened: usize, kernel: impl Fn(u64) -> usize) -> (Vec<u32>, usize) {
        let (_mailboxes, peers) = shards(count);
        let random = Random::seeded(7);
        let mut moved = 0;
        for _ in 0..opened {
            let chosen = kernel(random.next());
            let to = peers[chosen].promise(&random).map_or(chosen, |promise| {
                moved += 1;
                promise.to
            });
            let _ = peers[to].opened();
        }
        let open = peers.iter().map(|peer| peer.turnover.sessions()).collect();
        (open, moved)
    }

    /// Few long-lived sessions are spread evenly, whether the kernel chooses by chance or always the same.
    #[test]
    fn spreads_few_sessions() {
        for (count, opened) in [(2_usize, 8_usize), (4, 8), (4, 40), (16, 64)] {
            let even = opened.div_ceil(count) as u32;
            let (chance, moved) = spread(count, opened, |number| number as usize % count);
            assert!(chance.iter().all(|open| *open <= even && *open + 1 >= even), "{chance:?}");
            assert!(moved < opened);
            let (same, _) = spread(count, opened, |_| 0);
            assert!(same.iter().all(|open| *open <= even && *open + 1 >= even), "{same:?}");
        }
    }

    /// Many sessions that chance spreads are left where they are, but for a few at first.
    #[test]
    fn leaves_chance_alone_where_it_is_fair() {
        let (open, moved) = spread(4, 40_000, |number| number as usize % 4);
        assert!(moved < 400, "{moved} moved");
        assert!(open.iter().all(|open| (8_700..=11_300).contains(open)), "{open:?}");
    }

    /// Two of very many shards are enough to look at.
    #[test]
    fn spreads_over_very_many_shards() {
        let (open, _) = spread(200, 20_000, |_| 0);
        assert!(open.iter().all(|open| (60..=160).contains(open)), "{open:?}");
    }

    fn open(peer: &Peers, count: usize) {
        for _ in 0..count {
            let _ = peer.opened();
        }
    }

    /// Where most sessions are short, a connection moves only when others that last are crowded.
    #[test]
    fn short_sessions_stay() {
        let (_mailboxes, peers) = shards(2);
        let random = Random::seeded(7);
        open(&peers[0], 300);
        open(&peers[1], 28);
        assert!(peers[0].promise(&random).is_some());
        for _ in 0..1000 {
            peers[0].ended(peers[0].opened());
        }
        assert!(peers[0].promise(&random).is_none());
        peers[0].next_second();
        peers[0].next_second();
        assert!(peers[0].promise(&random).is_some(), "no short ones any more");
        for _ in 0..1000 {
            peers[0].ended(peers[0].opened());
        }
        assert!(peers[0].promise(&random).is_some(), "300 that last on one shard are too many");
        assert_eq!(peers[0].loads.load(1).sessions, 28, "a promise that is dropped counts no more");
    }

    /// A promise counts at once, and the queue takes only what its shard can serve.
    #[test]
    fn a_queue_takes_one_generation() {
        let (_mailboxes, peers) = shards(2);
        let random = Random::seeded(7);
        let process = Arc::new(crate::shard::process::ProcessLimits::new(&Default::default()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        let leave = |generation| {
            let promise = peers[0].promise(&random).unwrap();
            let place = process.try_enter().unwrap();
            peers[0].leave(generation, promise, |promise| HandedOver {
                stream: stream.try_clone().unwrap(),
                peer: address,
                listener: ListenerId(0),
                place,
                promise,
            })
        };
        open(&peers[0], 1000);
        assert!(!leave(1), "before the first generation");
        assert!(peers[1].turn(Some(1)).is_empty());
        for _ in 0..WAITING_MAX {
            assert!(leave(1));
        }
        assert_eq!(peers[0].loads.load(1).sessions, WAITING_MAX as u32);
        assert!(!leave(1), "full");
        assert!(!leave(2), "of a generation to come");
        assert_eq!(peers[1].turn(Some(2)).len(), WAITING_MAX);
        assert_eq!(peers[0].loads.load(1).sessions, 0);
        assert!(!leave(1) && leave(2));
        assert_eq!(peers[1].take().len(), 1);
        assert!(peers[1].turn(None).is_empty());
        assert!(!leave(2), "while it drains");
    }
}
