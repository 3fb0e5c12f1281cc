//! A new generation in two phases: every shard prepares it and says so, then all commit; whatever fails before that
//! leaves the old generation as it was. Requests for a reload that arrive during one become one more.
//!
//! New certificates make a generation, too, of the text that is in effect. What `ringgate reload` waits for is only what
//! was asked for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Supervisor;
use super::load::{Build, ListenerSpec, Loaded, Outcome, load_aside};
use super::status::Warning;
use crate::config::effective::Effective;
use crate::config::model::Process;
use crate::config::render::{self, Colour};
use crate::config::{Diagnostic, Severity};
use crate::downstream::listener::{BoundListener, Steering, bind_group};
use crate::shard::mailbox::{Prepared, ShardCommand};
use crate::sys::process::descriptors;
use crate::table::{ListenerKey, ServerName};

/// How long all shards together have to prepare, and then to commit.
const PHASE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Loading,
    Preparing { ready: usize },
    Committing { done: usize },
}

/// Why there is to be a new generation.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Cause {
    /// Files that TLS settings name have changed.
    Certificates,
    /// Somebody asked for it; the files are read then, too.
    Asked,
}

/// How long a closed listener may take to let go of its port: what its queue holds is taken in first.
const PORT_CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Problems of a configuration in the status file; the log has all.
const PROBLEMS_TOLD_MAX: usize = 20;

/// A reload under way.
pub struct Reload {
    generation: u64,
    cause: Cause,
    /// Requests for a reload received when it began: it answers them.
    begun: u64,
    process: Option<Process>,
    phase: Phase,
    deadline: Instant,
    specs: Vec<ListenerSpec>,
    opened: HashMap<ListenerKey, SocketAddr>,
    failures: Vec<String>,
    warnings: Vec<Warning>,
    effective: Effective,
    diagnostics: Vec<Diagnostic>,
}

impl Reload {
    fn new(generation: u64, cause: Cause, begun: u64, phase: Phase) -> Self {
        // Loading has no deadline of its own: a large configuration on a busy host takes the time it takes.
        let timeout = if phase == Phase::Loading { Duration::from_secs(600) } else { PHASE_TIMEOUT };
        Self {
            generation,
            cause,
            begun,
            process: None,
            phase,
            deadline: Instant::now() + timeout,
            specs: Vec::new(),
            opened: HashMap::new(),
            failures: Vec::new(),
            warnings: Vec::new(),
            effective: Effective::default(),
            diagnostics: Vec::new(),
        }
    }

    /// Time left in the phase.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl Supervisor {
    pub(super) fn request_reload(&mut self, cause: Cause) {
        if self.draining.is_some() {
            if cause == Cause::Asked {
                tracing::warn!("not reloading: draining");
                let requests = self.reloads.requests;
                self.reloads.finish(requests, Some("the process is draining".into()), Vec::new());
            }
            return;
        }
        if self.reload.is_some() {
            self.reload_again = self.reload_again.max(Some(cause));
            return;
        }
        let generation = self.generation + 1;
        self.reload = Some(Reload::new(generation, cause, self.reloads.requests, Phase::Loading));
        let (source, effective) = (self.source.clone(), self.certificates.effective.clone());
        let (shards, limits, events) = (self.shards.len(), Arc::clone(&self.limits), self.events.clone());
        if let Err(error) = load_aside(cause, source, effective, (generation, shards), limits, events) {
            self.abort_reload(&format!("no thread could be started to load the configuration: {error}"));
        }
    }

    /// Takes a loaded configuration into its first phase, or says why not.
    pub(super) fn take_loaded(&mut self, loaded: Loaded) {
        let Loaded { generation, diagnostics, effective, outcome } = loaded;
        let waits = |reload: &&Reload| reload.generation == generation && reload.phase == Phase::Loading;
        let waiting = self.reload.as_ref().filter(waits);
        let (cause, begun) = match waiting {
            Some(reload) => (reload.cause, reload.begun),
            // The start does not wait.
            None if self.generation == 0 => (Cause::Asked, 0),
            // Given up meanwhile, for a drain for example.
            None => return,
        };
        self.log_diagnostics(cause, &diagnostics);
        let build = match outcome {
            Outcome::Built(build) => build,
            Outcome::Errors => return self.abort_reload(&told(&diagnostics)),
            Outcome::Same => {
                self.reload = None;
                self.take_effective(effective, diagnostics);
                return self.next_reload();
            }
        };
        let warnings = diagnostics.iter().map(Warning::of).collect();
        let mut reload = Reload::new(generation, cause, begun, Phase::Preparing { ready: 0 });
        (reload.effective, reload.diagnostics) = (effective, diagnostics);
        if let Err(error) = self.prepare(reload, build, warnings) {
            self.abort_reload(&error);
        }
    }

