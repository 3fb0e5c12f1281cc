//! A shard's random numbers: fast, seeded by the operating system, not for secrets.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// A SplitMix64 generator.
#[derive(Debug)]
pub struct Random(Cell<u64>);

impl Random {
    /// Seeds from the operating system (through the keys of std's hasher).
    #[must_use]
    pub fn from_os() -> Self {
        Self::seeded(RandomState::new().hash_one(std::process::id()))
    }

    /// A generator whose numbers follow from `seed`.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// The next number.
    #[inline]
    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.set(state);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A request id: the text of a random UUID (RFC 9562 version 4), lower case.
    pub fn request_id(&self) -> [u8; 36] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let high = (self.next() & 0xFFFF_FFFF_FFFF_0FFF) | 0x4000;
        let low = (self.next() & 0x3FFF_FFFF_FFFF_FFFF) | 0x8000_0000_0000_0000;
        let bits = (u128::from(high) << 64) | u128::from(low);
        let mut text = [b'-'; 36];
        let mut shift = 128;
        for (at, byte) in text.iter_mut().enumerate() {
            if !matches!(at, 8 | 13 | 18 | 23) {
                shift -= 4;
                *byte = HEX[((bits >> shift) & 15) as usize];
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_version_4_uuids_and_differ() {
        let random = Random::seeded(7);
        let ids: std::collections::HashSet<[u8; 36]> = (0..1000).map(|_| random.request_id()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert_eq!([id[8], id[13], id[18], id[23]], [b'-'; 4]);
            assert_eq!(id[14], b'4');
            assert!(matches!(id[19], b'8' | b'9' | b'a' | b'b'));
            assert!(id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')));
        }
    }
}
