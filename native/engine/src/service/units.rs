//! What the receipt is made of: the hash of every 1 MiB unit as it was verified, and which were written since.

use twox_hash::XxHash3_128;

use crate::disk::ByteRange;
use crate::mirror::VERIFY_UNIT_BYTES;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unverified,
    Verified,
    /// The guest wrote to it after it had been verified: both sides got that write, the hash did not.
    WrittenSince,
}

pub struct UnitHashes {
    hashes: Vec<u128>,
    states: Vec<State>,
}

impl UnitHashes {
    pub fn new(units: usize) -> Self {
        Self { hashes: vec![0; units], states: vec![State::Unverified; units] }
    }

    pub fn verified(&mut self, range: ByteRange, hash: u128) {
        let unit = (range.start / VERIFY_UNIT_BYTES) as usize;
        self.hashes[unit] = hash;
        self.states[unit] = State::Verified;
    }

    pub fn written(&mut self, range: ByteRange) {
        let first = (range.start / VERIFY_UNIT_BYTES) as usize;
        let last = ((range.end() - 1) / VERIFY_UNIT_BYTES) as usize;
        for state in &mut self.states[first..=last] {
            if *state == State::Verified {
                *state = State::WrittenSince;
            }
        }
    }

    pub fn written_since(&self) -> usize {
        self.states.iter().filter(|s| **s == State::WrittenSince).count()
    }

    /// xxh3-128 over the concatenated big-endian hashes of the units.
    pub fn digest(&self) -> u128 {
        digest(self.hashes.iter().copied())
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
