//! When the backend answers, and whether it fails: the same for all of its threads.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{BackendArgs, Failure};

/// How the backend behaves.
#[derive(Debug)]
pub(super) struct Behaviour {
    latency: Duration,
    failure_rate: f64,
    failure: Failure,
    /// Start after the first request, and length.
    stall: Option<(Duration, Duration)>,
    first_request: OnceLock<Instant>,
}

impl Behaviour {
    pub(super) fn new(args: &BackendArgs) -> Self {
        Self {
            latency: args.latency,
            failure_rate: args.failure_rate,
            failure: args.failure,
            stall: args.stall_after.zip(args.stall),
            first_request: OnceLock::new(),
        }
    }

    /// How long the answer to a request that is there now has to wait; `None` where it need not.
    #[inline]
    pub(super) fn wait(&self) -> Option<Duration> {
        if self.latency.is_zero() && self.stall.is_none() {
            return None;
        }
        let now = Instant::now();
        let first = *self.first_request.get_or_init(|| now);
        let wait = self.latency.max(stalled(self.stall, now.saturating_duration_since(first)));
        (!wait.is_zero()).then_some(wait)
    }

    /// Whether and how an answer fails. `random` is uniform between 0 and 1.
    #[inline]
    pub(super) fn failure(&self, random: impl FnOnce() -> f64) -> Option<Failure> {
        (self.failure_rate > 0.0 && random() < self.failure_rate).then_some(self.failure)
    }
}

/// What is left of the stall.
fn stalled(stall: Option<(Duration, Duration)>, since_first: Duration) -> Duration {
    match stall {
        Some((after, length)) if since_first >= after => (after + length).saturating_sub(since_first),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_once() {
        let stall = Some((Duration::from_secs(2), Duration::from_secs(1)));
        for (at, left) in [(0, 0), (1999, 0), (2000, 1000), (2400, 600), (3000, 0), (9000, 0)] {
            assert_eq!(stalled(stall, Duration::from_millis(at)), Duration::from_millis(left), "{at}");
        }
        assert_eq!(stalled(None, Duration::from_secs(2)), Duration::ZERO);
    }
}
