//! The guest writes of one disk that are not over, and who waits for whom.
//!
//! From `Mirror` on a write waits for every earlier one it overlaps, in order of arrival, so that both sides see
//! overlapping writes in the same order. A lock of the copier or verifier is an entry like a write: it waits for the
//! writes before it, and writes behind it wait for it. That makes locks fair and free of a second mechanism.
//!
//! Entries are few (a queue depth), so every question is a scan of one dense array: no tree, no allocation after
//! warm-up.

use super::stage::{Half, Halves};
use super::vocabulary::{CHUNK_BYTES, WriteId};
use crate::disk::ByteRange;

/// Number of a lock in the move's table.
pub(super) type LockIndex = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Guest(WriteId),
    Lock(LockIndex),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub owner: Owner,
    pub range: ByteRange,
    /// Order of arrival on this disk.
    sequence: u64,
    /// Earlier, overlapping, incomplete entries. Meaningful while `waiting`.
    pub blockers: u32,
    pub waiting: bool,
    /// Entries behind it have been let go.
    pub complete: bool,
    pub acknowledged: bool,
    pub halves: Halves,
    pub submitted_us: u64,
    /// When the guest would have had its answer without the switch.
    pub due_us: Option<u64>,
}

impl Entry {
    /// Submitted and not over: the copier keeps away from its chunks.
    fn in_flight(&self) -> bool {
        !self.waiting
    }

    pub(super) fn is_source_only(&self) -> bool {
        self.halves.source == Half::Open && self.halves.target == Half::Absent
    }
}

/// The chunks a range touches.
pub(super) fn chunks_of(range: ByteRange) -> std::ops::Range<u64> {
    range.start / CHUNK_BYTES..range.end().div_ceil(CHUNK_BYTES)
}

const NOWHERE: u32 = u32::MAX;

#[derive(Default)]
pub(super) struct WriteTable {
    entries: Vec<Entry>,
    /// Place in `entries` by guest id; grows to the largest id ever used.
    place: Vec<u32>,
    sequence: u64,
    waiting: u32,
}

