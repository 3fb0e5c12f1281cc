//! Logs on stderr, which never hold the process up ([`crate::lines`]).

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::lines::{Flush, Lines};

/// What is logged where RUST_LOG says nothing.
const DEFAULT_LEVEL: &str = "info";

/// Lines that may wait.
const LINES_MAX: usize = 4096;

/// Logs of `info` and above on stderr; `RUST_LOG` changes the level. Colours only on a terminal.
pub(super) fn to_stderr() -> Option<Flush> {
    let (lines, flush) = Lines::new("stderr", io::stderr(), LINES_MAX).ok()?;
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
        .with_writer(Queue(lines))
        .init();
    if let Some(problem) = problem {
        tracing::warn!(
            "{} is not used: {problem}; expected off, error, warn, info, debug or trace, or TARGET=LEVEL, separated by \
             commas; logging from {DEFAULT_LEVEL} up",
            EnvFilter::DEFAULT_ENV
        );
    }
    Some(flush)
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

/// What the subscriber writes to: one line per writer.
struct Queue(Lines);

impl<'q> MakeWriter<'q> for Queue {
    type Writer = LineWriter<'q>;

    fn make_writer(&'q self) -> Self::Writer {
        LineWriter { lines: &self.0, line: Vec::new() }
    }
}

struct LineWriter<'q> {
    lines: &'q Lines,
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
        if !line.is_empty() {
            self.lines.send(line);
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
