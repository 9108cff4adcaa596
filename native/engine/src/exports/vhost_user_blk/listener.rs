//! The control thread of one disk: a Unix socket, one front end at a time.
//!
//! ```text
//!   bind ─► accept ─► messages ─► disconnected, or broke the protocol ─► requests in flight finish, state forgotten ─┐
//!             ▲                                                                                                      │
//!             └──────────────────────────────────────────────────────────────────────────────────────────────────────┘
//!   close(): wakes accept or ends the connection, joins the thread, closes the export, removes the socket
//! ```
//! A message may wait for the reactor thread (GET_VRING_BASE waits for requests in flight); nothing waits for this thread.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen as listen_on, socket_with,
    sockopt,
};
use vhost::vhost_user::{BackendReqHandler, Error};

use super::device::VhostUserBlk;
use super::handler::Handler;
use crate::disk::{DiskError, ErrorKind};
use crate::exports::{DiskFacts, ExportDoor, call_export};
use crate::vital_thread::spawn_vital;

/// `sun_path` of a Unix socket address holds 108 bytes with its end mark.
const MAX_PATH_BYTES: usize = 107;
/// One front end is served, one may be waiting: the same VMM reconnecting before its old connection is cleared away.
const BACKLOG: i32 = 1;

/// A disk that front ends can connect to. Dropping it closes it.
pub struct Listener {
    path: PathBuf,
    /// Device and inode of the socket we made: a successor's socket at the same path is not ours to remove.
    identity: (u64, u64),
    shared: Arc<Shared>,
    door: Arc<dyn ExportDoor>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    closing: Arc<AtomicBool>,
    wake: OwnedFd,
    /// 0: nobody is connected.
    peer: AtomicI32,
    /// Kept to end a connection from outside; the control thread owns the conversation.
    connection: Mutex<Option<UnixStream>>,
    last_failure: Mutex<Option<String>>,
}

/// Makes the socket at `path` (for whom: see `bind_private`; a stale one is replaced) and serves the `VhostUserBlk` behind `door` on it.
///
/// `queues` must be what the export was made with. Errors: the path is too long or cannot be written.
pub fn listen(path: &Path, door: Arc<dyn ExportDoor>, facts: DiskFacts, queues: u16) -> Result<Listener, DiskError> {
    let made_with = call_export(&*door, |export: &mut VhostUserBlk, _| export.queues()).map_err(|_| {
        DiskError::new(ErrorKind::InvalidState, "the export to listen for is gone, or is no vhost-user-blk device")
    })?;
    if made_with != queues {
        let what = format!("the vhost-user disk was made with {made_with} queues, not with {queues}");
        return Err(DiskError::new(ErrorKind::InvalidArgument, what));
    }
    let (socket, identity) = bind_private(path)?;
    let failed = |e: std::io::Error| DiskError::io("listen on", path, e);
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| failed(e.into()))?;
    let shared = Arc::new(Shared {
        closing: Arc::default(),
        wake,
        peer: AtomicI32::new(0),
        connection: Mutex::default(),
        last_failure: Mutex::default(),
    });
    let (theirs, their_door) = (shared.clone(), door.clone());
    let thread = spawn_vital("vhost-user", move || serve(&socket, &theirs, &their_door, facts)).map_err(failed)?;
    Ok(Listener { path: path.to_owned(), identity, shared, door, thread: Some(thread) })
}

