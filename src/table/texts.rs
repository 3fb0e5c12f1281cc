//! One buffer for the many short texts of a table (hosts, paths): each is stored once, and dropping is one call.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::message::Span;

/// Hashes the texts of a table: fast, and seeded per process. Requests only look up and never insert, so a hostile
/// client cannot lengthen a probe sequence.
pub(super) type Hasher = foldhash::fast::RandomState;

/// Collects texts while a table is built.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    known: HashTable<Span>,
    hasher: Hasher,
}

impl Texts {
    /// The span of a text in [`Texts::into_bytes`].
    ///
    /// # Panics
    ///
    /// When all distinct texts together reach 4 GiB, which the bounds on configuration files exclude.
    pub(super) fn intern(&mut self, text: &str) -> Span {
        let Self { bytes, known, hasher } = self;
        let text = text.as_bytes();
        let hash = std::hash::BuildHasher::hash_one(hasher, text);
        let rehash = |span: &Span| std::hash::BuildHasher::hash_one(hasher, span.of(bytes));
        match known.entry(hash, |span| span.of(bytes) == text, rehash) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                let end = bytes.len() + text.len();
                assert!(u32::try_from(end).is_ok(), "4 GiB of hosts and paths");
                let span = Span::new(bytes.len(), end);
                vacant.insert(span);
                bytes.extend_from_slice(text);
                span
            }
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_bytes(mut self) -> Box<[u8]> {
        self.bytes.shrink_to_fit();
        self.bytes.into_boxed_slice()
    }
}
