//! The response side of an attempt: informational heads, the final head, the content; read from the endpoint and moved
//! into the client's sink with at most one buffer of each in memory.

use std::cell::Cell;
use std::net::Shutdown;

use super::attempt::{AttemptError, Finished, malformed, unanswered};
use super::bulk::{self, BULK_BYTES_MIN, BulkError, End};
use super::stream::{ByteStream, ResponseSink};
use crate::http1::chunked::ChunkLimits;
use crate::http1::response::parse_response;
use crate::http1::scan::{self, HeadLimits, Scan};
use crate::message::{Method, ResponseHead};
use crate::shard::Shard;
use crate::shard::deadlines::OnDue;
use crate::sys::buffer::{Buffer, Class};
use crate::table::ClusterTable;
use crate::upstream::pool::Connection;
use crate::upstream::response_body::ResponseBody;
use crate::upstream::trouble::Fault;

/// Bounds on an endpoint's head: as hostile as a client's, but with room for large cookies.
const HEAD: HeadLimits = HeadLimits { head_bytes_max: 60 * 1024, headers_max: 256, target_bytes_max: 0 };

/// Informational responses that may precede a final one.
const INFORMATIONAL_MAX: u32 = 32;

/// How far the two sides of an attempt have come, for each other.
#[derive(Default)]
pub(super) struct Progress {
    /// All of the request was handed to the kernel.
    pub(super) request_sent: Cell<bool>,
    /// The endpoint took nothing of it for too long.
    pub(super) request_stalled: Cell<bool>,
    /// The final head is in the sink.
    pub(super) response_begun: Cell<bool>,
}

/// How reading a response failed.
pub(super) enum IncomingError {
    /// Anything with a byte of a response.
    Failed(AttemptError),
    /// Not one byte came.
    Silence(Fault),
}

impl From<AttemptError> for IncomingError {
    fn from(error: AttemptError) -> Self {
        Self::Failed(error)
    }
}

/// Reads one response.
pub(super) struct Incoming<'a> {
    pub(super) shard: &'a Shard,
    pub(super) settings: &'a ClusterTable,
    pub(super) connection: &'a Connection,
    pub(super) progress: &'a Progress,
    pub(super) method: Method,
    pub(super) upgrade: bool,
    pub(super) buffer: Buffer,
}

