//! Seeded randomness: a failing run prints its seed, `RINGGATE_SEED` replays it.

use std::env;
use std::hash::{BuildHasher, RandomState};

/// xorshift64*: enough to vary sizes and split points.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// A generator with a fresh seed, or that of `RINGGATE_SEED`. Prints it; the test runner shows that on failure.
    pub(crate) fn from_env() -> Self {
        let seed = env::var("RINGGATE_SEED").ok().map_or_else(
            || RandomState::new().hash_one(0),
            |text| text.parse().expect("RINGGATE_SEED: a number"),
        );
        println!("RINGGATE_SEED={seed}");
        Self::new(seed)
    }

    /// A generator with this seed.
    pub(crate) const fn new(seed: u64) -> Self {
        // A zero state would stay zero.
        Self(if seed == 0 { 0x9e37_79b9_7f4a_7c15 } else { seed })
    }

    /// The next 64 bits.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number in `0..bound`.
    pub(crate) const fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// `length` random bytes.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// Cuts `bytes` into pieces of 1 to `piece_max` bytes.
    pub(crate) fn pieces<'a>(&mut self, mut bytes: &'a [u8], piece_max: usize) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at((1 + self.below(piece_max)).min(bytes.len()));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}

/// FNV-1a, to compare bodies too large to print.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
