//! `ringgate reload`: has a running gateway take its configuration anew and waits for the outcome.
//!
//! Sends SIGHUP to the process that the status file names and reads the file until that request is answered.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Args};
use signal_hook::consts::SIGHUP;

use super::running::{self, NO_ANSWER, Outcome, Question};
use crate::supervisor::status::{ReloadStatus, Status};
use crate::{err, errln, outln};

const EXAMPLES: &str = "\
Examples:
  ringgate reload /etc/ringgate
  ringgate reload --status-file /run/ringgate/status.json --wait 60
  ringgate reload --status-file /run/ringgate/status.json --json

The gateway must have been started with `status_file` in its [process] table. With a configuration as argument, \
the file's place is read from there. Requests that arrive together may be answered by one reload that began after \
all of them. What the gateway warns about, or can not change while it runs, is printed on stderr.

Exit codes:
  0  the new configuration is effective, perhaps with warnings
  1  it is not, and the reason is on stderr; or no gateway runs
  2  the command line is wrong
  3  no answer came in time";

/// Arguments of `ringgate reload`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES, group(ArgGroup::new("place").required(true).args(["config", "status_file"])))]
pub struct ReloadArgs {
    /// The configuration that the gateway runs, to read `status_file` from
    #[arg(value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// The gateway's status file
    #[arg(long, value_name = "PATH")]
    pub status_file: Option<PathBuf>,
    /// How long to wait for the outcome; 0 only sends the request
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub wait: u64,
    /// Print the status at the end as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
#[must_use]
pub fn run(args: &ReloadArgs) -> ExitCode {
    let question = Question {
        signal: (SIGHUP, "SIGHUP"),
        counts: |status| (status.reload.requests, status.reload.answered),
    };
    let wait = Duration::from_secs(args.wait);
    let outcome = status_path(args).and_then(|path| running::request(&path, wait, &question));
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            errln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    if args.json
        && let Outcome::Answered(status) | Outcome::Late(status) = &outcome
        && let Ok(text) = serde_json::to_string(status)
    {
        outln!("{text}");
    }
    match outcome {
        Outcome::Answered(status) if status.reload.ok => {
            report(&status, args.json);
            ExitCode::SUCCESS
        }
        Outcome::Answered(status) => {
            let reason = status.reload.error.unwrap_or_default();
            errln!("error: not reloaded, generation {} stays: {reason}", status.generation);
            ExitCode::FAILURE
        }
        Outcome::Ended => {
            errln!("error: the gateway ended");
            ExitCode::FAILURE
        }
        Outcome::Late(status) if args.wait == 0 => {
            if !args.json {
                outln!("asked process {} to reload", status.pid);
            }
            ExitCode::SUCCESS
        }
        Outcome::Late(status) => {
            errln!("error: {}", running::no_answer(&status, wait));
            ExitCode::from(NO_ANSWER)
        }
    }
}

/// Says that a reload is effective, and what it does not do.
fn report(status: &Status, json: bool) {
    let ReloadStatus { warnings, warnings_left_out, .. } = &status.reload;
    let with = match warnings.len() + warnings_left_out {
        0 => String::new(),
        1 => ", with 1 warning:".into(),
        count => format!(", with {count} warnings:"),
    };
    if !json {
        outln!("reloaded: generation {} is effective{with}", status.generation);
    }
    for warning in warnings {
        err!("{}", warning.text);
    }
    if *warnings_left_out > 0 {
        errln!("{warnings_left_out} more are in the gateway's log");
    }
}

fn status_path(args: &ReloadArgs) -> Result<PathBuf, String> {
    match (&args.status_file, &args.config) {
        (Some(path), _) => Ok(path.clone()),
        (None, Some(config)) => running::status_path(config),
        (None, None) => Err("neither a configuration nor --status-file".into()),
    }
}
