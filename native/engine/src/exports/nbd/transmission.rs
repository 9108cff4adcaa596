//! The transmission phase's rules: what each request asks for, and which are refused and why. Pure functions.

use super::codec::{MAX_PAYLOAD_BYTES, put_error_chunk, simple_reply};
use super::handshake::{Offer, Session};
use super::wire::*;
use crate::disk::Errno;

/// A request that follows the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// `whole`: at most one content chunk (DF).
    Read {
        whole: bool,
    },
    Write {
        fua: bool,
    },
    Flush,
    Trim {
        fua: bool,
    },
    WriteZeroes {
        fua: bool,
        unmap: bool,
    },
    /// Accepted and answered: with direct I/O below there is no cache to fill, and a client loses nothing.
    Cache,
    BlockStatus {
        one: bool,
    },
    Disconnect,
}

impl Plan {
    /// Bytes of memory the request needs until it is answered, at most.
    pub fn payload_bytes(&self, request: &RequestHeader) -> u32 {
        match self {
            Plan::Read { .. } | Plan::Write { .. } => request.len,
            _ => 0,
        }
    }
}

/// Why a request is answered with an error: one of the protocol's values and a sentence for a human being.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub error: u32,
    pub message: &'static str,
}

impl Refusal {
    pub const fn new(error: u32, message: &'static str) -> Self {
        Self { error, message }
    }

    /// What the engine's errno becomes on the wire ("Error values": nothing else may be sent).
    pub const fn from_errno(errno: Errno) -> Self {
        match errno {
            libc::EPERM | libc::EROFS | libc::EACCES => Self::new(NBD_EPERM, "the disk may not be written"),
            libc::ENOMEM => Self::new(NBD_ENOMEM, "the server is out of memory"),
            libc::EINVAL => Self::new(NBD_EINVAL, "the disk does not take this request"),
            libc::ENOSPC | libc::EDQUOT | libc::EFBIG => Self::new(NBD_ENOSPC, "the disk's file system is full"),
            libc::EOVERFLOW => Self::new(NBD_EOVERFLOW, "the request is too large for the disk"),
            libc::EOPNOTSUPP => Self::new(NBD_ENOTSUP, "the disk does not support this request"),
            libc::ESHUTDOWN => Self::new(NBD_ESHUTDOWN, "the server is being shut down"),
            _ => Self::new(NBD_EIO, "the disk failed the request"),
        }
    }
}

const EMPTY: Refusal = Refusal::new(NBD_EINVAL, "a request of length 0 has no meaning");
const UNALIGNED: Refusal = Refusal::new(NBD_EINVAL, "offset and length have to be multiples of the minimum block size");
const BEYOND_END: Refusal = Refusal::new(NBD_EINVAL, "the request reaches beyond the end of the disk");
const NO_SPACE_BEYOND_END: Refusal = Refusal::new(NBD_ENOSPC, "the request reaches beyond the end of the disk");
const TOO_LONG: Refusal = Refusal::new(NBD_EINVAL, "the request is longer than the maximum block size");
const READ_ONLY_EXPORT: Refusal = Refusal::new(NBD_EPERM, "the export is read-only");
const UNKNOWN_COMMAND: Refusal = Refusal::new(NBD_EINVAL, "the command is not known");
const UNKNOWN_FLAG: Refusal = Refusal::new(NBD_EINVAL, "a flag does not belong to the command, or was not negotiated");
const FLUSH_OF_RANGE: Refusal = Refusal::new(NBD_EINVAL, "offset and length of a flush have to be 0");
const NO_CONTEXT: Refusal = Refusal::new(NBD_EINVAL, "block status needs a metadata context, and none was negotiated");
const NOT_FAST: Refusal = Refusal::new(NBD_ENOTSUP, "zeroing is not promised to be faster than writing");

/// Checks a request against the export and the session. A WRITE's payload follows on the wire in any case.
pub fn plan(request: &RequestHeader, offer: &Offer, session: Session) -> Result<Plan, Refusal> {
    let flag = |bit: u16| request.flags & bit != 0;
    // "This flag is valid for all commands": FUA changes nothing where nothing is written.
    let fua = flag(CMD_FLAG_FUA);
    let (plan, own_flags, writes) = match request.command {
        CMD_DISC => return Ok(Plan::Disconnect),
        CMD_READ => (Plan::Read { whole: flag(CMD_FLAG_DF) }, if session.structured { CMD_FLAG_DF } else { 0 }, false),
        CMD_WRITE => (Plan::Write { fua }, 0, true),
        CMD_FLUSH => (Plan::Flush, 0, false),
        CMD_TRIM => (Plan::Trim { fua }, 0, true),
        CMD_WRITE_ZEROES => {
            let unmap = !flag(CMD_FLAG_NO_HOLE);
            (Plan::WriteZeroes { fua, unmap }, CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO, true)
        }
        CMD_CACHE => (Plan::Cache, 0, false),
        CMD_BLOCK_STATUS => (Plan::BlockStatus { one: flag(CMD_FLAG_REQ_ONE) }, CMD_FLAG_REQ_ONE, false),
        _ => return Err(UNKNOWN_COMMAND),
    };
    if request.flags & !(own_flags | CMD_FLAG_FUA) != 0 {
        return Err(UNKNOWN_FLAG);
    }
    if writes && offer.read_only {
        return Err(READ_ONLY_EXPORT);
    }
    if plan == Plan::Flush {
        return if request.offset == 0 && request.len == 0 { Ok(plan) } else { Err(FLUSH_OF_RANGE) };
    }
    if matches!(plan, Plan::BlockStatus { .. }) && !session.block_status {
        return Err(NO_CONTEXT);
    }
    if request.len == 0 {
        return Err(EMPTY);
    }
    let inside = request.offset.checked_add(u64::from(request.len)).is_some_and(|end| end <= offer.size_bytes);
    if !inside {
        let grows = matches!(plan, Plan::Write { .. } | Plan::WriteZeroes { .. });
        return Err(if grows { NO_SPACE_BEYOND_END } else { BEYOND_END });
    }
    let whole_blocks = request.offset.is_multiple_of(u64::from(offer.min_block_bytes))
        && request.len.is_multiple_of(offer.min_block_bytes);
    if !whole_blocks && !session.any_size {
        return Err(UNALIGNED);
    }
    if plan.payload_bytes(request) > MAX_PAYLOAD_BYTES {
        return Err(TOO_LONG);
    }
    if flag(CMD_FLAG_FAST_ZERO) {
        return Err(NOT_FAST);
    }
    Ok(plan)
}

/// Appends the answer to a request that failed.
pub fn put_refusal(out: &mut Vec<u8>, session: Session, cookie: u64, refusal: &Refusal) {
    if session.structured {
        put_error_chunk(out, cookie, refusal.error, refusal.message);
    } else {
        out.extend_from_slice(&simple_reply(refusal.error, cookie));
    }
}
