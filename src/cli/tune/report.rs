//! The outcome as text and as JSON: what was tried, what is better and how sure that is, what to set.

use std::fmt::Write as _;
use std::fs;

use serde::Serialize;

use super::args::{Scenario, TuneArgs};
use super::layouts::{Layout, LoadPlace, Sharing, driver_name};
use super::measure::{Bench, HarnessReceipt, Measure, Sample};
use super::rounds::{Confirmation, Entry, confirmation_rounds, measure_of, show_time};
use super::statistics::{Interval, median, range};
use crate::cli::output::{Table, Tone, counted};
use crate::config::render::Colour;
use crate::supervisor::topology::format_list;

/// What `tune` says in the end.
#[derive(Serialize)]
pub(super) struct Report {
    decided_by: Measure,
    layouts: Vec<LayoutReport>,
    confirmation: Option<ConfirmationReport>,
    verdict: Verdict,
    /// What to put into the configuration; empty when that is to stay without.
    toml: String,
    /// What to add to `ringgate run`.
    options: &'static [&'static str],
    notes: Vec<String>,
    receipt: Receipt,
}

#[derive(Serialize)]
struct LayoutReport {
    /// From 1.
    layout: usize,
    is_default: bool,
    cores: String,
    shard_cores: Vec<u32>,
    pinned: bool,
    driver: &'static str,
    /// What that came to; empty where it was not measured.
    driver_used: String,
    ring_entries: u32,
    load: LoadPlace,
    comparable: bool,
    not_measured: Option<String>,
    requests_per_second: Option<f64>,
    cpu_us_per_request: Option<f64>,
    p99_us: Option<f64>,
    /// Over the default in the same round, by what decides: median, least and greatest; above 1 is better.
    gain: Option<f64>,
    gain_range: Option<(f64, f64)>,
    rounds: Vec<Sample>,
}

#[derive(Serialize)]
struct ConfirmationReport {
    layout: usize,
    /// Of the gains that decide.
    interval: Option<Interval>,
    /// One for each pair of rounds; above 1 is better.
    cpu_gains: Vec<f64>,
    request_gains: Vec<f64>,
    failure: Option<String>,
}

#[derive(Serialize)]
struct Verdict {
    better: bool,
    /// The layout to use.
    layout: usize,
    text: String,
}

#[derive(Serialize)]
struct Receipt {
    version: &'static str,
    harness: HarnessReceipt,
    kernel: String,
    cpu: String,
    command: Vec<String>,
}

impl Receipt {
    fn new(harness: HarnessReceipt) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == "model name").then(|| value.trim().to_owned())
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            harness,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: model.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            command: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        }
    }
}

impl Report {
    pub(super) fn new(
        entries: Vec<Entry>,
        confirmation: Option<Confirmation>,
        harness: HarnessReceipt,
    ) -> Self {
        let measure = measure_of(&entries);
        let is_better = |it: &&Confirmation| it.interval(measure).is_some_and(|it| it.is_better());
        let better = confirmation.as_ref().filter(is_better).map(|confirmation| confirmation.entry);
        let best = better.and_then(|index| entries.get(index)).map(|entry| &entry.layout);
        let (toml, options) =
            (best.map_or_else(String::new, Layout::toml), best.map_or(&[][..], Layout::options));
        let text = verdict(&entries, confirmation.as_ref(), measure);
        Self {
            decided_by: measure,
            notes: notes(&entries),
            layouts: layout_reports(entries, measure),
            confirmation: confirmation.map(|confirmation| ConfirmationReport {
                layout: confirmation.entry + 1,
                interval: confirmation.interval(measure),
                cpu_gains: confirmation.gains(Measure::CpuPerRequest),
                request_gains: confirmation.gains(Measure::RequestsPerSecond),
                failure: confirmation.failure,
            }),
            verdict: Verdict { better: better.is_some(), layout: better.map_or(1, |index| index + 1), text },
            toml,
            options,
            receipt: Receipt::new(harness),
        }
    }

    /// Why the default was not measured, without which nothing can be said.
    pub(super) fn failure(&self) -> Option<&str> {
        self.layouts.first()?.not_measured.as_deref()
    }

