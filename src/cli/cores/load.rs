//! The load of a running gateway's shards: SIGUSR1 makes it write them into its status file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use signal_hook::consts::SIGUSR1;

use super::{CoresArgs, failed};
use crate::cli::check::Format;
use crate::cli::output::{self, Table, Tone};
use crate::cli::running::{self, NO_ANSWER, Outcome, Question, request};
use crate::config::render::Colour;
use crate::out;
use crate::supervisor::status::{State, Status};

const LOAD: Question =
    Question { signal: (SIGUSR1, "SIGUSR1"), counts: |status| (status.load.requests, status.load.answered) };

/// Asks, twice where the shares are to cover some time, and prints the answer.
pub(super) fn run(args: &CoresArgs, path: Result<PathBuf, String>) -> ExitCode {
    let status = match path.and_then(|path| watch(args, &path)) {
        Ok(Outcome::Answered(status)) => status,
        Ok(Outcome::Ended) => {
            return failed(args, "the gateway ended");
        }
        Ok(Outcome::Late(status)) => {
            failed(args, &running::no_answer(&status, args.wait));
            return ExitCode::from(NO_ANSWER);
        }
        Err(error) => {
            return failed(args, &error);
        }
    };
    let text = match args.format {
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&status).unwrap_or_default()),
        Format::Text => text(&status, output::stdout_colour()),
    };
    out!("{text}");
    ExitCode::SUCCESS
}

fn watch(args: &CoresArgs, path: &Path) -> Result<Outcome, String> {
    let first = request(path, args.wait, &LOAD)?;
    if args.over.is_zero() || !matches!(first, Outcome::Answered(_)) {
        return Ok(first);
    }
    thread::sleep(args.over);
    request(path, args.wait, &LOAD)
}

fn text(status: &Status, colour: Colour) -> String {
    let state = match status.state {
        State::Draining => "draining",
        State::Serving => "serving",
    };
    let header = ["SHARD", "CORE", "CONNECTIONS", "REQUESTS", "BUSY", "(ALL)", "ACCEPTED", "SHARE", "(ALL)"];
    let mut table = Table::new(colour, &header);
    for shard in &status.load.shards {
        let load = &shard.load;
        let cells = vec![
            shard.shard.to_string(),
            load.core.map_or_else(|| "-".into(), |core| core.to_string()),
            load.connections.to_string(),
            load.requests.to_string(),
            percent(Some(load.busy_share)),
            percent(Some(load.busy_share_total)),
            load.accepted.to_string(),
            percent(load.accept_share),
            percent(load.accept_share_total),
        ];
        table.row(Tone::Plain, cells);
    }
    format!(
        "process {}: {state}, generation {}; BUSY and SHARE over {:.1} s\n\n{table}",
        status.pid, status.generation, status.load.window_s
    )
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".into(), |share| format!("{:.1}%", share * 100.0))
}
