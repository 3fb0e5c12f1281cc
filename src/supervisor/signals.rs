//! Signals, as events of the supervisor.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::event::{Event, EventSender};

/// Forwards SIGTERM, SIGINT, SIGHUP and SIGUSR1 from a thread of its own.
///
/// # Errors
/// When handlers can not be installed.
pub fn forward(events: EventSender) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}
