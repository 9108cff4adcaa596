//! Positioned I/O on the control path: opening, creating and replaying images. The data path never comes through here; it
//! is the reactor's.
//!
//! Traits, so that parsers are tested on bytes in memory and recovery on a file that crashes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::FallocateFlags;

use super::allocate::write_zeros;

/// Reads at an offset. `std::fs::File` implements it; the descriptor must not be O_DIRECT (buffers here are not aligned),
/// set the flag by fcntl(2) afterwards.
pub trait ReadAt {
    /// Fills `buf` or fails; a file that ends before is `UnexpectedEof`.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Writes at an offset. What is written is durable only after [`WriteAt::sync`].
pub trait WriteAt: ReadAt {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes a range read as zeros. It lies inside the file.
    fn zero_at(&self, offset: u64, len: u64) -> io::Result<()>;

    fn set_len(&self, len: u64) -> io::Result<()>;

    /// fdatasync(2): contents and length.
    fn sync(&self) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl WriteAt for File {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, buf, offset)
    }

    fn zero_at(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(self, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => write_zeros(self, offset, len),
            Err(error) => Err(error.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
