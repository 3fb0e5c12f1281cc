//! What a comparison came to: figures per case and peer, as JSON and for the reports.

use std::collections::BTreeMap;

use serde::Serialize;

use super::peers::{ConfigFile, Missing, PeerKind};
use super::receipt::Receipt;
use super::stats::{Better, Ratio, Rounds, Summary, merge_quantiles};

/// Something that is measured. The order is that of columns.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// CPU time of the proxy per answered request.
    CpuPerRequest,
    /// CPU time of the proxy per MiB of content.
    CpuPerMib,
    /// Answered requests per second.
    RequestsPerSecond,
    /// Content per second.
    MibPerSecond,
    /// Latency.
    P50,
    /// Latency.
    P99,
    /// Latency.
    P999,
    /// Latency before the reloads.
    P99Quiet,
    /// Requests that were not answered as expected.
    Lost,
    /// Reloads during the run.
    Reloads,
    /// Memory per connection that never asked for anything; with TLS, its handshake was made.
    SilentBytes,
    /// Memory per connection after a request.
    IdleBytes,
    /// Resident memory at the end.
    Memory,
    /// Share of its cores that the proxy was busy.
    Busy,
    /// Share of the time that the proxy was ready to run while others had its cores.
    Waited,
    /// From start to serving.
    Start,
}

impl Metric {
    /// Name, unit included.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::CpuPerRequest => "CPU us/request",
            Self::CpuPerMib => "CPU us/MiB",
            Self::RequestsPerSecond => "requests/s",
            Self::MibPerSecond => "MiB/s",
            Self::P50 => "p50 us",
            Self::P99 => "p99 us",
            Self::P999 => "p99.9 us",
            Self::P99Quiet => "p99 us before",
            Self::Lost => "lost requests",
            Self::Reloads => "reloads",
            Self::SilentBytes => "bytes/silent conn.",
            Self::IdleBytes => "bytes/idle conn.",
            Self::Memory => "RSS MiB",
            Self::Busy => "busy %",
            Self::Waited => "waited %",
            Self::Start => "start ms",
        }
    }

    /// Which figures are good ones; `None` where neither is.
    pub(crate) const fn better(self) -> Option<Better> {
        match self {
            Self::RequestsPerSecond | Self::MibPerSecond => Some(Better::Higher),
            Self::Busy | Self::Waited | Self::Reloads => None,
            _ => Some(Better::Lower),
        }
    }
}

/// Figures of one peer while rounds go on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    values: BTreeMap<Metric, Vec<f64>>,
    quantiles: Vec<Vec<(f64, f64)>>,
    /// What a reader of the figures must know.
    pub(crate) notes: Vec<String>,
    /// Why the last round that is not among the figures was invalid.
    invalid: Option<String>,
    /// Why there are none, though nothing failed.
    pub(crate) left_out: Option<String>,
    /// Why there are no (more) figures.
    pub(crate) failure: Option<String>,
    /// What the proxy said when it was ready.
    pub(crate) proxy_said: String,
    /// How the proxy was started.
    pub(crate) proxy_command: String,
    /// How the generator was started.
    pub(crate) generator_command: String,
    /// The proxy's files.
    pub(crate) files: Vec<ConfigFile>,
}

impl Samples {
    /// Adds a round's figure.
    pub(crate) fn add(&mut self, metric: Metric, value: f64) {
        self.values.entry(metric).or_default().push(value);
    }

    /// Adds a round's latency distribution.
    pub(crate) fn add_quantiles(&mut self, quantiles: Vec<(f64, f64)>) {
        self.quantiles.push(quantiles);
    }

    /// Adds a note, once.
    pub(crate) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// A round that is not among the figures, and why.
    pub(crate) fn leave_out_round(&mut self, reason: String) {
        self.note(format!("a round is left out, {reason}"));
        self.invalid = Some(reason);
    }

    /// After the last round: without a valid one, there is no result.
    pub(crate) fn end(&mut self) {
        if let (true, Some(reason)) = (self.values.is_empty(), &self.invalid) {
            self.failure.get_or_insert_with(|| format!("no round was valid: {reason}"));
            self.notes.clear();
        }
    }

    fn rounds(&self, metric: Metric, judged: bool) -> Option<Rounds> {
        let values = self.values.get(&metric)?;
        Some((Summary::of(values)?, if judged { values.len() } else { 0 }))
    }
}

/// One figure of one peer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) metric: Metric,
    /// Its name with the unit.
    pub(crate) label: &'static str,
    /// Each round's.
    pub(crate) values: Vec<f64>,
    /// Over the rounds.
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// Beside the best of the others.
    pub(crate) ratio: Option<Ratio>,
}

/// A case's figures of one peer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PeerResult {
    /// Whose.
    pub(crate) peer: PeerKind,
    /// Its figures.
    pub(crate) figures: Vec<Figure>,
    /// Median latency distribution: quantile and microseconds.
    pub(crate) quantiles: Vec<(f64, f64)>,
    /// What a reader of the figures must know.
    pub(crate) notes: Vec<String>,
    /// Why it has no figures, though nothing failed.
    pub(crate) left_out: Option<String>,
    /// Why it has no figures, or not of all rounds.
    pub(crate) failure: Option<String>,
    /// What the proxy said when it was ready.
    pub(crate) proxy_said: String,
    /// How the proxy was started.
    pub(crate) proxy_command: String,
    /// How the generator was started.
    pub(crate) generator_command: String,
    /// The proxy's files; long ones are cut.
    pub(crate) files: Vec<ConfigFile>,
}

impl PeerResult {
    /// A figure, if it was measured.
    pub(crate) fn figure(&self, metric: Metric) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.metric == metric)
    }
}

