//! What is wrong with a configuration, said so that the operator can mend it: place, excerpt, expectation,
//! hint.
//!
//! Lowering steps push [`Problem`]s (places as byte ranges) into [`Problems`]; at the end
//! [`Problems::finish`] makes the public [`Diagnostic`]s of them, with lines, columns and excerpts that hide
//! secrets. `render` prints them.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::config::secret::without_keys;
use crate::config::source::{Place, Source, Sources};

/// Errors, and as many warnings, that one run lists. The rest is counted only: nobody reads more, and a file
/// of megabytes of rubbish must not make gigabytes of messages.
pub const DIAGNOSTICS_MAX: usize = 1000;

/// Bytes of a line on each side of the marked place that an excerpt shows.
const EXCERPT_BYTES: usize = 200;

/// Comparisons of names that one run spends on "did you mean".
const COMPARISONS_MAX: u32 = 1_000_000;

/// What stands in an excerpt for a secret.
const MASK: &str = "***";

/// How much a diagnostic weighs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// There is no configuration.
    Error,
    /// There is a configuration, but it hardly does what was meant.
    Warning,
}

/// One problem of a configuration.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable name of the kind of problem, in kebab-case.
    pub code: &'static str,
    /// What is wrong, in one line.
    pub message: String,
    /// Where.
    #[serde(flatten)]
    pub location: Location,
    /// What would have been right.
    pub expected: Option<String>,
    /// What to do, for example "did you mean".
    pub hint: Option<String>,
    /// Other places that take part, for example the first of two equal names.
    pub related: Vec<Related>,
}

/// A further place of a [`Diagnostic`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Related {
    /// What the place has to do with the problem.
    pub message: String,
    /// Where.
    #[serde(flatten)]
    pub location: Location,
}

/// A place in a file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Location {
    /// File, or the directory when there is no file.
    #[serde(serialize_with = "lossy_path")]
    pub file: Arc<PathBuf>,
    /// Line from 1; 0 when the file as a whole is meant.
    pub line: u32,
    /// Column in characters from 1; 0 when the file as a whole is meant.
    pub column: u32,
    /// Byte range in the file.
    pub span: Range<usize>,
    /// The line, secrets masked; absent when the file as a whole is meant.
    pub excerpt: Option<Excerpt>,
}

/// A line of a file, or a part of a long one, with a marked range.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Excerpt {
    /// Text without its line end.
    pub text: String,
    /// Byte range in `text` that the diagnostic is about.
    pub mark: Range<usize>,
    /// The line was cut at its beginning.
    pub cut: bool,
}

/// A diagnostic in the making.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    severity: Severity,
    code: &'static str,
    place: Place,
    whole_file: bool,
    message: String,
    expected: Option<Box<str>>,
    hint: Option<Box<str>>,
    related: Vec<(Place, String)>,
}

