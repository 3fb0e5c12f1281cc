//! The first bytes of a connection to a TLS port: the name in its ClientHello decides whether it passes through, ends
//! here, or is refused.
//!
//! What was read is passed on as it is, to the endpoint or to rustls. A client that says nothing costs no buffer; one that
//! does not come to the end of its hello within the gateway's `handshake` time is closed without a word. One whose
//! name leads nowhere, or whose hello is malformed, hears a fatal alert; one that does not speak TLS hears nothing.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::client_hello::{self, NotTls, Outcome};
use super::handshake::handshake;
use super::linger::linger;
use super::session::Session;
use crate::config::model::{Protocol, Timeouts};
use crate::gateway::REFUSED;
use crate::gateway::passthrough::{self, RelayFacts};
use crate::gateway::plan::MadeFor;
use crate::gateway::stream::ByteStream;
use crate::http1::reply::{ReplyFacts, write_reply};
use crate::message::Version;
use crate::shard::deadlines::OnDue;
use crate::shard::installed::Installed;
use crate::shard::{FRESH_DRAIN, Shard};
use crate::sys::buffer::{Buffer, Class};
use crate::table::{Entry, L4Rules, Sni};

/// RFC 8446 section 6: descriptions of alerts.
const DECODE_ERROR: u8 = 50;
const INTERNAL_ERROR: u8 = 80;
const UNRECOGNIZED_NAME: u8 = 112;

/// What a connection turned out to be.
pub(super) enum Found {
    /// It is over.
    Closed,
    /// Requests follow.
    Http,
    /// Bytes for an endpoint of this cluster.
    Relay {
        /// The table that the cluster is of.
        installed: Rc<Installed>,
        /// Index.
        cluster: usize,
        /// What was read.
        early: Buffer,
        /// What else is known.
        facts: RelayFacts,
    },
}

/// Finds out what to do with a connection to a listener of this kind, up to the end of a handshake. `early` is what came
/// of it already.
pub(super) async fn open(session: &Session, entry: Entry, early: Buffer) -> Found {
    let Some((installed, id)) = session.listener.resolve(&session.shard) else { return Found::Closed };
    match entry {
        Entry::Http => Found::Http,
        Entry::Tcp => {
            let rules = installed.table().tcp(id);
            let gateway = Arc::clone(&installed.table().listener_gateway(id).name);
            routed(session, installed, rules, early, RelayFacts { gateway, sni: None })
        }
        Entry::Tls => {
            let timeouts = installed.table().listener_gateway(id).timeouts.clone();
            drop(installed);
            match Box::pin(read_hello(session, &timeouts, early)).await {
                Some(hello) => Box::pin(follow(session, hello)).await,
                None => Found::Closed,
            }
        }
    }
}

/// A whole ClientHello.
struct Hello {
    name: Option<Box<str>>,
    bytes: Buffer,
}

/// Reads up to the end of the ClientHello.
async fn read_hello(session: &Session, timeouts: &Timeouts, early: Buffer) -> Option<Hello> {
    let Session { shard, wire, timer, .. } = session;
    let began_ms = shard.deadlines.now_ms();
    if early.is_empty() {
        let draining = shard.is_draining();
        let wait = if draining { timeouts.handshake.min(FRESH_DRAIN) } else { timeouts.handshake };
        timer.arm(wait, OnDue::CloseFresh);
        wire.readable().await.ok()?;
        if timer.fired() {
            if !shard.is_draining() {
                shard.stats.timeout_handshake.add();
            }
            return None;
        }
    }
    if shard.process.buffers_exhausted() {
        wire.socket().send_now(&alert(INTERNAL_ERROR));
        return None;
    }
    let waited = Duration::from_millis(shard.deadlines.now_ms() - began_ms);
    timer.arm(timeouts.handshake.saturating_sub(waited), OnDue::ShutRead);
    let mut bytes = if early.is_empty() { Buffer::new(Class::Medium) } else { early };
    let mut need = 1;
    loop {
        if bytes.len() < need {
            bytes.make_room(Class::Medium.bytes());
            let (result, returned) = wire.read(bytes).await;
            bytes = returned;
            if !matches!(result, Ok(1..)) {
                if timer.fired() {
                    shard.stats.timeout_handshake.add();
                }
                return None;
            }
            continue;
        }
        let last_words = match client_hello::walk(bytes.filled(), &mut shard.hello_scratch.borrow_mut()) {
            Outcome::Complete(hello) => {
                timer.disarm();
                let name = hello.server_name.map(Box::from);
                return Some(Hello { name, bytes });
            }
            Outcome::Incomplete { need: more } => {
                need = more;
                continue;
            }
            Outcome::NotTls(what) => {
                shard.stats.tls_not_tls.add();
                tracing::debug!(target: REFUSED, peer = %session.client(), reason = what.reason(), "not TLS");
                if what != NotTls::PlainHttp || !answers_plain_http(session) {
                    return None;
                }
                plain_http_answer(shard)
            }
            Outcome::Malformed(why) => {
                shard.stats.tls_malformed_hellos.add();
                tracing::debug!(target: REFUSED, peer = %session.client(), reason = why.reason(), "malformed ClientHello");
                alert(DECODE_ERROR).to_vec()
            }
        };
        refuse(session, &last_words, timeouts.linger).await;
        return None;
    }
}

