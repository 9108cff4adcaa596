//! Finds out which parts of a source hold data: the copier never reads a hole, and a new target reads as zeros.

use crate::disk::ByteRange;
use crate::mirror::Event;
use crate::service::{Engine, ServiceGone, SidePage};

/// Ranges given to the machine in one go, and the longest of them: bounds how long the reactor is busy with it (a bit for each 64 KiB).
const BATCH: usize = 256;
const RANGE_BYTES_MAX: u64 = 64 << 30;
const BATCH_BYTES_MAX: u64 = 2 * RANGE_BYTES_MAX;

/// Runs on a thread of its own. A service that is gone ends it: the process is ending.
pub fn scan(engine: &Engine, driver: u32) {
    drop(scan_all(engine, driver));
}

fn scan_all(engine: &Engine, driver: u32) -> Result<(), ServiceGone> {
    for member in 0..engine.call(move |s| s.members(driver))? {
        let mut batch = Batch { engine, driver, member, ranges: Vec::new(), bytes: 0 };
        let mut from = 0;
        while let Some(page) = engine.call(move |s| s.source_page(driver, member, from))? {
            scan_page(&page, &mut batch)?;
            from = page.pieces.range.end();
        }
        batch.send()?;
        engine.post(move |s| s.move_event(driver, Event::AllocationKnown { disk: member }))?;
    }
    Ok(())
}

fn scan_page(page: &SidePage, batch: &mut Batch<'_>) -> Result<(), ServiceGone> {
    let range = page.pieces.range;
    let look = page.look();
    let mut at = range.start;
    while at < range.end() {
        let data = match look.as_ref().map(|look| look.next_data(at)) {
            Ok(Ok(Some(data))) => data,
            Ok(Ok(None)) => return Ok(()),
            // What cannot be asked for its holes is copied whole.
            Ok(Err(_)) | Err(_) => ByteRange::new(at, range.end() - at),
        };
        batch.add(data)?;
        at = data.end();
    }
    Ok(())
}

struct Batch<'a> {
    engine: &'a Engine,
    driver: u32,
    member: u32,
    ranges: Vec<ByteRange>,
    bytes: u64,
}

impl Batch<'_> {
    fn add(&mut self, data: ByteRange) -> Result<(), ServiceGone> {
        let mut at = data.start;
        while at < data.end() {
            let len = RANGE_BYTES_MAX.min(data.end() - at);
            self.ranges.push(ByteRange::new(at, len));
            self.bytes += len;
            at += len;
            if self.ranges.len() == BATCH || self.bytes >= BATCH_BYTES_MAX {
                self.send()?;
            }
        }
        Ok(())
    }

    /// Returns when the machine has it: no more than one batch waits.
    fn send(&mut self) -> Result<(), ServiceGone> {
        let (driver, member, ranges) = (self.driver, self.member, std::mem::take(&mut self.ranges));
        self.bytes = 0;
        self.engine.call(move |s| {
            for range in ranges {
                s.move_event(driver, Event::MarkAllocated { disk: member, range });
            }
        })
    }
}
