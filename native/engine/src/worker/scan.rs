//! Finds out which parts of a source hold data: the copier never reads a hole, and a new target reads as zeros.

use crate::disk::ByteRange;
use crate::file::next_data;
use crate::mirror::Event;
use crate::service::{Engine, ScanTask};

/// Ranges given to the machine in one go: bounds how long the reactor is busy with it.
const BATCH: usize = 256;

/// Runs on a thread of its own. A service that is gone ends it: the process is ending.
pub fn scan(engine: &Engine, driver: u32, tasks: Vec<ScanTask>) {
    for task in tasks {
        // A source whose holes cannot be asked for is copied whole.
        if scan_one(engine, driver, &task).is_err() {
            let whole: Vec<ByteRange> = task.pieces.iter().map(|(range, _)| *range).collect();
            send(engine, driver, task.member, whole);
        }
        let event = Event::AllocationKnown { disk: task.member };
        if engine.post(move |s| s.move_event(driver, event)).is_err() {
            return;
        }
    }
}

fn scan_one(engine: &Engine, driver: u32, task: &ScanTask) -> std::io::Result<()> {
    let file = task.file.as_ref().map_err(|e| std::io::Error::from(e.kind()))?;
    let mut batch = Vec::with_capacity(BATCH);
    for (guest, file_offset) in &task.pieces {
        let end = file_offset + guest.len;
        let mut at = *file_offset;
        while let Some(data) = next_data(file, at, end)? {
            batch.push(ByteRange::new(guest.start + (data.start - file_offset), data.len));
            at = data.end();
            if batch.len() == BATCH {
                send(engine, driver, task.member, std::mem::take(&mut batch));
            }
        }
    }
    send(engine, driver, task.member, batch);
    Ok(())
}

fn send(engine: &Engine, driver: u32, member: u32, ranges: Vec<ByteRange>) {
    // A gone service ends the process; nobody waits for the scan then.
    drop(engine.call(move |s| {
        for range in ranges {
            s.move_event(driver, Event::MarkAllocated { disk: member, range });
        }
    }));
}
