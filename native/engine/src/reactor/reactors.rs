//! The main reactor and its lanes: one turn for all of them, on one thread.

use std::io;

use super::bell::Bell;
use super::lane::{BELL, Lane};
use super::{Completion, Op, Reactor, Token, Wait};
use crate::disk::FileSystemId;

/// Lanes at a time, those that hang and outlive their move included. A move has one for each file system, so that this many moves would
/// have to hang under one VM.
pub const LANES_MAX: usize = 64;

/// Says which lane. The number of one that has ended may be given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneId(u32);

enum Slot {
    Free,
    Open(Lane),
    /// Ended; the poll of its bell is still to complete.
    Leaving(#[expect(dead_code, reason = "keeps the polled descriptor open")] Bell),
}

impl Slot {
    fn lane(&self) -> Option<&Lane> {
        match self {
            Slot::Open(lane) => Some(lane),
            Slot::Free | Slot::Leaving(_) => None,
        }
    }

    fn lane_mut(&mut self) -> Option<&mut Lane> {
        match self {
            Slot::Open(lane) => Some(lane),
            Slot::Free | Slot::Leaving(_) => None,
        }
    }
}

pub struct Reactors {
    main: Box<dyn Reactor>,
    lanes: Vec<Slot>,
}

impl Reactors {
    pub fn new(main: Box<dyn Reactor>) -> Self {
        Self { main, lanes: Vec::new() }
    }

    pub fn main(&mut self) -> &mut dyn Reactor {
        self.main.as_mut()
    }

    /// That lane; the main reactor for none.
    pub fn of(&mut self, lane: Option<LaneId>) -> &mut dyn Reactor {
        match lane.and_then(|LaneId(number)| self.lanes.get_mut(number as usize)?.lane_mut()) {
            Some(lane) => lane,
            None => self.main.as_mut(),
        }
    }

    /// # Errors
    /// The lane ends, and its file system is told, when there are [`LANES_MAX`].
    pub fn add(&mut self, lane: Lane) -> Result<LaneId, FileSystemId> {
        let is_free = |slot: &Slot| matches!(slot, Slot::Free);
        let number = self.lanes.iter().position(is_free).unwrap_or(self.lanes.len());
        if number == LANES_MAX {
            return Err(lane.file_system());
        }
        if number == self.lanes.len() {
            self.lanes.push(Slot::Free);
        }
        self.lanes[number] = Slot::Open(lane);
        self.listen(number);
        Ok(LaneId(number as u32))
    }

    /// Takes out the lanes for which `is_used` says no and on which nothing is under way any more. They end when they are dropped.
    pub fn take_unused(&mut self, is_used: impl Fn(LaneId) -> bool) -> Vec<Lane> {
        let mut unused = Vec::new();
        for (number, slot) in self.lanes.iter_mut().enumerate() {
            let is_over = |lane: &Lane| lane.in_flight() == 0 && !is_used(LaneId(number as u32));
            if slot.lane().is_some_and(is_over)
                && let Slot::Open(lane) = std::mem::replace(slot, Slot::Free)
            {
                *slot = Slot::Leaving(lane.leave());
                unused.push(lane);
            }
        }
        unused
    }

    /// Lanes at work.
    pub fn lane_count(&self) -> usize {
        self.lanes.iter().filter_map(Slot::lane).count()
    }

    /// As [`Reactor::turn`], for all.
    pub fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        if self.lanes.is_empty() {
            return self.main.turn(wait, out);
        }
        let before = out.len();
        let mut wait = wait;
        self.take(out);
        if matches!(wait, Wait::AtMost(_))
            && (out.len() > before || !self.lanes.iter().filter_map(Slot::lane).all(Lane::may_sleep))
        {
            wait = Wait::No;
        }
        self.main.turn(wait, out)?;
        self.hear(before, out);
        self.take(out);
        Ok(())
    }

    fn take(&mut self, out: &mut Vec<Completion>) {
        for lane in self.lanes.iter_mut().filter_map(Slot::lane_mut) {
            lane.take(out);
        }
    }

    fn listen(&mut self, number: usize) {
        if let Some(lane) = self.lanes[number].lane() {
            let token = Token { owner: BELL.owner, slot: number as u32 };
            // SAFETY: no memory is involved; the slot keeps the descriptor until the completion has been heard.
            unsafe { self.main.submit(Op::PollIn { fd: lane.bell_fd() }, token) };
        }
    }

