//! The move of all disks of one VM: a pure state machine, and the journal that lets it survive the death of its process.

mod vocabulary;

pub use vocabulary::*;
