//! Bytes both ways between a client and an endpoint until both sides have ended, each end passed on as it comes
//! (half-close). Upgraded connections ([`super::tunnel`]) and those that no request is read from
//! ([`super::passthrough`]) come here.
//!
//! A direction that rests holds no buffer. One that moves much at a time is spliced where both sides are plain, and goes
//! back to copying when it rests. When a side breaks off, the other is reset: what it has must not look whole. No byte in
//! either direction for `idle`, the end of `duration_max` or that of a drain cuts both in the same way.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use super::bulk::{keep_pipe, take_pipe};
use super::race::beside;
use super::stream::ByteStream;
use crate::shard::Shard;
use crate::shard::deadlines::{OnDue, Timer};
use crate::shard::turn::TURN_BYTES;
use crate::sys::buffer::{Buffer, Class};
use crate::sys::socket::Socket;
use crate::sys::splice::{Splice, Step};

/// How long a direction keeps its buffer for the next bytes. A sweep of the deadline list rounds it up.
const HOT: Duration = Duration::from_millis(5);

/// After a wait that was no longer than this, two sweeps, the next is worth a buffer.
const SOON_MS: u64 = 40;

/// How long a spliced direction keeps its pipe for the next bytes.
const PIPE_REST: Duration = Duration::from_millis(500);

/// Bytes moved by reads that nearly filled a large buffer, after which a direction is spliced.
const BULK_BYTES: usize = 256 * 1024;

/// One side: its bytes, and a timer on its socket.
pub(super) struct Side<'s, S> {
    pub(super) stream: &'s S,
    pub(super) timer: &'s Timer,
}

/// How long a relay may last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Without a byte in either direction.
    pub(super) idle: Duration,
    /// In all.
    pub(super) duration_max: Option<Duration>,
}

/// How a relay ended. Unless both sides did so by themselves, both were cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// A side broke off.
    Broken,
    /// Both sides ended, the client first.
    ClientClosed,
    /// The drain's time was up.
    Drained,
    /// Both sides ended, the endpoint first.
    EndpointClosed,
    /// It lasted for `duration_max`.
    Expired,
    /// Nothing came for `idle`.
    Idle,
}

impl End {
    /// A word for logs.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Broken => "error",
            Self::ClientClosed => "client_closed",
            Self::Drained => "drain",
            Self::EndpointClosed => "endpoint_closed",
            Self::Expired => "max_connection_duration",
            Self::Idle => "idle_timeout",
        }
    }
}

/// What a relay came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relayed {
    pub(super) end: End,
    /// Bytes from the client.
    pub(super) received: u64,
    /// Bytes to the client.
    pub(super) sent: u64,
}

/// A side failed.
struct Broken;

/// What both directions share.
struct Watch<'w> {
    shard: &'w Shard,
    idle: Duration,
    /// When the relay is over at the latest.
    expires_ms: u64,
    timer: &'w Timer,
    /// Which side ended first.
    first: Cell<Option<End>>,
}

impl Watch<'_> {
    /// Begins the time without a byte anew, unless it was up.
    fn rearm(&self) {
        if !self.timer.fired() {
            self.arm();
        }
    }

    fn arm(&self) {
        let left_ms = self.expires_ms.saturating_sub(self.shard.deadlines.now_ms());
        // Armed anew at its end, a relay that is never at rest would push it on for ever.
        if left_ms > 0 {
            let due = self.idle.min(Duration::from_millis(left_ms));
            self.timer.arm(due, OnDue::EndRelay);
        }
    }
}

