//! The command line: one file per command.

pub mod certs;
pub mod check;
pub mod cores;
pub mod demo;
mod log;
mod output;
pub mod reload;
pub mod run;
mod running;
pub mod tune;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::stdio;

const EXAMPLES: &str = "\
Examples:
  ringgate demo
  ringgate check configs/quickstart.toml
  ringgate run configs/quickstart.toml
  ringgate cores

`ringgate COMMAND --help` has examples of each command.";

/// Edge load balancer for Linux: one io_uring shard per core, configured in TOML with Istio's words
#[derive(Debug, Parser)]
#[command(name = "ringgate", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List certificates and when they end
    Certs(certs::CertsArgs),
    /// Check a configuration and list every problem
    Check(check::CheckArgs),
    /// Show the host's cores, which of them get a shard and why; or the load of a running gateway's shards
    Cores(cores::CoresArgs),
    /// Try it: a gateway in front of backends of its own
    Demo(demo::DemoArgs),
    /// Have a running gateway take its configuration anew, and wait for the outcome
    Reload(reload::ReloadArgs),
    /// Serve a configuration until told to end
    Run(run::RunArgs),
    /// Measure how shards do best on this host: cores, driver, ring size
    Tune(tune::TuneArgs),
}

/// Runs the command line of this process and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => return stdio::usage(&message),
    };
    let _flush = log::to_stderr();
    stdio::exit_code(match cli.command {
        Command::Certs(args) => certs::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Cores(args) => cores::run(&args),
        Command::Demo(args) => demo::run_command(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Tune(args) => tune::run(&args),
    })
}
