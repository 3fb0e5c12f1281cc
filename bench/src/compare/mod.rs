//! `ringgate-bench compare`: ringgate beside its peers, with the same work, in the same minutes, on the same cores.
//!
//! `scenario` says what is done, `peers` by whom, `measure`, `idle` and `reload` do a round of it, `result` puts the
//! rounds side by side, `table` and `html` print them.

mod cores;
mod edge;
mod generator;
mod html;
mod idle;
mod measure;
mod peers;
mod pki;
mod process;
mod progress;
mod receipt;
mod reload;
mod result;
mod scenario;
mod stats;
mod table;
mod usage;
mod verify;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Args, ValueEnum as _};
use ringgate::{errln, out, outln};

use cores::{CoreSet, Layout};
use edge::Edge;
use generator::{Generator, GeneratorKind, Load};
use measure::Bench;
use peers::{Installed, Missing, PeerKind};
use pki::Pki;
use process::Process;
use progress::Progress;
use result::{CaseResult, Comparison, Samples, conclude};
use scenario::{Case, LoadWork, Options, Scenario, Work};

/// Version of the JSON that `--json` writes.
const FORMAT: u32 = 1;

const BACKEND_TIMEOUT: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  ringgate-bench compare
  ringgate-bench compare h1-keepalive h1-close --rounds 5 --html report.html
  ringgate-bench compare latency-at-rate --rate 2000 --json report.json
  ringgate-bench compare --without envoy --nginx /opt/nginx/sbin/nginx
  ringgate-bench compare --list

Peers are looked for in PATH, /usr/sbin and /usr/local/sbin, ringgate beside this program first; those that are not \
found are named in the results. Proxies run on cores of their own; on a host with work of its own, figures mean little.

A round in which more than 0.1 % of the requests failed is left out and named, except in reload-under-load, which \
counts them.

Exit codes:
  0    every peer that was found was measured
  1    one was not: it failed, differed from the others, its runs were invalid,
       or it was named by path and can not be used; the rest is reported
  2    the command line is wrong
  130  interrupted; what was finished is reported, and marked so

Figures:
";

/// What follows the options in the help.
fn after_help() -> String {
    format!("{EXAMPLES}{}", table::LEGEND)
}

/// Arguments of `ringgate-bench compare`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help())]
pub(crate) struct CompareArgs {
    /// What to compare (--list explains them); everything unless told
    #[arg(value_name = "SCENARIO", hide_possible_values = true)]
    scenarios: Vec<Scenario>,
    /// List the scenarios and end
    #[arg(long)]
    list: bool,
    /// Program of ringgate
    #[arg(long, value_name = "PATH")]
    ringgate: Option<PathBuf>,
    /// Program of nginx
    #[arg(long, value_name = "PATH")]
    nginx: Option<PathBuf>,
    /// Program of HAProxy
    #[arg(long, value_name = "PATH")]
    haproxy: Option<PathBuf>,
    /// Program of Envoy
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// Leave a peer out; may be repeated
    #[arg(long, value_name = "PEER")]
    without: Vec<PeerKind>,
    /// Rounds of each case
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Seconds of a measured run
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Seconds of the run before it that does not count
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=3600))]
    warmup: u64,
    /// Connections kept busy
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Requests per second of latency-at-rate
    #[arg(long, value_name = "N", default_value_t = 7_500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Connections of idle-connections and tls-idle
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=25_000))]
    idle_connections: u32,
    /// Cores of the proxy, a thread for each; the first that may be used unless told
    #[arg(long, value_name = "CORES")]
    proxy_cores: Option<CoreSet>,
    /// Cores of generator and backend; all others unless told
    #[arg(long, value_name = "CORES")]
    load_cores: Option<CoreSet>,
    /// What makes the load
    #[arg(long, value_enum, default_value_t)]
    generator: GeneratorKind,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a report with plots, in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl CompareArgs {
    fn given(&self, peer: PeerKind) -> Option<&Path> {
        match peer {
            PeerKind::Ringgate => self.ringgate.as_deref(),
            PeerKind::Nginx => self.nginx.as_deref(),
            PeerKind::Haproxy => self.haproxy.as_deref(),
            PeerKind::Envoy => self.envoy.as_deref(),
        }
    }

    /// The proxies that are there and those that are not.
    fn peers(&self) -> (Vec<Installed>, Vec<Missing>) {
        let mut found = (Vec::new(), Vec::new());
        for peer in PeerKind::ALL {
            if self.without.contains(&peer) {
                found.1.push(Missing { peer, reason: "left out by --without".into(), named: false });
                continue;
            }
            match peers::discover(peer, self.given(peer)) {
                Ok(installed) => found.0.push(installed),
                Err(missing) => found.1.push(missing),
            }
        }
        found
    }

    fn options(&self) -> Result<Options, String> {
        let allowed = CoreSet::allowed()?;
        Ok(Options {
            connections: self.connections as usize,
            rate: self.rate,
            idle_connections: self.idle_connections as usize,
            layout: Layout::choose(&allowed, self.proxy_cores.clone(), self.load_cores.clone())?,
            allowed,
        })
    }
}

