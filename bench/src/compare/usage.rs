//! What processes use, from /proc: CPU time in nanoseconds and resident memory, over a process and all it started.

use std::fs;

/// Nanoseconds of a tick of /proc/PID/stat: user space always sees 100 a second on Linux.
const TICK_NS: u64 = 10_000_000;

/// A process and its descendants that live now.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// Time of a process and its descendants, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// On a core.
    pub(crate) cpu_ns: u64,
    /// Ready to run while others had the core; of threads that live.
    pub(crate) waited_ns: u64,
}

impl Times {
    /// Of a process and its descendants so far.
    pub(crate) fn of(root: u32) -> Self {
        let add = |sum: Self, pid| {
            let (exact, waited_ns) = thread_times(pid);
            let stat = stat(pid).unwrap_or_default();
            // The scheduler's sums are exact but end with each thread; the ticks also hold what ended threads and
            // awaited children used. The larger of both errs by less than two ticks.
            let own = exact.max(stat.own_ticks * TICK_NS);
            Self {
                cpu_ns: sum.cpu_ns + own + stat.children_ticks * TICK_NS,
                waited_ns: sum.waited_ns + waited_ns,
            }
        };
        tree(root).into_iter().fold(Self::default(), add)
    }

    /// From `earlier` to this.
    pub(crate) const fn since(self, earlier: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            waited_ns: self.waited_ns.saturating_sub(earlier.waited_ns),
        }
    }
}

/// On a core and waiting for one: `schedstat` of all threads that live.
fn thread_times(pid: u32) -> (u64, u64) {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let times = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let mut numbers = text.split_ascii_whitespace().map(|number| number.parse::<u64>().ok());
        Some((numbers.next()??, numbers.next()??))
    });
    times.fold((0, 0), |sum, time| (sum.0 + time.0, sum.1 + time.1))
}

/// Resident memory of a process and its descendants, in bytes.
pub(crate) fn resident_bytes(root: u32) -> u64 {
    tree(root).into_iter().map(|pid| rollup_bytes(pid).unwrap_or_default()).sum()
}

/// From `smaps_rollup`, which walks the pages: the counter of `status` lags behind by up to some pages per core.
fn rollup_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .or_else(|_| fs::read_to_string(format!("/proc/{pid}/status")))
        .ok()?;
    let line =
        text.lines().find_map(|line| line.strip_prefix("Rss:").or_else(|| line.strip_prefix("VmRSS:")))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[derive(Debug, Default, Eq, PartialEq)]
struct Stat {
    parent: u32,
    own_ticks: u64,
    children_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The second field, a name in brackets, may itself hold brackets and spaces.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // proc(5) counts from 1; the first of these is its field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(field(4)?).ok()?,
        own_ticks: field(14)? + field(15)?,
        children_ticks: field(16)? + field(17)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::process::{self, Command};

    use super::*;

    #[test]
    fn stat_of_a_process_with_an_odd_name() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 50 60 700 800 20 0 1 0 123 456 789";
        assert_eq!(parse_stat(text), Some(Stat { parent: 7, own_ticks: 110, children_ticks: 1500 }));
        assert_eq!(parse_stat("42 (cut) S 7"), None);
    }

    #[test]
    fn own_usage() {
        let before = Times::of(process::id());
        let mut sum = 0_u64;
        while Times::of(process::id()).since(before).cpu_ns < 30_000_000 {
            sum = (0..100_000_u64).fold(sum, |sum, value| std::hint::black_box(sum ^ value));
        }
        assert!(resident_bytes(process::id()) > 100_000);
    }

    #[test]
    fn descendants_are_found() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let found = tree(process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&process::id()) && found.contains(&child.id()), "{found:?}");
    }
}
