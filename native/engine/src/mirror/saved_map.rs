//! A set of chunks that outlives the process: bits in the journal's mapped file.
//!
//! A store into a shared mapping is in the page cache the moment it retires: `kill -9` cannot lose it, and it costs no
//! system call. That is the whole write intent log. (A power cut may lose it: then the move is rolled back or
//! completed, never resumed.)

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::chunk_map::{word_count, words_of};

/// Words somebody else owns (the journal's mapping, or plain memory), kept alive by `keep`. Cloning shares them.
#[derive(Clone)]
pub struct SharedWords {
    keep: Arc<dyn Any + Send + Sync>,
    words: *const AtomicU64,
    len: usize,
}

// SAFETY: the words are atomics, alive as long as `keep`, which is itself Send and Sync.
unsafe impl Send for SharedWords {}
// SAFETY: as above; all access through `&self` is atomic.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Zeroed words in memory: enough for `chunks` chunks. For tests, and for a move without a journal.
    pub fn in_memory(chunks: u64) -> Self {
        let words: Arc<Vec<AtomicU64>> = Arc::new((0..word_count(chunks)).map(|_| AtomicU64::new(0)).collect());
        Self { words: words.as_ptr(), len: words.len(), keep: words }
    }

    /// # Safety
    /// `words..words + len` is aligned, valid for reads and writes as long as `keep` (or a clone of it) lives, and
    /// changed through atomics only.
    pub unsafe fn from_raw(keep: Arc<dyn Any + Send + Sync>, words: *const AtomicU64, len: usize) -> Self {
        Self { keep, words, len }
    }

    pub fn as_slice(&self) -> &[AtomicU64] {
        debug_assert!(Arc::strong_count(&self.keep) > 0);
        // SAFETY: promised by the constructors; `keep` lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.words, self.len) }
    }
}

/// One bit per chunk in shared words. Bits may be set by two at once: by the reactor for writes of the guest while a move that is resumed
/// reads the map on a thread of its own. They are cleared by one alone.
pub struct SavedMap {
    words: SharedWords,
    len: u64,
}

impl SavedMap {
    /// `None` when `words` has no room for `len` bits.
    pub fn new(words: SharedWords, len: u64) -> Option<Self> {
        (words.as_slice().len() >= word_count(len)).then_some(Self { words, len })
    }

    pub fn set(&self, span: Range<u64>) {
        let words = self.words.as_slice();
        for (index, mask) in words_of(span.start..span.end.min(self.len)) {
            // Most writes hit a bit that is set already: a load keeps the page clean then.
            let old = words[index].load(Ordering::Relaxed);
            if old & mask != mask {
                words[index].fetch_or(mask, Ordering::Release);
            }
        }
    }

    /// Sets `mask` in the word `index`.
    pub fn set_in_word(&self, index: usize, mask: u64) {
        self.words.as_slice()[index].fetch_or(mask, Ordering::Release);
    }

    /// Clears `mask` in the word `index`.
    pub fn clear_in_word(&self, index: usize, mask: u64) {
        let word = &self.words.as_slice()[index];
        let old = word.load(Ordering::Relaxed);
        if old & mask != 0 {
            word.store(old & !mask, Ordering::Release);
        }
    }

    pub fn clear_all(&self) {
        for word in self.words.as_slice() {
            // A store into a page that holds zeros already would make the kernel write it: 256 MiB for a disk of 64 TiB.
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Release);
            }
        }
    }

    pub fn get(&self, at: u64) -> bool {
        at < self.len && self.words.as_slice()[(at / 64) as usize].load(Ordering::Relaxed) >> (at % 64) & 1 == 1
    }

    /// Every set bit, as (word, bits), bits behind the end left out.
    pub fn words(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        words_of(0..self.len).map(|(index, mask)| (index, self.words.as_slice()[index].load(Ordering::Acquire) & mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_seen_by_the_next_owner_of_the_words() {
        let words = SharedWords::in_memory(130);
        let map = SavedMap::new(words.clone(), 130).expect("room");
        map.set(63..66);
        map.set(129..500);
        drop(map);
        let again = SavedMap::new(words, 130).expect("room");
        assert_eq!(again.words().collect::<Vec<_>>(), vec![(0, 1 << 63), (1, 0b11), (2, 0b10)]);
        again.clear_in_word(1, 0b01);
        assert!(!again.get(64) && again.get(65) && !again.get(130));
    }

    #[test]
    fn two_that_set_bits_of_the_same_words_lose_none() {
        const CHUNKS: u64 = 1 << 16;
        let every_other = |words: SharedWords, first: u64| {
            let map = SavedMap::new(words, CHUNKS).expect("room");
            (first..CHUNKS).step_by(2).for_each(|chunk| map.set(chunk..chunk + 1));
        };
        for round in 0..50 {
            let words = SharedWords::in_memory(CHUNKS);
            let theirs = words.clone();
            std::thread::scope(|scope| {
                scope.spawn(move || every_other(theirs, 1));
                every_other(words.clone(), 0);
            });
            let lost = words.as_slice().iter().filter(|word| word.load(Ordering::Relaxed) != u64::MAX).count();
            assert_eq!(lost, 0, "round {round}");
        }
    }

    #[test]
    fn words_without_room_are_refused() {
        assert!(SavedMap::new(SharedWords::in_memory(64), 65).is_none());
    }
}
