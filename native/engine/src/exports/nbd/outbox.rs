//! What waits to be sent on one connection: small replies, gathered into one send per turn, and answers to large reads,
//! sent from where their data lies.

use std::collections::VecDeque;

use super::jobs::{JobId, MAX_JOBS};

/// Replies waiting beyond this: the client does not read, so nothing more is taken from it until it does. What is
/// already under way may exceed it by MAX_JOBS small replies.
const FULL_BYTES: usize = 256 << 10;
/// A send buffer that grew beyond this is not kept for the next time.
const KEEP_BYTES: usize = 1 << 20;

/// What is being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    Nothing,
    Replies,
    Run { job: JobId, run: usize, sent: usize },
}

/// A span of memory to be sent, which stays put until it was.
pub enum Next {
    Nothing,
    Replies,
    Read(JobId),
}

#[derive(Debug)]
pub struct Outbox {
    filling: Vec<u8>,
    /// Lent to the kernel while `Sending::Replies`.
    flying: Vec<u8>,
    flown: usize,
    reads: VecDeque<JobId>,
    read_is_next: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        let reads = VecDeque::with_capacity(MAX_JOBS);
        Self { filling: Vec::new(), flying: Vec::new(), flown: 0, reads, read_is_next: false }
    }
}

impl Outbox {
    /// Where small replies are appended.
    pub fn replies(&mut self) -> &mut Vec<u8> {
        &mut self.filling
    }

    pub fn push_read(&mut self, job: JobId) {
        self.reads.push_back(job);
    }

    pub fn is_full(&self) -> bool {
        self.filling.len() >= FULL_BYTES
    }

    /// Nothing waits (something may still be flying).
    pub fn is_empty(&self) -> bool {
        self.filling.is_empty() && self.reads.is_empty()
    }

    /// Decides what is sent next; replies and reads take turns. Call only when nothing is being sent.
    pub fn next(&mut self) -> Next {
        if (self.read_is_next || self.filling.is_empty())
            && let Some(job) = self.reads.pop_front()
        {
            self.read_is_next = false;
            return Next::Read(job);
        }
        if self.filling.is_empty() {
            return Next::Nothing;
        }
        self.read_is_next = true;
        if self.flying.capacity() > KEEP_BYTES {
            self.flying = Vec::new();
        }
        self.flying.clear();
        self.flown = 0;
        std::mem::swap(&mut self.filling, &mut self.flying);
        Next::Replies
    }

    /// The rest of the replies being sent.
    pub fn flying(&self) -> &[u8] {
        &self.flying[self.flown..]
    }

    pub fn flew(&mut self, bytes: usize) {
        self.flown = (self.flown + bytes).min(self.flying.len());
    }

    /// Gives up what waits; the jobs of waiting reads come back.
    pub fn clear(&mut self) -> impl Iterator<Item = JobId> + '_ {
        self.filling.clear();
        self.reads.drain(..)
    }
}
