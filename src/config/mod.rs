//! From TOML files to a checked [`model::Config`].
//!
//! ```text
//! load -> source (read, bounded)
//!      -> file (parse one: damage; lower its tables: process, gateway, virtual_service, service) -> drafts
//!      -> lower (names, clusters; claims, reach) -> Config + Diagnostics (render: text or JSON)
//! ```
//!
//! Called by `cli/check` and by the supervisor at start and at each reload. Every problem of all files is
//! found in one run; a configuration exists only when none of them is an error. Nothing here touches the
//! network, and only the functions without `text` in their names touch files.

mod claims;
mod client_match;
mod clients;
mod damage;
mod diagnostic;
mod drafts;
pub mod effective;
mod file;
mod gateway;
mod host;
mod https;
mod keys;
mod l4;
mod l4_reach;
mod lower;
mod matching;
pub mod model;
mod origination;
mod pairs;
mod pem;
mod ports;
mod process;
mod reach;
pub mod render;
mod schema;
mod secret;
mod service;
mod source;
mod subnets;
#[cfg(test)]
mod tests;
mod tls;
mod tree;
mod units;
mod unused;
mod virtual_service;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use diagnostic::visible;
pub use diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Excerpt, Location, Related, Severity};
pub use process::{parse_cores, parse_ring_entries};
pub use source::{FILE_BYTES_MAX, FILES_MAX};
pub(crate) use units::{duration as parse_duration, show_time};

use diagnostic::{Problem, Problems};
use drafts::Drafts;
use effective::Effective;
use matching::Patterns;
use model::{Config, Process};
use pem::Store;
use source::{FileId, Place, Sources};

/// What became of a configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration; absent when any diagnostic is an error.
    pub config: Option<Config>,
    /// Everything noticed, in the order of file and position.
    pub diagnostics: Vec<Diagnostic>,
    /// What the next load is to start from, once the configuration is in effect.
    pub effective: Effective,
}

/// Loads a file, or all `*.toml` files of a directory in the order of their names (not those of directories
/// within, nor hidden ones). Reads at most [`FILE_BYTES_MAX`] of each of at most [`FILES_MAX`] files; what
/// cannot be read is a diagnostic.
#[must_use]
pub fn load(path: &Path) -> Loaded {
    load_after(path, &Effective::default())
}

/// [`load`], while another configuration is in effect: what TLS stands on stays where its files can not be used any more.
#[must_use]
pub fn load_after(path: &Path, effective: &Effective) -> Loaded {
    Loader { files: Store::after(effective), ..Loader::default() }.load(path)
}

/// Loads the text that is in effect once more, with the files that its TLS settings name as they are now.
#[must_use]
pub fn load_files(effective: &Effective) -> Loaded {
    let mut loader = Loader { files: Store::after(effective), ..Loader::default() };
    for (path, text) in &*effective.texts {
        loader.add(path.clone(), Cow::Borrowed(text));
    }
    let mut loaded = loader.finish();
    loaded.effective.texts = Arc::clone(&effective.texts);
    loaded
}

/// `[process]` of a configuration, whatever is with the files that its TLS settings name.
///
/// # Errors
/// What is wrong with the text.
pub fn load_process(path: &Path) -> Result<Process, Vec<Diagnostic>> {
    let loaded = Loader { files: Store::unread(), ..Loader::default() }.load(path);
    loaded.config.map(|config| config.process).ok_or(loaded.diagnostics)
}

/// Loads texts as if they were files of these names, in the order given. Touches no file.
#[must_use]
pub fn load_text(files: &[(PathBuf, String)]) -> Loaded {
    load_text_with(files, &[])
}

/// [`load_text`], with the files that the texts may name (certificates, keys): what is not among them is not there.
#[must_use]
pub fn load_text_with(files: &[(PathBuf, String)], named: &[(PathBuf, Vec<u8>)]) -> Loaded {
    let mut loader = Loader { files: Store::given(named), ..Loader::default() };
    for (path, text) in files {
        loader.add(path.clone(), Cow::Borrowed(text));
    }
    loader.finish()
}

/// Takes any bytes as a configuration, for fuzzing: the only demand is to come back, soon and without a
/// panic.
#[doc(hidden)]
pub fn fuzz_text(data: &[u8]) {
    // Larger inputs find nothing new, only time in compiling regexes.
    const FUZZ_BYTES_MAX: usize = 16 * 1024;
    let text = String::from_utf8_lossy(data.get(..FUZZ_BYTES_MAX).unwrap_or(data));
    let (first, second) = text.split_once('\0').unwrap_or((&text, ""));
    let files = [(PathBuf::from("a.toml"), first.to_owned()), (PathBuf::from("b.toml"), second.to_owned())];
    let loaded = load_text(&files);
    let errors = loaded.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    assert_eq!(errors, loaded.config.is_none(), "a configuration exists exactly when there is no error");
    for diagnostic in loaded.diagnostics.iter().take(20) {
        assert!(!render::text(diagnostic, render::Colour::Plain).is_empty());
    }
    assert!(!render::json(loaded.config.as_ref(), &loaded.diagnostics).is_empty());
}

/// The files so far and what they said. Each file is lowered as it comes, so that one tree exists at a time.
#[derive(Default)]
struct Loader<'a> {
    sources: Sources<'a>,
    drafts: Drafts,
    problems: Problems,
    patterns: Patterns,
    files: Store,
}

impl<'a> Loader<'a> {
    fn load(mut self, path: &Path) -> Loaded {
        if !path.is_dir() {
            self.read(path.to_owned());
            return self.finish();
        }
        match source::list(path) {
            Ok(paths) if paths.is_empty() => {
                self.fail(path.to_owned(), "no-files", "the directory holds no *.toml file");
            }
            Ok(paths) => paths.into_iter().for_each(|path| self.read(path)),
            Err(reason) => self.fail(path.to_owned(), "unreadable", &reason),
        }
        self.finish()
    }

    fn read(&mut self, path: PathBuf) {
        match source::read(&path) {
            Ok(text) => self.add(path, Cow::Owned(text)),
            Err(reason) => self.fail(path, "unreadable", &reason),
        }
    }

    fn add(&mut self, path: PathBuf, text: Cow<'a, str>) {
        if text.len() > FILE_BYTES_MAX {
            self.fail(path, "unreadable", &format!("the file is larger than {} MiB", FILE_BYTES_MAX >> 20));
            return;
        }
        let id = self.sources.add(path, text);
        if let Some(source) = self.sources.file(id) {
            let Self { drafts, problems, patterns, files, .. } = self;
            file::lower(id, source, drafts, problems, patterns, files);
        }
    }

    fn fail(&mut self, path: PathBuf, code: &'static str, reason: &str) {
        let id: FileId = self.sources.add(path, Cow::Borrowed(""));
        self.drafts.damaged = true;
        self.problems.push(Problem::error(code, Place::new(id, &(0..0)), reason).whole_file());
    }

    fn finish(mut self) -> Loaded {
        drop(self.patterns);
        if self.drafts.gateways.is_empty() && !self.drafts.damaged && self.sources.file(FileId(0)).is_some() {
            let place = Place::new(FileId(0), &(0..0));
            let problem = Problem::warning("no-gateway", place, "there is no gateway, so nothing is served");
            self.problems.push(problem.whole_file().expected("a [[gateway]] with a [[gateway.server]]"));
        }
        let config = lower::lower(self.drafts, &mut self.problems);
        let config = (self.problems.errors() == 0).then_some(config);
        let diagnostics = self.problems.finish(&self.sources);
        Loaded { config, diagnostics, effective: self.files.finish(self.sources.into_texts()) }
    }
}
