//! `ringgate cores`: the host as ringgate sees it and the core that each shard would take; or the load of the shards
//! of a running gateway.

mod host;
mod load;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::check::Format;
use super::output;
use crate::config::model::Cores;
use crate::config::parse_cores;
use crate::supervisor::topology::Topology;

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

Exit codes:
  0  printed
  1  the configuration has errors, or these cores can not be had; or no gateway runs
  2  the command line is wrong
  3  the gateway did not answer in time";

/// Arguments of `ringgate cores`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CoresArgs {
    /// A configuration that says which cores; without one, auto
    #[arg(value_name = "CONFIG", conflicts_with = "status_file")]
    pub config: Option<PathBuf>,
    /// Cores that get a shard, over the configuration's: auto, all, a number, a list such as 0-3,6, or numa:0
    #[arg(long, value_name = "CORES", value_parser = parse_cores, conflicts_with_all = ["running", "status_file"])]
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
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=3600))]
    pub over: u64,
    /// How long to wait for the running gateway's answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=3600))]
    pub wait: u64,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
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
        Some(Err(problems)) => {
            eprint!("{problems}");
            return ExitCode::FAILURE;
        }
        None => None,
    };
    let cores = args.cores.clone().or(configured).unwrap_or_default();
    let topology = match &args.sysroot {
        Some(root) if !root.is_dir() => {
            eprintln!("error: --sysroot {}: not a directory", root.display());
            return ExitCode::FAILURE;
        }
        Some(root) => Topology::of_copy(root),
        None => Topology::detect(),
    };
    let report = host::Report::new(&topology, &cores);
    print(&match args.format {
        Format::Json => report.json(),
        Format::Text => report.text(output::stdout_colour()),
    });
    match report.error() {
        Some(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

/// `[process] cores` of a configuration.
fn configured(path: &Path) -> Result<Cores, String> {
    let loaded = crate::config::load(path);
    loaded.config.map(|config| config.process.cores).ok_or_else(|| output::diagnostics(&loaded.diagnostics))
}

/// A reader that closed its end (`| head`) has seen what it wanted; the exit code still tells the result.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
