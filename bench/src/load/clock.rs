//! Time in nanoseconds, and a timer finer than the runtime's, whose steps are 1 ms.

use std::fs;
use std::io;
use std::net;
use std::os::fd::OwnedFd;

use monoio::net::TcpStream;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

/// Nanoseconds per second.
pub(super) const SECOND: u64 = 1_000_000_000;

fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec.unsigned_abs() * SECOND + time.tv_nsec.unsigned_abs()
}

/// The monotonic clock.
#[inline]
pub(super) fn now() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// CPU time of the calling thread, in the kernel too.
pub(super) fn thread_cpu() -> u64 {
    nanoseconds(clock_gettime(ClockId::ThreadCPUTime))
}

/// How long the calling thread has been ready to run and had no core; `None` where the kernel does not tell.
pub(super) fn thread_wait() -> Option<u64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// A timer of the kernel that the runtime waits for as for a socket.
pub(super) struct Timer {
    descriptor: OwnedFd,
    /// The same descriptor in the runtime's hands. It is no socket: nothing but its readiness is asked for.
    readiness: TcpStream,
}

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let readiness = TcpStream::from_std(net::TcpStream::from(descriptor.try_clone()?))?;
        Ok(Self { descriptor, readiness })
    }

    /// Waits until [`now`] is `at`; one that has passed is there at once.
    pub(super) async fn until(&self, at: u64) -> io::Result<()> {
        let value = Timespec { tv_sec: (at / SECOND).cast_signed(), tv_nsec: (at % SECOND).cast_signed() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // Setting it anew also takes back that it was readable.
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::ABSTIME, &once)?;
        self.readiness.readable(false).await
    }
}
