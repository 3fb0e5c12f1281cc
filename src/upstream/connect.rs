//! Dials an endpoint.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use monoio::net::TcpStream;

use super::pool::Connection;
use crate::shard::Shard;
use crate::sys::socket::Socket;

/// Why a dial failed. In every case nothing was sent, so another endpoint may be tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DialError {
    /// Refused, unreachable, reset.
    Failed,
    /// No descriptor, port or memory is left on this host.
    Exhausted,
    /// Timer `connect_timeout`.
    TimedOut,
}

impl DialError {
    /// Status and reason code of the answer when no other endpoint is left.
    #[must_use]
    pub const fn reply(self) -> (u16, &'static str) {
        match self {
            Self::Exhausted => (503, "connect_resources_exhausted"),
            Self::Failed => (502, "connect_failed"),
            Self::TimedOut => (504, "connect_timeout"),
        }
    }
}

/// Connects to `address` within `timeout`.
///
/// # Errors
/// See [`DialError`].
pub async fn dial(
    shard: &Rc<Shard>,
    address: SocketAddr,
    timeout: Duration,
) -> Result<Connection, DialError> {
    shard.stats.upstream_dialled.add();
    // A connect has no cancelable form. Dropped, its operation is cancelled and the socket it owns closes with it.
    let connected = monoio::select! {
        connected = TcpStream::connect_addr(address) => connected,
        () = monoio::time::sleep(timeout) => Err(io::ErrorKind::TimedOut.into()),
    };
    let stream = connected.map_err(|error| {
        shard.stats.upstream_dial_failures.add();
        classify(shard, address, &error)
    })?;
    let socket = Socket::new(stream);
    socket.set_nodelay();
    let timer = shard.deadlines.timer(socket.fd());
    Ok(Connection::new(socket, timer, Rc::clone(&shard.stats)))
}

fn classify(shard: &Shard, address: SocketAddr, error: &io::Error) -> DialError {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM) => {
            if shard.may_warn() {
                tracing::warn!(shard = shard.id, %address, %error, "no resources left to connect with");
            }
            DialError::Exhausted
        }
        _ if error.kind() == io::ErrorKind::TimedOut => {
            shard.stats.timeout_connect.add();
            DialError::TimedOut
        }
        _ => DialError::Failed,
    }
}
