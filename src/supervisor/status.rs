//! The status file: who runs, what is effective and how the last reload ended, for scripts and `ringgate reload`.
//!
//! Written whole beside its place and renamed, so that a reader never sees half of it. The supervisor writes it when
//! it starts to serve, at each request for a reload and at its end, when shards told their load, and when it drains; it
//! goes away with the process.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dump::LoadStatus;
use super::{Listening, Supervisor};
use crate::sys::process::start_ticks;

/// Bytes of an error's text in the file: enough for the first problems of a configuration.
const ERROR_BYTES_MAX: usize = 16 * 1024;

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
}

impl Default for ReloadStatus {
    fn default() -> Self {
        Self { requests: 0, answered: 0, ok: true, error: None }
    }
}

impl ReloadStatus {
    /// Takes down how a reload ended that began when `begun` requests had come.
    pub(super) fn finish(&mut self, begun: u64, error: Option<String>) {
        self.answered = begun;
        self.ok = error.is_none();
        self.error = error.map(shortened);
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
        let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_slice(&text)
            .map_err(|error| format!("{}: not a status file: {error}", path.display()))
    }

    /// Whether the process that wrote the file still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        start_ticks(self.pid).is_ok_and(|ticks| ticks == self.start_ticks)
    }
}

fn write(path: &Path, status: &Status) -> io::Result<()> {
    let mut text = serde_json::to_vec(status)?;
    text.push(b'\n');
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    fs::write(&beside, text)?;
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
    pub fn open_status_file(&self) -> Result<(), String> {
        let Some(path) = &self.process.status_file else { return Ok(()) };
        write(path, &self.status()?).map_err(|error| format!("status_file {}: {error}", path.display()))
    }

    /// Brings the status file up to date; a failure is logged, serving goes on.
    pub(super) fn update_status_file(&self) {
        if let Err(error) = self.open_status_file() {
            tracing::error!("{error}");
        }
    }

    /// Removes a status file that is ours; another process may have taken the place over.
    pub(super) fn remove_status_file(path: &Path) {
        if Status::read(path).is_ok_and(|status| status.pid == std::process::id()) {
            let _ = fs::remove_file(path);
        }
    }

    fn status(&self) -> Result<Status, String> {
        let pid = std::process::id();
        let start_ticks = start_ticks(pid).map_err(|error| format!("/proc/{pid}/stat: {error}"))?;
        let entry = |listening: Listening| ListeningStatus {
            address: listening.address,
            gateway: listening.gateway.to_string(),
            server: listening.server,
        };
        Ok(Status {
            pid,
            start_ticks,
            generation: self.generation,
            state: if self.draining { State::Draining } else { State::Serving },
            reload: self.reloads.clone(),
            load: self.dumps.status.clone(),
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
