//! A set of chunks (or of units) in memory: which are dirty, being copied, not compared yet. One bit each, with summaries above.
//!
//! ```text
//!   levels[0]   1 bit per chunk                                  2 MiB per TiB of disk (64 KiB chunks)
//!   levels[1]   1 bit per word of levels[0]: "not zero"          32 KiB per TiB
//!   levels[n]   1 bit per word of levels[n-1]                    ... up to a single word: five levels for 64 TiB
//! ```
//! So the search for the next bit costs a few words at any size, however few are set: the reactor asks with every event. What was never set
//! was never touched: the kernel gives its memory when it is written first. Never allocates after `new`.

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
    /// A bit of a higher level is set exactly when the word below it is not zero.
    levels: Vec<Vec<u64>>,
    len: u64,
    count: u64,
}

impl ChunkMap {
    /// `len` clear bits.
    pub fn new(len: u64) -> Self {
        let mut levels = vec![vec![0; word_count(len)]];
        let mut words = word_count(len);
        while words > 1 {
            words = word_count(words as u64);
            levels.push(vec![0; words]);
        }
        Self { levels, len, count: 0 }
    }

    /// `len` set bits. Touches all of its memory: for units, not for chunks.
    pub fn full(len: u64) -> Self {
        let mut map = Self::new(len);
        map.set(0..len);
        map
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
        self.levels[0].get((at / BITS) as usize).is_some_and(|word| word >> (at % BITS) & 1 == 1)
    }

    /// Sets the bits of `span` that lie inside the map; answers how many were clear before.
    pub fn set(&mut self, span: Range<u64>) -> u64 {
        words_of(span.start..span.end.min(self.len)).map(|(index, mask)| self.set_in_word(index, mask)).sum()
    }

    /// Sets the bits `bits` of the word `index`; answers how many were clear before.
    pub(super) fn set_in_word(&mut self, index: usize, bits: u64) -> u64 {
        let word = &mut self.levels[0][index];
        let before = *word;
        *word |= bits;
        let added = u64::from((bits & !before).count_ones());
        self.count += added;
        if before == 0 && bits != 0 {
            self.summarise_set(index);
        }
        added
    }

    /// The word `below` of the lowest level is not zero any more.
    fn summarise_set(&mut self, mut below: usize) {
        for level in &mut self.levels[1..] {
            let word = &mut level[below / BITS as usize];
            let before = *word;
            *word |= 1 << (below as u64 % BITS);
            if before != 0 {
                return;
            }
            below /= BITS as usize;
        }
    }

    /// Clears the bits of `span`; answers how many were set before.
    pub fn clear(&mut self, span: Range<u64>) -> u64 {
        let span = span.start..span.end.min(self.len);
        let mut removed = 0;
        let mut from = span.start;
        // From one word that holds a bit to the next: a large span of an empty map costs nothing.
        while let Some(at) = self.next_set(from).filter(|at| *at < span.end) {
            let index = at / BITS;
            removed += self.clear_in_word(index as usize, mask_in_word(&span, index));
            from = (index + 1) * BITS;
        }
        removed
    }

    fn clear_in_word(&mut self, index: usize, bits: u64) -> u64 {
        let word = &mut self.levels[0][index];
        let removed = u64::from((bits & *word).count_ones());
        *word &= !bits;
        self.count -= removed;
        if *word == 0 && removed > 0 {
            self.summarise_clear(index);
        }
        removed
    }

    /// The word `below` of the lowest level has become zero.
    fn summarise_clear(&mut self, mut below: usize) {
        for level in &mut self.levels[1..] {
            let word = &mut level[below / BITS as usize];
            *word &= !(1 << (below as u64 % BITS));
            if *word != 0 {
                return;
            }
            below /= BITS as usize;
        }
    }

    /// Takes the first word that is not zero out of the map: its index, and what it held.
    pub(super) fn take_word(&mut self) -> Option<(usize, u64)> {
        let (index, bits) = self.next_word(0)?;
        self.clear_in_word(index, bits);
        Some((index, bits))
    }

