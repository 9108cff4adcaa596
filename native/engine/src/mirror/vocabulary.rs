//! The words between a move and the code that drives it: [`Event`]s go in, [`Action`]s come out, nothing else passes.
//!
//! ```text
//!   exports, reactor, helper thread ──Event──▶  Move::on(event, now_us, &mut out)  ──Action──▶  driver (service): real I/O
//! ```
//! The machine does no I/O, has no clock and no thread. All ids are the driver's slab slots: small integers, dense,
//! reused.
//!
//! Contract of the driver:
//! * every action is carried out in the order given, and answered by exactly one `...Done` event where one exists;
//! * all events of a move come from one thread, `now_us` (microseconds of a monotonic clock) never goes back;
//! * [`Event::Tick`] comes at least every [`TICK_LIMIT_US`] while a move runs: every time limit is checked there;
//! * the payload of a write stays unchanged and alive, and its id taken, until [`Action::Retire`]. The guest is answered
//!   at [`Action::Acknowledge`], which may come earlier: a write both sides get must therefore be bounced once (or be in
//!   memory of our own);
//! * a write with FUA is a write, and then (at its `Acknowledge` with success) a [`Event::GuestFlush`]; the guest is
//!   answered after that;
//! * guest reads are no business of the machine: they go to the source until [`Action::SetReadSide`] says otherwise.

use crate::disk::{ByteRange, Errno};

/// Chunks are the grain of the bitmaps: 64 KiB, so that one TiB costs 2 MiB per bitmap and a lock holds little.
pub const CHUNK_BYTES: u64 = 64 * 1024;

/// The unit of verification, and of the receipt's hashes. Units are aligned; the last of a disk may be shorter.
pub const VERIFY_UNIT_BYTES: u64 = 1024 * 1024;

/// Longest range of an [`Event::Hole`]: what it changes is found in a few microseconds.
pub const HOLE_BYTES_MAX: u64 = 1 << 40;

/// The longest allowed distance of two `Tick`s. A tenth of the shortest limit checked there (250 ms).
pub const TICK_LIMIT_US: u64 = 25_000;

/// The driver's number of a disk of the move: the index into the list the move was made with.
pub type DiskIndex = u32;
/// The driver's slot of a guest write. Unique per disk until `Retire`.
pub type WriteId = u32;
/// The driver's slot of a guest flush. Unique per disk until `RetireFlush`; a space of its own beside `WriteId`.
pub type FlushId = u32;
/// The machine's slot of a copy or of a verification, below `MoveLimits::copies_max` / `verifies_max` over all disks:
/// the driver may index its buffers with it.
pub type SlotId = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Source,
    Target,
}

impl Side {
    /// In the order in which something goes to them.
    pub(super) const BOTH: [Side; 2] = [Side::Source, Side::Target];
}

/// What a write does. The machine treats both alike (a discard always reads as zeros afterwards); the driver knows the
/// difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    Data,
    /// Discard and write-zeroes.
    Zeroes,
}

/// Whose flush it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flush {
    Guest(FlushId),
    /// The machine's own, with its own number.
    Own(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyOutcome {
    /// The target now holds what the source held at some moment during the copy. `was_zero`: it was all zeros and
    /// nothing was transferred.
    Copied {
        was_zero: bool,
    },
    SourceError(Errno),
    TargetError(Errno),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyOutcome {
    Equal,
    Different,
    SourceError(Errno),
    TargetError(Errno),
}

/// How a verification knows what the target must hold. One way today; remembered hashes may become the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Read both sides and compare.
    ReadSource,
}

/// What became of a journal record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordResult {
    /// On stable storage.
    Durable,
    /// Certainly not in the journal: whoever opens it sees the record before.
    Failed,
    /// The write or the sync failed midway: whoever opens the journal may see either.
    Unknown,
}

/// The phase as the journal holds it. The numbers are on disk and never reused. Names as in `src/model/move.ts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum JournalPhase {
    /// The plan is durable. What is allocated is not known yet: a resumed move asks again.
    Started = 1,
    /// Everything that has to be copied is in the bitmaps.
    Copy = 2,
    Mirror = 3,
    Verify = 4,
    /// Both sides were equal and flushed. Still the source's: without `Committed` after it, the source is
    /// authoritative.
    Prepared = 5,
    /// The target is authoritative, the source is not written any more.
    Committed = 6,
    /// The sources are closed (the host deletes them now).
    Released = 7,
    Deleted = 8,
    /// The move was stopped or has failed: the source is authoritative, targets are to be deleted, nothing is resumed.
    Cancelled = 9,
}

