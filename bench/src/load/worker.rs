//! One thread of the generator: opens its connections, lets them run, watches deadlines, and measures itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::Duration;

use ringgate::config::model::RING_ENTRIES_DEFAULT;
use ringgate::sys::ring::{self, Rung};
use ringgate::sys::socket::Socket;
use rustls::HandshakeKind;

use super::clock::{self, SECOND, Timer};
use super::connection;
use super::plan::Plan;
use super::response::LastHead;
use super::schedule::{Schedule, Turn};
use super::session::Session;
use super::set_up::{self, Opened};
use super::tally::{ErrorKind, Tally};
use super::trust::Client;
use crate::cores;
use crate::random::Random;
use crate::report::TlsReport;

/// How often deadlines are looked at, at most: requests time out up to this much late.
const TICK: u64 = SECOND / 20;

/// How long connections get to notice that the run is over.
const GRACE: u64 = SECOND;

/// A request that is open at the end of a closed loop counts from this age on, and from this part of the measured time.
const OPEN_MIN: u64 = SECOND / 10;
const OPEN_PART: u64 = 100;

/// Between the meeting of the threads and the first request.
const HEAD_START: u64 = SECOND / 1000;

/// What threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What is done.
    pub(crate) plan: Plan,
    meeting: Barrier,
    failed: AtomicBool,
    failures: Mutex<Vec<String>>,
    epoch: AtomicU64,
    /// Requests ended so far, about.
    pub(crate) progress: AtomicU64,
}

impl Shared {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            meeting: Barrier::new(plan.threads),
            plan,
            failed: AtomicBool::new(false),
            failures: Mutex::default(),
            epoch: AtomicU64::new(0),
            progress: AtomicU64::new(0),
        }
    }

    fn fail(&self, reason: String) {
        self.failed.store(true, Ordering::Release);
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(reason);
    }

    /// What kept the run from starting, a sentence each.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for all threads; the common start, unless one of them failed.
    fn meet(&self) -> Option<u64> {
        if self.meeting.wait().is_leader() {
            self.epoch.store(clock::now() + HEAD_START, Ordering::Release);
        }
        self.meeting.wait();
        (!self.failed.load(Ordering::Acquire)).then(|| self.epoch.load(Ordering::Acquire))
    }
}

/// What a thread brings back.
#[derive(Debug)]
pub(crate) struct Part {
    /// Its measurements.
    pub(crate) tally: Tally,
    /// Nanoseconds of the measured part.
    pub(crate) measured: u64,
    /// What it used for it.
    pub(crate) usage: Usage,
    /// Requests due and not started at the end of the schedule, while so many connections were idle.
    pub(crate) backlog: (u64, usize),
    /// What was agreed on before the run, with TLS.
    pub(crate) tls: Option<TlsReport>,
    /// Driver it ran on.
    pub(crate) rung: Rung,
}

/// What a thread used while it measured.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Usage {
    /// CPU time in nanoseconds.
    pub(crate) cpu: u64,
    /// The time that it is a share of.
    pub(crate) present: u64,
    /// Time ready to run without a core; `None` where the kernel does not tell.
    pub(crate) waited: Option<u64>,
    /// Requests that ended meanwhile.
    pub(crate) requests: u64,
}

impl Usage {
    /// Of the calling thread so far.
    fn now(present: u64, requests: u64) -> Self {
        Self { cpu: clock::thread_cpu(), present, waited: clock::thread_wait(), requests }
    }
}

/// What the deadlines' sweep sees of a connection.
#[derive(Default)]
pub(super) struct Slot {
    /// When the request under way started; 0 when there is none.
    pub(super) started: Cell<u64>,
    /// That one is answered: only the end of its connection is waited for.
    pub(super) ending: Cell<bool>,
    /// Its socket.
    pub(super) socket: RefCell<Option<Rc<Socket>>>,
    /// TLS of a connection that was opened before the run, until its task takes it over.
    pub(super) session: Cell<Option<Box<Session>>>,
    /// The handshake that the request under way needed.
    pub(super) handshake: Cell<Option<HandshakeKind>>,
    /// The sweep has ended its request.
    pub(super) expired: Cell<bool>,
}

/// A thread's state, shared with its connections.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    /// For TLS.
    pub(super) client: Option<Client>,
    pub(super) slots: Vec<Slot>,
    pub(super) last_head: LastHead,
    pub(super) random: Cell<Random>,
    pub(super) tally: RefCell<Tally>,
    /// With a constant rate.
    pub(super) schedule: Option<Schedule>,
    /// The measured part: requests count that end in it, or with a constant rate, that are due in it.
    pub(super) from: u64,
    until: Cell<u64>,
    requests_max: u64,
    stopping: Cell<bool>,
    live: Cell<usize>,
    /// At the start of the measured part, or as soon after as the watch looked.
    usage_from: Cell<Usage>,
    usage: Cell<Option<Usage>>,
    backlog: Cell<(u64, usize)>,
    reported: Cell<u64>,
}