    pub fn clear_all(&mut self) {
        while self.take_word().is_some() {}
    }

    /// True when a bit of `span` is set.
    pub fn any(&self, span: Range<u64>) -> bool {
        self.next_set(span.start).is_some_and(|at| at < span.end)
    }

    /// The first set bit at or after `from`.
    pub fn next_set(&self, from: u64) -> Option<u64> {
        if self.count == 0 || from >= self.len {
            return None;
        }
        let index = (from / BITS) as usize;
        let here = self.levels[0][index] & (u64::MAX << (from % BITS));
        if here != 0 {
            return Some(index as u64 * BITS + u64::from(here.trailing_zeros()));
        }
        self.next_word(index + 1).map(|(index, word)| index as u64 * BITS + u64::from(word.trailing_zeros()))
    }

    /// The first clear bit of `span`. Looks at every word in it: for spans of a request's or a copy's size.
    pub fn first_clear(&self, span: Range<u64>) -> Option<u64> {
        words_of(span.start..span.end.min(self.len)).find_map(|(index, mask)| {
            let clear = !self.levels[0][index] & mask;
            (clear != 0).then(|| index as u64 * BITS + u64::from(clear.trailing_zeros()))
        })
    }

    /// The first non-zero word at or after `from`, with its value: up the levels until one has a bit further on, then down again.
    pub(super) fn next_word(&self, from: usize) -> Option<(usize, u64)> {
        if self.levels[0].get(from).is_some_and(|word| *word != 0) {
            return Some((from, self.levels[0][from]));
        }
        // Position, in the bits of `level`, behind the word that was looked at.
        let (mut level, mut next) = (1, from as u64 + 1);
        loop {
            let word = self.levels.get(level)?.get((next / BITS) as usize)?;
            let later = word & (u64::MAX << (next % BITS));
            if later != 0 {
                let mut at = next / BITS * BITS + u64::from(later.trailing_zeros());
                for below in (1..level).rev() {
                    at = at * BITS + u64::from(self.levels[below][at as usize].trailing_zeros());
                }
                return Some((at as usize, self.levels[0][at as usize]));
            }
            next = next / BITS + 1;
            level += 1;
        }
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
        assert_eq!(map.first_clear(61..300), Some(210));
        assert_eq!(map.first_clear(61..210), None);
    }

    #[test]
    fn bits_behind_the_end_do_not_exist() {
        let mut map = ChunkMap::new(65);
        assert_eq!(map.set(0..1000), 65);
        assert_eq!(map.first_clear(0..100), None);
        assert!(!map.get(65) && !map.get(10_000));
        assert_eq!(map.next_set(65), None);
        assert_eq!(map.clear(64..u64::MAX), 1);
        assert!(ChunkMap::new(0).is_empty());
    }

    #[test]
    fn the_ends_of_a_disk_of_64_tib_are_found_from_each_other() {
        let chunks = 1 << 30;
        let mut map = ChunkMap::new(chunks);
        assert_eq!(map.levels.len(), 5, "words to look at, not the 16 Mi there are");
        map.set(0..1);
        map.set(chunks - 1..chunks);
        assert_eq!(map.next_set(1), Some(chunks - 1));
        assert!(!map.any(1..chunks - 1));
        assert_eq!(map.clear(1..chunks), 1);
        assert_eq!(map.next_set(1), None);
        assert_eq!(map.take_word(), Some((0, 1)));
        assert!(map.is_empty() && map.levels.iter().flatten().all(|word| *word == 0));
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
                prop_assert_eq!(map.first_clear(start..len), after(false));
            }
            prop_assert_eq!(map.count(), model.iter().filter(|b| **b).count() as u64);
            map.clear_all();
            prop_assert_eq!((map.count(), map.next_set(0)), (0, None));
        }
    }
}
