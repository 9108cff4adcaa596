//! Every limit of a move, with its reason.

use super::vocabulary::CHUNK_BYTES;

/// Limits of a move. `Default` is what production uses; tests make them small.
#[derive(Clone, Copy, Debug)]
pub struct MoveLimits {
    /// Largest single copy. Beyond 1 MiB no disk here got faster, and a larger one is in the guest's way for longer.
    pub copy_unit_bytes: u64,
    /// Largest single copy while guest writes collide with copies.
    pub contended_unit_bytes: u64,
    /// Copies under way at once, over all disks. With 1 MiB units this is 24 MiB of buffers, which an idle guest lets us use.
    pub copies_max: u32,
    /// Comparisons under way at once, over all disks; each needs two buffers of one verify unit.
    pub verifies_max: u32,
    /// Locks held or asked for at once: each may hold guest writes for the length of one copy.
    pub locks_max: u32,
    /// Bytes the copier and the verifier may have in flight until `SetShare` says otherwise.
    pub share_bytes: u64,
    /// A target half older than this is given up: the guest is answered from the source.
    pub target_patience_us: u64,
    /// A lock held for longer than this is broken: the guest waits no longer for a copy than for anything else of the
    /// target.
    pub lock_patience_us: u64,
    /// Nothing came back from a target with I/O in flight for this long: the move fails.
    pub silence_limit_us: u64,
    /// Target errors that may be transient (EAGAIN, ENOMEM, ETIMEDOUT ...), per move. All others end it at once.
    pub target_retries_max: u32,
    /// Pause of the copier after such an error; doubles up to 128 times as long, so that the tries span more than a
    /// moment.
    pub target_retry_pause_us: u64,
    /// Net number of times a target may fall behind (one is forgiven per `forgive_after_us` without).
    pub fallbacks_max: u32,
    pub forgive_after_us: u64,
    /// First pause before mirroring again after a target fell behind; doubles up to 32 times as long.
    pub fallback_pause_us: u64,
    /// Persisted dirty and intent bits are cleared behind a target flush, which holds the copies up: what was copied since is copied again
    /// by a successor. At least this often while there are any ...
    pub settle_every_us: u64,
    /// ... and after so many copied bytes.
    pub settle_every_bytes: u64,
    /// Attempts to compare one unit under a lock before the move fails.
    pub verify_lock_tries_max: u8,
    /// First pause after a switch that did not come about; doubles up to 64 times as long.
    pub switch_pause_us: u64,
    /// How long a prepared switch waits for a moment without overlapping guest writes before it does without.
    pub overlap_patience_us: u64,
    /// A prepared switch that found no moment for so long goes back to mirroring.
    pub prepared_patience_us: u64,
    /// First pause before a record is tried again; doubles up to 16 times as long.
    pub record_pause_us: u64,
}

/// A chunk that was in the guest's way so often is copied under a lock the next time.
pub(super) const STRIKES_BEFORE_LOCK: u64 = 3;

/// A unit that was written during so many comparisons is compared under a lock the next time: the third.
pub(super) const COMPARES_BEFORE_LOCK: u8 = 2;

/// A lock may wait for the writes before it for so many times the patience: a full queue of writes to one block, one
/// after the other (each has to wait for the others anyway), must not keep a chunk from ever being copied.
pub(super) const LOCK_WAIT_FACTOR: u64 = 2;

/// Attempts to record that a move was cancelled before it is given up (then all bits are set: nothing stale can be
/// resumed).
pub(super) const CANCEL_RECORD_TRIES: u32 = 3;

/// Dirty chunks, and units, looked at per event and disk: most of them in use or waiting for a lock is no reason to look at them
/// all each time.
pub(super) const EXAMINED_MAX: u32 = 16;

/// Copies, and comparisons, started with one event. Each begins with a buffer and a system call, some 0.2 ms; the next event starts more, and
/// each that ends is one.
pub(super) const STARTED_AT_ONCE: u32 = 4;

/// Ticks further apart than this mean that the worker itself stood still. They are due every 25 ms.
pub(super) const LOST_TIME_US: u64 = 2_000_000;

/// A disk whose last comparison is older than this is read once more before the switch.
pub(super) const COMPARED_RECENTLY_US: u64 = 1_000_000;

/// After a collision the copier stays careful for so long.
pub(super) const CONTENDED_US: u64 = 100_000;

/// The copier's share never falls below one chunk, and grows back by one chunk per finished copy.
pub(super) const SHARE_STEP_BYTES: u64 = CHUNK_BYTES;

impl Default for MoveLimits {
    fn default() -> Self {
        Self {
            copy_unit_bytes: 1024 * 1024,
            contended_unit_bytes: 256 * 1024,
            copies_max: 24,
            verifies_max: 8,
            locks_max: 4,
            share_bytes: 16 * 1024 * 1024,
            target_patience_us: 250_000,
            lock_patience_us: 250_000,
            silence_limit_us: 30_000_000,
            target_retries_max: 16,
            target_retry_pause_us: 10_000,
            fallbacks_max: 32,
            forgive_after_us: 10_000_000,
            fallback_pause_us: 250_000,
            settle_every_us: 5_000_000,
            settle_every_bytes: 1024 * 1024 * 1024,
            verify_lock_tries_max: 8,
            switch_pause_us: 10_000,
            overlap_patience_us: 10_000,
            prepared_patience_us: 1_000_000,
            record_pause_us: 50_000,
        }
    }
}

impl MoveLimits {
    /// `Action::Copy` uses slots below this: the copies and the copies under a lock.
    pub const fn copy_slots(&self) -> u32 {
        self.copies_max + self.locks_max
    }

    /// `Action::Verify` uses slots below this.
    pub const fn verify_slots(&self) -> u32 {
        self.verifies_max + self.locks_max
    }
}