/// A case's results.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CaseResult {
    /// Name.
    pub(crate) name: String,
    /// What was done.
    pub(crate) about: String,
    /// The figure that it is about.
    pub(crate) primary: Metric,
    /// Why it was left out, if it was.
    pub(crate) skipped: Option<String>,
    /// Cores of the proxy, the generator and the backend, where they are not the common ones.
    pub(crate) cores: Option<super::cores::Layout>,
    /// Of each peer that was there.
    pub(crate) peers: Vec<PeerResult>,
}

impl CaseResult {
    /// The metrics that any peer has, in the order of columns.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let all = self.peers.iter().flat_map(|peer| peer.figures.iter().map(|figure| figure.metric));
        let mut metrics: Vec<_> = all.collect();
        metrics.sort_unstable();
        metrics.dedup();
        metrics
    }
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    /// Version of this format.
    pub(crate) format: u32,
    /// Where, with what and how.
    pub(crate) receipt: Receipt,
    /// Whether it was ended before all was measured; the rounds that were finished are there.
    pub(crate) interrupted: bool,
    /// Peers that were not measured, and why.
    pub(crate) missing: Vec<Missing>,
    /// The results.
    pub(crate) cases: Vec<CaseResult>,
}

/// Bytes of a proxy's file that are kept: enough for all but tables of hosts.
const FILE_BYTES_MAX: usize = 8 * 1024;

/// Puts the peers' figures side by side; `judged` says whether they can tell who is better.
pub(crate) fn conclude(samples: Vec<(PeerKind, Samples)>, judged: bool) -> Vec<PeerResult> {
    let conclude_one = |(index, (peer, own)): (usize, &(PeerKind, Samples))| {
        let figure = |(&metric, values): (&Metric, &Vec<f64>)| {
            let (summary, rounds) = own.rounds(metric, judged)?;
            let others = samples.iter().enumerate().filter(|(other, _)| *other != index);
            let others = others.filter_map(|(_, (_, other))| other.rounds(metric, judged));
            let ratio = metric.better().and_then(|better| Ratio::of((summary, rounds), others, better));
            Some(Figure { metric, label: metric.label(), values: values.clone(), summary, ratio })
        };
        PeerResult {
            peer: *peer,
            figures: own.values.iter().filter_map(figure).collect(),
            quantiles: merge_quantiles(&own.quantiles),
            notes: own.notes.clone(),
            left_out: own.left_out.clone(),
            failure: own.failure.clone(),
            proxy_said: own.proxy_said.clone(),
            proxy_command: own.proxy_command.clone(),
            generator_command: own.generator_command.clone(),
            files: own.files.iter().map(cut).collect(),
        }
    };
    samples.iter().enumerate().map(conclude_one).collect()
}

fn cut(file: &ConfigFile) -> ConfigFile {
    let mut text = file.text.clone();
    if let Some((end, _)) = text.char_indices().find(|(at, _)| *at >= FILE_BYTES_MAX) {
        text.truncate(end);
        text.push_str("\n[..]\n");
    }
    ConfigFile { name: file.name.clone(), text }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::compare::stats::Verdict;

    #[test]
    fn figures_are_compared_with_the_best_of_the_others() {
        let samples = |values: &[f64]| {
            let mut samples = Samples::default();
            values.iter().for_each(|&value| samples.add(Metric::CpuPerRequest, value));
            samples.add(Metric::Busy, 90.0);
            samples
        };
        let failed = Samples { failure: Some("it broke".into()), ..Samples::default() };
        let peers = vec![
            (PeerKind::Ringgate, samples(&[8.0, 9.0, 7.0])),
            (PeerKind::Nginx, samples(&[10.0, 10.5, 9.5])),
            (PeerKind::Haproxy, samples(&[12.0, 12.0, 12.0])),
            (PeerKind::Envoy, failed),
        ];
        let results = conclude(peers.clone(), true);
        let ratios: Vec<_> = results
            .iter()
            .map(|peer| peer.figure(Metric::CpuPerRequest).map(|figure| figure.ratio.unwrap()))
            .map(|ratio| ratio.map(|ratio| (ratio.value, ratio.verdict.unwrap())))
            .collect();
        assert_eq!(ratios[0], Some((0.8, Verdict::Better)));
        assert_eq!(ratios[1], Some((1.25, Verdict::Worse)));
        assert_eq!(ratios[2], Some((1.5, Verdict::Worse)));
        assert_eq!(ratios[3], None);
        assert_eq!(results[0].figure(Metric::Busy).unwrap().ratio, None);
        assert_eq!(results[3].failure.as_deref(), Some("it broke"));
        // On shared cores the ratio is shown and nobody is called better.
        let ratio = conclude(peers, false)[0].figure(Metric::CpuPerRequest).unwrap().ratio.unwrap();
        assert_eq!((ratio.value, ratio.verdict), (0.8, None));
    }

    #[test]
    fn invalid_rounds_are_named_and_without_others_a_failure() {
        let mut some = Samples::default();
        some.leave_out_round("2 % failed".into());
        let mut none = some.clone();
        some.add(Metric::P50, 1.0);
        some.end();
        none.end();
        assert_eq!(
            (some.failure, &some.notes[..]),
            (None, &["a round is left out, 2 % failed".to_owned()][..])
        );
        assert_eq!(none.failure.as_deref(), Some("no round was valid: 2 % failed"));
    }

    #[test]
    fn long_files_are_cut() {
        let file = ConfigFile { name: "hosts".into(), text: "é".repeat(FILE_BYTES_MAX) };
        let cut = cut(&file).text;
        assert!(cut.len() < FILE_BYTES_MAX + 20 && cut.ends_with("[..]\n"));
    }
}
