//! Processes of a comparison: started on given cores, their output kept in files, ended with everything they started.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ringgate::sys::process::end_with_parent;
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, kill_process_group, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::cores::CoreSet;
use super::usage;

/// Time between two looks at something that is being waited for.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// What a process may take to end after SIGTERM; proxies that drain have nothing left to wait for by then.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Exit code of "ended by a signal", as a shell has it for SIGINT.
pub(crate) const INTERRUPTED_CODE: u8 = 130;

/// Waits for the end of its standard input, which comes with this process's own, and kills a group of processes.
const GUARD: &str = "read -r _; kill -s KILL -- \"-$1\"";

/// Set by SIGINT and SIGTERM.
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on SIGINT and SIGTERM make the waits of this module fail, so that every process started here is ended.
pub(crate) fn watch_interrupts() -> Result<(), String> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // The second one ends this process at once.
        signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED_CODE.into(), Arc::clone(flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(flag)))
            .map_err(|error| format!("no signal handlers: {error}"))?;
    }
    Ok(())
}

/// Whether an interrupt has come.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Fails once an interrupt has come.
pub(crate) fn check_interrupted() -> Result<(), String> {
    if is_interrupted() { Err("interrupted".into()) } else { Ok(()) }
}

/// Sleeps, unless interrupted.
pub(crate) fn pause(time: Duration) -> Result<(), String> {
    let end = Instant::now() + time;
    loop {
        check_interrupted()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(LOOK));
    }
}

/// Raises the limit of open files as far as it goes, for this process and those that it starts.
pub(crate) fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Too few show where they are needed.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Files that a process may have open.
pub(crate) fn descriptors_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What a short command printed; one that takes longer than `timeout` is killed with what it started.
pub(crate) fn output(command: &mut Command, timeout: Duration) -> Result<Output, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().map_err(|error| format!("does not start: {error}"))?;
    let group = pid(child.id());
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || drop(sender.send(child.wait_with_output())));
    match ended.recv_timeout(timeout) {
        Ok(output) => output.map_err(|error| error.to_string()),
        Err(_) => {
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
            Err(format!("`{}` did not end within {} s", command_line(command), timeout.as_secs()))
        }
    }
}

/// A child process. Dropping it ends it and everything it started; so does the end of this one, however that comes.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    guard: Option<Child>,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command` on `cores`; its output goes to files in `folder` that carry its name.
    pub(crate) fn start(
        name: &str,
        command: &mut Command,
        cores: &CoreSet,
        folder: &Path,
    ) -> Result<Self, String> {
        let failed = |error: io::Error| format!("{name}: {}: {error}", command_line(command));
        let (stdout, stderr) = (folder.join(format!("{name}.out")), folder.join(format!("{name}.err")));
        let files = File::create(&stdout).and_then(|out| Ok((out, File::create(&stderr)?)));
        let (out, err) = files.map_err(failed)?;
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        end_with_parent(command);
        // A child inherits the affinity of the thread that starts it, and ends with that thread: it must be this one.
        let spawned = cores.pinned(|| command.spawn())?;
        let child = spawned.map_err(|error| format!("{name}: {}: {error}", command_line(command)))?;
        let guard = guard(child.id());
        Ok(Self { child, guard, name: name.to_owned(), stdout, stderr })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Standard output so far.
    pub(crate) fn stdout(&self) -> String {
        fs::read(&self.stdout).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until `look` has a result, `timeout` is over or the process has ended.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        timeout: Duration,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, String> {
        let end = Instant::now() + timeout;
        loop {
            let ended = self.ended();
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if let Some(status) = ended {
                return Err(self.failure(&format!("ended ({status}) before {what}")));
            }
            if Instant::now() >= end {
                return Err(self.failure(&format!("{what}: not within {} s", timeout.as_secs())));
            }
            pause(LOOK)?;
        }
    }

    /// An error that says whose it is and what it last wrote.
    pub(crate) fn failure(&self, what: &str) -> String {
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let said = [text(&self.stdout), text(&self.stderr)].concat();
        let lines: Vec<_> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n    ");
        let said = if last.is_empty() { String::new() } else { format!("; it wrote:\n    {last}") };
        format!("{}: {what}{said}", self.name)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        let sent = pid(self.pid()).map(|pid| kill_process(pid, signal));
        sent.transpose().map(drop).map_err(|error| format!("{}: signal {signal:?}: {error}", self.name))
    }

    fn end(&mut self) {
        // First, since it knows only a number.
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.kill();
            let _ = guard.wait();
        }
        if self.ended().is_some() {
            return;
        }
        // Children of children are not ours to wait for, but they must not stay.
        let descendants = usage::tree(self.pid());
        for _ in 0..2 {
            let _ = self.signal(Signal::TERM);
            let end = Instant::now() + END_TIMEOUT / 2;
            while Instant::now() < end && self.ended().is_none() {
                thread::sleep(LOOK);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for descendant in descendants.into_iter().filter(|&other| other != self.pid()) {
            let _ = pid(descendant).map(|pid| kill_process(pid, Signal::KILL));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// A process that ends with its parent may have children that do not, such as nginx's workers. Without a shell they
/// stay when this process is killed; no more than that.
fn guard(group: u32) -> Option<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", GUARD, "guard", &group.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().ok()
}

fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

/// A command as it would be typed.
pub(crate) fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
