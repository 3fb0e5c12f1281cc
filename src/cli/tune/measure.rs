//! One measurement: a fresh backend, gateway and generator, and what the gateway did meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::args::{Scenario, TuneArgs};
use super::children::{Process, Stop};
use super::layouts::{Layout, LoadPlace};
use crate::supervisor::topology::format_list;

/// How long a child has to come up, and to end beyond its measured time.
const CHILD_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the harness may think about its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time of the load that nobody counts.
const WARM_UP_MAX: Duration = Duration::from_millis(500);

/// What a measurement takes beside the measured time and the warm-up; about, for the estimate.
const STARTING: Duration = Duration::from_millis(300);

/// Share of requests that may fail.
const ERRORS_MAX: f64 = 0.001;

/// What one measurement came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Sample {
    pub(super) requests_per_second: f64,
    /// CPU time of all of the gateway's threads per request; `None` where the kernel does not tell.
    pub(super) cpu_us_per_request: Option<f64>,
    pub(super) p99_us: f64,
}

/// By what layouts are told apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Measure {
    /// CPU time of the gateway per request: where the load takes the shards' time, the rate is that of the mixture,
    /// and a gateway that wastes CPU may even take more of it.
    CpuPerRequest,
    /// Requests per second.
    RequestsPerSecond,
}

impl Sample {
    /// How many times better than `other`; above 1 is better in either measure.
    pub(super) fn gain(&self, other: &Self, measure: Measure) -> Option<f64> {
        match measure {
            Measure::CpuPerRequest => Some(other.cpu_us_per_request? / self.cpu_us_per_request?),
            Measure::RequestsPerSecond => Some(self.requests_per_second / other.requests_per_second),
        }
    }
}

/// A valid sample, the driver that the gateway ran on, and the harness's receipt.
pub(super) struct Measured {
    pub(super) sample: Sample,
    pub(super) driver: String,
    pub(super) harness: HarnessReceipt,
}

/// The part of `ringgate-bench load --json` that is used here.
#[derive(Debug, Deserialize)]
struct LoadReport {
    valid: bool,
    invalid_reasons: Vec<String>,
    requests: u64,
    requests_per_second: f64,
    errors: BTreeMap<String, u64>,
    latency_us: Latency,
    receipt: HarnessReceipt,
}

#[derive(Debug, Deserialize)]
struct Latency {
    p99: f64,
}

/// What the harness knows of itself.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct HarnessReceipt {
    pub(super) version: String,
    pub(super) commit: String,
    pub(super) date: String,
}

/// What all measurements share.
pub(super) struct Bench {
    harness: PathBuf,
    gateway: PathBuf,
    directory: Directory,
    args: TuneArgs,
    interrupted: Arc<AtomicBool>,
}

impl Bench {
    /// Finds the programs and makes a directory for the gateways' configurations.
    pub(super) fn new(args: &TuneArgs, interrupted: Arc<AtomicBool>) -> Result<Self, Stop> {
        let failed = |what: &str, error: io::Error| Stop::Failed(format!("{what}: {error}"));
        let gateway = std::env::current_exe().map_err(|error| failed("the program ringgate", error))?;
        let harness = args.bench.clone().unwrap_or_else(|| gateway.with_file_name("ringgate-bench"));
        if !harness.is_file() {
            return Err(Stop::Failed(format!(
                "{} is not there, and it makes the load: build it beside ringgate with `cargo build --release \
                 --workspace`, or name it with --bench",
                harness.display()
            )));
        }
        let directory = Directory::new().map_err(|error| failed("no temporary directory", error))?;
        let bench = Self { harness, gateway, directory, args: args.clone(), interrupted };
        bench.check_harness()?;
        Ok(bench)
    }

