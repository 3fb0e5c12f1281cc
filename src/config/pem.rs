//! Files that keys of the configuration name: found beside the file that names them, read within bounds. What was made of
//! them is kept for the other servers that name them, too, and for the next load (`effective`).

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_native_certs::{CertificateResult, load_native_certs};

use crate::config::diagnostic::{Problem, visible};
use crate::config::effective::{Effective, Made, PairPaths, Stamp, UsedFile};
use crate::config::source::{self, Place};
use crate::config::tree::{Reader, Table};
use crate::tls::clients::{Crls, Roots};
use crate::tls::digest::Sha256;
use crate::tls::origination;
use crate::tls::pair::Pair;
use crate::tls::terms::Compiler;

/// Bytes of a file with certificates, a key or an OCSP response.
pub(super) const PEM_BYTES_MAX: usize = 1 << 20;

/// Bytes of a file with revocation lists. Large authorities' lists have some tens of megabytes.
pub(super) const CRL_BYTES_MAX: usize = 64 << 20;

/// Bytes of a path (PATH_MAX).
const PATH_BYTES_MAX: usize = 4096;

/// Bytes of a path that is shown though it could be a secret.
const SHOWN_BYTES_MAX: usize = 256;

/// What one run of loading has read, and what a generation before had.
#[derive(Default)]
pub(super) struct Store {
    /// The files there are, instead of those of the disk.
    given: Option<HashMap<PathBuf, Vec<u8>>>,
    /// Nothing is read: only what the texts themselves say is of interest.
    pub(super) unread: bool,
    /// What the effective generation has: it stays where its file can not be used any more.
    pub(super) before: Arc<Made>,
    /// What stands under the paths of a certificate, its key and its OCSP response now.
    pub(super) pairs: HashMap<PairPaths, Result<Pair, Vec<Problem>>>,
    /// `None`: it could not be used, and that was said.
    pub(super) roots: HashMap<PathBuf, Option<Arc<Roots>>>,
    pub(super) crls: HashMap<PathBuf, Option<Arc<Crls>>>,
    /// Why what is used of a file is what it held before.
    pub(super) kept: HashMap<PathBuf, Arc<str>>,
    /// What was said of a pair, once for all servers: by its paths and digest.
    said: HashSet<(PairPaths, Sha256)>,
    pub(super) compiler: Compiler,
    pub(super) originations: origination::Compiler,
    /// The authorities that this host trusts, once they were asked for.
    system: Option<Result<Arc<Roots>, String>>,
    /// What servers use.
    pub(super) made: Made,
    pub(super) used: Vec<UsedFile>,
    /// Those of `used` whose server is known.
    owned: usize,
    stamps: HashMap<PathBuf, Option<Stamp>>,
    again_at: Option<i64>,
}

impl Store {
    /// Of these files only.
    pub(super) fn given(files: &[(PathBuf, Vec<u8>)]) -> Self {
        Self { given: Some(files.iter().cloned().collect()), ..Self::default() }
    }

    /// Of no files, and none is missing.
    pub(super) fn unread() -> Self {
        Self { unread: true, ..Self::default() }
    }

    /// After a generation.
    pub(super) fn after(effective: &Effective) -> Self {
        let before = Arc::clone(&effective.made);
        Self { compiler: Compiler::after(Arc::clone(&before.compiler)), before, ..Self::default() }
    }

    /// What the next load starts from.
    pub(super) fn finish(mut self, texts: Vec<(PathBuf, String)>) -> Effective {
        for (paths, used) in self.made.pairs.iter_mut().filter(|(_, used)| used.len() > 1) {
            let fresh = self.pairs.get(paths).and_then(|fresh| fresh.as_ref().ok());
            let before = self.before.pairs.get(paths).map_or(&[][..], Vec::as_slice);
            let rank = |pair: &Pair| before.iter().position(|old| old.digest == pair.digest);
            used.sort_by_key(|pair| (fresh.is_none_or(|fresh| fresh.digest != pair.digest), rank(pair)));
        }
        let mut stamps: Vec<_> = self.stamps.into_iter().collect();
        stamps.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let made = Made { compiler: Arc::new(self.compiler.finish()), ..self.made };
        Effective {
            texts: if stamps.is_empty() { Arc::default() } else { texts.into() },
            made: Arc::new(made),
            used: self.used.into(),
            stamps: Arc::new(stamps),
            again_at: self.again_at,
        }
    }

    fn read(&mut self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
        match &self.given {
            None => {
                // Before the content: a change in between is seen later.
                self.stamps.entry(path.to_owned()).or_insert_with(|| Stamp::of(path));
                source::read_bytes(path, bytes_max)
            }
            Some(given) => {
                given.get(path).cloned().ok_or_else(|| "cannot read: no such file was handed in".to_owned())
            }
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

    /// Whether something of a pair is to be said: the first time.
    pub(super) fn is_first(&mut self, paths: &PairPaths, digest: &Sha256) -> bool {
        self.said.insert((paths.clone(), *digest))
    }

    /// Whose the files are that were taken down since the last call.
    pub(super) fn used_by(&mut self, gateway: Option<&Arc<str>>, server: usize) {
        let Some(gateway) = gateway else { return };
        for file in self.used.iter_mut().skip(self.owned) {
            file.gateway = Arc::clone(gateway);
            file.server = server;
        }
        self.owned = self.used.len();
    }

    /// A time at which what was kept may go.
    pub(super) fn look_again_at(&mut self, seconds: i64) {
        self.again_at = Some(self.again_at.map_or(seconds, |first| first.min(seconds)));
    }

    fn exists(&self, path: &Path) -> bool {
        match &self.given {
            None => path.metadata().is_ok_and(|metadata| metadata.is_file()),
            Some(given) => given.contains_key(path),
        }
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

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
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
    // No base64 has a dot.
    let is_path = text.value.contains('.') && text.value.len() <= SHOWN_BYTES_MAX && is_printable(text.value);
    Some(Named { path, place: text.place, key, is_secret: key == "private_key" && !is_path })
}

/// The content of a file, or what to say.
pub(super) fn read(reader: &mut Reader<'_>, named: &Named, bytes_max: usize) -> Result<Vec<u8>, Problem> {
    let reason = match reader.files.read(&named.path, bytes_max) {
        Ok(content) => return Ok(content),
        Err(reason) => reason,
    };
    let expected = "a readable file; a relative path starts at the directory of this file";
    let hidden = named.is_secret && !reader.files.exists(&named.path);
    let shown = if hidden { "its file".to_owned() } else { named.shown() };
    let message = format!("`{}`: {shown}: {reason}", named.key);
    let hint = hidden.then(|| "the path is not shown: a key may have been written in its place".to_owned());
    let problem = Problem::error("bad-file", named.place, message);
    if reader.files.given.is_none() && named.path.is_dir() {
        let example = match named.key {
            "ca_certificates" => ", such as /etc/ssl/certs/ca-certificates.crt for those of this host",
            _ => "",
        };
        return Err(problem.expected(format!("one PEM file{example}")).hint_if(hint));
    }
    Err(problem.expected(expected).hint_if(hint))
}