fn answers_plain_http(session: &Session) -> bool {
    let resolved = session.listener.resolve(&session.shard);
    resolved.is_some_and(|(installed, id)| installed.table().answers_plain_http(id))
}

/// To a request in clear text, of which no more is known.
fn plain_http_answer(shard: &Shard) -> Vec<u8> {
    let facts = ReplyFacts {
        status: 400,
        reason_code: "plain_http_on_https_port",
        location: None,
        hsts: None,
        close: true,
        version: Version::Http11,
        head_request: false,
    };
    let mut answer = Vec::new();
    write_reply(&mut answer, shard.date.borrow().text(), &facts);
    answer
}

/// Room for the longest hello there is, and all that is read before there is a verdict.
const _: () = assert!(client_hello::WIRE_BYTES_MAX < Class::Medium.bytes());

/// Does what the hello asks for. The bounds on time are those of the gateway that the name belongs to from here on.
async fn follow(session: &Session, hello: Hello) -> Found {
    let Some((installed, id)) = session.listener.resolve(&session.shard) else { return Found::Closed };
    let Hello { name, bytes } = hello;
    let (rules, facts) = match installed.table().sni(id, name.as_deref()) {
        Sni::Passthrough { gateway, rules } => {
            let linger = gateway.timeouts.linger;
            if !session.enter(gateway) {
                drop(installed);
                return crowded_out(session, linger).await;
            }
            let facts = RelayFacts { gateway: Arc::clone(&gateway.name), sni: name };
            match passthrough::route(&session.shard, &installed, rules, session.relay_client()) {
                Some(cluster) => return Found::Relay { installed, cluster, early: bytes, facts },
                None => return unknown_name(session, facts.sni.as_deref(), linger).await,
            }
        }
        Sni::Terminate { gateway, server, terms, rules } => {
            if !session.enter(gateway) {
                let linger = gateway.timeouts.linger;
                return crowded_out(session, linger).await;
            }
            let made_for = MadeFor {
                gateway: Arc::clone(&gateway.name),
                policy: Cell::new(terms.policy),
                settings: terms.settings,
                name: name.clone(),
                client: None,
            };
            if handshake(session, bytes, terms, made_for, &gateway.timeouts).await.is_err() {
                return Found::Closed;
            }
            if server.protocol == Protocol::Https {
                return Found::Http;
            }
            (rules, RelayFacts { gateway: Arc::clone(&gateway.name), sni: name })
        }
        Sni::Unknown => {
            let linger = installed.table().listener_gateway(id).timeouts.linger;
            drop(installed);
            return unknown_name(session, name.as_deref(), linger).await;
        }
    };
    routed(session, installed, rules, Buffer::default(), facts)
}

/// Chooses where the bytes go.
fn routed(
    session: &Session,
    installed: Rc<Installed>,
    rules: L4Rules,
    early: Buffer,
    facts: RelayFacts,
) -> Found {
    match passthrough::route(&session.shard, &installed, rules, session.relay_client()) {
        Some(cluster) => Found::Relay { installed, cluster, early, facts },
        None => Found::Closed,
    }
}

async fn unknown_name(session: &Session, sni: Option<&str>, linger: Duration) -> Found {
    session.shard.stats.tls_unknown_names.add();
    tracing::debug!(target: REFUSED, peer = %session.client(), sni, "the name in the ClientHello leads nowhere");
    refuse(session, &alert(UNRECOGNIZED_NAME), linger).await;
    Found::Closed
}

/// The gateway has as many connections as it may have.
async fn crowded_out(session: &Session, linger: Duration) -> Found {
    refuse(session, &alert(INTERNAL_ERROR), linger).await;
    Found::Closed
}

/// Says why, and closes so that the client hears it.
async fn refuse(session: &Session, last_words: &[u8], time: Duration) {
    session.wire.socket().send_now(last_words);
    linger(&session.shard, &session.wire, &session.timer, time).await;
}

/// A fatal alert in clear text: its record and level (RFC 8446 section 5.1).
const fn alert(description: u8) -> [u8; 7] {
    [0x15, 3, 3, 0, 2, 2, description]
}
