//! A shard's runtime: io_uring with the best flags this kernel takes, else epoll, and the reason for each step down.
//!
//! The ring is probed by building it at its full size, on the thread that will use it: a small test ring can succeed
//! where the real one fails for locked memory, and `SINGLE_ISSUER` ties a ring to its thread.

use std::io;

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use crate::config::model::Driver;

/// The driver and flags a shard runs on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rung {
    /// io_uring, `SINGLE_ISSUER | DEFER_TASKRUN` (Linux 6.1): completions run when the shard asks for them.
    UringDeferTaskrun,
    /// io_uring, `COOP_TASKRUN` (Linux 5.19): no interrupt of a running shard.
    UringCoopTaskrun,
    /// io_uring without flags.
    UringPlain,
    /// epoll.
    Epoll,
}

impl Rung {
    /// Name for logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UringDeferTaskrun => "io_uring (SINGLE_ISSUER, DEFER_TASKRUN)",
            Self::UringCoopTaskrun => "io_uring (COOP_TASKRUN)",
            Self::UringPlain => "io_uring (no flags)",
            Self::Epoll => "epoll",
        }
    }

    /// The driver, as `driver` in the configuration names it.
    #[must_use]
    pub const fn driver(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            _ => "io_uring",
        }
    }
}

/// A built runtime of either driver.
#[allow(missing_docs, reason = "the names say it")]
pub enum ShardRuntime {
    Uring(Runtime<TimeDriver<IoUringDriver>>),
    Epoll(Runtime<TimeDriver<LegacyDriver>>),
}

impl ShardRuntime {
    /// Runs `future` to its end on this thread.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Self::Uring(runtime) => runtime.block_on(future),
            Self::Epoll(runtime) => runtime.block_on(future),
        }
    }
}

/// What [`build`] chose, and why nothing better.
pub struct Built {
    /// The runtime.
    pub runtime: ShardRuntime,
    /// The rung it stands on.
    pub rung: Rung,
    /// The better rungs, best first, and why each failed.
    pub passed_over: Vec<(Rung, String)>,
}

/// Failed rungs, best first, as one sentence: those that failed for the same reason share it.
#[must_use]
pub fn reasons(passed_over: &[(Rung, String)]) -> String {
    let groups = passed_over.chunk_by(|(_, one), (_, other)| one == other).map(|group| {
        let rungs: Vec<_> = group.iter().map(|(rung, _)| rung.name()).collect();
        let reason = group.first().map_or("", |(_, reason)| reason);
        format!("{}: {reason}", rungs.join(", "))
    });
    groups.collect::<Vec<_>>().join("; ")
}

/// Builds the runtime of the calling thread; a ring gets `ring_entries` submission entries.
///
/// # Errors
/// With `Driver::IoUring` the last ring's failure, with hints; with epoll its own.
pub fn build(driver: Driver, ring_entries: u32) -> Result<Built, String> {
    let mut passed_over = Vec::new();
    if driver != Driver::Epoll {
        for rung in [Rung::UringDeferTaskrun, Rung::UringCoopTaskrun, Rung::UringPlain] {
            match build_uring(rung, ring_entries) {
                Ok(runtime) => return Ok(Built { runtime, rung, passed_over }),
                Err(error) => passed_over.push((rung, explain(&error))),
            }
        }
        if driver == Driver::IoUring {
            return Err(format!(
                "no io_uring ring could be set up: {}; set driver = \"auto\" to fall back to epoll",
                reasons(&passed_over)
            ));
        }
    }
    let runtime = RuntimeBuilder::<LegacyDriver>::new()
        .enable_timer()
        .build()
        .map_err(|error| format!("epoll could not be set up: {error}"))?;
    Ok(Built { runtime: ShardRuntime::Epoll(runtime), rung: Rung::Epoll, passed_over })
}

fn build_uring(rung: Rung, ring_entries: u32) -> io::Result<ShardRuntime> {
    let mut ring = io_uring::IoUring::builder();
    match rung {
        Rung::UringDeferTaskrun => {
            ring.setup_single_issuer().setup_defer_taskrun();
        }
        Rung::UringCoopTaskrun => {
            ring.setup_coop_taskrun();
        }
        Rung::UringPlain | Rung::Epoll => {}
    }
    let runtime = RuntimeBuilder::<IoUringDriver>::new()
        .with_entries(ring_entries)
        .uring_builder(ring)
        .enable_timer()
        .build()?;
    Ok(ShardRuntime::Uring(runtime))
}

/// What stands behind an errno of `io_uring_setup`, in words an operator can act on.
fn explain(error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "not permitted: a seccomp profile (containers) or the sysctl kernel.io_uring_disabled forbids it"
        }
        Some(libc::ENOSYS) => "the kernel has no io_uring, or a seccomp profile hides it",
        Some(libc::ENOMEM) => {
            "locked memory is used up: raise `ulimit -l` (LimitMEMLOCK in systemd), or lower ring_entries"
        }
        Some(libc::EINVAL) => "the kernel does not know these flags",
        Some(libc::EMFILE | libc::ENFILE) => "no file descriptor is left: raise `ulimit -n`",
        _ => return super::errno::text(error),
    };
    format!("{} ({hint})", super::errno::text(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One reason for all rungs is said once, different ones each, best rung first.
    #[test]
    fn reasons_are_grouped() {
        let all = |reason: [&str; 3]| {
            let rungs = [Rung::UringDeferTaskrun, Rung::UringCoopTaskrun, Rung::UringPlain];
            reasons(&rungs.into_iter().zip(reason.map(str::to_owned)).collect::<Vec<_>>())
        };
        assert_eq!(
            all(["x", "x", "x"]),
            "io_uring (SINGLE_ISSUER, DEFER_TASKRUN), io_uring (COOP_TASKRUN), io_uring (no flags): x"
        );
        assert_eq!(
            all(["x", "y", "y"]),
            "io_uring (SINGLE_ISSUER, DEFER_TASKRUN): x; io_uring (COOP_TASKRUN), io_uring (no flags): y"
        );
        assert_eq!(reasons(&[]), "");
    }
}
