//! A set of chunks in memory: which are dirty, being copied, verified. One bit each, with a summary level above.
//!
//! ```text
//!   summary   1 bit per word: "this word may hold a bit"     16 KiB words per TiB are skipped 64 at a time
//!   words     1 bit per chunk                                2 MiB per TiB of disk (64 KiB chunks)
//! ```
//! So the search for the next dirty chunk stays cheap when a large disk has three of them. Never allocates after `new`.

use std::ops::Range;

const BITS: u64 = u64::BITS as u64;

/// The bits of `span` (positions within all words) that fall into word `index`.
fn mask_in_word(span: &Range<u64>, index: u64) -> u64 {
    let start = span.start.max(index * BITS);
    let end = span.end.min((index + 1) * BITS);
    if start >= end {
        return 0;
    }
    let len = end - start;
    let ones = if len == BITS { u64::MAX } else { (1 << len) - 1 };
    ones << (start % BITS)
}

/// The words a span touches, with the mask of each.
pub(super) fn words_of(span: Range<u64>) -> impl Iterator<Item = (usize, u64)> {
    let words = if span.is_empty() { 0..0 } else { span.start / BITS..span.end.div_ceil(BITS) };
    words.map(move |index| (index as usize, mask_in_word(&span, index)))
}

/// Words needed for `len` bits.
pub const fn word_count(len: u64) -> usize {
    len.div_ceil(BITS) as usize
}

#[derive(Clone, Debug)]
pub struct ChunkMap {
    words: Vec<u64>,
    /// A set bit says that the word may be non-zero; a clear bit says that it is zero.
    summary: Vec<u64>,
    len: u64,
    count: u64,
}

