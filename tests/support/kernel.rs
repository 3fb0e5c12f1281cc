//! What the kernel knows about a connection's other end, from `/proc/net/tcp`.
//!
//! A write or a close returns before the other end has it, even on loopback. Where a test needs to know that bytes or
//! a FIN have arrived, before anybody reads them, it asks here.

use std::fs;
use std::net::{SocketAddr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

use super::DEADLINE;

/// `TCP_ESTABLISHED` of the kernel's states.
const ESTABLISHED: u8 = 1;

/// A socket as the kernel lists it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Listed {
    state: u8,
    unread: u64,
}

/// The socket with these addresses; `None` once it is gone.
fn listed(local: SocketAddrV4, remote: SocketAddrV4) -> Option<Listed> {
    let shown = |address: SocketAddrV4| {
        format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
    };
    let wanted = [shown(local), shown(remote)];
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    // sl local_address rem_address st tx_queue:rx_queue ..
    let row = table.lines().find(|row| row.split_whitespace().skip(1).take(2).eq(wanted.iter()))?;
    let mut words = row.split_whitespace().skip(3);
    let state = u8::from_str_radix(words.next()?, 16).unwrap();
    let unread = u64::from_str_radix(words.next()?.split_once(':')?.1, 16).unwrap();
    Some(Listed { state, unread })
}

/// Waits until the end `far` of its connection to `near` has bytes that nobody has read, or has seen the end.
pub(super) fn wait_arrival(near: SocketAddr, far: SocketAddr) {
    wait(near, far, |socket| socket.is_none_or(|socket| socket.state != ESTABLISHED || socket.unread > 0));
}

/// Waits until the end `far` of its connection to `near` has seen the end of what `near` sends.
pub(super) fn wait_end(near: SocketAddr, far: SocketAddr) {
    wait(near, far, |socket| socket.is_none_or(|socket| socket.state != ESTABLISHED));
}

fn wait(near: SocketAddr, far: SocketAddr, wanted: impl Fn(Option<Listed>) -> bool) {
    let (SocketAddr::V4(near), SocketAddr::V4(far)) = (near, far) else { panic!("the tests use IPv4") };
    let deadline = Instant::now() + DEADLINE;
    loop {
        let socket = listed(far, near);
        if wanted(socket) {
            return;
        }
        assert!(Instant::now() < deadline, "{far} never saw what {near} sent: {socket:?}");
        // Nothing announces a change of the table.
        thread::sleep(Duration::from_millis(1));
    }
}
