//! `ringgate demo`: the gateway in front of backends of its own, over HTTP, TLS and TCP.

use std::process::ExitCode;
use std::thread;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::output;
use super::run::ShardArgs;
use crate::demo::{Entrances, Failure, Running, Setup, Site, checks, suggestions};
use crate::supervisor::event::Event;
use crate::supervisor::load::Source;
use crate::supervisor::{self, End, StartError};
use crate::{errln, out, outln};

/// Port of a demo that stays up, unless `--port` says otherwise.
const DEFAULT_PORT: u16 = 8080;

/// Attempts to start on ports that were free.
const STARTS_MAX: u32 = 4;

const EXAMPLES: &str = "\
Examples:
  ringgate demo
  ringgate demo --port 0 --cores 1
  ringgate demo --once

Exit codes:
  0  ended by Ctrl-C; with --once, every check came back as it must
  1  the gateway could not start, or a check failed
  2  the command line is wrong";

/// Arguments of `ringgate demo`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Port for HTTP on 127.0.0.1, 0 for a free one; those for TLS and TCP are always free ones [default: 8080, with
    /// --once 0]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Send the demo's own requests through the gateway, print what came back, and exit
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    /// How shards sit on this host.
    pub shards: ShardArgs,
}

/// Runs the command over a real gateway.
pub fn run_command(args: &DemoArgs) -> ExitCode {
    match run(args, |setup| start_gateway(args, setup)) {
        Ok(code) => code,
        Err(error) => {
            errln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The gateway that `ringgate run` would start for the same text, on a thread of its own.
fn start_gateway(args: &DemoArgs, setup: Setup) -> Result<Running, Failure> {
    let at = setup.at;
    let source =
        Source::Text { name: "demo.toml".into(), text: setup.text.into(), files: setup.files.into() };
    let supervisor = supervisor::start(source, &args.shards.options()).map_err(|error| match error {
        StartError::Config(diagnostics) => output::diagnostics(&diagnostics),
        StartError::Host(error) => error,
    })?;
    let events = supervisor.events();
    let thread = thread::Builder::new().name("supervisor".into()).spawn(move || supervisor.run())?;
    let stop = Box::new(move || {
        events.send(Event::Signal(SIGTERM)).map_err(|_| "the gateway ended by itself")?;
        match thread.join() {
            Ok(End::Drained) => Ok(()),
            Ok(end) => Err(format!("the gateway did not drain: {end:?}").into()),
            Err(_) => Err("the supervisor panicked".into()),
        }
    });
    Ok(Running { at, stop })
}

/// Runs the demo over a gateway that `start` starts.
///
/// With `--once` the exit code is 0 only if every check came back as it must; without, it runs until SIGINT or SIGTERM.
///
/// # Errors
/// When the backends or the gateway cannot be started or stopped.
pub fn run(args: &DemoArgs, start: impl Fn(Setup) -> Result<Running, Failure>) -> Result<ExitCode, Failure> {
    // Before anything listens, so that an early signal is not lost.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let site = Site::start()?;
    let port = args.port.unwrap_or(if args.once { 0 } else { DEFAULT_PORT });
    let running = start_on_free_ports(port, |at| start(site.setup(at)))?;
    if args.once {
        let report = checks::run(running.at, &site.trust()?);
        out!("{report}");
        (running.stop)()?;
        return Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let folder = tempfile::Builder::new().prefix("ringgate-demo-").tempdir()?;
    site.write_certificates(folder.path())?;
    outln!("ringgate demo: http://{} in front of two backends. Try:\n", running.at.http);
    outln!("{}", suggestions(running.at, folder.path()));
    outln!("Ctrl-C ends it.");
    let _ = signals.forever().next();
    (running.stop)()?;
    Ok(ExitCode::SUCCESS)
}

/// Ports that were free a moment ago may be taken by others meanwhile.
fn start_on_free_ports(
    port: u16,
    start: impl Fn(Entrances) -> Result<Running, Failure>,
) -> Result<Running, Failure> {
    let mut tries = 1..STARTS_MAX;
    loop {
        match start(Entrances::find(port)?) {
            Err(error) if error.to_string().contains("in use") && tries.next().is_some() => {}
            started => return started,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::demo::backend::Backend;

    fn without_gateway(once: bool) -> (ExitCode, bool) {
        let stopped = std::rc::Rc::new(std::cell::Cell::new(false));
        let seen = std::rc::Rc::clone(&stopped);
        let code = run(&DemoArgs { once, ..DemoArgs::default() }, |setup| {
            assert!(setup.text.contains(&format!("port = {}\n", setup.at.tls.port())));
            let bare = Backend::start("b")?.address();
            let stopped = std::rc::Rc::clone(&stopped);
            let stop = Box::new(move || {
                stopped.set(true);
                Ok(())
            });
            // Nobody listens for TLS and TCP.
            Ok(Running { at: Entrances { http: bare, ..setup.at }, stop })
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
