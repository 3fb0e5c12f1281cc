//! What `--help` prints, as people see it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

#[path = "../../tests/support/help_text.rs"]
mod help_text;

#[test]
fn no_line_is_broken_twice() {
    for command in ["", "backend", "compare", "load", "micro"] {
        help_text::check(Path::new(env!("CARGO_BIN_EXE_ringgate-bench")), command);
    }
}
