//! What SIGUSR1 asks for: counters and load of each shard, printed as a line `dump` and kept in the status file.
//!
//! One collection runs at a time. Signals that come meanwhile are answered by one more, which begins after all of
//! them: an answer is never older than its question.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Supervisor;
use crate::shard::mailbox::{ShardCommand, ShardDump};

/// What a shard does at the moment.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Load {
    /// The core it is pinned to; `None` with `--no-pin`.
    pub core: Option<u32>,
    /// Client connections open.
    pub connections: u64,
    /// Client connections accepted since the start.
    pub accepted: u64,
    /// Requests since the start.
    pub requests: u64,
    /// CPU time of its thread over time, from 0 to 1, since the counters were asked for before.
    pub busy_share: f64,
    /// The same since the start.
    pub busy_share_total: f64,
    /// Its part of the connections that all shards accepted since the counters were asked for before; `None` if
    /// there was none.
    pub accept_share: Option<f64>,
    /// The same since the start.
    pub accept_share_total: Option<f64>,
}

/// A shard's load.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ShardLoad {
    /// Shard number.
    pub shard: usize,
    /// Its load.
    #[serde(flatten)]
    pub load: Load,
}

/// The load of all shards, as the status file has it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct LoadStatus {
    /// SIGUSR1s received.
    pub requests: u64,
    /// The value of `requests` when the last collection began.
    pub answered: u64,
    /// Seconds that the shares without `_total` cover.
    pub window_s: f64,
    /// By shard; empty before the first SIGUSR1.
    pub shards: Vec<ShardLoad>,
}

/// A shard's part of the line `dump`.
#[derive(Serialize)]
struct Entry<'d> {
    #[serde(flatten)]
    dump: &'d ShardDump,
    #[serde(flatten)]
    load: Load,
}

/// What shares are counted from.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    age_us: u64,
    cpu_us: u64,
    accepted: u64,
}

impl Sample {
    const fn of(dump: &ShardDump) -> Self {
        let stats = &dump.stats;
        // What the kernel gave to the shard, wherever it is served.
        let accepted =
            (stats.sessions + stats.sessions_handed_over).saturating_sub(stats.sessions_taken_over);
        Self { age_us: dump.age_us, cpu_us: dump.cpu_us, accepted }
    }

    const fn since(self, before: Self) -> Self {
        Self {
            age_us: self.age_us.saturating_sub(before.age_us),
            cpu_us: self.cpu_us.saturating_sub(before.cpu_us),
            accepted: self.accepted.saturating_sub(before.accepted),
        }
    }
}

/// The collection under way and what is kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Dumps {
    /// The core of each shard; `None` for those not pinned.
    pub(super) cores: Vec<Option<u32>>,
    /// What the status file says.
    pub(super) status: LoadStatus,
    /// `status.requests` when the collection began.
    begun: u64,
    /// Shards that have not answered yet.
    awaited: BTreeSet<usize>,
    dumps: Vec<ShardDump>,
    previous: Vec<Sample>,
}

impl Dumps {
    /// The load of the shards in `dumps`, whose order it keeps, and the seconds it covers.
    fn loads(&self) -> (Vec<Load>, f64) {
        let before = |shard: usize| self.previous.get(shard).copied().unwrap_or_default();
        let now: Vec<Sample> = self.dumps.iter().map(Sample::of).collect();
        let recent: Vec<Sample> =
            self.dumps.iter().zip(&now).map(|(dump, now)| now.since(before(dump.shard))).collect();
        let sum = |samples: &[Sample]| samples.iter().map(|sample| sample.accepted).sum::<u64>();
        let (accepted, accepted_recently) = (sum(&now), sum(&recent));
        let load = |((dump, now), recent): ((&ShardDump, &Sample), &Sample)| Load {
            core: self.cores.get(dump.shard).copied().flatten(),
            connections: dump.stats.sessions_open,
            accepted: now.accepted,
            requests: dump.stats.requests,
            busy_share: share(recent.cpu_us, recent.age_us).unwrap_or(0.0),
            busy_share_total: share(now.cpu_us, now.age_us).unwrap_or(0.0),
            accept_share: share(recent.accepted, accepted_recently),
            accept_share_total: share(now.accepted, accepted),
        };
        let window_us = recent.iter().map(|sample| sample.age_us).max().unwrap_or(0);
        (self.dumps.iter().zip(&now).zip(&recent).map(load).collect(), window_us as f64 / 1e6)
    }

    /// Ends a collection: its JSON, while the load goes into the status.
    fn finish(&mut self, generation: u64) -> serde_json::Value {
        self.dumps.sort_by_key(|dump| dump.shard);
        let (loads, window_s) = self.loads();
        let shards: Vec<_> =
            self.dumps.iter().zip(&loads).map(|(dump, load)| Entry { dump, load: load.clone() }).collect();
        let json = serde_json::json!({
            "generation": generation,
            "buffer_bytes": crate::sys::buffer::allocated_bytes(),
            "window_s": window_s,
            "shards": shards,
        });
        let status = self.dumps.iter().zip(loads).map(|(dump, load)| ShardLoad { shard: dump.shard, load });
        self.status.shards = status.collect();
        self.status.window_s = window_s;
        self.status.answered = self.begun;
        for dump in self.dumps.drain(..) {
            self.previous.resize(self.previous.len().max(dump.shard + 1), Sample::default());
            if let Some(sample) = self.previous.get_mut(dump.shard) {
                *sample = Sample::of(&dump);
            }
        }
        json
    }
}

