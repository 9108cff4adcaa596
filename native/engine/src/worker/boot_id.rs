//! Which boot of this machine it is: a journal of another boot has seen a power cut (or a restart, which is the same to it).

use crate::disk::DiskError;

const PATH: &str = "/proc/sys/kernel/random/boot_id";

pub fn boot_id() -> Result<[u8; 16], DiskError> {
    let text = std::fs::read_to_string(PATH).map_err(|e| DiskError::io("read", PATH.as_ref(), e))?;
    uuid::Uuid::parse_str(text.trim())
        .map(uuid::Uuid::into_bytes)
        .map_err(|_| DiskError::new(crate::disk::ErrorKind::Io, format!("'{PATH}' does not hold a boot id")))
}
