//! The control plane: one thread that owns the configuration, the signals and the life of the shards.
//!
//! [`start`] brings the shards up and makes the first generation effective; [`Supervisor::run`] then handles one
//! [`event`] at a time until the process is to end. A [`reload`] goes the way of the first generation.

pub mod certificates;
pub mod cores;
pub mod dump;
pub mod event;
pub mod load;
pub mod reload;
pub mod signals;
pub mod status;
pub mod topology;
mod watch;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGUSR1};

use self::certificates::Certificates;
use self::dump::Dumps;
use self::event::{Event, EventSender};
use self::load::{ListenerSpec, Loaded, Outcome, Source};
use self::reload::{Cause, Reload};
use self::status::ReloadStatus;
use crate::config::Diagnostic;
use crate::config::effective::Effective;
use crate::config::model::{AcceptSteering, Cores, Driver, Process, Protocol};
use crate::lines::{Flush, Lines};
use crate::shard::load::Loads;
use crate::shard::mailbox::{Cut, MailboxSender, ShardCommand, ShardEvent, mailbox};
use crate::shard::process::ProcessLimits;
use crate::shard::{self, ShardStart};
use crate::sys::process::raise_descriptors_max;
use crate::sys::ring;
use crate::table::ListenerKey;

/// Signals to end that come within this time of the first say the same once more: `timeout(1)`, for one, signals its
/// child and then the child's group.
const SAME_WISH: Duration = Duration::from_millis(500);

/// Dumps that may wait for a reader of stdout.
const DUMPS_MAX: usize = 64;

/// How long shards have to come up.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// What the command line adds to the configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--cores`, over `[process] cores`.
    pub cores: Option<Cores>,
    /// `--driver`, over `[process] driver`.
    pub driver: Option<Driver>,
    /// `--ring-entries`, over `[process] ring_entries`.
    pub ring_entries: Option<u32>,
    /// `--no-pin`: shards are not tied to their cores.
    pub no_pin: bool,
}

/// A listener of the effective generation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listening {
    /// Address, with the port that the kernel chose where the configuration said 0.
    pub address: SocketAddr,
    /// Gateway.
    pub gateway: Arc<str>,
    /// Position of the server in its gateway, from 1.
    pub server: usize,
    /// What it speaks.
    pub protocol: Protocol,
}

/// Why the process could not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration has errors.
    Config(Vec<Diagnostic>),
    /// Anything else, in one sentence.
    Host(String),
}

/// How the process ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// Drained, or its deadline passed.
    Drained,
    /// A shard failed.
    Failed(String),
    /// A second signal.
    Interrupted,
}

/// The supervisor of a running process.
pub struct Supervisor {
    source: Source,
    events: EventSender,
    inbox: Receiver<Event>,
    shards: Vec<Arc<MailboxSender>>,
    /// The core of each shard, where the kernel is to choose by CPU.
    steered: Option<Arc<[u32]>>,
    limits: Arc<ProcessLimits>,
    process: Process,
    driver_name: &'static str,
    generation: u64,
    listening: HashMap<ListenerKey, SocketAddr>,
    specs: Vec<ListenerSpec>,
    /// Ports that were ours until some reload, and until when their listeners may take to close.
    closing_ports: HashMap<u16, Instant>,
    reload: Option<Reload>,
    reload_again: Option<Cause>,
    reloads: ReloadStatus,
    certificates: Certificates,
    dumps: Dumps,
    /// Where dumps are printed. Its end waits for a reader a moment.
    stdout: Option<(Lines, Flush)>,
    /// Whether the status file is there: not before signals are handled.
    status_file_open: bool,
    /// Descriptors that the process may have.
    descriptors_max: u64,
    /// When the drain began.
    draining: Option<Instant>,
    /// Shards that ended as told.
    ended: BTreeSet<usize>,
    /// What the drain's deadline cut on them.
    cut: Cut,
}