    /// A wrong program would show only after a while, as measurements that fail.
    fn check_harness(&self) -> Result<(), Stop> {
        let mut command = Command::new(&self.harness);
        command.arg("--version");
        let (_, text) = Process::start("--bench", command, &self.interrupted)?.wait_end(VERSION_TIMEOUT)?;
        if text.starts_with("ringgate-bench ") {
            return Ok(());
        }
        Err(Stop::Failed(format!("{} is not ringgate-bench", self.harness.display())))
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// About how long a measurement takes.
    pub(super) fn estimate(args: &TuneArgs) -> Duration {
        args.seconds + args.seconds.min(WARM_UP_MAX) + STARTING
    }

    /// Measures; one that is not valid is repeated once.
    pub(super) fn measure(&self, layout: &Layout, place: &LoadPlace) -> Result<Measured, Stop> {
        let mut result = self.measure_once(layout, place);
        if matches!(result, Err(Stop::Failed(_))) && !self.is_interrupted() {
            result = self.measure_once(layout, place);
        }
        if self.is_interrupted() { Err(Stop::Interrupted) } else { result }
    }

    fn measure_once(&self, layout: &Layout, place: &LoadPlace) -> Result<Measured, Stop> {
        let backend = self.start_backend(place)?;
        let address = backend.wait_line("listening ", CHILD_TIMEOUT)?;
        backend.wait_line("ready ", CHILD_TIMEOUT)?;
        let gateway = self.start_gateway(layout, &parse_address(&address)?)?;
        let listening = gateway.wait_line("listening ", CHILD_TIMEOUT)?;
        let address = parse_address(listening.split(' ').next().unwrap_or_default())?;
        let ready = gateway.wait_line("ready ", CHILD_TIMEOUT)?;
        let driver = ready.rsplit_once("driver=").map_or("", |(_, driver)| driver).to_owned();
        self.load(address, place, self.args.seconds.min(WARM_UP_MAX))?;
        let before = cpu_times(gateway.pid());
        let report = self.load(address, place, self.args.seconds)?;
        let after = cpu_times(gateway.pid());
        check(&report)?;
        let cpu = before.zip(after).map(|(before, after)| used(&before, &after));
        let sample = Sample {
            requests_per_second: report.requests_per_second,
            cpu_us_per_request: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / report.requests.max(1) as f64),
            p99_us: report.latency_us.p99,
        };
        Ok(Measured { sample, driver, harness: report.receipt })
    }

    fn start_backend(&self, place: &LoadPlace) -> Result<Process, Stop> {
        let mut command = Command::new(&self.harness);
        command.args(["backend", "--listen", "127.0.0.1:0"]);
        pin(&mut command, &place.backend, usize::MAX);
        Process::start("the backend", command, &self.interrupted)
    }

    fn start_gateway(&self, layout: &Layout, backend: &SocketAddr) -> Result<Process, Stop> {
        let path = self.directory.0.join("tune.toml");
        let written = fs::write(&path, config(layout, backend));
        written.map_err(|error| Stop::Failed(format!("{}: {error}", path.display())))?;
        let mut command = Command::new(&self.gateway);
        // What a gateway logs of its life is no matter here, its warnings are.
        command.arg("run").arg(path).args(layout.options()).env("RUST_LOG", "warn");
        Process::start("the gateway", command, &self.interrupted)
    }

    /// Nothing is left out as a warm-up: the gateway's CPU time is that of the whole run.
    fn load(&self, address: SocketAddr, place: &LoadPlace, time: Duration) -> Result<LoadReport, Stop> {
        let mut command = Command::new(&self.harness);
        command.arg("load").arg(format!("http://{address}/")).args(["--json", "--warmup", "0s"]);
        command.arg("--duration").arg(format!("{}ms", time.as_millis()));
        command.arg("--connections").arg(self.args.connections.to_string());
        if self.args.scenario == Scenario::Close {
            command.arg("--close");
        }
        pin(&mut command, &place.generator, self.args.connections as usize);
        let process = Process::start("the generator", command, &self.interrupted)?;
        // Those that take long are waited for: 10 s, after which they count as failed.
        let (_, text) = process.wait_end(time + CHILD_TIMEOUT)?;
        serde_json::from_str(&text).map_err(|_| Stop::Failed("the generator printed no report".into()))
    }
}

