//! Who is at the other end of a local socket, as the kernel says (SO_PEERCRED): Node has no call for it.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use napi::bindgen_prelude::{Either, Null};
use napi_derive::napi;
use vmstorage_engine::disk::DiskError;

use crate::error::{blocking, invalid, to_napi};
use crate::image::or_null;

/// Longest entry of a user database; a longer one has no name for us.
const ENTRY_BYTES: usize = 16 * 1024;

#[napi(object, object_from_js = false)]
pub struct NativePeer {
    pub pid: u32,
    pub uid: u32,
}

/// The process that connected, as it was then.
#[napi]
pub fn peer_of(descriptor: i32) -> napi::Result<NativePeer> {
    if descriptor < 0 {
        return Err(invalid("a descriptor is not negative"));
    }
    // SAFETY: the caller's socket is open while this runs: Node is single-threaded, and it is called with a live handle.
    let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let peer = rustix::net::sockopt::socket_peercred(socket)
        .map_err(|e| to_napi(&DiskError::io("ask the peer of", "the socket".as_ref(), e.into())))?;
    Ok(NativePeer { pid: peer.pid.as_raw_nonzero().get().unsigned_abs(), uid: peer.uid.as_raw() })
}

/// The name of a user; `null` when the user database has none. It may be asked over a network: not on Node's thread.
#[napi]
pub async fn user_name(uid: u32) -> napi::Result<Either<String, Null>> {
    blocking(move || Ok(name_of(uid))).await.map(or_null)
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
