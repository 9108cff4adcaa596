//! The reactor thread of one worker: owns the disks, their exports and the move, and gives each completion to its owner.
//!
//! ```text
//!   control threads ──closures──►  calls ┐
//!   exports ──requests──► disks ──ops──► images ──parts──► reactors    one thread, one loop: `Service::run`
//!                │            ▲
//!                └─► driver ──┘  (while a move runs: asks the pure state machine of `mirror`, executes its actions)
//! ```

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
mod transfer;
mod turn;
mod units;

pub use clock::now_us;
pub use disk::{DiskStats, GuestError};
pub use driver::Notice;
pub use engine::{DiskId, Engine, ExportId, ServiceGone};
pub use latency::{Histogram, LatencySummary};
pub use moves::{MemberDigest, MoveFigures, ScanTask, ServedFrom};
pub use turn::Service;
pub use units::{digest, hash_unit};