    fn prepare(
        &mut self,
        mut reload: Reload,
        build: Build,
        mut warnings: Vec<Warning>,
    ) -> Result<(), String> {
        let Build { process, listeners, tables } = build;
        let (shards, generation) = (self.shards.len(), reload.generation);
        let mut sockets: Vec<Vec<BoundListener>> = (0..shards).map(|_| Vec::new()).collect();
        for spec in &listeners {
            if self.listening.contains_key(&spec.key) {
                continue;
            }
            let group = bind_group(&spec.key, spec.freebind, shards, self.has_port(spec.key.port), spec)?;
            reload.opened.insert(spec.key.clone(), group.address);
            let steering = Arc::new(self.steering_of(group.address, &mut warnings));
            for (shard, socket) in sockets.iter_mut().zip(group.sockets) {
                shard.push(BoundListener { key: spec.key.clone(), socket, steering: Arc::clone(&steering) });
            }
        }
        if self.generation > 0 && reload.cause == Cause::Asked {
            let own = self.own_warnings(&process);
            own.iter().for_each(|warning| tracing::warn!("{}", warning.message));
            warnings.extend(own);
        }
        reload.process = Some(process);
        reload.warnings = warnings;
        reload.specs = listeners;
        self.reload = Some(reload);
        for ((shard, table), sockets) in self.shards.iter().zip(tables).zip(sockets) {
            shard.send(ShardCommand::Prepare(Box::new(Prepared { table, sockets })));
        }
        tracing::debug!(generation, "loaded; shards prepare");
        Ok(())
    }

    fn steering_of(&self, address: SocketAddr, warnings: &mut Vec<Warning>) -> Steering {
        let Some(cores) = &self.steered else { return Steering::None };
        if self.was_port(address.port()) {
            let text = format!(
                "port {} was closed a moment ago: until it is opened anew its connections go by hash, not by CPU",
                address.port()
            );
            tracing::warn!("{text}");
            warnings.push(Warning::new("steering-lost", text));
            return Steering::Lost;
        }
        Steering::Cpu { cores: Arc::clone(cores), order: Mutex::default() }
    }

