//! A TLS handshake as the server (RFC 8446 section 2, RFC 5246 section 7.3), over the bytes that `detect` has read.
//!
//! Its time is bounded by the gateway's `handshake` timer, its bytes by rustls. A client that fails it hears an alert.

use std::fmt::Display;
use std::time::Duration;

use rustls::pki_types::UnixTime;

use super::linger::linger;
use super::response_sink::send;
use super::session::Session;
use crate::config::model::{Timeouts, TlsTerms};
use crate::gateway::REFUSED;
use crate::gateway::plan::MadeFor;
use crate::gateway::stream::ByteStream;
use crate::shard::deadlines::OnDue;
use crate::sys::buffer::{Buffer, Class};
use crate::tls::identity::ClientIdentity;
use crate::tls::machine::{Machine, TlsError};

/// The handshake did not come to its end; the connection is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NoTls;

/// Makes a handshake of which `hello` is the beginning. Afterwards the session's bytes go through TLS.
pub(super) async fn handshake(
    session: &Session,
    hello: Buffer,
    terms: &TlsTerms,
    mut made_for: MadeFor,
    timeouts: &Timeouts,
) -> Result<(), NoTls> {
    let stats = &session.shard.stats;
    let mut machine = match Machine::new(terms.config.clone()) {
        Ok(machine) => machine,
        Err(error) => return Err(refused(session, &made_for, &error)),
    };
    session.timer.arm(timeouts.handshake, OnDue::ShutRead);
    let mut received = hello;
    loop {
        let fed = machine.feed(received, &mut Buffer::default());
        flush(session, &mut machine, timeouts.write_gap).await?;
        if let Err(error) = fed {
            let refused = refused(session, &made_for, &error);
            linger(&session.shard, &session.wire, &session.timer, timeouts.linger).await;
            return Err(refused);
        }
        if !machine.is_handshaking() {
            break;
        }
        // A client may take its time: it is waited for without a buffer.
        let ready = session.wire.readable().await;
        let (result, buffer) = session.wire.read(Buffer::new(Class::Medium)).await;
        if ready.is_err() || !matches!(result, Ok(1..)) {
            let fired = session.timer.fired();
            if fired { &stats.timeout_handshake } else { &stats.tls_refused }.add();
            let reason = if fired { "timed out" } else { "the client went away" };
            tell(session, &made_for, &reason);
            return Err(NoTls);
        }
        received = buffer;
    }
    session.timer.disarm();
    if machine.is_resumed() {
        if let Err(error) = still_good(&machine, terms) {
            return Err(refused(session, &made_for, &TlsError(error)));
        }
        stats.tls_resumed.add();
    }
    stats.tls_handshakes.add();
    made_for.client = ClientIdentity::of(machine.peer_certificates(), &terms.details).map(Box::new);
    if let Some(client) = &made_for.client {
        tracing::debug!(peer = %session.peer, subject = %client.subject, uris = ?client.uris, "client certificate");
    }
    session.wire.start_tls(&session.shard, machine, made_for);
    Ok(())
}

/// rustls takes a resumed session's client certificate as it was verified then; it may have ended since, or the list of
/// revoked ones has.
pub(super) fn still_good(machine: &Machine, terms: &TlsTerms) -> Result<(), rustls::Error> {
    match machine.peer_certificates() {
        [] => Ok(()),
        [leaf, chain @ ..] => terms.clients.verify_client_cert(leaf, chain, UnixTime::now()).map(|_| ()),
    }
}

async fn flush(session: &Session, machine: &mut Machine, gap: Duration) -> Result<(), NoTls> {
    let mut output = Buffer::new(Class::Small);
    if !machine.take_output(&mut output) {
        return Ok(());
    }
    let timer = session.shard.deadlines.timer(session.wire.fd());
    send(&session.wire, &timer, &session.shard.stats, &mut output, gap).await.map_err(|_| NoTls)
}

fn refused(session: &Session, made_for: &MadeFor, TlsError(error): &TlsError) -> NoTls {
    session.shard.stats.tls_refused.add();
    tell(session, made_for, error);
    NoTls
}

fn tell(session: &Session, made_for: &MadeFor, reason: &dyn Display) {
    let MadeFor { gateway, name, .. } = made_for;
    tracing::debug!(target: REFUSED, peer = %session.client(), %gateway, sni = name.as_deref(), %reason, "no TLS handshake");
}
