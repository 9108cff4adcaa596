//! Requests with more data than is handed in at once ([`super::config::PIECE_BYTES`]).

use crate::disk::{IoVecs, RequestKind};

/// What of a request is not handed in yet.
pub(super) struct Rest {
    pub kind: RequestKind,
    pub fua: bool,
    offset: u64,
    left: u64,
    iov: IoVecs,
}

impl Rest {
    pub fn new(kind: RequestKind, fua: bool, offset: u64, len: u64, iov: &IoVecs) -> Self {
        Self { kind, fua, offset, left: len, iov: iov.clone() }
    }

    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Takes up to `most` bytes off the front: their buffers go to `iov`. Returns offset and length.
    pub fn cut(&mut self, most: u64, iov: &mut IoVecs) -> (u64, u64) {
        let (offset, len) = (self.offset, self.left.min(most));
        let (mut wanted, mut whole) = (len as usize, 0);
        for range in self.iov.iter_mut() {
            let here = range.iov_len.min(wanted);
            iov.push(libc::iovec { iov_base: range.iov_base, iov_len: here });
            wanted -= here;
            if here < range.iov_len {
                range.iov_base = range.iov_base.cast::<u8>().wrapping_add(here).cast();
                range.iov_len -= here;
                break;
            }
            whole += 1;
            if wanted == 0 {
                break;
            }
        }
        self.iov.drain(..whole);
        (self.offset, self.left) = (offset + len, self.left - len);
        (offset, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_tile_the_buffers_in_order() {
        let bytes = [0u8; 100];
        let at =
            |from: usize, len: usize| libc::iovec { iov_base: bytes[from..].as_ptr().cast_mut().cast(), iov_len: len };
        let mut rest = Rest::new(RequestKind::Read, false, 1000, 60, &vec![at(0, 25), at(40, 5), at(50, 30)]);
        let mut seen = Vec::new();
        while !rest.is_empty() {
            let mut iov = IoVecs::new();
            let (offset, len) = rest.cut(25, &mut iov);
            assert_eq!(iov.iter().map(|range| range.iov_len as u64).sum::<u64>(), len);
            let from = |range: &libc::iovec| range.iov_base as usize - bytes.as_ptr() as usize;
            seen.push((offset, len, iov.iter().map(|range| (from(range), range.iov_len)).collect::<Vec<_>>()));
        }
        assert_eq!(seen, [(1000, 25, vec![(0, 25)]), (1025, 25, vec![(40, 5), (50, 20)]), (1050, 10, vec![(70, 10)]),]);
    }
}
