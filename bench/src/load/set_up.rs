//! Opens a thread's connections before the run.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ringgate::sys::socket::Socket;

use super::plan::Plan;
use super::session::Session;
use super::tickets::Tickets;
use super::trust::Client;
use super::{connection, secure};
use crate::report::TlsReport;

/// Connections that are opened at a time, fewer than any listener's backlog.
const DIALS_MAX: usize = 64;

/// How long a server may take for its tickets: they come right behind the handshake, or with a response.
const TICKET_WAIT: Duration = Duration::from_secs(1);

/// A thread's connections.
#[derive(Default)]
pub(super) struct Opened {
    pub(super) connections: Vec<(Socket, Option<Box<Session>>)>,
    /// What was agreed on, with TLS.
    pub(super) tls: Option<TlsReport>,
    error: Option<String>,
}

impl Opened {
    fn agreed(&mut self, session: &Session) {
        let tls = self.tls.get_or_insert_default();
        [tls.version, tls.cipher_suite, tls.key_exchange] = session.agreed();
        if let Some(kind) = session.kind() {
            tls.set_up.count(kind);
        }
    }
}

/// Opens a thread's connections, or one to see that it can be done where each request has its own.
pub(super) async fn open(plan: &Plan, client: Option<&Client>, count: usize) -> Result<Opened, String> {
    let wanted = if plan.close { 1 } else { count };
    let opened = Rc::new(RefCell::new(Opened::default()));
    if let Some(client) = client
        && let Some(tickets) = &client.tickets
    {
        tickets.collect(true);
        // One more for the connection that only sees whether it can be done. The error comes again below.
        let _ = collect(plan, client, tickets, count + usize::from(plan.close)).await;
        tickets.collect(false);
    }
    let left = Rc::new(Cell::new(wanted));
    let (address, timeout) = (plan.address, plan.timeout);
    let dials: Vec<_> = (0..wanted.min(DIALS_MAX))
        .map(|_| {
            let (opened, left, client) = (Rc::clone(&opened), Rc::clone(&left), client.cloned());
            monoio::spawn(async move {
                while let Some(rest) = left.get().checked_sub(1) {
                    left.set(rest);
                    let connected = connect(address, timeout, client.as_ref()).await;
                    let mut opened = opened.borrow_mut();
                    match connected {
                        Ok((socket, session)) => {
                            if let Some(session) = &session {
                                opened.agreed(session);
                            }
                            opened.connections.push((socket, session));
                        }
                        Err(error) => {
                            left.set(0);
                            opened.error = Some(error);
                        }
                    }
                }
            })
        })
        .collect();
    for dial in dials {
        dial.await;
    }
    let mut opened = opened.take();
    match opened.error {
        Some(error) => Err(format!(
            "set-up: {} of {wanted} connections to {address} were opened, then: {error}",
            opened.connections.len()
        )),
        None => {
            if plan.close {
                opened.connections.clear();
            }
            Ok(opened)
        }
    }
}

/// Collects a ticket for each of the connections, which then all start with one.
async fn collect(plan: &Plan, client: &Client, tickets: &Tickets, count: usize) -> Result<(), String> {
    loop {
        let before = tickets.count();
        let (socket, session) = connect(plan.address, plan.timeout, Some(client)).await?;
        if let Some(mut session) = session {
            monoio::select! {
                () = secure::await_ticket(&mut session, &socket) => {}
                () = monoio::time::sleep(TICKET_WAIT) => {}
            }
        }
        // A server that sends none is asked once.
        if tickets.count() >= count || tickets.count() == before {
            return Ok(());
        }
    }
}

/// Opens a connection, with all of its handshake, each within `timeout` nanoseconds.
async fn connect(
    address: SocketAddr,
    timeout: u64,
    client: Option<&Client>,
) -> Result<(Socket, Option<Box<Session>>), String> {
    let socket = connection::dial(address, timeout).await.map_err(|error| error.to_string())?;
    let Some(client) = client else { return Ok((socket, None)) };
    let handshake = async {
        let mut session = secure::handshake(client, &socket).await?;
        secure::flush(&mut session, &socket).await.map_err(|error| format!("TLS: {error}"))?;
        Ok(Box::new(session))
    };
    // Dropped, it may lose bytes, and the connection goes with them.
    let session = monoio::select! {
        session = handshake => session,
        () = monoio::time::sleep(Duration::from_nanos(timeout)) => Err("TLS: the handshake took longer than --timeout".to_owned()),
    }?;
    Ok((socket, Some(session)))
}
