//! Other processes of this host: sending a signal, and telling a process from a later one with the same id. And what
//! this process may use.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Sends a signal to the process `pid`.
///
/// # Errors
/// The system's: no such process, or not ours.
pub fn send_signal(pid: u32, signal: i32) -> io::Result<()> {
    // 0 and negative ids mean groups of processes.
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: a plain system call on two numbers.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Kills the group of processes that `pid` leads. While its leader is not waited for, no other can have that number.
///
/// # Errors
/// The system's: no such group, or not ours.
pub fn kill_group(pid: u32) -> io::Result<()> {
    // -1 and 0 mean other processes than a group's.
    let group = i32::try_from(pid).ok().filter(|pid| *pid > 1).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: a plain system call on two numbers.
    if unsafe { libc::kill(-group, libc::SIGKILL) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the command's process killed when the thread that starts it ends, however that comes.
pub fn end_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only a plain system call on numbers.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
}

/// When a process started, in clock ticks since the host's boot (proc(5), field 22 of `/proc/PID/stat`).
///
/// # Errors
/// When there is no such process, or it has ended and only waits for its parent to notice.
pub fn start_ticks(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_start_ticks(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The command's name, field 2, stands in brackets and may hold anything: fields are counted from its end.
fn parse_start_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// Whether a process is there and stopped, as by SIGSTOP or a debugger.
#[must_use]
pub fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, fields)| fields.trim_start());
    state.is_some_and(|state| state.starts_with(['T', 't']))
}

/// Raises the limit of descriptors (`ulimit -n`) as far as this process may, and returns it.
///
/// # Errors
/// The system's.
pub fn raise_descriptors_max() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for one `rlimit` during the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        // SAFETY: `raised` is valid for one `rlimit` during the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            limit = raised;
        }
    }
    Ok(limit.rlim_cur)
}

/// Descriptors that this process holds.
///
/// # Errors
/// When `/proc` can not be read.
pub fn descriptors() -> io::Result<u64> {
    Ok(fs::read_dir("/proc/self/fd")?.count() as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn reads_the_start_behind_any_name() {
        let line = "7 (a) b) c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 123456 1 2";
        assert_eq!(parse_start_ticks(line), Some(123_456));
        assert_eq!(parse_start_ticks("7 (a"), None);
        assert_eq!(parse_start_ticks(&line.replace(") S ", ") Z ")), None, "a zombie");
        assert!(start_ticks(std::process::id()).unwrap() > 0);
    }

    #[test]
    fn descriptors_are_counted_and_their_limit_raised() {
        let max = raise_descriptors_max().unwrap();
        assert_eq!(raise_descriptors_max().unwrap(), max);
        assert!((3..max).contains(&descriptors().unwrap()));
    }

    #[test]
    fn never_signals_a_group() {
        for pid in [0, u32::MAX, 1 << 31] {
            assert_eq!(send_signal(pid, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        send_signal(std::process::id(), 0).unwrap();
    }
}
