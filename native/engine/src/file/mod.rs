//! Host files: how an image file is opened, locked, measured, read at an offset and made durable.

mod allocate;
mod at;
mod attributes;
mod delete_gradually;
mod durable;
mod host_file;
mod lock;
mod users;

pub use allocate::allocate;
pub use at::{ReadAt, WriteAt};
pub use attributes::copy_attributes;
pub use delete_gradually::{SpaceReturn, delete_gradually};
pub use durable::{sync_folder_of, unlink_durably};
pub use host_file::{FileIdentity, HostFile, OpenMode, next_data, refuse_in_use};
pub use lock::LockWait;
