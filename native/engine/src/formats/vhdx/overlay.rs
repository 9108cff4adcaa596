//! What a log says about a file, laid over the file in memory: how a dirty image is read without being written.

use std::collections::BTreeMap;
use std::io;

use super::layout::*;
use super::log::Change;
use crate::file::ReadAt;

/// One piece of the overlay: the bytes at an offset of the image file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    Page(Box<[u8; PAGE_BYTES]>),
    /// So many zeros; a multiple of 4096.
    Zeros(u64),
}

impl Patch {
    pub fn len(&self) -> u64 {
        match self {
            Patch::Page(_) => PAGE,
            Patch::Zeros(len) => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Sorted, disjoint patches by file offset. Memory is bounded by the log it came from (64 MiB).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    patches: BTreeMap<u64, Patch>,
    /// The length the file is to have; bytes behind its real end read as zeros, then the patches apply.
    file_len: u64,
}

impl Overlay {
    /// Lays `changes`, oldest first, over a file that is to have `file_len` bytes. They end before `file_len`.
    pub fn new<'a>(changes: impl IntoIterator<Item = &'a Change>, file_len: u64) -> Self {
        let mut overlay = Overlay { patches: BTreeMap::new(), file_len };
        for change in changes {
            match change {
                Change::Page { file_offset, bytes } => overlay.lay(*file_offset, Patch::Page(bytes.clone())),
                Change::Zeros { len: 0, .. } => {}
                Change::Zeros { file_offset, len } => overlay.lay(*file_offset, Patch::Zeros(*len)),
            }
        }
        overlay
    }

    pub fn is_empty(&self) -> bool {
        self.patches.is_empty()
    }

    /// The length of the file after replay.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Every patch with its file offset, sorted and disjoint.
    pub fn patches(&self) -> impl Iterator<Item = (u64, &Patch)> {
        self.patches.iter().map(|(offset, patch)| (*offset, patch))
    }

    /// Whether a read of this range of the file has to go through [`Overlay::apply`].
    pub fn touches(&self, file_offset: u64, len: u64) -> bool {
        self.over(file_offset, len).next().is_some()
    }

    /// Puts right what was read from the file at `file_offset` (with zeros for what lies behind its real end).
    pub fn apply(&self, file_offset: u64, buf: &mut [u8]) {
        for (at, patch) in self.over(file_offset, buf.len() as u64) {
            let start = at.max(file_offset);
            let end = (at + patch.len()).min(file_offset + buf.len() as u64);
            let into = &mut buf[(start - file_offset) as usize..(end - file_offset) as usize];
            match patch {
                Patch::Page(bytes) => into.copy_from_slice(&bytes[(start - at) as usize..(end - at) as usize]),
                Patch::Zeros(_) => into.fill(0),
            }
        }
    }

    fn over(&self, file_offset: u64, len: u64) -> impl Iterator<Item = (u64, &Patch)> {
        let before = self.patches.range(..file_offset).next_back();
        let before = before.filter(move |(at, patch)| **at + patch.len() > file_offset);
        let within = self.patches.range(file_offset..file_offset.saturating_add(len));
        before.into_iter().filter(move |_| len > 0).chain(within).map(|(at, patch)| (*at, patch))
    }

    /// Everything is in units of 4096, so only runs of zeros are ever cut.
    fn lay(&mut self, start: u64, patch: Patch) {
        let end = start + patch.len();
        let covered: Vec<u64> = self.over(start, patch.len()).map(|(at, _)| at).collect();
        for at in covered {
            let Some(old) = self.patches.remove(&at) else { continue };
            let old_end = at + old.len();
            if at < start {
                self.patches.insert(at, Patch::Zeros(start - at));
            }
            if old_end > end {
                self.patches.insert(end, Patch::Zeros(old_end - end));
            }
        }
        self.patches.insert(start, patch);
    }
}

/// A file seen through its overlay, at its length after replay.
pub struct Overlaid<'a, F> {
    pub file: &'a F,
    pub real_len: u64,
    pub overlay: &'a Overlay,
}

impl<F: ReadAt> ReadAt for Overlaid<'_, F> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.overlay.file_len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let real = self.real_len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (in_file, behind) = buf.split_at_mut(real);
        if !in_file.is_empty() {
            self.file.read_exact_at(in_file, offset)?;
        }
        behind.fill(0);
        self.overlay.apply(offset, buf);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.overlay.file_len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGES: u64 = 24;

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (0..PAGES, 1u8..=255).prop_map(|(page, fill)| Change::Page {
                file_offset: page * PAGE,
                bytes: Box::new([fill; PAGE_BYTES])
            }),
            (0..PAGES, 0..PAGES)
                .prop_map(|(a, b)| { Change::Zeros { file_offset: a.min(b) * PAGE, len: a.abs_diff(b) * PAGE } }),
        ]
    }

    proptest! {
        #[test]
        fn an_overlay_reads_as_if_the_changes_had_been_written(
            changes in proptest::collection::vec(change(), 0..40),
            start in 0..PAGES * PAGE,
            len in 0..3 * PAGE,
        ) {
            let mut file = vec![0xee; (PAGES * PAGE) as usize];
            let overlay = Overlay::new(&changes, PAGES * PAGE);
            let end = (start + len).min(PAGES * PAGE);
            let mut read = file[start as usize..end as usize].to_vec();
            overlay.apply(start, &mut read);
            for change in &changes {
                match change {
                    Change::Page { file_offset, bytes } => {
                        file[*file_offset as usize..][..PAGE_BYTES].copy_from_slice(&bytes[..]);
                    }
                    Change::Zeros { file_offset, len } => file[*file_offset as usize..][..*len as usize].fill(0),
                }
            }
            prop_assert!(read == file[start as usize..end as usize]);
            prop_assert_eq!(overlay.touches(start, 0), false);
            let mut last = 0;
            for (at, patch) in overlay.patches() {
                prop_assert!(at >= last && !patch.is_empty());
                last = at + patch.len();
            }
        }
    }
}
