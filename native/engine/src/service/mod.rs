//! The reactor thread of one worker: owns the disks, their exports and the move, and gives each completion to its owner.
//!
//! ```text
//!   control threads ──closures──►  calls ┐
//!   exports ──requests──► disks ──ops──► images ──parts──► reactors    one thread, one loop: `run.rs`
//!                │            ▲
//!                └─► driver ──┘  (while a move runs: asks the pure state machine of `mirror`, executes its actions)
//! ```

mod budget;
mod clock;
mod cx;
mod disk;
mod driver;
mod drivers;
mod engine;
mod governor;
mod images;
mod latency;
mod moves;
mod owner;
mod pages;
mod run;
mod transfer;
mod turn;
mod turn_length;
mod units;

pub use budget::OPERATIONS_MOST;
pub use clock::now_us;
pub use disk::{DiskStats, GuestError};
pub use driver::{HolesAsked, Notice};
pub use engine::{DiskId, Engine, ExportId, ServiceGone};
pub use latency::{Histogram, LatencySummary};
pub use moves::{MemberDigest, MoveFigures, Remains, ServedFrom};
pub use pages::{PagePair, SidePage};
pub use turn::Service;
pub use turn_length::TurnLength;
pub use units::{UnitHashes, hash_unit};
