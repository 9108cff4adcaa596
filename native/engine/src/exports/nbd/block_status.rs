//! What a BLOCK_STATUS is answered with: base:allocation descriptors from the disk's own map.
//!
//! "A server MAY return less descriptors than would be required": the answer covers a bounded span and a bounded number
//! of descriptors, so that one request keeps the reactor thread for a bounded time. The client asks on from there.

use super::tiles::{Cut, Tile, tile};
use super::wire::{STATE_HOLE, STATE_ZERO};

/// Descriptors of one answer: 8 KiB on the wire.
pub const MAX_DESCRIPTORS: usize = 1024;
/// What one answer covers at most, in bytes.
pub const MAX_SPAN_BYTES: u64 = 1 << 30;
/// The map is asked in steps of this many bytes, so that a fragmented disk does not produce more than is sent.
const STEP_BYTES: u64 = 128 << 20;

/// Fills `descriptors` with (length, flags) for `[offset, offset + len)`, or for a part of it from `offset` on. `map`
/// appends (length, is zero) pairs for the range it is given; `one` stops after the first descriptor.
pub fn describe(
    offset: u64,
    len: u64,
    one: bool,
    granule: u64,
    mut map: impl FnMut(u64, u64, &mut Vec<(u64, bool)>),
    scratch: (&mut Vec<(u64, bool)>, &mut Vec<Tile>),
    descriptors: &mut Vec<(u32, u32)>,
) {
    let (pieces, tiles) = scratch;
    let limit = if one { 1 } else { MAX_DESCRIPTORS };
    let end = offset + len.min(MAX_SPAN_BYTES);
    let mut step_start = offset;
    descriptors.clear();
    while step_start < end {
        let step = STEP_BYTES.min(end - step_start);
        pieces.clear();
        map(step_start, step, pieces);
        tile(step_start, step, pieces, Cut { granule, max_tiles: usize::MAX }, tiles);
        for tile in tiles.iter() {
            let flags = if tile.zero { STATE_HOLE | STATE_ZERO } else { 0 };
            let full = descriptors.len() == limit;
            match descriptors.last_mut() {
                Some((len, last)) if *last == flags => *len += tile.len as u32,
                _ if full => return,
                _ => descriptors.push((tile.len as u32, flags)),
            }
        }
        step_start += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: u32 = STATE_HOLE | STATE_ZERO;

    fn describe_disk(len: u64, one: bool, mut is_zero: impl FnMut(u64) -> bool) -> Vec<(u32, u32)> {
        let mut out = Vec::new();
        let map = |from: u64, len: u64, out: &mut Vec<(u64, bool)>| {
            out.extend((from..from + len).step_by(65536).map(|at| (65536, is_zero(at))));
        };
        describe(0, len, one, 512, map, (&mut Vec::new(), &mut Vec::new()), &mut out);
        out
    }

    #[test]
    fn equal_neighbours_are_one_descriptor_also_across_steps() {
        assert_eq!(describe_disk(512 << 20, false, |at| at >= 192 << 20), [(192 << 20, 0), (320 << 20, ZERO)]);
    }

    #[test]
    fn req_one_gives_the_first_descriptor_in_full() {
        assert_eq!(describe_disk(512 << 20, true, |at| at < 200 << 20), [(200 << 20, ZERO)]);
    }

    #[test]
    fn a_fragmented_disk_is_answered_in_part() {
        assert_eq!(describe_disk(1 << 30, false, |at| at / 65536 % 2 == 0).len(), MAX_DESCRIPTORS);
    }

    #[test]
    fn an_answer_covers_a_bounded_span() {
        assert_eq!(describe_disk(4095 << 20, false, |_| true), [(1 << 30, ZERO)]);
    }
}
