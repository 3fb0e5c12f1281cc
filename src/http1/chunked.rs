//! Chunked content: a decoder fed with whatever arrived, and the writer's side (RFC 9112 section 7.1).
//!
//! `gateway/exchange` relays the ranges that the decoder names and writes its own chunk heads, so chunk extensions
//! end here. Trailers are collected within limits and leave through [`write_last_chunk`], which drops every field
//! that decides about framing, routing, authentication or the processing of content.
//!
//! ```text
//! chunk      = 1*16HEXDIG [ ";" extension ] CRLF data CRLF
//! last-chunk = 1*16"0" [ ";" extension ] CRLF *field-line CRLF
//! ```
//!
//! Strict: CRLF only, no sign or white space around the size, and no control character in an extension.

use std::ops::Range;

use super::names;
use super::scan::{self, FieldFault, Scan};
use super::wire::push_hex;
use crate::message::Header;

/// Bounds on what chunked content may carry beside its data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChunkLimits {
    /// Bytes of the extensions of one chunk.
    pub extension_bytes_max: u32,
    /// Bytes of all extensions of one message.
    pub extensions_bytes_max: u32,
    /// Bytes of the trailer section, its blank line included.
    pub trailer_bytes_max: u32,
    /// Field lines of the trailer section.
    pub trailers_max: u32,
}

impl Default for ChunkLimits {
    /// Extensions have no use here, so they get as much as a signature of each chunk would need.
    fn default() -> Self {
        Self {
            extension_bytes_max: 256,
            extensions_bytes_max: 64 * 1024,
            trailer_bytes_max: 8 * 1024,
            trailers_max: 100,
        }
    }
}

/// What [`Decoder::decode`] found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ChunkEvent {
    /// Data at this range of the input given, never empty.
    Data(Range<usize>),
    /// The content and its trailers are complete; what follows in the input is the next message's.
    End,
    /// All of the input was used.
    NeedMore,
}

/// Why content is not chunked content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChunkError {
    /// A byte that the grammar does not allow there.
    BadChunk,
    /// Extensions beyond their limits.
    ExtensionTooLong,
    /// A size of more than 16 digits or above 2^63 - 1.
    SizeOverflow,
    /// A malformed trailer field.
    Trailer(FieldFault),
    /// Trailers beyond their limits.
    TrailersTooLarge,
}

impl From<FieldFault> for ChunkError {
    fn from(fault: FieldFault) -> Self {
        Self::Trailer(fault)
    }
}

/// Decoder of one message's chunked content.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    limits: ChunkLimits,
    state: State,
    /// Size under way, then data left of the chunk.
    left: u64,
    /// Digits of the size under way.
    digits: u8,
    /// Extension bytes of the chunk under way, and of the message.
    extension_bytes: u32,
    extensions_bytes: u32,
    /// The trailer section as received, and how far it has been read.
    trailer_bytes: Vec<u8>,
    trailer_scan: Scan,
    trailers: Vec<Header>,
}

/// What is expected next.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerEndLf,
    Trailers,
    Ended,
}

