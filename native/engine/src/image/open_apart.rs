//! Opens an image of a file system that may hang: by a thread with a descriptor table of its own, which hands the open file over.
//!
//! ```text
//!   caller          waits, and a kill ends the wait ◄── descriptor (SCM_RIGHTS) ──┐
//!   thread apart    open, lock, read the tables, and perhaps write them ──────────┘
//! ```

use std::io::{IoSlice, IoSliceMut};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use super::executor::Image;
use crate::disk::DiskError;
use crate::file::Place;
use crate::thread_apart::apart;

/// What `open` gives, who is called by a thread apart: an image, and where it is. `about`: for messages.
pub fn opened_apart(
    about: &Path,
    open: impl FnOnce() -> Result<(Image, Place), DiskError> + Send,
) -> Result<(Image, Place), DiskError> {
    let failed = |e: std::io::Error| DiskError::io("open", about, e);
    let (here, there) = UnixStream::pair().map_err(failed)?;
    let there = there.as_raw_fd();
    let opened = apart("opening", &[there], |is_apart| -> Result<_, DiskError> {
        let (image, place) = open()?;
        if is_apart {
            // SAFETY: the caller has it open for as long as it waits for this thread, and so has this thread's table.
            let socket = unsafe { BorrowedFd::borrow_raw(there) };
            send(socket, [image.file().fd(), place.folder_descriptor()]).map_err(failed)?;
        }
        // From here on their descriptors are of the other table: they must not be closed by their numbers.
        Ok((is_apart, ManuallyDrop::new(image), ManuallyDrop::new(place)))
    });
    let (is_apart, image, place) = opened.map_err(failed)??;
    let (mut image, mut place) = (image, place);
    if is_apart {
        let [file, folder] = receive(&here).map_err(failed)?;
        image.adopt(file);
        place.adopt(folder);
    }
    Ok((ManuallyDrop::into_inner(image), ManuallyDrop::into_inner(place)))
}

fn send(socket: BorrowedFd<'_>, descriptors: [RawFd; 2]) -> std::io::Result<()> {
    // SAFETY: image and place keep them open for the length of the call.
    let descriptors = descriptors.map(|descriptor| unsafe { BorrowedFd::borrow_raw(descriptor) });
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

fn receive(socket: &UnixStream) -> std::io::Result<[OwnedFd; 2]> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    // They were sent before the thread ended: there is nothing to wait for.
    recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut ancillary, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)?;
    let received: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    received.try_into().map_err(|_| std::io::Error::other("no descriptors came with the message"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::ErrorKind;
    use crate::file::{LockWait, Removed, Trust};
    use crate::formats::Format;
    use crate::image::{OpenImage, open_image};

    fn opened(path: &Path) -> Result<(Image, Place), DiskError> {
        opened_apart(path, || {
            let trust = Trust::own();
            let image =
                open_image(&OpenImage { path, format: Format::Raw, writable: true, wait: LockWait::No, trust })?;
            Ok((image, Place::find(path, trust)?.expect("it was just opened")))
        })
    }

    #[test]
    fn an_image_that_was_handed_over_is_the_locked_file_until_it_is_dropped_and_its_place_is_held() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk");
        std::fs::write(&path, [7u8; 1024]).expect("written");
        let (image, place) = opened(&path).expect("opened");
        let length = image.file().len().expect("the descriptor is one of this table");
        assert_eq!((length, image.geometry().size_bytes), (1024, 1024));
        assert_eq!(opened(&path).err().map(|e| e.kind), Some(ErrorKind::Locked));
        assert!(place.is_held().expect("the folder is open in this table"));
        drop(image);
        opened(&path).expect("the lock is gone with the image");
        assert_eq!(place.remove().expect("removed"), Removed::Yes);
        assert!(!path.exists());
    }

    #[test]
    fn what_cannot_be_opened_is_told_as_ever() {
        assert_eq!(opened("/no/such/disk".as_ref()).err().map(|e| e.kind), Some(ErrorKind::NotFound));
    }
}
