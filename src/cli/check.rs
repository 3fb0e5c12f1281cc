//! `ringgate check PATH`: says everything that is wrong with a configuration, and changes nothing.
//!
//! Diagnostics and the closing line go to standard output. Exit code 0: valid, warnings or not; 1: errors; 2:
//! wrong usage (by clap).

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::config::render::{self, Colour};

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// A TOML file, or a directory whose *.toml files make one configuration
    pub path: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `--format`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For programs: one JSON object
    Json,
    /// For people: excerpts, hints and a closing line
    Text,
}

/// Loads and checks the configuration and prints what was found.
#[must_use]
pub fn run(args: &CheckArgs) -> ExitCode {
    let loaded = crate::config::load(&args.path);
    let mut output = String::new();
    match args.format {
        Format::Json => output.push_str(&render::json(loaded.config.as_ref(), &loaded.diagnostics)),
        Format::Text => {
            let colour = colour();
            for diagnostic in &loaded.diagnostics {
                output.push_str(&render::text(diagnostic, colour));
                output.push('\n');
            }
            output.push_str(&render::summary_line(loaded.config.as_ref(), &loaded.diagnostics));
        }
    }
    output.push('\n');
    // A reader that closed its end (`| head`) has seen what it wanted; the exit code still tells the result.
    let _ = io::stdout().write_all(output.as_bytes());
    if loaded.config.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Colours only for a terminal whose user did not ask for none (<https://no-color.org>).
fn colour() -> Colour {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stdout().is_terminal() && !refused { Colour::Ansi } else { Colour::Plain }
}
