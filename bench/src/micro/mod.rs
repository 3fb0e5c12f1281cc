//! `ringgate-bench micro`: the pieces of the data path alone, by the clock or by instruction counts.

mod cases;
mod client_hello;
mod http;
mod instructions;
mod table;
mod timing;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ringgate::{errln, outln};
use serde_json::json;

use self::cases::{CASES, Case, TIMED_ONLY};
use self::instructions::{Change, GROWTH_MAX, Record};
use crate::receipt::Receipt;
use crate::units;

const EXAMPLES: &str = "\
Examples:
  ringgate-bench micro
  ringgate-bench micro parse host --time 1s
  ringgate-bench micro --instructions --baseline bench/instructions.json
  ringgate-bench micro --instructions --record bench/instructions.json

Exit codes:
  0  measured
  1  a count grew by more than 5 % against the baseline, or valgrind is missing
     or failed
  2  the command line is wrong";

/// Arguments of `ringgate-bench micro`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MicroArgs {
    /// Only cases whose name contains one of these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// List the cases
    #[arg(long)]
    list: bool,
    /// How long each case is measured by the clock
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = units::duration)]
    time: Duration,
    /// Count instructions under valgrind instead
    #[arg(long)]
    instructions: bool,
    /// Compare the counts with a recorded file
    #[arg(long, value_name = "FILE", requires = "instructions")]
    baseline: Option<PathBuf>,
    /// Write the counts to a file, for later comparisons
    #[arg(long, value_name = "FILE", requires = "instructions", conflicts_with = "baseline")]
    record: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Run operations of one case and print nothing: what valgrind is started with
    #[arg(long, value_name = "NAME", hide = true, requires = "operations")]
    run: Option<String>,
    /// How many
    #[arg(long, value_name = "N", hide = true)]
    operations: Option<u32>,
}

/// Runs the command.
pub(crate) fn run(args: &MicroArgs) -> ExitCode {
    if let (Some(name), Some(operations)) = (&args.run, args.operations) {
        return run_one(name, operations);
    }
    let timed_too = if args.instructions { &[][..] } else { TIMED_ONLY };
    let chosen: Vec<&Case> = CASES
        .iter()
        .chain(timed_too)
        .filter(|case| {
            args.names.is_empty() || args.names.iter().any(|name| case.name.contains(name.as_str()))
        })
        .collect();
    if chosen.is_empty() {
        errln!("error: no case is named so; `ringgate-bench micro --list` shows them");
        return ExitCode::from(2);
    }
    if args.list {
        chosen.iter().for_each(|case| outln!("{:<26}{}", case.name, case.what));
        return ExitCode::SUCCESS;
    }
    if !args.instructions {
        time(&chosen, args);
        return ExitCode::SUCCESS;
    }
    match count(&chosen, args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            errln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_one(name: &str, operations: u32) -> ExitCode {
    let Some(case) = instructions::case(name) else { return ExitCode::from(2) };
    let mut operation = (case.prepare)();
    for _ in 0..operations {
        operation();
    }
    ExitCode::SUCCESS
}

fn time(chosen: &[&Case], args: &MicroArgs) {
    if !args.json {
        outln!("{:<26}{:>12}{:>12}{:>12}   nanoseconds per operation", "case", "median", "min", "max");
    }
    let mut results = serde_json::Map::new();
    for case in chosen {
        let timing = timing::measure(case, args.time);
        let (min, max) = timing.spread_ns;
        if args.json {
            results.insert(
                case.name.to_owned(),
                json!({ "median_ns": timing.median_ns, "min_ns": min, "max_ns": max }),
            );
        } else {
            outln!("{:<26}{:>12.1}{min:>12.1}{max:>12.1}   {}", case.name, timing.median_ns, case.what);
        }
    }
    if args.json {
        outln!("{}", json!({ "timings": results, "receipt": Receipt::new("none", &[]) }));
    }
}

/// Counts, compares and records. Returns whether nothing grew too much.
fn count(chosen: &[&Case], args: &MicroArgs) -> Result<bool, String> {
    let mut now = Record::here();
    let baseline = args.baseline.as_deref().map(Record::read).transpose()?;
    let comparable = baseline.as_ref().filter(|recorded| recorded.is_comparable(&now));
    let mut regressions = Vec::new();
    if !args.json {
        outln!("{:<26}{:>14}{:>14}{:>9}   instructions per operation", "case", "now", "recorded", "change");
    }
    for case in chosen {
        let counted = instructions::count(case)?;
        now.instructions.insert(case.name.to_owned(), counted);
        let recorded = comparable.and_then(|record| record.instructions.get(case.name).copied());
        let change = instructions::change(counted, recorded);
        if let Change::Regression(growth) = change {
            regressions.push(format!("{}: {:+.1} %", case.name, growth * 100.0));
        }
        if !args.json {
            let recorded = recorded.map_or_else(|| "-".into(), |count| count.to_string());
            let change = match change {
                Change::New => "-".into(),
                Change::Within(growth) | Change::Regression(growth) => format!("{:+.1} %", growth * 100.0),
            };
            outln!("{:<26}{counted:>14}{recorded:>14}{change:>9}   {}", case.name, case.what);
        }
    }
    if args.json {
        outln!(
            "{}",
            json!({ "record": now, "regressions": regressions, "receipt": Receipt::new("none", &[]) })
        );
    }
    if let Some(path) = &args.record {
        now.write(path)?;
    }
    if let Some(recorded) = baseline.as_ref().filter(|_| comparable.is_none()) {
        errln!(
            "not compared: the baseline is for {} on {}, this is {} on {}; record a new one",
            recorded.rustc,
            recorded.target,
            now.rustc,
            now.target
        );
    }
    for regression in &regressions {
        errln!("error: more than {:.0} % above the baseline: {regression}", GROWTH_MAX * 100.0);
    }
    Ok(regressions.is_empty())
}
