//! The ClientHello in the first bytes of a connection, without I/O: what the accept path knows before it chooses
//! between passthrough and termination.
//!
//! The caller receives, calls [`walk`] on all bytes so far, and receives more while the outcome is
//! [`Outcome::Incomplete`]. Nothing is consumed: the same bytes go on to the chosen upstream or to the TLS library.
//!
//! ```text
//! record      = type(22) version(2) length(2) fragment                       RFC 8446 section 5.1
//! message     = type(1) length(3) ClientHello, over one or more fragments    RFC 8446 section 4
//! ClientHello = version(2) random(32) session_id<0..32> cipher_suites<2..> compression<1..> [ extensions<0..> ]
//!                                                                            RFC 8446 section 4.1.2
//! ```
//!
//! Read are `server_name` (RFC 6066 section 3), `application_layer_protocol_negotiation` (RFC 7301 section 3.1) and
//! `supported_versions` (RFC 8446 section 4.2.1); of all others only the type, which must not repeat (section 4.2).
//! Values reserved by RFC 8701 (GREASE) are never reported. With Encrypted ClientHello the outer hello is what there
//! is, and its server name is the one that routes. Whether cipher suites, groups or keys make sense is left to the
//! endpoint that negotiates.
//!
//! Bounds: a message has at most [`HELLO_BYTES_MAX`] bytes in at most [`RECORDS_MAX`] records, so within
//! [`WIRE_BYTES_MAX`] bytes there is a verdict. Nothing is remembered between calls, and nothing needs to be: while
//! the message is incomplete a call looks at record headers only, at most 64 of them however many bytes there are
//! (0.8 us measured), and only the last call goes through the message. The worst client, 63 records of one byte and
//! then byte by byte, thus costs 14 ms spread over 16 704 receives, which cost the kernel more; a caller that calls
//! again only once `need` bytes are there makes at most two calls per record and a few for the first bytes.

#![deny(clippy::indexing_slicing)]

mod first_bytes;
mod hello;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod real;
mod refusal;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

pub use hello::{Alpn, ClientHello, TlsVersion, Versions};
pub use refusal::{Malformed, NotTls};

use first_bytes::HANDSHAKE;

/// Bytes of the longest ClientHello message, its header included: what one record can hold.
pub const HELLO_BYTES_MAX: usize = RECORD_BYTES_MAX;
/// Records that a ClientHello may be spread over.
pub const RECORDS_MAX: usize = 64;
/// Bytes of the longest ClientHello with its record headers: with so many there is a verdict.
pub const WIRE_BYTES_MAX: usize = HELLO_BYTES_MAX + RECORDS_MAX * RECORD_HEADER;

/// RFC 8446 section 5.1: "The length MUST NOT exceed 2^14 bytes."
const RECORD_BYTES_MAX: usize = 1 << 14;
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
/// Header and version, the part of a message that is judged before the rest is there.
const MESSAGE_START: usize = MESSAGE_HEADER + 2;
/// Header, version, random, and the shortest of all other fields.
const MESSAGE_BYTES_MIN: usize = MESSAGE_START + 32 + 1 + 4 + 2;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome<'b> {
    /// A whole and well-formed ClientHello.
    Complete(ClientHello<'b>),
    /// So far it could become one, or it is not yet clear what else it is.
    Incomplete {
        /// Bytes from the start of the connection; with fewer the outcome stays the same. More than there are now, at
        /// most [`WIRE_BYTES_MAX`].
        need: usize,
    },
    /// Something else than TLS 1.0 or later.
    NotTls(NotTls),
    /// TLS, but no ClientHello that could be served.
    Malformed(Malformed),
}

/// Memory that outlives a call to spare allocations; one per shard is enough. Holds at most 16 KiB for a message from
/// several records and 8 KiB of extension types.
#[derive(Debug, Default)]
pub struct Scratch {
    message: Vec<u8>,
    types: Vec<u16>,
}

/// Reads the ClientHello that `bytes`, all that a connection received so far, begin with.
///
/// What follows the hello's last record is not looked at. The outcome borrows from `bytes`; only a hello from several
/// records is copied, into `scratch`.
pub fn walk<'b>(bytes: &'b [u8], scratch: &'b mut Scratch) -> Outcome<'b> {
    let read = frame(bytes).and_then(|frame| {
        let Scratch { message, types } = scratch;
        let body = frame.body(bytes, message);
        Ok(hello::read(body, &frame, types)?)
    });
    match read {
        Ok(hello) => Outcome::Complete(hello),
        Err(Stop::Need(need)) => Outcome::Incomplete { need },
        Err(Stop::NotTls(what)) => Outcome::NotTls(what),
        Err(Stop::Malformed(why)) => Outcome::Malformed(why),
    }
}

/// Why there is no ClientHello.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stop {
    Need(usize),
    NotTls(NotTls),
    Malformed(Malformed),
}

impl From<Malformed> for Stop {
    fn from(why: Malformed) -> Self {
        Self::Malformed(why)
    }
}

/// Where a complete message is.
#[derive(Debug)]
struct Frame {
    records: usize,
    /// Up to the end of the message's last record.
    wire_bytes: usize,
    message_bytes: usize,
}

