//! The content of an HTTP/1 response as it arrives from an endpoint (RFC 9112 section 6), moved into the client's sink.

use crate::gateway::stream::ResponseSink;
use crate::http1::chunked::{ChunkEvent, ChunkLimits, Decoder};
use crate::message::BodyLength;
use crate::sys::buffer::Buffer;

/// Why a response's content is not whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ContentFault {
    /// The chunked framing is broken: nothing behind it can be trusted.
    Malformed,
}

enum State {
    Chunked(Box<Decoder>),
    Done,
    Known(u64),
    UntilClose,
}

/// How far a response's content has come.
pub struct ResponseBody {
    state: State,
}

impl ResponseBody {
    /// The content behind a head.
    #[must_use]
    pub fn new(length: BodyLength, limits: ChunkLimits) -> Self {
        let state = match length {
            BodyLength::None | BodyLength::Known(0) => State::Done,
            BodyLength::Known(length) => State::Known(length),
            BodyLength::Chunked => State::Chunked(Box::new(Decoder::new(limits))),
            BodyLength::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Moves what has arrived from `input` to `sink`. Returns whether the content is complete; what is left in
    /// `input` then is none of it.
    ///
    /// # Errors
    /// When the framing is broken.
    pub fn drain<S: ResponseSink>(&mut self, input: &mut Buffer, sink: &mut S) -> Result<bool, ContentFault> {
        match &mut self.state {
            State::Done => return Ok(true),
            State::UntilClose => sink.content(input, input.len()),
            State::Known(left) => {
                let count = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                let done = *left == 0;
                sink.content(input, count);
                if done {
                    self.state = State::Done;
                }
                return Ok(done);
            }
            State::Chunked(decoder) => loop {
                let (consumed, event) =
                    decoder.decode(input.filled()).map_err(|_| ContentFault::Malformed)?;
                match event {
                    ChunkEvent::Data(range) => {
                        input.consume(range.start);
                        sink.content(input, range.len());
                        input.consume(consumed - range.end);
                    }
                    ChunkEvent::NeedMore => {
                        input.consume(consumed);
                        break;
                    }
                    ChunkEvent::End => {
                        input.consume(consumed);
                        sink.finish(decoder.trailers());
                        self.state = State::Done;
                        return Ok(true);
                    }
                }
            },
        }
        Ok(false)
    }

    /// Bytes of known content that have not come yet.
    #[must_use]
    pub const fn known_left(&self) -> u64 {
        match self.state {
            State::Known(left) => left,
            _ => 0,
        }
    }

    /// The endpoint closed. Returns whether that makes the content complete.
    #[must_use]
    pub fn ends_with_close<S: ResponseSink>(&self, sink: &mut S) -> bool {
        let complete = matches!(self.state, State::Done | State::UntilClose);
        if matches!(self.state, State::UntilClose) {
            sink.finish(std::iter::empty());
        }
        complete
    }
}
