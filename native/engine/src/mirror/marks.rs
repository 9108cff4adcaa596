//! What a move notes per write: bitmaps and a few words in a file in memory, mapped.
//!
//! ```text
//!   0       "VMSTMARK", version, id of the journal, boot id │ revoked │ sequence │ ending
//!   4096    disk 0: dirty bitmap, intent bitmap; disk 1: ...        each padded to 4096
//! ```
//! These have to survive `kill -9` and nothing else: after a power cut a move is rolled back or completed, never resumed. So they lie in
//! a file on tmpfs, not in the journal: a store into a page of a disk's file waits for that disk when it hangs, is full or is writing
//! the page back, and the reactor that stores would wait with it. For the same reason no checksum covers them: they are memory, like
//! the guest's own, and no medium is between the store and the load.
//!
//! The file has all its space from the start (a store without it is a SIGBUS, not an error). Made before the journal and removed behind
//! it; `ending` tells a journal that was removed in order from one that is missing.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::FallocateFlags;

use super::disk_state::DiskSetup;
use super::journal_layout::{bitmap_bytes, bitmap_words};
use super::revocation::Revocation;
use super::saved_map::SharedWords;
use crate::disk::DiskError;

const MAGIC: [u8; 8] = *b"VMSTMARK";
const VERSION: u64 = 1;
const HEADER_BYTES: u64 = 4096;
/// Places of the header's words, in words of eight bytes. Each that is stored to has a cache line of its own.
const ID_AT: usize = 2;
/// Where there is no folder in memory the file outlives a boot, and what it says does not.
const BOOT_AT: usize = 4;
const REVOKED_AT: usize = 8;
const SEQUENCE_AT: usize = 16;
const ENDING_AT: usize = 24;

const TMPFS: u64 = 0x0102_1994;
const ZERO_PIECE_BYTES: usize = 1024 * 1024;

/// Cloning shares the mapping.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    mapped: Arc<MmapRaw>,
}

/// What is known of a move's marks before its journal is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarksFound {
    None,
    /// A journal has been there, and was not removed by its worker.
    OfAJournal,
    /// What a crash left before there was a journal, or behind it.
    LeftOver,
}

impl Marks {
    /// Replaces what an earlier move left. `NoSpace` is found out here and not by a SIGBUS later.
    pub(super) fn create(path: &Path, id: [u8; 16], boot_id: [u8; 16], disk_bytes: &[u64]) -> Result<Self, DiskError> {
        let failed = |error: std::io::Error| DiskError::io("make the marks of the move in", path, error);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let made = allocate(path, file_bytes(disk_bytes)).and_then(|file| map(&file));
        let mapped = made.map_err(failed).inspect_err(|_| drop(std::fs::remove_file(path)))?;
        let marks = Self { mapped };
        let words = marks.header();
        for (at, value) in [(ID_AT, id), (BOOT_AT, boot_id)] {
            for (word, bytes) in words[at..at + 2].iter().zip(value.chunks_exact(8)) {
                word.store(word_of(bytes), Ordering::Relaxed);
            }
        }
        words[1].store(VERSION, Ordering::Relaxed);
        words[0].store(word_of(&MAGIC), Ordering::Release);
        Ok(marks)
    }

    /// Those of the journal `id`; `None` when there are none, or others.
    pub(super) fn open(path: &Path, id: [u8; 16], disk_bytes: &[u64]) -> Result<Option<Self>, DiskError> {
        let marks = Self::read(path, file_bytes(disk_bytes))?;
        Ok(marks.filter(|marks| marks.says(ID_AT, id)))
    }

    /// Whether a journal has to be where none is.
    pub(super) fn find(path: &Path, boot_id: [u8; 16]) -> Result<MarksFound, DiskError> {
        let Some(marks) = Self::read(path, 0)? else {
            return Ok(if path.symlink_metadata().is_ok() { MarksFound::LeftOver } else { MarksFound::None });
        };
        let words = marks.header();
        let begun = marks.says(BOOT_AT, boot_id) && load(&words[SEQUENCE_AT]) > 0 && load(&words[ENDING_AT]) == 0;
        Ok(if begun { MarksFound::OfAJournal } else { MarksFound::LeftOver })
    }

