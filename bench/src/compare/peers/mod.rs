//! The proxies: where they are, how each is told to do the same, and one that runs.

mod envoy;
mod haproxy;
mod nginx;
mod ringgate;
mod running;

use std::env;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde::Serialize;

use super::edge::Edge;
use super::pki::Identity;
use super::process::output;

pub(crate) use running::{Running, Wanted};

/// A proxy that can be compared.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PeerKind {
    /// What this project makes.
    Ringgate,
    /// <https://nginx.org>
    Nginx,
    /// <https://www.haproxy.org>
    Haproxy,
    /// <https://www.envoyproxy.io>
    Envoy,
}

impl PeerKind {
    /// All, in the order of tables.
    pub(crate) const ALL: [Self; 4] = [Self::Ringgate, Self::Nginx, Self::Haproxy, Self::Envoy];

    /// Its program's name, and its name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ringgate => "ringgate",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
        }
    }

    fn version_argument(self) -> &'static str {
        match self {
            Self::Nginx | Self::Haproxy => "-v",
            Self::Ringgate | Self::Envoy => "--version",
        }
    }

    /// Its configuration and arguments for `setup`.
    pub(crate) fn plan(self, setup: &Setup<'_>) -> Plan {
        match self {
            Self::Ringgate => ringgate::plan(setup),
            Self::Nginx => nginx::plan(setup),
            Self::Haproxy => haproxy::plan(setup),
            Self::Envoy => envoy::plan(setup),
        }
    }
}

impl fmt::Display for PeerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a proxy is to do.
#[derive(Clone, Debug)]
pub(crate) struct Setup<'a> {
    /// Its program.
    pub(crate) program: &'a Path,
    /// What it does with a connection.
    pub(crate) edge: Edge,
    /// Who it is where it ends TLS.
    pub(crate) identity: &'a Identity,
    /// Folder of its files.
    pub(crate) folder: &'a Path,
    /// Port on 127.0.0.1; not used by those that choose one themselves.
    pub(crate) port: u16,
    /// Where requests go.
    pub(crate) upstream: SocketAddr,
    /// Which requests are served.
    pub(crate) hosts: &'a Hosts,
    /// Shards, workers or threads.
    pub(crate) threads: usize,
    /// Client connections that will come.
    pub(crate) connections: usize,
    /// They carry a lot.
    pub(crate) bulk: bool,
    /// Cores to run on, as `0-3,6`.
    pub(crate) cores: String,
    /// Whether it will be told to reload.
    pub(crate) reloads: bool,
}

/// Hosts that a proxy serves; each goes to the same upstream.
#[derive(Clone, Debug)]
pub(crate) enum Hosts {
    /// Whatever the client says.
    Any,
    /// These and no other: any other gets 404.
    Named(Vec<String>),
}

impl Hosts {
    /// Named hosts, none for any.
    pub(crate) fn names(&self) -> &[String] {
        match self {
            Self::Any => &[],
            Self::Named(names) => names,
        }
    }
}

/// A file that a proxy reads.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ConfigFile {
    /// Name in the proxy's folder.
    pub(crate) name: String,
    /// Content.
    pub(crate) text: String,
}

/// How a proxy is started and driven.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Its configuration.
    pub(crate) files: Vec<ConfigFile>,
    /// Arguments.
    pub(crate) arguments: Vec<String>,
    /// How to learn where it listens.
    pub(crate) listening: Listening,
    /// How it takes a changed configuration.
    pub(crate) reload: Reload,
}

/// How to learn where a proxy listens, and when it is ready.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Listening {
    /// It prints `listening ADDRESS ..` and later `ready ..`.
    Announced,
    /// On the port that it was given, once that accepts.
    OnGivenPort,
}

/// How a proxy takes a changed configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reload {
    /// By a signal to the process that was started.
    BySignal(Signal),
    /// It does not, and why.
    Unsupported(&'static str),
}

/// A proxy that is there.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Installed {
    /// Which.
    pub(crate) peer: PeerKind,
    /// Its program.
    pub(crate) path: PathBuf,
    /// What it says about itself.
    pub(crate) version: String,
}

