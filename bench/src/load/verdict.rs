//! From measurements to a report, and whether it may be used.
//!
//! A result is invalid when the generator and not the target may have limited it:
//!
//! * the run could not be set up, or nothing was answered as expected;
//! * closed loop: the generator's threads were busy for more than [`BUSY_MAX`] of the time, so that the rate is its own;
//! * constant rate: at its cost per request it would be, could it start as many as were asked for;
//! * constant rate: requests started late at the 99th percentile although connections were idle (`--max-lag`);
//! * constant rate: at the end, requests were due and connections idle;
//! * sessions were to be resumed, and most were not.
//!
//! Or when it says little about the target's latency:
//!
//! * more requests failed than `--max-errors` allows;
//! * closed loop: a request was open at the end for more than [`OPEN_SHARE_MAX`] of the time, longer than any answer took.
//!
//! That a target does not keep up is a result, and so are a few failed requests.

use super::plan::Plan;
use super::tally::{ErrorKind, Tally};
use super::worker::{Part, Usage};
use crate::report::{Generator, Handshakes, Latency, LoadReport, TlsReport, Unanswered};

/// Share of its threads' time from which on the generator counts as the bottleneck.
pub(super) const BUSY_MAX: f64 = 0.97;

/// Share of the measured time from which on a request without an answer means that the target hung.
const OPEN_SHARE_MAX: f64 = 0.1;

/// Share of failed requests from which on latencies need a word.
const ERRORS_NOTED: f64 = 0.001;

/// Share of the time that the generator may wait for its cores without a word.
const WAITED_NOTED: f64 = 0.2;

/// Points per halving of the distance to 1 in `quantiles`.
const TICKS_PER_HALF: u32 = 5;

const MICROSECOND: f64 = 1_000.0;

/// What all threads measured.
#[derive(Debug)]
pub(crate) struct Whole {
    /// Sum of the tallies.
    pub(crate) tally: Tally,
    /// Seconds of the measured part.
    pub(crate) seconds: f64,
    /// Sum of what they used.
    pub(crate) usage: Usage,
    /// What was agreed on, with the handshakes of all.
    pub(crate) tls: Option<TlsReport>,
    /// Requests due and not started at the end, and idle connections then.
    pub(crate) backlog: (u64, usize),
}

impl Whole {
    /// Adds the threads up.
    pub(crate) fn new(parts: &[Part]) -> Result<Self, String> {
        let usage = Usage { waited: Some(0), ..Usage::default() };
        let mut whole = Self { tally: Tally::new()?, seconds: 0.0, usage, tls: None, backlog: (0, 0) };
        for part in parts {
            whole.tally.add(&part.tally)?;
            whole.seconds = whole.seconds.max(part.measured as f64 / 1e9);
            whole.usage.cpu += part.usage.cpu;
            whole.usage.present += part.usage.present;
            whole.usage.waited = whole.usage.waited.zip(part.usage.waited).map(|(sum, part)| sum + part);
            whole.usage.requests += part.usage.requests;
            match (&mut whole.tls, &part.tls) {
                (Some(all), Some(tls)) => all.set_up.add(tls.set_up),
                (all, tls) => *all = tls.clone(),
            }
            if part.backlog.1 > 0 {
                whole.backlog.0 += part.backlog.0;
                whole.backlog.1 += part.backlog.1;
            }
        }
        if let Some(tls) = &mut whole.tls {
            tls.measured = whole.tally.handshakes;
        }
        Ok(whole)
    }
}

/// The report of a run.
pub(crate) fn report(plan: &Plan, whole: &Whole) -> LoadReport {
    let (latency, tally) = (&whole.tally.latency, &whole.tally);
    let at = |quantile| latency.value_at_quantile(quantile) as f64 / MICROSECOND;
    let requests = tally.answered;
    let errors = ErrorKind::ALL.iter().zip(tally.errors).filter(|(_, count)| *count > 0);
    let mut report = LoadReport {
        valid: true,
        invalid_reasons: Vec::new(),
        requests,
        seconds: whole.seconds,
        requests_per_second: ratio(requests as f64, whole.seconds),
        errors: errors.map(|(kind, count)| (kind.name().to_owned(), count)).collect(),
        error_share: ratio(tally.failed() as f64, tally.ended() as f64),
        unanswered: Unanswered { requests: tally.unanswered, oldest_us: tally.oldest / 1_000 },
        notes: Vec::new(),
        content_bytes: tally.content_bytes,
        latency_us: Latency {
            mean: latency.mean() / MICROSECOND,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: latency.max() as f64 / MICROSECOND,
        },
        quantiles: latency
            .iter_quantiles(TICKS_PER_HALF)
            .map(|point| (point.quantile_iterated_to(), point.value_iterated_to() as f64 / MICROSECOND))
            .collect(),
        generator: Generator {
            cpu_us_per_request: ratio(whole.usage.cpu as f64 / MICROSECOND, whole.usage.requests as f64),
            busy: ratio(whole.usage.cpu as f64, whole.usage.present as f64),
            waited: whole.usage.waited.map(|waited| ratio(waited as f64, whole.usage.present as f64)),
            lag_p99_us: tally.lag.value_at_quantile(0.99) as f64 / MICROSECOND,
        },
        tls: whole.tls.clone(),
    };
    report.invalid_reasons = reasons(plan, &report, whole.backlog);
    report.invalid_reasons.extend(unknown_latency(plan, &report, tally.longest));
    report.notes = notes(&report);
    report.valid = report.invalid_reasons.is_empty();
    report
}

