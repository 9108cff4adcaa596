//! The fixed sequences of metadata I/O, one step after the other. Where a flush stands is what makes the file survive a crash
//! after any step; the comments say what each flush is for.

/// One step. `Apply` is as many writes as there are changed runs of BAT pages, none if nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// New FileWriteGuid, new DataWriteGuid, no log.
    FreshHeader,
    /// The log named.
    DirtyHeader,
    /// No log.
    CleanHeader,
    /// New DataWriteGuid, the log as it is.
    RenewedHeader,
    /// The entry that says: nothing before it needs replay.
    Anchor,
    /// Changed pages of the BAT, in place.
    Apply,
    Flush,
}

impl Step {
    pub const fn describe(self) -> &'static str {
        match self {
            Step::FreshHeader | Step::DirtyHeader | Step::CleanHeader | Step::RenewedHeader => "update the header",
            Step::Anchor => "write the log",
            Step::Apply => "write the block allocation table",
            Step::Flush => "flush the file",
        }
    }
}

/// Before the first write of a session.
pub const OPEN: &[Step] = &[
    Step::FreshHeader,
    // The file counts as changed before anything in it changes (2.2.2.1).
    Step::Flush,
    Step::Anchor,
    // A header must never name a log without a valid entry: that file would be corrupt.
    Step::Flush,
    Step::DirtyHeader,
    // No entry is written before the header that makes it count; no guest data before its DataWriteGuid.
    Step::Flush,
    // The other header too: if this one rots, the older one must still lead to the log.
    Step::DirtyHeader,
    Step::Flush,
];

/// Before the first change of a content that had kept its DataWriteGuid.
pub const RENEW: &[Step] = &[
    Step::RenewedHeader,
    // No guest data before its DataWriteGuid.
    Step::Flush,
    // The other header too (2.2.2.1): either alone tells the truth.
    Step::RenewedHeader,
    Step::Flush,
];

/// When the log is full.
pub const CHECKPOINT: &[Step] = &[
    // The BAT in place may say only what the log says durably.
    Step::Flush,
    Step::Apply,
    // The entries are given up below.
    Step::Flush,
    Step::Anchor,
    // The anchor has to be there before the first entry is overwritten.
    Step::Flush,
];

/// At the end of a session.
pub const CLOSE: &[Step] = &[
    Step::Flush,
    Step::Apply,
    // The header stops naming the log below.
    Step::Flush,
    Step::CleanHeader,
    Step::Flush,
    // The other header too: the older one would name a log whose entries a later session overwrites.
    Step::CleanHeader,
    Step::Flush,
];
