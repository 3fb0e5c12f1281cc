//! `ringgate run`: serves a configuration until told to end.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::output;
use crate::config::model::{Cores, Driver};
use crate::config::{parse_cores, parse_ring_entries};
use crate::supervisor::load::Source;
use crate::supervisor::{self, End, Options, StartError, Supervisor, signals};
use crate::{err, errln};

const EXAMPLES: &str = "\
Examples:
  ringgate run configs/quickstart.toml
  ringgate run /etc/ringgate --cores 0-3
  ringgate run edge.toml --cores 2 --no-pin --driver epoll

Prints a line for each listener, then `ready`; logs go to stderr (RUST_LOG sets their level).

Signals:
  SIGTERM, SIGINT  drain: accept nothing new, finish what is under way, end; a
                   second one ends at once, unless within 0.5 s of the first
  SIGHUP           reload the configuration; a bad one changes nothing
  SIGUSR1          print a line: `dump ` and the counters of each shard as JSON

Exit codes:
  0  drained after SIGTERM or SIGINT
  1  the configuration has errors; a socket, core or driver could not be had;
     the status file is another process's; or a second signal came
  2  the command line is wrong";

/// Arguments of `ringgate run`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// A TOML file, or a directory of *.toml files
    pub path: PathBuf,
    #[command(flatten)]
    /// How shards sit on this host.
    pub shards: ShardArgs,
}

/// How shards sit on this host; the same for each command that starts some.
#[derive(Args, Clone, Debug, Default)]
pub struct ShardArgs {
    /// Cores that get a shard: auto (one per physical core, within the quota), all, a number, a list such as 0-3,6, or
    /// NUMA nodes such as numa:0; `ringgate cores` shows what each comes to. With --no-pin a number may be larger than
    /// the host's
    #[arg(long, value_name = "CORES", value_parser = cores)]
    pub cores: Option<Cores>,
    /// Do not pin shards to their cores
    #[arg(long)]
    pub no_pin: bool,
    /// I/O driver: auto, io_uring or epoll
    #[arg(long, value_name = "DRIVER", value_parser = driver)]
    pub driver: Option<Driver>,
    /// Submission entries of each shard's ring, with io_uring: a power of two from 256 to 32768
    #[arg(long, value_name = "N", value_parser = parse_ring_entries)]
    pub ring_entries: Option<u32>,
}

impl ShardArgs {
    /// As options of the supervisor.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            cores: self.cores.clone(),
            driver: self.driver,
            ring_entries: self.ring_entries,
            no_pin: self.no_pin,
        }
    }
}

/// Reads `--driver`.
pub(super) fn driver(text: &str) -> Result<Driver, String> {
    match text {
        "auto" => Ok(Driver::Auto),
        "epoll" => Ok(Driver::Epoll),
        "io_uring" => Ok(Driver::IoUring),
        _ => Err("expected auto, io_uring or epoll".into()),
    }
}

/// Reads `--cores`; a wrong one is answered with all the forms.
pub(super) fn cores(text: &str) -> Result<Cores, String> {
    parse_cores(text).map_err(|reason| {
        format!(
            "{reason}; expected auto, all, a number of cores such as 4, a list of cores such as 0-3,6 or NUMA nodes such \
             as numa:0"
        )
    })
}

/// Runs the command.
pub fn run(args: &RunArgs) -> ExitCode {
    let mut supervisor = match supervisor::start(Source::Path(args.path.clone()), &args.shards.options()) {
        Ok(supervisor) => supervisor,
        Err(error) => return start_failed(&error),
    };
    if let Err(error) = signals::forward(supervisor.events()) {
        errln!("error: no signal handlers: {error}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = supervisor.open_status_file() {
        errln!("error: {error}");
        return ExitCode::FAILURE;
    }
    announce(&supervisor);
    match supervisor.run() {
        End::Drained => ExitCode::SUCCESS,
        End::Failed(error) => {
            errln!("error: {error}");
            ExitCode::FAILURE
        }
        End::Interrupted => ExitCode::FAILURE,
    }
}

/// Prints why the process could not start.
pub fn start_failed(error: &StartError) -> ExitCode {
    match error {
        StartError::Config(diagnostics) => err!("{}", output::diagnostics(diagnostics)),
        StartError::Host(error) => errln!("error: {error}"),
    }
    ExitCode::FAILURE
}

/// One line per listener and `ready`: for scripts as much as for people. A closed stdout is nobody's loss.
fn announce(supervisor: &Supervisor) {
    let mut out = std::io::stdout().lock();
    for listening in supervisor.listening() {
        let _ = writeln!(
            out,
            "listening {} gateway={} server={} protocol={}",
            listening.address, listening.gateway, listening.server, listening.protocol
        );
    }
    let _ = writeln!(
        out,
        "ready generation={} shards={} driver={}",
        supervisor.generation(),
        supervisor.shard_count(),
        supervisor.driver_name()
    );
    let _ = out.flush();
}
