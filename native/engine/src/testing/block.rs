//! What the built-in guest writes, sector by sector, so that anybody can check any sector alone with a few lines of code.
//!
//! A sector is 512 bytes: 64 words w[0] to w[63], each a little-endian unsigned 64-bit number.
//! ```text
//!   w[0]  0x564d53544f524231          the letters VMSTORB1, most significant first
//!   w[1]  number of the disk          so that two disks cannot be mixed up
//!   w[2]  byte offset / 512           so that no sector can stand in another's place
//!   w[3]  sequence                    the number of the write, unique and rising per disk
//!   w[4]  h, the check: h = 0; for i in 0..4 { h = mix(h ^ w[i]) }
//!   w[i]  mix(h + i) for i in 5..64
//!
//!   mix(x): x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9; x = (x ^ (x >> 27)) * 0x94d049bb133111eb; x ^ (x >> 31)
//! ```
//! All arithmetic is modulo 2^64. A sector never written, discarded or zeroed is all zeros.

use crate::disk::SECTOR_BYTES;

const WORDS: usize = SECTOR_BYTES as usize / 8;
const MAGIC: u64 = 0x564d_5354_4f52_4231;

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn words(disk: u32, sector: u64, sequence: u64) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    words[..4].copy_from_slice(&[MAGIC, u64::from(disk), sector, sequence]);
    let check = words[..4].iter().fold(0, |h, word| mix(h ^ word));
    words[4] = check;
    (5..WORDS).for_each(|i| words[i] = mix(check.wrapping_add(i as u64)));
    words
}

/// Fills whole sectors of `data` with what write number `sequence` puts at byte `offset` of `disk`.
pub fn fill(data: &mut [u8], disk: u32, offset: u64, sequence: u64) {
    for (index, sector) in data.chunks_exact_mut(SECTOR_BYTES as usize).enumerate() {
        let content = words(disk, offset / SECTOR_BYTES + index as u64, sequence);
        for (bytes, word) in sector.chunks_exact_mut(8).zip(content) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// What one sector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Zeros,
    /// Exactly what write number `sequence` put here.
    Written {
        sequence: u64,
    },
    /// Ours, but of another place: where it says it belongs.
    Misplaced {
        disk: u64,
        offset: u64,
    },
    /// Neither zeros nor a whole sector of ours: torn inside a sector, damaged or foreign.
    Damaged,
}

/// Reads the 512 bytes found at byte `offset` of `disk`.
pub fn inspect(sector: &[u8], disk: u32, offset: u64) -> Found {
    let mut found = [0; WORDS];
    for (word, bytes) in found.iter_mut().zip(sector.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    }
    if found == [0; WORDS] {
        return Found::Zeros;
    }
    let [magic, its_disk, its_sector, sequence] = [found[0], found[1], found[2], found[3]];
    if magic != MAGIC || its_disk > u64::from(u32::MAX) || found != words(its_disk as u32, its_sector, sequence) {
        return Found::Damaged;
    }
    if its_disk != u64::from(disk) || its_sector != offset / SECTOR_BYTES {
        return Found::Misplaced { disk: its_disk, offset: its_sector.wrapping_mul(SECTOR_BYTES) };
    }
    Found::Written { sequence }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_is_known_only_whole_and_only_in_its_own_place() {
        let mut block = [0; 4096];
        fill(&mut block, 3, 8192, 77);
        let second = &mut block[512..1024];
        assert_eq!(inspect(second, 3, 8704), Found::Written { sequence: 77 });
        assert_eq!(inspect(second, 3, 8192), Found::Misplaced { disk: 3, offset: 8704 });
        assert_eq!(inspect(second, 2, 8704), Found::Misplaced { disk: 3, offset: 8704 });
        for byte in 0..512 {
            second[byte] ^= 1;
            assert_eq!(inspect(second, 3, 8704), Found::Damaged, "byte {byte}");
            second[byte] ^= 1;
        }
        assert_eq!(inspect(&[0; 512], 3, 0), Found::Zeros);
    }

    #[test]
    fn the_format_is_what_its_description_says() {
        // Computed by an independent few lines: sector 16 of disk 0, sequence 1.
        let mut sector = [0; 512];
        fill(&mut sector, 0, 8192, 1);
        assert_eq!(&sector[..8], b"1BROTSMV");
        let word = |i: usize| u64::from_le_bytes(sector[i * 8..i * 8 + 8].try_into().unwrap());
        assert_eq!((word(1), word(2), word(3)), (0, 16, 1));
        assert_eq!((word(4), word(5), word(63)), (CHECK, FIRST, LAST));
    }
    const CHECK: u64 = 0x6efc0b3ab2beb8d0;
    const FIRST: u64 = 0xd16c9173b0cb46d7;
    const LAST: u64 = 0x9df1e97ae9861312;
}
