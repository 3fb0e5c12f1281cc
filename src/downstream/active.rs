//! A session while requests follow closely: reads heads, has each request carried out, sends responses.
//!
//! The end of a response and the next request's arrival are submitted together while the connection is hot; after
//! [`HOT`] without a request the buffers and parsed heads go back to the shard.

use std::time::Duration;

use super::linger::linger;
use super::request_body::{Http1RequestBody, chunk_limits};
use super::response_sink::{Http1ResponseSink, ResponseTerms, send};
use super::session::Session;
use crate::config::model::{Limits, Timeouts, TlsTerms};
use crate::gateway::exchange::{self, Ended};
use crate::gateway::plan::{self, Client, LocalReply, Planned, Refused};
use crate::gateway::stream::{ByteStream, ResponseSink, SinkClosed};
use crate::gateway::tunnel;
use crate::http1::refusal::Refusal;
use crate::http1::request::parse_request;
use crate::http1::scan::{HeadLimits, Progress, Scan};
use crate::message::{Method, RequestHead, Version};
use crate::shard::Shard;
use crate::shard::deadlines::{OnDue, Timer};
use crate::shard::installed::Installed;
use crate::shard::turn::REQUEST_COST;
use crate::sys::buffer::{Buffer, Class};
use crate::table::ListenerId;
use crate::upstream;
use crate::upstream::own::Own;

/// How long a connection keeps its buffers between requests. A sweep of the deadline list rounds it up.
const HOT: Duration = Duration::from_millis(5);

/// Beyond `buffer_bytes_max` no session gets a buffer, or a larger one, for a further request.
const BUFFERS_EXHAUSTED: LocalReply = LocalReply { status: 503, reason: "buffers_exhausted" };

/// Beyond a gateway's `connections_max`.
const CROWDED_OUT: LocalReply = LocalReply { status: 503, reason: "gateway_connections_max" };

/// Heads kept by a shard for the next active sessions.
const SCRATCH_KEPT_MAX: usize = 256;

/// Allocations that one active session needs and the next reuses.
#[derive(Default)]
pub struct Scratch {
    /// Request head.
    pub request: RequestHead,
    /// Response head.
    pub response: crate::message::ResponseHead,
    /// Normal form of a path that did not arrive in it.
    pub path: Vec<u8>,
}

/// What an active session turns into.
pub(super) enum Next {
    Closed,
    Idle,
}

/// The state of an active session.
struct Connection<'s> {
    session: &'s Session,
    write_timer: Timer,
    input: Buffer,
    output: Buffer,
    scratch: Scratch,
    scan: Scan,
    limits: Limits,
    timeouts: Timeouts,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.session.shard.keep_scratch(std::mem::take(&mut self.scratch));
    }
}

/// What reading a head came to.
enum HeadRead {
    /// In the scratch.
    Complete,
    Closed,
    Idle,
    Refused(LocalReply),
}

/// What the connection does after a request.
enum AfterRequest {
    /// The response is queued and the connection goes on.
    Continue,
    /// Nothing further is to be sent.
    Drop,
    /// The response is queued; flush, then close, lingering unless the client itself wanted the end.
    Finish { linger: bool },
}

/// Serves requests until they stop coming. `early` is what came of the first already.
pub(super) async fn active(session: &Session, early: Buffer) -> Next {
    let shard = &session.shard;
    let Some((installed, id)) = session.listener.resolve(shard) else { return Next::Closed };
    let gateway = installed.table().listener_gateway(id);
    let mut connection = Connection {
        session,
        write_timer: shard.deadlines.timer(session.wire.fd()),
        input: early,
        output: Buffer::default(),
        scratch: shard.take_scratch(),
        scan: Scan::default(),
        limits: gateway.limits.clone(),
        timeouts: gateway.timeouts.clone(),
    };
    drop(installed);
    let next = connection.run().await;
    session.timer.forget_canceller();
    next
}

