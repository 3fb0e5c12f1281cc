//! `ringgate reload`: has a running gateway take its configuration anew and waits for the outcome.
//!
//! Sends SIGHUP to the process that the status file names and reads the file until that request is answered.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{ArgGroup, Args};
use signal_hook::consts::SIGHUP;

use super::output;
use crate::supervisor::status::Status;
use crate::sys::process::send_signal;

const EXAMPLES: &str = "\
Examples:
  ringgate reload /etc/ringgate
  ringgate reload --status-file /run/ringgate/status.json --wait 60
  ringgate reload --status-file /run/ringgate/status.json --json

The gateway must have been started with `status_file` in its [process] table; with a configuration as argument the
file's place is read from there. Requests that arrive together may be answered by one reload that began after all
of them.

Exit codes:
  0  the new configuration is effective
  1  it is not, and the reason is on stderr; or no gateway runs
  2  the command line is wrong
  3  no answer came in time";

/// Time between two looks at the file.
const LOOK: Duration = Duration::from_millis(20);

/// Exit code of "no answer in time".
const NO_ANSWER: u8 = 3;

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

/// What came of a request.
enum Outcome {
    /// Answered; the reload's own result is in the status.
    Answered(Status),
    /// The process is gone.
    Ended,
    /// No answer in time.
    Late(Status),
}

/// Runs the command.
#[must_use]
pub fn run(args: &ReloadArgs) -> ExitCode {
    let outcome = status_path(args).and_then(|path| request(&path, Duration::from_secs(args.wait)));
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    if args.json
        && let Outcome::Answered(status) | Outcome::Late(status) = &outcome
        && let Ok(text) = serde_json::to_string(status)
    {
        println!("{text}");
    }
    match outcome {
        Outcome::Answered(status) if status.reload.ok => {
            if !args.json {
                println!("reloaded: generation {} is effective", status.generation);
            }
            ExitCode::SUCCESS
        }
        Outcome::Answered(status) => {
            let reason = status.reload.error.unwrap_or_default();
            eprintln!("error: not reloaded, generation {} stays: {reason}", status.generation);
            ExitCode::FAILURE
        }
        Outcome::Ended => {
            eprintln!("error: the gateway ended");
            ExitCode::FAILURE
        }
        Outcome::Late(_) if args.wait == 0 => ExitCode::SUCCESS,
        Outcome::Late(status) => {
            eprintln!("error: no answer of process {} within {} s", status.pid, args.wait);
            ExitCode::from(NO_ANSWER)
        }
    }
}

/// Where the status file is. A configuration with errors is no use here, even though the gateway would refuse it
/// itself: where its status file is can not be known.
fn status_path(args: &ReloadArgs) -> Result<PathBuf, String> {
    if let Some(path) = &args.status_file {
        return Ok(path.clone());
    }
    let Some(path) = &args.config else { return Err("neither a configuration nor --status-file".into()) };
    let loaded = crate::config::load(path);
    let Some(config) = loaded.config else {
        let problems = output::diagnostics(&loaded.diagnostics);
        return Err(format!("the configuration has errors; nothing was sent\n{problems}"));
    };
    let missing = || {
        format!(
            "{} sets no `status_file` in [process]: set one, restart, or use --status-file",
            path.display()
        )
    };
    config.process.status_file.ok_or_else(missing)
}

/// Sends the request and waits until it is answered.
fn request(path: &Path, wait: Duration) -> Result<Outcome, String> {
    let before = Status::read(path)?;
    if !before.is_alive() {
        return Err(format!("{}: process {} does not run any more", path.display(), before.pid));
    }
    send_signal(before.pid, SIGHUP).map_err(|error| format!("SIGHUP to process {}: {error}", before.pid))?;
    let deadline = Instant::now() + wait;
    loop {
        // A file that went away went with its process.
        let status = Status::read(path).unwrap_or_else(|_| before.clone());
        if (status.pid, status.start_ticks) != (before.pid, before.start_ticks) {
            return Ok(Outcome::Ended);
        }
        if status.reload.answered > before.reload.requests {
            return Ok(Outcome::Answered(status));
        }
        if !before.is_alive() {
            return Ok(Outcome::Ended);
        }
        if Instant::now() >= deadline {
            return Ok(Outcome::Late(status));
        }
        thread::sleep(LOOK);
    }
}
