//! Files that keys of the configuration name: found beside the file that names them, read within bounds. What was made of
//! them is kept for the other servers that name them, too, as long as one configuration is loaded.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_native_certs::{CertificateResult, load_native_certs};

use crate::config::diagnostic::{Problem, visible};
use crate::config::source::{self, Place};
use crate::config::tree::{Reader, Table};
use crate::tls::clients::{Crls, Roots};
use crate::tls::origination;
use crate::tls::pair::Pair;
use crate::tls::terms::Compiler;

/// Bytes of a file with certificates, a key or an OCSP response.
pub(super) const PEM_BYTES_MAX: usize = 1 << 20;

/// Bytes of a file with revocation lists. Large authorities' lists have some tens of megabytes.
pub(super) const CRL_BYTES_MAX: usize = 64 << 20;

/// Bytes of a path (PATH_MAX).
const PATH_BYTES_MAX: usize = 4096;

/// What one run of loading has read. `None`: it could not be used, and that was said.
#[derive(Default)]
pub(super) struct Store {
    /// The files there are, instead of those of the disk.
    given: Option<HashMap<PathBuf, Vec<u8>>>,
    /// By the paths of certificate, key and OCSP response.
    pub(super) pairs: HashMap<[PathBuf; 3], Option<Pair>>,
    pub(super) roots: HashMap<PathBuf, Option<Arc<Roots>>>,
    pub(super) crls: HashMap<PathBuf, Option<Arc<Crls>>>,
    pub(super) compiler: Compiler,
    pub(super) originations: origination::Compiler,
    /// The authorities that this host trusts, once they were asked for.
    system: Option<Result<Arc<Roots>, String>>,
}

impl Store {
    /// Of these files only.
    pub(super) fn given(files: &[(PathBuf, Vec<u8>)]) -> Self {
        Self { given: Some(files.iter().cloned().collect()), ..Self::default() }
    }

    fn read(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
        match &self.given {
            None => source::read_bytes(path, bytes_max),
            Some(given) => {
                given.get(path).cloned().ok_or_else(|| "cannot read: no such file was handed in".to_owned())
            }
        }
    }

    fn exists(&self, path: &Path) -> bool {
        match &self.given {
            None => path.metadata().is_ok_and(|metadata| metadata.is_file()),
            Some(given) => given.contains_key(path),
        }
    }

    /// The authorities that this host trusts, or why there are none. Read once.
    pub(super) fn system_roots(&mut self) -> Result<Arc<Roots>, String> {
        let given = self.given.is_some();
        let load = || {
            let found = if given { CertificateResult::default() } else { load_native_certs() };
            let reason = || match found.errors.first() {
                Some(error) => error.to_string(),
                None => "none is installed".to_owned(),
            };
            Roots::usable(&found.certs).map(Arc::new).ok_or_else(reason)
        };
        self.system.get_or_insert_with(load).clone()
    }

    /// Whether anybody may read the file.
    pub(super) fn is_open(&self, path: &Path) -> bool {
        use std::os::unix::fs::PermissionsExt;
        let mode = path.metadata().map(|metadata| metadata.permissions().mode());
        self.given.is_none() && mode.is_ok_and(|mode| mode & 0o007 != 0)
    }
}

/// A path that a key names.
#[derive(Clone)]
pub(super) struct Named {
    pub(super) path: PathBuf,
    /// Where it is written.
    pub(super) place: Place,
    key: &'static str,
    /// Instead of a path a secret may have been written.
    is_secret: bool,
}

impl Named {
    /// The path, for messages; only of a file that exists where it could be a secret that was taken for a path.
    pub(super) fn shown(&self) -> String {
        format!("`{}`", visible(&self.path.to_string_lossy()))
    }
}

/// The path under a key.
pub(super) fn path(reader: &mut Reader<'_>, table: &Table<'_>, key: &'static str) -> Option<Named> {
    let text = reader.string(table, key)?;
    let contents = text.value.contains("-----BEGIN") || text.value.contains('\n');
    if contents || text.value.is_empty() || text.value.contains('\0') || text.value.len() > PATH_BYTES_MAX {
        // What stands there may be a key: it is not shown.
        let what = if contents { "holds the PEM text itself" } else { "is not a path" };
        let problem = Problem::error("bad-value", text.place, format!("`{key}` {what}"));
        reader.push(problem.expected("the path of a file"));
        return None;
    }
    // An absolute path stays what it is.
    let path = reader.directory().join(text.value);
    Some(Named { path, place: text.place, key, is_secret: key == "private_key" })
}

/// The content of a file.
pub(super) fn read(reader: &mut Reader<'_>, named: &Named, bytes_max: usize) -> Option<Vec<u8>> {
    let reason = match reader.files.read(&named.path, bytes_max) {
        Ok(content) => return Some(content),
        Err(reason) => reason,
    };
    let expected = "a readable file; a relative path starts at the directory of this file";
    let hidden = named.is_secret && !reader.files.exists(&named.path);
    let shown = if hidden { "its file".to_owned() } else { named.shown() };
    let message = format!("`{}`: {shown}: {reason}", named.key);
    let hint = hidden.then(|| "the path is not shown: a key may have been written in its place".to_owned());
    reader.push(Problem::error("bad-file", named.place, message).expected(expected).hint_if(hint));
    None
}
