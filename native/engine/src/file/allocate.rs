//! Space for a range of a file, so that a later write to it cannot fail for want of room.
//!
//! fallocate(2) where the file system has it. ext3, NFS before 4.2 and many FUSE file systems refuse it: there the range is written with
//! zeros, which allocates just as well and takes as long as writing a disk does.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// The most that one write of zeros carries.
const ZERO_CHUNK_BYTES: u64 = 1 << 20;
/// Zeros on their way to the device at a time: terabytes of dirty pages would hold up every other writer of this machine.
const DIRTY_BYTES_MAX: u64 = 64 << 20;

/// Allocates `len` bytes from `offset` on; what the range held before is kept by fallocate(2) and lost where zeros are written, so it has
/// to be new. The file grows to the end of the range if it was shorter. Blocking: not for the reactor thread.
pub fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    allocate_with(file, offset, len, |file, offset, len| {
        rustix::fs::fallocate(file, FallocateFlags::empty(), offset, len)
    })
}

fn allocate_with(
    file: &File,
    offset: u64,
    len: u64,
    fallocate: impl FnOnce(&File, u64, u64) -> Result<(), Errno>,
) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    match fallocate(file, offset, len) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(file, offset, len),
        Err(error) => Err(error.into()),
    }
}

/// Writes zeros over a range.
pub fn write_zeros(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let zeros = vec![0; len.min(ZERO_CHUNK_BYTES) as usize];
    let (mut at, end, mut dirty) = (offset, offset + len, 0);
    while at < end {
        let step = (end - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..step as usize], at)?;
        at += step;
        dirty += step;
        if dirty >= DIRTY_BYTES_MAX {
            file.sync_data()?;
            dirty = 0;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn where_fallocate_is_refused_zeros_are_written() {
        for refusal in [Errno::OPNOTSUPP, Errno::NOSYS] {
            let file = tempfile::tempfile().unwrap();
            let len = (2 << 20) + 512;
            allocate_with(&file, 512, len, |_, _, _| Err(refusal)).unwrap();
            file.sync_all().unwrap();
            let found = file.metadata().unwrap();
            assert_eq!(found.len(), 512 + len);
            assert!(found.blocks() * 512 >= len, "{} bytes are allocated", found.blocks() * 512);
        }
    }

    #[test]
    fn any_other_refusal_is_passed_on() {
        let file = tempfile::tempfile().unwrap();
        let error = allocate_with(&file, 0, 512, |_, _, _| Err(Errno::NOSPC)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(file.metadata().unwrap().len(), 0);
    }
}