impl JournalPhase {
    /// The number in the superblock.
    pub const fn number(self) -> u32 {
        self as u32
    }

    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Started,
            2 => Self::Copy,
            3 => Self::Mirror,
            4 => Self::Verify,
            5 => Self::Prepared,
            6 => Self::Committed,
            7 => Self::Released,
            8 => Self::Deleted,
            9 => Self::Cancelled,
            _ => return None,
        })
    }

    /// Which side holds the truth when a journal in this phase is found.
    pub const fn authority(self) -> Side {
        match self {
            Self::Committed | Self::Released | Self::Deleted => Side::Target,
            Self::Started | Self::Copy | Self::Mirror | Self::Verify | Self::Prepared | Self::Cancelled => Side::Source,
        }
    }
}

/// The phase as it is shown to people (`movePhases` of `src/model/move.ts`, the engine's part of them).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Guest writes go to the source only.
    Copy,
    /// Guest writes to clean chunks go to both sides.
    Mirror,
    Verify,
    /// Equal and verified; the switch begins as soon as nothing stands in its way.
    Synchronized,
    /// From the flushes before PREPARED until COMMITTED is durable. Reads are the source's.
    Switch,
    /// COMMITTED is durable: the target serves, what was in flight to the source drains.
    Release,
    /// Stopped or failed: the source serves, what was in flight to the target drains.
    Ending,
}

