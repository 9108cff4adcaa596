//! The receipt of a move: what was verified, and which files it was verified on. Fields as in src/model/move.ts.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::disk::DiskError;
use crate::file::{FileIdentity, sync_folder_of, unlink_durably};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptFile {
    pub path: PathBuf,
    pub device: String,
    pub inode: String,
}

impl ReceiptFile {
    pub fn new(path: &Path, identity: FileIdentity) -> Self {
        Self { path: path.to_owned(), device: identity.device.to_string(), inode: identity.inode.to_string() }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskReceipt {
    pub disk: u32,
    pub bytes: String,
    pub hash: String,
    pub units_written_since: u64,
    pub source: ReceiptFile,
    pub target: ReceiptFile,
    pub generation: u32,
    pub verified_at: String,
    pub switched_at: String,
}

/// Written beside the journal before PREPARED and again after COMMITTED, so that a worker that dies in between loses nothing.
pub fn receipt_path(journal: &Path) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(".receipt");
    PathBuf::from(name)
}

fn temporary_path(journal: &Path) -> PathBuf {
    let mut name = receipt_path(journal).into_os_string();
    name.push(".new");
    PathBuf::from(name)
}

/// What is left beside a journal that is gone: after the end of its move, or by a worker that was killed in that end.
pub fn remove(journal: &Path) -> Result<(), DiskError> {
    [temporary_path(journal), receipt_path(journal)]
        .iter()
        .filter(|path| path.symlink_metadata().is_ok())
        .try_for_each(|path| unlink_durably(path))
}

pub fn save(journal: &Path, receipts: &[DiskReceipt]) -> Result<(), DiskError> {
    let path = receipt_path(journal);
    let temporary = temporary_path(journal);
    let json = serde_json::to_vec(receipts).map_err(|e| DiskError::io("encode", &path, e.into()))?;
    std::fs::write(&temporary, json).map_err(|e| DiskError::io("write", &temporary, e))?;
    std::fs::File::open(&temporary).and_then(|f| f.sync_all()).map_err(|e| DiskError::io("sync", &temporary, e))?;
    std::fs::rename(&temporary, &path).map_err(|e| DiskError::io("rename", &temporary, e))?;
    sync_folder_of(&path)
}

/// `None` when there is none or it cannot be read: a receipt proves, it does not decide.
pub fn load(journal: &Path) -> Option<Vec<DiskReceipt>> {
    serde_json::from_slice(&std::fs::read(receipt_path(journal)).ok()?).ok()
}

/// ISO 8601, UTC, milliseconds.
pub fn iso_time(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = ((since.as_secs() / 86_400) as i64, since.as_secs() % 86_400);
    // Civil from days (Howard Hinnant's public-domain algorithm), for dates after 1970.
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z - era * 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z", since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::iso_time;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_time_is_written_as_iso_8601() {
        assert_eq!(iso_time(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso_time(UNIX_EPOCH + Duration::from_millis(1_709_210_096_123)), "2024-02-29T12:34:56.123Z");
    }
}
