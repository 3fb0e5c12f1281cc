//! The files that a configuration was read from: their text and the way from a byte to a line and column.
//!
//! Made by `config::load`, read by every lowering step (for an entry's origin) and by `diagnostic` (for
//! excerpts). Reading is bounded: [`FILE_BYTES_MAX`] for a file, [`FILES_MAX`] files, regular files only.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::model::Origin;
use crate::config::secret::Secrets;

/// Bytes of one configuration file. 100 000 hosts with ten routes fit in a few such files.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Files of one configuration directory.
pub const FILES_MAX: usize = 16_384;

/// Every this many bytes the number of characters so far is kept, so that a column in a line of megabytes
/// costs a scan of one block.
const BLOCK_BYTES: usize = 1024;

/// Index of a file in [`Sources`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct FileId(pub(super) u32);

/// A byte range in a file. Twelve bytes: large configurations hold many.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Place {
    pub(super) file: FileId,
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Place {
    /// The range `span` of `file`; files are far below 4 GiB.
    pub(super) fn new(file: FileId, span: &Range<usize>) -> Self {
        let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { file, start: narrow(span.start), end: narrow(span.end.max(span.start)) }
    }
}

/// One file.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) path: Arc<PathBuf>,
    pub(super) text: Cow<'a, str>,
    /// Offset of each line's first byte.
    line_starts: Vec<u32>,
    /// Characters that start before each block.
    block_chars: Vec<u32>,
    /// Where secrets stand; found when an excerpt is first taken.
    secrets: OnceCell<Secrets>,
}

impl<'a> Source<'a> {
    fn new(path: PathBuf, text: Cow<'a, str>) -> Self {
        let mut line_starts = vec![0];
        line_starts.extend(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| narrow(at + 1)));
        let mut seen = 0u32;
        let block_chars = text
            .as_bytes()
            .chunks(BLOCK_BYTES)
            .map(|block| {
                let before = seen;
                seen = seen.saturating_add(narrow(char_starts(block)));
                before
            })
            .collect();
        Self { path: Arc::new(path), text, line_starts, block_chars, secrets: OnceCell::new() }
    }

    /// Line and column of a byte, both from 1, the column in characters. A byte past the end counts as the
    /// end.
    pub(super) fn line_column(&self, at: usize) -> (u32, u32) {
        let at = at.min(self.text.len());
        let line = self.line_starts.partition_point(|&start| start as usize <= at).max(1);
        let start = self.line_starts.get(line - 1).map_or(0, |&start| start as usize);
        let column = self.chars_before(at).saturating_sub(self.chars_before(start));
        (narrow(line), narrow(column + 1))
    }

    /// The range of a line (from 1), without its line end.
    pub(super) fn line_range(&self, line: u32) -> Range<usize> {
        let index = (line as usize).saturating_sub(1);
        let start = self.line_starts.get(index).map_or(self.text.len(), |&start| start as usize);
        let end = self.line_starts.get(index + 1).map_or(self.text.len(), |&next| next as usize);
        let line = self.text.get(start..end).unwrap_or_default();
        start..start + line.trim_end_matches(['\n', '\r']).len()
    }

    /// The origin of an entry that starts at a byte.
    pub(super) fn origin(&self, at: usize) -> Origin {
        let (line, column) = self.line_column(at);
        Origin { file: Arc::clone(&self.path), line, column }
    }

    /// Where secrets stand.
    pub(super) fn secrets(&self) -> &Secrets {
        self.secrets.get_or_init(|| Secrets::find(&self.text))
    }

    fn chars_before(&self, at: usize) -> usize {
        let block = at / BLOCK_BYTES;
        let before = self
            .block_chars
            .get(block)
            .or_else(|| self.block_chars.last())
            .map_or(0, |&chars| chars as usize);
        let block = block.min(self.block_chars.len().saturating_sub(1));
        before + char_starts(self.text.as_bytes().get(block * BLOCK_BYTES..at).unwrap_or_default())
    }
}

/// All files of one configuration, in the order that entries count in.
#[derive(Debug, Default)]
pub(super) struct Sources<'a> {
    files: Vec<Source<'a>>,
}

