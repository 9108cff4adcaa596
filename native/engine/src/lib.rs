//! The engine of vmstorage: serves VM disks over vhost-user-blk and NBD, copies them while they run, mirrors writes
//! and switches a running VM to the copy. Builds and tests without Node.
//!
//! ```text
//!   exports (vhost-user-blk, NBD)  →  service  →  mirror (pure policy)     one reactor thread owns all of it
//!                                        ↓
//!                                      image  →  formats (where bytes live)
//!                                        ↓
//!                                     reactor (io_uring, or threads)  →  file
//! ```
//! Who may import whom is checked by `scripts/lint-layers.mjs`.

pub mod disk;
pub mod exports;
pub mod file;
pub mod formats;
pub mod image;
mod kill_point;
mod memory_guard;
pub mod mirror;
pub mod reactor;
pub mod service;
#[cfg(feature = "testing")]
pub mod testing;
mod thread_apart;
pub mod vital_thread;
pub mod worker;