impl Problem {
    /// An error at a place.
    pub(super) fn error(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            place,
            whole_file: false,
            message: message.into(),
            expected: None,
            hint: None,
            related: Vec::new(),
        }
    }

    /// A warning at a place.
    pub(super) fn warning(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, place, message) }
    }

    /// What stopped the start only leaves something as it was.
    pub(super) fn kept(self, code: &'static str, stays: &str) -> Self {
        Self { severity: Severity::Warning, code, message: format!("{}: {stays}", self.message), ..self }
    }

    /// What is wrong.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Means the file as a whole: no line, no excerpt.
    pub(super) fn whole_file(self) -> Self {
        Self { whole_file: true, ..self }
    }

    /// Says what would have been right.
    pub(super) fn expected(self, expected: impl Into<Box<str>>) -> Self {
        Self { expected: Some(expected.into()), ..self }
    }

    /// Says what to do.
    pub(super) fn hint(self, hint: impl Into<Box<str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Says what to do, when there is something to say.
    pub(super) fn hint_if(self, hint: Option<String>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Names a further place.
    pub(super) fn related(mut self, place: Place, message: impl Into<String>) -> Self {
        self.related.push((place, message.into()));
        self
    }
}

/// Collects problems, at most [`DIAGNOSTICS_MAX`] of each severity.
#[derive(Debug, Default)]
pub(super) struct Problems {
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    errors_dropped: usize,
    warnings_dropped: usize,
    comparisons: u32,
}

impl Problems {
    /// Adds a problem.
    pub(super) fn push(&mut self, problem: Problem) {
        let (list, dropped) = match problem.severity {
            Severity::Error => (&mut self.errors, &mut self.errors_dropped),
            Severity::Warning => (&mut self.warnings, &mut self.warnings_dropped),
        };
        if list.len() < DIAGNOSTICS_MAX {
            list.push(problem);
        } else {
            *dropped += 1;
        }
    }

    /// Adds a problem, if there is one.
    pub(super) fn extend(&mut self, problem: Option<Problem>) {
        problem.into_iter().for_each(|problem| self.push(problem));
    }

    /// Takes back the errors listed since there were `before` that lie in one of the `lost` ranges of their file, except
    /// those that the parser itself gave.
    pub(super) fn forget(&mut self, before: usize, lost: &[Range<usize>]) {
        const OF_PARSER: [&str; 3] = ["syntax", "duplicate-key", "misplaced-table"];
        let mut index = 0;
        self.errors.retain(|problem| {
            index += 1;
            let start = problem.place.start as usize;
            // A missing value stands at the very end of its line.
            let follows = lost.iter().any(|range| range.start <= start && start <= range.end);
            index <= before || OF_PARSER.contains(&problem.code) || !follows
        });
    }

    /// The number of errors so far, those not listed included.
    pub(super) fn errors(&self) -> usize {
        self.errors.len() + self.errors_dropped
    }

    /// The candidate nearest to a misspelt name, as "did you mean `x`?".
    pub(super) fn did_you_mean<'c>(
        &mut self,
        name: &str,
        candidates: impl Iterator<Item = &'c str>,
    ) -> Option<String> {
        self.nearest(name, candidates).map(|candidate| format!("did you mean `{}`?", visible(candidate)))
    }

    /// The candidate nearest to a misspelt name, if any is near enough.
    pub(super) fn nearest<'c>(
        &mut self,
        name: &str,
        candidates: impl Iterator<Item = &'c str>,
    ) -> Option<&'c str> {
        let name = name.get(..64).unwrap_or(name).to_lowercase();
        // A third of the letters wrong is the most that still reads as a slip.
        let distance_max = (name.chars().count() / 3).max(1);
        let mut best: Option<(usize, &str)> = None;
        for candidate in candidates {
            if candidate.len().abs_diff(name.len()) > distance_max * 2 {
                continue;
            }
            if self.comparisons == COMPARISONS_MAX || self.errors.len() == DIAGNOSTICS_MAX {
                break;
            }
            self.comparisons += 1;
            let distance = strsim::osa_distance(&name, &candidate.to_lowercase());
            if distance <= distance_max && best.is_none_or(|(nearest, _)| distance < nearest) {
                best = Some((distance, candidate));
            }
        }
        best.map(|(_, candidate)| candidate)
    }

    /// The diagnostics in the order of file and position.
    pub(super) fn finish(self, sources: &Sources<'_>) -> Vec<Diagnostic> {
        let mut problems = self.errors;
        problems.extend(self.warnings);
        problems.sort_by_key(|problem| (problem.place, problem.severity, problem.code));
        let mut diagnostics: Vec<Diagnostic> =
            problems.into_iter().filter_map(|problem| finish_one(problem, sources)).collect();
        let dropped = self.errors_dropped + self.warnings_dropped;
        if dropped > 0
            && let Some(last) = diagnostics.last()
        {
            let file = Arc::clone(&last.location.file);
            let message = format!("{dropped} more problems are not listed");
            diagnostics.push(Diagnostic {
                severity: Severity::Warning,
                code: "too-many-problems",
                message,
                location: Location { file, line: 0, column: 0, span: 0..0, excerpt: None },
                expected: None,
                hint: Some("mend the problems listed and run the check again".to_owned()),
                related: Vec::new(),
            });
        }
        diagnostics
    }
}

