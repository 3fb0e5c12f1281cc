//! Moves bytes from socket to socket through a pipe, without copying them into the process.
//!
//! Raw non-blocking `splice(2)` beside `readable`/`writable`: io_uring's splice operation parks a kernel thread for
//! each waiting connection. While a [`Splice`] lives, both sockets are non-blocking and no other reads or writes may be
//! under way on them; dropped, it gives them back as they were.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::socket::Socket;

/// Capacity asked for: four times the usual pipe, and what one turn moves.
const PIPE_BYTES: libc::c_int = 256 * 1024;

/// A pipe that carries bytes between two sockets. Empty unless a [`Splice`] uses it.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// A new pipe.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn new() -> io::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: `ends` is valid for the two descriptors that the call writes.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both descriptors were just opened and nobody else owns them.
        let (read, write) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
        // SAFETY: plain call on a descriptor that is open; a refusal (pipe-user-pages-soft) leaves the usual size.
        unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES) };
        Ok(Self { read, write })
    }
}

/// What one step came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// The source has ended.
    Ended,
    /// This many bytes went from the source into the pipe or out of it.
    Moved(usize),
    /// It would wait.
    WouldWait,
}

/// Two sockets and the pipe between them.
pub struct Splice<'s> {
    from: &'s Socket,
    to: &'s Socket,
    pipe: Option<Pipe>,
    /// Bytes in the pipe. May exceed its nominal size: buffers move by reference.
    pending: usize,
    restore_blocking: bool,
}

impl<'s> Splice<'s> {
    /// Prepares both sockets. `epoll`: the driver wants them non-blocking anyway.
    #[must_use]
    pub fn new(from: &'s Socket, to: &'s Socket, pipe: Pipe, epoll: bool) -> Self {
        if !epoll {
            from.begin_splice();
            to.begin_splice();
        }
        Self { from, to, pipe: Some(pipe), pending: 0, restore_blocking: !epoll }
    }

    /// Bytes taken from the source and not yet given to the destination.
    #[must_use]
    pub const fn pending(&self) -> usize {
        self.pending
    }

    /// Moves at most `count` bytes from the source into the pipe. With bytes in the pipe, `WouldWait` can also mean
    /// that the pipe is full: empty it first.
    ///
    /// # Errors
    /// Those of the source.
    pub fn fill(&mut self, count: usize) -> io::Result<Step> {
        let Some(pipe) = &self.pipe else { return Ok(Step::WouldWait) };
        let step = splice(self.from.fd(), pipe.write.as_raw_fd(), count.min(PIPE_BYTES as usize))?;
        if let Step::Moved(count) = step {
            self.pending += count;
        }
        Ok(step)
    }

    /// Moves what it can from the pipe to the destination.
    ///
    /// # Errors
    /// Those of the destination.
    pub fn empty(&mut self) -> io::Result<Step> {
        let Some(pipe) = &self.pipe else { return Ok(Step::WouldWait) };
        let step = splice(pipe.read.as_raw_fd(), self.to.fd(), self.pending)?;
        if let Step::Moved(count) = step {
            self.pending = self.pending.saturating_sub(count);
        }
        Ok(step)
    }

    /// The pipe, for the next use; `None` while bytes are in it.
    pub fn into_pipe(mut self) -> Option<Pipe> {
        if self.pending == 0 { self.pipe.take() } else { None }
    }
}

impl Drop for Splice<'_> {
    fn drop(&mut self) {
        if self.restore_blocking {
            self.from.end_splice();
            self.to.end_splice();
        }
    }
}

fn splice(from: RawFd, to: RawFd, count: usize) -> io::Result<Step> {
    if count == 0 {
        return Ok(Step::Moved(0));
    }
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: both descriptors are open while the caller holds their owners, the null offsets are what sockets and
    // pipes demand, and the call keeps no pointer. SIGPIPE is ignored in Rust programs.
    let moved = unsafe { libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), count, flags) };
    match moved {
        0 => Ok(Step::Ended),
        1.. => Ok(Step::Moved(moved.unsigned_abs())),
        _ => {
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock => Ok(Step::WouldWait),
                io::ErrorKind::Interrupted => Ok(Step::Moved(0)),
                _ => Err(error),
            }
        }
    }
}