/// A proxy that is not measured, and why.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Missing {
    /// Which.
    pub(crate) peer: PeerKind,
    /// Why not, and what to do about it.
    pub(crate) reason: String,
    /// Whether its program was named on the command line.
    pub(crate) named: bool,
}

/// How long a program may think about its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Folders that Debian keeps out of a user's PATH.
const MORE_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Looks for a program in PATH and where servers are installed.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(MORE_FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Finds a proxy: at `given`, or (ringgate) beside this program, or by its name.
pub(crate) fn discover(peer: PeerKind, given: Option<&Path>) -> Result<Installed, Missing> {
    let missing = |reason| Missing { peer, reason, named: given.is_some() };
    let path = match given {
        Some(path) if is_program(path) => path.to_owned(),
        Some(path) => return Err(missing(format!("{} is not a program", path.display()))),
        None => {
            let beside = env::current_exe().ok().map(|own| own.with_file_name(peer.name()));
            let beside = beside.filter(|path| peer == PeerKind::Ringgate && is_program(path));
            let found = beside.or_else(|| find_program(peer.name()));
            found.ok_or_else(|| {
                missing(format!("not found in PATH, {}; --{peer} PATH names it", MORE_FOLDERS.join(", ")))
            })?
        }
    };
    let version = version(&path, &[peer.version_argument()])
        .map_err(|error| missing(format!("{}: {error}", path.display())))?;
    Ok(Installed { peer, path, version })
}

/// The first line that a program prints about its version.
pub(crate) fn version(path: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = output(Command::new(path).args(arguments), VERSION_TIMEOUT)?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.map(tidy_version).ok_or_else(|| format!("says no version: {}", output.status))
}

/// Without the program's path before it and the addresses and copyright notes behind.
fn tidy_version(line: &str) -> String {
    let line = line.split_once("version: ").map_or(line, |(_, version)| version);
    let ends = [" - http", " [", " Copyright"].iter().filter_map(|mark| line.find(mark));
    line[..ends.min().unwrap_or(line.len())].to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::sync::LazyLock;

    use super::*;
    use crate::compare::measure::ANY_HOST;
    use crate::compare::pki::Pki;

    const EDGES: [Edge; 4] = [Edge::Http, Edge::Https, Edge::Sni, Edge::Tcp];

    pub(super) fn setup<'a>(hosts: &'a Hosts, folder: &'a Path, reloads: bool) -> Setup<'a> {
        static IDENTITY: LazyLock<Identity> = LazyLock::new(Identity::default);
        let upstream = SocketAddr::from(([127, 0, 0, 1], 9000));
        Setup {
            program: Path::new("/nonexistent"),
            edge: Edge::Http,
            identity: &IDENTITY,
            folder,
            port: 8080,
            upstream,
            hosts,
            threads: 2,
            connections: 64,
            bulk: false,
            cores: "0-1".into(),
            reloads,
        }
    }

    /// All of them keep connections to the upstream, log nothing, and use the threads and the port that they are given.
    #[test]
    fn every_plan_is_about_the_same() {
        for peer in PeerKind::ALL {
            for edge in EDGES {
                let plan = peer.plan(&Setup { edge, ..setup(&Hosts::Any, Path::new("/w"), false) });
                let all = format!("{:?} {:?}", plan.files, plan.arguments);
                assert!(all.contains("9000"), "{all}");
                assert!(plan.listening == Listening::Announced || all.contains("8080"), "{all}");
                assert!(edge.is_secure() || !all.contains("example.test"), "{all}");
                assert!(edge != Edge::Sni || all.contains(ANY_HOST), "{all}");
            }
        }
    }

    #[test]
    fn every_plan_names_each_host() {
        let hosts = Hosts::Named((0..3).map(|index| format!("h{index}.example.test")).collect());
        for peer in PeerKind::ALL {
            let plan = peer.plan(&setup(&hosts, Path::new("/w"), true));
            let all: String = plan.files.iter().map(|file| file.text.as_str()).collect();
            for host in hosts.names() {
                assert!(all.contains(host), "{peer}: {host}");
            }
            assert!(all.contains("404") || peer == PeerKind::Ringgate || peer == PeerKind::Envoy, "{all}");
        }
    }

    /// What ringgate is given is a configuration without errors, for any host, one, and more than a file holds.
    #[test]
    fn ringgate_takes_its_plan() {
        let many = [(1, Edge::Http), (12_000, Edge::Http)];
        for (count, edge) in EDGES.map(|edge| (0, edge)).into_iter().chain(many) {
            let names = (0..count).map(|index| format!("h{index}.example.test")).collect();
            let hosts = if count == 0 { Hosts::Any } else { Hosts::Named(names) };
            let folder = tempfile::tempdir().unwrap();
            let pki = Pki::make(folder.path(), ANY_HOST).unwrap();
            let setup = Setup { edge, identity: &pki.identity, ..setup(&hosts, folder.path(), false) };
            let plan = PeerKind::Ringgate.plan(&setup);
            for file in &plan.files {
                let path = folder.path().join(&file.name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, &file.text).unwrap();
            }
            let loaded = ::ringgate::config::load(Path::new(&plan.arguments[1]));
            assert!(loaded.config.is_some() && loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
        }
    }

    /// What makes peers fast, and equal.
    #[test]
    fn peers_are_tuned() {
        let plan = |peer: PeerKind, reloads| {
            let plan = peer.plan(&setup(&Hosts::Any, Path::new("/w"), reloads));
            (plan.files[0].text.clone(), plan.arguments.join(" "))
        };
        let (nginx, arguments) = plan(PeerKind::Nginx, false);
        assert_eq!(arguments, "-p /w/ -e stderr -c /w/nginx.conf");
        for line in
            ["worker_processes 2;", "access_log off;", "keepalive 256;", "reuseport", "tcp_nodelay on;"]
        {
            assert!(nginx.contains(line), "{line}: {nginx}");
        }
        let (haproxy, arguments) = plan(PeerKind::Haproxy, false);
        assert_eq!(arguments, "-db -f /w/haproxy.cfg");
        assert!(haproxy.contains("nbthread 2") && haproxy.contains("http-reuse always"), "{haproxy}");
        assert!(!haproxy.contains("    log") && !haproxy.contains("admin.sock"), "{haproxy}");
        let (haproxy, arguments) = plan(PeerKind::Haproxy, true);
        assert!(arguments.starts_with("-W -db") && haproxy.contains("expose-fd listeners"), "{haproxy}");
        let (envoy, arguments) = plan(PeerKind::Envoy, false);
        assert!(arguments.contains("--concurrency 2") && !envoy.contains("access_log"), "{envoy}");
        for (peer, text) in [("nginx", nginx), ("haproxy", haproxy)] {
            assert!(text.to_lowercase().contains("x-forwarded-proto"), "{peer}");
        }
    }

    #[test]
    fn versions_are_tidy() {
        for (line, tidy) in [
            ("nginx version: nginx/1.22.1", "nginx/1.22.1"),
            ("/usr/bin/envoy  version: 9e55/1.40.0/Clean", "9e55/1.40.0/Clean"),
            ("HAProxy version 2.6.12 2026/10/17 - https://haproxy.org/", "HAProxy version 2.6.12 2026/10/17"),
            ("wrk debian/4.1.0-3 [epoll] Copyright (C) 2012", "wrk debian/4.1.0-3"),
            ("ringgate 0.1.0", "ringgate 0.1.0"),
        ] {
            assert_eq!(tidy_version(line), tidy);
        }
    }

    #[test]
    fn a_missing_peer_says_what_to_do() {
        let missing = discover(PeerKind::Envoy, Some(Path::new("/nonexistent/envoy"))).unwrap_err();
        assert_eq!(missing.reason, "/nonexistent/envoy is not a program");
        let silent = discover(PeerKind::Nginx, find_program("true").as_deref()).unwrap_err();
        assert!(silent.reason.contains("says no version"), "{}", silent.reason);
    }
}
