//! What an image's bytes lie on, as far as it can hang: one file system does not wait for another.

use std::fmt;

/// The device number of a file system (`st_dev`), or of a block device that is an image itself (`st_rdev`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileSystemId(pub u64);

/// `major:minor`, as /proc/self/mountinfo and lsblk(8) have it.
impl fmt::Display for FileSystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", libc::major(self.0), libc::minor(self.0))
    }
}
