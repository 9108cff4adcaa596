//! VHDX, fixed and dynamic: [MS-VHDX]. Differencing disks are refused by name.
//!
//! ```text
//!   open, inspect ── header ── log, replay, overlay ── region ── metadata ── bat      read and judged, then
//!   map (ImageMap) ── allocation, lap, script                                        served
//!   create                                                                            made
//! ```
//! `layout` is the only file that knows bytes; `error` lists every rule a file can be refused for.

mod allocation;
mod bat;
mod create;
mod error;
mod extents;
mod header;
#[cfg(feature = "fuzzing")]
pub mod hostile;
mod lap;
mod layout;
mod log;
mod map;
mod metadata;
mod open;
mod overlay;
mod region;
mod replay;
mod script;

pub use create::{CreateOptions, DEFAULT_BLOCK_BYTES, create};
pub use error::{Refusal, VhdxError};
pub use map::VhdxMap;
pub use metadata::CarriedItem;
pub use open::{VhdxFacts, VhdxIdentity, VhdxImage, VhdxKind, inspect, open};
pub use overlay::{Overlay, Patch};
