//! The gateway as a child process on kernel-chosen ports.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::client::Client;
use super::sync::Watched;
use super::tempdir::TempDir;
use super::{Backend, DEADLINE, config};

/// An I/O driver to test.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Driver {
    Epoll,
    IoUring,
}

impl Driver {
    /// Its value for `--driver`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::IoUring => "io_uring",
        }
    }

    /// Whether the io_uring variants run; left out only when the environment says so, never by guessing.
    pub(crate) fn io_uring_wanted() -> bool {
        let wanted = env::var_os("RINGGATE_TEST_NO_URING").is_none_or(|value| value != "1");
        if !wanted {
            println!("left out: RINGGATE_TEST_NO_URING=1");
        }
        wanted
    }
}

/// The program under test.
pub(crate) fn binary() -> PathBuf {
    env::var_os("RINGGATE_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_ringgate").into(), PathBuf::from)
}

/// One line `listening ..` of the gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    pub(crate) gateway: String,
    /// Position of the server in its gateway, from 1.
    pub(crate) server: usize,
    pub(crate) protocol: String,
}

/// What the process has printed.
#[derive(Debug, Default)]
struct Output {
    stdout: Vec<String>,
    stdout_ended: bool,
    stderr: Vec<u8>,
}

/// A running gateway. Dropping it kills the process; a failed test gets its output printed.
pub(crate) struct Gateway {
    child: Child,
    output: Arc<Watched<Output>>,
    listening: Vec<Listening>,
    directory: TempDir,
}

impl Gateway {
    /// One shard, not pinned, so that its pools and rotors behave predictably.
    pub(crate) fn start(driver: Driver, config: &str) -> Self {
        Self::start_with(config, &["--driver", driver.name(), "--cores", "1", "--no-pin"])
    }

    /// One route to `backend` for everything.
    pub(crate) fn single(driver: Driver, backend: &Backend) -> Self {
        Self::start(driver, &config::single(backend.address(), "", ""))
    }

    /// Starts with these further arguments of `run` and waits until it is ready.
    pub(crate) fn start_with(config: &str, arguments: &[&str]) -> Self {
        let directory = TempDir::new();
        let path = directory.write("ringgate.toml", config);
        let mut command = Command::new(binary());
        command.arg("run").arg(path).args(arguments);
        Self::spawn(command, directory)
    }

    /// Runs `command`, which must behave as `ringgate run`, until it is ready.
    pub(crate) fn spawn(mut command: Command, directory: TempDir) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = Arc::new(Watched::<Output>::default());
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        thread::spawn({
            let output = Arc::clone(&output);
            move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    output.update(|output| output.stdout.push(line));
                }
                output.update(|output| output.stdout_ended = true);
            }
        });
        thread::spawn({
            let output = Arc::clone(&output);
            move || collect(stderr, &output)
        });
        let mut gateway = Self { child, output, listening: Vec::new(), directory };
        gateway.await_ready();
        gateway
    }

    fn await_ready(&mut self) {
        let wanted = "ready generation=1 ";
        self.output.wait("the line `ready`", |output| {
            output.stdout_ended || output.stdout.iter().any(|line| line.starts_with(wanted))
        });
        let stdout = self.stdout();
        assert!(stdout.iter().any(|line| line.starts_with(wanted)), "ended before it was ready: {stdout:#?}");
        self.listening = stdout.iter().filter_map(|line| parse_listening(line)).collect();
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the lines on standard output are as `wanted` says.
    pub(crate) fn wait_stdout(&self, what: &str, wanted: impl Fn(&[String]) -> bool) {
        self.output.wait(what, |output| wanted(&output.stdout));
    }

    /// The directory of its configuration.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Every `listening` line.
    pub(crate) fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// The address of the only listener.
    pub(crate) fn address(&self) -> SocketAddr {
        assert_eq!(self.listening.len(), 1, "{:?}", self.listening);
        self.listening[0].address
    }

    /// The address of a gateway's server, counted from 1.
    pub(crate) fn address_of(&self, gateway: &str, server: usize) -> SocketAddr {
        let wanted = |listening: &&Listening| listening.gateway == gateway && listening.server == server;
        self.listening.iter().find(wanted).unwrap_or_else(|| panic!("no {gateway}/{server}")).address
    }

    /// A client connected to the only listener.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// The lines printed on standard output so far.
    pub(crate) fn stdout(&self) -> Vec<String> {
        self.output.read(|output| output.stdout.clone())
    }

    /// Standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.output.read(|output| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Waits until standard error holds `text`.
    pub(crate) fn wait_stderr(&self, text: &str) {
        self.output.wait(&format!("{text:?} on standard error"), |output| {
            String::from_utf8_lossy(&output.stderr).contains(text)
        });
    }

    /// Replaces the configuration file; [`signal`](Self::signal) `HUP` loads it.
    pub(crate) fn rewrite(&self, config: &str) {
        self.directory.write("ringgate.toml", config);
    }

    /// Reloads a changed configuration and waits until `generation` serves.
    pub(crate) fn reload(&self, config: &str, generation: u32) {
        self.rewrite(config);
        self.signal("HUP");
        self.wait_stderr(&format!("reloaded generation={generation}"));
    }

    /// Sends a signal by name (`TERM`, `INT`, `HUP`).
    pub(crate) fn signal(&self, name: &str) {
        // The shell's own `kill`: present everywhere, and no unsafe code here.
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the process to end.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the gateway did not end: {}", self.stderr());
            // std has no wait with a deadline.
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops it in order and asserts that it says so by exit code 0.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        let status = self.wait_exit();
        assert!(status.success(), "{status}: {}", self.stderr());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let died = self.child.try_wait().ok().flatten();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            if let Some(status) = died {
                eprintln!("--- the gateway had ended: {status}");
            }
            eprintln!("--- gateway stdout:\n{}", self.stdout().join("\n"));
            eprintln!("--- gateway stderr:\n{}", self.stderr());
        }
    }
}

fn collect(mut from: impl Read, output: &Watched<Output>) {
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        output.update(|output| output.stderr.extend_from_slice(&chunk[..count]));
    }
}

/// Parses `listening 127.0.0.1:40001 gateway=web server=1 protocol=HTTP`.
fn parse_listening(line: &str) -> Option<Listening> {
    let mut words = line.strip_prefix("listening ")?.split(' ');
    let address = words.next()?.parse().unwrap_or_else(|error| panic!("{line:?}: {error}"));
    let mut value = |key: &str| {
        let word = words.next().unwrap_or_default();
        word.strip_prefix(key)
            .and_then(|rest| rest.strip_prefix('='))
            .unwrap_or_else(|| panic!("{line:?}"))
            .to_owned()
    };
    let (gateway, server, protocol) = (value("gateway"), value("server"), value("protocol"));
    Some(Listening { address, gateway, server: server.parse().expect("server=number"), protocol })
}
