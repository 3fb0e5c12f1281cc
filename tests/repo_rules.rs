//! Rules of the source tree that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Files and folders that decide without I/O: they must stay testable and fuzzable without a runtime.
const WITHOUT_IO: &[&str] = &[
    "src/http1",
    "src/table",
    "src/message.rs",
    "src/config",
    "src/upstream/balance.rs",
    "src/downstream/client_hello",
    "src/proxy_protocol",
    "src/proxy_protocol.rs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file of the crate, its tests and the harness, relative to the root, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for top in ["src", "tests", "bench"] {
        collect(&root().join(top), &mut files);
    }
    assert!(files.len() > 40, "the walk found only {} files", files.len());
    files
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // Build output of the fuzzing crate.
            if !path.ends_with("target") {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.push((path.strip_prefix(root()).unwrap().to_owned(), text));
        }
    }
}

/// Code without comments; good enough for a search for words.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
}

fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(inside) && !line[at + word.len()..].starts_with(inside))
}

fn assert_none(offences: &[String], rule: &str) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

/// The compiler denies it by default; a folder or test that allows it again would go unnoticed.
#[test]
fn unsafe_code_only_in_sys() {
    let mut offences = Vec::new();
    for (path, text) in sources() {
        if path.starts_with("src/sys") || path == Path::new("tests/repo_rules.rs") {
            continue;
        }
        for (number, line) in code_lines(&text) {
            // The word also occurs in the lint's name and in strings of diagnostics.
            if has_word(line, "unsafe") && !line.contains('"') || line.contains("allow(unsafe_code") {
                offences.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert_none(&offences, "unsafe code belongs into src/sys");
}

/// The standard macros panic where the reader has gone or the disk is full.
#[test]
fn printing_goes_through_stdio() {
    let mut offences = Vec::new();
    for (path, text) in sources() {
        let program = path.starts_with("src/cli") || path.starts_with("bench/src");
        let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
        for (number, line) in code_lines(&text[..tests]).filter(|_| program) {
            if ["print!", "println!", "eprint!", "eprintln!"].iter().any(|word| has_word(line, word)) {
                offences.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert_none(&offences, "print with `out!`, `outln!`, `err!` and `errln!` of src/stdio.rs");
}

#[test]
fn decisions_know_no_runtime() {
    let mut offences = Vec::new();
    for (path, text) in sources() {
        if !WITHOUT_IO.iter().any(|part| path.starts_with(part)) {
            continue;
        }
        for (number, line) in code_lines(&text) {
            if has_word(line, "monoio") {
                offences.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert_none(&offences, "these decide without I/O and must not import monoio");
    assert!(WITHOUT_IO.iter().all(|part| root().join(part).exists()), "a name in the list is out of date");
}

#[test]
fn files_are_short() {
    let long = |(path, text): (PathBuf, String)| {
        let lines = text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", path.display()))
    };
    let offences: Vec<_> = sources().into_iter().filter_map(long).collect();
    assert_none(&offences, &format!("at most {FILE_LINES_MAX} lines"));
}

/// Counts from a line that holds `fn` to the first one at the same indent that starts with `}`: rustfmt puts the end
/// of every multi-line function there.
fn long_functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut long = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let is_function = has_word(code, "fn") && code.contains("fn ") && !code.trim_start().starts_with('"');
        if !is_function || code.trim_end().ends_with([';', '}', ',']) {
            continue;
        }
        let end = lines.iter().skip(start + 1).position(|next| {
            indent(next) == indent(line)
                && (next.trim_start().starts_with('}') || next.trim_end().ends_with(';'))
        });
        let length = end.map_or(1, |end| end + 2);
        if length > FUNCTION_LINES_MAX {
            long.push((start + 1, length));
        }
    }
    long
}

#[test]
fn functions_are_short() {
    let mut offences = Vec::new();
    for (path, text) in sources() {
        for (line, length) in long_functions(&text) {
            offences.push(format!("{}:{line}: {length} lines", path.display()));
        }
    }
    assert_none(&offences, &format!("at most {FUNCTION_LINES_MAX} lines of a function"));
}

/// An intention without a condition stays for ever: say when it falls due, in brackets.
#[test]
fn todos_have_a_condition() {
    let mut offences = Vec::new();
    for (path, text) in sources() {
        if path == Path::new("tests/repo_rules.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for word in ["TODO", "FIXME", "XXX", "HACK"] {
                let has_condition = line.contains(&format!("{word}(when "));
                if has_word(line, word) && !has_condition {
                    offences.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
                }
            }
            if has_word(line, "todo!") || line.contains("todo!(") || line.contains("unimplemented!(") {
                offences.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert_none(&offences, "write `TODO(when ..): ..`, or do it");
}

/// A test that is left out must say why.
#[test]
fn ignored_tests_have_a_reason() {
    let mut offences = Vec::new();
    for (path, text) in sources() {
        if path == Path::new("tests/repo_rules.rs") {
            continue;
        }
        for (number, line) in code_lines(&text) {
            if line.contains("#[ignore]") {
                offences.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert_none(&offences, "write `#[ignore = \"reason\"]`");
}

/// The rules' own eyes.
#[test]
fn the_scans_find_what_they_look_for() {
    assert!(has_word("let x = unsafe {", "unsafe") && !has_word("unsafe_code", "unsafe"));
    let body = "    x();\n".repeat(FUNCTION_LINES_MAX - 2);
    assert_eq!(long_functions(&format!("fn a() {{\n{body}}}\n")), []);
    assert_eq!(
        long_functions(&format!("fn a(\n    x: u8,\n) {{\n{body}}}\n")),
        [(1, FUNCTION_LINES_MAX + 2)]
    );
    let method = format!(
        "impl A {{\n    pub async fn a() {{\n{}    }}\n}}\n",
        body.replace("    x", "        x").repeat(2)
    );
    assert_eq!(long_functions(&method), [(2, 2 * (FUNCTION_LINES_MAX - 2) + 2)]);
}
