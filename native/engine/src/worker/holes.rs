//! Finds what is a hole on both sides of a moving disk: the verifier does not read it.

use std::sync::mpsc::Receiver;

use crate::disk::ByteRange;
use crate::mirror::VERIFY_UNIT_BYTES;
use crate::service::{Engine, HolesAsked, PagePair};
use crate::thread_apart::apart;

/// Holes given to the machine in one go, and ranges of data looked at for them: bounds how long the reactor is busy with the answer, and
/// how long a fragmented file keeps the verifier waiting.
const HOLES_AT_ONCE: usize = 256;
const STEPS_AT_ONCE: usize = 2048;

/// Runs on a thread of its own, until nobody can ask any more or the service is gone. Each look is another thread's: the target may hang.
pub fn find_holes(engine: &Engine, asked: &Receiver<HolesAsked>) {
    while let Ok(HolesAsked { driver, member, from }) = asked.recv() {
        let Ok(page) = engine.call(move |s| s.page_pair(driver, member, from)) else { return };
        // The move is over.
        let Some(page) = page else { continue };
        let looked = apart("look", &[], |_| holes_of(&page));
        // What cannot be asked for its holes has none: all of it is read.
        let (holes, until) = looked.flatten().unwrap_or((Vec::new(), page.range.end()));
        if engine.call(move |s| s.holes_found(driver, member, &holes, until)).is_err() {
            return;
        }
    }
}

/// The holes of both sides, and up to where that is all of them.
fn holes_of(page: &PagePair) -> std::io::Result<(Vec<ByteRange>, u64)> {
    let end = page.range.end();
    let looks = (page.source.look()?, page.target.look()?);
    let mut holes = Vec::new();
    let mut at = page.range.start;
    let [mut source, mut target] = [None, None];
    for _ in 0..STEPS_AT_ONCE {
        if holes.len() == HOLES_AT_ONCE {
            return Ok((holes, at));
        }
        // Ranges of data that end before this place say nothing of what follows.
        let stale =
            |data: &Option<Option<ByteRange>>| data.is_none_or(|data| data.is_some_and(|data| data.end() <= at));
        if stale(&source) {
            source = Some(looks.0.next_data(at)?);
        }
        if stale(&target) {
            target = Some(looks.1.next_data(at)?);
        }
        let next = [source, target].into_iter().flatten().flatten().min_by_key(|data| data.start);
        let start = next.map_or(end, |data| data.start.min(end));
        // Less than a unit is read anyway, with what is beside it.
        if start.saturating_sub(at) >= VERIFY_UNIT_BYTES || start == end && start > at {
            holes.push(ByteRange::new(at, start - at));
        }
        match next {
            Some(data) if data.end() < end => at = data.end(),
            _ => return Ok((holes, end)),
        }
    }
    Ok((holes, whole_units(at, page.range.start)))
}

/// Holes are known in whole units, and each look has to get on.
fn whole_units(at: u64, start: u64) -> u64 {
    (at / VERIFY_UNIT_BYTES * VERIFY_UNIT_BYTES).max(start + VERIFY_UNIT_BYTES)
}
