//! What is wrong with a text that `--help` prints, as people see it. Shared with the tests of the harness.

use std::path::Path;
use std::process::Command;

/// Lists and examples are broken by hand and must fit in this.
const COLUMNS: usize = 80;

/// Checks the help of `program command`: texts are broken where lines are full, not in the middle of one. What is broken
/// by hand and then again by the terminal's width leaves stumps, so that paragraphs come in one line each, and lines of
/// lists are short enough for any terminal.
pub(crate) fn check(program: &Path, command: &str) {
    let help = |columns: usize| {
        let mut run = Command::new(program);
        run.args([command, "--help"].iter().filter(|word| !word.is_empty()))
            .env("COLUMNS", columns.to_string());
        let output = run.output().unwrap();
        assert!(output.status.success(), "{command}");
        String::from_utf8(output.stdout).unwrap()
    };
    let whole = help(10_000);
    let lines: Vec<&str> = whole.lines().collect();
    let options = lines.iter().rposition(|line| line.starts_with("  -")).unwrap();
    let is_indented = |line: &str| line.starts_with(' ');
    for pair in lines[options + 1..].windows(2) {
        let [line, next] = pair else { unreachable!() };
        assert!(!is_indented(next) || next.len() <= COLUMNS, "{command}: {} columns: {next:?}", next.len());
        let goes_on = !line.is_empty() && !next.is_empty() && !is_indented(line) && !is_indented(next);
        assert!(!goes_on, "{command}: a paragraph is broken by hand: {line:?}, then {next:?}");
    }
    for columns in [COLUMNS, 100] {
        for line in help(columns).lines() {
            assert!(line.chars().count() <= columns, "{command}: more than {columns} columns: {line:?}");
        }
    }
    assert!(whole.contains("Examples:\n"), "{command}");
    assert!(command.is_empty() || whole.contains("Exit codes:\n"), "{command}");
}
