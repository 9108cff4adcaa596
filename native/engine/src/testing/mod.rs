//! What tests, the crash loop and the demo need beside the product: a guest without a VM, the oracle that judges what it
//! wrote, and a service for one export. Never on the path of a user's disk.

pub mod block;
pub mod guest;
pub mod judge;
pub mod latency;
pub mod oracle;
pub mod random;
pub mod single_disk;