impl Listener {
    /// The process at the other end, as the kernel knows it (SO_PEERCRED); `None` while nobody is connected.
    pub fn peer_pid(&self) -> Option<i32> {
        Some(self.shared.peer.load(Ordering::Acquire)).filter(|pid| *pid > 0)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why the last connection ended, unless the front end simply hung up. For the log.
    pub fn last_failure(&self) -> Option<String> {
        lock(&self.shared.last_failure).clone()
    }

    /// Which rings a driver broke since the disk was opened and how, one line each. For the log.
    pub fn ring_failures(&self) -> Vec<String> {
        call_export(&*self.door, |export: &mut VhostUserBlk, _| export.ring_failures()).unwrap_or_default()
    }

    /// Ends the connection, waits for the control thread and asks the service to drop the export. Requests in flight are
    /// not waited for: the service drops the export when they are done.
    ///
    /// Not from the reactor thread: the control thread may be waiting for it.
    pub fn close(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.shared.closing.store(true, Ordering::Release);
        let _ = rustix::io::write(&self.shared.wake, &1u64.to_ne_bytes()); // full: woken already
        if let Some(connection) = lock(&self.shared.connection).take() {
            // Already hung up: then the thread is on its way.
            drop(connection.shutdown(std::net::Shutdown::Both));
        }
        drop(thread.join());
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours {
            // Whoever connects to what is left finds nobody there.
            drop(fs::remove_file(&self.path));
        }
        // A service that is gone has dropped the export already.
        drop(call_export(&*self.door, |export: &mut VhostUserBlk, cx| export.close(cx)));
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bound under another name, made private, listening, then renamed: nobody connects to half a socket, and a front end that
/// retries sees either the old one (refused) or the new one.
///
/// It is for its owner alone (0600). In a folder whose group may pass through, it is for that group too (0660): the folder is made by who
/// starts the front end and knows its group, and each worker that follows makes its sockets in the same way.
fn bind_private(path: &Path) -> Result<(OwnedFd, (u64, u64)), DiskError> {
    let mut name = path.as_os_str().to_owned();
    name.push("~");
    if name.len() > MAX_PATH_BYTES {
        let what =
            format!("the socket path '{}' is too long: {} bytes are possible", path.display(), MAX_PATH_BYTES - 1);
        return Err(DiskError::new(ErrorKind::InvalidArgument, what).at(path));
    }
    let temporary = PathBuf::from(name);
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(DiskError::io("replace", &temporary, e)),
        _ => {}
    }
    let failed = |what, e: rustix::io::Errno| DiskError::io(what, path, e.into());
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|e| failed("make a socket for", e))?;
    let address = SocketAddrUnix::new(&temporary).map_err(|e| failed("name the socket", e))?;
    bind(&socket, &address).map_err(|e| failed("make the socket", e))?;
    let made = (|| {
        let mode = match group_of_folder(path)? {
            Some(group) => {
                std::os::unix::fs::lchown(&temporary, None, Some(group))?;
                0o660
            }
            None => 0o600,
        };
        fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))?;
        listen_on(&socket, BACKLOG)?;
        let found = fs::symlink_metadata(&temporary)?;
        fs::rename(&temporary, path)?;
        Ok((found.dev(), found.ino()))
    })();
    match made {
        Ok(identity) => Ok((socket, identity)),
        Err(e) => {
            drop(fs::remove_file(&temporary)); // the first error is the one to report
            Err(DiskError::io("make the socket", path, e))
        }
    }
}

/// The group that may pass through the folder of `path`, if that is not everybody.
fn group_of_folder(path: &Path) -> std::io::Result<Option<u32>> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = fs::metadata(folder)?;
    Ok((found.mode() & 0o011 == 0o010).then(|| found.gid()))
}

/// The body of the control thread.
fn serve(socket: &OwnedFd, shared: &Shared, door: &Arc<dyn ExportDoor>, facts: DiskFacts) {
    block_signals();
    while let Some(connection) = accept(socket, shared) {
        let outcome = converse(connection, shared, door, facts);
        shared.peer.store(0, Ordering::Release);
        lock(&shared.connection).take();
        match outcome {
            Ok(()) => {}
            Err(why) => *lock(&shared.last_failure) = Some(why.to_string()),
        }
    }
}

/// The next front end, or `None` when the listener closes.
fn accept(socket: &OwnedFd, shared: &Shared) -> Option<UnixStream> {
    loop {
        if shared.closing.load(Ordering::Acquire) {
            return None;
        }
        let mut wait = [PollFd::new(socket, PollFlags::IN), PollFd::new(&shared.wake, PollFlags::IN)];
        match poll(&mut wait, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
        if wait[0].revents().is_empty() {
            continue;
        }
        // A front end that gave up meanwhile is no failure; lack of descriptors is retried when the next one comes.
        if let Ok(connection) = accept_with(socket, SocketFlags::CLOEXEC) {
            return Some(connection.into());
        }
    }
}

/// Answers one front end until it hangs up (`Ok`) or breaks the protocol. The device is fresh again afterwards.
fn converse(
    connection: UnixStream,
    shared: &Shared,
    door: &Arc<dyn ExportDoor>,
    facts: DiskFacts,
) -> Result<(), Error> {
    let credentials = sockopt::socket_peercred(&connection).map_err(|e| Error::SocketError(e.into()))?;
    *lock(&shared.connection) = Some(connection.try_clone().map_err(Error::SocketError)?);
    if shared.closing.load(Ordering::Acquire) {
        return Ok(());
    }
    shared.peer.store(credentials.pid.as_raw_nonzero().get(), Ordering::Release);
    let handler = Arc::new(Mutex::new(Handler::new(door.clone(), facts, shared.closing.clone())?));
    let mut requests = BackendReqHandler::from_stream(connection, handler.clone());
    let ended = loop {
        match requests.handle_request() {
            Ok(()) | Err(Error::SocketRetry(_)) => {}
            Err(Error::Disconnected | Error::SocketBroken(_)) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    // The front end sees the end of the connection at once, not when the last request has finished.
    drop(requests);
    if let Some(open) = lock(&shared.connection).take() {
        drop(open.shutdown(std::net::Shutdown::Both)); // hung up already is what is wanted
    }
    let forgotten = lock(&handler).disconnected();
    ended.and(forgotten)
}

/// Signals belong to Node's main thread; a blocked call here must not be interrupted by them.
fn block_signals() {
    // SAFETY: fills a local set and changes the mask of this thread only.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&mut all);
        // Blocked, a fault ends the process whatever handler there is (memory_guard.rs).
        libc::sigdelset(&mut all, libc::SIGBUS);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
    }
}