fn finish_one(problem: Problem, sources: &Sources<'_>) -> Option<Diagnostic> {
    let source = sources.file(problem.place.file)?;
    let location = if problem.whole_file {
        Location { file: Arc::clone(&source.path), line: 0, column: 0, span: 0..0, excerpt: None }
    } else {
        locate(source, problem.place)
    };
    let related = problem.related.into_iter().filter_map(|(place, message)| {
        let message = without_keys(message);
        sources.file(place.file).map(|source| Related { message, location: locate(source, place) })
    });
    let (first, last) = (problem.place.start as usize, problem.place.end as usize);
    let lines = source.line_range(source.line_column(first).0).start
        ..source.line_range(source.line_column(last).0).end;
    let hide = |text: String| source.secrets().hide(&source.text, &lines, text);
    Some(Diagnostic {
        severity: problem.severity,
        code: problem.code,
        message: hide(problem.message),
        location,
        expected: problem.expected.map(String::from).map(hide),
        hint: problem.hint.map(String::from).map(hide),
        related: related.collect(),
    })
}

fn locate(source: &Source<'_>, place: Place) -> Location {
    let start = (place.start as usize).min(source.text.len());
    let end = (place.end as usize).clamp(start, source.text.len());
    let (line, column) = source.line_column(start);
    let excerpt = excerpt(source, line, start..end);
    Location { file: Arc::clone(&source.path), line, column, span: start..end, excerpt: Some(excerpt) }
}

/// Cuts the marked part of a line out and masks the secrets in it.
fn excerpt(source: &Source<'_>, line: u32, span: Range<usize>) -> Excerpt {
    let line = source.line_range(line);
    let start = floor_char(&source.text, span.start.clamp(line.start, line.end));
    let end = span.end.clamp(start, line.end).min(start + EXCERPT_BYTES);
    let from = floor_char(&source.text, start.saturating_sub(EXCERPT_BYTES).max(line.start));
    let to = floor_char(&source.text, (end + EXCERPT_BYTES).min(line.end));
    let end = floor_char(&source.text, end);
    let secrets = &source.secrets().all;
    let first = secrets.partition_point(|secret| secret.end <= line.start);
    let mut text = String::new();
    let (mut at, mut mark) = (from, None::<Range<usize>>);
    // Where a byte of the line went; one of a secret to an end of its mask.
    let mut place = |part: Range<usize>, shown: Range<usize>, exact: bool| {
        let within = |byte: usize| shown.start + byte - part.start;
        let is_in = |byte: usize| part.contains(&byte) || byte == part.end && byte == to;
        if mark.is_none() && is_in(start) {
            let start = if exact { within(start) } else { shown.start };
            mark = Some(start..start);
        }
        if let Some(mark) = mark.as_mut().filter(|_| end > part.start) {
            mark.end = if exact { within(end.min(part.end)) } else { shown.end };
        }
    };
    let hidden = secrets.get(first..).unwrap_or_default().iter().take_while(|secret| secret.start < to);
    for secret in hidden {
        let secret = secret.start.clamp(at, to)..secret.end.clamp(at, to);
        let begin = text.len();
        text.push_str(source.text.get(at..secret.start).unwrap_or_default());
        place(at..secret.start, begin..text.len(), true);
        let begin = text.len();
        text.push_str(MASK);
        place(secret.clone(), begin..text.len(), false);
        at = secret.end;
    }
    let begin = text.len();
    text.push_str(source.text.get(at..to).unwrap_or_default());
    place(at..to, begin..text.len(), true);
    let mark = mark.unwrap_or(text.len()..text.len());
    Excerpt { text, mark, cut: from > line.start }
}

fn floor_char(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Text of an operator's file made safe to print: control characters escaped, at most 80 characters.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    const CHARS_MAX: usize = 80;
    let plain = |c: char| !c.is_control();
    if text.len() <= CHARS_MAX && text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == CHARS_MAX {
            shown.push_str("...");
            break;
        }
        if plain(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
    }
    Cow::Owned(shown)
}