/// Runs the command.
pub(crate) fn run(args: &CompareArgs) -> ExitCode {
    if args.list {
        for scenario in Scenario::value_variants() {
            outln!("{:<24} {}", scenario.name(), scenario.about());
        }
        return ExitCode::SUCCESS;
    }
    if args.json.is_some() && args.json == args.html {
        errln!("error: --json and --html name the same file: give each its own");
        return ExitCode::from(2);
    }
    match compare(args) {
        _ if process::is_interrupted() => {
            errln!("interrupted: nothing is left running");
            ExitCode::from(process::INTERRUPTED_CODE)
        }
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            errln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Compares, prints and writes; whether everything was measured.
fn compare(args: &CompareArgs) -> Result<bool, String> {
    process::watch_interrupts()?;
    process::raise_descriptor_limit();
    let (installed, missing) = args.peers();
    if installed.is_empty() {
        let reasons: Vec<_> = missing.iter().map(|one| format!("{}: {}", one.peer, one.reason)).collect();
        return Err(format!("nothing to compare:\n  {}", reasons.join("\n  ")));
    }
    let options = args.options()?;
    let folder = tempfile::Builder::new().prefix("ringgate-bench-").tempdir();
    let folder = folder.map_err(|error| format!("no scratch folder: {error}"))?;
    let pki = Pki::make(folder.path(), measure::ANY_HOST)?;
    let backends = Backends { folder: folder.path().to_owned(), pki };
    let receipt = receipt(args, &options, &installed)?;
    let scenarios: &[Scenario] =
        if args.scenarios.is_empty() { Scenario::value_variants() } else { &args.scenarios };
    let cases: Vec<Case> = scenarios.iter().flat_map(|scenario| scenario.cases(&options)).collect();
    let progress = Progress::new(cases.len() * installed.len() * usize::from(args.rounds));
    let mut comparison =
        Comparison { format: FORMAT, receipt, interrupted: false, missing, cases: Vec::new() };
    let runner = Runner { args, installed: &installed, backends, progress: &progress };
    for case in &cases {
        let result = runner.case(case, &comparison.receipt.generator);
        comparison.interrupted = process::is_interrupted();
        match result {
            Ok(result) => comparison.cases.push(result),
            // The backend's start was interrupted.
            Err(_) if comparison.interrupted => {}
            Err(error) => return Err(error),
        }
        // What was measured so far stays, whatever happens next.
        write(args, &comparison)?;
        if comparison.interrupted {
            break;
        }
    }
    progress.end();
    out!("{}", table::text(&comparison));
    let all = comparison.cases.iter().all(|case| case.peers.iter().all(|peer| peer.failure.is_none()));
    Ok(all && comparison.missing.iter().all(|missing| !missing.named))
}

fn receipt(
    args: &CompareArgs,
    options: &Options,
    installed: &[Installed],
) -> Result<receipt::Receipt, String> {
    let mut warnings = Vec::new();
    if options.layout.is_shared() {
        warnings.push("proxy and load share a core: times are worthless".into());
    }
    Ok(receipt::Receipt {
        host: crate::receipt::Receipt::new("", &[]),
        peers: installed.to_vec(),
        generator: Generator::discover(args.generator)?,
        layout: options.layout.clone(),
        rounds: usize::from(args.rounds),
        seconds: args.seconds,
        method: receipt::METHOD,
        warnings,
    })
}

fn write(args: &CompareArgs, comparison: &Comparison) -> Result<(), String> {
    if let Some(path) = &args.json {
        let text =
            serde_json::to_string_pretty(comparison).map_err(|error| format!("results as JSON: {error}"))?;
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let Some(path) = &args.html {
        fs::write(path, html::page(comparison)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// What runs cases.
struct Runner<'a> {
    args: &'a CompareArgs,
    installed: &'a [Installed],
    backends: Backends,
    progress: &'a Progress,
}

impl Runner<'_> {
    /// All rounds of a case, or why it is left out.
    fn case(&self, case: &Case, generator: &Generator) -> Result<CaseResult, String> {
        let (work, skipped) = match &case.work {
            Work::Skipped(reason) => (None, Some(reason.clone())),
            Work::Load(work) | Work::Reload(work) => (Some(work), refusal(generator, work)),
            Work::Idle(work) => (Some(work), None),
        };
        let mut result = CaseResult {
            name: case.name.clone(),
            about: case.about.clone(),
            primary: case.primary,
            skipped,
            cores: None,
            peers: Vec::new(),
        };
        let (Some(work), None) = (work, &result.skipped) else {
            self.progress.skip(self.installed.len() * usize::from(self.args.rounds));
            return Ok(result);
        };
        if case.scenario == Scenario::Scale {
            result.cores = Some(work.layout.clone());
        }
        let (_backend, address) = self.backends.start(&work.layout, work.edge)?;
        let bench = Bench {
            work: self.backends.folder.clone(),
            pki: self.backends.pki.clone(),
            generator: generator.clone(),
            backend: address,
            seconds: self.args.seconds,
            warmup_seconds: self.args.warmup,
        };
        let mut samples: Vec<_> = self.installed.iter().map(|one| (one.peer, Samples::default())).collect();
        for step in 0..usize::from(self.args.rounds) * samples.len() {
            let (round, turn) = (step / samples.len(), step % samples.len());
            // Nobody always comes first, when the host may be cooler, or last.
            let index = (turn + round) % samples.len();
            self.round(&bench, case, round, index, &mut samples[index].1);
            if process::is_interrupted() {
                break;
            }
        }
        samples.iter_mut().for_each(|(_, samples)| samples.end());
        result.peers = conclude(samples, !work.layout.is_shared());
        Ok(result)
    }

    fn round(&self, bench: &Bench, case: &Case, round: usize, index: usize, samples: &mut Samples) {
        let installed = &self.installed[index];
        self.progress.step(&format!("{} round {} {}", case.name, round + 1, installed.peer));
        // A peer that failed once would fail again, and take as long.
        if samples.failure.is_some() || samples.left_out.is_some() {
            return;
        }
        let done = match &case.work {
            Work::Load(work) => measure::round(bench, installed, work, samples),
            Work::Idle(work) => idle::round(bench, installed, work, samples),
            Work::Reload(work) => reload::round(bench, installed, work, samples),
            Work::Skipped(_) => Ok(()),
        };
        if let Err(error) = done
            && !process::is_interrupted()
        {
            samples.failure = Some(error);
        }
    }
}

fn refusal(generator: &Generator, work: &LoadWork) -> Option<String> {
    let load = Load {
        address: ([127, 0, 0, 1], 0).into(),
        path: work.path(),
        connections: work.connections,
        seconds: 1,
        rate: work.rate,
        close: work.close,
        tls: work.tls(),
        post_bytes: work.post_bytes,
        hosts: measure::hosts(work).1,
        expect_bytes: work.answer_bytes,
    };
    generator.refusal(&load).map(|reason| format!("{reason}; --generator own can"))
}

/// Starts backends: `ringgate-bench backend`, a thread for each of its cores.
struct Backends {
    folder: PathBuf,
    pki: Pki,
}

impl Backends {
    fn start(&self, layout: &Layout, edge: Edge) -> Result<(Process, std::net::SocketAddr), String> {
        let own = env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
        let cores = &layout.backend;
        let mut command = Command::new(own);
        command.args(["backend", "--listen", "127.0.0.1:0"]);
        command.args(["--threads", &cores.count().to_string(), "--cores", &cores.to_string()]);
        if edge.is_backend_secure() {
            let identity = &self.pki.identity;
            command.arg("--tls-certificate").arg(&identity.certificate);
            command.arg("--tls-key").arg(&identity.key);
        }
        let mut process = Process::start("backend", &mut command, cores, &self.folder)?;
        let address = process.wait_for("ready", BACKEND_TIMEOUT, |process| {
            let text = process.stdout();
            text.lines().find(|line| line.starts_with("ready"))?;
            text.lines().find_map(|line| line.strip_prefix("listening "))?.trim().parse().ok()
        })?;
        Ok((process, address))
    }
}
