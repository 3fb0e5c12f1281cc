//! The report for people and for scripts.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::receipt::Receipt;
use crate::report::{Generator, Handshakes, LoadReport, TlsReport, Unanswered};

/// What `--json` prints: the report, and how it came about.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Document {
    /// The report's fields stand at the top.
    #[serde(flatten)]
    pub(crate) report: LoadReport,
    /// The URL.
    pub(crate) url: String,
    /// Connections.
    pub(crate) connections: usize,
    /// Threads.
    pub(crate) threads: usize,
    /// Requests per second that were asked for; absent in the closed loop.
    pub(crate) rate: Option<f64>,
    /// Host, build and command line.
    pub(crate) receipt: Receipt,
}

/// The report as aligned text.
pub(super) fn text(document: &Document, plan: &Plan) -> String {
    let Document { report, url, connections, threads, rate, receipt } = document;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<12}{value}");
    };
    line("target", format!("{url} ({})", plan.address));
    let kind = rate.map_or_else(|| "closed loop".to_owned(), |rate| format!("{} requests/s", number(rate)));
    let close = if plan.close { ", a new connection per request" } else { "" };
    line("load", format!("{kind}, connections: {connections}, threads: {threads}{close}"));
    line("generator", receipt.driver.clone());
    if let Some(tls) = &report.tls {
        line("tls", agreed(tls));
        line(
            "handshakes",
            format!("{} before the run, {} measured", counts(tls.set_up), counts(tls.measured)),
        );
    }
    if !report.valid {
        for reason in &report.invalid_reasons {
            line("INVALID", reason.clone());
        }
        line("errors", errors(report));
        if report.unanswered.requests > 0 {
            line("unanswered", unanswered(report.unanswered));
        }
        return text;
    }
    for note in &report.notes {
        line("NOTE", note.clone());
    }
    line(
        "requests",
        format!(
            "{} in {:.2} s, {} per second",
            report.requests,
            report.seconds,
            number(report.requests_per_second)
        ),
    );
    line("content", format!("{:.1} MB/s", report.content_bytes as f64 / report.seconds / 1e6));
    line("errors", errors(report));
    if report.unanswered.requests > 0 {
        line("unanswered", unanswered(report.unanswered));
    }
    let latency = &report.latency_us;
    for (name, value) in [
        ("mean", latency.mean),
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p99.9", latency.p99_9),
        ("p99.99", latency.p99_99),
        ("max", latency.max),
    ] {
        line(if name == "mean" { "latency" } else { "" }, format!("{name:<7}{:>12}", time(value)));
    }
    line("own cost", own_cost(&report.generator));
    if rate.is_some() {
        line("own lag", format!("p99 {}", time(report.generator.lag_p99_us)));
    }
    text
}

fn own_cost(generator: &Generator) -> String {
    let waited = generator.waited.map(|waited| format!(", waited for its core {:.0} %", waited * 100.0));
    format!(
        "{:.1} us of CPU per request, busy {:.0} %{}",
        generator.cpu_us_per_request,
        generator.busy * 100.0,
        waited.unwrap_or_default()
    )
}

fn agreed(tls: &TlsReport) -> String {
    let parts = [&tls.version, &tls.cipher_suite, &tls.key_exchange];
    let parts: Vec<&str> = parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

fn counts(handshakes: Handshakes) -> String {
    format!("{} full and {} resumed", handshakes.full, handshakes.resumed)
}

fn errors(report: &LoadReport) -> String {
    if report.errors.is_empty() {
        return "none".to_owned();
    }
    let parts: Vec<String> = report.errors.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    format!("{} ({:.2} % of requests)", parts.join(", "), report.error_share * 100.0)
}

fn unanswered(open: Unanswered) -> String {
    format!(
        "at the end: {}, the oldest {}; in the latency with their age",
        open.requests,
        time(open.oldest_us as f64)
    )
}

fn number(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// Microseconds in a unit that suits them.
fn time(us: f64) -> String {
    if us < 1_000.0 {
        format!("{us:.1} us")
    } else if us < 1_000_000.0 {
        format!("{:.2} ms", us / 1e3)
    } else {
        format!("{:.2} s", us / 1e6)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::load::tests::plan;

    fn document(valid: bool) -> Document {
        let mut report = LoadReport { valid, requests: 5, seconds: 1.0, ..LoadReport::default() };
        report.errors.insert("status".to_owned(), 2);
        report.quantiles.push((1.0, 7.5));
        if !valid {
            report.invalid_reasons.push("too slow".to_owned());
        }
        let receipt = Receipt::new("epoll", &[]);
        Document { report, url: "http://a/".to_owned(), connections: 2, threads: 1, rate: None, receipt }
    }

    #[test]
    fn json_is_a_load_report() {
        let json = serde_json::to_string(&document(true)).unwrap();
        let report: LoadReport = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (report.requests, report.errors["status"], &report.quantiles[..]),
            (5, 2, &[(1.0, 7.5)][..])
        );
        assert_eq!(serde_json::from_str::<Document>(&json).unwrap().connections, 2);
    }

    #[test]
    fn an_invalid_run_shows_no_result() {
        let valid = text(&document(true), &plan(None));
        assert!(valid.contains("p99.99") && valid.contains("errors      status 2"), "{valid}");
        let invalid = text(&document(false), &plan(None));
        assert!(invalid.contains("INVALID     too slow") && !invalid.contains("p99"), "{invalid}");
    }
}