impl ChunkMap {
    /// `len` clear bits.
    pub fn new(len: u64) -> Self {
        let words = vec![0; word_count(len)];
        let summary = vec![0; word_count(words.len() as u64)];
        Self { words, summary, len, count: 0 }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bits set.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn get(&self, at: u64) -> bool {
        self.words.get((at / BITS) as usize).is_some_and(|word| word >> (at % BITS) & 1 == 1)
    }

    /// Sets the bits of `span` that lie inside the map; answers how many were clear before.
    pub fn set(&mut self, span: Range<u64>) -> u64 {
        let mut added = 0;
        for (index, mask) in words_of(span.start..span.end.min(self.len)) {
            let word = &mut self.words[index];
            added += u64::from((mask & !*word).count_ones());
            *word |= mask;
            self.summary[index / BITS as usize] |= 1 << (index as u64 % BITS);
        }
        self.count += added;
        added
    }

    /// Sets the bits `bits` of the word `index`; answers how many were clear before.
    pub(super) fn set_in_word(&mut self, index: usize, bits: u64) -> u64 {
        let word = &mut self.words[index];
        let added = u64::from((bits & !*word).count_ones());
        if added > 0 {
            *word |= bits;
            self.summary[index / BITS as usize] |= 1 << (index as u64 % BITS);
            self.count += added;
        }
        added
    }

    /// Clears the bits of `span`; answers how many were set before.
    pub fn clear(&mut self, span: Range<u64>) -> u64 {
        if self.count == 0 {
            return 0;
        }
        let mut removed = 0;
        for (index, mask) in words_of(span.start..span.end.min(self.len)) {
            let word = &mut self.words[index];
            removed += u64::from((mask & *word).count_ones());
            *word &= !mask;
            if *word == 0 {
                self.summary[index / BITS as usize] &= !(1 << (index as u64 % BITS));
            }
        }
        self.count -= removed;
        removed
    }

    pub fn clear_all(&mut self) {
        while let Some((index, _)) = self.next_word(0) {
            self.words[index] = 0;
            self.summary[index / BITS as usize] &= !(1 << (index as u64 % BITS));
        }
        self.count = 0;
    }

    /// True when a bit of `span` is set.
    pub fn any(&self, span: Range<u64>) -> bool {
        self.count != 0
            && words_of(span.start..span.end.min(self.len)).any(|(index, mask)| self.words[index] & mask != 0)
    }

    /// The first set bit at or after `from`.
    pub fn next_set(&self, from: u64) -> Option<u64> {
        if self.count == 0 || from >= self.len {
            return None;
        }
        let index = (from / BITS) as usize;
        let here = self.words[index] & (u64::MAX << (from % BITS));
        if here != 0 {
            return Some(index as u64 * BITS + u64::from(here.trailing_zeros()));
        }
        self.next_word(index + 1).map(|(index, word)| index as u64 * BITS + u64::from(word.trailing_zeros()))
    }

    /// The first clear bit at or after `from`.
    pub fn next_clear(&self, from: u64) -> Option<u64> {
        let mut at = from;
        while at < self.len {
            let here = !self.words[(at / BITS) as usize] & (u64::MAX << (at % BITS));
            if here != 0 {
                let found = at / BITS * BITS + u64::from(here.trailing_zeros());
                return (found < self.len).then_some(found);
            }
            at = (at / BITS + 1) * BITS;
        }
        None
    }

    /// The first non-zero word at or after `from`, with its value.
    pub(super) fn next_word(&self, from: usize) -> Option<(usize, u64)> {
        let mut top = from / BITS as usize;
        let mut mask = u64::MAX << (from as u64 % BITS);
        while top < self.summary.len() {
            let mut candidates = self.summary[top] & mask;
            while candidates != 0 {
                let index = top * BITS as usize + candidates.trailing_zeros() as usize;
                if self.words[index] != 0 {
                    return Some((index, self.words[index]));
                }
                candidates &= candidates - 1;
            }
            top += 1;
            mask = u64::MAX;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_span_over_word_borders_is_counted_once() {
        let mut map = ChunkMap::new(300);
        assert_eq!(map.set(60..200), 140);
        assert_eq!(map.set(100..210), 10);
        assert_eq!(map.count(), 150);
        assert_eq!(map.clear(0..61), 1);
        assert_eq!(map.next_set(0), Some(61));
        assert_eq!(map.next_clear(61), Some(210));
    }

    #[test]
    fn bits_behind_the_end_do_not_exist() {
        let mut map = ChunkMap::new(65);
        assert_eq!(map.set(0..1000), 65);
        assert_eq!(map.next_clear(0), None);
        assert!(!map.get(65) && !map.get(10_000));
        assert_eq!(map.next_set(65), None);
        assert_eq!(map.clear(64..u64::MAX), 1);
        assert!(ChunkMap::new(0).is_empty());
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_list_of_booleans(len in 1u64..9000, steps in prop::collection::vec((any::<bool>(), 0u64..9000, 0u64..400), 0..60)) {
            let mut map = ChunkMap::new(len);
            let mut model = vec![false; len as usize];
            for (set, start, size) in steps {
                let span = start.min(len)..(start + size).min(len);
                let changed = if set { map.set(span.clone()) } else { map.clear(span.clone()) };
                let mut expected = 0;
                for bit in &mut model[span.start as usize..span.end as usize] {
                    expected += u64::from(*bit != set);
                    *bit = set;
                }
                prop_assert_eq!(changed, expected);
                prop_assert_eq!(map.any(span.clone()), model[span.start as usize..span.end as usize].iter().any(|b| *b));
                let after = |want: bool| model.iter().enumerate().skip(start as usize).find(|(_, b)| **b == want).map(|(i, _)| i as u64);
                prop_assert_eq!(map.next_set(start), after(true));
                prop_assert_eq!(map.next_clear(start), after(false));
            }
            prop_assert_eq!(map.count(), model.iter().filter(|b| **b).count() as u64);
            map.clear_all();
            prop_assert_eq!((map.count(), map.next_set(0)), (0, None));
        }
    }
}
