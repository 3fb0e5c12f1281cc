//! One request and its response: picks endpoints, makes attempts, settles what happens when one fails.
//!
//! Nothing of a response is shown to the client before an endpoint's head is whole, so up to then another attempt or an
//! answer of ours is possible. A request goes out again only when that can not do harm: nothing of it was sent, or
//! the connection was a pooled one that died before any byte of a response, the method is idempotent and all that was
//! sent is still at hand.

use std::rc::Rc;

use super::attempt::{Attempt, AttemptError, Finished};
use super::plan::{LocalReply, Plan};
use super::stream::{BodyError, RequestBody, ResponseSink};
use crate::message::ResponseHead;
use crate::shard::Shard;
use crate::shard::installed::Installed;
use crate::sys::buffer::Buffer;
use crate::table::ClusterTable;
use crate::upstream::balance::Tried;
use crate::upstream::connect::{DialError, dial};
use crate::upstream::own::{Key, Own};
use crate::upstream::pool::{Connection, Endpoint};

/// Endpoints dialled for one request or relay at most: the first and two more, as Istio's default retries.
pub(super) const DIALS_MAX: usize = 3;

/// How an exchange ended.
pub enum Ended {
    /// A whole response is queued in the sink.
    Complete,
    /// The response broke off; the sink was told.
    Cut,
    /// The client is gone.
    Gone,
    /// The endpoint switched protocols; its head is queued.
    Upgraded {
        /// The endpoint's connection.
        upstream: Box<Connection>,
        /// What came behind the head.
        received: Buffer,
    },
}

/// Carries out a planned request.
pub async fn run<B: RequestBody, S: ResponseSink>(
    shard: &Rc<Shard>,
    installed: &Installed,
    plan: Plan,
    own: &Own<'_>,
    body: &mut B,
    sink: &mut S,
    response: &mut ResponseHead,
) -> Ended {
    let Plan { cluster, outgoing, framing, method, upgrade } = plan;
    let Some(settings) = installed.table().clusters().get(cluster) else {
        return reply(shard, sink, LocalReply { status: 503, reason: "no_cluster" }, false);
    };
    let endpoints = installed.endpoints.get(cluster).map_or(&[][..], Vec::as_slice);
    let mut attempt = match Attempt::new(shard, settings, outgoing, framing, method, upgrade, body) {
        Ok(attempt) => attempt,
        Err(error) => return body_failed(shard, sink, error),
    };
    let mut tried = Tried::new();
    let mut dials = 0;
    let mut failure = LocalReply { status: 503, reason: "no_endpoint" };
    let mut endpoint_again = None;
    loop {
        // An endpoint that just could not be reached is not dialled again at once: a dead one would cost a client the
        // time of several dials.
        let fresh = || settings.rotor.pick(&tried).filter(|index| !tried.contains(*index));
        let picked = endpoint_again.take().or_else(fresh);
        let Some((index, endpoint)) = picked.and_then(|index| Some((index, endpoints.get(index)?))) else {
            return reply(shard, sink, failure, attempt.has_whole_body());
        };
        let key = Key { generation: installed.table().generation, cluster, endpoint: index };
        let pool = Pool { own, key, endpoint };
        let connection = match pool.connect(shard, settings, &attempt, &mut dials).await {
            Ok(connection) => connection,
            Err(error) => {
                let (status, reason) = error.reply();
                failure = LocalReply { status, reason };
                if dials >= DIALS_MAX {
                    return reply(shard, sink, failure, attempt.has_whole_body());
                }
                tried.insert(index);
                continue;
            }
        };
        match attempt.run(&connection, body, sink, response).await {
            Ok(Finished::Complete { reusable }) => {
                if reusable {
                    pool.put(shard, settings, connection);
                }
                return Ended::Complete;
            }
            Ok(Finished::Upgraded { received }) => {
                return Ended::Upgraded { upstream: Box::new(connection), received };
            }
            Err(AttemptError::Again) => {
                // The connection was stale, the endpoint may be well: once more, on a fresh one.
                shard.stats.upstream_replays.add();
                endpoint_again = Some(index);
            }
            Err(error) => {
                if let AttemptError::Upstream(_, fault) | AttemptError::Cut(Some(fault)) = &error {
                    endpoint.note(&settings.name, *fault, shard.deadlines.now_ms());
                }
                return failed(shard, sink, error, attempt.has_whole_body());
            }
        }
    }
}

/// Ends an exchange that failed for good.
fn failed<S: ResponseSink>(shard: &Shard, sink: &mut S, error: AttemptError, whole_body: bool) -> Ended {
    match error {
        // An answer would stand in the middle of an informational head that the client has not taken.
        AttemptError::Body(_) if sink.is_interrupted() => Ended::Gone,
        AttemptError::Body(error) => body_failed(shard, sink, error),
        AttemptError::Upstream(failure, _) => reply(shard, sink, failure, whole_body),
        AttemptError::Cut(_) => {
            shard.stats.responses_cut.add();
            sink.cut();
            Ended::Cut
        }
        AttemptError::Again | AttemptError::ClientGone => Ended::Gone,
    }
}

/// Where connections to an endpoint come from, and go to when they rest: all clients share them, unless each speaks for
/// one client.
struct Pool<'p> {
    own: &'p Own<'p>,
    key: Key,
    endpoint: &'p Endpoint,
}

impl Pool<'_> {
    async fn connect(
        &self,
        shard: &Rc<Shard>,
        settings: &ClusterTable,
        attempt: &Attempt<'_>,
        dials: &mut usize,
    ) -> Result<Connection, DialError> {
        let now_ms = shard.deadlines.now_ms();
        let pooled = || match settings.proxy_protocol {
            None => self.endpoint.take(now_ms),
            Some(_) => self.own.pools.take(self.key, now_ms),
        };
        if !attempt.wants_fresh()
            && let Some(connection) = pooled()
        {
            return Ok(connection);
        }
        *dials += 1;
        let header = settings.proxy_protocol.map(self.own.header).unwrap_or_default();
        dial(shard, self.endpoint, settings, &header).await
    }

    fn put(&self, shard: &Shard, settings: &ClusterTable, connection: Connection) {
        let now_ms = shard.deadlines.now_ms();
        let Self { own, key, endpoint } = *self;
        let kept_max = settings.idle_connections_max;
        if settings.proxy_protocol.is_none() {
            endpoint.put(connection, now_ms, settings.idle_timeout, kept_max);
        } else if kept_max > 0 {
            own.pools.put(key, endpoint, connection, now_ms, settings.idle_timeout);
        }
    }
}

/// Answers instead of an endpoint. A body that was not read to its end makes the answer the connection's last.
fn reply<S: ResponseSink>(shard: &Shard, sink: &mut S, reply: LocalReply, whole_body: bool) -> Ended {
    if !whole_body {
        sink.close();
    }
    reply.count(&shard.stats);
    sink.reply(reply.status, reply.reason);
    Ended::Complete
}

fn body_failed<S: ResponseSink>(shard: &Shard, sink: &mut S, error: BodyError) -> Ended {
    match error {
        BodyError::Gone => Ended::Gone,
        BodyError::Malformed(reason) => reply(shard, sink, LocalReply { status: 400, reason }, false),
        BodyError::TimedOut => reply(shard, sink, LocalReply { status: 408, reason: "body_timeout" }, false),
    }
}
