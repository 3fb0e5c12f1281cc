//! One round of `idle-connections` or `tls-idle`: what connections that do nothing add to a proxy's resident memory.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::measure::{ANY_HOST, Bench, remember, verify, wanted};
use super::peers::{Hosts, Installed, Running};
use super::process::{check_interrupted, descriptors_max, pause};
use super::result::{Metric, Samples};
use super::scenario::LoadWork;
use super::verify::{Question, Stream, ask_kept};

/// Time between two looks at memory, and looks without a change that make it settled.
const LOOK: Duration = Duration::from_millis(200);
const LOOKS: u32 = 5;

/// What counts as no change: a few pages.
const SAME_BYTES: u64 = 32 * 1024;

/// Memory may be handed back slowly; what it is after this time counts.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Descriptors of this process beside the connections.
const OTHER_DESCRIPTORS: u64 = 64;

/// A proxy for connections that never ask, and another for those that are idle after a request.
pub(crate) fn round(
    bench: &Bench,
    installed: &Installed,
    work: &LoadWork,
    samples: &mut Samples,
) -> Result<(), String> {
    // A proxy needs as many, and some more for the backend.
    let (needed, limit) = (work.connections as u64 + OTHER_DESCRIPTORS, descriptors_max());
    if needed > limit {
        return Err(format!(
            "{} connections need {needed} descriptors and the limit is {limit}: raise `ulimit -n` or lower \
             --idle-connections",
            work.connections
        ));
    }
    for (metric, speaks) in [(Metric::SilentBytes, false), (Metric::IdleBytes, true)] {
        let folder = bench.folder(installed.peer)?;
        let mut proxy = Running::start(installed, &wanted(bench, &folder, &Hosts::Any, work, false))?;
        // It also fills what is allocated once, with the first request.
        verify(bench, installed.peer, proxy.address, work, &Hosts::Any)?;
        let before = settled(&proxy)?;
        let trust = work.edge.is_secure().then_some(&bench.pki.trust);
        let open = connect(proxy.address, work, trust, speaks)?;
        let after = settled(&proxy)?;
        proxy.check_alive()?;
        let closed = open.iter().filter(|stream| stream.is_closed()).count();
        if closed > 0 {
            return Err(format!("it closed {closed} of {} idle connections", open.len()));
        }
        samples.add(metric, after.saturating_sub(before) as f64 / work.connections as f64);
        remember(samples, &proxy, String::new());
    }
    Ok(())
}

fn connect(
    address: SocketAddr,
    work: &LoadWork,
    trust: Option<&Arc<ClientConfig>>,
    speaks: bool,
) -> Result<Vec<Stream>, String> {
    let path = work.path();
    let question = Question { path: &path, host: ANY_HOST, post_bytes: None };
    let mut open = Vec::with_capacity(work.connections);
    while open.len() < work.connections {
        check_interrupted()?;
        let count = open.len();
        let failed = |error: io::Error| format!("connection {count} to {address}: {error}");
        let mut stream = Stream::open(address, ANY_HOST, trust).map_err(failed)?;
        if speaks {
            let status =
                ask_kept(&mut stream, question).map_err(|error| format!("connection {count}: {error}"))?;
            if status != 200 {
                return Err(format!("connection {count}: status {status} instead of 200"));
            }
        }
        open.push(stream);
    }
    Ok(open)
}

/// Resident memory, once it does not change any more.
fn settled(proxy: &Running) -> Result<u64, String> {
    let end = Instant::now() + SETTLE_TIMEOUT;
    let mut last = proxy.resident_bytes();
    let mut looks = 0;
    while looks < LOOKS && Instant::now() < end {
        pause(LOOK)?;
        let now = proxy.resident_bytes();
        looks = if now.abs_diff(last) <= SAME_BYTES { looks + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}
