//! One attempt of an exchange on one upstream connection: the request goes out and the response comes in at the same
//! time, each as fast as the other side takes it.
//!
//! The request's send and the response's first receive are submitted together. A response may begin, and end, while
//! the request body is still coming; then neither connection is used again.

use std::pin::pin;
use std::rc::Rc;

use super::bulk::{self, BULK_BYTES_MIN, BulkError, End};
use super::incoming::{Incoming, IncomingError, Progress};
use super::plan::LocalReply;
use super::race::beside;
use super::stream::{BodyError, ByteStream, RequestBody, ResponseSink};
use crate::message::{BodyLength, Method, ResponseHead};
use crate::shard::Shard;
use crate::shard::deadlines::{OnDue, Timer};
use crate::sys::buffer::{Buffer, Class};
use crate::table::ClusterTable;
use crate::upstream::pool::Connection;
use crate::upstream::trouble::Fault;

/// Bytes of a request, head and body, kept so that it could be sent again.
const REPLAY_BYTES_MAX: usize = 64 * 1024;

/// How an attempt ended well.
pub enum Finished {
    /// The response is whole and queued.
    Complete {
        /// Whether the connection can carry another request.
        reusable: bool,
    },
    /// The endpoint switched protocols.
    Upgraded {
        /// What came behind the head.
        received: Buffer,
    },
}

/// How an attempt failed.
pub enum AttemptError {
    /// Nothing came back and the request may be sent again.
    Again,
    /// The request body failed before the response began.
    Body(BodyError),
    /// The client is gone.
    ClientGone,
    /// The response broke off after its head was passed on; by the endpoint's fault, where there is one.
    Cut(Option<Fault>),
    /// The endpoint failed before the response began.
    Upstream(LocalReply, Fault),
}

/// The endpoint's response is none.
pub(super) const fn malformed(reason: &'static str) -> AttemptError {
    AttemptError::Upstream(LocalReply { status: 502, reason }, Fault::Answer(reason))
}

/// Before its response was begun, the endpoint closed or let its time pass.
pub(super) const fn unanswered(fault: Fault) -> AttemptError {
    let (status, reason) = match fault {
        Fault::BodyGap | Fault::FirstByte => (504, "upstream_timeout"),
        Fault::Tls(_) => (502, "upstream_tls_failed"),
        _ => (502, "upstream_closed_early"),
    };
    AttemptError::Upstream(LocalReply { status, reason }, fault)
}

/// A request that is sent, perhaps more than once.
pub struct Attempt<'c> {
    shard: &'c Rc<Shard>,
    settings: &'c ClusterTable,
    /// The request in upstream form; while `kept`, from its very first byte.
    outgoing: Buffer,
    framing: BodyLength,
    method: Method,
    upgrade: bool,
    body_whole: bool,
    kept: bool,
    attempts: u32,
}

impl<'c> Attempt<'c> {
    /// Takes the upstream head and as much of the body as has arrived.
    ///
    /// # Errors
    /// When that much of the body shows that it is malformed.
    pub fn new<B: RequestBody>(
        shard: &'c Rc<Shard>,
        settings: &'c ClusterTable,
        mut outgoing: Buffer,
        framing: BodyLength,
        method: Method,
        upgrade: bool,
        body: &mut B,
    ) -> Result<Self, BodyError> {
        let body_whole = body.drain_into(&mut outgoing, framing)?;
        Ok(Self { shard, settings, outgoing, framing, method, upgrade, body_whole, kept: true, attempts: 0 })
    }

    /// Whether all of the request body was taken from the client.
    #[must_use]
    pub const fn has_whole_body(&self) -> bool {
        self.body_whole
    }

    /// Whether the next attempt must not use a pooled connection: one just failed.
    #[must_use]
    pub const fn wants_fresh(&self) -> bool {
        self.attempts > 0
    }

