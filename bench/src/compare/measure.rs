//! One round of load on one proxy: start, verify, warm up, measure.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::cores::CoreSet;
use super::generator::{AskedHosts, Generator, Load, Run, host_name};
use super::peers::{Hosts, Installed, PeerKind, Running, Wanted};
use super::pki::Pki;
use super::result::{Metric, Samples};
use super::scenario::LoadWork;
use super::usage::Times;
use super::verify::{Question, ask};
use crate::report::LoadReport;

/// Below this share of its cores the proxy was not the bottleneck, and requests/s say nothing about it.
const BUSY_MIN: f64 = 85.0;

/// Above this share of the time, others on the proxy's cores decide over latency and rate (not over CPU time).
const WAITED_MAX: f64 = 10.0;

/// Share of requests above which a round is invalid.
const ERRORS_MAX: f64 = 0.001;

/// Share of handshakes of another kind than wanted that is not worth a word.
const HANDSHAKES_OTHER_MAX: f64 = 0.01;

/// What is asked for where a proxy takes any host.
pub(crate) const ANY_HOST: &str = "bench.example.test";

/// What all measurements share.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Scratch folder, empty at first.
    pub(crate) work: PathBuf,
    /// Certificates.
    pub(crate) pki: Pki,
    /// What makes the load.
    pub(crate) generator: Generator,
    /// Where the backend listens.
    pub(crate) backend: SocketAddr,
    /// Seconds of a measured run.
    pub(crate) seconds: u64,
    /// Seconds of the run before it.
    pub(crate) warmup_seconds: u64,
}

impl Bench {
    /// An empty folder for one start of a proxy.
    pub(crate) fn folder(&self, peer: PeerKind) -> Result<PathBuf, String> {
        let folder = self.work.join(peer.name());
        let cleared = if folder.exists() { fs::remove_dir_all(&folder) } else { Ok(()) };
        cleared
            .and_then(|()| fs::create_dir_all(&folder))
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(folder)
    }

    /// The generator's part of `work`.
    pub(crate) fn load(&self, work: &LoadWork, address: SocketAddr, hosts: AskedHosts) -> Load {
        Load {
            address,
            path: work.path(),
            connections: work.connections,
            seconds: self.seconds,
            rate: work.rate,
            close: work.close,
            tls: work.tls(),
            post_bytes: work.post_bytes,
            hosts,
            expect_bytes: work.answer_bytes,
        }
    }

    /// Runs the generator, once more if the first run is invalid.
    pub(crate) fn run(
        &self,
        load: &Load,
        cores: &CoreSet,
        mut before: impl FnMut(),
        mut meanwhile: impl FnMut() -> Result<(), String>,
    ) -> Result<Run, String> {
        let mut reasons = Vec::new();
        for _ in 0..2 {
            before();
            let run = self.generator.run(load, cores, &self.work, &mut meanwhile)?;
            if run.report.valid {
                return Ok(run);
            }
            reasons.push(run.report.invalid_reasons.join("; "));
        }
        Err(format!("INVALID twice: {}", reasons.join(" | ")))
    }
}

/// The hosts that the proxy is to know and those that are asked for.
pub(crate) fn hosts(work: &LoadWork) -> (Hosts, AskedHosts) {
    match work.hosts {
        0 => (Hosts::Any, AskedHosts::One(ANY_HOST.into())),
        1 => (Hosts::Named(vec![host_name(0)]), AskedHosts::One(host_name(0))),
        count => {
            (Hosts::Named((0..count).map(host_name).collect()), AskedHosts::Many { count, zipf: work.zipf })
        }
    }
}

/// Compares the proxy's answers with the backend's: for hosts from each part of its table, and one that is not in it.
pub(crate) fn verify(
    bench: &Bench,
    peer: PeerKind,
    proxy: SocketAddr,
    work: &LoadWork,
    hosts: &Hosts,
) -> Result<(), String> {
    let path = work.path();
    let trust = |secure: bool| secure.then_some(&bench.pki.trust);
    let (front, backend) = (trust(work.edge.is_secure()), trust(work.edge.is_backend_secure()));
    let names = hosts.names();
    let some = [0, names.len() / 2, names.len().saturating_sub(1)];
    let asked: Vec<&str> = match hosts {
        Hosts::Any => vec![ANY_HOST],
        Hosts::Named(_) => some.iter().filter_map(|&index| Some(names.get(index)?.as_str())).collect(),
    };
    for host in asked {
        let question = Question { path: &path, host, post_bytes: work.post_bytes };
        let expected = ask(bench.backend, question, backend)?;
        if expected.status() != 200 {
            return Err(format!("the backend answers {} to {path}", expected.status()));
        }
        let got = ask(proxy, question, front).map_err(|error| format!("{peer} differs: {error}"))?;
        if let Some(difference) = got.difference(&expected) {
            return Err(format!("{peer} differs from the backend, {path} for {host}: {difference}"));
        }
    }
    if matches!(hosts, Hosts::Named(_)) {
        let unknown = Question { path: &path, host: "unknown.example.test", post_bytes: None };
        let status = ask(proxy, unknown, front)?.status();
        if status != 404 {
            return Err(format!(
                "{peer} differs: status {status} instead of 404 for a host that it does not know"
            ));
        }
    }
    Ok(())
}