/// Reads the configuration, starts the shards and makes the first generation effective.
///
/// # Errors
/// When the configuration has errors, or a shard or socket can not be had.
pub fn start(source: Source, options: &Options) -> Result<Supervisor, StartError> {
    let read = source.read(&Effective::default());
    let Some(config) = &read.config else { return Err(StartError::Config(read.diagnostics)) };
    let process = config.process.clone();
    if let Some(path) = &process.status_file {
        status::assert_free(path).map_err(StartError::Host)?;
    }
    let chosen =
        choose_cores(options.cores.as_ref().unwrap_or(&process.cores), options).map_err(StartError::Host)?;
    let steered = steered(&process, options, &chosen).map_err(StartError::Host)?;
    let limits = Arc::new(ProcessLimits::new(&process));
    let loaded = load::build(read, 1, chosen.len(), &limits);
    let (events, inbox) = channel();
    let mut supervisor = Supervisor {
        source,
        events,
        inbox,
        shards: Vec::new(),
        steered,
        limits,
        driver_name: "",
        generation: 0,
        listening: HashMap::new(),
        specs: Vec::new(),
        closing_ports: HashMap::new(),
        reload: None,
        reload_again: None,
        reloads: ReloadStatus::default(),
        certificates: Certificates::default(),
        dumps: Dumps::default(),
        stdout: Lines::new("stdout", std::io::stdout(), DUMPS_MAX).ok(),
        status_file_open: false,
        descriptors_max: raise_descriptors_max().unwrap_or(u64::MAX),
        draining: None,
        ended: BTreeSet::new(),
        cut: Cut::default(),
        process,
    };
    supervisor.start_shards(&chosen, options).map_err(StartError::Host)?;
    supervisor.install_first(loaded)?;
    if let Some(text) = supervisor.lacks_descriptors(supervisor.process.connections_max) {
        tracing::warn!("{text}");
    }
    Ok(supervisor)
}

/// The core of each shard; without pins its number means nothing.
fn choose_cores(wanted: &Cores, options: &Options) -> Result<Vec<u32>, String> {
    if let (Cores::Count(count), true) = (wanted, options.no_pin) {
        return Ok((0..*count).collect());
    }
    let host = topology::Topology::detect();
    let plan = cores::plan(wanted, &host)?;
    if let Some(note) = plan.note(&host) {
        tracing::warn!("{note}");
    }
    Ok(plan.shards.iter().map(|shard| shard.core).collect())
}

fn steered(process: &Process, options: &Options, cores: &[u32]) -> Result<Option<Arc<[u32]>>, String> {
    match process.accept_steering {
        AcceptSteering::Hash => Ok(None),
        AcceptSteering::Cpu if options.no_pin => Err(
            "accept_steering = \"cpu\" needs each shard on its core: leave --no-pin out, or write \"hash\""
                .into(),
        ),
        AcceptSteering::Cpu => Ok(Some(cores.into())),
    }
}

impl Supervisor {
    fn start_shards(&mut self, cores: &[u32], options: &Options) -> Result<(), String> {
        let driver = options.driver.unwrap_or(self.process.driver);
        let ring_entries = options.ring_entries.unwrap_or(self.process.ring_entries);
        let mut receivers = Vec::new();
        for id in 0..cores.len() {
            let (sender, receiver) =
                mailbox().map_err(|error| format!("no mailbox for shard {id}: {error}"))?;
            self.shards.push(Arc::new(sender));
            receivers.push(receiver);
        }
        let loads = Arc::new(Loads::new(&self.shards));
        for ((id, &core), receiver) in cores.iter().enumerate().zip(receivers) {
            let core = (!options.no_pin).then_some(core);
            let start = ShardStart {
                id,
                core,
                driver,
                ring_entries,
                process: Arc::clone(&self.limits),
                loads: Arc::clone(&loads),
                mailbox: receiver,
                events: self.events.clone(),
            };
            thread::Builder::new()
                .name(format!("shard-{id}"))
                .spawn(move || shard::run(start))
                .map_err(|error| format!("no thread for shard {id}: {error}"))?;
            self.dumps.cores.push(core);
        }
        self.await_started()
    }

