//! What a thread measures.

use hdrhistogram::Histogram;

use rustls::HandshakeKind;

use super::clock::SECOND;
use crate::report::Handshakes;

/// Kinds of failed requests; the names are those of the report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ErrorKind {
    /// The connection could not be opened.
    Connect,
    /// The handshake failed, or TLS did later.
    Tls,
    /// Receiving failed.
    Read,
    /// Sending failed.
    Write,
    /// The connection ended before the response did.
    Closed,
    /// No response within the time.
    Timeout,
    /// Another status than expected.
    Status,
    /// Another length of the content than expected.
    Content,
    /// Not HTTP/1.1, or more than was asked for.
    Malformed,
}

impl ErrorKind {
    /// All kinds, in the order of their numbers.
    pub(crate) const ALL: [Self; 9] = [
        Self::Connect,
        Self::Tls,
        Self::Read,
        Self::Write,
        Self::Closed,
        Self::Timeout,
        Self::Status,
        Self::Content,
        Self::Malformed,
    ];

    /// Name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Read => "read",
            Self::Write => "write",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Content => "content",
            Self::Malformed => "malformed",
        }
    }
}

impl Handshakes {
    /// Counts one.
    pub(crate) fn count(&mut self, kind: HandshakeKind) {
        match kind {
            HandshakeKind::Resumed => self.resumed += 1,
            HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest => self.full += 1,
        }
    }

    /// Adds others.
    pub(crate) const fn add(&mut self, others: Self) {
        self.full += others.full;
        self.resumed += others.resumed;
    }
}

/// Longest time that a histogram tells apart: one hour, in nanoseconds.
const LONGEST: u64 = 3600 * SECOND;

/// Counts and times of the measured part of a run.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Latency of requests answered as expected, in nanoseconds. Those that timed out or were unanswered at the end are
    /// in it with the time that they had waited: left out, the slowest would not count.
    pub(crate) latency: Histogram<u64>,
    /// Requests answered as expected.
    pub(crate) answered: u64,
    /// The longest latency of those.
    pub(crate) longest: u64,
    /// Requests that were open for long at the end of a closed loop.
    pub(crate) unanswered: u64,
    /// How long the oldest of those had waited.
    pub(crate) oldest: u64,
    /// How late requests were started for reasons of the generator's own, in nanoseconds; constant rate only.
    pub(crate) lag: Histogram<u64>,
    /// Failed requests by kind.
    pub(crate) errors: [u64; ErrorKind::ALL.len()],
    /// Content bytes received.
    pub(crate) content_bytes: u64,
    /// Handshakes of requests that opened a connection.
    pub(crate) handshakes: Handshakes,
    /// When the last request ended.
    pub(crate) last: u64,
}

impl Tally {
    pub(crate) fn new() -> Result<Self, String> {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 3).map_err(|error| error.to_string());
        Ok(Self {
            latency: histogram()?,
            answered: 0,
            longest: 0,
            unanswered: 0,
            oldest: 0,
            lag: histogram()?,
            errors: [0; ErrorKind::ALL.len()],
            content_bytes: 0,
            handshakes: Handshakes::default(),
            last: 0,
        })
    }

    /// Counts a request that took `latency` and ended at `now`.
    #[inline]
    pub(crate) fn record(&mut self, outcome: Result<u64, ErrorKind>, latency: u64, now: u64) {
        self.last = now;
        match outcome {
            Ok(content) => {
                self.latency.saturating_record(latency);
                self.answered += 1;
                self.longest = self.longest.max(latency);
                self.content_bytes += content;
            }
            Err(kind) => {
                if kind == ErrorKind::Timeout {
                    self.latency.saturating_record(latency);
                }
                self.fail(kind, 1);
            }
        }
    }

    /// Counts `count` requests that were never started, and had waited for `age`, as timeouts.
    pub(crate) fn abandon(&mut self, age: u64, count: u64) {
        self.latency.saturating_record_n(age, count);
        self.fail(ErrorKind::Timeout, count);
    }

    /// Counts a request that is open at the end and has waited for `age`.
    pub(crate) fn leave_open(&mut self, age: u64) {
        self.latency.saturating_record(age);
        self.unanswered += 1;
        self.oldest = self.oldest.max(age);
    }

    /// Counts failed requests.
    pub(crate) fn fail(&mut self, kind: ErrorKind, count: u64) {
        if let Some(errors) = self.errors.get_mut(kind as usize) {
            *errors += count;
        }
    }

    /// Requests that ended, well or not.
    pub(crate) fn ended(&self) -> u64 {
        self.answered + self.failed()
    }

    /// Requests that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.errors.iter().sum()
    }

    /// Adds another thread's.
    pub(crate) fn add(&mut self, other: &Self) -> Result<(), String> {
        self.latency.add(&other.latency).map_err(|error| error.to_string())?;
        self.lag.add(&other.lag).map_err(|error| error.to_string())?;
        self.answered += other.answered;
        self.longest = self.longest.max(other.longest);
        self.unanswered += other.unanswered;
        self.oldest = self.oldest.max(other.oldest);
        for (sum, count) in self.errors.iter_mut().zip(other.errors) {
            *sum += count;
        }
        self.content_bytes += other.content_bytes;
        self.handshakes.add(other.handshakes);
        self.last = self.last.max(other.last);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn counts_by_kind_and_adds_up() {
        let mut tally = Tally::new().unwrap();
        tally.record(Ok(10), 1000, 5);
        for kind in ErrorKind::ALL {
            tally.record(Err(kind), 1, 6);
        }
        tally.leave_open(7);
        let mut sum = Tally::new().unwrap();
        sum.add(&tally).unwrap();
        sum.add(&tally).unwrap();
        assert_eq!((sum.answered, sum.errors, sum.content_bytes, sum.last), (2, [2; 9], 20, 6));
        // The timeout and the open request have a latency, other failures have none.
        assert_eq!((sum.latency.len(), sum.unanswered, sum.oldest, sum.longest), (6, 2, 7, 1000));
        assert_eq!(sum.ended(), 20);
        assert!(ErrorKind::ALL.iter().enumerate().all(|(at, kind)| *kind as usize == at));
    }
}
