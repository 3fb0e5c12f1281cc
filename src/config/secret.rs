//! Finds the values of keys that look secret, so that no excerpt prints them.
//!
//! Works on the text rather than on the TOML tree, because excerpts are taken from files that do not parse
//! too. It errs towards hiding: from the value's first byte to the end of its last line, and all of a table
//! whose header looks secret.

use std::ops::Range;

/// Parts of key names that mark a secret; `-` counts as `_`.
const WORDS: [&str; 8] =
    ["private_key", "password", "passphrase", "token", "secret", "credential", "api_key", "authorization"];

/// Byte ranges of secret values, in order, without overlap.
pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut in_secret_table = false;
    let mut at = 0;
    while at < text.len() {
        let line = line_end(text, at);
        let content = text.get(at..line).unwrap_or_default();
        let header = content.trim_start().starts_with('[');
        let word = find_word(content);
        if header {
            in_secret_table = word.is_some();
        }
        let value = match word {
            _ if in_secret_table && !header => Some(at),
            Some(word) if !header => value_start(content, word).map(|start| at + start),
            _ => None,
        };
        match value {
            Some(start) => {
                let end = value_end(text, start);
                found.push(start..end);
                at = end.max(line) + 1;
            }
            None => at = line + 1,
        }
    }
    found
}

/// Range in `line` of the first secret word.
fn find_word(line: &str) -> Option<Range<usize>> {
    if line.len() < 5 {
        return None;
    }
    let line = line.to_ascii_lowercase().replace('-', "_");
    let first = WORDS.iter().filter_map(|word| line.find(word).map(|at| at..at + word.len()));
    first.min_by_key(|range| range.start)
}

/// Where the value begins in a line that holds a secret word: behind the next `=`, or, where that is missing,
/// behind the word itself unless the word is text in quotes.
fn value_start(line: &str, word: Range<usize>) -> Option<usize> {
    let after = line.get(word.end..)?;
    if let Some(equals) = after.find('=') {
        let value = after.get(equals + 1..)?;
        let blanks = value.len() - value.trim_start_matches([' ', '\t']).len();
        return Some(word.end + equals + 1 + blanks);
    }
    let before = line.get(..word.start)?;
    let quoted = before.matches(['"', '\'']).count() % 2 == 1;
    (!quoted).then_some(word.end)
}

/// End of the line on which the value that starts at `start` ends: follows strings of several lines and
/// brackets.
fn value_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let skipped = bytes.iter().skip(start).take_while(|byte| byte.is_ascii_whitespace()).count();
    let mut at = start + skipped;
    let mut depth = 0u32;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\n' if depth == 0 => return at,
            b'"' | b'\'' => {
                at = string_end(text, at);
                continue;
            }
            b'#' => {
                at = line_end(text, at);
                continue;
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// First byte behind the string that opens at `open`; an unterminated one ends with its line, or with the
/// text when it opened with three quotes.
fn string_end(text: &str, open: usize) -> usize {
    let bytes = text.as_bytes();
    let Some(&quote) = bytes.get(open) else { return text.len() };
    let triple = [quote; 3];
    let multi_line = bytes.get(open..).is_some_and(|rest| rest.starts_with(&triple));
    let mut at = open + if multi_line { 3 } else { 1 };
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' if quote == b'"' => at += 1,
            b'\n' if !multi_line => return at,
            _ if byte == quote && !multi_line => return at + 1,
            _ if byte == quote && bytes.get(at..).is_some_and(|rest| rest.starts_with(&triple)) => {
                return at + 3;
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn line_end(text: &str, at: usize) -> usize {
    let rest = text.as_bytes().get(at..).unwrap_or_default();
    memchr::memchr(b'\n', rest).map_or(text.len(), |offset| at + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each text holds the marker `XYZZY` only in secret values; none may remain outside of the ranges.
    #[test]
    fn hides_every_secret_value() {
        let texts = [
            "private_key = \"XYZZY\"\nother = 1",
            "tls = { mode = \"SIMPLE\", private-key = \"XYZZY\" }",
            "private_key = \"\"\"\nXYZZY\nXYZZY\n\"\"\"\nport = 1",
            "private_key = '''\nXYZZY'\nXYZZY",
            "db.password = [\n \"a]\",\n \"XYZZY\",\n]\nx = 1",
            "password \"XYZZY\"",
            "x = { a = 1, token \"XYZZY\" }",
            "Secret =\n \"XYZZY\"\n",
            "[service.secrets]\nvalue = \"XYZZY\"\nmore = \"\"\"\nXYZZY\"\"\"\n[other]\n",
            "api_key = \"unterminated XYZZY\nport = 1",
            "token = { # [\n a = \"XYZZY\",\n b = 1 }\n",
        ];
        for text in texts {
            let mut shown = String::new();
            let mut at = 0;
            for range in find(text) {
                shown.push_str(&text[at..range.start]);
                at = range.end;
            }
            shown.push_str(&text[at..]);
            assert!(!shown.contains("XYZZY"), "{text:?} shows {shown:?}");
        }
    }

    /// What is not secret stays readable, words in quoted values included.
    #[test]
    fn leaves_the_rest() {
        assert!(find("name = \"token-service\"\nport = 80\n").is_empty());
        assert_eq!(find("password = 1\nport = 80\n"), vec![11..12]);
    }
}
