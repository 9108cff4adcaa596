//! What several test files need.
#![allow(dead_code)] // each test binary uses its part

pub mod export;
