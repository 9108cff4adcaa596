//! Host files: how an image file is opened, locked, measured, read at an offset and made durable.

mod allocate;
mod at;
mod attributes;
mod delete_gradually;
mod durable;
mod entry_facts;
mod held_folder;
mod host_file;
mod lock;
mod place;
mod trust;
mod users;
mod walk;

pub use allocate::allocate;
pub use at::{ReadAt, WriteAt};
pub use attributes::copy_attributes;
pub use delete_gradually::{SpaceReturn, delete_gradually};
pub use durable::{sync_folder_of, unlink_durably};
pub use entry_facts::{EntryFacts, EntryKind, facts_of_file};
pub use held_folder::{HeldFolder, Removed, Replace};
pub use host_file::{FileIdentity, HostFile, OpenMode, next_data, refuse_in_use};
pub use lock::LockWait;
pub use place::Place;
pub use rustix::fs::OFlags as OpenFlags;
pub use trust::Trust;
