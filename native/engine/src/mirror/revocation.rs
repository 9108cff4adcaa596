//! "COMMITTED does not count": one word that outlives the process, stored the moment a switch is taken back.
//!
//! A record that is on its way to the journal cannot be called back, and the journal's disk may hang while it is. A store into shared
//! memory cannot hang, and `kill -9` cannot lose it: whoever opens the journal in this boot finds it and stays with the source. So the
//! guest's writes are answered by the source from that moment on. A power cut loses it; that is why the guest's flushes are held until
//! the journal itself has forgotten COMMITTED (docs/design/0007-records.md has the whole argument).

use std::sync::atomic::Ordering;

use super::saved_map::SharedWords;

const SET: u64 = 1;

/// Shared with the next process through the words it lies in. One machine uses it at a time.
#[derive(Clone)]
pub struct Revocation {
    words: SharedWords,
}

impl Revocation {
    /// `None` when there is no word.
    pub fn new(words: SharedWords) -> Option<Self> {
        (!words.as_slice().is_empty()).then_some(Self { words })
    }

    /// For tests, and for a move without a journal.
    pub fn in_memory() -> Self {
        Self { words: SharedWords::in_memory(1) }
    }

    pub fn is_set(&self) -> bool {
        self.words.as_slice()[0].load(Ordering::Acquire) == SET
    }

    /// From here on a COMMITTED that is found does not count. Never while the target alone has been written.
    pub fn set(&self) {
        self.words.as_slice()[0].store(SET, Ordering::Release);
    }

    /// The journal does not say COMMITTED, and nobody is about to write it.
    pub fn clear(&self) {
        self.words.as_slice()[0].store(0, Ordering::Release);
    }
}
