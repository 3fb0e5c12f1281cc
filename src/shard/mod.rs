//! A shard: one pinned thread with its own runtime, listeners, routing table, upstream pools, buffers and timers.
//!
//! [`run`] is the thread's body: it builds the runtime, then obeys the mailbox until it is told to end. Nothing of a
//! shard is touched by another thread.

pub mod deadlines;
pub mod flag;
pub mod installed;
pub mod load;
pub mod mailbox;
pub mod process;
pub mod random;
pub mod stats;
pub mod turn;
pub mod turnover;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::deadlines::{Deadlines, OnDue, SWEEP};
use self::flag::Flag;
use self::installed::{Installed, KnownEndpoints, Retired};
use self::load::{Loads, Peers};
use self::mailbox::{Cut, MailboxReceiver, Prepared, ShardCommand, ShardDump, ShardEvent};
use self::process::ProcessLimits;
use self::random::Random;
use self::stats::Stats;
use self::turn::Turns;
use crate::config::model::Driver;
use crate::downstream::accept::Listeners;
use crate::downstream::{Scratch, client_hello, handover};
use crate::http1::reply::DateCache;
use crate::supervisor::event::{Event, EventSender};
use crate::sys::buffer;
use crate::sys::cpu::thread_cpu_time;
use crate::sys::ring;
use crate::sys::splice::Pipe;
use crate::upstream::pool::Endpoint;

/// How long a drain waits for the first byte of a connection that was opened and says nothing: enough for a request
/// on its way, too short for a connection that was opened in advance to hold the end up.
pub const FRESH_DRAIN: Duration = Duration::from_secs(1);

/// Sweeps that the end of a drain waits for its relays to be reset, which takes each of them one turn.
const CUT_SWEEPS_MAX: usize = 25;

/// What a shard is started with.
pub struct ShardStart {
    /// Shard number, from 0.
    pub id: usize,
    /// Core to be pinned to; `None` leaves it to the scheduler.
    pub core: Option<u32>,
    /// Which I/O driver to use.
    pub driver: Driver,
    /// Submission entries of the ring.
    pub ring_entries: u32,
    /// The process's caps.
    pub process: Arc<ProcessLimits>,
    /// The loads of all shards.
    pub loads: Arc<Loads>,
    /// Commands.
    pub mailbox: MailboxReceiver,
    /// Where events go, with the shard's number.
    pub events: EventSender,
}

/// The state that all tasks of a shard share.
pub struct Shard {
    /// Shard number, from 0.
    pub id: usize,
    /// Whether the driver is epoll.
    pub epoll: bool,
    /// The process's caps.
    pub process: Arc<ProcessLimits>,
    /// The other shards, as far as accepts are balanced.
    pub peers: Peers,
    /// Timers.
    pub deadlines: Rc<Deadlines>,
    /// Counters.
    pub stats: Rc<Stats>,
    /// The `Date` of local replies.
    pub date: RefCell<DateCache>,
    /// Request ids, jitter.
    pub random: Random,
    /// Listeners owned.
    pub listeners: Listeners,
    /// Fairness between tasks, on epoll.
    pub turns: Rc<Turns>,
    /// Empty pipes for large bodies.
    pub pipes: RefCell<Vec<Pipe>>,
    /// For hellos in several records.
    pub hello_scratch: RefCell<client_hello::Scratch>,
    /// Allocations for active sessions.
    pub scratch: RefCell<Vec<Scratch>>,
    installed: RefCell<Option<Rc<Installed>>>,
    endpoints: RefCell<KnownEndpoints>,
    retired: Retired,
    draining: Cell<bool>,
    /// What the end of a drain's time cut.
    cut: Cell<Option<Cut>>,
    /// Second of the last look at idle upstream connections.
    reaped_s: Cell<u64>,
    /// Second of the last warning.
    warned_s: Cell<u64>,
    drained: Flag,
    started: Instant,
    events: EventSender,
}

