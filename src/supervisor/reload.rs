//! A new generation in two phases: every shard prepares it and says so, then all commit; whatever fails before that
//! leaves the old generation as it was. Requests for a reload that arrive during one become one more.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Supervisor;
use super::load::{Build, ListenerSpec, Loaded, load_aside};
use crate::config::render::{self, Colour};
use crate::downstream::listener::{BoundListener, bind_group};
use crate::shard::mailbox::{Prepared, ShardCommand};
use crate::table::ListenerKey;

/// How long all shards together have to prepare, and then to commit.
const PHASE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Loading,
    Preparing { ready: usize },
    Committing { done: usize },
}

/// A reload under way.
pub struct Reload {
    generation: u64,
    phase: Phase,
    deadline: Instant,
    specs: Vec<ListenerSpec>,
    opened: HashMap<ListenerKey, SocketAddr>,
    failures: Vec<String>,
}

impl Reload {
    fn new(generation: u64, phase: Phase) -> Self {
        // Loading has no deadline of its own: a large configuration on a busy host takes the time it takes.
        let timeout = if phase == Phase::Loading { Duration::from_secs(600) } else { PHASE_TIMEOUT };
        Self {
            generation,
            phase,
            deadline: Instant::now() + timeout,
            specs: Vec::new(),
            opened: HashMap::new(),
            failures: Vec::new(),
        }
    }

    /// Time left in the phase.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl Supervisor {
    pub(super) fn request_reload(&mut self) {
        if self.draining {
            tracing::warn!("not reloading: draining");
            return;
        }
        if self.reload.is_some() {
            self.reload_again = true;
            return;
        }
        let generation = self.generation + 1;
        self.reload = Some(Reload::new(generation, Phase::Loading));
        let (source, events) = (self.source.clone(), self.events.clone());
        if let Err(error) = load_aside(source, generation, self.shards.len(), events) {
            self.abort_reload(&format!("no thread could be started to load the configuration: {error}"));
        }
    }

    /// Takes a loaded configuration into its first phase, or says why not.
    pub(super) fn take_loaded(&mut self, loaded: Loaded) {
        let Loaded { generation, diagnostics, build } = loaded;
        if !diagnostics.is_empty() {
            let texts: String =
                diagnostics.iter().map(|diagnostic| render::text(diagnostic, Colour::Plain)).collect();
            tracing::warn!("the configuration has problems:\n{texts}");
        }
        let Some(build) = build else {
            return self.abort_reload("the configuration has errors");
        };
        if let Err(error) = self.prepare(generation, build) {
            self.abort_reload(&error);
        }
    }

    fn prepare(&mut self, generation: u64, build: Build) -> Result<(), String> {
        let Build { process, listeners, tables } = build;
        let shards = self.shards.len();
        let mut reload = Reload::new(generation, Phase::Preparing { ready: 0 });
        let mut sockets: Vec<Vec<BoundListener>> = (0..shards).map(|_| Vec::new()).collect();
        for spec in &listeners {
            if self.listening.contains_key(&spec.key) {
                continue;
            }
            let group = bind_group(&spec.key, spec.freebind, shards)?;
            reload.opened.insert(spec.key.clone(), group.address);
            for (shard, socket) in sockets.iter_mut().zip(group.sockets) {
                shard.push(BoundListener { key: spec.key.clone(), socket });
            }
        }
        if (process.cores != self.process.cores || process.driver != self.process.driver)
            && self.generation > 0
        {
            tracing::warn!(
                "[process] cores and driver are fixed while the process lives: restart to change them"
            );
        }
        self.limits.set(&process);
        self.process = process;
        reload.specs = listeners;
        self.reload = Some(reload);
        for ((shard, table), sockets) in self.shards.iter().zip(tables).zip(sockets) {
            shard.send(ShardCommand::Prepare(Box::new(Prepared { table, sockets })));
        }
        Ok(())
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
        let Reload { generation, specs, opened, failures, .. } = reload;
        self.generation = generation;
        self.listening.extend(opened);
        self.listening.retain(|key, _| specs.iter().any(|spec| spec.key == *key));
        self.specs = specs;
        for failure in failures {
            tracing::error!("{failure}");
        }
        if generation > 1 {
            tracing::info!(generation, "reloaded");
        }
        self.next_reload();
    }

    /// Gives a reload up; the generation before stays.
    pub(super) fn abort_reload(&mut self, reason: &str) {
        let generation = self.reload.take().map_or(self.generation + 1, |reload| reload.generation);
        self.tell_all(|| ShardCommand::Abort { generation });
        tracing::error!(generation, effective = self.generation, "not reloaded: {reason}");
        self.next_reload();
    }

    fn next_reload(&mut self) {
        if std::mem::take(&mut self.reload_again) {
            self.request_reload();
        }
    }
}
