//! How commands talk to a running gateway: a signal to the process that the status file names, and the file until
//! that request is answered.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::output;
use crate::supervisor::status::Status;
use crate::sys::errno;
use crate::sys::process::{is_stopped, send_signal};

/// Time between two looks at the file.
const LOOK: Duration = Duration::from_millis(20);

/// Exit code of "no answer in time".
pub(super) const NO_ANSWER: u8 = 3;

/// A kind of request.
pub(super) struct Question {
    /// The signal that makes it, and its name.
    pub(super) signal: (i32, &'static str),
    /// The status's counts of such requests: received, and answered.
    pub(super) counts: fn(&Status) -> (u64, u64),
}

/// What came of a request.
pub(super) enum Outcome {
    /// Answered.
    Answered(Status),
    /// The process is gone.
    Ended,
    /// No answer in time.
    Late(Status),
}

/// Where the status file is, by the configuration that the gateway runs. One with errors is no use here, even though
/// the gateway would refuse it itself: where its status file is can not be known.
pub(super) fn status_path(config: &Path) -> Result<PathBuf, String> {
    let process = crate::config::load_process(config).map_err(|diagnostics| {
        let problems = output::diagnostics(&diagnostics);
        format!("the configuration has errors; nothing was sent\n{problems}")
    })?;
    let missing = || {
        format!(
            "{} sets no `status_file` in [process]: set one, restart, or use --status-file",
            config.display()
        )
    };
    process.status_file.ok_or_else(missing)
}

/// Sends the request and waits until it is answered.
pub(super) fn request(path: &Path, wait: Duration, question: &Question) -> Result<Outcome, String> {
    let before = Status::read(path)?;
    if !before.is_alive() {
        return Err(format!("{}: process {} does not run any more", path.display(), before.pid));
    }
    let (signal, name) = question.signal;
    send_signal(before.pid, signal).map_err(|error| not_sent(name, before.pid, &error))?;
    let (received, _) = (question.counts)(&before);
    let deadline = Instant::now() + wait;
    loop {
        // A file that went away went with its process.
        let status = Status::read(path).unwrap_or_else(|_| before.clone());
        if (status.pid, status.start_ticks) != (before.pid, before.start_ticks) {
            return Ok(Outcome::Ended);
        }
        let (_, answered) = (question.counts)(&status);
        if answered > received {
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

/// What [`Outcome::Late`] means to the user.
pub(super) fn no_answer(status: &Status, wait: Duration) -> String {
    let stopped = if is_stopped(status.pid) { " (it is stopped: SIGCONT lets it go on)" } else { "" };
    format!("no answer of process {} within {} s{stopped}", status.pid, wait.as_secs_f64())
}

fn not_sent(signal: &str, pid: u32, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => ": run it as the gateway's user",
        _ => "",
    };
    format!("{signal} to process {pid}: {}{hint}", errno::text(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_users_process() {
        let error = io::Error::from_raw_os_error(libc::EPERM);
        assert_eq!(
            not_sent("SIGHUP", 7, &error),
            "SIGHUP to process 7: Operation not permitted: run it as the gateway's user"
        );
    }
}