/// Why a move ends on the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// By an explicit stop.
    Stopped,
    /// The target refused a write, a read-back or was out of retries: its errno (ENOSPC, EIO ...).
    TargetFailed { disk: DiskIndex, errno: Errno },
    /// A flush of the target failed: what it acknowledged before is not to be trusted.
    TargetFlushFailed { disk: DiskIndex, errno: Errno },
    /// Nothing came back from the target for so many microseconds while something was in flight to it.
    TargetSilent { disk: DiskIndex, silent_us: u64 },
    /// The target fell behind again and again.
    TargetTooSlow { fallbacks: u32 },
    /// The source could not be read for a copy or a comparison.
    SourceFailed { disk: DiskIndex, errno: Errno },
    /// A flush of the source, asked for by the switch, failed.
    SourceFlushFailed { disk: DiskIndex, errno: Errno },
    /// The unit at `offset` differed, was copied again, and differed again.
    VerificationFailed { disk: DiskIndex, offset: u64 },
    /// The unit at `offset` could not be compared: every attempt took longer than a guest may be held.
    VerificationTooSlow { disk: DiskIndex, offset: u64 },
    /// A record of the journal could not be written.
    JournalFailed { phase: JournalPhase },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target is authoritative, nothing is in flight to the source: it may be closed.
    Committed,
    /// The source is authoritative, nothing is in flight to the target: it may be closed and deleted.
    Ended(EndReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A write, discard or write-zeroes of the guest arrived; nothing has been submitted. `range` is inside the disk
    /// and not empty.
    GuestWrite {
        disk: DiskIndex,
        id: WriteId,
        range: ByteRange,
        kind: WriteKind,
    },
    SourceWriteDone {
        disk: DiskIndex,
        id: WriteId,
        result: Result<(), Errno>,
    },
    TargetWriteDone {
        disk: DiskIndex,
        id: WriteId,
        result: Result<(), Errno>,
    },
    GuestFlush {
        disk: DiskIndex,
        id: FlushId,
    },
    SourceFlushDone {
        disk: DiskIndex,
        flush: Flush,
        result: Result<(), Errno>,
    },
    TargetFlushDone {
        disk: DiskIndex,
        flush: Flush,
        result: Result<(), Errno>,
    },
    /// The source holds data here (a hole is never copied: a fresh target reads as zeros).
    MarkAllocated {
        disk: DiskIndex,
        range: ByteRange,
    },
    /// `MarkAllocated` has been given for all of the disk.
    AllocationKnown {
        disk: DiskIndex,
    },
    CopyDone {
        disk: DiskIndex,
        slot: SlotId,
        outcome: CopyOutcome,
    },
    VerifyDone {
        disk: DiskIndex,
        slot: SlotId,
        outcome: VerifyOutcome,
    },
    /// By their own maps both sides read as zeros in `range`, as they were looked at since `FindHoles`. At most [`HOLE_BYTES_MAX`] long.
    Hole {
        disk: DiskIndex,
        range: ByteRange,
    },
    /// `Hole` has been given for all there are from the place that `FindHoles` named to `until` (bytes). The answer to `FindHoles`.
    HolesKnown {
        disk: DiskIndex,
        until: u64,
    },
    RecordDone {
        phase: JournalPhase,
        result: RecordResult,
    },
    /// How many bytes the copier may have in flight over all disks (the governor's word).
    SetShare {
        bytes: u64,
    },
    /// An explicit stop. Answered by `Ending` or by `StopTooLate`, perhaps later.
    Stop,
    Tick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Submit the write to the source, straight from the guest's memory.
    WriteSource {
        disk: DiskIndex,
        id: WriteId,
    },
    /// Submit the write to the target only (after COMMITTED).
    WriteTarget {
        disk: DiskIndex,
        id: WriteId,
    },
    /// Bounce the data once, then submit it to both sides in parallel. Answered by one `SourceWriteDone` and one
    /// `TargetWriteDone`.
    WriteBoth {
        disk: DiskIndex,
        id: WriteId,
    },
    /// Answer the guest.
    Acknowledge {
        disk: DiskIndex,
        id: WriteId,
        result: Result<(), Errno>,
    },
    /// The write just given was not taken, a mistake of the driver: answer it with `errno`. No `Acknowledge` and no `Retire` follow. If its
    /// id is that of an earlier write, that one goes on.
    Refuse {
        disk: DiskIndex,
        id: WriteId,
        errno: Errno,
    },
    /// Nothing refers to the write any more: its id and buffers are free. After its `Acknowledge`, once.
    Retire {
        disk: DiskIndex,
        id: WriteId,
    },
    FlushSource {
        disk: DiskIndex,
        flush: Flush,
    },
    FlushTarget {
        disk: DiskIndex,
        flush: Flush,
    },
    AcknowledgeFlush {
        disk: DiskIndex,
        id: FlushId,
        result: Result<(), Errno>,
    },
    /// As `Retire`, for a guest's flush.
    RetireFlush {
        disk: DiskIndex,
        id: FlushId,
    },
    /// Read `range` from the source, then write it to the target, or make the target read as zeros there. With
    /// `target_fresh` the target still reads as zeros in all of `range`: zeros need no write at all.
    Copy {
        disk: DiskIndex,
        slot: SlotId,
        range: ByteRange,
        target_fresh: bool,
    },
    /// Compare both sides in `range` (one verify unit), bypassing caches of the target.
    Verify {
        disk: DiskIndex,
        slot: SlotId,
        range: ByteRange,
        expect: Expect,
    },
    /// Find out, from the maps of both images and files, where both sides read as zeros: from the byte `from` on, as far as is convenient
    /// but past `from`. Where it cannot be told nothing is a hole. One at a time for a disk.
    FindHoles {
        disk: DiskIndex,
        from: u64,
    },
    /// From now on the guest reads from `side`. Only ever the target, once COMMITTED is durable, for all disks in one call.
    SetReadSide {
        disk: DiskIndex,
        side: Side,
    },
    /// Make the record durable, in the order given; at most one is under way.
    Record {
        phase: JournalPhase,
    },
    /// `bound_bytes`: with `Mirror`, the most bytes the copier will still move before both sides are equal, provided
    /// the target keeps answering; `None` with the other phases. A phase may come again (a target that stopped
    /// answering leads back to `Copy`).
    PhaseChanged {
        phase: Phase,
        bound_bytes: Option<u64>,
    },
    /// A write to the target was older than the limit: the guest has been (or will be) answered from the source alone,
    /// the move is back in `Copy`.
    TargetFellBehind {
        disk: DiskIndex,
        id: WriteId,
    },
    /// The move ends on the source. No new I/O to the target from here on; report it. `Finished` follows when the
    /// target is quiet.
    Ending {
        reason: EndReason,
    },
    /// A stop came after COMMITTED: the move goes on.
    StopTooLate,
    /// The losing side is quiet. Writes still in flight to the other side go on being answered through the machine
    /// until `Move::is_idle`; new ones may bypass it.
    Finished {
        outcome: Outcome,
    },
}
