//! What a journal says, for whoever has to compare it with other records before anything is served.

use std::time::Duration;

use super::recover::Rolled;
use super::serve::{find_journal, refuse_missing};
use super::status::JournalStatus;
use crate::disk::DiskError;
use crate::mirror::JournalPlace;

/// `None`: there is none, and none is missing. A COMMITTED that was revoked is replaced before, as `serve` does. `wait`: for a
/// predecessor that is dying.
pub fn read_journal(place: &JournalPlace, wait: Duration) -> Result<Option<JournalStatus>, DiskError> {
    match find_journal(place, wait)? {
        Some((journal, mut writer)) => Rolled::read(&journal, &mut writer, place).map(|rolled| Some(rolled.status())),
        None => refuse_missing(place).map(|()| None),
    }
}
