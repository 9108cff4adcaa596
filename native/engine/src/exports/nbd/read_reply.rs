//! How the answer to a READ lies in its buffer: data where the engine puts it, headers right in front, so that each run
//! of data goes out with what precedes it in one send and nothing is copied.
//!
//! ```text
//!   disk    |  data 0   |   hole   |  data 1   | hole |
//!   buffer  ....[header][ data 0   ]....[hole chunk][header][ data 1   ][hole chunk]
//!               \--- first send ---/    \------------- second send ----------------/
//!                       ^ 4096-aligned                      ^ 4096-aligned
//! ```
//! Inner holes are at least one page (see `tiles`), so a run never starts later in the buffer than
//! `BUFFER_ALIGN + its distance from the request's offset`, rounded up to a page: BUFFER_SLACK covers it.

use super::buffers::{BUFFER_ALIGN, Buffer};
use super::codec::{data_header, hole_chunk, simple_reply};
use super::tiles::{Cut, Tile};
use super::wire::{DATA_HEADER_BYTES, HOLE_CHUNK_BYTES, SIMPLE_REPLY_BYTES};

/// A READ is cut into at most 32 runs of data; a range more fragmented than that is read through its holes.
pub const READ_CUT: Cut = Cut { granule: BUFFER_ALIGN as u64, max_tiles: 64 };

/// One run of data of a READ: one request to the engine, one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub disk_offset: u64,
    /// Where the data lies in the buffer.
    pub position: usize,
    pub len: u32,
    hole_before: u32,
    /// What is sent: from here on, `send_len` bytes.
    pub send_position: usize,
    pub send_len: usize,
}

impl Run {
    /// Of whole blocks that were read, only these bytes are sent: they begin `lead` bytes into the run.
    pub fn narrow(&mut self, lead: usize, len: u32) {
        self.disk_offset += lead as u64;
        self.position += lead;
        self.len = len;
    }
}

/// Places the runs of a READ at `offset` whose range is cut into `tiles`. Returns the hole after the last run, in
/// bytes. No runs: everything is zero.
pub fn place(offset: u64, tiles: &[Tile], runs: &mut Vec<Run>) -> u32 {
    runs.clear();
    let mut disk_offset = offset;
    let mut hole_before = 0;
    let mut filled = 0;
    for tile in tiles {
        if tile.zero {
            hole_before = tile.len as u32;
        } else {
            let position = (filled + HOLE_CHUNK_BYTES + DATA_HEADER_BYTES).next_multiple_of(BUFFER_ALIGN);
            filled = position + tile.len as usize;
            runs.push(Run { disk_offset, position, len: tile.len as u32, hole_before, send_position: 0, send_len: 0 });
            hole_before = 0;
        }
        disk_offset += tile.len;
    }
    hole_before
}

/// Writes the headers of a structured answer around the data and fixes what is to be sent.
///
/// # Safety
/// The engine is done with `buffer` and nobody else uses it.
pub unsafe fn put_chunk_headers(buffer: &Buffer, cookie: u64, runs: &mut [Run], hole_after: u32) {
    let last = runs.len().saturating_sub(1);
    for (index, run) in runs.iter_mut().enumerate() {
        let ends = index == last && hole_after == 0;
        let header = run.position - DATA_HEADER_BYTES;
        let end = run.position + run.len as usize;
        // SAFETY: the buffer is the caller's alone; the page before each run is free for its headers.
        unsafe { buffer.write(header, &data_header(ends, cookie, run.disk_offset, run.len)) };
        run.send_position = header;
        run.send_len = end - header;
        if run.hole_before > 0 {
            run.send_position -= HOLE_CHUNK_BYTES;
            run.send_len += HOLE_CHUNK_BYTES;
            let chunk = hole_chunk(false, cookie, run.disk_offset - u64::from(run.hole_before), run.hole_before);
            // SAFETY: as above.
            unsafe { buffer.write(run.send_position, &chunk) };
        }
        if index == last && hole_after > 0 {
            let chunk = hole_chunk(true, cookie, run.disk_offset + u64::from(run.len), hole_after);
            // SAFETY: as above; BUFFER_SLACK leaves room behind the data.
            unsafe { buffer.write(end, &chunk) };
            run.send_len += HOLE_CHUNK_BYTES;
        }
    }
}

/// The header of a simple reply, in front of its only run.
///
/// # Safety
/// As for [`put_chunk_headers`].
pub unsafe fn put_simple_header(buffer: &Buffer, cookie: u64, run: &mut Run) {
    run.send_position = run.position - SIMPLE_REPLY_BYTES;
    run.send_len = SIMPLE_REPLY_BYTES + run.len as usize;
    // SAFETY: the buffer is the caller's alone; the page before the run is free for its header.
    unsafe { buffer.write(run.send_position, &simple_reply(0, cookie)) };
}

#[cfg(test)]
mod tests {
    use super::super::buffers::BUFFER_SLACK;
    use super::super::tiles::tile;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_run_is_aligned_has_room_for_its_headers_and_fits_the_buffer(
            start in 0u64..32, len in 1u64..2000, pieces in prop::collection::vec((1u64..200, any::<bool>()), 0..40),
        ) {
            let (start, len) = (start * 512, len * 512);
            let pieces: Vec<_> = pieces.into_iter().map(|(n, zero)| (n * 512, zero)).collect();
            let (mut tiles, mut runs) = (Vec::new(), Vec::new());
            tile(start, len, &pieces, READ_CUT, &mut tiles);
            let hole_after = place(start, &tiles, &mut runs);
            let buffer = Buffer::new(len as usize + BUFFER_SLACK).unwrap();
            // SAFETY: nobody else knows the buffer.
            unsafe { put_chunk_headers(&buffer, 7, &mut runs, hole_after) };
            let mut filled = 0;
            let mut covered = 0;
            for run in &runs {
                prop_assert_eq!(run.position % BUFFER_ALIGN, 0);
                prop_assert!(run.send_position >= filled);
                filled = run.send_position + run.send_len;
                prop_assert!(filled <= buffer.capacity());
                covered += u64::from(run.len + run.hole_before);
            }
            prop_assert_eq!(covered + u64::from(hole_after), len);
        }
    }
}
