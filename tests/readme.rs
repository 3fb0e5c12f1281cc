//! The commands of README.md work as they stand there.
//!
//! Convention: every fenced block of README.md marked `sh` is run, in order, in one temporary directory with
//! copies of README.md and configs/; blocks marked otherwise (`text`, `console`, `toml`) are only shown. In a block
//!
//! * `ringgate` is the binary under test;
//! * each command is one line (a trailing `\` continues it); blank lines and `#` comments are skipped;
//! * a command must exit with 0, unless the comment line before it says `# exits with N`;
//! * `#>` lines behind a command are what it prints, on either stream, to its end: `#> ...` stands for any lines, and a
//!   line that ends in `...` for any rest. Of a background command only the beginning counts;
//! * a command that ends in `&` runs in the background, and the next one starts once it has printed a line that starts with
//!   `ready` or `ringgate demo:`. `kill $!; wait $!` ends it; it must then exit with 0. None may be left at the end, so that
//!   who follows the page finds every port free;
//! * `curl` retries nothing: what it talks to is ready by then.
//!
//! Blocks marked `sh ignore` are not run: what needs another host, root, or more than a minute.

use std::fs::{self, File};
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
    prints: Vec<String>,
}

/// Ends the last background command.
const STOP: &str = "kill $!; wait $!";

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
        if let (Some(step), Some(printed)) = (steps.last_mut(), line.strip_prefix("#>")) {
            let step: &mut Step = step;
            step.prints.push(printed.strip_prefix(' ').unwrap_or(printed).to_owned());
            continue;
        }
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
                let whole = mem::take(&mut command).trim().to_owned();
                if !whole.is_empty() {
                    let background = whole.ends_with('&') && !whole.ends_with("&&");
                    let command = whole.trim_end_matches('&').trim_end().to_owned();
                    let exit_code = mem::take(&mut exit_code);
                    steps.push(Step { command, background, exit_code, prints: Vec::new() });
                }
            }
        }
    }
    steps
}

/// Whether lines are as the page shows them.
fn is_as_shown(shown: &[String], lines: &[&str]) -> bool {
    match (shown.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((any, rest)), _) if any == "..." => {
            (0..=lines.len()).any(|skipped| is_as_shown(rest, &lines[skipped..]))
        }
        (Some((shown, rest)), Some((line, lines))) => {
            let same = match shown.strip_suffix("...") {
                Some(start) => line.starts_with(start),
                None => shown == line,
            };
            same && is_as_shown(rest, lines)
        }
        _ => false,
    }
}

fn assert_shown(step: &Step, printed: &str) {
    let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
    let shown = step.prints.is_empty() || is_as_shown(&step.prints, &lines);
    assert!(shown, "README.md: {} shows\n{}\nbut prints\n{printed}", step.command, step.prints.join("\n"));
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
        let path = self.0.path().join("printed");
        let output = File::create(&path).unwrap();
        let errors = output.try_clone().unwrap();
        let mut child = self.shell(&step.command, false).stdout(output).stderr(errors).spawn().unwrap();
        let code = wait(&mut child, &step.command);
        let printed = fs::read_to_string(path).unwrap();
        println!("{printed}");
        assert_eq!(code, Some(step.exit_code), "README.md: {}", step.command);
        assert_shown(step, &printed);
    }

    fn start(&self, step: &Step) -> Background {
        let mut child = self.shell(&step.command, true).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let state = Arc::new(Watched::<(State, String)>::default());
        thread::spawn({
            let state = Arc::clone(&state);
            move || {
                for line in output.lines().map_while(Result::ok) {
                    println!("{line}");
                    let ready = line.starts_with("ready") || line.starts_with("ringgate demo:");
                    state.update(|(state, printed)| {
                        printed.push_str(&line);
                        printed.push('\n');
                        *state = if ready { State::Ready } else { *state };
                    });
                }
                state.update(|(state, _)| *state = State::Ended);
            }
        });
        let background = Background { child, command: step.command.clone() };
        state.wait(&format!("`{}` to be ready", step.command), |(state, _)| *state != State::Starting);
        state.read(|(state, printed)| {
            assert_eq!(*state, State::Ready, "README.md: {}", step.command);
            assert_shown(step, printed);
        });
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
    let mut background = Vec::new();
    for step in blocks.into_iter().flatten() {
        println!("+ {}", step.command);
        match step {
            _ if step.background => background.push(playground.start(&step)),
            _ if step.command == STOP => background.pop().expect("a background command to end").stop(),
            _ => playground.run(&step),
        }
    }
    assert!(background.is_empty(), "README.md leaves a command running");
}

/// The counters that a gateway prints are the ones that README.md explains.
#[test]
fn counters_are_explained() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let counters = serde_json::to_value(ringgate::shard::stats::StatsSnapshot::default()).unwrap();
    let unknown: Vec<_> =
        counters.as_object().unwrap().keys().filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(unknown.is_empty(), "README.md does not explain {unknown:?}");
}

/// What README.md lists as not yet built is what `check` answers "not yet supported" to, word for word of the schema.
#[test]
fn what_is_missing_is_known() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("README.md")).unwrap();
    let section = text.split_once("\n## Not yet\n").unwrap().1;
    let rows = section.split_once("\n## ").unwrap().0.lines().filter(|line| line.starts_with('|'));
    let known: String = ["schema.rs", "schema/service.rs", "gateway.rs", "service.rs"]
        .map(|name| fs::read_to_string(root.join("src/config").join(name)).unwrap())
        .concat();
    let mut count = 0;
    for word in rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter(|word| !word.starts_with('[')) {
        let key = word.rsplit('.').next().unwrap_or(word);
        assert!(known.contains(&format!("\"{key}\"")), "{word}");
        count += 1;
    }
    assert!(count > 30, "only {count} words");
}

#[test]
fn blocks_are_read_as_documented() {
    let text = "```sh\n# a comment\nringgate check a \\\n  b\n#> x\n#> ...\n\n# exits with 1\nringgate check c\nringgate run d &\n\
                kill $!; wait $!\ncurl x && y\n```\n```text\nnot run\n```\n```sh ignore\nnor this\n```\n";
    let step = |command: &str, background, exit_code| {
        let prints = if exit_code == 0 && command.ends_with(" b") {
            vec!["x".into(), "...".into()]
        } else {
            Vec::new()
        };
        Step { command: command.into(), background, exit_code, prints }
    };
    assert_eq!(
        blocks(text),
        [vec![
            step("ringgate check a   b", false, 0),
            step("ringgate check c", false, 1),
            step("ringgate run d", true, 0),
            step(STOP, false, 0),
            step("curl x && y", false, 0),
        ]]
    );
}

#[test]
fn output_is_compared_as_documented() {
    let shown = |shown: &[&str], lines: &[&str]| {
        is_as_shown(&shown.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>(), lines)
    };
    assert!(shown(&["a", "b"], &["a", "b"]) && !shown(&["a"], &["a", "b"]) && !shown(&["a", "b"], &["a"]));
    assert!(
        shown(&["...", "b"], &["a", "b"]) && shown(&["a", "..."], &["a"]) && !shown(&["...", "b"], &["a"])
    );
    assert!(shown(&["ab..."], &["abc"]) && !shown(&["ab..."], &["b"]));
}
