//! Listening sockets: bound by the supervisor, all of a group before any listens, then owned by the shards.
//!
//! A listening member of a reuseport group gets its share of connections at once, a merely bound one none. So a
//! shard calls `listen` when its table is in place, and never before every shard's socket is bound.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use socket2::{Domain, Protocol, Socket, Type};

use crate::sys::{errno, steering};
use crate::table::ListenerKey;

/// Connections that may wait to be accepted, per shard; the kernel caps it at net.core.somaxconn.
pub const BACKLOG: i32 = 4096;

/// A socket that is bound and does not listen yet.
#[derive(Debug)]
pub struct BoundListener {
    /// Which listener of the table it is for.
    pub key: ListenerKey,
    /// The socket.
    pub socket: Socket,
    /// How the kernel is to choose among the sockets of the group.
    pub steering: Arc<Steering>,
}

impl BoundListener {
    /// Listens, as shard `shard`.
    ///
    /// # Errors
    /// The system's. Connections that can not be steered go by hash, which the log says.
    pub fn listen(&self, shard: usize) -> io::Result<()> {
        let steered = match &*self.steering {
            Steering::None => return self.socket.listen(BACKLOG),
            Steering::Cpu { cores, order } => {
                // Members count in the order of their `listen`: the lock makes that the order noted here.
                let mut order = order.lock().unwrap_or_else(PoisonError::into_inner);
                self.socket.listen(BACKLOG)?;
                order.extend(cores.get(shard));
                if order.len() == cores.len() { steering::steer_by_cpu(&self.socket, &order) } else { Ok(()) }
            }
            Steering::Lost => {
                self.socket.listen(BACKLOG)?;
                steering::steer_by_hash(&self.socket)
            }
        };
        if let Err(error) = steered {
            tracing::warn!(port = self.key.port, %error, "connections go by hash, not by CPU");
        }
        Ok(())
    }
}

/// How the kernel chooses the shard of a new connection; shared by the sockets of one group.
#[derive(Debug)]
pub enum Steering {
    /// By its hash.
    None,
    /// By the CPU that received it.
    Cpu {
        /// The core of each shard.
        cores: Arc<[u32]>,
        /// The cores of those that listen already.
        order: Mutex<Vec<u32>>,
    },
    /// By hash, although wanted by CPU: members of a group before are still in the kernel's and leave it in an order
    /// that nobody tells.
    Lost,
}

/// The reuseport group of one listener: a socket for each shard, and the address the kernel gave.
#[derive(Debug)]
pub struct BoundGroup {
    /// Address, with the port that the kernel chose where the configuration said 0.
    pub address: SocketAddr,
    /// One socket per shard.
    pub sockets: Vec<Socket>,
}

/// Binds the sockets of one listener, which belongs to `whose`. `ours` says that this process itself listens on the port, with another address
/// or until a moment ago.
///
/// # Errors
/// One sentence with the address and what to do.
pub fn bind_group(
    key: &ListenerKey,
    freebind: bool,
    shards: usize,
    ours: bool,
    whose: &dyn Display,
) -> Result<BoundGroup, String> {
    let address = SocketAddr::new(key.bind.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), key.port);
    match bind_all(address, key.bind.is_none(), freebind, shards, ours) {
        // A host without IPv6 still serves "every address": that is IPv4 there.
        Err(error) if key.bind.is_none() && error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), key.port);
            bind_all(address, false, freebind, shards, ours).map_err(|error| explain(address, whose, &error))
        }
        other => other.map_err(|error| explain(address, whose, &error)),
    }
}

fn bind_all(
    mut address: SocketAddr,
    dual: bool,
    freebind: bool,
    shards: usize,
    ours: bool,
) -> io::Result<BoundGroup> {
    if address.port() != 0 && !ours {
        // Another process of the same user could silently share a reuseport group: a socket outside of any group
        // fails where somebody listens already.
        drop(bind_one(address, dual, freebind, Group::None)?);
    }
    let mut sockets = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = bind_one(address, dual, freebind, Group::Reuseport)?;
        if let Some(bound) = socket.local_addr()?.as_socket() {
            // With port 0 the first socket gets the port, the rest of the group joins it.
            address.set_port(bound.port());
        }
        sockets.push(socket);
    }
    Ok(BoundGroup { address, sockets })
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Group {
    None,
    Reuseport,
}

fn bind_one(address: SocketAddr, dual: bool, freebind: bool, group: Group) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(group == Group::Reuseport)?;
    // Accepted sockets inherit it, which saves a call per connection.
    socket.set_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual)?;
    }
    if freebind {
        if address.is_ipv6() {
            socket.set_freebind_ipv6(true)?;
        } else {
            socket.set_freebind(true)?;
        }
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn explain(address: SocketAddr, whose: &dyn Display, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there; stop it or choose another port",
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this host has the address; correct `bind`, or set freebind = true for a floating address"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE; `setcap cap_net_bind_service=+ep` the binary, or \
             AmbientCapabilities in the systemd unit"
        }
        _ => "check the `bind` address and the port",
    };
    format!("can not bind {address} ({whose}): {}: {hint}", errno::text(error).to_lowercase())
}
