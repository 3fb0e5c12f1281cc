//! One file: parses its TOML, has `damage` record what is wrong with it, and hands its tables to the steps that lower them.
//!
//! The tree lives only within [`lower`]; what remains of a file afterwards are its drafts.

use toml::de::DeTable;

use crate::config::diagnostic::{Problem, Problems};
use crate::config::drafts::Drafts;
use crate::config::matching::Patterns;
use crate::config::pem::Store;
use crate::config::schema;
use crate::config::secret::PEM_BEGIN;
use crate::config::source::{FileId, Place, Source};
use crate::config::tree::{At, Reader};
use crate::config::{damage, gateway, process, service, virtual_service};

/// Entries of one kind in one file.
const ENTRIES_MAX: usize = 1_000_000;

/// Lowers one file into drafts.
pub(super) fn lower(
    file: FileId,
    source: &Source<'_>,
    drafts: &mut Drafts,
    problems: &mut Problems,
    patterns: &mut Patterns,
    files: &mut Store,
) {
    if source.text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).starts_with(PEM_BEGIN) {
        let message = "this is a PEM file (a key or certificates), not a configuration";
        let problem = Problem::error("syntax", Place::new(file, &(0..0)), message).whole_file();
        problems.push(problem.expected(
            "a TOML file; `private_key` and `server_certificate` in it take the paths of PEM files",
        ));
        drafts.damaged = true;
        return;
    }
    let (root, errors) = DeTable::parse_recoverable(&source.text);
    let damaged = !errors.is_empty();
    drafts.damaged |= damaged;
    let before = problems.errors();
    let lost = damage::record(file, source, root.get_ref(), errors, problems);
    let mut reader = Reader::new(file, source, damaged, problems, patterns, files);
    let root = reader.table(root.get_ref(), 0..0, &schema::ROOT);
    // Under a misspelt header stand names that were written all the same.
    drafts.damaged |= schema::ROOT.keys.iter().any(|key| root.means(key));
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
    problems.forget(before, &lost);
}
