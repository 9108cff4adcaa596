//! Front ends: what a VMM or an NBD client connects to. They know requests and nothing of what lies behind a disk.

pub mod export;
pub mod nbd;
pub mod vhost_user_blk;

pub use export::{DiskFacts, Export, ExportCall, ExportCx, ExportDoor, ExportGone, call_export};