/// One round of `work`.
pub(crate) fn round(
    bench: &Bench,
    installed: &Installed,
    work: &LoadWork,
    samples: &mut Samples,
) -> Result<(), String> {
    let (hosts, asked) = hosts(work);
    let folder = bench.folder(installed.peer)?;
    let wanted = wanted(bench, &folder, &hosts, work, false);
    let mut proxy = Running::start(installed, &wanted)?;
    verify(bench, installed.peer, proxy.address, work, &hosts)?;
    let load = bench.load(work, proxy.address, asked);
    if bench.warmup_seconds > 0 {
        let warmup = Load { seconds: bench.warmup_seconds, ..load.clone() };
        bench.generator.run(&warmup, &work.layout.load, &bench.work, || Ok(()))?;
    }
    let mut before = proxy.times();
    let run = bench.run(&load, &work.layout.load, || before = proxy.times(), || Ok(()));
    let times = proxy.times().since(before);
    proxy.check_alive()?;
    let run = run?;
    remember(samples, &proxy, run.command.clone());
    if let Some(reason) = too_many_errors(&run.report) {
        samples.leave_out_round(reason);
        return Ok(());
    }
    record(samples, &run, work, times);
    samples.add(Metric::Memory, mib(proxy.resident_bytes()));
    if work.hosts > 0 {
        samples.add(Metric::Start, proxy.started_in.as_secs_f64() * 1e3);
    }
    Ok(())
}

/// Failed requests are cheap and fast, or slow: with more than a few, the figures are not those of the others.
fn too_many_errors(report: &LoadReport) -> Option<String> {
    let failed: u64 = report.errors.values().sum();
    let share = failed as f64 / (failed + report.requests).max(1) as f64;
    let kinds: Vec<_> = report.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    (share > ERRORS_MAX)
        .then(|| format!("{:.2} % of its requests failed: {}", share * 100.0, kinds.join(", ")))
}

/// What a proxy is started with for `work`.
pub(crate) fn wanted<'a>(
    bench: &'a Bench,
    folder: &'a Path,
    hosts: &'a Hosts,
    work: &'a LoadWork,
    reloads: bool,
) -> Wanted<'a> {
    Wanted {
        folder,
        upstream: bench.backend,
        edge: work.edge,
        identity: &bench.pki.identity,
        hosts,
        cores: &work.layout.proxy,
        connections: work.connections,
        bulk: work.is_bulk(),
        reloads,
    }
}

/// Keeps how it was done, for the report.
pub(crate) fn remember(samples: &mut Samples, proxy: &Running, generator_command: String) {
    samples.proxy_command.clone_from(&proxy.command);
    samples.files.clone_from(&proxy.plan.files);
    samples.generator_command = generator_command;
    samples.proxy_said.clone_from(&proxy.said);
}

fn record(samples: &mut Samples, run: &Run, work: &LoadWork, times: Times) {
    let report = &run.report;
    let cpu_ns = times.cpu_ns as f64;
    let mib_of_content = report.content_bytes as f64 / f64::from(1 << 20);
    samples.add(Metric::CpuPerRequest, cpu_ns / 1e3 / report.requests.max(1) as f64);
    if work.answer_bytes >= 64 << 10 && mib_of_content > 0.0 {
        samples.add(Metric::CpuPerMib, cpu_ns / 1e3 / mib_of_content);
        samples.add(Metric::MibPerSecond, mib_of_content / report.seconds);
    }
    if work.edge.is_secure() && work.close {
        check_handshakes(samples, report, work.resume);
    }
    samples.add(Metric::RequestsPerSecond, report.requests_per_second);
    record_latency(samples, run);
    let percent_of_cores = 100.0 / (report.seconds * 1e9 * work.layout.proxy.count() as f64);
    let (busy, waited) = (cpu_ns * percent_of_cores, times.waited_ns as f64 * percent_of_cores);
    samples.add(Metric::Busy, busy);
    samples.add(Metric::Waited, waited);
    if waited > WAITED_MAX {
        samples.note("others used its cores in a round: its latencies and requests/s are not its own".into());
    } else if work.rate.is_none() && busy < BUSY_MIN {
        samples.note("not saturated: its requests/s are the load's limit, not its own".into());
    }
    let errors: Vec<_> = report.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if !errors.is_empty() {
        samples.note(format!("errors in a round: {}", errors.join(", ")));
    }
}

/// What cost little because it was something else is said.
fn check_handshakes(samples: &mut Samples, report: &LoadReport, resume: bool) {
    let measured = report.tls.as_ref().map(|tls| tls.measured).unwrap_or_default();
    let (wanted, other) =
        if resume { (measured.resumed, measured.full) } else { (measured.full, measured.resumed) };
    let share = other as f64 / (wanted + other).max(1) as f64;
    if share > HANDSHAKES_OTHER_MAX {
        let kind = if resume { "resumed" } else { "full" };
        samples.note(format!("{:.0} % of the handshakes of a round were not {kind}", share * 100.0));
    }
}

/// Percentiles and distribution.
pub(crate) fn record_latency(samples: &mut Samples, run: &Run) {
    let latency = &run.report.latency_us;
    samples.add(Metric::P50, latency.p50);
    samples.add(Metric::P99, latency.p99);
    samples.add(Metric::P999, latency.p99_9);
    samples.add_quantiles(run.report.quantiles.clone());
}

/// Bytes in MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_with_failures_is_none() {
        let report = |status| LoadReport {
            requests: 10_000,
            errors: [("status".to_owned(), status)].into(),
            ..LoadReport::default()
        };
        assert_eq!(too_many_errors(&report(10)), None);
        let reason = too_many_errors(&report(20));
        assert_eq!(reason.as_deref(), Some("0.20 % of its requests failed: 20 status"));
    }
}
