//! Finds the values of keys that look secret, and PEM text wherever it stands, so that neither excerpts nor messages print
//! them.
//!
//! Works on the text rather than on the TOML tree, because excerpts are taken from files that do not parse
//! too. It errs towards hiding: from the value's first byte to the end of its last line unless what follows is clearly
//! the next key, and all of a table whose header looks secret.

use std::ops::Range;

use memchr::memmem;

/// Parts of key names that mark a secret; `-` counts as `_`.
const WORDS: [&str; 8] =
    ["private_key", "password", "passphrase", "token", "secret", "credential", "api_key", "authorization"];

/// How every PEM block begins (RFC 7468 section 2).
pub(super) const PEM_BEGIN: &str = "-----BEGIN";

const PEM_END: &str = "-----END";

/// Characters from which on a line of nothing but base64 counts as a part of a key; PEM has 64 in a line.
const BASE64_MIN: usize = 40;

/// Where secrets stand in a text.
#[derive(Debug)]
pub(super) struct Secrets {
    /// Byte ranges of all of them, in order, without overlap.
    pub(super) all: Vec<Range<usize>>,
    /// Of these, PEM text and lines of base64; what stands in one block is in one range.
    pub(super) blocks: Vec<Range<usize>>,
}

impl Secrets {
    /// Finds them.
    pub(super) fn find(text: &str) -> Self {
        let mut blocks = merged(pem(text).chain(base64(text)).collect());
        // What stands one below the other was pasted at once.
        blocks.dedup_by(|next, last| {
            let between = text.get(last.end..next.start).unwrap_or_default();
            let joins = between.trim_matches(|c: char| c.is_whitespace() || "\"',".contains(c)).is_empty();
            if joins {
                last.end = next.end;
            }
            joins
        });
        for block in &mut blocks {
            block.end = quotes_end(text, block.end);
        }
        let mut all = values(text);
        all.extend(blocks.iter().cloned());
        all.extend(runs(text).filter(|run| looks_like_key(text.get(run.clone()).unwrap_or_default())));
        Self { all: merged(all), blocks }
    }

    /// A message about a range of `text`, without what that range has in common with a block.
    pub(super) fn hide(&self, text: &str, lines: &Range<usize>, message: String) -> String {
        let first = self.blocks.partition_point(|block| block.end < lines.start);
        let near = self.blocks.get(first..).unwrap_or_default();
        let mut hidden = message;
        for block in near.iter().take_while(|block| block.start <= lines.end) {
            let secret = text.get(block.clone()).unwrap_or_default();
            let finder = |run: &str| memmem::find(secret.as_bytes(), run.as_bytes()).is_some();
            let mut shown = String::with_capacity(hidden.len());
            let mut rest = hidden.as_str();
            while !rest.is_empty() {
                let run = rest.find(|c| !is_base64(c)).unwrap_or(rest.len());
                let (run, behind) = rest.split_at(run);
                shown.push_str(if run.len() >= HIDDEN_MIN && finder(run) { "***" } else { run });
                let other = behind.find(is_base64).unwrap_or(behind.len());
                let (other, behind) = behind.split_at(other);
                shown.push_str(other);
                rest = behind;
            }
            hidden = shown;
        }
        without_keys(hidden)
    }
}

/// A text without what looks like a part of a key, wherever that came from.
pub(super) fn without_keys(text: String) -> String {
    let keys: Vec<_> =
        runs(&text).filter(|run| looks_like_key(text.get(run.clone()).unwrap_or_default())).collect();
    let mut hidden = text;
    for run in keys.into_iter().rev() {
        hidden.replace_range(run, "***");
    }
    hidden
}

/// Runs of characters of both base64 alphabets that may be a part of a key.
fn runs(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(byte);
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = text.as_bytes().get(at..).filter(|rest| !rest.is_empty())?;
            let other = rest.iter().position(is_part).unwrap_or(rest.len());
            let behind = rest.get(other..).unwrap_or_default();
            let length = behind.iter().position(|byte| !is_part(byte)).unwrap_or(behind.len());
            let run = at + other..at + other + length;
            at = run.end;
            if length >= KEY_RUN_MIN {
                return Some(run);
            }
            if length == 0 {
                return None;
            }
        }
    })
}

/// Characters from which on a run may be a part of a key.
const KEY_RUN_MIN: usize = 32;

