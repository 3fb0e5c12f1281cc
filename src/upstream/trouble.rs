//! What goes wrong with an endpoint, for the log: at most one line per [`QUIET_MS`], with exact counts.
//!
//! The first failure is said at once, those that follow when the time is up, or when the endpoint or the shard ends.
//! An endpoint keeps no more than its last failure, and a number.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::sys::errno;
use crate::tls::fault::TlsFault;

/// Time between two lines about an endpoint.
pub const QUIET_MS: u64 = 10_000;

/// What an endpoint did, or did not do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Instead of a response came what this reason code names.
    Answer(&'static str),
    /// A request or its response stopped for longer than `body_gap_timeout`.
    BodyGap,
    /// It closed the connection before its response was whole.
    BrokenOff,
    /// Malformed chunks.
    Chunks,
    /// It closed the connection before its response began.
    Closed,
    /// No connection, for this reason of the system.
    Connect(Option<i32>),
    /// No connection within `connect_timeout`.
    ConnectTimeout,
    /// No response within `first_byte_timeout`.
    FirstByte,
    /// TLS failed for this reason.
    Tls(TlsFault),
    /// Connected, but no TLS within `connect_timeout`.
    TlsTimeout,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(reason) => write!(f, "not a valid response: {reason}"),
            Self::BodyGap => f.write_str("a body came to a halt for body_gap_timeout"),
            Self::BrokenOff => f.write_str("closed the connection in the middle of a response"),
            Self::Chunks => f.write_str("malformed chunks in a response"),
            Self::Closed => f.write_str("closed the connection without a response"),
            Self::Connect(Some(errno)) => {
                write!(f, "connect failed: {}", errno::text(&io::Error::from_raw_os_error(*errno)))
            }
            Self::Connect(None) => f.write_str("connect failed"),
            Self::ConnectTimeout => f.write_str("no connection within connect_timeout"),
            Self::FirstByte => f.write_str("no response within first_byte_timeout"),
            Self::Tls(fault) => write!(f, "TLS failed: {fault}"),
            Self::TlsTimeout => f.write_str("connected, but no TLS handshake within connect_timeout"),
        }
    }
}

#[derive(Debug)]
struct Unsaid {
    service: Arc<str>,
    fault: Fault,
    count: u64,
    /// Not all of them were the same.
    mixed: bool,
}

/// The failures of one endpoint on one shard.
#[derive(Debug, Default)]
pub struct Troubles {
    unsaid: RefCell<Option<Box<Unsaid>>>,
    /// No line before this time.
    quiet_until_ms: Cell<u64>,
}

impl Troubles {
    /// Takes a failure down. Returns a line where it is time for one.
    #[must_use]
    pub fn note(&self, service: &Arc<str>, fault: Fault, now_ms: u64) -> Option<Line> {
        {
            let mut unsaid = self.unsaid.borrow_mut();
            let entry = unsaid.get_or_insert_with(|| {
                Box::new(Unsaid { service: Arc::clone(service), fault, count: 0, mixed: false })
            });
            entry.count += 1;
            if entry.fault != fault || entry.service != *service {
                entry.mixed = true;
                entry.fault = fault;
                entry.service = Arc::clone(service);
            }
        }
        self.due(now_ms)
    }

    /// A line about what was not said yet, where it is time for one.
    #[must_use]
    pub fn due(&self, now_ms: u64) -> Option<Line> {
        if now_ms < self.quiet_until_ms.get() {
            return None;
        }
        let line = self.rest()?;
        self.quiet_until_ms.set(now_ms + QUIET_MS);
        Some(line)
    }

    /// A line about what was not said yet.
    #[must_use]
    pub fn rest(&self) -> Option<Line> {
        // The first line has none before it.
        let first = self.quiet_until_ms.get() == 0;
        self.unsaid.take().map(|unsaid| Line { unsaid, first })
    }
}

/// A line to log.
#[derive(Debug)]
pub struct Line {
    unsaid: Box<Unsaid>,
    first: bool,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unsaid { service, fault, count, mixed } = &*self.unsaid;
        match service.split_once('|') {
            Some((service, subset)) => write!(f, "of service {service}, subset {subset}: {fault}")?,
            None => write!(f, "of service {service}: {fault}")?,
        }
        let times = if *count == 1 { "once" } else { &format!("{count} times") };
        match (self.first, mixed) {
            (true, _) => Ok(()),
            (false, false) => write!(f, " ({times} since the last line)"),
            (false, true) => write!(f, " (the last of {count} failures since the last line)"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    const REFUSED: Fault = Fault::Connect(Some(libc::ECONNREFUSED));

    /// The first at once, then one line per time, which counts what came meanwhile, also when nothing more comes.
    #[test]
    fn lines_are_few_and_counts_exact() {
        let (troubles, shop) = (Troubles::default(), Arc::from("shop"));
        let text = |line: Option<Line>| line.map(|line| line.to_string());
        let first = text(troubles.note(&shop, REFUSED, 5)).unwrap();
        assert_eq!(first, "of service shop: connect failed: Connection refused");
        assert_eq!(text(troubles.due(5 + QUIET_MS)), None, "nothing to say");
        for at in 0..3 {
            assert!(troubles.note(&shop, REFUSED, 6 + at).is_none());
        }
        assert!(troubles.due(4 + QUIET_MS).is_none());
        let second = text(troubles.due(5 + QUIET_MS)).unwrap();
        assert_eq!(second, format!("{first} (3 times since the last line)"));
        assert!(troubles.note(&shop, REFUSED, 6 + QUIET_MS).is_none());
        assert_eq!(text(troubles.rest()).unwrap(), format!("{first} (once since the last line)"));
        assert!(troubles.rest().is_none());
        // A long silence, then again at once.
        let again = text(troubles.note(&shop, REFUSED, 9 * QUIET_MS)).unwrap();
        assert_eq!(again, format!("{first} (once since the last line)"));
    }

    /// Different failures between two lines are told as such.
    #[test]
    fn different_failures() {
        let troubles = Troubles::default();
        let (shop, v2) = (Arc::from("shop"), Arc::from("shop|v2"));
        assert!(troubles.note(&shop, REFUSED, 1).is_some());
        assert!(troubles.note(&shop, REFUSED, 2).is_none());
        assert!(troubles.note(&v2, Fault::FirstByte, 3).is_none());
        assert_eq!(
            troubles.rest().unwrap().to_string(),
            "of service shop, subset v2: no response within first_byte_timeout (the last of 2 failures since the \
             last line)"
        );
    }
}
