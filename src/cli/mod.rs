//! The command line: one file per command.

pub mod check;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Edge load balancer for Linux.
#[derive(Parser)]
#[command(name = "ringgate", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check a configuration and list every problem
    Check(check::CheckArgs),
}

/// Runs the command line of this process and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check(args) => check::run(&args),
    }
}
