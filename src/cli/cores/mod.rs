//! `ringgate cores`: the host as ringgate sees it and the core that each shard would take; or the load of the shards
//! of a running gateway.

mod host;
mod load;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::check::Format;
use super::output;
use crate::config::Diagnostic;
use crate::config::model::Cores;
use crate::supervisor::topology::Topology;
use crate::{err, errln, out, outln};

const EXAMPLES: &str = "\
Examples:
  ringgate cores
  ringgate cores /etc/ringgate
  ringgate cores --cores numa:0 --format json
  ringgate cores /etc/ringgate --running
  ringgate cores --status-file /run/ringgate/status.json --over 10

`auto`, a number and numa:N take one core of each physical core: those of the network card's NUMA node first, \
then whole nodes and last-level caches, so that few shards stay together. The cgroup's quota bounds `auto` and \
numa:N. LLC counts the groups of cores that share a last-level cache. `?` is what the host does not show.

A running gateway must have been started with `status_file` in its [process] table. BUSY is the CPU time of a \
shard's thread over time, SHARE its part of the accepted connections, (ALL) the same since the start.

--format json prints one object; where there is nothing to show, it has only `error`.

Exit codes:
  0  printed
  1  the configuration has errors, these cores can not be had, or no gateway
     runs
  2  the command line is wrong
  3  the gateway did not answer in time";

/// Arguments of `ringgate cores`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES, group(ArgGroup::new("gateway").args(["running", "status_file"])))]
pub struct CoresArgs {
    /// A configuration that says which cores; without one, auto
    #[arg(value_name = "CONFIG", conflicts_with = "status_file")]
    pub config: Option<PathBuf>,
    /// Cores that get a shard, over the configuration's: auto, all, a number, a list such as 0-3,6, or numa:0
    #[arg(long, value_name = "CORES", value_parser = super::run::cores, conflicts_with_all = ["running", "status_file"])]
    pub cores: Option<Cores>,
    /// Look at a copy of another host's /proc and /sys instead, in the directories proc and sys of DIR
    #[arg(long, value_name = "DIR", conflicts_with_all = ["running", "status_file"])]
    pub sysroot: Option<PathBuf>,
    /// The load of the shards of the gateway that runs CONFIG
    #[arg(long, requires = "config")]
    pub running: bool,
    /// The load of the shards of the gateway that has this status file
    #[arg(long, value_name = "PATH")]
    pub status_file: Option<PathBuf>,
    /// How long to watch the running gateway for BUSY and SHARE; 0: since anybody last asked
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, requires = "gateway")]
    pub over: Duration,
    /// How long to wait for the running gateway's answer
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, requires = "gateway")]
    pub wait: Duration,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds from 0 to 3600, such as 0.5".into())
}

/// Runs the command.
#[must_use]
pub fn run(args: &CoresArgs) -> ExitCode {
    match (&args.status_file, &args.config) {
        (Some(path), _) => load::run(args, Ok(path.clone())),
        (None, Some(config)) if args.running => load::run(args, super::running::status_path(config)),
        (None, config) => run_host(args, config.as_deref()),
    }
}

fn run_host(args: &CoresArgs, config: Option<&Path>) -> ExitCode {
    let configured = match config.map(configured) {
        Some(Ok(cores)) => Some(cores),
        Some(Err(diagnostics)) => {
            err!("{}", output::diagnostics(&diagnostics));
            fail_in_json(args, "the configuration has errors");
            return ExitCode::FAILURE;
        }
        None => None,
    };
    let cores = args.cores.clone().or(configured).unwrap_or_default();
    let topology = match &args.sysroot {
        Some(root) if !root.is_dir() => {
            return failed(args, &format!("--sysroot {}: not a directory", root.display()));
        }
        Some(root) => Topology::of_copy(root),
        None => Topology::detect(),
    };
    let report = host::Report::new(&topology, &cores);
    let text = match args.format {
        Format::Json => report.json(),
        Format::Text => report.text(output::stdout_colour()),
    };
    out!("{text}");
    match report.error() {
        Some(error) => {
            errln!("error: {error}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

/// `[process] cores` of a configuration.
fn configured(path: &Path) -> Result<Cores, Vec<Diagnostic>> {
    let loaded = crate::config::load(path);
    loaded.config.map(|config| config.process.cores).ok_or(loaded.diagnostics)
}

/// Says why there is nothing to print; where JSON is wanted, in an object on standard output too.
fn failed(args: &CoresArgs, error: &str) -> ExitCode {
    fail_in_json(args, error);
    errln!("error: {error}");
    ExitCode::FAILURE
}

fn fail_in_json(args: &CoresArgs, error: &str) {
    if args.format == Format::Json {
        outln!("{}", serde_json::json!({ "error": error }));
    }
}
