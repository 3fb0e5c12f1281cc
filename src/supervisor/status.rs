//! The status file: who runs, what is effective and how the last reload ended, for scripts and `ringgate reload`.
//!
//! Written whole beside its place and renamed, so that a reader never sees half of it. The supervisor writes it when
//! it starts to serve, at each request for a reload and at its end, when files of certificates changed, when shards told their
//! load, and when it drains; it goes away with the process.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::certificates::CertificateStatus;
use super::dump::LoadStatus;
use super::{Listening, Supervisor};
use crate::config::Diagnostic;
use crate::config::render::{self, Colour};
use crate::sys::errno;
use crate::sys::process::start_ticks;

/// Bytes of an error's text in the file: enough for the first problems of a configuration.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// Bytes read of a file in our place: more than the largest that is ever written.
const STATUS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Warnings of a reload in the file; the log has all.
const WARNINGS_TOLD_MAX: usize = 20;

/// What the file holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Status {
    /// Process id.
    pub pid: u32,
    /// When that process started, in clock ticks since the host's boot: ids are used again, pairs are not.
    pub start_ticks: u64,
    /// The effective generation.
    pub generation: u64,
    /// What the process does.
    pub state: State,
    /// Reloads.
    pub reload: ReloadStatus,
    /// Load of the shards, when SIGUSR1 last asked for it.
    #[serde(default)]
    pub load: LoadStatus,
    /// Certificates and what else TLS settings name.
    #[serde(default)]
    pub certificates: CertificateStatus,
    /// What it listens on.
    pub listening: Vec<ListeningStatus>,
}

/// What the process does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Finishes what is under way, then ends.
    Draining,
    /// Serves.
    Serving,
}

/// Reloads so far.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ReloadStatus {
    /// SIGHUPs received.
    pub requests: u64,
    /// The value of `requests` when the last finished reload began: a request up to this one is answered.
    pub answered: u64,
    /// Whether the last finished reload is effective without reserve; true before the first.
    pub ok: bool,
    /// Why it is not.
    pub error: Option<String>,
    /// What it wanted and does not get, and what it hardly means.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    /// Warnings that are only in the log: there were too many.
    #[serde(default)]
    pub warnings_left_out: usize,
}

/// A warning of a reload.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Warning {
    /// Stable name of the kind of problem, in kebab-case.
    pub code: String,
    /// What is wrong, in one line.
    pub message: String,
    /// File of the configuration; absent where no single place is to blame.
    pub file: Option<String>,
    /// Line from 1; 0 when the file as a whole is meant.
    pub line: Option<u32>,
    /// Column in characters from 1; 0 when the file as a whole is meant.
    pub column: Option<u32>,
    /// All of it for people, with the excerpt.
    pub text: String,
}

impl Warning {
    /// A warning of no single place.
    #[must_use]
    pub fn new(code: &str, message: String) -> Self {
        let text = format!("warning[{code}]: {message}\n");
        Self { code: code.into(), message, file: None, line: None, column: None, text }
    }

    /// A warning about a configuration.
    #[must_use]
    pub fn of(diagnostic: &Diagnostic) -> Self {
        Self {
            code: diagnostic.code.into(),
            message: shortened(diagnostic.message.clone()),
            file: Some(diagnostic.location.file.to_string_lossy().into_owned()),
            line: Some(diagnostic.location.line),
            column: Some(diagnostic.location.column),
            text: shortened(render::text(diagnostic, Colour::Plain)),
        }
    }
}

impl Default for ReloadStatus {
    fn default() -> Self {
        Self { requests: 0, answered: 0, ok: true, error: None, warnings: Vec::new(), warnings_left_out: 0 }
    }
}

impl ReloadStatus {
    /// Takes down how a reload ended that began when `begun` requests had come.
    pub(super) fn finish(&mut self, begun: u64, error: Option<String>, mut warnings: Vec<Warning>) {
        self.answered = begun;
        self.ok = error.is_none();
        self.error = error.map(shortened);
        self.warnings_left_out = warnings.len().saturating_sub(WARNINGS_TOLD_MAX);
        warnings.truncate(WARNINGS_TOLD_MAX);
        self.warnings = warnings;
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > ERROR_BYTES_MAX {
        let cut = (0..=ERROR_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(cut);
        text.push_str("\n(cut here; the log has all of it)");
    }
    text
}

/// One listener.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ListeningStatus {
    /// Address and port.
    pub address: SocketAddr,
    /// Gateway.
    pub gateway: String,
    /// Position of the server in its gateway, from 1.
    pub server: usize,
}

impl Status {
    /// Reads a status file.
    ///
    /// # Errors
    /// One sentence with the file's name.
    pub fn read(path: &Path) -> Result<Self, String> {
        let path_text = path.display();
        let text = read_regular(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!(
                "no gateway runs with status_file {path_text}: not started yet, or started with another one?"
            ),
            io::ErrorKind::InvalidInput => format!("{path_text}: not a status file of ringgate"),
            _ => format!("{path_text}: {}", errno::text(&error)),
        })?;
        serde_json::from_slice(&text).map_err(|_| format!("{path_text}: not a status file of ringgate"))
    }

