//! Module list of the addon, nothing else. Behaviour lives in the engine.

mod engine;
mod error;
mod guest;
mod image;
