//! The results as text: a table per case.

use std::fmt::Write as _;

use super::result::{CaseResult, Comparison, Figure, Metric, PeerResult};
use super::stats::Verdict;

/// What figures and words mean.
pub(crate) const LEGEND: &str = "  [a-b]     least and greatest of the rounds; in front of it their median
  ~N%       from least to greatest, as a share of the median
  x best    the figure divided by that of the best other peer; better or worse
            by at least 10 % and with no overlap of the rounds, else a tie; no
            word with fewer than 3 valid rounds, or where the load shares the
            cores of the proxy
  busy %    share of the time of its cores that the proxy ran
  waited %  share of that time in which it was ready and others ran there
";

/// The whole comparison.
pub(crate) fn text(comparison: &Comparison) -> String {
    let mut out = String::new();
    let receipt = &comparison.receipt;
    let host = &receipt.host;
    let _ = writeln!(
        out,
        "{} cores, {}, Linux {}, {}",
        host.cores_available.len(),
        host.cpu,
        host.kernel,
        host.date
    );
    for installed in &receipt.peers {
        let _ = writeln!(out, "{:<9} {}  ({})", installed.peer, installed.version, installed.path.display());
    }
    for missing in &comparison.missing {
        let _ = writeln!(out, "{:<9} NOT MEASURED: {}", missing.peer, missing.reason);
    }
    let layout = &receipt.layout;
    let _ = writeln!(
        out,
        "proxy on cores {}, load on {}, backend on {}; {} rounds of {} s; load by {}",
        layout.proxy, layout.load, layout.backend, receipt.rounds, receipt.seconds, receipt.generator.version
    );
    for warning in &receipt.warnings {
        let _ = writeln!(out, "WARNING: {warning}");
    }
    for case in &comparison.cases {
        out.push('\n');
        out.push_str(&case_text(case));
    }
    out.push('\n');
    if comparison.interrupted {
        out.push_str("INTERRUPTED: only the rounds that were finished are in the figures\n");
    }
    out.push_str(LEGEND);
    out
}

/// One case.
pub(crate) fn case_text(case: &CaseResult) -> String {
    let mut out = format!("{}: {}\n", case.name, case.about);
    if let Some(reason) = &case.skipped {
        let _ = writeln!(out, "  SKIPPED: {reason}");
        return out;
    }
    if let Some(layout) = &case.cores {
        let _ = writeln!(
            out,
            "  proxy on cores {}, load on {}, backend on {}",
            layout.proxy, layout.load, layout.backend
        );
    }
    let mut metrics = case.metrics();
    // The figure that it is about comes first.
    metrics.sort_by_key(|metric| *metric != case.primary);
    let mut rows = vec![header(&metrics, case.primary)];
    rows.extend(case.peers.iter().filter(|peer| !peer.figures.is_empty()).map(|peer| {
        let mut row = vec![peer.peer.to_string()];
        for &metric in &metrics {
            row.extend(cells(peer, metric, case.primary));
        }
        row
    }));
    // Without figures, reasons follow.
    if rows.len() > 1 {
        out.push_str(&aligned(&rows));
    }
    for peer in &case.peers {
        if let Some(failure) = &peer.failure {
            let _ = writeln!(out, "  {}: NOT MEASURED: {failure}", peer.peer);
        }
        if let Some(reason) = &peer.left_out {
            let _ = writeln!(out, "  {}: left out: {reason}", peer.peer);
        }
    }
    for (note, peers) in notes(case) {
        let _ = writeln!(out, "  {}: {note}", peers.join(", "));
    }
    out
}

/// Each note with those whom it concerns.
pub(crate) fn notes(case: &CaseResult) -> Vec<(&str, Vec<&'static str>)> {
    let mut notes: Vec<(&str, Vec<_>)> = Vec::new();
    for (peer, note) in
        case.peers.iter().flat_map(|peer| peer.notes.iter().map(|note| (peer.peer.name(), note)))
    {
        match notes.iter_mut().find(|(text, _)| text == note) {
            Some((_, peers)) => peers.push(peer),
            None => notes.push((note, vec![peer])),
        }
    }
    notes
}

fn header(metrics: &[Metric], primary: Metric) -> Vec<String> {
    let mut header = vec![String::new()];
    for metric in metrics {
        header.push(metric.label().to_owned());
        if *metric == primary {
            header.push("x best".into());
        }
    }
    header
}

fn cells(peer: &PeerResult, metric: Metric, primary: Metric) -> Vec<String> {
    let figure = peer.figure(metric);
    let is_primary = metric == primary;
    let mut cells = vec![figure.map_or_else(|| "-".into(), |figure| summary(figure, is_primary))];
    if is_primary {
        cells.push(figure.map_or_else(|| "-".into(), ratio));
    }
    cells
}

fn summary(figure: &Figure, with_range: bool) -> String {
    let of = &figure.summary;
    let median = number(of.median);
    if figure.values.len() < 2 {
        median
    } else if with_range {
        format!("{median} [{}-{}]", number(of.min), number(of.max))
    } else {
        format!("{median} ~{:.0}%", of.spread() * 100.0)
    }
}

