//! Dials an endpoint.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use monoio::net::TcpStream;

use super::handshake::Unsecured;
use super::pool::{Connection, Endpoint};
use super::trouble::Fault;
use crate::shard::Shard;
use crate::sys::buffer::{Buffer, Class};
use crate::sys::socket::Socket;
use crate::table::ClusterTable;

/// Why a dial failed. In every case nothing was sent, so another endpoint may be tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DialError {
    /// Refused, unreachable, reset.
    Failed,
    /// No descriptor, port or memory is left on this host.
    Exhausted,
    /// Timer `connect_timeout`.
    TimedOut,
    /// No TLS: the certificate is not good, or the endpoint refused.
    Tls,
}

impl DialError {
    /// Status and reason code of the answer when no other endpoint is left.
    #[must_use]
    pub const fn reply(self) -> (u16, &'static str) {
        match self {
            Self::Exhausted => (503, "connect_resources_exhausted"),
            Self::Failed => (502, "connect_failed"),
            Self::TimedOut => (504, "connect_timeout"),
            Self::Tls => (502, "upstream_tls_failed"),
        }
    }
}

/// Connects to an endpoint and sends `header` before anything else; then TLS, where it is spoken there; all within the
/// cluster's `connect_timeout`.
///
/// # Errors
/// See [`DialError`].
pub async fn dial(
    shard: &Rc<Shard>,
    endpoint: &Endpoint,
    settings: &ClusterTable,
    header: &[u8],
) -> Result<Connection, DialError> {
    shard.stats.upstream_dialled.add();
    let began = Instant::now();
    // A connect has no cancelable form. Dropped, its operation is cancelled and the socket it owns closes with it.
    let connected = monoio::select! {
        connected = connect(endpoint.address, header) => connected,
        () = monoio::time::sleep(settings.connect_timeout) => Err(io::ErrorKind::TimedOut.into()),
    };
    let socket = connected.map_err(|error| {
        shard.stats.upstream_dial_failures.add();
        classify(shard, endpoint, settings, &error)
    })?;
    let timer = shard.deadlines.timer(socket.fd());
    let connection = Connection::new(socket, timer, Rc::clone(&shard.stats));
    if let Some(origination) = &endpoint.origination {
        let left = settings.connect_timeout.saturating_sub(began.elapsed());
        let secured = Box::pin(origination.handshake(shard, &connection, left)).await;
        secured.map_err(|unsecured| without_tls(shard, endpoint, settings, unsecured))?;
    }
    Ok(connection)
}

fn without_tls(
    shard: &Shard,
    endpoint: &Endpoint,
    settings: &ClusterTable,
    unsecured: Unsecured,
) -> DialError {
    shard.stats.upstream_dial_failures.add();
    let (fault, error) = match unsecured {
        Unsecured::TimedOut => {
            shard.stats.timeout_connect.add();
            (Fault::TlsTimeout, DialError::TimedOut)
        }
        Unsecured::Failed(fault) => {
            shard.stats.upstream_tls_failed.add();
            (Fault::Tls(fault), DialError::Tls)
        }
    };
    endpoint.note(&settings.name, fault, shard.deadlines.now_ms());
    error
}

/// The PROXY protocol's header, if any, is the first that the endpoint hears: before a TLS handshake, too.
async fn connect(address: SocketAddr, header: &[u8]) -> io::Result<Socket> {
    let socket = Socket::new(TcpStream::connect_addr(address).await?);
    socket.set_nodelay();
    if !header.is_empty() {
        let mut bytes = Buffer::new(Class::Small);
        bytes.extend(header);
        socket.write_all(bytes, || ()).await.0?;
    }
    Ok(socket)
}

fn classify(shard: &Shard, endpoint: &Endpoint, settings: &ClusterTable, error: &io::Error) -> DialError {
    let note = |fault| endpoint.note(&settings.name, fault, shard.deadlines.now_ms());
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM) => {
            if shard.may_warn() {
                tracing::warn!(shard = shard.id, address = %endpoint.address, %error, "no resources left to connect with");
            }
            DialError::Exhausted
        }
        _ if error.kind() == io::ErrorKind::TimedOut => {
            shard.stats.timeout_connect.add();
            note(Fault::ConnectTimeout);
            DialError::TimedOut
        }
        errno => {
            note(Fault::Connect(errno));
            DialError::Failed
        }
    }
}