impl Frame {
    /// The message without its header, joined in `joined` if it is not in one piece.
    fn body<'b>(&self, bytes: &'b [u8], joined: &'b mut Vec<u8>) -> &'b [u8] {
        let mut rest = bytes.get(..self.wire_bytes).unwrap_or_default();
        if self.records == 1 {
            return rest.get(RECORD_HEADER + MESSAGE_HEADER..).unwrap_or_default();
        }
        joined.clear();
        joined.reserve(self.message_bytes);
        while let Some((header, behind)) = rest.split_first_chunk::<RECORD_HEADER>() {
            let len = fragment_bytes(header);
            joined.extend_from_slice(behind.get(..len).unwrap_or(behind));
            rest = behind.get(len..).unwrap_or_default();
        }
        joined.get(MESSAGE_HEADER..).unwrap_or_default()
    }
}

/// Finds the end of the message, and refuses what can not become one as soon as that is clear.
fn frame(bytes: &[u8]) -> Result<Frame, Stop> {
    first_bytes::judge(bytes)?;
    let mut start = Start::default();
    let (mut at, mut joined) = (0, 0);
    for records in 1..=RECORDS_MAX {
        let fragment_at = at + RECORD_HEADER;
        let behind = bytes.get(at..).unwrap_or_default();
        let Some((header, behind)) = behind.split_first_chunk() else { return Err(Stop::Need(fragment_at)) };
        let len = judge_record(header)?;
        let fragment = behind.get(..len).unwrap_or(behind);
        start.push(fragment);
        let have = joined + fragment.len();
        let message_bytes = start.judge_header()?;
        if message_bytes.is_some_and(|message| joined + len > message) {
            return Err(Malformed::BytesBehindHello.into());
        }
        if records == RECORDS_MAX && joined + len < message_bytes.unwrap_or(MESSAGE_BYTES_MIN) {
            break;
        }
        // In the order of arrival, or the verdict would depend on how much came at once.
        start.judge_version()?;
        if message_bytes == Some(have) {
            return Ok(Frame { records, wire_bytes: fragment_at + len, message_bytes: have });
        }
        if fragment.len() < len {
            // The next point at which something is judged: inside of this record, or the header of the next one.
            let next = match have {
                0..MESSAGE_HEADER => MESSAGE_HEADER,
                MESSAGE_HEADER..MESSAGE_START => MESSAGE_START,
                _ => message_bytes.unwrap_or(MESSAGE_START),
            };
            let inside = next.saturating_sub(joined);
            let need = if inside <= len { inside } else { len + RECORD_HEADER };
            return Err(Stop::Need(fragment_at + need));
        }
        at = fragment_at + len;
        joined = have;
    }
    Err(Malformed::TooManyRecords.into())
}

fn fragment_bytes(header: &[u8; RECORD_HEADER]) -> usize {
    let [_, _, _, high, low] = *header;
    usize::from(u16::from_be_bytes([high, low]))
}

/// Length of the record's fragment.
///
/// The version's minor byte says nothing: RFC 8446 section 5.1 has it ignored, and RFC 5246 appendix E.1 demands that
/// any `{03,XX}` is accepted.
fn judge_record(header: &[u8; RECORD_HEADER]) -> Result<usize, Malformed> {
    let [content, major, ..] = *header;
    if content != HANDSHAKE {
        return Err(Malformed::OtherRecordBetween);
    }
    if major != 3 {
        return Err(Malformed::BadRecordVersion);
    }
    match fragment_bytes(header) {
        0 => Err(Malformed::EmptyRecord),
        len if len > RECORD_BYTES_MAX => Err(Malformed::RecordTooLong),
        len => Ok(len),
    }
}

/// The first bytes of the message, which may come in records of their own.
#[derive(Default)]
struct Start {
    bytes: [u8; MESSAGE_START],
    filled: usize,
}

impl Start {
    fn push(&mut self, fragment: &[u8]) {
        if self.filled == 0
            && let Some(whole) = fragment.first_chunk()
        {
            (self.bytes, self.filled) = (*whole, MESSAGE_START);
            return;
        }
        for (slot, byte) in self.bytes.iter_mut().skip(self.filled).zip(fragment) {
            *slot = *byte;
            self.filled += 1;
        }
    }

    /// Length of the message, header included, once it is known.
    fn judge_header(&self) -> Result<Option<usize>, Malformed> {
        const CLIENT_HELLO: u8 = 1;
        if self.filled < MESSAGE_HEADER {
            return Ok(None);
        }
        let [message, high, middle, low, ..] = self.bytes;
        if message != CLIENT_HELLO {
            return Err(Malformed::NotClientHello);
        }
        let body = u32::from_be_bytes([0, high, middle, low]) as usize;
        match MESSAGE_HEADER + body {
            len if len > HELLO_BYTES_MAX => Err(Malformed::HelloTooLarge),
            len if len < MESSAGE_BYTES_MIN => Err(Malformed::Truncated),
            len => Ok(Some(len)),
        }
    }

    fn judge_version(&self) -> Result<(), Stop> {
        let [.., major, minor] = self.bytes;
        match (major, minor) {
            _ if self.filled < MESSAGE_START => Ok(()),
            (3, 0) => Err(Stop::NotTls(NotTls::Ssl3)),
            (3, _) => Ok(()),
            _ => Err(Malformed::BadVersion.into()),
        }
    }
}