impl WriteTable {
    pub(super) fn with_room(requests: usize) -> Self {
        Self { entries: Vec::with_capacity(requests), place: vec![NOWHERE; requests], sequence: 0, waiting: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn at(&self, place: usize) -> &Entry {
        &self.entries[place]
    }

    pub(super) fn at_mut(&mut self, place: usize) -> &mut Entry {
        &mut self.entries[place]
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// Entries that wait for others, guest writes and locks.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting
    }

    pub(super) fn find(&self, owner: Owner) -> Option<usize> {
        match owner {
            Owner::Guest(id) => {
                self.place.get(id as usize).filter(|place| **place != NOWHERE).map(|place| *place as usize)
            }
            // At most a handful of locks, and only while there is contention.
            Owner::Lock(_) => self.entries.iter().position(|entry| entry.owner == owner),
        }
    }

    /// Adds an entry behind all others. With `serialise` it waits if an earlier, incomplete one overlaps it; answers
    /// whether it does. An id that is still taken is the driver's mistake: `None`, and nothing changes.
    pub(super) fn add(&mut self, owner: Owner, range: ByteRange, serialise: bool) -> Option<bool> {
        if let Owner::Guest(id) = owner {
            let id = id as usize;
            if id >= self.place.len() {
                self.place.resize(id + 1, NOWHERE);
            }
            if self.place[id] != NOWHERE {
                return None;
            }
            self.place[id] = self.entries.len() as u32;
        }
        let blockers = if serialise {
            self.entries.iter().filter(|entry| !entry.complete && entry.range.overlaps(&range)).count() as u32
        } else {
            0
        };
        self.sequence += 1;
        let waiting = blockers > 0;
        self.waiting += u32::from(waiting);
        self.entries.push(Entry {
            owner,
            range,
            sequence: self.sequence,
            blockers,
            waiting,
            complete: false,
            acknowledged: false,
            halves: Halves::UNSUBMITTED,
            submitted_us: 0,
            due_us: None,
        });
        Some(waiting)
    }

    /// Marks an entry complete and appends to `ready` those that waited for nothing else. They count as waiting until
    /// [`Self::start`].
    pub(super) fn complete(&mut self, place: usize, ready: &mut Vec<(u64, Owner)>) {
        let done = self.entries[place];
        self.entries[place].complete = true;
        if done.waiting {
            self.entries[place].waiting = false;
            self.waiting -= 1;
        }
        if self.waiting == 0 {
            return;
        }
        for entry in &mut self.entries {
            if entry.waiting && entry.sequence > done.sequence && entry.range.overlaps(&done.range) {
                entry.blockers -= 1;
                if entry.blockers == 0 {
                    ready.push((entry.sequence, entry.owner));
                }
            }
        }
    }

    /// The entry waits no longer.
    pub(super) fn start(&mut self, place: usize) {
        let entry = &mut self.entries[place];
        if entry.waiting {
            entry.waiting = false;
            self.waiting -= 1;
        }
    }

    pub(super) fn remove(&mut self, place: usize) {
        let gone = self.entries.swap_remove(place);
        self.waiting -= u32::from(gone.waiting);
        if let Owner::Guest(id) = gone.owner {
            self.place[id as usize] = NOWHERE;
        }
        if let Some(Entry { owner: Owner::Guest(id), .. }) = self.entries.get(place) {
            self.place[*id as usize] = place as u32;
        }
    }

    /// Writes (and locks) in flight that touch a chunk of `chunks`: their own chunks.
    pub(super) fn in_flight_in(&self, chunks: std::ops::Range<u64>) -> impl Iterator<Item = std::ops::Range<u64>> + '_ {
        let range = ByteRange::new(chunks.start * CHUNK_BYTES, (chunks.end - chunks.start) * CHUNK_BYTES);
        self.entries
            .iter()
            .filter(move |entry| entry.in_flight() && entry.range.overlaps(&range))
            .map(|entry| chunks_of(entry.range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, len: u64) -> ByteRange {
        ByteRange::new(start, len)
    }

    fn done(table: &mut WriteTable, id: WriteId) -> Vec<WriteId> {
        let mut ready = Vec::new();
        let place = table.find(Owner::Guest(id)).expect("known");
        table.complete(place, &mut ready);
        table.remove(table.find(Owner::Guest(id)).expect("known"));
        ready.sort_unstable_by_key(|(sequence, _)| *sequence);
        let ids: Vec<WriteId> = ready
            .iter()
            .map(|(_, owner)| match owner {
                Owner::Guest(id) => *id,
                Owner::Lock(_) => panic!("no locks here"),
            })
            .collect();
        for id in &ids {
            let place = table.find(Owner::Guest(*id)).expect("known");
            table.start(place);
        }
        ids
    }

    #[test]
    fn overlapping_writes_go_one_after_the_other_in_order_of_arrival() {
        let mut table = WriteTable::with_room(4);
        assert_eq!(table.add(Owner::Guest(0), range(0, 8), true), Some(false));
        assert_eq!(table.add(Owner::Guest(1), range(4, 8), true), Some(true));
        assert_eq!(table.add(Owner::Guest(2), range(8, 8), true), Some(true), "behind the waiting one, not beside it");
        assert_eq!(table.add(Owner::Guest(3), range(100, 8), true), Some(false), "no overlap, no wait");
        assert_eq!(table.waiting(), 2);
        assert_eq!(done(&mut table, 0), vec![1]);
        assert_eq!(done(&mut table, 1), vec![2]);
        assert_eq!(done(&mut table, 3), Vec::<u32>::new());
        assert_eq!((table.waiting(), table.len()), (0, 1));
    }

    #[test]
    fn an_id_that_is_taken_is_refused() {
        let mut table = WriteTable::with_room(0);
        assert_eq!(table.add(Owner::Guest(7), range(0, 8), false), Some(false));
        assert_eq!(table.add(Owner::Guest(7), range(0, 8), false), None);
        assert_eq!(table.len(), 1);
    }
}
