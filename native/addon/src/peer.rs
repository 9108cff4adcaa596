//! Who is at the other end of a local socket, as the kernel says (SO_PEERCRED, SO_PEERGROUPS): Node has no call for it. And what the
//! system's databases call users and groups.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use napi::bindgen_prelude::{Either, Null};
use napi_derive::napi;
use vmstorage_engine::disk::DiskError;

use crate::error::{blocking, invalid, to_napi};
use crate::image::or_null;

/// Longest entry of a user database; a longer one has no name for us.
const ENTRY_BYTES: usize = 16 * 1024;
/// Of the group database, whose entries hold the names of all members.
const GROUP_ENTRY_MOST_BYTES: usize = 4 * 1024 * 1024;
/// NGROUPS_MAX of Linux: no process has more.
const GROUPS_MOST: usize = 65_536;

#[napi(object, object_from_js = false)]
pub struct NativePeer {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary ones.
    pub groups: Vec<u32>,
}

/// The process that connected or, for the side that connected, the one that listened: its credentials as they were when it did.
#[napi]
pub fn peer_of(descriptor: i32) -> napi::Result<NativePeer> {
    if descriptor < 0 {
        return Err(invalid("a descriptor is not negative"));
    }
    // SAFETY: the caller's socket is open while this runs: Node is single-threaded, and it is called with a live handle.
    let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let peer = rustix::net::sockopt::socket_peercred(socket)
        .map_err(|e| to_napi(&DiskError::io("ask the peer of", "the socket".as_ref(), e.into())))?;
    let groups = peer_groups(socket)
        .map_err(|e| to_napi(&DiskError::io("ask the peer's groups of", "the socket".as_ref(), e)))?;
    let pid = peer.pid.as_raw_nonzero().get().unsigned_abs();
    Ok(NativePeer { pid, uid: peer.uid.as_raw(), gid: peer.gid.as_raw(), groups })
}

/// The groups of the process itself: the group database says what its user's next session will have.
fn peer_groups(socket: BorrowedFd<'_>) -> std::io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice())).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: the kernel writes at most `bytes` bytes to memory of this function that is as long.
        let code = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<libc::gid_t>();
        if code == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = std::io::Error::last_os_error();
        // It says how much it needs.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > GROUPS_MOST {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// The name of a user; `null` when the user database has none. It may be asked over a network: not on Node's thread.
#[napi]
pub async fn user_name(uid: u32) -> napi::Result<Either<String, Null>> {
    blocking(move || Ok(name_of(uid))).await.map(or_null)
}

/// The name of a group; `null` when the group database has none. As `user_name`.
#[napi]
pub async fn group_name(gid: u32) -> napi::Result<Either<String, Null>> {
    blocking(move || Ok(group_name_of(gid))).await.map(or_null)
}

fn name_of(uid: u32) -> Option<String> {
    let mut buffer = vec![0; ENTRY_BYTES];
    let mut found = std::ptr::null_mut();
    // SAFETY: an entry of zeros is one the call may fill.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    // SAFETY: every pointer is to memory of this function, of the size that is passed.
    let code = unsafe { libc::getpwuid_r(uid, &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found) };
    if code != 0 || found.is_null() {
        return None;
    }
    // SAFETY: on success the name is a string with its end inside `buffer`.
    Some(unsafe { CStr::from_ptr(entry.pw_name) }.to_string_lossy().into_owned())
}

/// The number of a group; `null` when the group database has none of that name. Not on Node's thread, as above.
#[napi]
pub async fn group_id(name: String) -> napi::Result<Either<u32, Null>> {
    let Ok(name) = CString::new(name) else { return Err(invalid("a group's name holds no NUL character")) };
    blocking(move || {
        number_of(&name).map_err(|e| DiskError::io("look up the group", name.to_string_lossy().as_ref().as_ref(), e))
    })
    .await
    .map(|found| found.map_or(Either::B(Null), Either::A))
}

fn number_of(name: &CStr) -> std::io::Result<Option<u32>> {
    let mut buffer = vec![0; ENTRY_BYTES];
    loop {
        let mut found = std::ptr::null_mut();
        // SAFETY: an entry of zeros is one the call may fill.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        // SAFETY: every pointer is to memory of this function, of the size that is passed.
        let code =
            unsafe { libc::getgrnam_r(name.as_ptr(), &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found) };
        match code {
            0 if found.is_null() => return Ok(None),
            0 => return Ok(Some(entry.gr_gid)),
            libc::ERANGE if buffer.len() < GROUP_ENTRY_MOST_BYTES => buffer.resize(buffer.len() * 2, 0),
            // What some databases say of a name they do not have (getgrnam(3)).
            libc::ENOENT | libc::ESRCH => return Ok(None),
            other => return Err(std::io::Error::from_raw_os_error(other)),
        }
    }
}

fn group_name_of(gid: u32) -> Option<String> {
    let mut buffer = vec![0; ENTRY_BYTES];
    let mut found = std::ptr::null_mut();
    // SAFETY: an entry of zeros is one the call may fill.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    // SAFETY: every pointer is to memory of this function, of the size that is passed.
    let code = unsafe { libc::getgrgid_r(gid, &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found) };
    // An entry with more members than fit is somebody's all the same.
    if code == libc::ERANGE {
        return Some(gid.to_string());
    }
    if code != 0 || found.is_null() {
        return None;
    }
    // SAFETY: on success the name is a string with its end inside `buffer`.
    Some(unsafe { CStr::from_ptr(entry.gr_name) }.to_string_lossy().into_owned())
}
