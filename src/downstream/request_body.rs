//! The content of an HTTP/1 request as it arrives (RFC 9112 section 6), for [`crate::gateway::exchange`].

use std::io;
use std::time::Duration;

use super::Wire;
use crate::gateway::bulk::End;
use crate::gateway::stream::{BodyError, ByteStream, RequestBody};
use crate::http1::chunked::{ChunkEvent, ChunkLimits, Decoder, write_chunk_head, write_last_chunk};
use crate::http1::refusal::Refusal;
use crate::message::BodyLength;
use crate::shard::deadlines::{OnDue, Timer};
use crate::shard::stats::Stats;
use crate::sys::buffer::{Buffer, Class};

/// Bytes of a chunked body's framing (extensions, trailers) that the shared limits of a head also bound.
#[must_use]
pub fn chunk_limits(head_bytes_max: u32, headers_max: u32) -> ChunkLimits {
    ChunkLimits { trailer_bytes_max: head_bytes_max, trailers_max: headers_max, ..ChunkLimits::default() }
}

enum State {
    Chunked(Box<Decoder>),
    Done,
    Known(u64),
}

/// Reads a request's content from the session's input buffer and, when that is empty, from the socket.
pub struct Http1RequestBody<'s> {
    wire: &'s Wire,
    timer: &'s Timer,
    stats: &'s Stats,
    input: &'s mut Buffer,
    gap: Duration,
    state: State,
}

impl<'s> Http1RequestBody<'s> {
    /// The content behind a head that was just consumed from `input`.
    pub fn new(
        wire: &'s Wire,
        timer: &'s Timer,
        stats: &'s Stats,
        input: &'s mut Buffer,
        length: BodyLength,
        gap: Duration,
        limits: ChunkLimits,
    ) -> Self {
        let state = match length {
            BodyLength::None | BodyLength::UntilClose | BodyLength::Known(0) => State::Done,
            BodyLength::Known(length) => State::Known(length),
            BodyLength::Chunked => State::Chunked(Box::new(Decoder::new(limits))),
        };
        Self { wire, timer, stats, input, gap, state }
    }

    /// Whether all of the content was drained.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Drops content that already arrived, so that a request answered without it leaves the connection usable.
    /// Returns whether the body is complete.
    pub fn discard_buffered(&mut self) -> bool {
        let mut dropped = Buffer::new(Class::Small);
        self.drain_into(&mut dropped, BodyLength::Known(0)) == Ok(true)
    }

    /// Reads on within the gap. The socket stays usable when that is over: its client is to get an answer.
    async fn read(&mut self) -> io::Result<usize> {
        loop {
            self.timer.arm(self.gap, OnDue::CancelRead);
            let buffer = std::mem::take(self.input);
            let (result, buffer) = self.wire.read_cancelable(buffer, self.timer.cancel_handle()).await;
            *self.input = buffer;
            match result {
                // While the response is spliced, older kernels do not wait for data here.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.timer.arm(self.gap, OnDue::StopWaiting);
                    monoio::select! {
                        ready = self.wire.readable() => ready?,
                        () = self.timer.expiry() => return Err(io::ErrorKind::TimedOut.into()),
                    }
                }
                result => return result,
            }
        }
    }

    fn drain_chunks(&mut self, out: &mut Buffer, rechunk: bool) -> Result<bool, BodyError> {
        let State::Chunked(decoder) = &mut self.state else { return Ok(true) };
        loop {
            let (consumed, event) = decoder
                .decode(self.input.filled())
                .map_err(|error| BodyError::Malformed(Refusal::from(error).reason()))?;
            match event {
                ChunkEvent::Data(range) => {
                    let data = self.input.filled().get(range).unwrap_or_default();
                    if rechunk && !data.is_empty() {
                        out.append_with(|out| {
                            write_chunk_head(out, data.len());
                            out.extend_from_slice(data);
                            out.extend_from_slice(b"\r\n");
                        });
                    } else {
                        out.extend(data);
                    }
                    self.input.consume(consumed);
                }
                ChunkEvent::NeedMore => {
                    self.input.consume(consumed);
                    return Ok(false);
                }
                ChunkEvent::End => {
                    self.input.consume(consumed);
                    if rechunk {
                        out.append_with(|out| write_last_chunk(out, decoder.trailers()));
                    }
                    self.state = State::Done;
                    return Ok(true);
                }
            }
        }
    }
}

impl RequestBody for Http1RequestBody<'_> {
    fn drain_into(&mut self, out: &mut Buffer, framing: BodyLength) -> Result<bool, BodyError> {
        match &mut self.state {
            State::Done => Ok(true),
            State::Chunked(_) => self.drain_chunks(out, framing == BodyLength::Chunked),
            State::Known(left) => {
                let count = self.input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                let done = *left == 0;
                if out.total() == 0 && count == self.input.len() && count >= Class::Small.bytes() {
                    // A large piece changes hands instead of being copied.
                    std::mem::swap(out, self.input);
                } else {
                    out.extend(self.input.filled().get(..count).unwrap_or_default());
                    self.input.consume(count);
                }
                if done {
                    self.state = State::Done;
                }
                Ok(done)
            }
        }
    }

    async fn fill(&mut self) -> Result<(), BodyError> {
        self.input.compact();
        if self.input.is_empty() && self.input.spare() < Class::Large.bytes() {
            *self.input = Buffer::new(Class::Large);
        }
        if !self.input.make_room(Class::Large.bytes()) {
            // The decoder consumes everything it is given, so a full buffer can not stay.
            return Err(BodyError::Malformed("chunk_too_long"));
        }
        let result = self.read().await;
        self.timer.disarm();
        if matches!(result, Ok(1..)) { Ok(()) } else { Err(self.fault()) }
    }

    fn plain(&self) -> Option<(End<'_>, u64)> {
        match self.state {
            State::Known(left) if self.input.is_empty() => {
                let (socket, timer, gap) = (self.wire.plain()?, self.timer, self.gap);
                Some((End { socket, timer, gap, on_due: OnDue::StopWaiting }, left))
            }
            _ => None,
        }
    }

    fn taken(&mut self) {
        self.state = State::Done;
    }

    fn fault(&self) -> BodyError {
        if self.timer.fired() {
            self.stats.timeout_body_gap.add();
            BodyError::TimedOut
        } else {
            BodyError::Gone
        }
    }
}
