//! Opens an image of a file system that may hang: by a thread with a descriptor table of its own, which hands the open file over.
//!
//! ```text
//!   caller          waits, and a kill ends the wait ◄── descriptor (SCM_RIGHTS) ──┐
//!   thread apart    open, lock, read the tables, and perhaps write them ──────────┘
//! ```

use std::io::{IoSlice, IoSliceMut};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use super::executor::Image;
use super::open::{OpenImage, open_image};
use crate::disk::DiskError;
use crate::thread_apart::apart;

/// As [`open_image`].
pub fn open_image_apart(request: &OpenImage<'_>) -> Result<Image, DiskError> {
    let failed = |e: std::io::Error| DiskError::io("open", request.path, e);
    let (here, there) = UnixStream::pair().map_err(failed)?;
    let there = there.as_raw_fd();
    let opened = apart("opening", &[there], |is_apart| -> Result<_, DiskError> {
        let image = open_image(request)?;
        if is_apart {
            // SAFETY: the caller has it open for as long as it waits for this thread, and so has this thread's table.
            send(unsafe { BorrowedFd::borrow_raw(there) }, &image).map_err(failed)?;
        }
        // From here on its descriptor is one of the other table: it must not be closed by its number.
        Ok((is_apart, ManuallyDrop::new(image)))
    });
    let (is_apart, image) = opened.map_err(failed)??;
    if is_apart {
        let descriptor = receive(&here).map_err(failed)?;
        let mut image = ManuallyDrop::into_inner(image);
        image.adopt(descriptor);
        return Ok(image);
    }
    Ok(ManuallyDrop::into_inner(image))
}

fn send(socket: BorrowedFd<'_>, image: &Image) -> std::io::Result<()> {
    // SAFETY: the image keeps it open for the length of the call.
    let descriptors = [unsafe { BorrowedFd::borrow_raw(image.file().fd()) }];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

fn receive(socket: &UnixStream) -> std::io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    // It was sent before the thread ended: there is nothing to wait for.
    recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut ancillary, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)?;
    let received = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    received.ok_or_else(|| std::io::Error::other("no descriptor came with the message"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::ErrorKind;
    use crate::file::LockWait;
    use crate::formats::Format;

    #[test]
    fn an_image_that_was_handed_over_is_the_locked_file_until_it_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk");
        std::fs::write(&path, [7u8; 1024]).expect("written");
        let request = OpenImage { path: &path, format: Format::Raw, writable: true, wait: LockWait::No };
        let image = open_image_apart(&request).expect("opened");
        let length = image.file().len().expect("the descriptor is one of this table");
        assert_eq!((length, image.geometry().size_bytes), (1024, 1024));
        assert_eq!(open_image(&request).err().map(|e| e.kind), Some(ErrorKind::Locked));
        drop(image);
        open_image(&request).expect("the lock is gone with the image");
    }

    #[test]
    fn what_cannot_be_opened_is_told_as_ever() {
        let request =
            OpenImage { path: "/no/such/disk".as_ref(), format: Format::Raw, writable: true, wait: LockWait::No };
        assert_eq!(open_image_apart(&request).err().map(|e| e.kind), Some(ErrorKind::NotFound));
    }
}