    /// `length` 0: any.
    fn read(path: &Path, length: u64) -> Result<Option<Self>, DiskError> {
        let opened =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskError::io("open the marks of the move in", path, error)),
        };
        let failed = |error: std::io::Error| DiskError::io("read the marks of the move in", path, error);
        let found = file.metadata().map_err(failed)?.len();
        if found < HEADER_BYTES || (length > 0 && found != length) {
            return Ok(None);
        }
        let marks = Self { mapped: map(&file).map_err(failed)? };
        let words = marks.header();
        let known = load(&words[0]) == word_of(&MAGIC) && load(&words[1]) == VERSION;
        Ok(known.then_some(marks))
    }

    /// A journal that is not there is not missing from here on.
    pub(super) fn begin_ending(path: &Path) -> Result<(), DiskError> {
        if let Some(marks) = Self::read(path, 0)? {
            marks.header()[ENDING_AT].store(1, Ordering::Release);
        }
        Ok(())
    }

    /// No error when they are gone.
    pub(super) fn remove(path: &Path) -> Result<(), DiskError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DiskError::io("remove the marks of the move in", path, error));
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn revocation(&self) -> Option<Revocation> {
        Revocation::new(self.words(REVOKED_AT * 8, 1))
    }

    /// The newest record that is in both slots of the journal, as its sequence.
    pub(super) fn sequence(&self) -> u64 {
        load(&self.header()[SEQUENCE_AT])
    }

    pub(super) fn recorded(&self, sequence: u64) {
        self.header()[SEQUENCE_AT].store(sequence, Ordering::Release);
    }

    pub(super) fn setups(&self, disk_bytes: &[u64]) -> Vec<DiskSetup> {
        let mut at = HEADER_BYTES as usize;
        let mut bitmap = |size: u64| {
            let words = self.words(at, bitmap_words(size));
            at += bitmap_bytes(size) as usize;
            words
        };
        let setup = |size: &u64| DiskSetup { size_bytes: *size, dirty: bitmap(*size), intent: bitmap(*size) };
        disk_bytes.iter().map(setup).collect()
    }

    fn says(&self, at: usize, value: [u8; 16]) -> bool {
        self.header()[at..at + 2].iter().zip(value.chunks_exact(8)).all(|(word, bytes)| load(word) == word_of(bytes))
    }

    fn header(&self) -> &[AtomicU64] {
        // SAFETY: `map` maps at least the header, page aligned; all access to it is atomic; it lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.mapped.as_ptr().cast::<AtomicU64>(), HEADER_BYTES as usize / 8) }
    }

    fn words(&self, at: usize, len: usize) -> SharedWords {
        assert!(at + len * 8 <= self.mapped.len(), "the length was checked when the file was opened");
        // SAFETY: inside the mapping (above), aligned (`at` is a multiple of eight), alive with the Arc, atomic for everybody.
        unsafe {
            let start = self.mapped.as_mut_ptr().add(at).cast::<AtomicU64>();
            SharedWords::from_raw(self.mapped.clone(), start, len)
        }
    }
}

fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Acquire)
}

fn word_of(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn file_bytes(disk_bytes: &[u64]) -> u64 {
    HEADER_BYTES + disk_bytes.iter().map(|size| 2 * bitmap_bytes(*size)).sum::<u64>()
}

fn map(file: &File) -> std::io::Result<Arc<MmapRaw>> {
    Ok(Arc::new(MmapOptions::new().map_raw(file)?))
}

fn allocate(path: &Path, bytes: u64) -> std::io::Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(path)?;
    let reserved = match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => true,
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => false,
        Err(errno) => return Err(errno.into()),
    };
    if reserved && rustix::fs::fstatfs(&file)?.f_type as u64 == TMPFS {
        return Ok(file);
    }
    // On a disk, reserved space is converted when it is written, and that may want more space.
    let zeros = vec![0; ZERO_PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(ZERO_PIECE_BYTES as u64);
        file.write_all(&zeros[..piece as usize])?;
        left -= piece;
    }
    Ok(file)
}

#[cfg(test)]
#[path = "marks_tests.rs"]
mod tests;
