//! `ringgate tune`: measures a handful of layouts of shards on this host and says which setting, if any, is better
//! than none.
//!
//! ```text
//! args -> layouts (from the host's topology) -> rounds (screen, then confirm) -> measure (children) -> statistics -> report
//! ```

mod args;
mod children;
mod layouts;
mod measure;
mod report;
mod rounds;
mod statistics;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

pub use args::TuneArgs;
use children::Stop;
use measure::Bench;
use report::Report;
use rounds::{Entry, Progress};

use super::check::Format;
use super::output;
use crate::config::model::{Driver, RING_ENTRIES_DEFAULT};
use crate::supervisor::topology::Topology;
use crate::sys::process::raise_descriptors_max;
use crate::sys::ring::{self, Rung};
use crate::{err, errln, out};

/// Exit code of "ended by a signal", as a shell has it for SIGINT.
const INTERRUPTED: u8 = 130;

/// Descriptors of a gateway beside those of its connections: about.
const DESCRIPTORS: u64 = 64;

/// Runs the command.
#[must_use]
pub fn run(args: &TuneArgs) -> ExitCode {
    match tune(args) {
        Ok(report) => {
            match args.format {
                Format::Json => out!("{}", report.json()),
                Format::Text => out!("{}", report.text(output::stdout_colour())),
            }
            match report.failure() {
                None => ExitCode::SUCCESS,
                Some(reason) => {
                    errln!("error: the default could not be measured: {reason}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(Stop::Failed(error)) => {
            errln!("error: {error}");
            ExitCode::FAILURE
        }
        Err(Stop::Interrupted) => {
            errln!("interrupted: nothing was decided, nothing is left running");
            ExitCode::from(INTERRUPTED)
        }
    }
}

fn tune(args: &TuneArgs) -> Result<Report, Stop> {
    let interrupted = Arc::<AtomicBool>::default();
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| Stop::Failed(format!("no signal handlers: {error}")))?;
    }
    let host = Topology::detect();
    let layouts = layouts::layouts(args, &host, auto_is_uring()).map_err(Stop::Failed)?;
    let named = args.load_cores.as_ref().map(|list| list.0.as_slice());
    let places = layouts::load_places(&layouts, &host, named).map_err(Stop::Failed)?;
    check_descriptors(args.connections, raise_descriptors_max().ok())?;
    let bench = Bench::new(args, interrupted)?;
    let mut entries: Vec<Entry> =
        layouts.into_iter().zip(places).map(|(layout, place)| Entry::new(layout, place)).collect();
    let plan = report::plan(args, &entries);
    match args.format {
        Format::Json => err!("{plan}"),
        Format::Text => out!("{plan}"),
    }
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut progress = Progress::new(count.saturating_mul(args.rounds), Bench::estimate(args));
    let harness = rounds::screen(&bench, &mut entries, args.rounds, &mut progress)?;
    let confirmation = match rounds::candidate(&entries) {
        None => None,
        Some(entry) => {
            let rounds = rounds::confirmation_rounds(args);
            progress.extend(2 * rounds);
            Some(rounds::confirm(&bench, &entries, entry, rounds, &mut progress)?)
        }
    };
    Ok(Report::new(entries, confirmation, harness))
}

/// The gateway needs two for each connection: one to the client, one to the backend.
fn check_descriptors(connections: u32, limit: Option<u64>) -> Result<(), Stop> {
    let needed = 2 * u64::from(connections) + DESCRIPTORS;
    match limit {
        Some(limit) if needed > limit => Err(Stop::Failed(format!(
            "{connections} connections need {needed} descriptors in the gateway, and a process may have {limit}: raise \
             the limit (`ulimit -n`) or lower --connections"
        ))),
        _ => Ok(()),
    }
}

/// Which driver `auto` comes to here: asked on a thread of its own, since a ring belongs to its thread.
fn auto_is_uring() -> bool {
    let probe =
        || ring::build(Driver::Auto, RING_ENTRIES_DEFAULT).is_ok_and(|built| built.rung != Rung::Epoll);
    thread::spawn(probe).join().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_connections_are_refused_before_the_first_round() {
        let refused = |limit| match check_descriptors(1000, limit) {
            Err(Stop::Failed(reason)) => reason,
            _ => String::new(),
        };
        assert!(
            refused(Some(2063)).contains("need 2064 descriptors") && refused(Some(64)).contains("ulimit -n")
        );
        assert_eq!((refused(Some(2064)), refused(None)), (String::new(), String::new()));
    }
}