    /// What a valid configuration wants and does not get.
    fn own_warnings(&self, process: &Process) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for (key, changed) in [
            ("cores", process.cores != self.process.cores),
            ("driver", process.driver != self.process.driver),
            ("ring_entries", process.ring_entries != self.process.ring_entries),
            ("accept_steering", process.accept_steering != self.process.accept_steering),
            ("status_file", process.status_file != self.process.status_file),
        ] {
            if changed {
                let text = format!("[process] {key} is fixed while the process lives: restart to change it");
                warnings.push(Warning::new("fixed-while-running", text));
            }
        }
        if process.connections_max != self.process.connections_max
            && let Some(text) = self.lacks_descriptors(process.connections_max)
        {
            warnings.push(Warning::new("few-descriptors", text));
        }
        warnings
    }

    /// Says when the process may not have as many descriptors as `connections_max` connections need: each has two, one
    /// to the client and one to an endpoint.
    pub(super) fn lacks_descriptors(&self, connections_max: u32) -> Option<String> {
        // What is held now is not all there will be beside connections: pipes, files read anew.
        let others = descriptors().unwrap_or(0) + 16;
        let allowed = self.descriptors_max.saturating_sub(others) / 2;
        (allowed < u64::from(connections_max)).then(|| {
            format!(
                "{} descriptors allow about {allowed} connections, connections_max is {connections_max}: raise \
                 ulimit -n (LimitNOFILE= in systemd)",
                self.descriptors_max
            )
        })
    }

    pub(super) fn shard_prepared(&mut self, generation: u64) {
        let shards = self.shards.len();
        let Some(reload) = self.reload.as_mut().filter(|reload| reload.generation == generation) else {
            return;
        };
        let Phase::Preparing { ready } = &mut reload.phase else { return };
        *ready += 1;
        if *ready == shards {
            reload.phase = Phase::Committing { done: 0 };
            reload.deadline = Instant::now() + PHASE_TIMEOUT;
            tracing::debug!(generation, "all shards are prepared; they commit");
            self.tell_all(|| ShardCommand::Commit { generation });
        }
    }

    pub(super) fn shard_committed(&mut self, id: usize, generation: u64, error: Option<String>) {
        let shards = self.shards.len();
        let Some(reload) = self.reload.as_mut().filter(|reload| reload.generation == generation) else {
            return;
        };
        let Phase::Committing { done } = &mut reload.phase else { return };
        *done += 1;
        if let Some(error) = error {
            reload.failures.push(format!("shard {id}: {error}"));
        }
        if *done == shards
            && let Some(reload) = self.reload.take()
        {
            self.finish(reload);
        }
    }

    fn finish(&mut self, reload: Reload) {
        let Reload { generation, cause, begun, process, specs, opened, failures, warnings, .. } = reload;
        let Reload { effective, diagnostics, .. } = reload;
        self.generation = generation;
        if let Some(process) = process {
            self.take_process(process);
        }
        if generation > 1 {
            self.log_ports(&specs, &opened);
        }
        self.listening.extend(opened);
        let now = Instant::now();
        self.closing_ports.retain(|_, until| *until > now);
        let Self { listening, closing_ports, .. } = self;
        listening.retain(|key, address| {
            let stays = specs.iter().any(|spec| spec.key == *key);
            if !stays {
                closing_ports.insert(address.port(), now + PORT_CLOSE_TIMEOUT);
            }
            stays
        });
        self.specs = specs;
        let mut error = failures.join("; ");
        // The first is the start's, which fails and says why itself.
        if generation > 1 {
            failures.iter().for_each(|failure| tracing::error!("{failure}"));
            tracing::info!(generation, "reloaded");
            error = format!("generation {generation} is effective, but: {error}");
        }
        if cause == Cause::Asked {
            self.reloads.finish(begun, (!failures.is_empty()).then_some(error), warnings);
        }
        self.take_effective(effective, diagnostics);
        self.next_reload();
    }

    /// Says which ports a reload opens and closes.
    fn log_ports(&self, specs: &[ListenerSpec], opened: &HashMap<ListenerKey, SocketAddr>) {
        for spec in specs {
            let Some(address) = opened.get(&spec.key) else { continue };
            for ServerName { gateway, server, protocol } in &spec.servers {
                tracing::info!(%gateway, server = server + 1, %protocol, "listening {address}");
            }
        }
        for (key, address) in &self.listening {
            if !specs.iter().any(|spec| spec.key == *key) {
                tracing::info!("closed {address}");
            }
        }
    }

    /// Caps and the drain's time hold from the commit on; before, the old generation may stay. What is fixed stays as it
    /// was at the start: a configuration that goes back to it is not to be warned about.
    fn take_process(&mut self, process: Process) {
        self.limits.set(&process);
        let Process { cores, driver, ring_entries, accept_steering, status_file, .. } = self.process.clone();
        self.process = Process { cores, driver, ring_entries, accept_steering, status_file, ..process };
    }

    /// Whether a port is, or was a moment ago, one of ours.
    fn has_port(&self, port: u16) -> bool {
        self.listening.values().any(|address| address.port() == port) || self.was_port(port)
    }

    /// Whether listeners of a port may still be closing.
    fn was_port(&self, port: u16) -> bool {
        self.closing_ports.get(&port).is_some_and(|until| *until > Instant::now())
    }

    /// The time of a phase is up. Before the commit that ends the reload. After it the new generation is in every
    /// mailbox and will be taken: the reload counts, with a reserve.
    pub(super) fn reload_overdue(&mut self) {
        let committing = |reload: &mut Reload| matches!(reload.phase, Phase::Committing { .. });
        if let Some(mut reload) = self.reload.take_if(committing) {
            reload.failures.push("a shard has not taken it over yet".into());
            self.finish(reload);
        } else {
            self.abort_reload("a shard did not answer in time");
        }
    }

    /// A drain ends a reload that has not come to its commit: it could open listeners behind the drain's back.
    pub(super) fn drop_reload(&mut self) {
        self.reload_again = None;
        let committing = |reload: &Reload| matches!(reload.phase, Phase::Committing { .. });
        if self.reload.as_ref().is_some_and(|reload| !committing(reload)) {
            self.abort_reload("the process is draining");
        }
    }

    /// Gives a reload up; the generation before stays.
    pub(super) fn abort_reload(&mut self, reason: &str) {
        let (generation, cause, begun) = match self.reload.take() {
            Some(reload) => (reload.generation, reload.cause, reload.begun),
            None => (self.generation + 1, Cause::Asked, self.reloads.requests),
        };
        if cause == Cause::Asked {
            self.reloads.finish(begun, Some(reason.to_owned()), Vec::new());
        }
        self.tell_all(|| ShardCommand::Abort { generation });
        // A start that fails says so itself.
        if self.generation > 0 {
            // Problems of the configuration are in the log already.
            let reason = reason.lines().next().unwrap_or_default();
            tracing::error!("not reloaded, generation {} stays: {reason}", self.generation);
        }
        self.watch_certificates();
        self.next_reload();
    }

    fn next_reload(&mut self) {
        if let Some(cause) = self.reload_again.take() {
            self.request_reload(cause);
        }
        self.update_status_file();
    }
}

/// The first errors of a configuration, for whoever asked for the reload.
fn told(diagnostics: &[Diagnostic]) -> String {
    let errors = || diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    let mut text = String::from("the configuration has errors");
    for diagnostic in errors().take(PROBLEMS_TOLD_MAX) {
        text.push('\n');
        text.push_str(&render::text(diagnostic, Colour::Plain));
    }
    if let more @ 1.. = errors().count().saturating_sub(PROBLEMS_TOLD_MAX) {
        text.push_str(&format!("\n{more} more errors are in the log"));
    }
    text
}
