//! Pieces of a guest range joined where they follow each other: a sequentially written disk is read in few large pieces.

use crate::formats::image_map::Extent;

/// Appends an extent, merging it with the one before if that was appended in the same call (`from` on).
pub fn push(out: &mut Vec<Extent>, from: usize, offset: Option<u64>, len: u64) {
    let last = if out.len() > from { out.last_mut() } else { None };
    match (last, offset) {
        (Some(Extent::Data { file_offset, len: before }), Some(offset)) if *file_offset + *before == offset => {
            *before += len
        }
        (Some(Extent::Zero { len: before }), None) => *before += len,
        (_, Some(file_offset)) => out.push(Extent::Data { file_offset, len }),
        (_, None) => out.push(Extent::Zero { len }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_call_are_joined_and_what_the_caller_had_is_left_alone() {
        let mut out = vec![Extent::Data { file_offset: 0, len: 100 }];
        for (offset, len) in [(Some(100), 50), (Some(150), 50), (None, 10), (None, 20), (Some(500), 1), (Some(400), 1)]
        {
            push(&mut out, 1, offset, len);
        }
        assert_eq!(
            out,
            [
                Extent::Data { file_offset: 0, len: 100 },
                Extent::Data { file_offset: 100, len: 100 },
                Extent::Zero { len: 30 },
                Extent::Data { file_offset: 500, len: 1 },
                Extent::Data { file_offset: 400, len: 1 },
            ]
        );
    }
}