/// Runs thread `index`; `None` when the run did not start, for the reasons that `shared` has then.
pub(crate) fn run(shared: &Arc<Shared>, index: usize) -> Option<Part> {
    let plan = &shared.plan;
    let built =
        cores::pin(plan.cores.as_ref(), index).and_then(|()| ring::build(plan.driver, RING_ENTRIES_DEFAULT));
    let prepared = built.and_then(|built| Ok((built, Tally::new()?)));
    match prepared {
        Err(reason) => {
            shared.fail(reason);
            shared.meet();
            None
        }
        Ok((mut built, tally)) => {
            let rung = built.rung;
            built.runtime.block_on(measure(Arc::clone(shared), index, tally, rung))
        }
    }
}

async fn measure(shared: Arc<Shared>, index: usize, tally: Tally, rung: Rung) -> Option<Part> {
    let count = shared.plan.connections_of(index);
    let client = shared.plan.tls.as_ref().map(|tls| tls.client(count));
    let timer = shared.plan.rate.map(|_| Timer::new()).transpose();
    let prepared = match timer {
        Ok(timer) => set_up::open(&shared.plan, client.as_ref(), count).await.map(|opened| (timer, opened)),
        Err(error) => Err(format!("no timer: {error}")),
    };
    let (timer, mut opened) = prepared.unwrap_or_else(|reason| {
        shared.fail(reason);
        (None, Opened::default())
    });
    let epoch = shared.meet()?;
    let tls = opened.tls.take();
    let worker = Rc::new(Worker::new(shared, index, epoch, (client, opened), tally));
    if worker.schedule.is_none() {
        monoio::time::sleep(Duration::from_nanos(epoch.saturating_sub(clock::now()))).await;
    }
    for id in 0..count {
        monoio::spawn(connection::run(Rc::clone(&worker), id));
    }
    if let Some(timer) = timer {
        let worker = Rc::clone(&worker);
        monoio::spawn(async move { worker.pace(&timer).await });
    }
    worker.watch().await;
    worker.finish().await;
    let until = match &worker.schedule {
        Some(_) => worker.until.get().max(worker.tally.borrow().last),
        None => worker.until.get(),
    };
    let part = Part {
        measured: until.saturating_sub(worker.from),
        usage: worker.usage.get().unwrap_or_default(),
        backlog: worker.backlog.get(),
        tls,
        rung,
        tally: worker.tally.replace(Tally::new().ok()?),
    };
    Some(part)
}

impl Worker {
    fn new(
        shared: Arc<Shared>,
        index: usize,
        epoch: u64,
        (client, opened): (Option<Client>, Opened),
        tally: Tally,
    ) -> Self {
        let plan = &shared.plan;
        let count = plan.connections_of(index);
        let from = epoch + plan.warmup;
        let requests_max = plan.requests_max.map_or(u64::MAX, |most| plan.part(most, index));
        let schedule = plan.rate.map(|rate| {
            let rate_here = rate * count as f64 / plan.connections as f64;
            let of = |time: u64| (time as f64 / SECOND as f64 * rate_here).ceil() as u64;
            let requests = of(plan.warmup + plan.duration).min(of(plan.warmup).saturating_add(requests_max));
            // Threads take turns.
            let offset = index as f64 / plan.threads as f64 * SECOND as f64 / rate_here;
            Schedule::new(epoch + offset as u64, rate_here, requests, count)
        });
        let until = schedule.as_ref().map_or(from + plan.duration, Schedule::end);
        let slots: Vec<Slot> = (0..count).map(|_| Slot::default()).collect();
        for (slot, (socket, session)) in slots.iter().zip(opened.connections) {
            slot.socket.replace(Some(Rc::new(socket)));
            slot.session.set(session);
        }
        Self {
            client,
            slots,
            last_head: LastHead::default(),
            random: Cell::new(Random::new(index as u64)),
            tally: RefCell::new(tally),
            schedule,
            from,
            until: Cell::new(until),
            requests_max,
            stopping: Cell::new(false),
            live: Cell::new(count),
            usage_from: Cell::new(Usage::now(clock::now(), 0)),
            usage: Cell::default(),
            backlog: Cell::default(),
            reported: Cell::new(0),
            shared,
        }
    }

    /// When and whether a connection that is free `now` sends its next request.
    #[inline]
    pub(super) async fn next(&self, connection: usize, now: u64) -> Option<Turn> {
        match &self.schedule {
            None => (now < self.until.get() && !self.stopping.get()).then_some(Turn {
                due: now,
                started: now,
                lag: 0,
            }),
            Some(schedule) => {
                let turn = schedule.next(connection, now).await?;
                if turn.due >= self.from {
                    self.tally.borrow_mut().lag.saturating_record(turn.lag);
                }
                Some(turn)
            }
        }
    }

