//! What makes the load: this program's own generator, wrk or h2load, each as a process of its own.

mod h2load;
mod own;
mod wrk;

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::cores::CoreSet;
use super::peers::{find_program, version};
use super::process::{LOOK, Process, command_line, pause};
use super::usage;
use crate::report::LoadReport;

/// What a generator may take beyond the duration that it was given.
const SLACK: Duration = Duration::from_secs(20);

/// A load generator.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GeneratorKind {
    /// `ringgate-bench load`
    #[default]
    Own,
    /// <https://github.com/wg/wrk>
    Wrk,
    /// <https://nghttp2.org>
    H2load,
}

/// One run's load.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Whom to ask.
    pub(crate) address: SocketAddr,
    /// For what.
    pub(crate) path: String,
    /// Connections kept busy.
    pub(crate) connections: usize,
    /// How long.
    pub(crate) seconds: u64,
    /// Requests started per second, whatever the answers take; absent: the next when the last is answered.
    pub(crate) rate: Option<u32>,
    /// A connection per request.
    pub(crate) close: bool,
    /// Over TLS, and how.
    pub(crate) tls: Option<Handshakes>,
    /// Content bytes of a POST; absent: GET.
    pub(crate) post_bytes: Option<usize>,
    /// Which hosts are asked for.
    pub(crate) hosts: AskedHosts,
    /// Content bytes of each answer.
    pub(crate) expect_bytes: usize,
}

/// What handshakes are like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Handshakes {
    /// With certificate and signature.
    Full,
    /// By a ticket of an earlier connection.
    Resumed,
}

/// Which hosts are asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum AskedHosts {
    /// One, always.
    One(String),
    /// This many of [`host_name`], with equal or Zipf-distributed probability.
    Many {
        /// How many.
        count: usize,
        /// Some much more often than most.
        zipf: bool,
    },
}

/// Host names of a table, for `{}` from 0.
pub(crate) const HOST_PATTERN: &str = "h{}.example.test";

/// Name of a table's host.
pub(crate) fn host_name(index: usize) -> String {
    HOST_PATTERN.replace("{}", &index.to_string())
}

/// A generator that is there.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Generator {
    /// Which.
    pub(crate) kind: GeneratorKind,
    /// Its program.
    pub(crate) path: PathBuf,
    /// What it says about itself.
    pub(crate) version: String,
}

/// What a run came to, and how it was started.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// The result.
    pub(crate) report: LoadReport,
    /// The command line.
    pub(crate) command: String,
}

impl Generator {
    /// Finds it.
    pub(crate) fn discover(kind: GeneratorKind) -> Result<Self, String> {
        let (path, arguments) = match kind {
            GeneratorKind::Own => (env::current_exe().ok(), ["--version"]),
            GeneratorKind::Wrk => (find_program("wrk"), ["-v"]),
            GeneratorKind::H2load => (find_program("h2load"), ["--version"]),
        };
        let missing = || format!("the generator {kind:?} is not installed; --generator own needs nothing");
        let path = path.ok_or_else(missing)?;
        let version = version(&path, &arguments)?;
        Ok(Self { kind, path, version })
    }

    /// Why it can not make this load, if it can not.
    pub(crate) fn refusal(&self, load: &Load) -> Option<&'static str> {
        let many = matches!(load.hosts, AskedHosts::Many { .. });
        match self.kind {
            GeneratorKind::Own => None,
            GeneratorKind::Wrk | GeneratorKind::H2load if load.tls.is_some() => {
                Some("wrk and h2load can not be told a key exchange and whether to resume")
            }
            GeneratorKind::Wrk if load.rate.is_some() => Some("wrk knows no constant rate"),
            GeneratorKind::H2load if load.rate.is_some() => Some("h2load knows no open loop"),
            GeneratorKind::H2load if load.close => Some("h2load does not end where connections do"),
            GeneratorKind::H2load if many => Some("h2load asks for one host"),
            GeneratorKind::Wrk | GeneratorKind::H2load => None,
        }
    }

    /// Makes the load from `cores` and calls `meanwhile` again and again until it ends.
    pub(crate) fn run(
        &self,
        load: &Load,
        cores: &CoreSet,
        folder: &Path,
        mut meanwhile: impl FnMut() -> Result<(), String>,
    ) -> Result<Run, String> {
        let mut command = Command::new(&self.path);
        command.current_dir(folder);
        match self.kind {
            GeneratorKind::Own => own::arguments(&mut command, load, cores),
            GeneratorKind::Wrk => wrk::arguments(&mut command, load, cores, folder)?,
            GeneratorKind::H2load => h2load::arguments(&mut command, load, cores, folder)?,
        }
        let mut process = Process::start("generator", &mut command, cores, folder)?;
        let timeout = Duration::from_secs(load.seconds) + SLACK;
        let begun = std::time::Instant::now();
        let mut cpu_ns = 0;
        let status = loop {
            if let Some(status) = process.ended() {
                break status;
            }
            if begun.elapsed() > timeout {
                return Err(process.failure(&format!("did not end within {} s", timeout.as_secs())));
            }
            // The last look before its end counts; /proc forgets it afterwards.
            cpu_ns = usage::Times::of(process.pid()).cpu_ns.max(cpu_ns);
            meanwhile()?;
            pause(LOOK)?;
        };
        let text = process.stdout();
        let report = match self.kind {
            GeneratorKind::Own => own::parse(&text),
            GeneratorKind::Wrk => wrk::parse(&text, load),
            GeneratorKind::H2load => h2load::parse(&text, load, folder),
        };
        let mut report = report.map_err(|error| process.failure(&format!("{error} ({status})")))?;
        if self.kind != GeneratorKind::Own {
            judge(&mut report, cpu_ns, cores.count());
        }
        Ok(Run { report, command: command_line(&command) })
    }
}

/// A foreign generator does not judge itself. Its thread being always busy is no proof that it was too slow, since it
/// may share its core with the backend; only an empty result is.
fn judge(report: &mut LoadReport, cpu_ns: u64, cores: usize) {
    report.valid = report.requests > 0;
    if !report.valid {
        report.invalid_reasons.push("no request was answered as expected".into());
    }
    let (cpu_us, wall_us) = (cpu_ns as f64 / 1e3, report.seconds * 1e6 * cores as f64);
    report.generator.cpu_us_per_request = cpu_us / report.requests.max(1) as f64;
    report.generator.busy = if wall_us > 0.0 { (cpu_us / wall_us).min(1.0) } else { 0.0 };
}
