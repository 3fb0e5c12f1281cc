//! One buffer for the many short texts of a table (hosts, paths): compact, and dropped by one call.

use crate::message::Span;

/// Hashes the texts of a table: fast, and seeded per process. Requests only look up and never insert, so a hostile
/// client cannot lengthen a probe sequence.
pub(super) type Hasher = foldhash::fast::RandomState;

/// Collects texts while a table is built. A host and the paths of its rules are added one after another, so that a
/// lookup finds them on the same page of memory.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
}

impl Texts {
    /// Appends a text and returns its span.
    ///
    /// # Panics
    ///
    /// When all texts together reach 4 GiB, which the bounds on configuration files exclude.
    pub(super) fn add(&mut self, text: &str) -> Span {
        let start = self.bytes.len();
        assert!(u32::try_from(start + text.len()).is_ok(), "4 GiB of hosts and paths");
        self.bytes.extend_from_slice(text.as_bytes());
        Span::new(start, self.bytes.len())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
