//! What `--help` prints, as people see it.

use std::process::Command;

use crate::support::gateway::binary;

const COLUMNS: usize = 100;

/// Texts are broken where lines are full, not in the middle of one: a line that was broken by hand and then again by
/// the terminal's width leaves a stump.
#[test]
fn no_line_is_broken_twice() {
    for command in ["check", "cores", "demo", "reload", "run"] {
        let mut help = Command::new(binary());
        let output = help.args([command, "--help"]).env("COLUMNS", COLUMNS.to_string()).output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2) {
            let [line, next] = pair else { unreachable!() };
            let word = next.split_whitespace().next().unwrap_or_default();
            let indent = |line: &str| line.len() - line.trim_start().len();
            // A heading, an item of a list and an empty line end a text.
            let goes_on = !line.is_empty() && !next.is_empty() && !line.ends_with(':') && indent(next) == 0;
            assert!(!goes_on || line.len() + 1 + word.len() > COLUMNS, "{command}: {line:?}, then {next:?}");
            assert!(line.len() <= COLUMNS, "{command}: {line:?}");
        }
        assert!(text.contains("Examples:\n") && text.contains("Exit codes:\n"), "{command}");
    }
}
