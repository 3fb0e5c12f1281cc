//! `ringgate demo`: the gateway in front of backends of its own.

use std::process::ExitCode;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::demo::{Failure, Running, Site, checks, suggestions};

/// Port of a demo that stays up, unless `--port` says otherwise.
const DEFAULT_PORT: u16 = 8080;

/// Arguments of `ringgate demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Port on 127.0.0.1; 0 lets the kernel choose [default: 8080, with --once 0]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Send the demo's own requests through the gateway, print what came back, and exit
    #[arg(long)]
    pub once: bool,
}

/// Runs the demo over a gateway that `start` starts with the text of a configuration.
///
/// With `--once` the exit code is 0 only if every check came back as it must; without, it runs until SIGINT or SIGTERM.
///
/// # Errors
/// When the backends or the gateway cannot be started or stopped.
pub fn run(
    args: &DemoArgs,
    start: impl FnOnce(String) -> Result<Running, Failure>,
) -> Result<ExitCode, Failure> {
    // Before anything listens, so that an early signal is not lost.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let site = Site::start()?;
    let port = args.port.unwrap_or(if args.once { 0 } else { DEFAULT_PORT });
    let running = start(site.config_text(port))?;
    if args.once {
        let report = checks::run(running.address);
        print!("{report}");
        (running.stop)()?;
        return Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    println!("ringgate demo: http://{} in front of two backends. Try:\n", running.address);
    println!("{}", suggestions(running.address));
    println!("Ctrl-C ends it.");
    let _ = signals.forever().next();
    (running.stop)()?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::demo::backend::Backend;

    fn without_gateway(once: bool) -> (ExitCode, bool) {
        let stopped = std::rc::Rc::new(std::cell::Cell::new(false));
        let seen = std::rc::Rc::clone(&stopped);
        let code = run(&DemoArgs { port: None, once }, |config| {
            assert!(config.contains("port = 0"));
            let backend = Backend::start("b")?;
            let stop = Box::new(move || {
                stopped.set(true);
                Ok(())
            });
            Ok(Running { address: backend.address(), stop })
        });
        (code.unwrap(), seen.get())
    }

    /// A bare backend is no gateway: the run must say so by its exit code, and still stop what it started.
    #[test]
    fn once_fails_where_the_gateway_does_nothing() {
        let (code, stopped) = without_gateway(true);
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
        assert!(stopped);
    }
}