    pub(super) fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    pub(super) fn text(&self, colour: Colour) -> String {
        let mut text = self.table(colour).to_string();
        for layout in &self.layouts {
            if let Some(reason) = &layout.not_measured {
                let _ = writeln!(text, "\nlayout {} was not measured: {reason}", layout.layout);
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "\nnote: {note}");
        }
        let _ = writeln!(text, "\n{}", self.verdict.text);
        if !self.toml.is_empty() {
            let _ = writeln!(text, "\n{}", self.toml.trim_end());
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "\nringgate run CONFIG {}", self.options.join(" "));
        }
        let Receipt { version, harness, kernel, cpu, command } = &self.receipt;
        let commit = if harness.commit.is_empty() { "commit unknown" } else { &harness.commit };
        let _ = writeln!(text, "\nringgate   {version}\nharness    {} ({commit})", harness.version);
        let _ = writeln!(text, "host       Linux {kernel}, {cpu}\ncommand    {}", command.join(" "));
        if !harness.date.is_empty() {
            let _ = writeln!(text, "date       {}", harness.date);
        }
        text
    }

    fn table(&self, colour: Colour) -> Table {
        let header = ["LAYOUT", "REQUESTS/S", "CPU US", "P99 US", "GAIN", "LEAST", "MOST", ""];
        let mut table = Table::new(colour, &header);
        let best = self.verdict.better.then_some(self.verdict.layout);
        for layout in &self.layouts {
            let number = |value: Option<f64>, digits: usize| {
                value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"))
            };
            // A number would be taken for a comparison.
            let gain = |value: Option<f64>| number(value.filter(|_| layout.comparable), 3);
            let remark = match layout {
                _ if layout.not_measured.is_some() => "not measured",
                _ if layout.is_default => "default",
                _ if !layout.comparable => "not compared",
                _ => "",
            };
            let cells = vec![
                layout.layout.to_string(),
                number(layout.requests_per_second, 0),
                number(layout.cpu_us_per_request, 2),
                number(layout.p99_us, 0),
                gain(layout.gain),
                gain(layout.gain_range.map(|(least, _)| least)),
                gain(layout.gain_range.map(|(_, most)| most)),
                remark.to_owned(),
            ];
            table.row(if Some(layout.layout) == best { Tone::Bright } else { Tone::Plain }, cells);
        }
        table
    }
}

fn layout_reports(entries: Vec<Entry>, measure: Measure) -> Vec<LayoutReport> {
    let of_default: Vec<_> = match entries.first() {
        Some(default) => {
            entries.iter().map(|it| (it.gains(default, measure), it.is_comparable(default))).collect()
        }
        None => Vec::new(),
    };
    let of_entry = |(index, (entry, (gains, comparable))): (usize, (Entry, (Vec<f64>, bool)))| {
        let all = |value: fn(&Sample) -> Option<f64>| {
            median(&entry.samples.iter().filter_map(value).collect::<Vec<f64>>())
        };
        LayoutReport {
            layout: index + 1,
            is_default: index == 0,
            cores: entry.layout.cores.to_string(),
            shard_cores: entry.layout.placed.clone(),
            pinned: entry.layout.pinned,
            driver: driver_name(entry.layout.driver),
            ring_entries: entry.layout.ring_entries,
            comparable,
            requests_per_second: all(|sample| Some(sample.requests_per_second)),
            cpu_us_per_request: all(|sample| sample.cpu_us_per_request),
            p99_us: all(|sample| Some(sample.p99_us)),
            gain: median(&gains),
            gain_range: range(&gains),
            driver_used: entry.driver,
            load: entry.place,
            not_measured: entry.failure,
            rounds: entry.samples,
        }
    };
    entries.into_iter().zip(of_default).enumerate().map(of_entry).collect()
}