/// Relays between `client` and `upstream`. `early` and `received` are what came from each before.
pub(super) async fn relay(
    shard: &Shard,
    client: Side<'_, impl ByteStream>,
    upstream: Side<'_, impl ByteStream>,
    early: Buffer,
    received: Buffer,
    terms: Terms,
) -> Relayed {
    let now_ms = shard.deadlines.now_ms();
    let expires_ms = terms
        .duration_max
        .and_then(|duration| u64::try_from(duration.as_millis()).ok())
        .map_or(u64::MAX, |duration| now_ms.saturating_add(duration));
    // One timer is enough; what the other was for is over.
    upstream.timer.disarm();
    let watch = Watch { shard, idle: terms.idle, expires_ms, timer: client.timer, first: Cell::default() };
    watch.arm();
    let inward = Direction::new(&watch, client.stream, upstream.stream, End::ClientClosed);
    let outward = Direction::new(&watch, upstream.stream, client.stream, End::EndpointClosed);
    let ended = {
        let both = async {
            let mut inward = pin!(inward.run(early));
            let mut outward = pin!(outward.run(received));
            match beside(inward.as_mut(), outward.as_mut()).await {
                Ok((Ok(()), true)) => Ok(()),
                Ok((Ok(()), false)) => inward.await,
                Ok((Err(_), _)) | Err(_) => Err(Broken),
            }
        };
        // What is still pending when one fails, or the time is up, is dropped, which is fine on sockets that are not
        // used again.
        monoio::select! {
            ended = both => Some(ended),
            () = watch.timer.expiry() => None,
        }
    };
    watch.timer.disarm();
    let end = match ended {
        Some(Ok(())) => watch.first.get().unwrap_or(End::ClientClosed),
        Some(Err(Broken)) => End::Broken,
        None if shard.is_cutting() => End::Drained,
        None if shard.deadlines.now_ms() >= expires_ms => End::Expired,
        None => End::Idle,
    };
    // An end that neither side meant must not look like one.
    if !matches!(ended, Some(Ok(()))) {
        client.stream.cut();
        upstream.stream.cut();
        client.stream.socket().reset_on_close();
        upstream.stream.socket().reset_on_close();
    }
    Relayed { end, received: inward.moved.get(), sent: outward.moved.get() }
}

/// One way.
struct Direction<'d, F, T> {
    watch: &'d Watch<'d>,
    from: &'d F,
    to: &'d T,
    moved: Cell<u64>,
    /// What it means that this way ends first.
    end: End,
}

/// How a direction waits for bytes.
struct Wait {
    /// They are expected soon enough to wait with a buffer.
    soon: bool,
    /// Ends such a wait.
    timer: Option<Timer>,
}

/// What a spliced direction came to.
enum Spliced {
    Ended,
    NoPipe,
    Rests,
}

impl<'d, F: ByteStream, T: ByteStream> Direction<'d, F, T> {
    fn new(watch: &'d Watch<'d>, from: &'d F, to: &'d T, end: End) -> Self {
        Self { watch, from, to, moved: Cell::new(0), end }
    }

    fn count(&self, bytes: usize) {
        self.moved.set(self.moved.get() + bytes as u64);
    }

    async fn run(&self, mut buffer: Buffer) -> Result<(), Broken> {
        let shard = self.watch.shard;
        let mut plain = self.from.plain().zip(self.to.plain());
        let mut bulk_bytes = 0;
        let mut wait = Wait { soon: true, timer: None };
        loop {
            if !buffer.is_empty() {
                let (filled, count) = (buffer.spare() == 0, buffer.len());
                let (result, returned) = self.to.write_all(buffer, || self.watch.rearm()).await;
                buffer = returned;
                buffer.clear();
                result.map_err(|_| Broken)?;
                self.count(count);
                bulk_bytes = if count >= Class::Large.bytes() / 4 * 3 { bulk_bytes + count } else { 0 };
                if bulk_bytes >= BULK_BYTES
                    && let Some((from, to)) = plain
                {
                    drop(std::mem::take(&mut buffer));
                    match self.splice(from, to).await? {
                        Spliced::Ended => break,
                        Spliced::NoPipe => plain = None,
                        Spliced::Rests => {}
                    }
                    bulk_bytes = 0;
                }
                // A read that filled its buffer has more behind it.
                if filled && !shard.process.buffers_exhausted() {
                    buffer = Buffer::new(Class::Large);
                }
            }
            let (result, returned) = self.read(buffer, &mut wait).await;
            buffer = returned;
            match result {
                Ok(0) => break,
                Ok(count) => {
                    self.watch.rearm();
                    shard.give_way(count).await;
                }
                Err(_) => return Err(Broken),
            }
        }
        self.watch.first.set(self.watch.first.get().or(Some(self.end)));
        self.to.end_sending();
        Ok(())
    }

