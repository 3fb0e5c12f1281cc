//! `ringgate check PATH`: says everything that is wrong with a configuration, and changes nothing.
//!
//! Diagnostics and the closing line go to standard output. Exit code 0: valid, warnings or not; 1: errors; 2:
//! wrong usage (by clap).

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::output;
use crate::config::render;

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
    /// For people
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
            let colour = output::stdout_colour();
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
