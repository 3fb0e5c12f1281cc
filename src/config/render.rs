//! Prints diagnostics as text with excerpts, or as JSON. Pure: gives strings, writes nowhere.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use crate::config::diagnostic::{Diagnostic, Excerpt, Location, Severity, visible};
use crate::config::model::Config;

/// Whether text carries terminal colours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Colour {
    /// ANSI escapes.
    Ansi,
    /// None.
    Plain,
}

/// One diagnostic as text: severity, code and message, file:line:column, the line with a caret, what was
/// expected, a hint, related places.
#[must_use]
pub fn text(diagnostic: &Diagnostic, colour: Colour) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code).elements(snippets(
        &diagnostic.location,
        AnnotationKind::Primary,
        None,
    ));
    for related in &diagnostic.related {
        group = group.elements(snippets(&related.location, AnnotationKind::Context, Some(&related.message)));
    }
    if let Some(expected) = &diagnostic.expected {
        group = group.element(Level::NOTE.with_name("expected").message(expected.as_str()));
    }
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
    }
    let renderer = match colour {
        Colour::Ansi => Renderer::styled(),
        Colour::Plain => Renderer::plain(),
    };
    let mut text = unshift(renderer.term_width(160).render(&[group]), diagnostic);
    text.push('\n');
    text
}

/// The elements that show a location: its excerpt, or only its file.
fn snippets<'a>(
    location: &'a Location,
    kind: AnnotationKind,
    label: Option<&'a String>,
) -> Vec<annotate_snippets::Element<'a>> {
    let path = location.file.to_string_lossy();
    let path = visible(&path).into_owned();
    let Some(excerpt) = &location.excerpt else {
        return vec![Origin::path(path).into()];
    };
    let line = location.line as usize;
    let part = |range: Range<usize>| printable(excerpt.text.get(range).unwrap_or_default());
    let mark = excerpt.mark.clone();
    let before = part(0..mark.start);
    let marked = part(mark.clone());
    let span = before.len()..before.len() + marked.len();
    let source = format!("{before}{marked}{}", part(mark.end..excerpt.text.len()));
    let path = if is_shifted(location) { path + SHIFTED } else { path };
    let annotation = kind.span(span).label(label.map(String::as_str));
    vec![Snippet::source(source).line_start(line).annotation(annotation).path(path).into()]
}

/// Behind the path of an excerpt that was cut or masked: the renderer counts columns within the excerpt.
const SHIFTED: &str = "\u{e000}";

fn shown_column(excerpt: &Excerpt) -> usize {
    excerpt.text.get(..excerpt.mark.start).unwrap_or_default().chars().count() + 1
}

fn is_shifted(location: &Location) -> bool {
    location.excerpt.as_ref().is_some_and(|excerpt| shown_column(excerpt) != location.column as usize)
}

/// Puts the columns of the file in the place of those of the excerpt.
fn unshift(mut text: String, diagnostic: &Diagnostic) -> String {
    let related = diagnostic.related.iter().map(|related| &related.location);
    for location in std::iter::once(&diagnostic.location).chain(related).filter(|one| is_shifted(one)) {
        let Location { line, column, excerpt: Some(excerpt), .. } = location else { continue };
        let wrong = format!("{SHIFTED}:{line}:{}", shown_column(excerpt));
        text = text.replacen(&wrong, &format!(":{line}:{column}"), 1);
    }
    text.replace(SHIFTED, "")
}

/// The renderer escapes the ASCII control characters, but terminals obey those of U+0080 to U+009F too.
fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && !c.is_ascii(), "\u{fffd}")
}

/// What a configuration holds, in numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the names are the things counted")]
pub struct Summary {
    pub gateways: usize,
    pub servers: usize,
    pub virtual_services: usize,
    pub routes: usize,
    pub services: usize,
    pub endpoints: usize,
}

impl Summary {
    /// Counts.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            gateways: config.gateways.len(),
            servers: config.gateways.iter().map(|gateway| gateway.servers.len()).sum(),
            virtual_services: config.virtual_services.len(),
            routes: config
                .virtual_services
                .iter()
                .map(|service| service.http.len() + service.tls.len() + service.tcp.len())
                .sum(),
            services: config.services,
            endpoints: config.endpoints,
        }
    }
}

/// The closing line of a check: `ok: 1 gateway, ...` or `2 errors, 1 warning`.
#[must_use]
pub fn summary_line(config: Option<&Config>, diagnostics: &[Diagnostic]) -> String {
    let (errors, warnings) = count(diagnostics);
    let Some(config) = config else {
        return format!("{}, {}", plural(errors, "error"), plural(warnings, "warning"));
    };
    let summary = Summary::of(config);
    let mut line = format!(
        "ok: {}, {}, {}, {}, {}, {}",
        plural(summary.gateways, "gateway"),
        plural(summary.servers, "server"),
        plural(summary.virtual_services, "virtual service"),
        plural(summary.routes, "route"),
        plural(summary.services, "service"),
        plural(summary.endpoints, "endpoint"),
    );
    if warnings > 0 {
        line.push_str(&format!("; {}", plural(warnings, "warning")));
    }
    line
}

/// A whole check as one JSON object: `ok`, `errors`, `warnings`, `summary` (null without a configuration) and
/// `diagnostics`.
#[must_use]
pub fn json(config: Option<&Config>, diagnostics: &[Diagnostic]) -> String {
    #[derive(Serialize)]
    struct Report<'a> {
        ok: bool,
        errors: usize,
        warnings: usize,
        summary: Option<Summary>,
        diagnostics: &'a [Diagnostic],
    }
    let (errors, warnings) = count(diagnostics);
    let summary = config.map(Summary::of);
    let report = Report { ok: config.is_some(), errors, warnings, summary, diagnostics };
    // Strings, numbers and lists only: serialising these into memory has no way to fail.
    serde_json::to_string_pretty(&report).unwrap_or_default()
}

fn count(diagnostics: &[Diagnostic]) -> (usize, usize) {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    (errors, diagnostics.len() - errors)
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