    /// Reads what comes next; the wait for it is soon one without a buffer, and so are the following ones while bytes come
    /// slowly: to cancel a read costs more than the wait for a socket that is readable.
    async fn read(&self, buffer: Buffer, wait: &mut Wait) -> (std::io::Result<usize>, Buffer) {
        let deadlines = &self.watch.shard.deadlines;
        let since_ms = deadlines.now_ms();
        if buffer.spare() > 0 && wait.soon {
            let timer = wait.timer.get_or_insert_with(|| deadlines.timer(self.from.socket().fd()));
            timer.arm(HOT, OnDue::CancelRead);
            let (result, returned) = self.from.read_cancelable(buffer, timer.cancel_handle()).await;
            timer.disarm();
            match result {
                Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => {}
                result => return (result, returned),
            }
        } else {
            drop(buffer);
        }
        wait.timer = None;
        if let Err(error) = self.from.readable().await {
            return (Err(error), Buffer::default());
        }
        wait.soon = deadlines.now_ms() - since_ms <= SOON_MS;
        self.from.read(Buffer::new(Class::Small)).await
    }

    /// Has the kernel move bytes until none come for a while.
    async fn splice(&self, from: &Socket, to: &Socket) -> Result<Spliced, Broken> {
        let shard = self.watch.shard;
        let Some(pipe) = take_pipe(shard) else { return Ok(Spliced::NoPipe) };
        shard.stats.spliced_relays.add();
        let mut splice = Splice::new(from, to, pipe, shard.epoll);
        let mut ended = false;
        let spliced = loop {
            let taken = match splice.fill(TURN_BYTES).map_err(|_| Broken)? {
                Step::Moved(count) => count,
                Step::WouldWait => 0,
                Step::Ended => {
                    ended = true;
                    0
                }
            };
            if taken > 0 {
                self.watch.rearm();
            }
            match splice.empty().map_err(|_| Broken)? {
                Step::Ended => return Err(Broken),
                Step::WouldWait => to.writable().await.map_err(|_| Broken)?,
                Step::Moved(given) => {
                    self.count(given);
                    if given > 0 {
                        self.watch.rearm();
                    }
                    if splice.pending() > 0 || taken > 0 {
                        self.give_way(to, given).await;
                    } else if ended {
                        break Spliced::Ended;
                    } else if !self.more_comes(from).await? {
                        break Spliced::Rests;
                    }
                }
            }
        };
        keep_pipe(shard, splice);
        Ok(spliced)
    }

    /// Lets others run: these calls never wait by themselves. On io_uring the wait for a socket that is writable does it.
    async fn give_way(&self, to: &Socket, count: usize) {
        let shard = self.watch.shard;
        if shard.epoll {
            shard.give_way(count).await;
        } else if count >= TURN_BYTES / 4 {
            let _ = to.writable().await;
        }
    }

    /// Waits for a while whether more comes.
    async fn more_comes(&self, from: &Socket) -> Result<bool, Broken> {
        let timer = self.watch.shard.deadlines.timer(from.fd());
        timer.arm(PIPE_REST, OnDue::StopWaiting);
        monoio::select! {
            ready = from.readable() => ready.map(|()| true).map_err(|_| Broken),
            () = timer.expiry() => Ok(false),
        }
    }
}
