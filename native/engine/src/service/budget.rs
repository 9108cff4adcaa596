//! What one turn of the reactor may do before the rings, the calls, the clock and the kernel get theirs.
//!
//! ```text
//!   completions of the kernel │ calls of other threads │ requests, completions and answers of guests │ steps of moves
//!            256              │           16           │             256, 32 MiB                     │   32, 8 MiB
//! ```
//! Each kind has a part of its own, so that none starves another; within a turn guests come before moves. What is left over
//! stays in its queue, and the next turn does not sleep. Why these numbers: docs/design/0005-a-turn.md.

/// A completion costs a table look-up and at most a copy out of a bounce buffer.
const COMPLETIONS: u32 = 256;
/// A call does what it wants; none of ours takes longer than a page of a map (see `pages.rs`).
const CALLS: u32 = 16;
/// A full ring of one disk, or a few of several: requests, their completions and their answers count alike.
const GUEST_STEPS: u32 = 256;
const GUEST_BYTES: u64 = 32 << 20;
/// A step of a move is one read, write or comparison of up to 1 MiB that has finished, and what follows it.
const MOVE_STEPS: u32 = 32;
/// Bytes a turn begins with, compares, hashes, or looks through for zeros: some 0.3 ms for each MiB.
const MOVE_BYTES: u64 = 8 << 20;

/// No turn takes more operations than this, whatever arrives and whatever finishes at once. (Events that a step left behind for the machine
/// are counted on top: at most one for each request in flight, when a move answers a whole queue at once.)
pub const OPERATIONS_MOST: u32 = COMPLETIONS + CALLS + GUEST_STEPS + MOVE_STEPS;

/// Whose part of a turn something takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Completion,
    Call,
    Guest,
    Move,
}

/// What this turn has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    used: [u32; 4],
    guest_bytes: u64,
    move_bytes: u64,
    deferred: u32,
}

impl Budget {
    /// Takes one operation out of its part; false when the part is used up.
    pub fn take(&mut self, part: Part) -> bool {
        let (most, bytes_left) = match part {
            Part::Completion => (COMPLETIONS, true),
            Part::Call => (CALLS, true),
            Part::Guest => (GUEST_STEPS, self.guest_bytes < GUEST_BYTES),
            Part::Move => (MOVE_STEPS, self.move_bytes < MOVE_BYTES),
        };
        let used = &mut self.used[part as usize];
        let room = *used < most && bytes_left;
        *used += u32::from(room);
        room
    }

    /// Bytes of a guest's request that this thread may have to copy or to fill. One request may overdraw: it is begun whole.
    pub fn guest_bytes(&mut self, bytes: u64) {
        self.guest_bytes = self.guest_bytes.saturating_add(bytes);
    }

    /// Bytes this thread looks at for a move.
    pub fn move_bytes(&mut self, bytes: u64) {
        self.move_bytes += bytes;
    }

    /// An event of the second half of an operation that was begun: not refused, only counted.
    pub fn deferred(&mut self) {
        self.deferred += 1;
    }

    /// Of all kinds, in this turn.
    pub fn operations(&self) -> u32 {
        self.used.iter().sum::<u32>() + self.deferred
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_used_up_takes_nothing_from_another() {
        let mut budget = Budget::default();
        let taken = std::iter::repeat_with(|| budget.take(Part::Guest)).take_while(|taken| *taken).count();
        assert_eq!(taken, GUEST_STEPS as usize);
        assert!(budget.take(Part::Move) && budget.take(Part::Completion) && budget.take(Part::Call));
        assert!(!budget.take(Part::Guest));
        assert_eq!(budget.operations(), GUEST_STEPS + 3, "what was refused is not counted");
    }

    #[test]
    fn bytes_end_a_part_before_its_steps_do_and_a_large_request_is_begun_whole() {
        let mut budget = Budget::default();
        assert!(budget.take(Part::Guest));
        budget.guest_bytes(4 * GUEST_BYTES);
        assert!(!budget.take(Part::Guest));
        for _ in 0..MOVE_BYTES >> 20 {
            assert!(budget.take(Part::Move));
            budget.move_bytes(1 << 20);
        }
        assert!(!budget.take(Part::Move));
    }
}
