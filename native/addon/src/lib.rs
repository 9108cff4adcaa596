//! Module list of the addon, nothing else. Behaviour lives in the engine.