/// Sentences for people.
fn verdict(entries: &[Entry], confirmation: Option<&Confirmation>, measure: Measure) -> String {
    let default = entries.first();
    if default.is_none_or(|default| default.failure.is_some()) {
        return "the default could not be measured: nothing can be said".into();
    }
    let others = entries.iter().skip(1).filter(|entry| entry.failure.is_none());
    if !others.clone().any(|entry| default.is_some_and(|default| entry.is_comparable(default))) {
        return "no layout can be compared with the default on this host: keep the default".into();
    }
    let keep = "no layout is better than the default beyond the noise: keep the default";
    let Some(confirmation) = confirmation else { return keep.into() };
    let number = confirmation.entry + 1;
    if let Some(reason) = &confirmation.failure {
        return format!(
            "layout {number} looked better, but could not be measured again ({reason}): keep the default"
        );
    }
    let Some(interval) = confirmation.interval(measure) else { return keep.into() };
    let Interval { median: gain, low, high, confidence, pairs } = interval;
    let (what, other, beside) = match measure {
        Measure::CpuPerRequest => (
            "requests of the default in the same CPU time",
            Measure::RequestsPerSecond,
            "requests per second",
        ),
        Measure::RequestsPerSecond => {
            ("requests per second of the default", Measure::CpuPerRequest, "requests in the same CPU time")
        }
    };
    let beside = median(&confirmation.gains(other))
        .map_or_else(String::new, |gain| format!("; {gain:.3} times the {beside}"));
    let numbers = format!(
        "serves {gain:.3} times the {what} ({:.1} % interval {low:.3} to {high:.3}, {pairs} pairs of rounds of their \
         own){beside}",
        confidence * 100.0
    );
    if interval.is_better() {
        format!("layout {number} is better: it {numbers}.\nSet:")
    } else {
        format!("{keep}\nlayout {number} looked better at first; measured again, it {numbers}")
    }
}

/// What a reader must know to take the numbers for what they are.
fn notes(entries: &[Entry]) -> Vec<String> {
    let numbers = |wanted: &dyn Fn(&Entry) -> bool| {
        let all = entries.iter().zip(1u32..).filter(|(entry, _)| wanted(entry));
        all.map(|(_, number)| number).collect::<Vec<u32>>()
    };
    let mut notes = Vec::new();
    let shared = numbers(&|entry| entry.place.sharing == Sharing::Shared);
    if !shared.is_empty() {
        notes.push(format!(
            "generator and backend share cores with the shards (layouts: {}): rates and latencies mostly show this \
             shared host. {}Name --load-cores that no layout uses, or tune on a larger host",
            format_list(&shared),
            match measure_of(entries) {
                Measure::CpuPerRequest => "What decides is the gateway's CPU time per request. ",
                Measure::RequestsPerSecond => "",
            }
        ));
    }
    let siblings = numbers(&|entry| entry.place.sharing == Sharing::Siblings);
    if !siblings.is_empty() {
        notes.push(format!(
            "generator and backend run on the other threads of the shards' physical cores (layouts: {})",
            format_list(&siblings)
        ));
    }
    let apart = numbers(&|entry| entries.first().is_some_and(|default| !entry.is_comparable(default)));
    if !apart.is_empty() {
        notes.push(format!(
            "the load has other cores than beside the default, or takes its time from another number of shards \
             (layouts: {}): they are not compared with it, whatever their numbers",
            format_list(&apart)
        ));
    }
    notes
}

