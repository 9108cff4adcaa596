//! The journal of one move: its plan, its phase, and what differs between the sides. In the state folder, never on the
//! destination.
//!
//! It outlives the process (bitmaps are a shared mapping) and the power (records are synced). Preallocated with
//! written zeros, because a store into a mapping whose block cannot be allocated is a SIGBUS, not an error. Layout:
//! `journal_layout.rs`. While it is open the file is locked (flock), by the description that the writer shares.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, FlockOperation, RenameFlags};
use zerocopy::IntoBytes;

use super::disk_state::DiskSetup;
use super::journal_layout::*;
use super::journal_writer::JournalWriter;
use super::saved_map::SharedWords;
use super::vocabulary::JournalPhase;
use crate::disk::{DiskError, ErrorKind};

/// Zeros are written in pieces of this size.
const ZERO_PIECE_BYTES: usize = 1024 * 1024;
/// ... and synced after so many: what waits to be written back when a guest on the same file system flushes, that guest waits for.
const ZERO_SYNC_BYTES: u64 = 4 * 1024 * 1024;

/// An open journal. The bitmaps stay mapped as long as any [`SharedWords`] of it lives.
pub struct Journal {
    path: PathBuf,
    facts: Facts,
    plan: Vec<u8>,
    bitmaps: Arc<MmapRaw>,
}

impl Journal {
    /// Makes the journal of a new move, in phase `Started`, and returns when it and its name are durable.
    /// `disk_bytes`: guest bytes of each disk.
    ///
    /// It appears under `path` complete or not at all. Refused: a file that is there already (`AlreadyExists`), too
    /// many disks or too large a plan (`InvalidArgument`); no space is found out here and not later (`NoSpace`).
    pub fn create(
        path: &Path,
        plan: &[u8],
        disk_bytes: &[u64],
        boot_id: [u8; 16],
    ) -> Result<(Journal, JournalWriter), DiskError> {
        let refuse = |what: &str| DiskError::new(ErrorKind::InvalidArgument, format!("cannot keep a journal: {what}"));
        if disk_bytes.len() > JOURNAL_DISKS_MAX {
            return Err(refuse("a move has at most 256 disks").at(path));
        }
        if disk_bytes.iter().any(|size| *size > JOURNAL_DISK_BYTES_MAX) {
            return Err(refuse("a disk has at most 64 TiB").at(path));
        }
        if plan.len() as u64 > JOURNAL_PLAN_MAX {
            return Err(refuse("its plan is larger than 16 MiB").at(path));
        }
        let facts = Facts {
            sequence: 1,
            phase: JournalPhase::Started,
            boot_id,
            plan_bytes: plan.len() as u64,
            plan_checksum: crc32c(plan),
            disk_bytes: disk_bytes.to_vec(),
        };
        let draft = draft_of(path);
        // One that was left behind was never a journal.
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DiskError::io("remove the unfinished journal", &draft, error));
            }
            _ => {}
        }
        let made = write_new(&draft, plan, &facts).and_then(|file| {
            rustix::fs::renameat_with(rustix::fs::CWD, &draft, rustix::fs::CWD, path, RenameFlags::NOREPLACE)
                .map_err(|errno| DiskError::io("create the journal", path, errno.into()))?;
            sync_folder(path).inspect_err(|_| drop(std::fs::remove_file(path)))?;
            Ok(file)
        });
        let file = made.inspect_err(|_| {
            // The error that counts is the one above.
            drop(std::fs::remove_file(&draft));
        })?;
        Self::with(path, file, facts, plan.to_vec(), 1)
    }

    /// Opens a journal that was left behind. What it says is durable when this returns: a record that was only in the
    /// page cache must not be acted upon and then be lost.
    ///
    /// `Locked`: its move still runs (or its process is still dying). `Corrupt`: names the rule that is broken.
    /// `Unsupported`: by a newer version.
    pub fn open(path: &Path) -> Result<(Journal, JournalWriter), DiskError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
            .open(path)
            .map_err(|error| DiskError::io("open the journal", path, error))?;
        lock(&file, path)?;
        file.sync_data().map_err(|error| DiskError::io("sync the journal", path, error))?;
        let length = file.metadata().map_err(|error| DiskError::io("read the length of", path, error))?.len();
        if length < PLAN_OFFSET {
            return Err(corrupt(path, "it begins with two superblocks of 4096 bytes"));
        }
        let (facts, slot) = newest(&file, path)?;
        if facts.file_bytes() != length {
            return Err(corrupt(path, "its length is what the superblock says"));
        }
        let mut plan = vec![0; facts.plan_bytes as usize];
        file.read_exact_at(&mut plan, PLAN_OFFSET).map_err(|error| DiskError::io("read the plan in", path, error))?;
        if crc32c(&plan) != facts.plan_checksum {
            return Err(corrupt(path, "the checksum of the plan is in the superblock"));
        }
        Self::with(path, file, facts, plan, slot ^ 1)
    }

    fn with(
        path: &Path,
        file: File,
        facts: Facts,
        plan: Vec<u8>,
        next_slot: u64,
    ) -> Result<(Journal, JournalWriter), DiskError> {
        let offset = facts.bitmaps_offset();
        let bytes = (facts.file_bytes() - offset) as usize;
        let bitmaps = MmapOptions::new()
            .offset(offset)
            .len(bytes)
            .map_raw(&file)
            .map_err(|error| DiskError::io("map the bitmaps of", path, error))?;
        let journal = Journal { path: path.to_owned(), facts: facts.clone(), plan, bitmaps: Arc::new(bitmaps) };
        Ok((journal, JournalWriter { file, path: path.to_owned(), facts, slot: next_slot }))
    }

    /// The phase when it was opened.
    pub fn phase(&self) -> JournalPhase {
        self.facts.phase
    }

    /// The plan's bytes as they were given to `create`.
    pub fn plan(&self) -> &[u8] {
        &self.plan
    }

    /// False after a reboot: the bitmaps are then not to be trusted, the move is rolled back or completed.
    pub fn is_of_boot(&self, boot_id: [u8; 16]) -> bool {
        self.facts.boot_id == boot_id
    }

    pub fn disk_bytes(&self) -> &[u64] {
        &self.facts.disk_bytes
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disks with their bitmaps, for `Move::new` or `Move::resume`. Only one machine may use them at a time.
    pub fn setups(&self) -> Vec<DiskSetup> {
        let mut at = 0;
        let mut words = |size: u64| {
            // SAFETY: `with` mapped `file_bytes - bitmaps_offset` bytes, which is the sum of all bitmaps; `at` stays
            // below it. The mapping is page aligned and every bitmap a multiple of 4096, so words are aligned. It
            // lives as long as the Arc, and all access is atomic.
            let words = unsafe {
                let start = self.bitmaps.as_mut_ptr().add(at).cast::<AtomicU64>();
                SharedWords::from_raw(self.bitmaps.clone(), start, bitmap_words(size))
            };
            at += bitmap_bytes(size) as usize;
            words
        };
        let setup = |size: &u64| DiskSetup { size_bytes: *size, dirty: words(*size), intent: words(*size) };
        self.facts.disk_bytes.iter().map(setup).collect()
    }

    /// Removes a journal, durably. No error if it is gone already.
    pub fn remove(path: &Path) -> Result<(), DiskError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DiskError::io("remove the journal", path, error));
            }
            _ => {}
        }
        sync_folder(path)
    }
}

fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn corrupt(path: &Path, rule: &str) -> DiskError {
    let message = format!("the journal '{}' is damaged; broken rule: {rule}", path.display());
    DiskError::new(ErrorKind::Corrupt, message).at(path)
}

fn lock(file: &File, path: &Path) -> Result<(), DiskError> {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
        if errno == rustix::io::Errno::WOULDBLOCK {
            let message = format!("the journal '{}' is in use: its move is still running", path.display());
            DiskError::new(ErrorKind::Locked, message).at(path)
        } else {
            DiskError::io("lock the journal", path, errno.into())
        }
    })
}

fn write_new(path: &Path, plan: &[u8], facts: &Facts) -> Result<File, DiskError> {
    let failed = |error: std::io::Error| DiskError::io("write the journal", path, error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(path)
        .map_err(failed)?;
    lock(&file, path)?;
    let length = facts.file_bytes();
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, length) {
        // The zeros below allocate just as well.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(errno) => return Err(failed(errno.into())),
    }
    // Written, not only reserved: unwritten extents are converted at write-back, and that may want space.
    let zeros = vec![0; ZERO_PIECE_BYTES];
    let mut left = length;
    while left > 0 {
        let piece = left.min(ZERO_PIECE_BYTES as u64);
        file.write_all(&zeros[..piece as usize]).map_err(failed)?;
        left -= piece;
        if (length - left).is_multiple_of(ZERO_SYNC_BYTES) {
            file.sync_data().map_err(failed)?;
        }
    }
    file.write_all_at(plan, PLAN_OFFSET).map_err(failed)?;
    file.write_all_at(facts.encode().as_bytes(), 0).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(file)
}

fn sync_folder(path: &Path) -> Result<(), DiskError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| DiskError::io("sync the folder", folder, error))
}

/// The newest valid superblock and its slot. A torn one falls back to the other; two bad ones are an error.
fn newest(file: &File, path: &Path) -> Result<(Facts, u64), DiskError> {
    let mut best: Option<(Facts, u64)> = None;
    let mut flaw = Flaw::Empty;
    for slot in 0..2 {
        let mut bytes = vec![0; SLOT_BYTES as usize];
        file.read_exact_at(&mut bytes, slot * SLOT_BYTES)
            .map_err(|error| DiskError::io("read a superblock of", path, error))?;
        match Facts::decode(&bytes) {
            Ok(facts) if best.as_ref().is_none_or(|(found, _)| facts.sequence > found.sequence) => {
                best = Some((facts, slot));
            }
            Ok(_) => {}
            // A newer program's record may be the newest: the older slot must not be believed then.
            Err(Flaw::Version(version)) => {
                let message = format!("the journal '{}' has version {version}; this program reads 1", path.display());
                return Err(DiskError::new(ErrorKind::Unsupported, message).at(path));
            }
            Err(found) => {
                if flaw == Flaw::Empty {
                    flaw = found;
                }
            }
        }
    }
    best.ok_or_else(|| match flaw {
        Flaw::Rule(rule) => corrupt(path, rule),
        Flaw::Empty | Flaw::Version(_) => corrupt(path, "one of its two superblocks is valid (both are empty)"),
    })
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
