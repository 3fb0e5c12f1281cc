//! Accept balance: a shard with more sessions than others hands a connection it just accepted over to the one with the
//! fewest, before any operation refers to it.
//!
//! The kernel chooses first (by hash, or by CPU); [`crate::shard::load`] says when another shard is the better
//! place. What can not be handed over is served where it is.

use std::net::SocketAddr;
use std::rc::Rc;

use monoio::net::TcpStream;

use super::accept::Listener;
use super::session::{self, Session};
use crate::shard::Shard;
use crate::shard::load::HandedOver;
use crate::shard::process::ConnectionPlace;
use crate::sys::socket::{self, Socket};

/// Serves a connection, here or on a shard with fewer.
pub(super) fn serve(
    shard: &Rc<Shard>,
    listener: &Rc<Listener>,
    stream: TcpStream,
    peer: SocketAddr,
    place: ConnectionPlace,
) {
    let mut connection = Some((stream, place));
    if shard.process.balances_accepts()
        && !listener.is_closing()
        && let Some(installed) = shard.installed()
        && let Some(promise) = shard.peers.promise(&shard.random)
    {
        let generation = installed.table().generation;
        let left = shard.peers.leave(generation, promise, |promise| {
            let (stream, place) =
                connection.take().unwrap_or_else(|| unreachable!("it is left once, at most"));
            HandedOver { stream: socket::release(stream), peer, listener: listener.id(), place, promise }
        });
        if left {
            shard.stats.sessions_handed_over.add();
        }
    }
    if let Some((stream, place)) = connection {
        monoio::spawn(session::serve(Session::new(shard, listener, Socket::new(stream), peer, place)));
    }
}

/// Serves connections that other shards accepted.
pub fn take_over(shard: &Rc<Shard>, connections: Vec<HandedOver>) {
    for HandedOver { stream, peer, listener, place, promise } in connections {
        let listener = shard.listeners.by_id(listener);
        debug_assert!(listener.is_some(), "both shards have the same generation");
        let adopted = socket::adopt(stream, shard.epoll);
        let (Some(listener), Ok(stream)) = (listener, adopted) else {
            // As when an accept fails: neither memory nor a watch of epoll is left.
            shard.stats.accept_pauses.add();
            continue;
        };
        shard.stats.sessions_taken_over.add();
        monoio::spawn(session::serve(Session::new(shard, &listener, Socket::new(stream), peer, place)));
        drop(promise);
    }
}