/// A thread for each core.
fn pin(command: &mut Command, cores: &[u32], threads_max: usize) {
    if !cores.is_empty() {
        let threads = cores.len().min(threads_max).max(1);
        command.args(["--cores", &format_list(cores), "--threads", &threads.to_string()]);
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, Stop> {
    text.parse().map_err(|_| Stop::Failed(format!("`{text}` is not an address")))
}

fn check(report: &LoadReport) -> Result<(), Stop> {
    if !report.valid {
        return Err(Stop::Failed(format!("invalid: {}", report.invalid_reasons.join("; "))));
    }
    let failed: u64 = report.errors.values().sum();
    if failed as f64 > report.requests as f64 * ERRORS_MAX {
        let kinds: Vec<String> =
            report.errors.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let total = report.requests + failed;
        return Err(Stop::Failed(format!("{failed} of {total} requests failed: {}", kinds.join(", "))));
    }
    Ok(())
}

/// The layout in the form that is recommended in the end, so that what is printed is what was measured.
fn config(layout: &Layout, backend: &SocketAddr) -> String {
    format!(
        r#"{}
[[gateway]]
name = "tune"
[[gateway.server]]
port = 0
bind = "127.0.0.1"
protocol = "HTTP"
hosts = ["*"]

[[virtual_service]]
name = "tune"
hosts = ["*"]
gateways = ["tune"]
[[virtual_service.http]]
route = [{{ destination = {{ host = "backend" }} }}]

[[service]]
name = "backend"
endpoints = [{{ address = "{backend}" }}]
"#,
        layout.toml()
    )
}

/// CPU time of each thread, in nanoseconds.
fn cpu_times(pid: u32) -> Option<BTreeMap<u32, u64>> {
    let mut times = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended meanwhile is not there any more.
        let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
        times.insert(thread, text.split(' ').next()?.parse().ok()?);
    }
    (!times.is_empty()).then_some(times)
}

fn used(before: &BTreeMap<u32, u64>, after: &BTreeMap<u32, u64>) -> Duration {
    let of_thread = |(id, time): (&u32, &u64)| time.saturating_sub(before.get(id).copied().unwrap_or(0));
    Duration::from_nanos(after.iter().map(of_thread).sum())
}

/// A directory of this process alone; gone when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Self> {
        let name = |number| format!("ringgate-tune-{}-{number}", std::process::id());
        let mut number = 0;
        loop {
            let path = std::env::temp_dir().join(name(number));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 100 => number += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(Path::new(&self.0));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::config::model::{Cores, Driver, RING_ENTRIES_DEFAULT};

    /// What is measured is a valid configuration, and reads as the layout that it stands for.
    #[test]
    fn configurations_say_what_the_layout_says() {
        for (cores, driver, ring) in [
            (Cores::Auto, Driver::Auto, RING_ENTRIES_DEFAULT),
            (Cores::Count(2), Driver::Epoll, 256),
            (Cores::List(vec![3]), Driver::IoUring, 1024),
            (Cores::Numa(vec![0, 1]), Driver::Auto, 32_768),
        ] {
            let layout = Layout { cores, placed: vec![0], pinned: true, driver, ring_entries: ring };
            let text = config(&layout, &"127.0.0.1:9".parse().unwrap());
            let loaded = crate::config::load_text(&[("tune.toml".into(), text)]);
            assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
            let process = loaded.config.unwrap().process;
            assert_eq!(process.cores, layout.cores);
            assert_eq!((process.driver, process.ring_entries), (driver, ring));
        }
    }

    #[test]
    fn cpu_time_is_that_of_threads() {
        assert!(cpu_times(std::process::id()).is_some());
        assert!(cpu_times(u32::MAX).is_none());
        let (before, after) = (BTreeMap::from([(1, 100), (2, 50)]), BTreeMap::from([(1, 150), (3, 7)]));
        assert_eq!(used(&before, &after), Duration::from_nanos(57), "one ended, one is new");
    }

    #[test]
    fn a_report_with_failures_is_no_result() {
        let report = |valid, requests, errors: &[(&str, u64)]| LoadReport {
            valid,
            invalid_reasons: vec!["the generator was busy".into()],
            requests,
            requests_per_second: 1.0,
            errors: errors.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
            latency_us: Latency { p99: 1.0 },
            receipt: HarnessReceipt::default(),
        };
        assert!(check(&report(true, 10_000, &[("read", 9)])).is_ok());
        let reason = |report| match check(&report) {
            Err(Stop::Failed(reason)) => reason,
            _ => String::new(),
        };
        assert_eq!(reason(report(true, 100, &[("read", 2)])), "2 of 102 requests failed: read 2");
        assert_eq!(reason(report(false, 100, &[])), "invalid: the generator was busy");
    }
}
