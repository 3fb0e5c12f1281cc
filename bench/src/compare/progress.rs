//! Where a comparison is, on a terminal; silent elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A line that says what is measured just now, and how much is left.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// Of so many rounds.
    pub(crate) fn new(rounds: usize) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new(rounds as u64);
        if let Ok(style) = ProgressStyle::with_template("[{pos}/{len}] {elapsed} {msg} (about {eta} left)") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Self(Some(bar))
    }

    /// A round begins.
    pub(crate) fn step(&self, what: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(what.to_owned());
            bar.inc(1);
        }
    }

    /// Rounds will not be run.
    pub(crate) fn skip(&self, rounds: usize) {
        if let Some(bar) = &self.0 {
            bar.inc(rounds as u64);
        }
    }

    /// The results follow.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
