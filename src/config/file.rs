//! One file: parses its TOML, records syntax errors, and hands its tables to the steps that lower them.
//!
//! The tree lives only within [`lower`]; what remains of a file afterwards are its drafts.

use std::ops::Range;

use toml::de::{DeTable, Error};

use crate::config::diagnostic::{Problem, Problems, visible};
use crate::config::drafts::Drafts;
use crate::config::matching::Patterns;
use crate::config::schema;
use crate::config::source::{FileId, Place, Source};
use crate::config::tree::{At, Reader};
use crate::config::{gateway, process, service, virtual_service};

/// Entries of one kind in one file.
const ENTRIES_MAX: usize = 1_000_000;

/// Lowers one file into drafts.
pub(super) fn lower(
    file: FileId,
    source: &Source<'_>,
    drafts: &mut Drafts,
    problems: &mut Problems,
    patterns: &mut Patterns,
) {
    let (root, errors) = DeTable::parse_recoverable(&source.text);
    let damaged = !errors.is_empty();
    drafts.damaged |= damaged;
    record_syntax(file, source, errors, problems);
    let mut reader = Reader::new(file, source, damaged, problems, patterns);
    let root = reader.table(root.get_ref(), 0..0, &schema::ROOT);
    if let Some(table) = reader.child(&root, "process", &schema::PROCESS) {
        let value = process::lower(&mut reader, &table);
        drafts.processes.push(At { value, place: reader.place(&table.span) });
    }
    for table in reader.tables(&root, "gateway", &schema::GATEWAY, ENTRIES_MAX) {
        drafts.gateways.push(gateway::lower(&mut reader, &table));
    }
    for table in reader.tables(&root, "virtual_service", &schema::VIRTUAL_SERVICE, ENTRIES_MAX) {
        drafts.virtual_services.push(virtual_service::lower(&mut reader, &table));
    }
    for table in reader.tables(&root, "service", &schema::SERVICE, ENTRIES_MAX) {
        drafts.services.push(service::lower(&mut reader, &table));
    }
}

/// Records the parser's errors, the first of each line: the others follow from it. Only keys that stand twice
/// are recorded always.
fn record_syntax(file: FileId, source: &Source<'_>, mut errors: Vec<Error>, problems: &mut Problems) {
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let mut last_line = 0;
    for error in errors {
        let span: Range<usize> = error.span().unwrap_or_default();
        let (line, _) = source.line_column(span.start);
        let duplicate = error.message() == "duplicate key";
        if line == last_line && !duplicate {
            continue;
        }
        last_line = line;
        let place = Place::new(file, &span);
        let problem = match error.message().split_once(", expected ") {
            _ if duplicate => {
                let key = source.text.get(span).unwrap_or_default();
                let message = format!("key `{}` stands twice in its table", visible(key));
                Problem::error("duplicate-key", place, message)
            }
            Some((message, "nothing")) => Problem::error("syntax", place, message),
            Some((message, expected)) => Problem::error("syntax", place, message).expected(expected),
            None => Problem::error("syntax", place, error.message()),
        };
        problems.push(problem);
    }
}
