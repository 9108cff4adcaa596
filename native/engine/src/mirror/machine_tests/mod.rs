//! The rules of a move, one claim per test, one file per stage or trouble. Whole moves under random faults are in
//! `tests/mirror_simulation`.

mod bench;

mod adopting;
mod committing;
mod copying;
mod ending;
mod holes;
mod mirroring;
mod resuming;
mod switching;
mod target_trouble;
mod verifying;
