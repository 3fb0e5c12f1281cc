//! `ringgate-bench`: measures ringgate and its peers on this host.

use std::process::ExitCode;

mod report;

fn main() -> ExitCode {
    ExitCode::SUCCESS
}
