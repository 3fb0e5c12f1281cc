//! Rounds over all layouts, and the rounds in which the best of them meets the default again.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use super::args::TuneArgs;
use super::children::Stop;
use super::layouts::{Layout, LoadPlace, Sharing, is_comparable};
use super::measure::{Bench, HarnessReceipt, Measure, Sample};
use super::statistics::{GAIN_MIN, Interval, PAIRS_MIN, median};
use crate::err;

/// A layout and what became of it.
pub(super) struct Entry {
    pub(super) layout: Layout,
    pub(super) place: LoadPlace,
    /// One for each round in which it was measured.
    pub(super) samples: Vec<Sample>,
    /// Why it was not measured any further.
    pub(super) failure: Option<String>,
    /// The driver that it ran on.
    pub(super) driver: String,
}

impl Entry {
    pub(super) fn new(layout: Layout, place: LoadPlace) -> Self {
        Self { layout, place, samples: Vec::new(), failure: None, driver: String::new() }
    }

    /// Gains over `other` in the same rounds.
    pub(super) fn gains(&self, other: &Self, measure: Measure) -> Vec<f64> {
        gains(self.samples.iter().zip(&other.samples), measure)
    }

    pub(super) fn is_comparable(&self, other: &Self) -> bool {
        is_comparable((&self.layout, &self.place), (&other.layout, &other.place))
    }
}

/// Gains of the first of each pair over the second.
fn gains<'s>(pairs: impl Iterator<Item = (&'s Sample, &'s Sample)>, measure: Measure) -> Vec<f64> {
    pairs.filter_map(|(own, other)| own.gain(other, measure)).collect()
}

/// By what the layouts are told apart here.
pub(super) fn measure_of(entries: &[Entry]) -> Measure {
    match entries.first().map(|default| default.place.sharing) {
        Some(Sharing::Shared) => Measure::CpuPerRequest,
        _ => Measure::RequestsPerSecond,
    }
}

/// The rounds of the best against the default.
pub(super) struct Confirmation {
    /// Index of the layout.
    pub(super) entry: usize,
    /// The layout and the default, a pair for each round.
    pub(super) pairs: Vec<(Sample, Sample)>,
    pub(super) failure: Option<String>,
}

impl Confirmation {
    /// Gains over the default.
    pub(super) fn gains(&self, measure: Measure) -> Vec<f64> {
        gains(self.pairs.iter().map(|(best, default)| (best, default)), measure)
    }

    /// Where the gain lies; `None` when a measurement failed.
    pub(super) fn interval(&self, measure: Measure) -> Option<Interval> {
        Interval::of(&self.gains(measure)).filter(|_| self.failure.is_none())
    }
}

/// How many rounds a confirmation has.
pub(super) fn confirmation_rounds(args: &TuneArgs) -> u32 {
    args.rounds.max(PAIRS_MIN as u32)
}

/// Measures all entries in turn and takes note of what each came to.
pub(super) fn screen(
    bench: &Bench,
    entries: &mut [Entry],
    rounds: u32,
    progress: &mut Progress,
) -> Result<HarnessReceipt, Stop> {
    let mut receipt = HarnessReceipt::default();
    for round in 0..rounds as usize {
        for position in 0..entries.len() {
            // Each starts a round in its turn.
            let index = (round + position) % entries.len();
            let Some(entry) = entries.get_mut(index).filter(|entry| entry.failure.is_none()) else {
                continue;
            };
            progress.show(&format!("round {}/{rounds}, layout {}", round + 1, index + 1));
            match bench.measure(&entry.layout, &entry.place) {
                Ok(measured) => {
                    entry.samples.push(measured.sample);
                    entry.driver = measured.driver;
                    receipt = measured.harness;
                }
                Err(Stop::Failed(reason)) => entry.failure = Some(reason),
                Err(Stop::Interrupted) => return Err(Stop::Interrupted),
            }
            progress.step();
        }
    }
    Ok(receipt)
}

/// The layout that may be better than the first, by the medians of the gains; `None` if none is by enough.
pub(super) fn candidate(entries: &[Entry]) -> Option<usize> {
    let measure = measure_of(entries);
    let default = entries.first()?;
    let medians = entries.iter().enumerate().skip(1).filter_map(|(index, entry)| {
        let whole = entry.failure.is_none() && entry.is_comparable(default);
        whole.then(|| median(&entry.gains(default, measure))).flatten().map(|median| (index, median))
    });
    let best = medians.max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.filter(|(_, median)| *median >= GAIN_MIN).map(|(index, _)| index)
}

