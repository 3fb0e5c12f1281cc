//! `match` blocks of HTTP routes: Istio's StringMatch over path, method and headers.
//!
//! Regexes match whole values and are compiled once per distinct pattern, within bounds of size and number.
//! Paths are matched in their normal form, so an `exact` or `prefix` that could never be met is an error
//! here.

use std::collections::HashMap;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use crate::config::client_match;
use crate::config::diagnostic::{Problem, visible};
use crate::config::model::{HttpMatch, StringMatch};
use crate::config::schema;
use crate::config::source::Place;
use crate::config::tree::{At, Reader, Table};
use toml::de::DeValue;

/// Bytes of one pattern or literal.
const VALUE_BYTES_MAX: usize = 8192;

/// Bytes of one compiled regex; its lazy automaton may take as much again on each shard.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Distinct regexes of one configuration. Compiling one takes 10 us to some ms.
const REGEXES_MAX: usize = 20_000;

/// Headers of one match block.
const HEADERS_MAX: usize = 64;

/// The regexes compiled so far, good and bad.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    compiled: HashMap<Box<str>, Result<Arc<Regex>, BadRegex>>,
}

/// Why a pattern was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct BadRegex {
    reason: String,
    expected: &'static str,
}

impl BadRegex {
    fn too_large(reason: String) -> Self {
        Self { reason, expected: "a smaller one; `(?-u:\\w)` takes a small part of what `\\w` takes" }
    }
}

impl Patterns {
    /// The regex over the whole value for an operator's pattern, or why there is none.
    pub(super) fn compile(&mut self, pattern: &str) -> Result<Arc<Regex>, BadRegex> {
        if let Some(known) = self.compiled.get(pattern) {
            return known.clone();
        }
        if self.compiled.len() == REGEXES_MAX {
            let reason = format!("there are more than {REGEXES_MAX} distinct ones");
            return Err(BadRegex { reason, expected: "prefixes where they do" });
        }
        let compiled = compile(pattern).map(Arc::new);
        self.compiled.insert(Box::from(pattern), compiled.clone());
        compiled
    }
}

fn compile(pattern: &str) -> Result<Regex, BadRegex> {
    if pattern.len() > VALUE_BYTES_MAX {
        return Err(BadRegex::too_large(format!("longer than {VALUE_BYTES_MAX} bytes")));
    }
    // Alone first: `a)|(b` would pass inside of the anchoring group and escape from it.
    bounded(pattern)?;
    // The line feed ends a comment that a pattern in `(?x)` mode may end with; other patterns must not have
    // it.
    bounded(&format!("^(?:{pattern})$"))
        .or_else(|error| bounded(&format!("^(?:{pattern}\n)$")).map_err(|_| error))
}

fn bounded(pattern: &str) -> Result<Regex, BadRegex> {
    let built =
        RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => {
            BadRegex::too_large(format!("compiled it is larger than {} KiB", limit >> 10))
        }
        // The text is a drawing of several lines; the last one says what is wrong.
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            BadRegex {
                reason: last.strip_prefix("error: ").unwrap_or(last).to_owned(),
                expected: "the syntax of RE2 (no look-around, no back-references)",
            }
        }
    })
}

/// Lowers one match block.
pub(super) fn lower(reader: &mut Reader<'_>, table: &Table<'_>) -> HttpMatch {
    let mut block = HttpMatch { origin: reader.origin(&table.span), ..HttpMatch::default() };
    if let Some(uri) = reader.child(table, "uri", &schema::STRING_MATCH) {
        block.uri = string_match(reader, &uri, check_path);
    }
    if let Some(method) = reader.child(table, "method", &schema::STRING_MATCH) {
        block.method = string_match(reader, &method, check_method);
    }
    block.client = client_match::lower(reader, table);
    let headers = reader.pairs(table, "headers");
    if let Some((name, _)) = headers.get(HEADERS_MAX) {
        let problem =
            Problem::error("out-of-range", name.place, format!("`headers` has {} entries", headers.len()));
        reader.push(problem.expected(format!("at most {HEADERS_MAX}")));
    }
    let mut seen: HashMap<String, Place> = HashMap::new();
    for (name, value) in headers.into_iter().take(HEADERS_MAX) {
        let Some(lower) = header_name(reader, name) else { continue };
        if let Some(first) = seen.insert(lower.clone(), name.place) {
            let problem =
                Problem::error("duplicate-header", name.place, format!("header `{lower}` stands twice"));
            reader.push(problem.related(first, "first here").hint("names of headers are equal in any case"));
            continue;
        }
        let DeValue::Table(entries) = value.get_ref() else {
            let hint = value.get_ref().is_str().then(|| "write `{ exact = \"..\" }`".to_owned());
            reader.wrong_type::<()>(name.value, value, "a table with `exact`, `prefix` or `regex`", hint);
            continue;
        };
        let table = reader.table(entries, value.span(), &schema::STRING_MATCH);
        if let Some(value) = string_match(reader, &table, check_header_value) {
            block.headers.push((Arc::from(lower), value));
        }
    }
    block.headers.sort_by(|(one, _), (other, _)| one.cmp(other));
    block
}

