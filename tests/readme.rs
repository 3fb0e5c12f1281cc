//! The commands of README.md work as they stand there.
//!
//! Convention: every fenced block of README.md marked `sh` is run, in order, in one temporary directory with
//! copies of README.md and configs/; blocks marked otherwise (`text`, `console`, `toml`) are only shown. In a block
//!
//! * `ringgate` and `cargo run --release --` are the binary under test;
//! * each command is one line (a trailing `\` continues it); blank lines and `#` comments are skipped;
//! * a command must exit with 0, unless the comment line before it says `# exits with N`;
//! * a command that ends in `&` runs in the background to the end of its block, where it gets SIGTERM and must then
//!   exit with 0; the next command starts once it has printed a line that starts with `ready` or `ringgate demo:`;
//! * `curl` retries nothing: what it talks to is ready by then.
//!
//! Blocks marked `sh ignore` are not run: what needs another host, root, or more than a minute.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, mem};

use crate::support::gateway::binary;
use crate::support::sync::Watched;
use crate::support::tempdir::TempDir;

/// What one command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Step {
    command: String,
    background: bool,
    exit_code: i32,
}

/// The blocks to run, each a list of steps.
fn blocks(text: &str) -> Vec<Vec<Step>> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let content = lines.by_ref().take_while(|line| !line.starts_with("```")).collect::<Vec<_>>();
        if info.trim() == "sh" {
            blocks.push(steps(&content));
        }
    }
    blocks
}

fn steps(lines: &[&str]) -> Vec<Step> {
    let (mut steps, mut command, mut exit_code) = (Vec::new(), String::new(), 0);
    for line in lines {
        if let (true, Some(comment)) = (command.is_empty(), line.trim().strip_prefix('#')) {
            if let Some(code) = comment.trim().strip_prefix("exits with ") {
                exit_code = code.parse().expect("a number behind `exits with`");
            }
            continue;
        }
        match line.strip_suffix('\\') {
            Some(part) => command.push_str(part),
            None => {
                command.push_str(line);
                let whole =
                    mem::take(&mut command).replace("cargo run --release --", "ringgate").trim().to_owned();
                if !whole.is_empty() {
                    let background = whole.ends_with('&') && !whole.ends_with("&&");
                    let command = whole.trim_end_matches('&').trim_end().to_owned();
                    steps.push(Step { command, background, exit_code: mem::take(&mut exit_code) });
                }
            }
        }
    }
    steps
}

/// A directory with what the commands of README.md need, and `ringgate` on the path.
struct Playground(TempDir);

impl Playground {
    fn new() -> Self {
        let directory = TempDir::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["README.md", "configs"] {
            copy(&root.join(name), &directory.path().join(name));
        }
        let shim =
            directory.write("bin/ringgate", format!("#!/bin/sh\nexec '{}' \"$@\"\n", binary().display()));
        fs::set_permissions(shim, fs::Permissions::from_mode(0o755)).unwrap();
        Self(directory)
    }

    /// A shell for one command. The command replaces the shell, so that a signal reaches it.
    fn shell(&self, command: &str, replace: bool) -> Command {
        let path =
            format!("{}:{}", self.0.path().join("bin").display(), env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("sh");
        let exec = if replace { "exec " } else { "" };
        shell.arg("-euc").arg(format!("{exec}{command}")).current_dir(self.0.path()).env("PATH", path);
        shell.stdin(Stdio::null());
        shell
    }

    fn run(&self, step: &Step) {
        let mut child = self.shell(&step.command, false).spawn().unwrap();
        let code = wait(&mut child, &step.command);
        assert_eq!(code, Some(step.exit_code), "README.md: {}", step.command);
    }

    fn start(&self, step: &Step) -> Background {
        let mut child = self.shell(&step.command, true).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let state = Arc::new(Watched::<State>::default());
        thread::spawn({
            let state = Arc::clone(&state);
            move || {
                for line in output.lines().map_while(Result::ok) {
                    println!("{line}");
                    if line.starts_with("ready") || line.starts_with("ringgate demo:") {
                        state.update(|state| *state = State::Ready);
                    }
                }
                state.update(|state| *state = State::Ended);
            }
        });
        let background = Background { child, command: step.command.clone() };
        state.wait(&format!("`{}` to be ready", step.command), |state| *state != State::Starting);
        state.read(|state| assert_eq!(*state, State::Ready, "README.md: {}", step.command));
        background
    }
}

/// How far a background command has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Starting,
    Ready,
    Ended,
}

struct Background {
    child: Child,
    command: String,
}

impl Background {
    fn stop(mut self) {
        let kill =
            Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.child.id())).status().unwrap();
        assert!(kill.success(), "README.md: {} had ended", self.command);
        assert_eq!(wait(&mut self.child, &self.command), Some(0), "README.md: {}", self.command);
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(child: &mut Child, command: &str) -> Option<i32> {
    let deadline = Instant::now() + COMMAND_TIMEOUT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("README.md: {command}: not over after {COMMAND_TIMEOUT:?}");
        }
        // std has no wait with a deadline.
        thread::sleep(Duration::from_millis(5));
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}

/// Every runnable command of README.md, in order.
#[test]
fn commands_work() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let blocks = blocks(&text);
    assert!(blocks.iter().any(|block| !block.is_empty()), "README.md shows no command");
    let playground = Playground::new();
    for block in blocks {
        let mut background = Vec::new();
        for step in block {
            println!("+ {}", step.command);
            if step.background { background.push(playground.start(&step)) } else { playground.run(&step) }
        }
        background.into_iter().rev().for_each(Background::stop);
    }
}

#[test]
fn blocks_are_read_as_documented() {
    let text = "```sh\n# a comment\nringgate check a \\\n  b\n\n# exits with 1\nringgate check c\ncargo run --release -- run d &\n\
                curl x && y\n```\n```text\nnot run\n```\n```sh ignore\nnor this\n```\n";
    let step = |command: &str, background, exit_code| Step { command: command.into(), background, exit_code };
    assert_eq!(
        blocks(text),
        [vec![
            step("ringgate check a   b", false, 0),
            step("ringgate check c", false, 1),
            step("ringgate run d", true, 0),
            step("curl x && y", false, 0),
        ]]
    );
}