    /// Takes the bells' completions out of the others.
    fn hear(&mut self, from: usize, out: &mut Vec<Completion>) {
        let mut at = from;
        while at < out.len() {
            if out[at].token.owner != BELL.owner {
                at += 1;
                continue;
            }
            let number = out.remove(at).token.slot as usize;
            match &self.lanes[number] {
                Slot::Open(lane) => {
                    lane.silence();
                    self.listen(number);
                }
                Slot::Leaving(_) | Slot::Free => self.lanes[number] = Slot::Free,
            }
        }
        while matches!(self.lanes.last(), Some(Slot::Free)) {
            self.lanes.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, RawFd};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::reactor::{OpenReactor, open_reactor};

    const PATIENCE: Duration = Duration::from_secs(60);
    const HERE: FileSystemId = FileSystemId(1);

    fn opener() -> OpenReactor {
        Arc::new(|| open_reactor(64))
    }

    fn open(file_system: FileSystemId, files: &[RawFd]) -> Lane {
        Lane::open(file_system, &opener(), files).unwrap()
    }

    fn reactors() -> Reactors {
        Reactors::new(open_reactor(64).unwrap())
    }

    fn write(file: &std::fs::File, iov: &libc::iovec) -> Op {
        Op::Writev { fd: file.as_raw_fd(), offset: 0, iov, count: 1 }
    }

    #[test]
    fn every_operation_of_a_lane_completes_once_however_many_there_are() {
        let file = tempfile::tempfile().unwrap();
        let mut bytes = [7u8; 16];
        let iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let mut reactors = reactors();
        let lane = reactors.add(open(HERE, &[file.as_raw_fd()])).ok();
        // More than fit into the rings, in bursts, so that either end sleeps and is woken now and then.
        let all: u32 = 20_000;
        let mut seen = vec![false; all as usize];
        let (mut given, mut out) = (0, Vec::new());
        let since = Instant::now();
        while seen.contains(&false) {
            assert!(since.elapsed() < PATIENCE, "{} of {all} given", given);
            let burst = given..(given + given % 2_500 + 1).min(all);
            given = burst.end;
            for slot in burst {
                // SAFETY: buffer and file outlive the completions waited for.
                unsafe { reactors.of(lane).submit(write(&file, &iov), Token { owner: 5, slot }) };
            }
            reactors.turn(Wait::AtMost(PATIENCE), &mut out).unwrap();
            for completion in out.drain(..) {
                assert_eq!((completion.token.owner, completion.result), (5, Ok(16)));
                assert!(!std::mem::replace(&mut seen[completion.token.slot as usize], true), "twice");
            }
        }
        assert_eq!(reactors.of(lane).in_flight(), 0);
    }

    #[test]
    fn what_completes_on_a_lane_ends_the_sleep_of_the_reactor() {
        let file = tempfile::tempfile().unwrap();
        let mut bytes = [7u8; 16];
        let iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let mut reactors = reactors();
        let lane = reactors.add(open(HERE, &[file.as_raw_fd()])).ok();
        let (mut out, since) = (Vec::new(), Instant::now());
        for slot in 0..100 {
            // SAFETY: as above.
            unsafe { reactors.of(lane).submit(write(&file, &iov), Token { owner: 5, slot }) };
            while out.is_empty() {
                reactors.turn(Wait::AtMost(PATIENCE), &mut out).unwrap();
            }
            out.clear();
        }
        assert!(since.elapsed() < PATIENCE, "a wake-up was lost");
    }

    #[test]
    fn a_lane_that_nobody_uses_ends_and_leaves_nothing_in_the_main_reactor() {
        let mut reactors = reactors();
        let mut out = Vec::new();
        for _ in 0..3 * LANES_MAX {
            reactors.add(open(HERE, &[])).ok().unwrap();
            assert!(reactors.take_unused(|_| true).is_empty());
            assert_eq!(reactors.lane_count(), 1);
            let mut unused = reactors.take_unused(|_| false);
            assert_eq!((reactors.lane_count(), unused.len()), (0, 1));
            assert!(unused.remove(0).end(PATIENCE));
            let since = Instant::now();
            while reactors.main().in_flight() > 0 && since.elapsed() < PATIENCE {
                reactors.turn(Wait::AtMost(PATIENCE), &mut out).unwrap();
            }
            assert!(out.is_empty() && reactors.lanes.is_empty());
        }
    }

    #[test]
    fn there_is_a_limit_to_the_lanes_of_file_systems_that_hang() {
        let mut reactors = reactors();
        for number in 0..LANES_MAX as u64 {
            assert!(reactors.add(open(FileSystemId(number), &[])).is_ok());
        }
        let one_more = reactors.add(open(FileSystemId(999), &[]));
        assert_eq!(one_more.err(), Some(FileSystemId(999)));
    }
}
