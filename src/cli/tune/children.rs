//! Processes that are started, read and ended: none outlives this one.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::sys::process::{end_with_parent, kill_group};

/// How often a wait looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Bytes of standard error that are kept.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// Why something was not measured.
#[derive(Debug)]
pub(super) enum Stop {
    /// By a signal to this process.
    Interrupted,
    /// It went wrong, in a sentence.
    Failed(String),
}

/// A child; ends when dropped.
pub(super) struct Process {
    name: &'static str,
    child: Child,
    lines: Receiver<String>,
    errors: Arc<Mutex<Vec<u8>>>,
    interrupted: Arc<AtomicBool>,
}

impl Process {
    /// Starts the command. A signal from the terminal reaches only this process, which then ends the child.
    pub(super) fn start(
        name: &'static str,
        mut command: Command,
        interrupted: &Arc<AtomicBool>,
    ) -> Result<Self, Stop> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        end_with_parent(&mut command);
        let started = command.spawn();
        let mut child =
            started.map_err(|error| Stop::Failed(format!("{name} could not be started: {error}")))?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                // Read to the end even when nobody listens, so that the child never waits.
                lines.for_each(|line| drop(sender.send(line)));
            });
        }
        let errors = Arc::<Mutex<Vec<u8>>>::default();
        if let Some(mut stderr) = child.stderr.take() {
            let errors = Arc::clone(&errors);
            thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = stderr.read(&mut chunk) {
                    let mut errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
                    let room = ERROR_BYTES_MAX - errors.len();
                    errors.extend_from_slice(chunk.get(..count.min(room)).unwrap_or_default());
                }
            });
        }
        Ok(Self { name, child, lines, errors, interrupted: Arc::clone(interrupted) })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of standard output; `None` at its end.
    fn next_line(&self, deadline: Instant) -> Result<Option<String>, Stop> {
        loop {
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if self.interrupted.load(Ordering::Relaxed) => {
                    return Err(Stop::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                    return Err(Stop::Failed(format!("{} did not answer in time", self.name)));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Waits for a line of standard output that starts with `prefix` and returns the rest of it.
    pub(super) fn wait_line(&self, prefix: &str, timeout: Duration) -> Result<String, Stop> {
        let deadline = Instant::now() + timeout;
        while let Some(line) = self.next_line(deadline)? {
            if let Some(rest) = line.strip_prefix(prefix) {
                return Ok(rest.to_owned());
            }
        }
        Err(self.failed("ended"))
    }

    /// Waits for the end; the exit status and standard output.
    pub(super) fn wait_end(mut self, timeout: Duration) -> Result<(ExitStatus, String), Stop> {
        let deadline = Instant::now() + timeout;
        let mut text = String::new();
        while let Some(line) = self.next_line(deadline)? {
            text.push_str(&line);
            text.push('\n');
        }
        // Standard output is at its end, so this is a matter of moments.
        let status = self.child.wait();
        let status = status.map_err(|error| Stop::Failed(format!("{}: {error}", self.name)))?;
        Ok((status, text))
    }

    /// What went wrong, with the last line that the child wrote to standard error.
    pub(super) fn failed(&self, what: &str) -> Stop {
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&errors);
        let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        Stop::Failed(format!("{} {what}: {}", self.name, last.trim()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It leads a group of its own, with all that it started.
        let _ = kill_group(self.child.id());
        let _ = self.child.wait();
    }
}
