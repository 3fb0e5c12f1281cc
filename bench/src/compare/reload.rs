//! One round of `reload-under-load`: what a configuration that keeps changing costs those who are being served.

use std::time::{Duration, Instant};

use super::generator::{AskedHosts, Load};
use super::measure::{ANY_HOST, Bench, record_latency, remember, verify, wanted};
use super::peers::{Hosts, Installed, Reload, Running};
use super::process::{LOOK, pause};
use super::result::{Metric, Samples};
use super::scenario::{LoadWork, RELOAD_INTERVAL};
use super::verify::{Question, ask};

/// By when the last reload must be effective.
const EFFECTIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A run without reloads, then one with.
pub(crate) fn round(
    bench: &Bench,
    installed: &Installed,
    work: &LoadWork,
    samples: &mut Samples,
) -> Result<(), String> {
    let folder = bench.folder(installed.peer)?;
    let first = hosts(0);
    let mut proxy = Running::start(installed, &wanted(bench, &folder, &first, work, true))?;
    if let Reload::Unsupported(reason) = proxy.plan.reload {
        samples.left_out = Some(reason.into());
        return Ok(());
    }
    verify(bench, installed.peer, proxy.address, work, &first)?;
    let load = bench.load(work, proxy.address, AskedHosts::One(ANY_HOST.into()));
    let cores = &work.layout.load;
    bench.generator.run(&Load { seconds: 1, ..load.clone() }, cores, &bench.work, || Ok(()))?;
    let quiet = bench.run(&load, cores, || (), || Ok(()))?;

    let (mut generation, mut reloads, mut next) = (0, 0, Instant::now());
    let reload = |proxy: &Running, generation: u32| {
        let hosts = hosts(generation);
        proxy.reload(installed, &wanted(bench, &folder, &hosts, work, true))
    };
    let start = std::cell::Cell::new(false);
    let run = bench.run(
        &load,
        cores,
        || start.set(true),
        || {
            if start.replace(false) {
                (reloads, next) = (0, Instant::now() + RELOAD_INTERVAL);
            }
            if Instant::now() >= next {
                next += RELOAD_INTERVAL;
                generation += 1;
                reloads += 1;
                reload(&proxy, generation)?;
            }
            Ok(())
        },
    )?;
    proxy.check_alive()?;
    await_generation(&proxy, installed, generation)?;
    samples.add(Metric::P99Quiet, quiet.report.latency_us.p99);
    samples.add(Metric::Reloads, f64::from(reloads));
    samples.add(Metric::RequestsPerSecond, run.report.requests_per_second);
    record_latency(samples, &run);
    let errors = &run.report.errors;
    samples.add(Metric::Lost, errors.values().sum::<u64>() as f64);
    if !errors.is_empty() {
        let kinds: Vec<_> = errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        samples.note(format!("lost in a round of {} requests: {}", run.report.requests, kinds.join(", ")));
    }
    remember(samples, &proxy, run.command);
    Ok(())
}

/// Each generation serves the host that is asked for and one that tells it from the others.
fn hosts(generation: u32) -> Hosts {
    Hosts::Named(vec![ANY_HOST.into(), mark(generation)])
}

fn mark(generation: u32) -> String {
    format!("generation-{generation}.example.test")
}

/// Reloads that did nothing would cost nothing.
fn await_generation(proxy: &Running, installed: &Installed, generation: u32) -> Result<(), String> {
    let end = Instant::now() + EFFECTIVE_TIMEOUT;
    let host = mark(generation);
    let question = Question { path: "/bytes/1", host: &host, post_bytes: None };
    while !ask(proxy.address, question, None).is_ok_and(|answer| answer.status() == 200) {
        if Instant::now() > end {
            return Err(format!(
                "{}: reload {generation} was not effective {} s after the run",
                installed.peer,
                EFFECTIVE_TIMEOUT.as_secs()
            ));
        }
        pause(LOOK)?;
    }
    Ok(())
}
