//! Nanoseconds per operation: the median of many short batches, so that a disturbed one does not count.

use std::time::{Duration, Instant};

use super::cases::Case;

/// Batches of a measurement.
const BATCHES: usize = 31;

/// What one case takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Timing {
    /// Median over the batches, nanoseconds per operation.
    pub(super) median_ns: f64,
    /// The fastest and the slowest batch.
    pub(super) spread_ns: (f64, f64),
}

/// Measures `case` for about `time`.
pub(super) fn measure(case: &Case, time: Duration) -> Timing {
    let mut operation = (case.prepare)();
    let batch_time = time / BATCHES as u32;
    // Warms caches up and finds how many operations fill a batch.
    let (mut count, mut took) = (1_u32, Duration::ZERO);
    while took < batch_time && count < 1 << 30 {
        count *= 2;
        took = run(&mut operation, count);
    }
    let per_operation = took.as_nanos() as f64 / f64::from(count);
    let count = ((batch_time.as_nanos() as f64 / per_operation) as u32).max(1);
    let mut batches: Vec<f64> =
        (0..BATCHES).map(|_| run(&mut operation, count).as_nanos() as f64 / f64::from(count)).collect();
    batches.sort_unstable_by(f64::total_cmp);
    Timing { median_ns: batches[BATCHES / 2], spread_ns: (batches[0], batches[BATCHES - 1]) }
}

fn run(operation: &mut dyn FnMut(), count: u32) -> Duration {
    let started = Instant::now();
    for _ in 0..count {
        operation();
    }
    started.elapsed()
}