fn lossy_path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use super::*;
    use crate::config::source::FileId;

    fn diagnose(text: &str, span: Range<usize>) -> Location {
        let mut sources = Sources::default();
        let file = sources.add(PathBuf::from("x.toml"), Cow::Borrowed(text));
        let mut problems = Problems::default();
        problems.push(Problem::error("test", Place::new(file, &span), "message"));
        problems.finish(&sources).remove(0).location
    }

    /// The excerpt of a line with a secret shows the key and the mask, whatever is marked.
    #[test]
    fn masks_secrets_in_excerpts() {
        let text = "a = 1\nprivate_key = \"hunter2\" # x\n";
        for span in [0..2, 6..17, 20..29, 22..23, 31..33, 33..34] {
            let location = diagnose(text, span.clone());
            let excerpt = location.excerpt.unwrap();
            assert!(!excerpt.text.contains("hunter2"), "{span:?} {excerpt:?}");
            assert!(excerpt.text.get(excerpt.mark.clone()).is_some(), "{span:?} {excerpt:?}");
        }
        assert_eq!(diagnose(text, 6..17).excerpt.unwrap().text, "private_key = ***");
    }

    /// Of an inline table only the secret is masked, and what stands behind it is marked in its place.
    #[test]
    fn shows_what_follows_a_secret() {
        let text = "tls = { private_key = \"hunter2hunter2\", mode = \"A\", token = \"hunter2\", x = 1 }\n";
        let shown = "tls = { private_key = ***, mode = \"A\", token = ***, x = 1 }";
        for (marked, shows) in
            [("mode", "mode"), ("x = 1", "x = 1"), ("\"hunter2\"", "***"), ("2h", "***"), ("tls", "tls")]
        {
            let at = text.find(marked).unwrap();
            let location = diagnose(text, at..at + marked.len());
            let excerpt = location.excerpt.unwrap();
            assert_eq!((excerpt.text.as_str(), location.column as usize), (shown, at + 1));
            assert_eq!(&excerpt.text[excerpt.mark], shows, "{marked}");
        }
        let location = diagnose(text, 0..text.len());
        assert_eq!(location.excerpt.unwrap().mark, 0..shown.len());
    }

    /// A line of megabytes gives a short excerpt around the place, cut between characters.
    #[test]
    fn cuts_long_lines() {
        let text = format!("x = \"{}\"", "\u{20ac}".repeat(1_000_000));
        for start in 1_000_000..1_000_004 {
            let location = diagnose(&text, start..start + 5000);
            let excerpt = location.excerpt.unwrap();
            assert!(excerpt.text.len() <= 3 * EXCERPT_BYTES + 4 && excerpt.cut);
            assert!(excerpt.text.get(excerpt.mark).is_some());
        }
    }

    /// Beyond the cap, problems are counted, and the count is said.
    #[test]
    fn bounds_the_list() {
        let mut sources = Sources::default();
        let file = sources.add(PathBuf::from("x.toml"), Cow::Borrowed("a"));
        let mut problems = Problems::default();
        for _ in 0..DIAGNOSTICS_MAX + 7 {
            problems.push(Problem::error("test", Place::new(file, &(0..1)), "message"));
        }
        let diagnostics = problems.finish(&sources);
        assert_eq!(diagnostics.len(), DIAGNOSTICS_MAX + 1);
        assert!(diagnostics.last().unwrap().message.starts_with("7 more"));
        assert_eq!(file, FileId(0));
    }

    /// The nearest name is proposed, a far one not.
    #[test]
    fn proposes_near_names() {
        let mut problems = Problems::default();
        let keys = ["hosts", "port", "protocol"];
        assert_eq!(problems.did_you_mean("hots", keys.into_iter()), Some("did you mean `hosts`?".to_owned()));
        assert_eq!(problems.did_you_mean("prot", keys.into_iter()), Some("did you mean `port`?".to_owned()));
        assert_eq!(problems.did_you_mean("colour", keys.into_iter()), None);
    }
}
