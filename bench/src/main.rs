//! `ringgate-bench`: measures ringgate and its peers on this host.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ringgate::stdio;

mod backend;
mod compare;
mod cores;
mod load;
mod micro;
mod random;
mod receipt;
pub mod report;
mod tls;
mod units;
mod wire;

const EXAMPLES: &str = "\
Examples:
  ringgate-bench backend --listen 127.0.0.1:9000 --cores 1
  ringgate-bench compare h1-keepalive h1-close --html report.html
  ringgate-bench load http://127.0.0.1:9000/ --connections 64 --duration 10s
  ringgate-bench micro

`ringgate-bench COMMAND --help` has examples of each command.";

/// Benchmark harness of ringgate
#[derive(Debug, Parser)]
#[command(name = "ringgate-bench", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer HTTP/1.1 requests, fast or as badly as asked
    Backend(backend::BackendArgs),
    /// Measure ringgate and its peers with the same work, in turns
    Compare(Box<compare::CompareArgs>),
    /// Load an HTTP/1.1 server and measure its latency and throughput
    Load(Box<load::LoadArgs>),
    /// Measure pieces of the data path alone
    Micro(micro::MicroArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => return stdio::usage(&message),
    };
    stdio::exit_code(match cli.command {
        Command::Backend(args) => backend::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Micro(args) => micro::run(&args),
    })
}
