//! What a configuration that is in effect stands on: its text as it was read, and what was made of the files that its
//! TLS settings name.
//!
//! The supervisor keeps it and hands it to the next load. There a file that can not be used does not stop the rest: who
//! needs it keeps what was made of it before (`pairs`, `tls`), and what has not changed is not made again.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::tls::about::About;
use crate::tls::clients::{Crls, Roots};
use crate::tls::digest::Sha256;
use crate::tls::pair::Pair;
use crate::tls::terms::Compiler;

/// A change so soon after the last may leave no trace in the times of a file: kernels count them in ticks.
const TICK: Duration = Duration::from_millis(50);

/// Paths of certificate, key and OCSP response; empty where there is none.
pub(super) type PairPaths = [PathBuf; 3];

/// What was made of named files.
#[derive(Clone, Default)]
pub(super) struct Made {
    /// All that is in use of the same paths, the newest first: servers whose hosts a new certificate does not cover keep an
    /// older one.
    pub(super) pairs: HashMap<PairPaths, Vec<Pair>>,
    pub(super) roots: HashMap<PathBuf, Arc<Roots>>,
    pub(super) crls: HashMap<PathBuf, Arc<Crls>>,
    pub(super) compiler: Arc<Compiler>,
}

impl Made {
    /// Takes down that a pair is in use.
    pub(super) fn use_pair(&mut self, paths: &PairPaths, pair: &Pair) {
        let used = self.pairs.entry(paths.clone()).or_default();
        if used.iter().all(|known| known.digest != pair.digest) {
            used.push(pair.clone());
        }
    }

    fn digests(&self) -> (HashMap<&PairPaths, Vec<Sha256>>, HashMap<&PathBuf, Sha256>) {
        let pairs = self.pairs.iter().map(|(paths, pairs)| {
            let mut digests: Vec<_> = pairs.iter().map(|pair| pair.digest).collect();
            digests.sort_unstable();
            (paths, digests)
        });
        let roots = self.roots.iter().map(|(path, roots)| (path, roots.digest));
        let crls = self.crls.iter().map(|(path, crls)| (path, crls.source));
        (pairs.collect(), roots.chain(crls).collect())
    }
}

/// What kind of file it is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FileKind {
    /// Authorities of clients.
    Authorities,
    /// A server's certificate.
    Certificate,
    /// Revocation lists.
    RevocationLists,
}

/// A file that a server uses.
#[derive(Clone, Debug)]
pub struct UsedFile {
    /// Gateway.
    pub gateway: Arc<str>,
    /// Position of the server in it, from 0.
    pub server: usize,
    /// The server's hosts.
    pub hosts: Arc<[String]>,
    /// What it is.
    pub kind: FileKind,
    /// Its path.
    pub path: PathBuf,
    /// Of what is in use.
    pub digest: Sha256,
    /// What is in use.
    pub about: Arc<About>,
    /// Why what is in use is not what the file holds now.
    pub kept: Option<Arc<str>>,
}

/// Tells a file's content from a later one without reading it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    place: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// It had changed a moment before: the same again is not surely the same.
    young: bool,
}

impl Stamp {
    /// That of a file, at the end of all links; `None` of one that is not there.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let at = Duration::new(u64::try_from(changed.0).unwrap_or(0), u32::try_from(changed.1).unwrap_or(0));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(Self {
            place: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed,
            young: now < at + TICK,
        })
    }
}

/// Files and their stamps from before they were read, in the order of their paths.
pub type Stamps = Vec<(PathBuf, Option<Stamp>)>;

/// See the module. Clones are cheap.
#[derive(Clone, Default)]
pub struct Effective {
    /// The files of TOML; none where they name no file.
    pub(super) texts: Arc<[(PathBuf, String)]>,
    pub(super) made: Arc<Made>,
    /// What each server uses, in the order of the configuration.
    pub used: Arc<[UsedFile]>,
    /// All files that TLS settings name.
    pub stamps: Arc<Stamps>,
    /// When what was not taken may be, in seconds since 1970, though no file changes: a date passes.
    pub again_at: Option<i64>,
}

impl Effective {
    /// Whether what is in use is the same, whatever the files hold.
    #[must_use]
    pub fn serves_as(&self, other: &Self) -> bool {
        self.made.digests() == other.made.digests()
    }
}

/// Without what was made of keys.
impl std::fmt::Debug for Effective {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Effective").field("used", &self.used).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use super::*;
    use std::fs;

    /// Whatever replaces a file, its stamp is another; through links, too.
    #[test]
    fn stamps_tell_contents_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("a"), "1").unwrap();
        std::os::unix::fs::symlink("a", path("link")).unwrap();
        let mut seen = vec![Stamp { young: false, ..Stamp::of(&path("link")).unwrap() }];
        let mut is_new = |step: &str| {
            let stamp = Stamp::of(&path("link")).unwrap();
            let stamp = Stamp { young: false, ..stamp };
            assert!(!seen.contains(&stamp), "{step}");
            seen.push(stamp);
        };
        fs::write(path("a"), "22").unwrap();
        is_new("rewritten");
        fs::write(path("b"), "22").unwrap();
        fs::rename(path("b"), path("a")).unwrap();
        is_new("renamed over");
        fs::write(path("c"), "22").unwrap();
        std::os::unix::fs::symlink("c", path("new")).unwrap();
        fs::rename(path("new"), path("link")).unwrap();
        is_new("another link");
        fs::remove_file(path("c")).unwrap();
        assert_eq!(Stamp::of(&path("link")), None);
    }
}
