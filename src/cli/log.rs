//! Logs on stderr that never hold the process up: lines go through a bounded queue to a thread of their own.
//!
//! A reader of stderr that stops reading costs lines, not requests; one that is gone costs nothing. Dropped lines are
//! counted and said as soon as there is room again.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What is logged where RUST_LOG says nothing.
const DEFAULT_LEVEL: &str = "info";

/// Lines that may wait.
const LINES_MAX: usize = 4096;

/// How long the end of the process waits for stderr.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

enum Message {
    Flush(SyncSender<()>),
    Line(Vec<u8>),
}

/// Waits for queued lines when dropped, for at most [`FLUSH_TIMEOUT`].
pub(super) struct Flush(SyncSender<Message>);

impl Drop for Flush {
    fn drop(&mut self) {
        let (done, wait) = sync_channel(1);
        if self.0.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Logs of `info` and above on stderr; `RUST_LOG` changes the level. Colours only on a terminal.
pub(super) fn to_stderr() -> Option<Flush> {
    let (sender, lines) = sync_channel(LINES_MAX);
    let dropped = Arc::<AtomicU64>::default();
    let counter = Arc::clone(&dropped);
    thread::Builder::new().name("log".into()).spawn(move || write_lines(&lines, &counter)).ok()?;
    let wanted = std::env::var_os(EnvFilter::DEFAULT_ENV).filter(|value| !value.is_empty());
    let asked = wanted.as_ref().map(|value| filter_of(&value.to_string_lossy()));
    let (filter, problem) = match asked {
        None => (EnvFilter::new(DEFAULT_LEVEL), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(problem)) => (EnvFilter::new(DEFAULT_LEVEL), Some(problem)),
    };
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .log_internal_errors(false)
        .with_writer(Queue { lines: sender.clone(), dropped })
        .init();
    if let Some(problem) = problem {
        tracing::warn!(
            "{} is not used: {problem}; expected off, error, warn, info, debug or trace, or TARGET=LEVEL, separated by \
             commas; logging from {DEFAULT_LEVEL} up",
            EnvFilter::DEFAULT_ENV
        );
    }
    Some(Flush(sender))
}

/// A filter, or what is wrong with its text. The library takes any bare word for the name of a module: a misspelt level
/// would turn all logs off.
fn filter_of(text: &str) -> Result<EnvFilter, String> {
    let is_level = |word: &str| {
        ["off", "error", "warn", "info", "debug", "trace"]
            .iter()
            .any(|level| word.eq_ignore_ascii_case(level))
    };
    let own = |word: &str| word.starts_with(env!("CARGO_PKG_NAME")) || word.contains(['=', '[']);
    let mut words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    match words.find(|word| !is_level(word) && !own(word)) {
        Some(word) => Err(format!("{word:?} is no level")),
        None => EnvFilter::try_new(text).map_err(|error| format!("{text:?}: {error}")),
    }
}

fn write_lines(lines: &Receiver<Message>, dropped: &AtomicU64) {
    for message in lines {
        match message {
            Message::Flush(done) => {
                let _ = done.try_send(());
            }
            Message::Line(line) => {
                let _ = io::stderr().write_all(&line);
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(io::stderr(), "{lost} log lines were dropped: stderr is read too slowly");
        }
    }
}

/// What the subscriber writes to: one line per writer.
struct Queue {
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl<'q> MakeWriter<'q> for Queue {
    type Writer = LineWriter<'q>;

    fn make_writer(&'q self) -> Self::Writer {
        LineWriter { queue: self, line: Vec::new() }
    }
}

struct LineWriter<'q> {
    queue: &'q Queue,
    line: Vec<u8>,
}

impl Write for LineWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter<'_> {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() && self.queue.lines.try_send(Message::Line(line)).is_err() {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        for good in
            ["debug", "OFF", "warn,ringgate::supervisor=debug", "ringgate", "monoio=info, error", ",info"]
        {
            assert!(filter_of(good).is_ok(), "{good}");
        }
        for bad in ["verbose", "info,loud", "ringgate=loud", "=", "a]b"] {
            assert!(filter_of(bad).is_err(), "{bad}");
        }
    }
}
