//! Responses to an HTTP/1 client: framing for its version, queued in one buffer, sent in as few pieces as possible.

use std::net::Shutdown;
use std::os::fd::RawFd;
use std::time::Duration;

use super::Wire;
use crate::gateway::bulk::End;
use crate::gateway::stream::{ByteStream, ResponseSink, SinkClosed};
use crate::http1::chunked::{write_chunk_head, write_last_chunk};
use crate::http1::reply::{ReplyFacts, write_reply};
use crate::http1::rewrite::{ResponseFacts, write_response};
use crate::message::{BodyLength, Method, ResponseHead, Version};
use crate::shard::Shard;
use crate::shard::deadlines::{OnDue, Timer};
use crate::shard::stats::Stats;
use crate::sys::buffer::{Buffer, Class};

/// What the request settles about its response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseTerms<'s> {
    /// The client's version.
    pub version: Version,
    /// The request's method.
    pub method: Method,
    /// Whether the connection ends after the response.
    pub close: bool,
    /// `Strict-Transport-Security`, where its host has one.
    pub hsts: Option<&'s str>,
}

/// The response side of one request.
pub struct Http1ResponseSink<'s> {
    shard: &'s Shard,
    wire: &'s Wire,
    timer: &'s Timer,
    output: &'s mut Buffer,
    write_gap: Duration,
    terms: ResponseTerms<'s>,
    framing: BodyLength,
    cut: bool,
    flushing: bool,
}

impl<'s> Http1ResponseSink<'s> {
    /// A sink that queues in `output`.
    pub fn new(
        shard: &'s Shard,
        wire: &'s Wire,
        timer: &'s Timer,
        output: &'s mut Buffer,
        write_gap: Duration,
        terms: ResponseTerms<'s>,
    ) -> Self {
        Self {
            shard,
            wire,
            timer,
            output,
            write_gap,
            terms,
            framing: BodyLength::None,
            cut: false,
            flushing: false,
        }
    }

    /// Whether the connection must end after this response.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.terms.close || self.cut
    }

    /// Queues an answer of ours, and where to go instead.
    pub(super) fn answer(&mut self, status: u16, reason_code: &str, location: Option<&[u8]>) {
        self.settle_close();
        let ResponseTerms { version, method, close, hsts } = self.terms;
        let head_request = method == Method::Head;
        let facts = ReplyFacts { status, reason_code, location, hsts, close, version, head_request };
        let date = self.shard.date.borrow();
        self.output.append_with(|out| write_reply(out, date.text(), &facts));
    }

    /// A drain that began while the endpoint was still thinking makes this response the connection's last, too.
    fn settle_close(&mut self) {
        self.terms.close |= self.shard.is_draining();
    }
}

/// Sends `output` under the write timer; a failed or stalled client ends the whole socket, so that a read under way
/// beside it ends too.
///
/// # Errors
/// When the client is gone or too slow.
pub async fn send(
    wire: &Wire,
    timer: &Timer,
    stats: &Stats,
    output: &mut Buffer,
    write_gap: Duration,
) -> Result<(), SinkClosed> {
    let rearm = || timer.arm(write_gap, OnDue::ShutBoth);
    let (result, returned) = wire.write_all(std::mem::take(output), rearm).await;
    timer.disarm();
    *output = returned;
    output.clear();
    if result.is_ok() {
        return Ok(());
    }
    if timer.fired() {
        stats.timeout_write_gap.add();
        // What the kernel still holds for this client would stay there for minutes, and a FIN behind it would make a
        // close-delimited response look whole.
        wire.socket().reset_on_close();
    }
    wire.socket().shutdown(Shutdown::Both);
    Err(SinkClosed)
}

impl ResponseSink for Http1ResponseSink<'_> {
    fn informational(&mut self, head: &ResponseHead, bytes: &[u8]) {
        if self.terms.version == Version::Http10 {
            return;
        }
        let facts =
            ResponseFacts { version: self.terms.version, close: false, body: BodyLength::None, hsts: None };
        self.output.append_with(|out| write_response(out, head, bytes, &facts));
    }

    fn close(&mut self) {
        self.terms.close = true;
    }

    fn head(&mut self, head: &ResponseHead, bytes: &[u8], body: BodyLength) {
        self.settle_close();
        self.framing = match body {
            // HTTP/1.0 has no chunks: the end of the connection is the end of the content.
            BodyLength::Chunked | BodyLength::UntilClose if self.terms.version == Version::Http10 => {
                self.terms.close = true;
                BodyLength::UntilClose
            }
            BodyLength::Chunked | BodyLength::UntilClose => BodyLength::Chunked,
            BodyLength::Known(_) | BodyLength::None => body,
        };
        let ResponseTerms { version, close, hsts, .. } = self.terms;
        let facts = ResponseFacts { version, close, body: self.framing, hsts };
        self.output.append_with(|out| write_response(out, head, bytes, &facts));
    }

    fn content(&mut self, from: &mut Buffer, count: usize) {
        if count == 0 {
            return;
        }
        let chunked = self.framing == BodyLength::Chunked;
        if !chunked && self.output.is_empty() && from.len() == count && count > Class::Small.bytes() {
            // A large piece changes hands instead of being copied.
            self.output.clear();
            std::mem::swap(self.output, from);
            return;
        }
        let piece = from.filled().get(..count).unwrap_or_default();
        self.output.append_with(|out| {
            if chunked {
                write_chunk_head(out, piece.len());
            }
            out.extend_from_slice(piece);
            if chunked {
                out.extend_from_slice(b"\r\n");
            }
        });
        from.consume(count);
    }

    fn finish<'t>(&mut self, trailers: impl Iterator<Item = (&'t [u8], &'t [u8])>) {
        if self.framing == BodyLength::Chunked {
            self.output.append_with(|out| write_last_chunk(out, trailers));
        }
    }

    fn reply(&mut self, status: u16, reason: &'static str) {
        self.answer(status, reason, None);
    }

    fn cut(&mut self) {
        self.cut = true;
        self.wire.cut();
        if self.framing == BodyLength::UntilClose {
            // Only a reset tells this client that the content is not whole.
            self.wire.socket().reset_on_close();
        }
    }

    async fn flush(&mut self) -> Result<(), SinkClosed> {
        if self.output.is_empty() {
            return Ok(());
        }
        self.flushing = true;
        let sent = send(self.wire, self.timer, &self.shard.stats, self.output, self.write_gap).await;
        self.flushing = false;
        sent
    }

    fn is_interrupted(&self) -> bool {
        self.flushing
    }

    fn client(&self) -> Option<RawFd> {
        Some(self.wire.fd())
    }

    fn plain(&self) -> Option<End<'_>> {
        let socket = self.wire.plain()?;
        let raw = matches!(self.framing, BodyLength::Known(_));
        raw.then_some(End { socket, timer: self.timer, gap: self.write_gap, on_due: OnDue::ShutBoth })
    }
}
