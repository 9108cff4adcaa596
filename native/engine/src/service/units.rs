//! What the receipt is made of: the hash of every 1 MiB unit as it was verified. Which were written since, the move knows.
//!
//! A disk of 64 TiB has 64 Mi units, most of them holes: only units that are not zeros take memory, a page of 16 KiB for each GiB that has
//! one. So a disk of 1 TiB takes 16 MiB when it is full.

use std::sync::{Arc, OnceLock};

use twox_hash::XxHash3_128;

use crate::disk::ByteRange;
use crate::mirror::VERIFY_UNIT_BYTES;

const PAGE_UNITS: usize = 1024;

/// Cloning shares the pages: a clone is a picture of one moment, cheap to take and to hash elsewhere.
#[derive(Clone, Debug)]
pub struct UnitHashes {
    units: usize,
    /// Of a whole unit of zeros, and of the last unit (which may be shorter) if it is zeros.
    zeros: u128,
    last_zeros: u128,
    /// `None`: all of them are zeros.
    pages: Vec<Option<Arc<Vec<u128>>>>,
}

impl UnitHashes {
    /// Of a disk of `size_bytes` zeros.
    pub fn new(size_bytes: u64) -> Self {
        static ZEROS: OnceLock<u128> = OnceLock::new();
        let of_zeros = |len: u64| hash_unit(&vec![0; len as usize]);
        let zeros = *ZEROS.get_or_init(|| of_zeros(VERIFY_UNIT_BYTES));
        let last_zeros = match size_bytes % VERIFY_UNIT_BYTES {
            0 => zeros,
            part => of_zeros(part),
        };
        let units = size_bytes.div_ceil(VERIFY_UNIT_BYTES) as usize;
        Self { units, zeros, last_zeros, pages: vec![None; units.div_ceil(PAGE_UNITS)] }
    }

    /// `range`: one unit.
    pub fn verified(&mut self, range: ByteRange, hash: u128) {
        let unit = (range.start / VERIFY_UNIT_BYTES) as usize;
        let (page, place) = (unit / PAGE_UNITS, unit % PAGE_UNITS);
        if self.pages[page].is_none() {
            if hash == self.of_zeros(unit) {
                return;
            }
            self.pages[page] = Some(Arc::new(self.page_of_zeros(page)));
        }
        if let Some(hashes) = &mut self.pages[page] {
            // Copied if a picture of it is still being hashed.
            Arc::make_mut(hashes)[place] = hash;
        }
    }

    fn of_zeros(&self, unit: usize) -> u128 {
        if unit + 1 == self.units { self.last_zeros } else { self.zeros }
    }

    fn page_of_zeros(&self, page: usize) -> Vec<u128> {
        let units = page * PAGE_UNITS..((page + 1) * PAGE_UNITS).min(self.units);
        units.map(|unit| self.of_zeros(unit)).collect()
    }

    /// xxh3-128 over the concatenated big-endian hashes of the units. A gigabyte of them for 64 TiB, so not on the reactor's thread.
    pub fn digest(&self) -> u128 {
        let in_order = |hashes: &[u128]| -> Vec<u8> { hashes.iter().flat_map(|hash| hash.to_be_bytes()).collect() };
        let zeros = in_order(&[self.zeros; PAGE_UNITS]);
        let mut all = XxHash3_128::new();
        for (number, page) in self.pages.iter().enumerate() {
            match page {
                Some(hashes) => all.write(&in_order(hashes)),
                None if number + 1 < self.pages.len() => all.write(&zeros),
                None => all.write(&in_order(&self.page_of_zeros(number))),
            }
        }
        all.finish_128()
    }
}

pub fn hash_unit(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = VERIFY_UNIT_BYTES;

    /// As README's recipe has it: every unit of the disk, one after the other.
    fn by_the_recipe(disk: &[u8]) -> u128 {
        let mut all = XxHash3_128::new();
        disk.chunks(MIB as usize).for_each(|unit| all.write(&hash_unit(unit).to_be_bytes()));
        all.finish_128()
    }

    #[test]
    fn units_nobody_hashed_count_as_zeros_also_a_last_one_that_is_shorter() {
        for size in [512, MIB, 3 * MIB + 4096] {
            assert_eq!(UnitHashes::new(size).digest(), by_the_recipe(&vec![0; size as usize]), "{size}");
        }
        let mut disk = vec![0; (5 * MIB + 512) as usize];
        disk[2 * MIB as usize..3 * MIB as usize].fill(7);
        let mut hashes = UnitHashes::new(disk.len() as u64);
        hashes.verified(ByteRange::new(2 * MIB, MIB), hash_unit(&disk[..MIB as usize]));
        let picture = hashes.clone();
        hashes.verified(ByteRange::new(2 * MIB, MIB), hash_unit(&disk[2 * MIB as usize..3 * MIB as usize]));
        assert_eq!(hashes.digest(), by_the_recipe(&disk));
        assert_eq!(picture.digest(), by_the_recipe(&vec![0; disk.len()]), "the picture stays as it was taken");
    }

    #[test]
    fn pages_of_zeros_between_pages_with_content_keep_their_place() {
        let size = 3 * PAGE_UNITS as u64 * MIB + 512;
        let mut hashes = UnitHashes::new(size);
        let mut model = vec![hash_unit(&vec![0; MIB as usize]); 3 * PAGE_UNITS];
        model.push(hash_unit(&[0; 512]));
        for (unit, hash) in [(PAGE_UNITS, 1), (2 * PAGE_UNITS - 1, 2)] {
            hashes.verified(ByteRange::new(unit as u64 * MIB, MIB), hash);
            model[unit] = hash;
        }
        let mut all = XxHash3_128::new();
        model.iter().for_each(|hash| all.write(&hash.to_be_bytes()));
        assert_eq!(hashes.digest(), all.finish_128());
        assert_eq!(hashes.pages.iter().filter(|page| page.is_some()).count(), 1, "and cost nothing");
    }
}
