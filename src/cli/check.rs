//! `ringgate check PATH`: says everything that is wrong with a configuration, and changes nothing.
//!
//! Diagnostics and the closing line go to standard output.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::output;
use crate::config::render;
use crate::{errln, out};

const EXAMPLES: &str = "\
Examples:
  ringgate check configs/quickstart.toml
  ringgate check /etc/ringgate --strict
  ringgate check /etc/ringgate --format json

Exit codes:
  0  valid, perhaps with warnings
  1  there are errors; or, with --strict, warnings
  2  the command line is wrong";

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    /// A TOML file, or a directory whose *.toml files make one configuration
    pub path: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Exit with 1 for warnings too
    #[arg(long)]
    pub strict: bool,
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
    out!("{output}");
    if loaded.config.is_none() {
        return ExitCode::FAILURE;
    }
    if args.strict && !loaded.diagnostics.is_empty() {
        errln!("error: valid, but --strict refuses warnings");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
