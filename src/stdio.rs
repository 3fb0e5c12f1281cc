//! Text to standard output and standard error, for both programs: a closed or full one never panics.
//!
//! A reader that closed its end (`| head`) has seen what it wanted: the rest is dropped, and the exit code still tells
//! the result. Any other failure is said once on standard error and makes the exit code 1.

use std::fmt::{self, Arguments};
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};

/// Nothing has failed so far.
const INTACT: u8 = 0;
/// The reader has gone.
const GONE: u8 = 1;
/// Text was lost.
const LOST: u8 = 2;

/// What became of standard output.
static OUTPUT: AtomicU8 = AtomicU8::new(INTACT);

/// Prints to standard output, without a line's end of its own.
#[macro_export]
macro_rules! out {
    ($($argument:tt)*) => { $crate::stdio::write_out(format_args!($($argument)*), "") };
}

/// Prints a line to standard output.
#[macro_export]
macro_rules! outln {
    ($($argument:tt)*) => { $crate::stdio::write_out(format_args!($($argument)*), "\n") };
}

/// Prints to standard error, without a line's end of its own.
#[macro_export]
macro_rules! err {
    ($($argument:tt)*) => { $crate::stdio::write_err(format_args!($($argument)*), "") };
}

/// Prints a line to standard error.
#[macro_export]
macro_rules! errln {
    ($($argument:tt)*) => { $crate::stdio::write_err(format_args!($($argument)*), "\n") };
}

/// What the macros for standard output come to.
pub fn write_out(text: Arguments<'_>, end: &str) {
    if OUTPUT.load(Ordering::Relaxed) == INTACT {
        note(write(io::stdout().lock(), text, end));
    }
}

/// What the macros for standard error come to. There is no place to say that it failed.
pub fn write_err(text: Arguments<'_>, end: &str) {
    let _ = write(io::stderr().lock(), text, end);
}

/// The exit code of a command that came to `code`, once its output is written.
#[must_use]
pub fn exit_code(code: ExitCode) -> ExitCode {
    if OUTPUT.load(Ordering::Relaxed) == LOST { ExitCode::FAILURE } else { code }
}

/// Prints what the parser of command lines has to say, help or an error, and returns the exit code.
#[must_use]
pub fn usage(message: &clap::Error) -> ExitCode {
    let printed = message.print();
    if message.use_stderr() {
        return ExitCode::from(2);
    }
    note(printed.and_then(|()| io::stdout().flush()));
    exit_code(ExitCode::SUCCESS)
}

/// In one piece, so that a line stays whole among those of other processes.
fn write(mut stream: impl Write, text: Arguments<'_>, end: &str) -> io::Result<()> {
    let text = fmt::format(text) + end;
    stream.write_all(text.as_bytes()).and_then(|()| stream.flush())
}

fn note(result: io::Result<()>) {
    let Err(error) = result else { return };
    let state = if error.kind() == ErrorKind::BrokenPipe { GONE } else { LOST };
    if OUTPUT.swap(state, Ordering::Relaxed) == INTACT && state == LOST {
        errln!("error: standard output: {error}; what was printed is not complete");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_in_one_piece_and_tells_what_failed() {
        let mut written = Vec::new();
        assert!(write(&mut written, format_args!("{} and {}", 1, "b"), "\n").is_ok());
        assert_eq!(written, b"1 and b\n");
        let mut full = [0; 2];
        let failed = write(&mut full[..], format_args!("abc"), "").map_err(|error| error.kind());
        assert_eq!(failed, Err(ErrorKind::WriteZero));
    }
}
