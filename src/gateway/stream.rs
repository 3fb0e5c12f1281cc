//! What an exchange asks of the client's side, whatever protocol the client speaks.
//!
//! A request body is drained into the upstream's buffer, a response is queued piece by piece and flushed. HTTP/1
//! implements both in [`crate::downstream`]; another protocol stands beside it.

use std::io;
use std::os::fd::RawFd;

use monoio::io::CancelHandle;

use super::bulk::End;
use crate::message::{BodyLength, ResponseHead};
use crate::sys::buffer::Buffer;
use crate::sys::socket::Socket;

/// One side of a tunnel or exchange: bytes both ways, over TCP or TLS ([`crate::wire::Wire`]).
pub trait ByteStream {
    /// Waits until a read is likely not to wait.
    ///
    /// # Errors
    /// When the connection has failed.
    fn readable(&self) -> impl Future<Output = io::Result<()>>;

    /// Appends what arrives to `buffer`, which must have room; `Ok(0)` is the end of the stream.
    fn read(&self, buffer: Buffer) -> impl Future<Output = (io::Result<usize>, Buffer)>;

    /// As [`Self::read`], ended early with `ECANCELED` by the handle's canceller.
    fn read_cancelable(
        &self,
        buffer: Buffer,
        handle: CancelHandle,
    ) -> impl Future<Output = (io::Result<usize>, Buffer)>;

    /// Sends all of `buffer` and returns it empty. Calls `advance` before each piece.
    fn write_all(&self, buffer: Buffer, advance: impl Fn())
    -> impl Future<Output = (io::Result<()>, Buffer)>;

    /// Ends sending; the other direction goes on.
    fn end_sending(&self);

    /// What was sent is not whole and must not look so to the peer.
    fn cut(&self);

    /// The socket, where the bytes are those on the socket.
    fn plain(&self) -> Option<&Socket>;

    /// The socket below.
    fn socket(&self) -> &Socket;
}

/// Why a request body could not be read on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyError {
    /// The client closed or reset in the middle.
    Gone,
    /// The framing is broken: this reason code, 400.
    Malformed(&'static str),
    /// Timer `body_gap`: 408.
    TimedOut,
}

/// A request's content as it arrives.
pub trait RequestBody {
    /// Appends what has arrived to `out`, in `framing` (`Known` as it is, `Chunked` as chunks with trailers). Returns
    /// whether the body is complete.
    ///
    /// # Errors
    /// When the framing is broken.
    fn drain_into(&mut self, out: &mut Buffer, framing: BodyLength) -> Result<bool, BodyError>;

    /// Waits until more has arrived.
    ///
    /// # Errors
    /// When the client is gone or too slow.
    fn fill(&mut self) -> impl Future<Output = Result<(), BodyError>>;

    /// The plain socket that the rest of a body of known length comes from as it is, and the length of that rest;
    /// `None` while something that arrived has not been drained, or where it is framed or encrypted.
    fn plain(&self) -> Option<(End<'_>, u64)>;

    /// The rest of the body was taken from the plain socket.
    fn taken(&mut self);

    /// Says why taking from the plain socket failed.
    fn fault(&self) -> BodyError;
}

/// The client does not take the response: it closed, reset, or stopped reading for `write_gap`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SinkClosed;

/// Where a response goes. Queued bytes are bounded by the callers, which flush before they read on.
pub trait ResponseSink {
    /// Queues an informational head (1xx); does nothing where the client's protocol version has none.
    fn informational(&mut self, head: &ResponseHead, bytes: &[u8]);

    /// The connection ends after this response: the request's body will not be read to its end. Only before `head`.
    fn close(&mut self);

    /// Queues a final head. `body` is what follows; the sink chooses the framing for its client.
    fn head(&mut self, head: &ResponseHead, bytes: &[u8], body: BodyLength);

    /// Queues the first `count` bytes of `from` and consumes them; may take the buffer itself and leave an empty one.
    fn content(&mut self, from: &mut Buffer, count: usize);

    /// Ends the content; trailers go to clients that can take them.
    fn finish<'t>(&mut self, trailers: impl Iterator<Item = (&'t [u8], &'t [u8])>);

    /// Queues an answer of ringgate itself. Only before `head`.
    fn reply(&mut self, status: u16, reason: &'static str);

    /// The content can not be completed: whatever the client has must not look whole to it.
    fn cut(&mut self);

    /// Sends what is queued.
    ///
    /// # Errors
    /// When the client does not take it.
    fn flush(&mut self) -> impl Future<Output = Result<(), SinkClosed>>;

    /// Whether a flush was given up before its end: part of a message may be with the client, and nothing that follows
    /// could be told from it.
    fn is_interrupted(&self) -> bool;

    /// The descriptor of the client's connection, where one request has it for itself.
    fn client(&self) -> Option<RawFd>;

    /// The plain socket behind the sink, where content of known length can go as it is once everything queued was
    /// flushed; `None` where it is framed or encrypted.
    fn plain(&self) -> Option<End<'_>>;
}
