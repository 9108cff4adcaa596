//! The move of all disks of one VM: a pure state machine, and the journal that lets it survive the death of its
//! process.
//!
//! ```text
//!   driver ──Event──▶ Move::on ──Action──▶ driver          no I/O, no clock, no thread in here
//!                        │ stores
//!                        ▼
//!              SavedMap: dirty, intent; Revocation ── Marks, mapped memory      JournalWriter: phases, on a helper thread
//! ```

mod chunk_map;
mod copier;
mod deadlines;
mod dirtying;
mod disk_state;
mod ending;
mod holes;
#[cfg(feature = "fuzzing")]
pub mod hostile;
mod journal;
mod journal_layout;
mod journal_writer;
mod limits;
mod machine;
mod marks;
mod progress;
mod recorder;
mod requests;
mod revocation;
mod saved_map;
mod stage;
mod switch;
mod verifier;
mod vocabulary;
mod witness;
mod writes;

pub use chunk_map::{ChunkMap, word_count};
pub use disk_state::DiskSetup;
pub use journal::{Journal, JournalPlace};
pub use journal_layout::{JOURNAL_DISK_BYTES_MAX, JOURNAL_DISKS_MAX, JOURNAL_PLAN_MAX};
pub use journal_writer::JournalWriter;
pub use limits::MoveLimits;
pub use machine::Move;
pub use marks::MarksFound;
pub use progress::Progress;
pub use revocation::Revocation;
pub use saved_map::{SavedMap, SharedWords};
pub use vocabulary::*;

/// Chunks of a disk of `size_bytes`.
pub const fn chunk_count(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(CHUNK_BYTES)
}
