//! The control side of a worker: opens disks (journal first), exports them, starts, stops and recovers the move of its VM.
//!
//! Everything here blocks and runs on control threads; the data path is `service`'s.

mod boot_id;
mod ending;
mod examine;
mod figures;
mod hash;
mod holes;
mod lanes;
mod moving;
mod outcome;
mod plan;
mod receipt;
mod recover;
mod refused_calls;
mod scan;
mod serve;
mod status;
mod targets;

pub use examine::read_journal;
pub use hash::hash_image;
pub use refused_calls::refuse_dangerous_calls;
pub use serve::{ServeDisk, Worker};
pub use status::{JournalStatus, MoveStatus, WorkerStatus};
