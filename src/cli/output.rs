//! What commands share in printing.

use std::io::IsTerminal;

use crate::config::Diagnostic;
use crate::config::render::{self, Colour};

/// Diagnostics as text for stderr, coloured on a terminal unless `NO_COLOR` is set.
#[must_use]
pub(super) fn diagnostics(diagnostics: &[Diagnostic]) -> String {
    let terminal = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let colour = if terminal { Colour::Ansi } else { Colour::Plain };
    diagnostics.iter().map(|diagnostic| render::text(diagnostic, colour)).collect()
}