impl Decoder {
    /// A decoder at the start of a message's content.
    #[must_use]
    pub fn new(limits: ChunkLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes the next bytes: returns how many of them were used up and what they amount to.
    ///
    /// A range of data lies within the bytes used. Call again with the rest until the event is
    /// [`ChunkEvent::NeedMore`] or [`ChunkEvent::End`].
    ///
    /// # Errors
    /// The content's framing is lost; neither side's connection can be used again.
    pub fn decode(&mut self, input: &[u8]) -> Result<(usize, ChunkEvent), ChunkError> {
        let mut at = 0;
        loop {
            match self.state {
                State::Data => {
                    let rest = input.len() - at;
                    if rest == 0 {
                        return Ok((at, ChunkEvent::NeedMore));
                    }
                    let take = usize::try_from(self.left).map_or(rest, |left| left.min(rest));
                    self.left -= take as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok((at + take, ChunkEvent::Data(at..at + take)));
                }
                State::Trailers => {
                    let (used, ended) = self.read_trailers(input.get(at..).unwrap_or_default())?;
                    let event = if ended { ChunkEvent::End } else { ChunkEvent::NeedMore };
                    return Ok((at + used, event));
                }
                State::Ended => return Ok((at, ChunkEvent::End)),
                _ => {}
            }
            let Some(&byte) = input.get(at) else { return Ok((at, ChunkEvent::NeedMore)) };
            // The first byte of a trailer is left to its own reader.
            if self.state == State::TrailerStart && byte != b'\r' {
                self.state = State::Trailers;
                self.trailer_scan = Scan::fields();
                continue;
            }
            self.state = self.step(byte)?;
            at += 1;
        }
    }

    /// The state behind `byte`, which is one of framing.
    #[inline]
    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => Ok(State::SizeLf),
            (State::Size, b';') if self.digits > 0 => Ok(State::Extension),
            (State::Size, _) => self.add_digit(byte),
            (State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.add_extension_byte(),
            (State::SizeLf, b'\n') => {
                (self.digits, self.extension_bytes) = (0, 0);
                Ok(if self.left == 0 { State::TrailerStart } else { State::Data })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size),
            (State::TrailerStart, b'\r') => Ok(State::TrailerEndLf),
            (State::TrailerEndLf, b'\n') => Ok(State::Ended),
            _ => Err(ChunkError::BadChunk),
        }
    }

    fn add_digit(&mut self, byte: u8) -> Result<State, ChunkError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return Err(ChunkError::BadChunk),
        };
        self.left = (self.left << 4) | u64::from(digit);
        self.digits += 1;
        // Sixteen digits cannot lose bits; the sign bit is kept clear for whoever counts in signed numbers.
        if self.digits > 16 || self.left > i64::MAX as u64 {
            return Err(ChunkError::SizeOverflow);
        }
        Ok(State::Size)
    }

    fn add_extension_byte(&mut self) -> Result<State, ChunkError> {
        self.extension_bytes += 1;
        self.extensions_bytes += 1;
        let fits = self.extension_bytes <= self.limits.extension_bytes_max
            && self.extensions_bytes <= self.limits.extensions_bytes_max;
        if fits { Ok(State::Extension) } else { Err(ChunkError::ExtensionTooLong) }
    }

    /// Collects trailers from `input`: how many bytes of it were used, and whether the section is complete.
    ///
    /// What is collected beyond the section's end is not counted as used and never looked at.
    fn read_trailers(&mut self, input: &[u8]) -> Result<(usize, bool), ChunkError> {
        let bytes_max = self.limits.trailer_bytes_max as usize;
        let before = self.trailer_bytes.len();
        let fitting = input.get(..bytes_max.saturating_sub(before)).unwrap_or(input);
        self.trailer_bytes.extend_from_slice(fitting);
        let trailers_max = self.limits.trailers_max as usize;
        let end = scan::parse_fields(
            &self.trailer_bytes,
            &mut self.trailer_scan,
            &mut self.trailers,
            trailers_max,
        )?;
        if let Some(end) = end {
            self.state = State::Ended;
            return Ok((end.saturating_sub(before), true));
        }
        if self.trailer_bytes.len() >= bytes_max {
            return Err(ChunkError::TrailersTooLarge);
        }
        Ok((fitting.len(), false))
    }

    /// The trailer fields in their order, name and value; complete after [`ChunkEvent::End`].
    pub fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.trailers
            .iter()
            .map(|field| (field.name.of(&self.trailer_bytes), field.value.of(&self.trailer_bytes)))
    }

    /// Whether the content is complete.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }
}

/// Appends the head of a chunk of `len` bytes; the caller appends the data and CRLF.
///
/// A length of 0 would end the content: use [`write_last_chunk`] for that.
#[inline]
pub fn write_chunk_head(out: &mut Vec<u8>, len: usize) {
    debug_assert!(len > 0, "an empty chunk ends the content");
    push_hex(out, len as u64);
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk and those of `trailers` that may be forwarded.
pub fn write_last_chunk<'a>(out: &mut Vec<u8>, trailers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        if !names::is_forbidden_trailer(name) {
            super::rewrite::push_field(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
