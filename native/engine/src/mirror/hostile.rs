//! A journal that a disk damaged, or somebody wrote: a good one, patched, its checksums made right again. For the fuzzer (native/fuzz).
#![allow(clippy::panic)] // a finding is told by a panic

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use super::journal::Journal;
use super::journal_layout::{PLAN_OFFSET, SLOT_BYTES, crc32c};
use super::limits::MoveLimits;
use super::machine::Move;
use super::witness::Witness;
use crate::disk::DiskError;

/// In a superblock: its own checksum, the plan's.
const CHECKSUM: std::ops::Range<usize> = 12..16;
const PLAN_CHECKSUM: std::ops::Range<usize> = 56..60;
const PLAN: &[u8] = br#"{"moveId":"00000000-0000-0000-0000-000000000000","disks":[]}"#;
const DISK_BYTES: [u64; 3] = [1 << 20, 64 << 20, (1 << 30) + 512];

/// Byte 0: whether the plan's checksum is made right, too. Then pieces: where (two bytes), how many bytes, the bytes. `folder` is for a
/// file of ours.
pub fn journal_file(folder: &Path, data: &[u8]) {
    let path = folder.join(format!("vmstorage-fuzz-journal-{}", std::process::id()));
    let mut bytes = good(&path).to_vec();
    let Some((&mend_plan, mut rest)) = data.split_first() else { return };
    while let Some((&[low, high, len], tail)) = rest.split_first_chunk::<3>() {
        let (patch, tail) = tail.split_at(usize::from(len).min(tail.len()));
        let at = usize::from(u16::from_le_bytes([low, high])) % (bytes.len() - patch.len());
        bytes[at..at + patch.len()].copy_from_slice(patch);
        rest = tail;
    }
    let (slot, plan_at) = (SLOT_BYTES as usize, PLAN_OFFSET as usize);
    let plan_sum = crc32c(&bytes[plan_at..plan_at + PLAN.len()]).to_le_bytes();
    for block in bytes[..plan_at].chunks_exact_mut(slot) {
        if mend_plan & 1 != 0 {
            block[PLAN_CHECKSUM].copy_from_slice(&plan_sum);
        }
        block[CHECKSUM].fill(0);
        let sum = crc32c(block).to_le_bytes();
        block[CHECKSUM].copy_from_slice(&sum);
    }
    if fs::write(&path, &bytes).is_err() {
        return;
    }
    if let Ok((journal, writer)) = Journal::open(&path) {
        if let (Some(setups), Some(revocation)) = (journal.setups(), journal.revocation()) {
            assert_eq!(setups.len(), journal.disk_bytes().len());
            drop(Move::resume(MoveLimits::default(), journal.phase(), revocation, setups));
        }
        drop((journal, writer));
    }
    // A witness that one input has made would refuse all that come after it.
    if let Ok(mut witness) = Witness::of(&path)
        && witness.stands()
    {
        drop(witness.clear());
    }
    drop(fs::remove_file(&path));
}

fn good(path: &Path) -> &'static [u8] {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let made = Journal::create(path, PLAN, &DISK_BYTES, [7; 16])
            .and_then(|_| fs::read(path).map_err(|error| DiskError::io("read", path, error)));
        made.unwrap_or_else(|error| panic!("a good journal cannot be made: {error}"))
    })
}
