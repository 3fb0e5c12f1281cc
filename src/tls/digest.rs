//! SHA-256 over several parts.

use aws_lc_rs::digest::{Context, SHA256};

/// SHA-256 of something.
pub type Sha256 = [u8; 32];

/// Of several byte strings, one after another.
pub(crate) fn of<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Sha256 {
    let mut digest = Parts::new();
    parts.into_iter().for_each(|part| digest.add(part));
    digest.finish()
}

/// A digest over parts that can not be shifted into each other: each goes in behind its length.
pub(super) struct Parts(Context);

impl Parts {
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(super) fn add(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    pub(super) fn list<'p>(&mut self, name: &[u8], parts: impl ExactSizeIterator<Item = &'p [u8]>) {
        self.add(name);
        self.0.update(&(parts.len() as u64).to_be_bytes());
        parts.for_each(|part| self.add(part));
    }

    pub(super) fn finish(self) -> Sha256 {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        bytes
    }
}
