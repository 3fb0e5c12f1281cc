//! Files that keys of the configuration name: found beside the file that names them, read within bounds.

use std::path::{Path, PathBuf};

use crate::config::diagnostic::{Problem, visible};
use crate::config::source::{self, Place};
use crate::config::tree::{Reader, Table};

/// A file that was read.
pub(super) struct File<T> {
    pub(super) path: PathBuf,
    pub(super) content: T,
    /// Where its path is written.
    pub(super) place: Place,
}

impl<T> File<T> {
    /// The path, for messages.
    pub(super) fn shown(&self) -> String {
        format!("`{}`", visible(&self.path.to_string_lossy()))
    }
}

/// The text of the file that a key names.
pub(super) fn text(reader: &mut Reader<'_>, table: &Table<'_>, key: &str) -> Option<File<String>> {
    read(reader, table, key, source::read)
}

/// The bytes of the file that a key names.
pub(super) fn bytes(reader: &mut Reader<'_>, table: &Table<'_>, key: &str) -> Option<File<Vec<u8>>> {
    read(reader, table, key, source::read_bytes)
}

fn read<T>(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    key: &str,
    read: impl FnOnce(&Path) -> Result<T, String>,
) -> Option<File<T>> {
    let text = reader.string(table, key)?;
    if text.value.contains("-----BEGIN") || text.value.contains('\n') {
        // What stands there may be a key: it is not shown.
        let problem = Problem::error("bad-value", text.place, format!("`{key}` holds the PEM text itself"));
        reader.push(problem.expected("the path of a file"));
        return None;
    }
    let origin = reader.origin(&table.span);
    // An absolute path stays what it is.
    let path = origin.file.parent().unwrap_or_else(|| Path::new("")).join(text.value);
    match read(&path) {
        Ok(content) => Some(File { path, content, place: text.place }),
        Err(reason) => {
            let message = format!("`{key}`: {}: {reason}", visible(&path.to_string_lossy()));
            let expected = "a readable file; a relative path starts at the directory of this file";
            reader.push(Problem::error("bad-file", text.place, message).expected(expected));
            None
        }
    }
}