impl Connection<'_> {
    async fn run(&mut self) -> Next {
        let refusal = match self.session.crowded_out.get() {
            true => Some(CROWDED_OUT),
            false => self.session.shard.process.buffers_exhausted().then_some(BUFFERS_EXHAUSTED),
        };
        if let Some(refusal) = refusal {
            self.refuse(refusal);
            if self.flush().await.is_ok() {
                self.linger().await;
            }
            return Next::Closed;
        }
        if self.input.is_placeholder() {
            self.input = Buffer::new(Class::Small);
        }
        let open = &self.session.shard.stats.exchanges_open;
        loop {
            let mut under_way = false;
            let after = match self.read_head().await {
                HeadRead::Complete => {
                    open.add();
                    under_way = true;
                    self.exchange().await
                }
                HeadRead::Closed => return Next::Closed,
                HeadRead::Idle => return Next::Idle,
                HeadRead::Refused(reply) => self.refuse(reply),
            };
            // The last response of a connection is sent here. What is queued of others goes out together with the next
            // look for a request.
            let flushed = !matches!(after, AfterRequest::Finish { .. }) || self.flush().await.is_ok();
            if under_way {
                open.sub();
            }
            match after {
                AfterRequest::Continue => self.session.shard.give_way(REQUEST_COST).await,
                AfterRequest::Drop => return Next::Closed,
                AfterRequest::Finish { linger } => {
                    if flushed && linger {
                        self.linger().await;
                    }
                    return Next::Closed;
                }
            }
        }
    }

    /// Reads until a whole head is in the input. Sends what is queued before it waits.
    async fn read_head(&mut self) -> HeadRead {
        self.scan.reset();
        let limits = HeadLimits {
            head_bytes_max: self.limits.head_bytes_max as usize,
            headers_max: self.limits.headers_max as usize,
            target_bytes_max: self.limits.target_bytes_max as usize,
        };
        let mut head_timer_runs = false;
        loop {
            if !self.input.is_empty() {
                match parse_request(self.input.filled(), &mut self.scan, &limits, &mut self.scratch.request) {
                    Ok(Progress::Complete) => {
                        if head_timer_runs {
                            self.session.timer.disarm();
                        }
                        return HeadRead::Complete;
                    }
                    Ok(Progress::Incomplete) => {}
                    Err(refusal) => return HeadRead::Refused(refusal.into()),
                }
                if self.input.spare() == 0 && self.session.shard.process.buffers_exhausted() {
                    return HeadRead::Refused(BUFFERS_EXHAUSTED);
                }
                if !self.input.make_room(Class::Large.bytes()) {
                    return HeadRead::Refused(Refusal::HeadTooLarge.into());
                }
            }
            let partial = !self.input.is_empty() || self.session.wire.is_mid_record();
            if partial && !head_timer_runs {
                // From the head's first bytes on, whatever trickles in later: a slow head has this long in all.
                self.session.timer.arm(self.timeouts.header, OnDue::CancelRead);
                head_timer_runs = true;
            }
            match self.receive(partial).await {
                Received::Bytes => {}
                Received::End if partial && self.session.timer.fired() => {
                    self.session.shard.stats.timeout_header.add();
                    return HeadRead::Refused(LocalReply { status: 408, reason: "header_timeout" });
                }
                Received::End => return HeadRead::Closed,
                // The rest of a record is waited for as that of a head.
                Received::Nothing if self.session.wire.is_mid_record() => {}
                Received::Nothing => return HeadRead::Idle,
            }
        }
    }

    /// Sends what is queued and, together with it, reads on.
    async fn receive(&mut self, partial: bool) -> Received {
        let session = self.session;
        if session.readable.take() {
            let input = std::mem::take(&mut self.input);
            let (result, input) = if session.wire.is_tls() {
                // What came may be part of a record.
                session.timer.arm(self.timeouts.header, OnDue::CancelRead);
                session.wire.read_cancelable(input, session.timer.cancel_handle()).await
            } else {
                session.wire.read(input).await
            };
            self.input = input;
            if result.is_err() && session.timer.fired() {
                session.shard.stats.timeout_header.add();
            }
            return if matches!(result, Ok(1..)) {
                // It bounded the wait for these bytes; left armed, it would end a long exchange's connection.
                session.timer.disarm();
                Received::Bytes
            } else {
                Received::End
            };
        }
        if !partial && !session.hot.get() {
            return if self.flush().await.is_ok() { Received::Nothing } else { Received::End };
        }
        self.input.compact();
        let input = std::mem::take(&mut self.input);
        let read = async {
            if !partial {
                session.timer.arm(HOT, OnDue::CancelRead);
            }
            session.wire.read_cancelable(input, session.timer.cancel_handle()).await
        };
        let write = async {
            if self.output.is_empty() {
                return Ok(());
            }
            let (wire, stats) = (&session.wire, &session.shard.stats);
            let sent = send(wire, &self.write_timer, stats, &mut self.output, self.timeouts.write_gap).await;
            // Nobody may need it for as long as the connection stays hot.
            self.output = Buffer::default();
            sent
        };
        let (sent, (result, input)) = monoio::join!(write, read);
        self.input = input;
        match result {
            _ if sent.is_err() => Received::End,
            Ok(1..) => {
                if !partial {
                    session.timer.disarm();
                }
                Received::Bytes
            }
            Err(error) if !partial && error.raw_os_error() == Some(libc::ECANCELED) => {
                session.hot.set(false);
                Received::Nothing
            }
            _ => Received::End,
        }
    }

    async fn flush(&mut self) -> Result<(), SinkClosed> {
        if self.output.is_empty() {
            return Ok(());
        }
        let (wire, stats) = (&self.session.wire, &self.session.shard.stats);
        send(wire, &self.write_timer, stats, &mut self.output, self.timeouts.write_gap).await
    }

    /// Queues the answer to a request that could not be read to its end.
    fn refuse(&mut self, reply: LocalReply) -> AfterRequest {
        reply.count(&self.session.shard.stats);
        let terms = ResponseTerms { version: Version::Http11, method: Method::Get, close: true, hsts: None };
        let mut sink = Http1ResponseSink::new(
            &self.session.shard,
            &self.session.wire,
            &self.write_timer,
            &mut self.output,
            self.timeouts.write_gap,
            terms,
        );
        sink.reply(reply.status, reply.reason);
        AfterRequest::Finish { linger: true }
    }

    /// Serves the request whose head is in the scratch.
    async fn exchange(&mut self) -> AfterRequest {
        let session = self.session;
        let shard = &session.shard;
        shard.stats.requests.add();
        session.served.set(session.served.get().saturating_add(1));
        let Some((installed, listener)) = session.listener.resolve(shard) else { return AfterRequest::Drop };
        if self.output.is_placeholder() {
            self.output = Buffer::new(Class::Small);
        }
        let Scratch { request: head, response, path } = &mut self.scratch;
        let Planned { hsts, outcome: planned } =
            plan(session, &installed, listener, head, self.input.filled(), path);
        // Answers before this one must not wait for its endpoint, nor pile up.
        if !self.output.is_empty() && (planned.is_ok() || self.output.len() >= Class::Small.bytes()) {
            let (wire, stats, gap) = (&session.wire, &shard.stats, self.timeouts.write_gap);
            if send(wire, &self.write_timer, stats, &mut self.output, gap).await.is_err() {
                return AfterRequest::Drop;
            }
        }
        let (client_closes, body) = (!head.keep_alive, head.body);
        let terms = ResponseTerms {
            version: head.version,
            method: head.method,
            close: client_closes || session.is_ending(&self.limits),
            hsts,
        };
        self.input.consume(head.head_len);
        let mut body = Http1RequestBody::new(
            &session.wire,
            &session.timer,
            &shard.stats,
            &mut self.input,
            body,
            self.timeouts.body_gap,
            chunk_limits(self.limits.head_bytes_max, self.limits.headers_max),
        );
        let mut sink = Http1ResponseSink::new(
            shard,
            &session.wire,
            &self.write_timer,
            &mut self.output,
            self.timeouts.write_gap,
            terms,
        );
        let ended = match planned {
            Ok(plan) => {
                let own = Own { pools: &session.own, header: &|version| session.proxy_header(version, None) };
                exchange::run(shard, &installed, plan, &own, &mut body, &mut sink, response).await
            }
            Err(Refused { reply, location, close }) => {
                if !body.discard_buffered() || close {
                    sink.close();
                }
                reply.count(&shard.stats);
                sink.answer(reply.status, reply.reason, location.as_deref());
                Ended::Complete
            }
        };
        let (whole, closes) = (body.is_complete(), sink.closes());
        drop(installed);
        match ended {
            Ended::Complete if closes || !whole => AfterRequest::Finish { linger: !whole || !client_closes },
            Ended::Complete => AfterRequest::Continue,
            Ended::Cut => AfterRequest::Finish { linger: false },
            Ended::Gone => AfterRequest::Drop,
            Ended::Upgraded { upstream, received } => self.tunnel(*upstream, received).await,
        }
    }

    /// Sends the head that switched protocols, then relays bytes to the end.
    async fn tunnel(&mut self, upstream: upstream::pool::Connection, received: Buffer) -> AfterRequest {
        let early = std::mem::take(&mut self.input);
        if self.flush().await.is_ok() {
            self.output = Buffer::default();
            let Session { shard, wire, timer, .. } = self.session;
            tunnel::relay(shard, wire, timer, early, upstream, received, self.timeouts.tunnel_idle).await;
        }
        AfterRequest::Drop
    }

    async fn linger(&mut self) {
        // What still comes is dropped unseen; many may linger at once.
        (self.input, self.output) = (Buffer::default(), Buffer::default());
        let session = self.session;
        linger(&session.shard, &session.wire, &session.timer, self.timeouts.linger).await;
    }
}

/// Plans a request of the session.
fn plan<'t>(
    session: &Session,
    installed: &'t Installed,
    listener: ListenerId,
    head: &RequestHead,
    bytes: &[u8],
    path: &mut Vec<u8>,
) -> Planned<'t> {
    let is_good_for = |terms: &TlsTerms| session.is_client_good_for(terms);
    let (peer, tls) = (session.client().ip(), session.wire.made_for());
    let client = Client { peer, tls, is_good_for: &is_good_for };
    plan::plan(&session.shard, installed, listener, head, bytes, client, path)
}

/// What came of waiting for bytes.
enum Received {
    Bytes,
    End,
    Nothing,
}

impl Shard {
    fn take_scratch(&self) -> Scratch {
        self.scratch.borrow_mut().pop().unwrap_or_default()
    }

    fn keep_scratch(&self, scratch: Scratch) {
        let mut kept = self.scratch.borrow_mut();
        if kept.len() < SCRATCH_KEPT_MAX {
            kept.push(scratch);
        }
    }
}