    /// Sends the request over `connection` and moves the response into `sink`.
    ///
    /// # Errors
    /// See [`AttemptError`].
    pub async fn run<B: RequestBody, S: ResponseSink>(
        &mut self,
        connection: &Connection,
        body: &mut B,
        sink: &mut S,
        response: &mut ResponseHead,
    ) -> Result<Finished, AttemptError> {
        self.attempts += 1;
        self.outgoing.rewind();
        if self.body_whole {
            connection.timer.arm(self.settings.first_byte_timeout, OnDue::ShutBoth);
        }
        let progress = Progress::default();
        let incoming = Incoming {
            shard: self.shard,
            settings: self.settings,
            connection,
            progress: &progress,
            method: self.method,
            upgrade: self.upgrade,
            buffer: Buffer::new(Class::Medium),
        };
        if let Some(client) = sink.client() {
            connection.timer.watch(client);
        }
        let outcome = {
            let sent = pin!(self.send(connection, body, &progress));
            let received = pin!(incoming.run(sink, response));
            beside(sent, received).await
        };
        if connection.timer.unwatch() {
            self.shard.stats.clients_gone.add();
            return Err(AttemptError::ClientGone);
        }
        match outcome {
            Ok((Ok(finished), _)) => Ok(finished),
            Ok((Err(IncomingError::Silence(fault)), send_ended)) => {
                Err(self.after_silence(connection, fault, send_ended))
            }
            Ok((Err(IncomingError::Failed(error)), _)) => Err(error),
            Err(BodyError::Gone) => Err(AttemptError::ClientGone),
            Err(_) if progress.response_begun.get() => Err(AttemptError::Cut(None)),
            Err(error) => Err(AttemptError::Body(error)),
        }
    }

    /// The endpoint closed, or let its time pass, without a byte of a response. What was sent is still at hand only
    /// when sending had come to an end by itself.
    fn after_silence(&self, connection: &Connection, fault: Fault, send_ended: bool) -> AttemptError {
        let unsent = !self.outgoing.is_touched();
        if fault == Fault::Closed
            && connection.reused
            && send_ended
            && self.kept
            && (unsent || self.method.is_idempotent())
        {
            return AttemptError::Again;
        }
        unanswered(fault)
    }

    /// Sends the request: what is at hand, then what still arrives. A failing upstream ends it quietly: what the
    /// endpoint has to say about that is in its response.
    async fn send<B: RequestBody>(
        &mut self,
        connection: &Connection,
        body: &mut B,
        progress: &Progress,
    ) -> Result<(), BodyError> {
        let gap = self.settings.body_gap_timeout;
        let streaming = !self.body_whole;
        let timer = streaming.then(|| self.shard.deadlines.timer(connection.wire.fd()));
        loop {
            let rearm = || {
                if let Some(timer) = &timer {
                    timer.arm(gap, OnDue::ShutBoth);
                }
            };
            let cost = self.outgoing.len();
            let outgoing = std::mem::take(&mut self.outgoing);
            let (result, outgoing) = connection.write_all(outgoing, rearm).await;
            self.outgoing = outgoing;
            if result.is_err() {
                if timer.as_ref().is_some_and(Timer::fired) {
                    self.shard.stats.timeout_upstream_body_gap.add();
                    progress.request_stalled.set(true);
                }
                return Ok(());
            }
            if let Some(timer) = &timer {
                timer.disarm();
            }
            if self.body_whole {
                break;
            }
            self.kept &= self.outgoing.total() <= REPLAY_BYTES_MAX && self.method.is_idempotent();
            if !self.kept {
                self.outgoing.clear();
            }
            self.shard.give_way(cost).await;
            if let Some(timer) = &timer
                && self.splice(connection, timer, progress, body).await?
            {
                break;
            }
            body.fill().await?;
            self.body_whole = body.drain_into(&mut self.outgoing, self.framing)?;
        }
        progress.request_sent.set(true);
        if streaming && !progress.response_begun.get() {
            connection.timer.arm(self.settings.first_byte_timeout, OnDue::ShutBoth);
        }
        Ok(())
    }

    /// Has the kernel move the rest of a large body. Returns whether that was the end of sending: the body is whole,
    /// or the endpoint takes no more of it.
    async fn splice<B: RequestBody>(
        &mut self,
        connection: &Connection,
        timer: &Timer,
        progress: &Progress,
        body: &mut B,
    ) -> Result<bool, BodyError> {
        let Some((from, left)) = body.plain().filter(|(_, left)| *left >= BULK_BYTES_MIN) else {
            return Ok(false);
        };
        let Some(socket) = connection.wire.plain() else { return Ok(false) };
        self.kept = false;
        self.outgoing.clear();
        let gap = self.settings.body_gap_timeout;
        let to = End { socket, timer, gap, on_due: OnDue::ShutBoth };
        match bulk::relay(self.shard, from, to, left).await {
            Ok(()) => {
                body.taken();
                self.body_whole = true;
                Ok(true)
            }
            Err(BulkError::NoPipe) => Ok(false),
            Err(BulkError::Destination) => {
                if timer.fired() {
                    self.shard.stats.timeout_upstream_body_gap.add();
                    progress.request_stalled.set(true);
                }
                Ok(true)
            }
            Err(BulkError::Source) => Err(body.fault()),
        }
    }
}