/// Whether a literal may stand in `exact` or `prefix`; records a problem when not.
pub(super) type CheckLiteral = fn(&mut Reader<'_>, At<&str>);

pub(super) fn string_match(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    check: CheckLiteral,
) -> Option<StringMatch> {
    let forms = ["exact", "prefix", "regex"];
    let written: Vec<&str> = forms.into_iter().filter(|key| table.has(key)).collect();
    let [key] = written.as_slice() else {
        // A misspelt one was reported.
        if written.is_empty() && forms.iter().any(|key| table.means(key)) {
            return None;
        }
        let message = if written.is_empty() {
            "a match without `exact`, `prefix` or `regex`".to_owned()
        } else {
            format!("a match with {} at once", written.join(" and "))
        };
        let problem = Problem::error("bad-match", reader.place(&table.span), message)
            .expected("exactly one of `exact`, `prefix`, `regex`");
        let any =
            written.is_empty().then(|| "`{ regex = \".*\" }` asks only that the value is there".to_owned());
        reader.push(problem.hint_if(any));
        return None;
    };
    let text = reader.string(table, key)?;
    if *key == "regex" {
        return match reader.patterns.compile(text.value) {
            Ok(regex) => Some(StringMatch::Regex(regex)),
            Err(bad) => {
                let message = format!("bad regular expression: {}", visible(&bad.reason));
                let problem = Problem::error("bad-regex", text.place, message);
                reader.push(problem.expected(bad.expected));
                None
            }
        };
    }
    if text.value.len() > VALUE_BYTES_MAX {
        let problem = Problem::error("out-of-range", text.place, format!("`{key}` is too long"));
        reader.push(problem.expected(format!("at most {VALUE_BYTES_MAX} bytes")));
        return None;
    }
    check(reader, text);
    if *key == "exact" {
        Some(StringMatch::Exact(Arc::from(text.value)))
    } else {
        Some(StringMatch::Prefix(Arc::from(text.value)))
    }
}

/// RFC 9110 section 5.1: a field name is a token.
fn header_name(reader: &mut Reader<'_>, name: At<&str>) -> Option<String> {
    let shown = visible(name.value);
    if name.value.starts_with(':') {
        let problem = Problem::error("not-supported", name.place, format!("pseudo-header `{shown}`"));
        reader.push(problem.hint("`uri` and `method` are conditions of their own; hosts stand in `hosts`"));
        return None;
    }
    if !is_token(name.value) || name.value.len() > 256 {
        let problem =
            Problem::error("bad-header-name", name.place, format!("`{shown}` is not a header's name"));
        reader.push(problem.expected("1 to 256 letters, digits and ``!#$%&'*+-.^_`|~``"));
        return None;
    }
    Some(name.value.to_ascii_lowercase())
}

fn check_header_value(reader: &mut Reader<'_>, text: At<&str>) {
    let control = |byte: u8| byte != b'\t' && byte.is_ascii_control();
    if text.value.bytes().any(control) {
        let problem = Problem::error("bad-header-value", text.place, "no header has a control character");
        reader.push(problem.expected("text without control characters"));
    }
}

/// RFC 9110 section 9.1: methods are tokens, and case-sensitive.
fn check_method(reader: &mut Reader<'_>, text: At<&str>) {
    let shown = visible(text.value);
    if !is_token(text.value) {
        let problem = Problem::error("bad-method", text.place, format!("`{shown}` is not a method"));
        reader.push(problem.expected("a method such as `GET`"));
    } else if text.value.bytes().any(|byte| byte.is_ascii_lowercase()) {
        let upper = text.value.to_ascii_uppercase();
        let problem =
            Problem::warning("method-case", text.place, format!("method `{shown}` has lower-case letters"));
        reader.push(problem.hint(format!("methods are case-sensitive: did you mean `{}`?", visible(&upper))));
    }
}

/// A path that is matched is in its normal form: absolute, without dot segments, in upper-case escapes.
fn check_path(reader: &mut Reader<'_>, text: At<&str>) {
    let Some((message, expected)) = path_problem(text.value) else { return };
    let message = format!("path `{}` {message}", visible(text.value));
    let problem = Problem::error("bad-path", text.place, message).expected(expected);
    reader.push(problem.hint("paths are matched in their normal form, so this could never match"));
}

fn path_problem(path: &str) -> Option<(String, String)> {
    let problem = |message: &str, expected: &str| Some((message.to_owned(), expected.to_owned()));
    if !path.starts_with('/') {
        return problem("does not begin with `/`", "a path from its first `/`, without scheme and host");
    }
    if path.contains(['?', '#']) {
        return problem("has a query or fragment", "the path alone");
    }
    if path.contains('\\') {
        return problem("contains a backslash", "`/` as the separator; a kept backslash is `%5C`");
    }
    if let Some(wrong) = path.chars().find(|c| c.is_control() || *c == ' ' || !c.is_ascii()) {
        let mut buffer = [0; 4];
        let escaped: String =
            wrong.encode_utf8(&mut buffer).bytes().map(|byte| format!("%{byte:02X}")).collect();
        return problem("holds a character that is escaped in paths", &format!("`{escaped}`"));
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return problem("has a dot segment", "the path with `.` and `..` resolved (RFC 3986 section 5.2.4)");
    }
    let mut rest = path.as_bytes();
    while let Some(at) = memchr::memchr(b'%', rest) {
        rest = rest.get(at + 1..).unwrap_or_default();
        let [high, low, ..] = rest else {
            return problem("has an incomplete escape", "`%` and two hex digits");
        };
        if !high.is_ascii_hexdigit() || !low.is_ascii_hexdigit() {
            return problem("has an incomplete escape", "`%` and two hex digits");
        }
        if high.is_ascii_lowercase() || low.is_ascii_lowercase() {
            let upper = [*high, *low].map(|byte| char::from(byte.to_ascii_uppercase()));
            return problem("has an escape in lower case", &format!("`%{}{}`", upper[0], upper[1]));
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(token)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use super::*;

    /// Regexes cover the whole value; alternatives, flags and comments do not escape from the anchors.
    #[test]
    fn anchors_regexes() {
        let mut patterns = Patterns::default();
        let regex = patterns.compile("a|b").unwrap();
        assert!(
            regex.is_match(b"a") && regex.is_match(b"b") && !regex.is_match(b"ab") && !regex.is_match(b"xb")
        );
        let regex = patterns.compile("(?m)a").unwrap();
        assert!(regex.is_match(b"a") && !regex.is_match(b"x\na\nx"));
        let regex = patterns.compile("(?x) a b # why").unwrap();
        assert!(regex.is_match(b"ab") && !regex.is_match(b"ab\n") && !regex.is_match(b"abc"));
        assert!(patterns.compile("a)|(b").is_err());
        assert!(Arc::ptr_eq(&patterns.compile("a|b").unwrap(), &patterns.compile("a|b").unwrap()));
    }

    /// Patterns that would take much memory are refused, and the reason is one line.
    #[test]
    fn bounds_regexes() {
        let mut patterns = Patterns::default();
        for pattern in
            ["(", "[a-", "a{2,1}", "(?=a)", "\\1", "(\\w{100}){100}", &"a".repeat(VALUE_BYTES_MAX + 1)]
        {
            let reason = patterns.compile(pattern).unwrap_err().reason;
            assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
        }
    }

    /// Each departure from the normal form has its own message.
    #[test]
    fn checks_paths() {
        for good in ["/", "/api", "/a/b/", "/a.b/..c/...", "/%2F%5C", "//a", "/a;b=c@:!$&'()*+,"] {
            assert_eq!(path_problem(good), None, "{good}");
        }
        for (path, reason) in [
            ("", "begin"),
            ("api", "begin"),
            ("/a?b", "query"),
            ("/a\\b", "backslash"),
            ("/a/../b", "dot"),
            ("/.", "dot"),
            ("/a/./b", "dot"),
            ("/a/..", "dot"),
            ("/%2f", "lower"),
            ("/%4", "incomplete"),
            ("/%zz", "incomplete"),
            ("/a b", "escaped"),
            ("/\u{e9}", "escaped"),
        ] {
            let (message, _) = path_problem(path).unwrap();
            assert!(message.contains(reason), "{path}: {message}");
        }
        assert_eq!(path_problem("/\u{e9}").unwrap().1, "`%C3%A9`");
    }
}
