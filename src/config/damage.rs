//! What the parser says of a file, and which later errors only follow from it.
//!
//! The tree that the parser recovers has gaps: a value that could not be read, or a whole section whose header could
//! not, so that its keys count as those of another table. What the lowering steps find wrong there is no news and is
//! dropped at the end by [`Problems::forget`]; problems elsewhere in the file stand.

use std::ops::Range;

use toml::de::{DeTable, DeValue, Error};

use crate::config::diagnostic::{DIAGNOSTICS_MAX, Problem, Problems, visible};
use crate::config::schema;
use crate::config::source::{FileId, Place, Source};

/// Tables that are written as `[[key]]`, with tables of their own below.
const LISTS: [&str; 3] = ["gateway", "virtual_service", "service"];

/// Keys that name PEM files.
const PEM_KEYS: [&str; 5] =
    ["private_key", "server_certificate", "client_certificate", "ca_certificates", "ca_crl"];

/// A list whose first table below it, `[[gateway.server]]`, comes before any `[[gateway]]`.
struct Headless {
    key: &'static str,
    span: Range<usize>,
    /// A `[[gateway]]` follows; the parser calls it a duplicate.
    follows: bool,
}

/// Records the parser's errors, of each line the first: the others follow from it. Only keys that stand twice are
/// recorded always. Gives the ranges in which an error of a later step proves nothing.
pub(super) fn record(
    file: FileId,
    source: &Source<'_>,
    root: &DeTable<'_>,
    mut errors: Vec<Error>,
    problems: &mut Problems,
) -> Vec<Range<usize>> {
    let mut headless = headless(source, root);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let (mut lost, mut broken, mut last_line) = (Vec::new(), Vec::new(), 0);
    let mut said_to = 0;
    for error in errors {
        let span: Range<usize> = error.span().unwrap_or_default();
        let (line, _) = source.line_column(span.start);
        if line <= said_to {
            continue;
        }
        if let Some(pasted) = pasted(source, line) {
            said_to = source.line_column(pasted.end).0;
            if lost.len() < DIAGNOSTICS_MAX {
                lost.push(pasted.before.start..pasted.end);
            }
            problems.push(pem_text(file, source, &pasted));
            continue;
        }
        let duplicate = error.message() == "duplicate key";
        if duplicate && let Some(list) = headless.iter_mut().find(|list| is_its_header(source, list, &span)) {
            list.follows = true;
            continue;
        }
        if line == last_line && !duplicate {
            continue;
        }
        last_line = line;
        if !duplicate {
            let range = source.line_range(line);
            broken.extend(header_key(source.text.get(range.clone()).unwrap_or_default()));
            if lost.len() < DIAGNOSTICS_MAX {
                lost.push(section(source, line, range));
            }
        }
        problems.push(problem(file, source, &error, span, duplicate));
    }
    for list in headless {
        // Below a broken or misspelt `[[gateway]]` there is nothing in the wrong place.
        let keys = root.keys().map(|key| key.get_ref().as_ref());
        let mut strange = keys.filter(|key: &&str| !schema::ROOT.keys.contains(key));
        let misspelt =
            strange.any(|key| problems.nearest(key, schema::ROOT.keys.iter().copied()) == Some(list.key));
        if !broken.contains(&list.key) && !misspelt {
            problems.push(out_of_order(file, source, &list));
        }
        lost.push(list.span);
    }
    lost
}

/// The PEM text that an error on a line comes from.
fn pasted(source: &Source<'_>, line: u32) -> Option<Pasted> {
    let blocks = &source.secrets().blocks;
    let first = blocks.partition_point(|block| block.end < source.line_range(line).start);
    let block = blocks.get(first)?.clone();
    // The quotes may have been opened on the line above.
    let before = source.text.get(..block.start).unwrap_or_default().trim_end();
    let opened = if before.ends_with(['"', '\'', '=']) { before.len() } else { block.start };
    let first = source.line_column(opened).0;
    let before = source.line_range(first).start..block.start;
    let is_nested = source.text.get(before.clone()).unwrap_or_default().contains(['{', '[']);
    // The brackets around it do not close where they should, and take in all that follows.
    let end = if is_nested { source.text.len() } else { block.end };
    (first <= line).then_some(Pasted { before, block, end })
}

/// A key or certificate whose text stands in the file.
struct Pasted {
    /// What stands before it on its line.
    before: Range<usize>,
    block: Range<usize>,
    /// Up to where errors follow from it.
    end: usize,
}