/// What is going to be measured, before it is.
pub(super) fn plan(args: &TuneArgs, entries: &[Entry]) -> String {
    let mut table = Table::new(
        Colour::Plain,
        &["LAYOUT", "CORES", "SHARDS", "ON", "PINNED", "DRIVER", "RING", "LOAD ON", ""],
    );
    for (index, Entry { layout, place, .. }) in entries.iter().enumerate() {
        let mut load: Vec<u32> = place.generator.iter().chain(&place.backend).copied().collect();
        load.sort_unstable();
        load.dedup();
        let load = if load.is_empty() { "any".into() } else { format_list(&load) };
        let sharing = match place.sharing {
            Sharing::Own => "",
            Sharing::Siblings => " (siblings)",
            Sharing::Shared => " (shared)",
        };
        let cells = vec![
            (index + 1).to_string(),
            layout.cores.to_string(),
            layout.placed.len().to_string(),
            if layout.pinned { format_list(&layout.placed) } else { "any".into() },
            if layout.pinned { "yes" } else { "no" }.into(),
            driver_name(layout.driver).into(),
            layout.ring_entries.to_string(),
            format!("{load}{sharing}"),
            if index == 0 { "default" } else { "" }.into(),
        ];
        table.row(Tone::Plain, cells);
    }
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let each = Bench::estimate(args);
    let (first, more) = (each * count * args.rounds, each * 2 * confirmation_rounds(args));
    let kind = match args.scenario {
        Scenario::Close => "a new one for each request",
        Scenario::KeepAlive => "kept alive",
    };
    format!(
        "{}, {} of {:.1} s each, {} ({kind}): about {}, and {} more if one looks better than the default\n\n\
         {table}\n",
        counted(entries.len(), "layout", "layouts"),
        counted(args.rounds as usize, "round", "rounds"),
        args.seconds.as_secs_f64(),
        counted(args.connections as usize, "connection", "connections"),
        show_time(first),
        show_time(more)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Cores, Driver, RING_ENTRIES_DEFAULT};

    const OWN: Sharing = Sharing::Own;

    fn samples(rates: &[f64]) -> Vec<Sample> {
        let sample = |&rate: &f64| Sample {
            requests_per_second: rate,
            cpu_us_per_request: Some(1e6 / rate),
            p99_us: 900.0,
        };
        rates.iter().map(sample).collect()
    }

    fn entry(driver: Driver, pinned: bool, sharing: Sharing, rates: &[f64]) -> Entry {
        let (cores, ring_entries) = (Cores::Auto, RING_ENTRIES_DEFAULT);
        let layout = Layout { cores, placed: vec![0, 1], pinned, driver, ring_entries };
        let place = LoadPlace { generator: vec![2], backend: vec![3], sharing };
        Entry { samples: samples(rates), ..Entry::new(layout, place) }
    }

    fn report(others: Vec<Entry>, confirmed: &[f64]) -> Report {
        let mut entries = vec![entry(Driver::Auto, true, OWN, &[100.0; 3])];
        entries.extend(others);
        let pairs = samples(confirmed).into_iter().zip(samples(&vec![100.0; confirmed.len()])).collect();
        let confirmation = (!confirmed.is_empty()).then_some(Confirmation { entry: 1, pairs, failure: None });
        Report::new(entries, confirmation, HarnessReceipt::default())
    }

    #[test]
    fn a_clear_win_is_set() {
        let epoll = || vec![entry(Driver::Epoll, true, OWN, &[110.0; 3])];
        let win = report(epoll(), &[110.0, 112.0, 108.0, 111.0, 109.0, 113.0]);
        let text = win.text(Colour::Plain);
        let verdict = "layout 2 is better: it serves 1.105 times the requests per second of the default (96.9 % \
                       interval 1.080 to 1.130, 6 pairs of rounds of their own); 1.105 times the requests in the same \
                       CPU time.\nSet:\n\n[process]\ndriver = \"epoll\"\n";
        assert!(text.contains(verdict), "{text}");
        assert!(text.contains("commit unknown") && win.failure().is_none(), "{text}");
        assert_eq!((win.verdict.better, win.verdict.layout), (true, 2));
        // Pins have no key.
        let loose = vec![entry(Driver::Auto, false, OWN, &[110.0; 3])];
        let text = report(loose, &[110.0; 6]).text(Colour::Plain);
        assert!(
            text.contains("Set:\n\nringgate run CONFIG --no-pin\n") && !text.contains("[process]"),
            "{text}"
        );
    }

    #[test]
    fn noise_is_called_noise() {
        let epoll = || vec![entry(Driver::Epoll, true, OWN, &[110.0; 3])];
        for confirmed in [&[][..], &[110.0, 112.0, 95.0, 111.0, 109.0, 113.0]] {
            let noise = report(epoll(), confirmed);
            let text = noise.text(Colour::Plain);
            assert!(text.contains("beyond the noise: keep the default"), "{text}");
            assert!(noise.toml.is_empty() && !noise.verdict.better && !text.contains("Set:"));
        }
    }

    #[test]
    fn what_was_not_measured_or_compared_is_said() {
        let failed = Entry { failure: Some("too busy".into()), ..entry(Driver::Epoll, true, OWN, &[]) };
        let text = report(vec![failed], &[]).text(Colour::Plain);
        assert!(text.contains("layout 2 was not measured: too busy"), "{text}");
        assert!(text.contains("no layout can be compared"), "{text}");
        let shared = report(vec![entry(Driver::Epoll, true, Sharing::Shared, &[150.0; 3])], &[]);
        let text = shared.text(Colour::Plain);
        assert!(text.contains("share cores") && text.contains("not compared"), "{text}");
        let mut lost = report(Vec::new(), &[]);
        lost.layouts.iter_mut().for_each(|layout| layout.not_measured = Some("no port".into()));
        assert_eq!(lost.failure(), Some("no port"));
    }
}