impl Incoming<'_> {
    /// Reads the response into `sink`; its last bytes stay queued there.
    pub(super) async fn run<S: ResponseSink>(
        mut self,
        sink: &mut S,
        head: &mut ResponseHead,
    ) -> Result<Finished, IncomingError> {
        let mut informational = 0;
        loop {
            self.read_head(head, informational > 0).await?;
            if head.status == 101 {
                return self.upgraded(sink, head);
            }
            if head.status >= 200 {
                break;
            }
            informational += 1;
            if informational > INFORMATIONAL_MAX {
                return Err(malformed("too_many_informational_responses").into());
            }
            sink.informational(head, self.buffer.filled());
            self.buffer.consume(head.head_len);
            sink.flush().await.map_err(|_| AttemptError::ClientGone)?;
        }
        self.progress.response_begun.set(true);
        // It bounded the wait for this head. Left armed, it would cut a long response whose endpoint never makes us wait.
        self.connection.timer.disarm();
        if !self.progress.request_sent.get() {
            sink.close();
        }
        sink.head(head, self.buffer.filled(), head.body);
        self.buffer.consume(head.head_len);
        self.content(sink, head).await?;
        let reusable = head.keep_alive && self.buffer.is_empty() && self.progress.request_sent.get();
        self.connection.timer.disarm();
        Ok(Finished::Complete { reusable })
    }

    async fn read_head(&mut self, head: &mut ResponseHead, spoke: bool) -> Result<(), IncomingError> {
        let mut scan = Scan::default();
        loop {
            if !self.buffer.is_empty() {
                match parse_response(self.buffer.filled(), &mut scan, &HEAD, self.method, head) {
                    Ok(scan::Progress::Complete) => return Ok(()),
                    Ok(scan::Progress::Incomplete) => {}
                    Err(fault) => return Err(malformed(fault.reason()).into()),
                }
            }
            if !self.buffer.make_room(Class::Large.bytes()) {
                return Err(malformed("response_head_too_large").into());
            }
            let silent = self.buffer.is_empty() && !spoke;
            let (result, buffer) = self.connection.read(std::mem::take(&mut self.buffer)).await;
            self.buffer = buffer;
            match result {
                Ok(1..) => {}
                _ if silent => return Err(IncomingError::Silence(self.silence())),
                _ => return Err(unanswered(self.silence()).into()),
            }
        }
    }

    /// Why nothing more came before the head was whole.
    fn silence(&self) -> Fault {
        if self.progress.request_stalled.get() {
            Fault::BodyGap
        } else if self.connection.timer.fired() {
            self.shard.stats.timeout_first_byte.add();
            Fault::FirstByte
        } else {
            self.broken_off(Fault::Closed)
        }
    }

    /// TLS tells more of an end than that it came.
    fn broken_off(&self, otherwise: Fault) -> Fault {
        match self.connection.wire.tls_fault() {
            None => otherwise,
            Some(fault) => {
                self.shard.stats.upstream_tls_failed.add();
                Fault::Tls(fault)
            }
        }
    }

    fn upgraded<S: ResponseSink>(
        mut self,
        sink: &mut S,
        head: &ResponseHead,
    ) -> Result<Finished, IncomingError> {
        if !self.upgrade || head.upgrade.is_none() {
            return Err(malformed("unasked_upgrade").into());
        }
        sink.informational(head, self.buffer.filled());
        self.buffer.consume(head.head_len);
        self.connection.timer.disarm();
        Ok(Finished::Upgraded { received: self.buffer })
    }

    async fn content<S: ResponseSink>(
        &mut self,
        sink: &mut S,
        head: &ResponseHead,
    ) -> Result<(), AttemptError> {
        let mut body = ResponseBody::new(head.body, ChunkLimits::default());
        loop {
            match body.drain(&mut self.buffer, sink) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(_) => {
                    // What came before the fault is the client's all the same.
                    let _ = sink.flush().await;
                    return Err(AttemptError::Cut(Some(Fault::Chunks)));
                }
            }
            if body.known_left() >= BULK_BYTES_MIN && self.splice(sink, body.known_left()).await? {
                return Ok(());
            }
            if self.read_on(sink).await? == 0 {
                if body.ends_with_close(sink) {
                    return Ok(());
                }
                return Err(AttemptError::Cut(Some(Fault::BrokenOff)));
            }
        }
    }

    /// Has the kernel move the rest of a large body. Returns whether it could.
    async fn splice<S: ResponseSink>(&self, sink: &mut S, left: u64) -> Result<bool, AttemptError> {
        let Connection { wire, timer, .. } = self.connection;
        let Some(socket) = wire.plain().filter(|_| sink.plain().is_some()) else { return Ok(false) };
        sink.flush().await.map_err(|_| AttemptError::ClientGone)?;
        let Some(to) = sink.plain() else { return Ok(false) };
        let gap = self.settings.body_gap_timeout;
        let from = End { socket, timer, gap, on_due: OnDue::ShutBoth };
        let stats = &self.shard.stats;
        match bulk::relay(self.shard, from, to, left).await {
            Ok(()) => Ok(true),
            Err(BulkError::NoPipe) => Ok(false),
            Err(BulkError::Destination) => {
                if to.timer.fired() {
                    stats.timeout_write_gap.add();
                    to.socket.reset_on_close();
                }
                Err(AttemptError::ClientGone)
            }
            Err(BulkError::Source) => {
                if from.timer.fired() {
                    stats.timeout_upstream_body_gap.add();
                    return Err(AttemptError::Cut(Some(Fault::BodyGap)));
                }
                Err(AttemptError::Cut(Some(Fault::BrokenOff)))
            }
        }
    }

    /// Sends what is queued and reads the next piece beside it. Returns 0 where the endpoint closed cleanly.
    async fn read_on<S: ResponseSink>(&mut self, sink: &mut S) -> Result<usize, AttemptError> {
        let connection = self.connection;
        self.buffer.compact();
        if self.buffer.is_empty() && self.buffer.spare() < Class::Large.bytes() {
            let exhausted = self.shard.process.buffers_exhausted();
            self.buffer = Buffer::new(if exhausted { Class::Small } else { Class::Large });
        }
        connection.timer.arm(self.settings.body_gap_timeout, OnDue::ShutBoth);
        let flush = async {
            let flushed = sink.flush().await;
            if flushed.is_err() {
                // Ends the read beside it, which nobody needs any more.
                connection.wire.socket().shutdown(Shutdown::Both);
            }
            flushed
        };
        let read = async {
            let read = connection.read(std::mem::take(&mut self.buffer)).await;
            connection.timer.disarm();
            read
        };
        let (flushed, (result, buffer)) = monoio::join!(flush, read);
        self.buffer = buffer;
        if flushed.is_err() {
            return Err(AttemptError::ClientGone);
        }
        match result {
            Ok(0) | Err(_) if connection.timer.fired() => {
                self.shard.stats.timeout_upstream_body_gap.add();
                Err(AttemptError::Cut(Some(Fault::BodyGap)))
            }
            Ok(count) => {
                self.shard.give_way(count).await;
                Ok(count)
            }
            Err(_) => Err(AttemptError::Cut(Some(self.broken_off(Fault::BrokenOff)))),
        }
    }
}
