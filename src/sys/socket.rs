//! One TCP socket of a shard, usable in both directions at once.
//!
//! Buffers move in and come back. A pending operation is never dropped on a socket that is used again (the bytes it
//! received would be lost): to end one, shut the socket down or use [`Socket::read_cancelable`], and await it.

use std::cell::{Cell, UnsafeCell};
use std::future::Future;
use std::io;
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, RawFd};
use std::time::Duration;

use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRent, CancelHandle, CancelableAsyncReadRent};
use monoio::net::TcpStream;
use socket2::SockRef;

use super::buffer::Buffer;

/// What an idle upstream connection turns out to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Liveness {
    /// Open, nothing received.
    Alive,
    /// Closed or failed.
    Closed,
    /// Bytes came that nobody asked for.
    Unasked,
}

/// A connected TCP socket.
pub struct Socket {
    stream: UnsafeCell<TcpStream>,
    /// Directions that are spliced at the moment: while there are some, the descriptor is non-blocking.
    spliced: Cell<u8>,
}

impl Socket {
    /// Takes over a connected stream.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { stream: UnsafeCell::new(stream), spliced: Cell::new(0) }
    }

    #[allow(clippy::mut_from_ref, reason = "see the SAFETY note")]
    fn stream(&self) -> &mut TcpStream {
        // SAFETY: monoio's read and write take `&mut self` only to clone the descriptor handle into the operation
        // they return; neither keeps the reference, nor do two run at once (a `Socket` is not Sync). So the two
        // directions never hold this reference at the same time.
        unsafe { &mut *self.stream.get() }
    }

    /// The descriptor, valid while the socket lives.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.stream().as_raw_fd()
    }

    /// Appends what arrives to `buffer`, which must have room; `Ok(0)` is the end of the stream.
    pub async fn read(&self, buffer: Buffer) -> (io::Result<usize>, Buffer) {
        let mut buffer = buffer;
        loop {
            debug_assert!(buffer.spare() > 0);
            let (result, returned) = self.stream().read(buffer).await;
            buffer = returned;
            match result {
                // While the other direction is spliced, older kernels do not wait for data here.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = self.readable().await {
                        return (Err(error), buffer);
                    }
                }
                result => return (result, buffer),
            }
        }
    }

    /// As [`Self::read`], ended early with `ECANCELED` by the handle's canceller.
    #[inline]
    pub fn read_cancelable(
        &self,
        buffer: Buffer,
        handle: CancelHandle,
    ) -> impl Future<Output = (io::Result<usize>, Buffer)> + use<'_> {
        debug_assert!(buffer.spare() > 0);
        self.stream().cancelable_read(buffer, handle)
    }

    /// Sends all of `buffer` and returns it empty; after an error it still holds what was not sent. Calls `advance`
    /// before each piece: a timer armed there measures the gap between two, not the whole.
    pub async fn write_all(&self, buffer: Buffer, advance: impl Fn()) -> (io::Result<()>, Buffer) {
        let mut buffer = buffer;
        while !buffer.is_empty() {
            advance();
            let (result, returned) = self.stream().write(buffer).await;
            buffer = returned;
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buffer),
                Ok(sent) => buffer.consume(sent),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // As in `read`.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = self.writable().await {
                        return (Err(error), buffer);
                    }
                }
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }

    /// Waits until a read would not wait. Loses nothing when dropped.
    pub async fn readable(&self) -> io::Result<()> {
        self.stream().readable(false).await
    }

    /// Waits until a write would not wait.
    pub async fn writable(&self) -> io::Result<()> {
        self.stream().writable(false).await
    }

    /// The address that the peer connected to, IPv4 as such.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        let address = SockRef::from(&self.borrowed()).local_addr().ok()?.as_socket()?;
        Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// Ends one or both directions at once; errors mean that it was over already.
    pub fn shutdown(&self, how: Shutdown) {
        let _ = SockRef::from(&self.borrowed()).shutdown(how);
    }

    /// Makes the coming close a reset: the peer can not take what it has for the whole.
    pub fn reset_on_close(&self) {
        let _ = SockRef::from(&self.borrowed()).set_linger(Some(Duration::ZERO));
    }

    /// Turns off Nagle's algorithm.
    pub fn set_nodelay(&self) {
        let _ = SockRef::from(&self.borrowed()).set_nodelay(true);
    }

    /// Looks at an idle connection without waiting or consuming.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        match peek(self.fd()) {
            Ok(0) => Liveness::Closed,
            Ok(_) => Liveness::Unasked,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Liveness::Alive,
            Err(_) => Liveness::Closed,
        }
    }

    /// Appends to `buffer` what has arrived, as much as it has room for; `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` where nothing has arrived; otherwise those of recv(2).
    pub fn receive_now(&self, buffer: &mut Buffer) -> io::Result<usize> {
        let (fd, room) = (self.fd(), buffer.bytes_total());
        // SAFETY: the buffer owns `room` writable bytes at this address during the call; the descriptor is open while
        // `self` lives.
        let received = unsafe { libc::recv(fd, buffer.write_ptr().cast(), room, libc::MSG_DONTWAIT) };
        let count = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: the kernel wrote so many bytes there.
        unsafe { buffer.set_init(count) };
        Ok(count)
    }

    /// Drops at most `count` bytes of what has arrived, without copying them anywhere; `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` where nothing has arrived; otherwise those of recv(2).
    pub fn discard_now(&self, count: usize) -> io::Result<usize> {
        // SAFETY: the descriptor is open while `self` lives; with MSG_TRUNC, TCP drops the bytes instead of writing them,
        // tcp(7), so that no memory is needed.
        let dropped = unsafe {
            libc::recv(self.fd(), std::ptr::null_mut(), count, libc::MSG_TRUNC | libc::MSG_DONTWAIT)
        };
        usize::try_from(dropped).map_err(|_| io::Error::last_os_error())
    }

    /// Sends a few bytes where that does not mean to wait: all of them, some, or none.
    pub fn send_now(&self, bytes: &[u8]) {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `bytes` is valid for its length during the call; the descriptor is open while `self` lives.
        unsafe { libc::send(self.fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    }

    /// Makes the descriptor non-blocking for a direction that is spliced from now on. Raw calls on a blocking one
    /// would stop the shard.
    pub(super) fn begin_splice(&self) {
        self.spliced.set(self.spliced.get() + 1);
        let _ = SockRef::from(&self.borrowed()).set_nonblocking(true);
    }

    /// Ends what [`Self::begin_splice`] began: the last direction makes the descriptor blocking again, because older
    /// kernels answer an io_uring receive on a non-blocking one with EAGAIN instead of waiting.
    pub(super) fn end_splice(&self) {
        self.spliced.set(self.spliced.get() - 1);
        if self.spliced.get() == 0 {
            let _ = SockRef::from(&self.borrowed()).set_nonblocking(false);
        }
    }

    fn borrowed(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open while `self` lives, and the borrow ends with `self`'s.
        unsafe { BorrowedFd::borrow_raw(self.fd()) }
    }
}

/// Takes a stream out of the calling thread's runtime; no operation on it may have begun.
pub(crate) fn release(stream: TcpStream) -> net::TcpStream {
    // SAFETY: `into_raw_fd` gives up the only owner of an open descriptor, the new stream becomes the next.
    unsafe { net::TcpStream::from_raw_fd(stream.into_raw_fd()) }
}

/// Takes a stream into the calling thread's runtime.
///
/// # Errors
/// When epoll can not watch it.
pub(crate) fn adopt(stream: net::TcpStream, epoll: bool) -> io::Result<TcpStream> {
    // epoll needs a non-blocking socket, io_uring of older kernels a blocking one.
    stream.set_nonblocking(epoll)?;
    TcpStream::from_std(stream)
}

/// Shuts down a descriptor that its owner is known to hold open; errors mean that it was over already.
///
/// The deadline list uses it: it holds numbers, not sockets, and an entry never outlives its socket.
pub(crate) fn shutdown_fd(fd: RawFd, how: Shutdown) {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: a plain system call on a number; on a descriptor that is no socket it fails and changes nothing.
    unsafe { libc::shutdown(fd, how) };
}

/// Looks for one byte without waiting or consuming; `Ok(0)` is the end of the stream.
fn peek(fd: RawFd) -> io::Result<usize> {
    let mut byte = 0_u8;
    // SAFETY: `byte` is valid for one byte during the call; on a number that is no open socket it fails.
    let received = unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

/// Whether bytes wait to be read from a descriptor.
pub(crate) fn has_bytes(fd: RawFd) -> bool {
    matches!(peek(fd), Ok(1..))
}

/// Whether the connection behind a descriptor was reset or closed both ways. A peer that only ended its sending is
/// still there: it may be waiting for its answer.
pub(crate) fn is_broken(fd: RawFd) -> bool {
    let mut poll = libc::pollfd { fd, events: 0, revents: 0 };
    // SAFETY: `poll` is one valid entry during the call, which does not wait.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready == 1 && poll.revents & (libc::POLLERR | libc::POLLHUP) != 0
}

/// Lends a listener's descriptor to the socket libraries.
pub(crate) fn borrow_listener(listener: &monoio::net::TcpListener) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open while the listener lives, and the borrow ends with the listener's.
    unsafe { BorrowedFd::borrow_raw(listener.as_raw_fd()) }
}