/// One problem for all of a text that was pasted.
fn pem_text(file: FileId, source: &Source<'_>, pasted: &Pasted) -> Problem {
    let Pasted { before, block, .. } = pasted;
    let line = source.line_range(source.line_column(block.start).0);
    let before = source.text.get(before.clone()).unwrap_or_default();
    let key = PEM_KEYS.into_iter().find(|key| before.contains(key)).unwrap_or("private_key");
    let end = line.end.clamp(block.start, block.end);
    Problem::error("syntax", Place::new(file, &(block.start..end)), "the text of a PEM file stands here")
        .expected(format!("the path of the file: `{key} = \"..\"`"))
}

fn problem(file: FileId, source: &Source<'_>, error: &Error, span: Range<usize>, duplicate: bool) -> Problem {
    let place = Place::new(file, &span);
    if duplicate {
        let key = source.text.get(span).unwrap_or_default();
        let message = format!("key `{}` stands twice in its table", visible(key));
        return Problem::error("duplicate-key", place, message);
    }
    if error.message().starts_with("string values must be quoted") {
        return unquoted(source, place, span);
    }
    match error.message().split_once(", expected ") {
        Some((message, "nothing")) => Problem::error("syntax", place, message),
        Some((message, expected)) => Problem::error("syntax", place, message).expected(expected),
        None => Problem::error("syntax", place, error.message()),
    }
}

/// A value that is none: a bare word, or nothing at all.
fn unquoted(source: &Source<'_>, place: Place, span: Range<usize>) -> Problem {
    let word = source.text.get(span.clone()).unwrap_or_default();
    if word.is_empty() {
        return Problem::error("syntax", place, "the value is missing").expected("a value behind the `=`");
    }
    let problem = Problem::error("syntax", place, "text must stand in quotes");
    let is_secret =
        source.secrets().all.iter().any(|secret| secret.start < span.end && span.start < secret.end);
    if is_secret || word.contains(['"', '\'', '\\']) {
        return problem.expected("a value: text in quotes, a number, `true`, `false`, a list or a table");
    }
    problem
        .expected("a value: text in quotes, a number, `true`, `false`, a list or a table")
        .hint(format!("write `\"{}\"`", visible(word)))
}

fn out_of_order(file: FileId, source: &Source<'_>, list: &Headless) -> Problem {
    let (line, _) = source.line_column(list.span.start);
    let text = source.text.get(source.line_range(line)).unwrap_or_default();
    let header = text.rfind(']').and_then(|end| text.get(..=end)).unwrap_or(text).trim();
    let (header, key) = (visible(header), list.key);
    let message = if list.follows {
        format!("`{header}` stands before its `[[{key}]]`: move it below")
    } else {
        format!("`{header}` stands without a `[[{key}]]` above it")
    };
    Problem::error("misplaced-table", Place::new(file, &list.span), message)
        .expected(format!("a `[[{key}]]` with its own keys, then the tables that belong to it"))
}

/// The lists that begin with a table below them.
fn headless(source: &Source<'_>, root: &DeTable<'_>) -> Vec<Headless> {
    let list = |key: &'static str| {
        let value = root.get(key).filter(|value| matches!(value.get_ref(), DeValue::Table(_)))?;
        let (line, _) = source.line_column(value.span().start);
        let text = source.text.get(source.line_range(line)).unwrap_or_default();
        let below = header_rest(text)?.strip_prefix(key)?.trim_start().starts_with('.');
        below.then(|| Headless { key, span: value.span(), follows: false })
    };
    LISTS.into_iter().filter_map(list).collect()
}

/// Whether a duplicate key is the `[[key]]` of a list that began without it.
fn is_its_header(source: &Source<'_>, list: &Headless, span: &Range<usize>) -> bool {
    let (line, _) = source.line_column(span.start);
    let text = source.text.get(source.line_range(line)).unwrap_or_default();
    text.trim_start().starts_with("[[") && header_key(text) == Some(list.key)
}

/// What follows the brackets of a header.
fn header_rest(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix('[').map(|rest| rest.trim_start_matches(['[', ' ', '\t']))
}

/// The list that a line is the header of, be it broken.
fn header_key(line: &str) -> Option<&'static str> {
    let rest = header_rest(line)?;
    LISTS.into_iter().find(|key| {
        let tail = rest.strip_prefix(key).map(str::trim_start);
        tail.is_some_and(|tail| tail.is_empty() || tail.starts_with([']', '#']))
    })
}

/// What an error on a line takes with it: the line, and behind a header the keys up to the next one.
fn section(source: &Source<'_>, line: u32, range: Range<usize>) -> Range<usize> {
    let is_header = |text: &str| {
        header_rest(text).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '"'))
    };
    let text = |range: &Range<usize>| source.text.get(range.clone()).unwrap_or_default();
    if !is_header(text(&range)) {
        return range;
    }
    let mut end = range.end;
    for next in line + 1.. {
        let next = source.line_range(next);
        if next.start >= source.text.len() || is_header(text(&next)) {
            break;
        }
        end = next.end;
    }
    range.start..end
}