/// Base64 of random bytes has capitals, small letters and digits, and few of the characters that join words in paths and
/// names.
fn looks_like_key(run: &str) -> bool {
    let count = |is: fn(&u8) -> bool| run.bytes().filter(is).count();
    count(u8::is_ascii_uppercase) >= 2
        && count(u8::is_ascii_lowercase) >= 2
        && count(u8::is_ascii_digit) >= 1
        && count(|byte| b"/-_".contains(byte)) * 10 <= run.len()
}

/// Behind a block the end of the line of its closing quotes, where they stand alone.
fn quotes_end(text: &str, end: usize) -> usize {
    let behind = text.get(end..).unwrap_or_default();
    let next = end + behind.len() - behind.trim_start().len();
    let line = line_end(text, next);
    let quotes = text.get(next..line).unwrap_or_default().trim_end();
    let alone = quotes.starts_with(['"', '\'']) && quotes.trim_start_matches(['"', '\'', ',']).is_empty();
    if alone { line } else { end }
}

/// Characters of a block that a message may have by chance.
const HIDDEN_MIN: usize = 12;

/// Ranges in order, those that overlap as one.
fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let joins = next.start <= last.end;
        if joins {
            last.end = last.end.max(next.end);
        }
        joins
    });
    ranges
}

/// From each `-----BEGIN` to the end of the line of its `-----END`. Without that to the end of the text, unless the quotes
/// it stands in close on its line.
fn pem(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let find = |from: usize, what: &str| {
            let rest = text.as_bytes().get(from..)?;
            memmem::find(rest, what.as_bytes()).map(|offset| from + offset)
        };
        let start = find(at, PEM_BEGIN)?;
        let line = line_end(text, start);
        let closed = text.get(start..line).unwrap_or_default().contains(['"', '\'']);
        at = match find(start, PEM_END) {
            Some(end) => line_end(text, end),
            None if closed => line,
            None => text.len(),
        };
        Some(start..at)
    })
}

/// Lines of nothing but base64, and the shorter one behind them.
fn base64(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    let mut follows = false;
    let lines = text.split_inclusive('\n').map(move |line| {
        at += line.len();
        (at - line.len(), line.trim_end_matches(['\n', '\r']))
    });
    lines.filter_map(move |(start, line)| {
        let bare = line.trim_matches(|c: char| c.is_whitespace() || "\"',\\".contains(c));
        let is_whole = bare.len() >= if follows { 1 } else { BASE64_MIN } && bare.chars().all(is_base64);
        // The first line may stand behind its key and a quote.
        let tail = line.len() - line.trim_end_matches(|c| c != '=' && is_base64(c)).len();
        follows = is_whole || tail >= BASE64_MIN && line.contains('=');
        let from = if is_whole { 0 } else { line.len() - tail };
        follows.then(|| start + from..start + line.len())
    })
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/=".contains(c)
}

/// Byte ranges of the values of keys that look secret, in order, without overlap.
fn values(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut in_secret_table = false;
    let mut at = 0;
    let mut begins = true;
    while at < text.len() {
        let line = line_end(text, at);
        let content = text.get(at..line).unwrap_or_default();
        let header = begins && content.trim_start().starts_with('[');
        let word = find_word(content);
        if header {
            in_secret_table = word.is_some();
        }
        let end = match word {
            _ if in_secret_table && !header => {
                let end = value_end(text, at);
                found.push(at..end);
                Some(end)
            }
            Some(word) if !header => value_start(content, word).map(|start| {
                let start = at + start;
                let end = short_end(text, start).unwrap_or_else(|| value_end(text, start));
                found.push(start..end);
                end
            }),
            _ => None,
        };
        // More may stand behind a value that ends within its line.
        let end = end.unwrap_or(line);
        begins = end >= line;
        at = if begins { end + 1 } else { end };
    }
    found
}