/// The report of a run that did not start.
pub(crate) fn not_started(reasons: Vec<String>) -> LoadReport {
    LoadReport { invalid_reasons: reasons, ..LoadReport::default() }
}

fn ratio(of: f64, to: f64) -> f64 {
    if to > 0.0 { of / to } else { 0.0 }
}

fn reasons(plan: &Plan, report: &LoadReport, backlog: (u64, usize)) -> Vec<String> {
    let mut reasons = Vec::new();
    let generator = &report.generator;
    let limit = plan.lag_max as f64 / MICROSECOND;
    if report.requests == 0 {
        reasons.push(match report.errors.is_empty() {
            true => "no request was answered: all were still open at the end".to_owned(),
            false => "no request was answered as expected: see the errors".to_owned(),
        });
    }
    if let (Some(tls), true) = (&report.tls, plan.tls.as_ref().is_some_and(|tls| tls.resume)) {
        let (counts, measured) = (tls.measured, tls.measured != Handshakes::default());
        let Handshakes { full, resumed } = if measured { counts } else { tls.set_up };
        if full > resumed {
            reasons.push(format!(
                "--tls-resume, but {full} of {} handshakes were full: the server gives too few tickets or takes none \
                 back",
                full + resumed
            ));
        }
    }
    let Some(rate) = plan.rate else {
        if generator.busy > BUSY_MAX {
            reasons.push(format!(
                "the generator was busy {:.0} % of the time, so that the rate is its own: give it more --threads and \
                 --cores, or cores that the target does not use",
                generator.busy * 100.0
            ));
        }
        return reasons;
    };
    let capacity = ratio(plan.threads as f64 * BUSY_MAX * 1e6, generator.cpu_us_per_request);
    if report.requests > 0 && rate > capacity {
        reasons.push(format!(
            "at {:.1} us of CPU per request the generator can start {capacity:.0} a second, not {rate}: give it more \
             --threads and --cores, or a lower --rate",
            generator.cpu_us_per_request
        ));
    }
    if generator.lag_p99_us > limit {
        reasons.push(format!(
            "requests started {:.0} us late at the 99th percentile, more than --max-lag ({limit:.0} us): keep other \
             work off the generator's cores, or lower --rate",
            generator.lag_p99_us
        ));
    }
    if backlog.0 > 1 + report.requests / 100 && backlog.1 > 0 {
        reasons.push(format!(
            "at the end, {} requests were due while {} connections were idle: the generator does not keep up",
            backlog.0, backlog.1
        ));
    }
    reasons
}

/// What makes latencies those of a chosen few.
fn unknown_latency(plan: &Plan, report: &LoadReport, longest: u64) -> Vec<String> {
    let mut reasons = Vec::new();
    if report.requests > 0 && report.error_share > plan.errors_max {
        reasons.push(format!(
            "{} of requests failed, more than --max-errors ({}): see the errors",
            percent(report.error_share),
            percent(plan.errors_max)
        ));
    }
    let oldest = report.unanswered.oldest_us as f64;
    if oldest > report.seconds * 1e6 * OPEN_SHARE_MAX && oldest > longest as f64 / MICROSECOND {
        reasons.push(format!(
            "{} unanswered at the end, the oldest for {:.1} s, longer than any that was answered: the target hung",
            plural(report.unanswered.requests, "request was", "requests were"),
            oldest / 1e6
        ));
    }
    reasons
}

fn notes(report: &LoadReport) -> Vec<String> {
    let mut notes = Vec::new();
    if report.error_share > ERRORS_NOTED && report.requests > 0 {
        notes.push(format!(
            "{} of requests failed: latencies are those of the others, and of those that timed out",
            percent(report.error_share)
        ));
    }
    if let Some(waited) = report.generator.waited.filter(|waited| *waited > WAITED_NOTED) {
        notes.push(format!(
            "the generator waited {:.0} % of the time for its core: latencies are partly its own",
            waited * 100.0
        ));
    }
    notes
}