impl<'a> Sources<'a> {
    /// Adds a file; an unreadable one is added with an empty text.
    pub(super) fn add(&mut self, path: PathBuf, text: Cow<'a, str>) -> FileId {
        let id = FileId(narrow(self.files.len()));
        self.files.push(Source::new(path, text));
        id
    }

    /// The texts that were read, not those handed in.
    pub(super) fn into_texts(self) -> Vec<(PathBuf, String)> {
        let text = |source: Source<'_>| match source.text {
            Cow::Owned(text) => Some((Arc::unwrap_or_clone(source.path), text)),
            Cow::Borrowed(_) => None,
        };
        self.files.into_iter().filter_map(text).collect()
    }

    /// The file of an id that [`Self::add`] gave.
    pub(super) fn file(&self, id: FileId) -> Option<&Source<'a>> {
        self.files.get(id.0 as usize)
    }
}

/// The text of a file.
///
/// # Errors
/// Why it could not be read, in one sentence.
pub(super) fn read(path: &Path) -> Result<String, String> {
    String::from_utf8(read_bytes(path, FILE_BYTES_MAX)?)
        .map_err(|error| format!("the file is not UTF-8: byte {} is wrong", error.utf8_error().valid_up_to()))
}

/// The bytes of a file, `bytes_max` at most.
///
/// # Errors
/// Why it could not be read, in one sentence.
pub(super) fn read_bytes(path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    // The kind is asked for before opening: opening a FIFO would wait for its writer.
    let metadata = path.metadata().map_err(|error| format!("cannot read: {error}"))?;
    if metadata.is_dir() {
        return Err("cannot read: it is a directory".to_owned());
    }
    if !metadata.is_file() {
        return Err("cannot read: neither a regular file nor a directory".to_owned());
    }
    // It may have become one since.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(|error| format!("cannot open: {error}"))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err("cannot read: it is no regular file any more".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read: {error}"))?;
    if bytes.len() > bytes_max {
        return Err(format!("the file is larger than {} MiB", bytes_max >> 20));
    }
    Ok(bytes)
}

/// The `*.toml` entries of a directory, sorted by file name. Other files, and hidden ones (editors' backups),
/// are left out.
pub(super) fn list(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot = |error: std::io::Error| format!("cannot list the directory: {error}");
    let mut paths = Vec::new();
    for entry in directory.read_dir().map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        let name = Path::new(&name);
        let hidden = name.as_os_str().as_encoded_bytes().first() == Some(&b'.');
        let path = directory.join(name);
        if hidden || name.extension().is_none_or(|extension| extension != "toml") || path.is_dir() {
            continue;
        }
        if paths.len() == FILES_MAX {
            return Err(format!("the directory holds more than {FILES_MAX} *.toml files"));
        }
        paths.push(path);
    }
    paths.sort();
    Ok(paths)
}

/// UTF-8 continuation bytes are `10xxxxxx`; every other byte starts a character.
fn char_starts(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte & 0xC0 != 0x80).count()
}

fn narrow(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines and columns agree with a count from the beginning, at every byte of a text with long characters.
    #[test]
    fn finds_line_and_column() {
        let text = format!("a = 1\r\n\u{e9}\u{20ac} = \"{}\"\nlast", "\u{1F600}x".repeat(700));
        let source = Source::new(PathBuf::from("x.toml"), Cow::Borrowed(&text));
        for (at, _) in text.char_indices() {
            let before = &text[..at];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1;
            assert_eq!(source.line_column(at), (narrow(line), narrow(column)), "byte {at}");
        }
        assert_eq!(source.line_column(text.len() + 9), (3, 5));
        assert_eq!(&text[source.line_range(1)], "a = 1");
        assert_eq!(&text[source.line_range(3)], "last");
        assert!(source.line_range(4).is_empty());
    }

    /// An empty text has a first line.
    #[test]
    fn takes_an_empty_text() {
        let source = Source::new(PathBuf::from("x.toml"), Cow::Borrowed(""));
        assert_eq!(source.line_column(0), (1, 1));
        assert_eq!(source.line_range(1), 0..0);
    }
}
