//! `ringgate-bench load`: an HTTP/1.1 load generator.
//!
//! ```text
//! args -> plan (target, requests) -> a worker per thread -> connection per connection (response, schedule; with TLS secure, session)
//!      -> tally -> verdict -> output, hgrm
//! ```

use std::fs;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use ringgate::{errln, out, outln};

use crate::receipt::Receipt;

mod args;
mod clock;
mod connection;
mod hgrm;
mod output;
mod plan;
mod requests;
mod response;
mod schedule;
mod secure;
mod session;
mod set_up;
mod tally;
mod target;
mod tickets;
mod trust;
mod verdict;
mod worker;

pub(crate) use args::LoadArgs;
use output::Document;
use plan::Plan;
use verdict::Whole;
use worker::{Part, Shared};

/// How often the bar moves.
const BAR_STEP: Duration = Duration::from_millis(200);

/// Descriptors beside those of connections: the streams of the process, and what a thread's ring and timer have.
const DESCRIPTORS: u64 = 16;
const DESCRIPTORS_PER_THREAD: u64 = 8;

/// Runs the command.
pub(crate) fn run(args: &LoadArgs) -> ExitCode {
    let plan = match args.plan() {
        Ok(plan) => plan,
        Err(refusal) => {
            errln!("error: {}", refusal.reason);
            return ExitCode::from(refusal.code);
        }
    };
    match measure(args, plan) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            errln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints; whether the result is valid.
fn measure(args: &LoadArgs, plan: Plan) -> Result<bool, String> {
    check_descriptors(&plan, raise_descriptor_limit())?;
    let shared = Arc::new(Shared::new(plan));
    let plan = &shared.plan;
    let threads = (0..plan.threads).map(|index| {
        let shared = Arc::clone(&shared);
        let thread = thread::Builder::new().name(format!("load-{index}"));
        thread.spawn(move || worker::run(&shared, index)).map_err(|error| format!("no thread: {error}"))
    });
    let threads = threads.collect::<Result<Vec<_>, String>>()?;
    show_progress(&shared, &threads);
    let parts: Vec<Option<Part>> =
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect();
    let (report, driver) = match parts.into_iter().collect::<Option<Vec<Part>>>() {
        Some(parts) => {
            let whole = Whole::new(&parts)?;
            if let Some(path) = &args.hgrm {
                fs::write(path, hgrm::render(&whole.tally.latency))
                    .map_err(|error| format!("--hgrm {}: {error}", path.display()))?;
            }
            (verdict::report(plan, &whole), parts.first().map_or("", |part| part.rung.name()))
        }
        None => (verdict::not_started(shared.failures()), ""),
    };
    let receipt = Receipt::new(driver, plan.cores.as_ref().map_or(&[], |cores| cores.ids()));
    let document = Document {
        report,
        url: args.url.url.clone(),
        connections: plan.connections,
        threads: plan.threads,
        rate: plan.rate,
        receipt,
    };
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&document).map_err(|error| error.to_string())?);
    } else {
        out!("{}", output::text(&document, plan));
    }
    Ok(document.report.valid)
}

/// Connections need descriptors: as many as this process may have; `None` for no limit.
fn raise_descriptor_limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current
}

fn check_descriptors(plan: &Plan, limit: Option<u64>) -> Result<(), String> {
    let needed = plan.connections as u64 + DESCRIPTORS + plan.threads as u64 * DESCRIPTORS_PER_THREAD;
    match limit {
        Some(limit) if needed > limit => Err(format!(
            "{} connections need {needed} descriptors, and this process may have {limit}: raise the limit (`ulimit \
             -n`) or lower --connections",
            plan.connections
        )),
        _ => Ok(()),
    }
}

/// A bar on stderr while the threads run, where that is a terminal.
fn show_progress(shared: &Shared, threads: &[JoinHandle<Option<Part>>]) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let total = Duration::from_nanos(shared.plan.warmup + shared.plan.duration);
    let bar = ProgressBar::new(total.as_millis() as u64);
    if let Ok(style) = ProgressStyle::with_template("{elapsed} {bar:40} {msg}") {
        bar.set_style(style);
    }
    let start = Instant::now();
    while threads.iter().any(|thread| !thread.is_finished()) {
        bar.set_position(start.elapsed().min(total).as_millis() as u64);
        bar.set_message(format!("{} requests", shared.progress.load(Ordering::Relaxed)));
        thread::sleep(BAR_STEP);
    }
    bar.finish_and_clear();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: LoadArgs,
    }

    fn parse(arguments: &[&str]) -> Result<Plan, String> {
        let line = ["load", "http://127.0.0.1:1/"].iter().chain(arguments);
        let args = Line::try_parse_from(line).map_err(|error| error.to_string())?.args;
        args.plan().map_err(|refusal| refusal.reason)
    }

    /// The plan of default arguments, with a rate.
    pub(super) fn plan(rate: Option<f64>) -> Plan {
        Plan { rate, ..parse(&[]).unwrap() }
    }

    #[test]
    fn arguments_make_a_plan() {
        let plan = parse(&["--threads", "2", "--connections", "5", "--requests", "9"]).unwrap();
        assert_eq!((plan.connections_of(0), plan.connections_of(1)), (3, 2));
        assert_eq!((plan.part(9, 0), plan.part(9, 1)), (5, 4));
        for wrong in [
            &["--threads", "3", "--connections", "2"][..],
            &["--header", "a"],
            &["--header", "Host: a"],
            &["--header", "a: b\r\nc: d"],
            &["--hosts", "2"],
            &["--hosts", "2", "--host-pattern", "a"],
            &["--host", "a b"],
            &["--rate", "0"],
            &["--method", "G T"],
            &["--method", "HEAD", "--expect-bytes", "1"],
            &["--duration", "0s"],
            &["--max-errors", "1.5"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse(&["--rate", "1e12"]).unwrap_err().contains("1000000000"));
    }

    #[test]
    fn too_few_descriptors_are_said_before_the_run() {
        let plan = parse(&["--connections", "1000"]).unwrap();
        let error = check_descriptors(&plan, Some(1000)).unwrap_err();
        assert!(error.contains("1024 descriptors") && error.contains("ulimit -n"), "{error}");
        assert_eq!((check_descriptors(&plan, Some(1024)), check_descriptors(&plan, None)), (Ok(()), Ok(())));
    }
}
