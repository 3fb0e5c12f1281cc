//! Tests of the whole way from text to configuration; those of single steps stand beside their code.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

mod entry;
mod files;
mod generated;
mod hints;
mod layer4;
mod meaning;
mod origination;
mod renewal;
mod tls;

use std::path::{Path, PathBuf};

use crate::config::model::Config;
use crate::config::{Loaded, Severity, load_text};

/// A gateway `edge` on port 80 for all hosts.
const GATEWAY: &str =
    "[[gateway]]\nname = \"edge\"\n[[gateway.server]]\nport = 80\nprotocol = \"HTTP\"\nhosts = [\"*\"]\n";

/// A service `web` with one endpoint.
const SERVICE: &str = "[[service]]\nname = \"web\"\nendpoints = [{ address = \"10.0.0.1:8080\" }]\n";

/// Loads texts as files `0.toml`, `1.toml`, and so on.
fn load(texts: &[&str]) -> Loaded {
    let name = |index: usize| PathBuf::from(format!("{index}.toml"));
    let files: Vec<_> =
        texts.iter().enumerate().map(|(index, text)| (name(index), text.to_string())).collect();
    load_text(&files)
}

/// The configuration of texts that must give neither errors nor warnings.
fn config(texts: &[&str]) -> Config {
    let loaded = load(texts);
    assert_eq!(codes(&loaded), Vec::<String>::new(), "{:#?}", loaded.diagnostics);
    loaded.config.unwrap()
}

/// `line:code` of each diagnostic, with `~` before warnings.
fn codes(loaded: &Loaded) -> Vec<String> {
    let code = |diagnostic: &crate::config::Diagnostic| {
        let mark = if diagnostic.severity == Severity::Warning { "~" } else { "" };
        format!("{mark}{}:{}", diagnostic.location.line, diagnostic.code)
    };
    loaded.diagnostics.iter().map(code).collect()
}

/// The `*.toml` files of a folder of the repository, by name, with their text.
fn repository_files(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<_> =
        root.join(folder).read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let paths = names.iter().map(|name| Path::new(folder).join(name));
    let paths = paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.map(|path| (path.clone(), std::fs::read_to_string(root.join(path)).unwrap())).collect()
}
