//! What the receipt is made of: the hash of every 1 MiB unit as it was verified. Which were written since, the move knows.

use twox_hash::XxHash3_128;

use crate::disk::ByteRange;
use crate::mirror::VERIFY_UNIT_BYTES;

pub struct UnitHashes(Vec<u128>);

impl UnitHashes {
    pub fn new(units: usize) -> Self {
        Self(vec![0; units])
    }

    pub fn verified(&mut self, range: ByteRange, hash: u128) {
        self.0[(range.start / VERIFY_UNIT_BYTES) as usize] = hash;
    }

    /// xxh3-128 over the concatenated big-endian hashes of the units.
    pub fn digest(&self) -> u128 {
        digest(self.0.iter().copied())
    }
}

pub fn hash_unit(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}

pub fn digest(hashes: impl Iterator<Item = u128>) -> u128 {
    let mut all = XxHash3_128::new();
    for hash in hashes {
        all.write(&hash.to_be_bytes());
    }
    all.finish_128()
}
