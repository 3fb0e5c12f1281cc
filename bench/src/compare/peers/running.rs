//! A proxy that runs: started on its cores, waited for until it serves, measured, reloaded and ended.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Hosts, Installed, Listening, PeerKind, Plan, Reload, Setup};
use crate::compare::cores::CoreSet;
use crate::compare::edge::Edge;
use crate::compare::pki::Identity;
use crate::compare::process::{Process, command_line};
use crate::compare::usage;

/// A proxy with 100 000 hosts may think for a while.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Attempts to start on a port that was free a moment ago.
const PORTS_MAX: usize = 5;

/// A proxy that serves. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Running {
    process: Process,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// How it was planned.
    pub(crate) plan: Plan,
    /// Its command line.
    pub(crate) command: String,
    /// From its start until it served.
    pub(crate) started_in: Duration,
    /// What it said when it was ready, if it says anything.
    pub(crate) said: String,
}

/// What a proxy is started for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    /// Folder for its files; it must exist.
    pub(crate) folder: &'a Path,
    /// Where requests go.
    pub(crate) upstream: SocketAddr,
    /// What it does with a connection.
    pub(crate) edge: Edge,
    /// Who it is where it ends TLS.
    pub(crate) identity: &'a Identity,
    /// Which requests are served.
    pub(crate) hosts: &'a Hosts,
    /// One thread for each.
    pub(crate) cores: &'a CoreSet,
    /// Client connections that will come.
    pub(crate) connections: usize,
    /// They carry a lot.
    pub(crate) bulk: bool,
    /// Whether it will be told to reload.
    pub(crate) reloads: bool,
}

impl Running {
    /// Starts `installed` and waits until it serves.
    pub(crate) fn start(installed: &Installed, wanted: &Wanted<'_>) -> Result<Self, String> {
        let mut failures = Vec::new();
        for _ in 0..PORTS_MAX {
            match Self::start_once(installed, wanted) {
                Err(error) if is_port_taken(&error) => failures.push(error),
                other => return other,
            }
        }
        Err(failures.join("\n"))
    }

    fn start_once(installed: &Installed, wanted: &Wanted<'_>) -> Result<Self, String> {
        let peer = installed.peer;
        let port = free_port().map_err(|error| format!("{peer}: no free port: {error}"))?;
        let plan = peer.plan(&wanted.setup(installed, port));
        write_files(peer, wanted.folder, &plan)?;
        // It runs in a folder of its own, where a path from here would lead nowhere.
        let program = std::path::absolute(&installed.path).map_err(|error| format!("{peer}: {error}"))?;
        let mut command = Command::new(program);
        command.args(&plan.arguments).current_dir(wanted.folder);
        let begun = Instant::now();
        let mut process = Process::start(peer.name(), &mut command, wanted.cores, wanted.folder)?;
        let given = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (address, said) = match plan.listening {
            Listening::Announced => {
                process.wait_for("ready", START_TIMEOUT, |process| announced(&process.stdout()))?
            }
            Listening::OnGivenPort => process.wait_for("it accepts", START_TIMEOUT, |_| {
                TcpStream::connect(given).ok().map(|_| (given, String::new()))
            })?,
        };
        let started_in = begun.elapsed();
        let command = command_line(&command);
        Ok(Self { process, address, plan, command, started_in, said })
    }

    /// Time on and waiting for cores so far.
    pub(crate) fn times(&self) -> usage::Times {
        usage::Times::of(self.process.pid())
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        usage::resident_bytes(self.process.pid())
    }

    /// Has it serve other hosts, its own way. Returns once it was told, not when they are effective.
    pub(crate) fn reload(&self, installed: &Installed, wanted: &Wanted<'_>) -> Result<(), String> {
        let Reload::BySignal(signal) = self.plan.reload else {
            return Err(format!("{}: reloads are not supported", installed.peer));
        };
        let plan = installed.peer.plan(&wanted.setup(installed, self.address.port()));
        write_files(installed.peer, wanted.folder, &plan)?;
        self.process.signal(signal)
    }

    /// Fails when it has ended although nobody asked it to.
    pub(crate) fn check_alive(&mut self) -> Result<(), String> {
        match self.process.ended() {
            Some(status) => Err(self.process.failure(&format!("ended by itself ({status})"))),
            None => Ok(()),
        }
    }
}

impl Wanted<'_> {
    fn setup<'s>(&'s self, installed: &'s Installed, port: u16) -> Setup<'s> {
        Setup {
            program: &installed.path,
            edge: self.edge,
            identity: self.identity,
            folder: self.folder,
            port,
            upstream: self.upstream,
            hosts: self.hosts,
            threads: self.cores.count(),
            connections: self.connections,
            bulk: self.bulk,
            cores: self.cores.to_string(),
            reloads: self.reloads,
        }
    }
}

/// Each is written beside its place and renamed: a proxy that is just reading must not see half of it.
fn write_files(peer: PeerKind, folder: &Path, plan: &Plan) -> Result<(), String> {
    for file in &plan.files {
        let (path, new) = (folder.join(&file.name), folder.join(format!("{}.new", file.name)));
        let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
        parent
            .and_then(|()| fs::write(&new, &file.text))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|error| format!("{peer}: {}: {error}", path.display()))?;
    }
    Ok(())
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// nginx and HAProxy quote the system; Envoy says `cannot bind`.
fn is_port_taken(error: &str) -> bool {
    ["Address already in use", "cannot bind"].iter().any(|text| error.contains(text))
}

/// The address of the first `listening` line and the `ready` line, once that is there.
fn announced(stdout: &str) -> Option<(SocketAddr, String)> {
    let ready =
        stdout.split_inclusive('\n').find(|line| line.starts_with("ready") && line.ends_with('\n'))?;
    let address = stdout.lines().find_map(|line| line.strip_prefix("listening "))?;
    let address = address.split_ascii_whitespace().next()?.parse().ok()?;
    Some((address, ready.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn announcements() {
        let listening = "listening 127.0.0.1:4000 gateway=bench server=1 protocol=HTTP\n";
        assert_eq!(announced(listening), None);
        assert_eq!(announced(&format!("{listening}ready generation=1 sh")), None);
        let (address, said) = announced(&format!("{listening}ready shards=1\n")).unwrap();
        assert_eq!((address.port(), said.as_str()), (4000, "ready shards=1"));
    }
}