/// A share with the digits that count: `1.3 %`, `0.12 %`.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 1.0 { format!("{percent:.2} %") } else { format!("{percent:.1} %") }
}

/// `1 request was`, `2 requests were`.
fn plural(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::load::tests::plan;

    fn whole(requests: u64, cpu_ns: u64, lag_ns: u64) -> Whole {
        let mut tally = Tally::new().unwrap();
        for _ in 0..requests {
            tally.record(Ok(10), 50_000, 1);
            tally.lag.saturating_record(lag_ns);
        }
        let usage = Usage { cpu: cpu_ns, present: 2_000_000_000, waited: None, requests };
        Whole { tally, seconds: 2.0, usage, tls: None, backlog: (0, 0) }
    }

    fn invalid(rate: Option<f64>, whole: &Whole, word: &str) -> bool {
        let report = report(&plan(rate), whole);
        let named = report.invalid_reasons.iter().any(|reason| reason.contains(word));
        assert_eq!(report.valid, report.invalid_reasons.is_empty());
        assert_eq!(report.valid, !named, "{:?}", report.invalid_reasons);
        named
    }

    #[test]
    fn a_closed_loop_must_not_be_the_generators_own() {
        assert!(!invalid(None, &whole(1000, 1_900_000_000, 0), "busy"));
        assert!(invalid(None, &whole(1000, 1_980_000_000, 0), "busy"));
        assert!(invalid(None, &whole(0, 0, 0), "still open"));
    }

    #[test]
    fn failures_beyond_a_share_are_no_result() {
        let failed = |count| {
            let mut whole = whole(1000, 10_000_000, 0);
            whole.tally.fail(ErrorKind::Read, count);
            whole
        };
        let shown = |count| report(&plan(None), &failed(count));
        assert!(shown(0).notes.is_empty() && !invalid(None, &failed(10), "-"));
        assert!(shown(2).notes[0].starts_with("0.20 % of requests failed: latencies are"), "{:?}", shown(2));
        assert!(invalid(None, &failed(11), "1.1 % of requests failed, more than --max-errors (1.0 %)"));
        assert!((shown(250).error_share - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_target_that_hung_is_no_result() {
        let hung = |age| {
            let mut whole = whole(1000, 10_000_000, 0);
            whole.tally.leave_open(age);
            whole
        };
        assert!(!invalid(None, &hung(190_000_000), "hung"), "less than 10 % of 2 s");
        assert!(invalid(None, &hung(210_000_000), "1 request was unanswered"));
        let mut slow = hung(900_000_000);
        slow.tally.record(Ok(0), 1_000_000_000, 1);
        assert!(!invalid(None, &slow, "hung"), "an answer took as long");
        let report = report(&plan(None), &hung(900_000_000));
        assert_eq!((report.requests, report.unanswered.oldest_us), (1000, 900_000));
        assert!(report.latency_us.max >= 900_000.0, "{report:?}");
    }

    #[test]
    fn a_starved_generator_is_said() {
        let mut starved = whole(1000, 10_000_000, 0);
        starved.usage.waited = Some(500_000_000);
        let report = report(&plan(None), &starved);
        assert!(report.valid && report.notes[0].contains("waited 25 % of the time"), "{report:?}");
    }

    #[test]
    fn a_constant_rate_must_be_the_generators_to_give() {
        // 500 a second done at 10 us each, and a target that does not keep up with 5 000: that is a result.
        assert!(!invalid(Some(5_000.0), &whole(1000, 10_000_000, 0), "-"));
        assert!(invalid(Some(200_000.0), &whole(1000, 10_000_000, 0), "a second"));
        assert!(!invalid(Some(500.0), &whole(1000, 10_000_000, 9_000_000), "late"));
        assert!(invalid(Some(500.0), &whole(1000, 10_000_000, 11_000_000), "late"));
        let behind = Whole { backlog: (500, 3), ..whole(1000, 10_000_000, 0) };
        assert!(invalid(Some(500.0), &behind, "were due"));
    }

    #[test]
    fn reports_what_was_measured() {
        let report = report(&plan(None), &whole(1000, 10_000_000, 0));
        assert_eq!((report.requests, report.content_bytes), (1000, 10_000));
        assert!((report.requests_per_second - 500.0).abs() < 1e-9);
        assert!((report.generator.cpu_us_per_request - 10.0).abs() < 1e-9);
        for value in [report.latency_us.mean, report.latency_us.p50, report.latency_us.max] {
            assert!((value / 50.0 - 1.0).abs() < 0.001, "{value}");
        }
        assert!(report.quantiles.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
        assert!(report.quantiles.last().is_some_and(|last| last.0 == 1.0));
    }
}