/// A figure's ratio to the best of the others, in words.
pub(crate) fn ratio(figure: &Figure) -> String {
    let Some(ratio) = figure.ratio else { return "-".into() };
    let word = match ratio.verdict {
        Some(Verdict::Better) => "better",
        Some(Verdict::Tie) => "tie",
        Some(Verdict::Worse) => "worse",
        None => "",
    };
    let value = if ratio.value.is_finite() { format!("{:.2}", ratio.value) } else { String::new() };
    match format!("{value} {word}").trim() {
        "" => "-".to_owned(),
        shown => shown.to_owned(),
    }
}

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let pad = width(column) - cell.chars().count();
            // Names to the left, figures to the right.
            let (before, after) = if column == 0 { (0, pad) } else { (pad + 2, 0) };
            line.extend(std::iter::repeat_n(' ', before));
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', after));
        }
        let _ = writeln!(out, "  {}", line.trim_end());
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::compare::cores::{CoreSet, Layout};
    use crate::compare::generator::{Generator, GeneratorKind};
    use crate::compare::peers::{Installed, Missing, PeerKind};
    use crate::compare::receipt::{METHOD, Receipt};
    use crate::compare::result::{Samples, conclude};

    /// Two peers and a missing one; a case with figures, one where a peer failed, and one that was skipped.
    pub(crate) fn sample() -> Comparison {
        let core = |id| CoreSet::new(vec![id]).unwrap();
        let installed =
            |peer: PeerKind| Installed { peer, path: "/bin/it".into(), version: format!("{peer} <1.0>") };
        let receipt = Receipt {
            host: crate::receipt::Receipt { kernel: "6.1-test".into(), ..Default::default() },
            peers: [PeerKind::Ringgate, PeerKind::Nginx].map(installed).to_vec(),
            generator: Generator {
                kind: GeneratorKind::Wrk,
                path: "/bin/wrk".into(),
                version: "wrk 4".into(),
            },
            layout: Layout { proxy: core(0), load: core(1), backend: core(2) },
            rounds: 3,
            seconds: 5,
            method: METHOD,
            warnings: vec!["noise".into()],
        };
        let samples = |cpu: &[f64]| {
            let mut samples = Samples::default();
            cpu.iter().for_each(|&value| samples.add(Metric::CpuPerRequest, value));
            cpu.iter().for_each(|&value| samples.add(Metric::P99, value * 1e3));
            samples.add_quantiles(vec![(0.5, 100.0), (0.99, 900.0), (0.9999, 2000.0)]);
            samples.note("not saturated".into());
            samples
        };
        let mut failed = Samples::default();
        failed.failure = Some("it broke".into());
        let case = |name: &str, skipped: Option<&str>, peers| CaseResult {
            name: name.into(),
            about: format!("about {name}"),
            primary: Metric::CpuPerRequest,
            skipped: skipped.map(str::to_owned),
            cores: None,
            peers,
        };
        let (own, other) = (samples(&[8.0, 8.5, 7.75]), samples(&[16.0, 15.0, 17.0]));
        let both = conclude(vec![(PeerKind::Ringgate, own.clone()), (PeerKind::Nginx, other)], true);
        let one = conclude(vec![(PeerKind::Ringgate, own), (PeerKind::Nginx, failed)], true);
        Comparison {
            format: 1,
            receipt,
            missing: vec![Missing { peer: PeerKind::Haproxy, reason: "not found".into(), named: false }],
            interrupted: false,
            cases: vec![
                case("first", None, both),
                case("second", None, one),
                case("third", Some("no cores"), vec![]),
            ],
        }
    }

    #[test]
    fn tables_hold_everything() {
        let text = text(&sample());
        let wanted = "\
first: about first
            CPU us/request        x best     p99 us
  ringgate  8.00 [7.75-8.50]  0.50 better   8000 ~9%
  nginx     16.0 [15.0-17.0]   2.00 worse  16000 ~12%
  ringgate, nginx: not saturated
";
        assert!(text.ends_with(LEGEND) && !text.contains("INTERRUPTED"), "{text}");
        let squeezed = |text: &str| {
            text.lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert!(squeezed(&text).contains(&squeezed(wanted)), "{text}");
        for line in [
            "haproxy   NOT MEASURED: not found",
            "WARNING: noise",
            "  nginx: NOT MEASURED: it broke",
            "  SKIPPED: no cores",
            "proxy on cores 0, load on 1, backend on 2; 3 rounds of 5 s; load by wrk 4",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }

    #[test]
    fn columns_end_together() {
        let rows = [vec!["a".into(), "1".into()], vec!["bcd".into(), "234".into()]];
        assert_eq!(aligned(&rows), "  a      1\n  bcd  234\n");
    }

    #[test]
    fn numbers() {
        assert_eq!([0.0, 1.234, 12.34, 123.4, 12_345.6].map(number).join(" "), "0 1.23 12.3 123 12346");
    }
}
