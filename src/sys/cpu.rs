//! The CPU time of a thread.

use std::time::Duration;

/// CPU time that the calling thread has used. What the kernel does for it in interrupts, or on threads of its own, is
/// not in it.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that outlives the call, which only writes to it.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0 {
        return Duration::ZERO;
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It counts work, not time.
    #[test]
    fn counts_work() {
        let started = std::time::Instant::now();
        let before = thread_cpu_time();
        while thread_cpu_time() - before < Duration::from_millis(5) {
            assert!(started.elapsed() < Duration::from_secs(60), "5 ms of work are never counted");
        }
        // The two clocks need not run at quite the same speed.
        assert!(started.elapsed() >= Duration::from_millis(4));
    }
}
