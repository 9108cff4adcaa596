//! Cutting, copying and filling scattered guest memory.

/// The part of `iov` that begins `skip` bytes in and is `len` bytes long.
fn pieces(iov: &[libc::iovec], mut skip: u64, mut len: u64) -> impl Iterator<Item = libc::iovec> {
    iov.iter()
        .map_while(move |part| {
            if len == 0 {
                return None;
            }
            let here = part.iov_len as u64;
            let before = skip.min(here);
            let take = (here - before).min(len);
            skip -= before;
            len -= take;
            let iov_base = part.iov_base.cast::<u8>().wrapping_add(before as usize).cast();
            Some(libc::iovec { iov_base, iov_len: take as usize })
        })
        // Those that are skipped whole, or were empty.
        .filter(|piece| piece.iov_len > 0)
}

/// Appends to `out` the part of `iov` that begins `skip` bytes in and is `len` bytes long.
pub fn slice_iovecs(iov: &[libc::iovec], skip: u64, len: u64, out: &mut Vec<libc::iovec>) {
    out.extend(pieces(iov, skip, len));
}

/// Drops the first `count` bytes.
pub fn advance_iovecs(iov: &mut Vec<libc::iovec>, mut count: usize) {
    let mut whole = 0;
    for part in iov.iter_mut() {
        if count >= part.iov_len {
            count -= part.iov_len;
            whole += 1;
        } else {
            part.iov_base = part.iov_base.cast::<u8>().wrapping_add(count).cast();
            part.iov_len -= count;
            break;
        }
    }
    iov.drain(..whole);
}

pub fn aligned(iov: &[libc::iovec], align: usize) -> bool {
    align <= 1 || iov.iter().all(|part| (part.iov_base as usize | part.iov_len).is_multiple_of(align))
}

/// Gathers `iov` into `target`.
///
/// # Safety
/// Every iovec points at readable memory that stays mapped for the call. The guest may change it meanwhile: what is
/// gathered is then some mixture, as with any disk.
pub unsafe fn copy_from_iovecs(iov: &[libc::iovec], target: &mut [u8]) {
    let mut at = 0;
    for part in iov {
        let len = part.iov_len.min(target.len() - at);
        // SAFETY: readable by the caller's promise; `target[at..at + len]` is in bounds and not guest memory.
        unsafe { std::ptr::copy_nonoverlapping(part.iov_base.cast::<u8>(), target[at..].as_mut_ptr(), len) };
        at += len;
    }
}

/// Scatters `source` into `iov`.
///
/// # Safety
/// Every iovec points at writable memory that stays mapped for the call.
pub unsafe fn copy_to_iovecs(source: &[u8], iov: &[libc::iovec]) {
    let mut at = 0;
    for part in iov {
        let len = part.iov_len.min(source.len() - at);
        // SAFETY: writable by the caller's promise; `source[at..at + len]` is in bounds and not guest memory.
        unsafe { std::ptr::copy_nonoverlapping(source[at..].as_ptr(), part.iov_base.cast::<u8>(), len) };
        at += len;
    }
}

/// Zeroes `len` bytes of `iov` from `skip` on.
///
/// # Safety
/// As for [`copy_to_iovecs`].
pub unsafe fn fill_zero(iov: &[libc::iovec], skip: u64, len: u64) {
    for piece in pieces(iov, skip, len) {
        // SAFETY: inside one iovec, which is writable by the caller's promise.
        unsafe { std::ptr::write_bytes(piece.iov_base.cast::<u8>(), 0, piece.iov_len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iov(buffers: &mut [Vec<u8>]) -> Vec<libc::iovec> {
        buffers.iter_mut().map(|b| libc::iovec { iov_base: b.as_mut_ptr().cast(), iov_len: b.len() }).collect()
    }

    #[test]
    fn a_slice_spans_parts_and_ends_inside_one() {
        let mut buffers = [vec![1u8; 4], vec![2; 4], vec![3; 4]];
        let all = iov(&mut buffers);
        let mut part = Vec::new();
        slice_iovecs(&all, 3, 6, &mut part);
        let mut got = [0u8; 6];
        // SAFETY: the iovecs point into `buffers`, which live on.
        unsafe { copy_from_iovecs(&part, &mut got) };
        assert_eq!(got, [1, 2, 2, 2, 2, 3]);
    }

    #[test]
    fn advancing_drops_whole_parts_and_cuts_the_next() {
        let mut buffers = [vec![1u8; 4], vec![2; 4]];
        let mut all = iov(&mut buffers);
        advance_iovecs(&mut all, 5);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].iov_len, 3);
    }

    #[test]
    fn zero_filling_touches_nothing_else() {
        let mut buffers = [vec![1u8; 4], vec![2; 4]];
        let all = iov(&mut buffers);
        // SAFETY: the iovecs point into `buffers`, which live on.
        unsafe { fill_zero(&all, 2, 4) };
        assert_eq!(buffers, [vec![1, 1, 0, 0], vec![0, 0, 2, 2]]);
    }
}