    /// Counts a request that ended at `now`, if it belongs to the measured part.
    #[inline]
    pub(super) fn record(
        &self,
        turn: Turn,
        outcome: Result<u64, ErrorKind>,
        handshake: Option<HandshakeKind>,
        now: u64,
    ) {
        let belongs = match self.schedule {
            None => now >= self.from && now < self.until.get(),
            Some(_) => turn.due >= self.from,
        };
        if belongs {
            let mut tally = self.tally.borrow_mut();
            tally.record(outcome, now - turn.due, now);
            if let Some(kind) = handshake {
                tally.handshakes.count(kind);
            }
            let enough = self.schedule.is_none() && tally.ended() >= self.requests_max;
            drop(tally);
            if enough {
                self.until.set(now);
                self.mark_end(now);
            }
        }
    }

    /// A connection's task has ended.
    pub(super) fn leave(&self) {
        self.live.set(self.live.get() - 1);
    }

    /// Whether failures mean nothing any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    async fn pace(&self, timer: &Timer) {
        if let Some(schedule) = &self.schedule
            && let Err(error) = schedule.pace(timer).await
        {
            self.shared.fail(format!("the timer failed: {error}"));
        }
    }

    fn usage_at(&self, now: u64) -> Usage {
        Usage::now(now, self.tally.borrow().ended())
    }

    fn mark_end(&self, now: u64) {
        if self.usage.get().is_none() {
            let (from, until) = (self.usage_from.get(), self.usage_at(now));
            self.usage.set(Some(Usage {
                cpu: until.cpu.saturating_sub(from.cpu),
                present: until.present.saturating_sub(from.present),
                waited: until.waited.zip(from.waited).map(|(until, from)| until.saturating_sub(from)),
                requests: until.requests - from.requests,
            }));
            if let Some(schedule) = &self.schedule {
                self.backlog.set(schedule.backlog(self.until.get()));
            }
        }
    }

    /// Looks at deadlines until the run is over.
    async fn watch(&self) {
        let mut now = clock::now();
        loop {
            if now >= self.from && self.usage_from.get().present < self.from {
                self.usage_from.set(self.usage_at(now));
            }
            let next = [self.from, self.until.get()].into_iter().filter(|at| *at > now).min();
            let pause = next.map_or(TICK, |at| (at - now).min(TICK));
            monoio::time::sleep(Duration::from_nanos(pause)).await;
            now = clock::now();
            let limit = match self.schedule {
                None => self.until.get(),
                Some(_) => self.until.get() + self.shared.plan.timeout,
            };
            if now >= self.until.get() {
                self.mark_end(now);
            }
            self.publish();
            if now >= limit || self.live.get() == 0 {
                return self.mark_end(now);
            }
            self.sweep(now);
        }
    }

    /// Ends requests that have taken too long.
    fn sweep(&self, now: u64) {
        for slot in &self.slots {
            let started = slot.started.get();
            if started != 0 && now.saturating_sub(started) > self.shared.plan.timeout {
                self.expire(slot);
            }
        }
    }

    fn expire(&self, slot: &Slot) {
        slot.expired.set(true);
        if let Some(socket) = &*slot.socket.borrow() {
            socket.shutdown(std::net::Shutdown::Both);
        }
    }

    fn publish(&self) {
        let ended = self.tally.borrow().ended();
        self.shared.progress.fetch_add(ended - self.reported.replace(ended), Ordering::Relaxed);
    }

    /// In the closed loop, a request without an answer is neither a latency nor an error. All connections have one open
    /// at the end, so that only those count that wait for long.
    fn count_open(&self) {
        let until = self.until.get();
        let long = (until.saturating_sub(self.from) / OPEN_PART).max(OPEN_MIN).min(self.shared.plan.timeout);
        for slot in self.slots.iter().filter(|slot| slot.started.get() != 0 && !slot.ending.get()) {
            let age = until.saturating_sub(slot.started.get());
            if age >= long {
                self.tally.borrow_mut().leave_open(age);
            }
        }
    }

    /// Ends what is still under way. With a constant rate nothing that was due goes uncounted.
    async fn finish(&self) {
        self.stopping.set(true);
        match &self.schedule {
            Some(schedule) => {
                let (now, mut tally) = (clock::now(), self.tally.borrow_mut());
                schedule.abandon(self.from, |due, count| tally.abandon(now.saturating_sub(due), count));
            }
            None => self.count_open(),
        }
        for slot in &self.slots {
            self.expire(slot);
        }
        let limit = clock::now() + GRACE;
        while self.live.get() > 0 && clock::now() < limit {
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
