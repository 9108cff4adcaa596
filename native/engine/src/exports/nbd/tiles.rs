//! Where data and zeros lie in a range, cut so that clients and direct I/O can use it.
//!
//! ```text
//!   pieces   |data|zero     |data |zero|zero  |data|      as the disk reports them, any size
//!   tiles    |data   |zero|  data   |zero   | data |      adjacent ones joined, zeros shrunk to whole granules
//! ```
//! Shrinking only ever turns zeros into data, which costs a read and is never wrong.

/// A piece of a range, alternately data and zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    pub len: u64,
    pub zero: bool,
}

/// How a range is to be cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// A power of two. Zeros inside the range begin and end at multiples of it on the disk; those touching an end of
    /// the range reach that end.
    pub granule: u64,
    /// No more tiles than this: the rest of the range is one tile of data.
    pub max_tiles: usize,
}

/// Tiles `[start, start + len)` into `tiles`. `pieces` are (length, is zero) from `start` on; what they leave uncovered
/// is data, what reaches beyond the end is ignored.
pub fn tile(start: u64, len: u64, pieces: &[(u64, bool)], cut: Cut, tiles: &mut Vec<Tile>) {
    tiles.clear();
    let end = start + len;
    let mut tiled = start;
    let mut position = start;
    let mut pieces = pieces.iter().copied().filter(|piece| piece.0 > 0).peekable();
    while position < end && tiles.len() + 3 <= cut.max_tiles {
        let Some((piece_len, zero)) = pieces.next() else { break };
        let mut piece_end = position.saturating_add(piece_len);
        while zero && let Some((next_len, _)) = pieces.next_if(|next| next.1) {
            piece_end = piece_end.saturating_add(next_len);
        }
        let piece_end = piece_end.min(end);
        if zero {
            let from = if position == start { start } else { position.next_multiple_of(cut.granule) };
            let to = if piece_end == end { end } else { piece_end - piece_end % cut.granule };
            if from < to {
                push(tiles, from - tiled, false);
                push(tiles, to - from, true);
                tiled = to;
            }
        }
        position = piece_end;
    }
    push(tiles, end - tiled, false);
}

fn push(tiles: &mut Vec<Tile>, len: u64, zero: bool) {
    if len > 0 {
        tiles.push(Tile { len, zero });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(start: u64, len: u64, pieces: &[(u64, bool)], granule: u64, max_tiles: usize) -> Vec<(u64, bool)> {
        let mut tiles = Vec::new();
        tile(start, len, pieces, Cut { granule, max_tiles }, &mut tiles);
        tiles.iter().map(|tile| (tile.len, tile.zero)).collect()
    }

    #[test]
    fn zeros_that_touch_an_end_reach_it_and_inner_ones_shrink_to_granules() {
        let pieces = [(5120, true), (2560, false), (9216, true), (1024, false), (8192, true)];
        let tiles = [(3584, true), (4096, false), (8192, true), (4096, false), (6144, true)];
        assert_eq!(cut(512, 26112, &pieces, 4096, 64), tiles);
    }

    #[test]
    fn an_inner_hole_smaller_than_a_granule_is_data() {
        assert_eq!(cut(0, 12288, &[(4096, false), (2048, true), (6144, false)], 4096, 64), [(12288, false)]);
    }

    #[test]
    fn what_the_pieces_leave_out_is_data_and_what_is_too_long_is_cut() {
        assert_eq!(cut(0, 8192, &[], 4096, 64), [(8192, false)]);
        assert_eq!(cut(0, 8192, &[(4096, true)], 4096, 64), [(4096, true), (4096, false)]);
        assert_eq!(cut(0, 8192, &[(u64::MAX, true), (u64::MAX, true)], 4096, 64), [(8192, true)]);
    }

    #[test]
    fn a_fragmented_range_ends_in_one_tile_of_data() {
        let pieces: Vec<_> = (0..100).map(|n| (4096, n % 2 == 0)).collect();
        let tiles = cut(0, 409_600, &pieces, 4096, 8);
        assert!(tiles.len() <= 8);
        assert!(!tiles[tiles.len() - 1].1);
    }

    proptest! {
        #[test]
        fn tiles_cover_the_range_alternate_and_call_zero_only_what_is_zero(
            start in 0u64..64, pieces in prop::collection::vec((0u64..40, any::<bool>()), 0..40), len in 1u64..300, max in 3usize..20,
        ) {
            let (start, len) = (start * 512, len * 512);
            let pieces: Vec<_> = pieces.into_iter().map(|(n, zero)| (n * 512, zero)).collect();
            let tiles = cut(start, len, &pieces, 4096, max);
            let mut zeros = Vec::new();
            for &(n, zero) in &pieces {
                zeros.extend(std::iter::repeat_n(zero, (n / 512) as usize));
            }
            prop_assert!(tiles.len() <= max);
            prop_assert_eq!(tiles.iter().map(|tile| tile.0).sum::<u64>(), len);
            let mut at = 0;
            for (n, &(tile_len, zero)) in tiles.iter().enumerate() {
                prop_assert!(n == 0 || tiles[n - 1].1 != zero);
                if zero {
                    prop_assert!(zeros[(at / 512) as usize..((at + tile_len) / 512) as usize].iter().all(|&zero| zero));
                    prop_assert!(at == 0 || (start + at) % 4096 == 0);
                    prop_assert!(at + tile_len == len || (start + at + tile_len) % 4096 == 0);
                }
                at += tile_len;
            }
        }
    }
}
