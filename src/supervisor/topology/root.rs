//! Reads the kernel's small text files below some root: `/`, or a copy of another host's tree.
//!
//! What is absent, too large or not of the expected form is `None`: a host that hides a fact (a container, an old
//! kernel) is a normal host.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Bytes of one file; `/proc/interrupts` of a large host is the largest, with some megabytes.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Entries of one directory.
const NAMES_MAX: usize = 16 * 1024;

/// Numbers in a list are below this; Linux ends at 8192 cores.
const NUMBER_MAX: u32 = 16 * 1024;

/// The directory that `proc/` and `sys/` stand in.
#[derive(Clone, Debug)]
pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    fn path(&self, path: &str) -> PathBuf {
        // An absolute path would replace the root.
        self.0.join(path.trim_start_matches('/'))
    }

    /// A file's text without white space around it.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let path = self.path(path);
        // A copy of a tree may hold anything; opening a pipe would wait for its other end.
        if !fs::metadata(&path).ok()?.is_file() {
            return None;
        }
        let mut text = String::new();
        let mut limited = fs::File::open(path).ok()?.take(TEXT_BYTES_MAX + 1);
        let read = limited.read_to_string(&mut text).ok()?;
        (read as u64 <= TEXT_BYTES_MAX).then(|| text.trim().to_owned())
    }

    /// A file that holds one number; those that mean "none" by -1 are `None` for unsigned types.
    pub(super) fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// A file that holds a list of numbers: `0-3,6`.
    pub(super) fn list(&self, path: &str) -> Option<Vec<u32>> {
        parse_list(&self.text(path)?)
    }

    /// Names in a directory, sorted; empty when it can not be read.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else { return Vec::new() };
        let names = entries.take(NAMES_MAX).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names
    }

    /// The numbers behind `prefix` among the names in a directory, ascending: 0 and 1 of `cpu0`, `cpu1`, `cpufreq`.
    pub(super) fn numbered(&self, path: &str, prefix: &str) -> Vec<u32> {
        let number = |name: String| name.strip_prefix(prefix)?.parse().ok();
        let mut numbers: Vec<u32> = self.names(path).into_iter().filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The last name of the path that a symbolic link holds.
    pub(super) fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Whether there is something by that name, links followed.
    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }
}

/// Reads the kernel's list format, ascending and each number once; an empty text is an empty list.
pub(super) fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut list = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        // No kernel repeats a number; a long text that does would fill the memory.
        if first > last || last >= NUMBER_MAX || list.len() > NUMBER_MAX as usize {
            return None;
        }
        list.extend(first..=last);
    }
    list.sort_unstable();
    list.dedup();
    Some(list)
}

/// Writes the kernel's list format of ascending numbers: `0-3,6`.
#[must_use]
pub fn format_list(list: &[u32]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = list;
    while let [first, ..] = rest {
        let follows = |(number, expected): &(&u32, u64)| u64::from(**number) == *expected;
        let run = rest.iter().zip(u64::from(*first)..).take_while(follows).count();
        let (these, behind) = rest.split_at(run.max(1));
        parts.push(match these {
            [first, .., last] => format!("{first}-{last}"),
            _ => first.to_string(),
        });
        rest = behind;
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        assert_eq!(parse_list("0-3,6\n"), Some(vec![0, 1, 2, 3, 6]));
        assert_eq!(parse_list("6,0-1,1"), Some(vec![0, 1, 6]));
        assert_eq!(parse_list(""), Some(Vec::new()));
        for text in ["a", "3-1", "0-", "-1", "0-4294967295", "16384", "1 2"] {
            assert_eq!(parse_list(text), None, "{text:?}");
        }
        for text in ["", "0", "0-1", "0-3,6", "1,3,5-7,9"] {
            assert_eq!(format_list(&parse_list(text).unwrap_or_default()), text);
        }
        assert_eq!(parse_list(&"0-9999,".repeat(10)), None);
        assert_eq!(format_list(&[u32::MAX]), u32::MAX.to_string());
    }
}