/// Runs a shard on the calling thread until it is told to end.
pub fn run(start: ShardStart) {
    let ShardStart { id, core, driver, ring_entries, process, loads, mailbox, events } = start;
    let _guard = PanicGuard { id, events: events.clone() };
    let ended = |result: Result<Cut, String>| {
        let cut = result.as_ref().copied().unwrap_or_default();
        let _ = events.send(Event::Shard(id, ShardEvent::Ended { error: result.err(), cut }));
    };
    if let Some(core) = core
        && !core_affinity::set_for_current(core_affinity::CoreId { id: core as usize })
    {
        return ended(Err(format!("shard {id} can not be pinned to core {core}: start with --no-pin")));
    }
    let built = match ring::build(driver, ring_entries) {
        Ok(built) => built,
        Err(error) => return ended(Err(error)),
    };
    let mut runtime = built.runtime;
    let epoll = built.rung == ring::Rung::Epoll;
    let _ = events
        .send(Event::Shard(id, ShardEvent::Started { rung: built.rung, passed_over: built.passed_over }));
    let result = runtime.block_on(async {
        let shard = Rc::new(Shard::new(id, epoll, process, Peers::new(loads, id), events.clone()));
        let mut mailbox = match mailbox.open(epoll) {
            Ok(mailbox) => mailbox,
            Err(error) => return Err(format!("the mailbox of shard {id} could not be opened: {error}")),
        };
        shard.sweep();
        monoio::spawn(keep_time(Rc::clone(&shard)));
        if epoll {
            let shard = Rc::clone(&shard);
            monoio::spawn(async move { shard.turns.usher().await });
        }
        let commands = async {
            while let Some(command) = mailbox.next().await {
                if shard.obey(command).await.is_break() {
                    break;
                }
            }
        };
        monoio::select! {
            () = commands => {}
            () = shard.drained.wait() => {}
        }
        shard.endpoints.borrow_mut().visit(Endpoint::say_rest);
        Ok(shard.cut())
    });
    ended(result);
}

/// Tells the supervisor of a shard that panicked, where a panic does not end the process.
struct PanicGuard {
    id: usize,
    events: EventSender,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = Some(format!("shard {} panicked", self.id));
            let _ = self.events.send(Event::Shard(self.id, ShardEvent::Ended { error, cut: Cut::default() }));
        }
    }
}

/// The shard's clock: fires timers, keeps the date, reaps idle upstream connections.
async fn keep_time(shard: Rc<Shard>) {
    loop {
        monoio::time::sleep(SWEEP).await;
        shard.sweep();
    }
}

impl Shard {
    fn new(id: usize, epoll: bool, process: Arc<ProcessLimits>, peers: Peers, events: EventSender) -> Self {
        Self {
            id,
            epoll,
            process,
            peers,
            deadlines: Rc::default(),
            stats: Rc::default(),
            date: RefCell::new(DateCache::new(0)),
            random: Random::from_os(),
            listeners: Listeners::default(),
            turns: Rc::default(),
            pipes: RefCell::default(),
            hello_scratch: RefCell::default(),
            scratch: RefCell::default(),
            installed: RefCell::default(),
            endpoints: RefCell::default(),
            retired: Retired::default(),
            draining: Cell::new(false),
            cut: Cell::default(),
            reaped_s: Cell::new(0),
            warned_s: Cell::new(0),
            drained: Flag::default(),
            started: Instant::now(),
            events,
        }
    }

    /// The effective table; `None` before the first commit.
    #[must_use]
    pub fn installed(&self) -> Option<Rc<Installed>> {
        self.installed.borrow().clone()
    }

    /// Whether the shard is to end: responses say `Connection: close`, idle connections are closed.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Whether the drain's time is up: what still lasts is cut.
    #[must_use]
    pub fn is_cutting(&self) -> bool {
        self.cut.get().is_some()
    }

    /// Whether a warning about a condition that may last can be logged: one per second and shard.
    pub fn may_warn(&self) -> bool {
        let second = self.deadlines.now_ms() / 1000 + 1;
        self.warned_s.replace(second) != second
    }

    /// Counts what a session moved and, on epoll, makes it give way from time to time.
    pub async fn give_way(&self, cost: usize) {
        if self.epoll {
            self.turns.spend(cost).await;
        }
    }

    fn sweep(&self) {
        self.deadlines.sweep();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.date.borrow_mut().refresh(unix.as_secs());
        let now_ms = self.deadlines.now_ms();
        if now_ms / 1000 != self.reaped_s.replace(now_ms / 1000) {
            self.endpoints.borrow_mut().visit(|endpoint| {
                endpoint.reap(now_ms);
                endpoint.say_due(now_ms);
            });
            self.deadlines.look_after_clients();
            // Of those that nobody uses at this moment, half go each second.
            let mut pipes = self.pipes.borrow_mut();
            let kept = pipes.len() / 2;
            pipes.truncate(kept);
            drop(pipes);
            self.peers.next_second();
        }
        if self.process.buffers_exhausted() {
            buffer::trim();
        }
        if !self.retired.borrow().is_empty() {
            self.report(ShardEvent::Retired(self.retired.take()));
        }
        if self.draining.get() && self.stats.sessions_open.value() == 0 && self.listeners.all_closed() {
            self.drained.set();
        }
    }

