//! The Unix socket clients connect to: private, complete from the moment its name exists, and gone with its server.
//!
//! ```text
//!   old socket nobody answers on? --> removed
//!   socket --fchmod 0600--> bind to a temporary name --> listen --> rename to the name
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, RenameFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::disk::{DiskError, ErrorKind};

/// Clients waiting to be accepted; beyond that connect(2) waits.
const BACKLOG: i32 = 16;
/// How often, and at which distance, the folder's lock is tried: it is held for the length of a few system calls.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// A listening socket. Dropping it removes its name from the folder, unless somebody else has taken the name over.
#[derive(Debug)]
pub struct NbdListener {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and inode of the socket file.
    identity: (u64, u64),
}

impl NbdListener {
    /// Listens at `path`, mode 0600. A socket left over by a dead process is replaced; one that answers, or anything
    /// that is not a socket, is `AlreadyExists`.
    pub fn bind(path: &Path) -> Result<Self, DiskError> {
        let failed = |what: &str, error: rustix::io::Errno| DiskError::io(what, path, error.into());
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let Some(name) = path.file_name() else {
            return Err(DiskError::new(
                ErrorKind::InvalidArgument,
                format!("'{}' does not name a socket: give a path that ends in a file name", path.display()),
            ));
        };
        let temporary = folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let address = SocketAddrUnix::new(&temporary).map_err(|_| {
            DiskError::new(
                ErrorKind::InvalidArgument,
                format!("the socket path '{}' is too long: a Unix socket's address holds 107 bytes", path.display()),
            )
        })?;
        let _lock = lock_folder(folder)?;
        remove_stale(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|e| failed("make a socket for", e))?;
        // Linux makes the file with the socket's own mode: it is private from its first moment, whatever the umask.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|e| failed("set the mode of", e))?;
        // A file of that name is of a process with our id that is no more; bind reports what could not be removed.
        std::fs::remove_file(&temporary).ok();
        rustix::net::bind(&socket, &address).map_err(|e| failed("bind the socket", e))?;
        let made = (|| {
            rustix::net::listen(&socket, BACKLOG).map_err(|e| failed("listen on", e))?;
            let metadata = std::fs::metadata(&temporary).map_err(|e| DiskError::io("look at the socket", path, e))?;
            let cwd = rustix::fs::CWD;
            rustix::fs::renameat_with(cwd, &temporary, cwd, path, RenameFlags::NOREPLACE)
                .map_err(|e| failed("name the socket", e))?;
            Ok((metadata.dev(), metadata.ino()))
        })();
        match made {
            Ok(identity) => Ok(Self { socket, path: path.to_owned(), identity }),
            Err(error) => {
                // The first error is the one to report.
                std::fs::remove_file(&temporary).ok();
                Err(error)
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for NbdListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for NbdListener {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.identity);
        if ours {
            // A name that stays behind is harmless: the next server finds that nobody answers and removes it.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// Keeps two servers from judging and replacing the same socket at once.
fn lock_folder(folder: &Path) -> Result<OwnedFd, DiskError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder_fd = rustix::fs::open(folder, flags, Mode::empty())
        .map_err(|e| DiskError::io("open the socket's folder", folder, e.into()))?;
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&folder_fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(folder_fd),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => std::thread::sleep(LOCK_PAUSE),
            Err(e) => return Err(DiskError::io("lock the socket's folder", folder, e.into())),
        }
    }
    let message = format!("the folder '{}' stays locked by another process; try again", folder.display());
    Err(DiskError::new(ErrorKind::Locked, message).at(folder))
}

fn remove_stale(path: &Path) -> Result<(), DiskError> {
    let taken = |why: &str| {
        let message = format!("cannot listen at '{}': {why}; choose another path or remove it", path.display());
        Err(DiskError::new(ErrorKind::AlreadyExists, message).at(path))
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(DiskError::io("look at", path, error)),
        Ok(file) if !file.file_type().is_socket() => return taken("a file that is not a socket is there"),
        Ok(_) => {}
    }
    let address = SocketAddrUnix::new(path).map_err(|e| DiskError::io("connect to", path, e.into()))?;
    // Non-blocking: a server with a full backlog answers EAGAIN at once instead of holding us.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|e| DiskError::io("make a socket for", path, e.into()))?;
    match rustix::net::connect(&probe, &address) {
        Err(rustix::io::Errno::CONNREFUSED) => {
            std::fs::remove_file(path).map_err(|e| DiskError::io("remove the old socket", path, e))
        }
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Ok(()) | Err(rustix::io::Errno::AGAIN) => taken("another process listens there"),
        Err(error) => Err(DiskError::io("connect to", path, error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_socket_is_private_answers_at_once_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.sock");
        let listener = NbdListener::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(listener);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_dead_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let _listener = NbdListener::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_that_answers_and_a_file_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.sock");
        let listener = NbdListener::bind(&path).unwrap();
        assert_eq!(NbdListener::bind(&path).unwrap_err().kind, ErrorKind::AlreadyExists);
        UnixStream::connect(&path).unwrap();
        drop(listener);
        std::fs::write(&path, b"precious").unwrap();
        assert_eq!(NbdListener::bind(&path).unwrap_err().kind, ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_name_taken_over_by_others_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.sock");
        let listener = NbdListener::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = NbdListener::bind(&folder.path().join("x".repeat(120))).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
    }
}