/// From 0 to 1, to four digits; `None` of nothing.
fn share(part: u64, whole: u64) -> Option<f64> {
    let share = (part as f64 / whole as f64).min(1.0);
    (whole > 0).then(|| (share * 1e4).round() / 1e4)
}

impl Supervisor {
    /// Asks all shards, or once more when those asked have answered.
    pub(super) fn request_dump(&mut self) {
        self.dumps.status.requests += 1;
        self.update_status_file();
        if self.dumps.awaited.is_empty() {
            self.begin_dump();
        }
    }

    fn begin_dump(&mut self) {
        self.dumps.begun = self.dumps.status.requests;
        for (id, shard) in self.shards.iter().enumerate() {
            if !self.ended.contains(&id) {
                shard.send(ShardCommand::Dump);
                self.dumps.awaited.insert(id);
            }
        }
    }

    pub(super) fn take_dump(&mut self, dump: ShardDump) {
        if self.dumps.awaited.remove(&dump.shard) {
            self.dumps.dumps.push(dump);
            self.finish_dump();
        }
    }

    /// A shard that ended has no more to say.
    pub(super) fn dump_without(&mut self, shard: usize) {
        if self.dumps.awaited.remove(&shard) {
            self.finish_dump();
        }
    }

    fn finish_dump(&mut self) {
        if !self.dumps.awaited.is_empty() {
            return;
        }
        let mut dump = self.dumps.finish(self.generation);
        dump["certificate_not_after_seconds"] = self.certificates.not_after();
        if let Some((lines, _)) = &self.stdout {
            lines.send(format!("dump {dump}\n").into_bytes());
        }
        self.update_status_file();
        if self.dumps.status.requests > self.dumps.begun {
            self.begin_dump();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::stats::StatsSnapshot;

    fn dump(shard: usize, age_us: u64, cpu_us: u64, sessions: u64) -> ShardDump {
        let stats = StatsSnapshot { sessions, sessions_open: 3, requests: 9, ..StatsSnapshot::default() };
        ShardDump { shard, generation: 1, age_us, cpu_us, buffers_in_use: 0, timers: 0, stats }
    }

    /// The first shares cover all of a shard's life, later ones what came since.
    #[test]
    fn shares() {
        let mut dumps = Dumps { cores: vec![Some(4), None], begun: 1, ..Dumps::default() };
        dumps.dumps = vec![dump(1, 1_000_000, 10, 3), dump(0, 1_000_000, 250_000, 1)];
        dumps.finish(1);
        let [first, second] = &dumps.status.shards[..] else { panic!("{:?}", dumps.status) };
        assert_eq!((first.shard, second.shard, dumps.status.window_s, dumps.status.answered), (0, 1, 1.0, 1));
        let expected = Load {
            core: Some(4),
            connections: 3,
            accepted: 1,
            requests: 9,
            busy_share: 0.25,
            busy_share_total: 0.25,
            accept_share: Some(0.25),
            accept_share_total: Some(0.25),
        };
        assert_eq!((&first.load, second.load.core), (&expected, None));

        dumps.dumps = vec![dump(0, 3_000_000, 2_250_000, 1), dump(1, 3_000_000, 20, 3)];
        let json = dumps.finish(2);
        let [first, second] = &dumps.status.shards[..] else { panic!("{:?}", dumps.status) };
        assert_eq!((first.load.busy_share, first.load.busy_share_total), (1.0, 0.75));
        assert_eq!((second.load.accept_share, second.load.accept_share_total), (None, Some(0.75)));
        assert_eq!((&json["generation"], &json["window_s"]), (&2.into(), &2.0.into()));
        assert_eq!(json["shards"][0]["stats"]["sessions"], 1);
        assert_eq!((&json["shards"][0]["core"], &json["shards"][0]["shard"]), (&4.into(), &0.into()));
    }

    /// A shard that ended is left out, and clocks that disagree give no share beyond 1.
    #[test]
    fn odd_numbers() {
        let mut dumps = Dumps { cores: vec![None; 2], ..Dumps::default() };
        dumps.dumps = vec![dump(1, 0, 500, 0)];
        dumps.finish(1);
        assert_eq!(dumps.status.shards[0].load.busy_share, 0.0);
        dumps.dumps = vec![dump(1, 10, 600, 2)];
        dumps.finish(1);
        let load = &dumps.status.shards[0].load;
        assert_eq!((load.busy_share, load.accept_share), (1.0, Some(1.0)));
    }
}
