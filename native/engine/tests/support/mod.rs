//! What several test files need.
#![allow(dead_code)] // each test binary uses its part

pub mod export;
pub mod faulty_reactor;
pub mod journal;
#[cfg(feature = "testing")]
pub mod vm;
