//! Module list of the addon, nothing else. Behaviour lives in the engine.

// What napi exports is called by Node alone: a test build sees dead code.
#![cfg_attr(test, allow(dead_code))]

mod engine;
mod error;
mod folder;
mod guest;
mod image;
mod peer;
mod process;