/// Measures the candidate and the default in pairs, each first in its turn.
pub(super) fn confirm(
    bench: &Bench,
    entries: &[Entry],
    entry: usize,
    rounds: u32,
    progress: &mut Progress,
) -> Result<Confirmation, Stop> {
    let mut confirmation = Confirmation { entry, pairs: Vec::new(), failure: None };
    let (Some(default), Some(best)) = (entries.first(), entries.get(entry)) else { return Ok(confirmation) };
    for round in 0..rounds {
        let best_first = round % 2 == 1;
        let order = if best_first { [best, default] } else { [default, best] };
        let mut samples = Vec::new();
        for entry in order {
            progress.show(&format!("confirming, round {}/{rounds}", round + 1));
            match bench.measure(&entry.layout, &entry.place) {
                Ok(measured) => samples.push(measured.sample),
                Err(Stop::Failed(reason)) => {
                    confirmation.failure = Some(reason);
                    return Ok(confirmation);
                }
                Err(Stop::Interrupted) => return Err(Stop::Interrupted),
            }
            progress.step();
        }
        if best_first {
            samples.reverse();
        }
        if let [default, best] = samples[..] {
            confirmation.pairs.push((best, default));
        }
    }
    Ok(confirmation)
}

/// A line on stderr that says how far it is, where that is a terminal.
pub(super) struct Progress {
    shown: bool,
    total: u32,
    done: u32,
    started: Instant,
    estimate: Duration,
}

impl Progress {
    /// `total` measurements of about `estimate` each.
    pub(super) fn new(total: u32, estimate: Duration) -> Self {
        let shown = std::io::stderr().is_terminal();
        Self { shown, total, done: 0, started: Instant::now(), estimate }
    }

    /// More is to be done.
    pub(super) fn extend(&mut self, measurements: u32) {
        self.total += measurements;
    }

    fn show(&self, what: &str) {
        if self.shown {
            let each = self.started.elapsed().checked_div(self.done).unwrap_or(self.estimate);
            let left = each * self.total.saturating_sub(self.done);
            err!("\r{what}, about {} left\u{1b}[K", show_time(left));
        }
    }

    const fn step(&mut self) {
        self.done += 1;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            err!("\r\u{1b}[K");
        }
    }
}

/// `3 min 20 s`.
pub(super) fn show_time(time: Duration) -> String {
    let seconds = time.as_secs_f64().ceil() as u64;
    match seconds / 60 {
        0 => format!("{seconds} s"),
        minutes => format!("{minutes} min {} s", seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Cores, Driver};

    fn entry(rates: &[f64], shards: u32, sharing: Sharing) -> Entry {
        let layout = Layout {
            cores: Cores::Count(shards),
            placed: (0..shards).collect(),
            pinned: true,
            driver: Driver::Auto,
            ring_entries: 4096,
        };
        let place = LoadPlace { generator: vec![9], backend: vec![9], sharing };
        let sample = |&rate: &f64| Sample {
            requests_per_second: rate,
            cpu_us_per_request: Some(1e6 / rate),
            p99_us: 1.0,
        };
        Entry { samples: rates.iter().map(sample).collect(), ..Entry::new(layout, place) }
    }

    #[test]
    fn chooses_whom_to_confirm() {
        let own = |rates: &[f64], shards| entry(rates, shards, Sharing::Own);
        let shared = |rates: &[f64], shards| entry(rates, shards, Sharing::Shared);
        let flat = [100.0, 100.0, 100.0];
        let good = [110.0, 90.0, 112.0];
        assert_eq!(candidate(&[own(&flat, 2), own(&good, 2), own(&[111.0, 111.0, 115.0], 1)]), Some(2));
        assert_eq!(candidate(&[own(&flat, 2), own(&[102.0, 102.0, 150.0], 2)]), None, "too little");
        assert_eq!(candidate(&[own(&flat, 2)]), None);
        assert_eq!(candidate(&[shared(&flat, 2), shared(&good, 1)]), None, "the load took from the other");
        assert_eq!(candidate(&[shared(&flat, 2), own(&good, 2)]), None);
        assert_eq!(candidate(&[shared(&flat, 2), shared(&good, 2)]), Some(1));
        // Where the load takes the shards' time, a rate counts for nothing.
        let mut wasteful = shared(&good, 2);
        wasteful.samples.iter_mut().for_each(|sample| sample.cpu_us_per_request = Some(2e4));
        assert_eq!(candidate(&[shared(&flat, 2), wasteful]), None);
        let failed = Entry { failure: Some("x".into()), ..own(&good, 2) };
        assert_eq!(candidate(&[own(&flat, 2), failed]), None);
    }

    #[test]
    fn times() {
        assert_eq!(show_time(Duration::from_millis(1200)), "2 s");
        assert_eq!(show_time(Duration::from_secs(200)), "3 min 20 s");
    }
}
