//! Handshakes, requests and responses over TLS.
//!
//! Nothing is borrowed across an await but the session that its connection owns; buffers go into operations by value.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::pin;
use std::task::Poll;

use ringgate::sys::buffer::{Buffer, Class};
use ringgate::sys::socket::Socket;

use super::response::{Reader, Response};
use super::session::{Event, Session, explain};
use super::tally::ErrorKind;
use super::trust::Client;
use super::worker::Worker;
use crate::tls::RECEIVED_MAX;

/// Content that is encrypted and sent at a time.
const PIECE: usize = 64 * 1024;

/// Agrees on keys. The last message of this end stays in the session, to be sent with the first request.
pub(super) async fn handshake(client: &Client, socket: &Socket) -> Result<Session, String> {
    let name = client.name.to_str();
    let failed = |error: &rustls::Error| explain(error, &name);
    let mut session = Session::client(client).map_err(|error| failed(&error))?;
    let mut plain = Buffer::default();
    loop {
        let event = match session.next(&mut plain) {
            Ok(event) => event,
            Err(error) => {
                session.alert();
                // It fails where the server is gone already: the error is the better reason.
                let _ = flush(&mut session, socket).await;
                return Err(failed(&error));
            }
        };
        if !session.is_handshaking() {
            return if plain.is_empty() {
                Ok(session)
            } else {
                Err(format!("TLS with `{name}`: the server spoke before it was asked"))
            };
        }
        let received = match flush(&mut session, socket).await {
            Ok(()) if event != Event::Closed => receive(&mut session, socket).await,
            Ok(()) => Ok(0),
            Err(error) => Err(error),
        };
        match received {
            Ok(0) => return Err(format!("TLS with `{name}`: the server closed within the handshake")),
            Ok(_) => {}
            Err(error) => return Err(format!("TLS with `{name}`: {error}")),
        }
    }
}

/// Sends what the session has to send.
pub(super) async fn flush(session: &mut Session, socket: &Socket) -> io::Result<()> {
    let (sent, mut buffer) = socket.write_all(mem::take(&mut session.sealed), || ()).await;
    buffer.clear();
    session.sealed = buffer;
    sent
}

/// Ends this direction in order, as far as the server still cares.
pub(super) async fn close(session: &mut Session, socket: &Socket) {
    if session.close().is_ok() {
        let _ = flush(session, socket).await;
    }
}

/// Receives further records.
async fn receive(session: &mut Session, socket: &Socket) -> io::Result<usize> {
    if !session.records.make_room(RECEIVED_MAX) {
        return Err(io::Error::other("the handshake does not end"));
    }
    let (received, records) = socket.read(mem::take(&mut session.records)).await;
    session.records = records;
    received
}

/// Waits until a later connection can resume this one, or is known not to. Dropped, it loses what was received.
pub(super) async fn await_ticket(session: &mut Session, socket: &Socket) {
    let mut plain = Buffer::default();
    if flush(session, socket).await.is_err() {
        return;
    }
    while !session.is_resumable()
        && session.next(&mut plain) == Ok(Event::Starved)
        && !session.is_resumable()
        && matches!(receive(session, socket).await, Ok(1..))
    {}
}

/// Sends the request and receives its response; the first receive is submitted together with the send.
pub(super) async fn exchange(
    worker: &Worker,
    socket: &Socket,
    session: &mut Session,
    request: &[u8],
    plain: &mut Buffer,
) -> Result<Response, ErrorKind> {
    let mut reader = Reader::default();
    let mut rest = request;
    let mut written = Ok(());
    let (mut write, mut read) = (pin!(None), pin!(None));
    let outcome = loop {
        if write.is_none() && !rest.is_empty() && written.is_ok() {
            let (piece, behind) = rest.split_at(rest.len().min(PIECE));
            session.seal(piece).map_err(|_| ErrorKind::Tls)?;
            rest = behind;
            write.set(Some(socket.write_all(mem::take(&mut session.sealed), || ())));
        }
        if read.is_none() {
            if !make_room(&mut session.records, reader.left()) {
                break Err(ErrorKind::Tls);
            }
            read.set(Some(socket.read(mem::take(&mut session.records))));
        }
        let received = poll_fn(|context| {
            if let Some(sending) = write.as_mut().as_pin_mut()
                && let Poll::Ready((sent, mut buffer)) = sending.poll(context)
            {
                write.set(None);
                written = sent.map_err(|_| ErrorKind::Write);
                if session.sealed.is_placeholder() {
                    buffer.clear();
                    session.sealed = buffer;
                }
                if written.is_ok() && !rest.is_empty() {
                    return Poll::Ready(None);
                }
            }
            match read.as_mut().as_pin_mut() {
                Some(receiving) => receiving.poll(context).map(Some),
                None => Poll::Ready(None),
            }
        })
        .await;
        let Some((received, records)) = received else { continue };
        read.set(None);
        session.records = records;
        match received {
            // Without the alert that announces it, the end may be an attacker's or a crash's.
            Ok(0) => break Err(ErrorKind::Closed),
            Ok(_) => {}
            Err(_) => break Err(ErrorKind::Read),
        }
        match take(worker, session, &mut reader, plain) {
            Ok(None) => {}
            Ok(Some(response)) => break Ok(response),
            Err(kind) => break Err(kind),
        }
    };
    plain.clear();
    match written {
        Ok(()) if write.is_none() && rest.is_empty() => outcome,
        // It did not want the whole request: what it said is its answer, but this connection is done.
        Ok(()) => outcome.map(Response::last),
        Err(kind) => outcome.map(Response::last).map_err(|_| kind),
    }
}

/// Takes all records that are there; a response that is complete is returned.
#[inline]
fn take(
    worker: &Worker,
    session: &mut Session,
    reader: &mut Reader,
    plain: &mut Buffer,
) -> Result<Option<Response>, ErrorKind> {
    let head_only = worker.shared.plan.expected.head_only;
    let mut complete: Option<Response> = None;
    loop {
        match session.next(plain).map_err(|_| ErrorKind::Tls)? {
            // Records behind the response.
            Event::Plain if complete.is_some() => return Err(ErrorKind::Malformed),
            Event::Plain => {
                complete =
                    reader.feed(plain, &worker.last_head, head_only).map_err(|_| ErrorKind::Malformed)?;
                if complete.is_some() && !plain.is_empty() || plain.len() > RECEIVED_MAX {
                    return Err(ErrorKind::Malformed);
                }
                plain.compact();
            }
            Event::Starved => return Ok(complete),
            Event::Closed => {
                return complete
                    .map(Response::last)
                    .or_else(|| reader.end())
                    .map(Some)
                    .ok_or(ErrorKind::Closed);
            }
        }
    }
}

/// Room for the next receive, in pieces as large as the response makes worthwhile.
fn make_room(records: &mut Buffer, left: u64) -> bool {
    if records.is_empty() && left > records.total() as u64 && records.total() < Class::Large.bytes() {
        *records = Buffer::new(Class::Large);
    }
    records.make_room(RECEIVED_MAX)
}