    /// Whether the process that wrote the file still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        is_running((self.pid, self.start_ticks))
    }
}

/// A process: ids are used again, pairs of id and start are not.
type ProcessKey = (u32, u64);

fn is_running((pid, ticks): ProcessKey) -> bool {
    start_ticks(pid).is_ok_and(|now| now == ticks)
}

fn own_key() -> Result<ProcessKey, String> {
    let pid = std::process::id();
    let ticks = start_ticks(pid).map_err(|error| format!("/proc/{pid}/stat: {}", errno::text(&error)))?;
    Ok((pid, ticks))
}

/// Whose a status file is. Another version of ringgate may have written it: only these two fields must be there.
fn owner(path: &Path) -> Option<ProcessKey> {
    #[derive(Deserialize)]
    struct Owner {
        pid: u32,
        start_ticks: u64,
    }
    let owner: Owner = serde_json::from_slice(&read_regular(path).ok()?).ok()?;
    Some((owner.pid, owner.start_ticks))
}

/// Reads a file that somebody may have put in the place of ours; a pipe is not waited for.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = Vec::new();
    file.take(STATUS_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Refuses a status file that another running process keeps. What a dead one left behind is free.
///
/// # Errors
/// One sentence with the file's name.
pub fn assert_free(path: &Path) -> Result<(), String> {
    let own = own_key()?;
    match owner(path).filter(|owner| *owner != own && is_running(*owner)) {
        None => Ok(()),
        Some((pid, _)) => Err(format!(
            "status_file {}: belongs to running process {pid}: choose another file or stop that process",
            path.display()
        )),
    }
}

fn write(path: &Path, status: &Status) -> io::Result<()> {
    let mut text = serde_json::to_vec(status)?;
    text.push(b'\n');
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // Whatever lies there is not ours to write to: a link leads elsewhere, a pipe would have us wait for a reader.
    let _ = fs::remove_file(&beside);
    File::options().write(true).create_new(true).open(&beside)?.write_all(&text)?;
    fs::rename(&beside, path).inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

impl Supervisor {
    /// Writes the status file for the first time, where the configuration names one. Only once signals are handled: a
    /// reader may send SIGHUP at once.
    ///
    /// # Errors
    /// One sentence with the file's name.
    pub fn open_status_file(&mut self) -> Result<(), String> {
        self.write_status_file()?;
        self.status_file_open = true;
        Ok(())
    }

    fn write_status_file(&self) -> Result<(), String> {
        let Some(path) = &self.process.status_file else { return Ok(()) };
        // Another process may have taken the place meanwhile, after somebody removed the file.
        assert_free(path)?;
        write(path, &self.status()?)
            .map_err(|error| format!("status_file {}: {}", path.display(), errno::text(&error)))
    }

    /// Brings the status file up to date; a failure is logged, serving goes on.
    pub(super) fn update_status_file(&self) {
        if self.status_file_open
            && let Err(error) = self.write_status_file()
        {
            tracing::error!("{error}");
        }
    }

    /// Removes the status file if it is ours.
    pub(super) fn remove_status_file(&self) {
        if let Some(path) = &self.process.status_file
            && owner(path).is_some_and(|owner| own_key().is_ok_and(|own| own == owner))
        {
            let _ = fs::remove_file(path);
        }
    }

    fn status(&self) -> Result<Status, String> {
        let (pid, start_ticks) = own_key()?;
        let entry = |listening: Listening| ListeningStatus {
            address: listening.address,
            gateway: listening.gateway.to_string(),
            server: listening.server,
        };
        Ok(Status {
            pid,
            start_ticks,
            generation: self.generation,
            state: if self.draining.is_some() { State::Draining } else { State::Serving },
            reload: self.reloads.clone(),
            load: self.dumps.status.clone(),
            certificates: self.certificates.status.clone(),
            listening: self.listening().into_iter().map(entry).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Long texts are cut between characters, short ones stay.
    #[test]
    fn errors_are_cut_at_a_character() {
        assert_eq!(shortened("é".into()), "é");
        let cut = shortened(format!("a{}", "é".repeat(ERROR_BYTES_MAX)));
        assert!(cut.len() < ERROR_BYTES_MAX + 100 && cut.starts_with("aéé"));
    }
}