/// The end of a value in quotes behind which the line ends its brackets or goes on with a further key, and nothing else.
fn short_end(text: &str, start: usize) -> Option<usize> {
    let line = line_end(text, start);
    let content = text.get(start..line)?;
    let quote = start + content.len() - content.trim_start_matches([' ', '\t']).len();
    if !text.get(quote..)?.starts_with(['"', '\'']) {
        return None;
    }
    let end = string_end(text, quote);
    let rest = text.get(end..line)?;
    let is_blank = |c: char| c.is_whitespace() || ",}]".contains(c);
    let key = rest.trim_start_matches(is_blank);
    let is_key = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let behind = key.trim_start_matches(is_key);
    let goes_on = rest.trim_start().starts_with([',', '}', ']'])
        && behind.len() < key.len()
        && behind.trim_start().starts_with('=');
    (end < line && (key.is_empty() || goes_on)).then_some(end)
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
            "tls = { private_key = \"XYZZY\", password = \"XYZZY\", mode = 1 }",
            "tls = { private_key = \"XY\", XYZZY\" }",
            "tls = { private_key = \"XY\"XYZZY\", mode = 1 }",
            "a = 1\n-----BEGIN X\nXYZZY\n\nXYZZY\n-----END X----- XYZZY\nb = 1",
            "x = \"-----BEGIN X\nXYZZY",
        ];
        for text in texts {
            let mut shown = String::new();
            let mut at = 0;
            for range in Secrets::find(text).all {
                shown.push_str(&text[at..range.start]);
                at = range.end;
            }
            shown.push_str(&text[at..]);
            assert!(!shown.contains("XYZZY"), "{text:?} shows {shown:?}");
        }
    }

    /// A key in any clothes is hidden, in excerpts and in what messages quote; paths and names are not.
    #[test]
    fn hides_what_looks_like_a_key() {
        let key = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgUsFc7d1kqJbU0n3r";
        for text in [
            format!("key = \"{key}\""),
            format!("server_certificate = [\"{key}==\"]"),
            format!("protocol = \"\"\"\\n-----BEGIN PRIVATE KEY-----\\n{key}"),
            format!("tls.key: LS0t{key}"),
            format!("data:application/x-pem-file;base64,{key}"),
            format!("-  12 {key}\\n\" +"),
            format!("<key>{key}</key>"),
        ] {
            assert!(!without_keys(text.clone()).contains(&key[10..40]), "{text}");
            let ranges = Secrets::find(&text).all;
            let at = text.find(key).unwrap_or_default();
            assert!(ranges.iter().any(|range| range.start <= at + 10 && range.end >= at + 40), "{text}");
        }
        for text in [
            "/etc/letsencrypt/live/www.example.com/fullchain.pem",
            "configs/certs/WebApp2/IstioInAction/Server1/Chain",
            "no_certificate_that_they_issued_themselves",
            "0123456789abcdef0123456789abcdef0123456789abcdef",
            "ECDHE-ECDSA-AES128-GCM-SHA256-and-more-of-them",
            "spiffe://example.com/ns/production/sa/FrontEnd1",
        ] {
            assert_eq!(without_keys(text.to_owned()), text);
        }
    }

    /// What is not secret stays readable, words in quoted values included.
    #[test]
    fn leaves_the_rest() {
        let find = |text| Secrets::find(text).all;
        assert!(find("name = \"token-service\"\nport = 80\n").is_empty());
        assert_eq!(find("password = 1\nport = 80\n"), vec![11..12]);
        assert_eq!(find("x = { password = \"a\", port = 80 }\n"), vec![17..20]);
    }

    /// A key without its first and last line, indented or in quotes, down to its short last line.
    #[test]
    fn finds_lines_of_base64() {
        let line = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg";
        let text = format!("a = 1\n  {line}\n\"{line}\",\nabc=\nb = 1\nabc=\n");
        let secrets = Secrets::find(&text);
        assert_eq!(secrets.blocks, secrets.all);
        let shown: Vec<&str> = secrets.all.iter().map(|range| &text[range.clone()]).collect();
        assert_eq!(shown, [format!("  {line}\n\"{line}\",\nabc=")]);
        assert!(Secrets::find(&line[..31]).all.is_empty());
        let message = format!("key `{}...` stands twice", &line[..30]);
        assert_eq!(secrets.hide(&text, &(8..9), message), "key `***...` stands twice");
        let message = "key `MIGH` stands twice";
        assert_eq!(secrets.hide(&text, &(8..9), message.to_owned()), message);
        // What looks like a key is hidden wherever it came from; parts of one only near it.
        assert_eq!(secrets.hide(&text, &(0..2), line.to_owned()), "***");
        assert_eq!(secrets.hide(&text, &(0..2), line[..30].to_owned()), line[..30]);
    }
}