    async fn obey(self: &Rc<Self>, command: ShardCommand) -> std::ops::ControlFlow<()> {
        match command {
            ShardCommand::Abort { generation } => self.listeners.abort(generation),
            ShardCommand::Commit { generation } => {
                let error = self.commit(generation).err();
                self.report(ShardEvent::Committed { generation, error });
            }
            ShardCommand::Drain { deadline } => self.drain(deadline),
            ShardCommand::Dump => self.report(ShardEvent::Dumped(Box::new(self.dump()))),
            ShardCommand::Prepare(prepared) => self.prepare(*prepared),
            ShardCommand::TakeOver => handover::take_over(self, self.peers.take()),
            ShardCommand::Stop => return std::ops::ControlFlow::Break(()),
        }
        std::ops::ControlFlow::Continue(())
    }

    fn report(&self, event: ShardEvent) {
        let _ = self.events.send(Event::Shard(self.id, event));
    }

    fn prepare(&self, prepared: Prepared) {
        let generation = prepared.table.generation;
        let installed =
            Installed::new(prepared.table, &mut self.endpoints.borrow_mut(), Rc::clone(&self.retired));
        self.listeners.prepare(generation, Rc::new(installed), prepared.sockets);
        self.report(ShardEvent::Prepared { generation });
    }

    /// Swaps the table first: a socket that starts to listen finds its routes in place.
    fn commit(self: &Rc<Self>, generation: u64) -> Result<(), String> {
        let Some((installed, sockets)) = self.listeners.take_prepared(generation) else {
            return Err(format!("generation {generation} was not prepared on shard {}", self.id));
        };
        if self.draining.get() {
            return Err(format!("shard {} drains", self.id));
        }
        // What was left for the generation before still finds its listeners.
        handover::take_over(self, self.peers.turn(Some(generation)));
        let before = self.installed.replace(Some(Rc::clone(&installed)));
        self.listeners.commit(self, before, &installed, sockets)
    }

    fn drain(self: &Rc<Self>, deadline: Duration) {
        if self.draining.replace(true) {
            return;
        }
        // From here on the others keep what they accept.
        handover::take_over(self, self.peers.turn(None));
        self.listeners.close_all();
        self.deadlines.fire_all(OnDue::CloseIdle);
        self.deadlines.hasten(OnDue::CloseFresh, FRESH_DRAIN);
        let shard = Rc::clone(self);
        monoio::spawn(async move {
            monoio::time::sleep(deadline).await;
            shard.cut_relays().await;
            shard.drained.set();
        });
    }

    /// Resets what is relayed: closed by the end of the process, it would look whole.
    async fn cut_relays(&self) {
        self.cut.set(Some(self.under_way()));
        self.deadlines.fire_all(OnDue::EndRelay);
        for _ in 0..CUT_SWEEPS_MAX {
            if self.under_way().tunnels == 0 {
                return;
            }
            monoio::time::sleep(SWEEP).await;
        }
    }

    /// What was under way at the shard's end.
    fn cut(&self) -> Cut {
        self.cut.get().unwrap_or_else(|| self.under_way())
    }

    fn under_way(&self) -> Cut {
        let tunnels = self.stats.tunnels_open.value();
        let exchanges = self.stats.exchanges_open.value().saturating_sub(tunnels);
        Cut { exchanges, tunnels: tunnels + self.stats.relays_open.value() }
    }

    fn dump(&self) -> ShardDump {
        let installed = self.installed.borrow();
        ShardDump {
            shard: self.id,
            generation: installed.as_ref().map_or(0, |installed| installed.table().generation),
            age_us: self.started.elapsed().as_micros() as u64,
            cpu_us: thread_cpu_time().as_micros() as u64,
            buffers_in_use: buffer::in_use(),
            timers: self.deadlines.timers(),
            stats: self.stats.snapshot(),
        }
    }
}