    fn await_started(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_TIMEOUT;
        let mut reasons = BTreeSet::new();
        for _ in 0..self.shards.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.inbox.recv_timeout(left) {
                Ok(Event::Shard(id, ShardEvent::Started { rung, passed_over })) => {
                    let core = self.dumps.cores.get(id).copied().flatten();
                    let core = core.map_or_else(|| "any".into(), |core| core.to_string());
                    tracing::info!(shard = id, core, driver = rung.name(), "shard started");
                    self.driver_name = rung.driver();
                    reasons.insert(ring::reasons(&passed_over));
                }
                Ok(Event::Shard(_, ShardEvent::Ended { error, .. })) => {
                    return Err(error.unwrap_or_else(|| "a shard ended while starting".into()));
                }
                Ok(_) => {}
                Err(_) => return Err("the shards did not start within 10 s".into()),
            }
        }
        for reason in reasons.iter().filter(|reason| !reason.is_empty()) {
            tracing::warn!("not used: {reason}");
        }
        Ok(())
    }

    fn install_first(&mut self, loaded: Loaded) -> Result<(), StartError> {
        if matches!(loaded.outcome, Outcome::Errors) {
            return Err(StartError::Config(loaded.diagnostics));
        }
        self.take_loaded(loaded);
        while self.reload.is_some() {
            let timeout = self.reload.as_ref().map_or(START_TIMEOUT, Reload::time_left);
            match self.inbox.recv_timeout(timeout) {
                Ok(event) => {
                    if let Some(End::Failed(error)) = self.handle(event) {
                        return Err(StartError::Host(error));
                    }
                }
                Err(_) => self.reload_overdue(),
            }
        }
        match &self.reloads.error {
            Some(error) => Err(StartError::Host(error.clone())),
            None => Ok(()),
        }
    }

    /// What the process listens on.
    #[must_use]
    pub fn listening(&self) -> Vec<Listening> {
        let mut all = Vec::new();
        for spec in &self.specs {
            let Some(&address) = self.listening.get(&spec.key) else { continue };
            all.extend(spec.servers.iter().map(|name| Listening {
                address,
                gateway: Arc::clone(&name.gateway),
                server: name.server + 1,
                protocol: name.protocol,
            }));
        }
        all
    }

    /// Number of shards.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The effective generation.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The I/O driver in use.
    #[must_use]
    pub const fn driver_name(&self) -> &'static str {
        self.driver_name
    }

    /// Where to send events, a signal's number to end the process, say.
    #[must_use]
    pub fn events(&self) -> EventSender {
        self.events.clone()
    }

    /// Handles events until the process is to end.
    pub fn run(mut self) -> End {
        let end = self.handle_all();
        self.remove_status_file();
        if let (End::Drained, Some(since)) = (&end, self.draining) {
            let took = format!("{:.1} s", since.elapsed().as_secs_f64());
            let plural = |count, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
            match self.cut {
                Cut { exchanges: 0, tunnels: 0 } => tracing::info!("drained in {took}"),
                Cut { exchanges, tunnels } => tracing::info!(
                    "drained in {took}: {} and {} cut",
                    plural(exchanges, "exchange"),
                    plural(tunnels, "tunnel")
                ),
            }
        }
        end
    }

    fn handle_all(&mut self) -> End {
        loop {
            let event = match &self.reload {
                None => self.inbox.recv().ok(),
                Some(reload) => match self.inbox.recv_timeout(reload.time_left()) {
                    Ok(event) => Some(event),
                    Err(_) => {
                        self.reload_overdue();
                        continue;
                    }
                },
            };
            let Some(event) = event else { return End::Drained };
            if let Some(end) = self.handle(event) {
                return end;
            }
        }
    }

    fn handle(&mut self, event: Event) -> Option<End> {
        match event {
            Event::CertificatesChanged => self.request_reload(Cause::Certificates),
            Event::CertificatesDue => self.certificates_due(),
            Event::Loaded(loaded) => self.take_loaded(*loaded),
            Event::Shard(id, event) => return self.handle_shard(id, event),
            Event::Signal(SIGHUP) => {
                self.reloads.requests += 1;
                // Before the configuration is read: who sees the old count takes no earlier reload for the answer.
                self.update_status_file();
                self.request_reload(Cause::Asked);
                // A drain answers at once.
                self.update_status_file();
            }
            Event::Signal(SIGUSR1) => self.request_dump(),
            Event::Signal(_) => match self.draining {
                None => self.drain(),
                Some(since) if since.elapsed() < SAME_WISH => {
                    tracing::debug!("a further signal within {SAME_WISH:?} changes nothing");
                }
                Some(_) => {
                    tracing::warn!("second signal: ending at once");
                    return Some(End::Interrupted);
                }
            },
        }
        None
    }

    fn drain(&mut self) {
        self.draining = Some(Instant::now());
        self.drop_reload();
        let deadline = self.process.drain_timeout;
        tracing::info!(?deadline, "draining");
        self.tell_all(|| ShardCommand::Drain { deadline });
        self.update_status_file();
    }

    fn handle_shard(&mut self, id: usize, event: ShardEvent) -> Option<End> {
        match event {
            ShardEvent::Prepared { generation } => self.shard_prepared(generation),
            ShardEvent::Committed { generation, error } => self.shard_committed(id, generation, error),
            // Dropping a large table takes long: it happens here, where nobody waits.
            ShardEvent::Retired(tables) => drop(tables),
            ShardEvent::Dumped(dump) => self.take_dump(*dump),
            ShardEvent::Started { .. } => {}
            ShardEvent::Ended { error: Some(error), .. } => return Some(End::Failed(error)),
            ShardEvent::Ended { error: None, cut } => {
                self.ended.insert(id);
                self.cut.exchanges += cut.exchanges;
                self.cut.tunnels += cut.tunnels;
                if self.ended.len() == self.shards.len() {
                    return Some(End::Drained);
                }
                self.dump_without(id);
            }
        }
        None
    }

    fn tell_all(&self, command: impl Fn() -> ShardCommand) {
        for shard in &self.shards {
            shard.send(command());
        }
    }
}
