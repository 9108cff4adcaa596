//! Blocks that are being given a place, and who waits for them.
//!
//! Blocks queue in the order they were first asked for; each gets a ticket, counted up. They are resolved in the same order,
//! several at a time, so a waiter needs to know only the highest of its tickets. A block is in the queue once, however many
//! writers want it: the queue is bounded by the disk's blocks, the waiters by the caller's requests.

use std::collections::{HashMap, VecDeque};

use crate::disk::Errno;

#[derive(Default)]
pub struct AllocationQueue {
    queued: VecDeque<u64>,
    /// Of every block queued or taken and not yet resolved.
    tickets: HashMap<u64, u64>,
    issued: u64,
    resolved: u64,
    waiters: Vec<(u64, u64)>,
    ready: Vec<(u64, Result<(), Errno>)>,
}

impl AllocationQueue {
    /// The ticket of a block that has no place, queueing it if it is not queued yet. Never 0.
    pub fn want(&mut self, block: u64) -> u64 {
        *self.tickets.entry(block).or_insert_with(|| {
            self.queued.push_back(block);
            self.issued += 1;
            self.issued
        })
    }

    /// `waiter` is told when `ticket` and all before it are resolved.
    pub fn wait(&mut self, waiter: u64, ticket: u64) {
        self.waiters.push((waiter, ticket));
    }

    /// `waiter` is told at once.
    pub fn tell(&mut self, waiter: u64, result: Result<(), Errno>) {
        self.ready.push((waiter, result));
    }

    /// Takes the next blocks as long as `accept` says yes. They are still to be resolved.
    pub fn take(&mut self, mut accept: impl FnMut(u64) -> bool) -> Vec<u64> {
        let count = self.queued.iter().take_while(|block| accept(**block)).count();
        self.queued.drain(..count).collect()
    }

    /// The oldest taken blocks have a place, or will not get one.
    pub fn resolve(&mut self, blocks: impl Iterator<Item = u64>, result: Result<(), Errno>) {
        for block in blocks {
            if let Some(ticket) = self.tickets.remove(&block) {
                self.resolved = self.resolved.max(ticket);
            }
        }
        let (resolved, ready) = (self.resolved, &mut self.ready);
        self.waiters.retain(|&(waiter, ticket)| {
            if ticket <= resolved {
                ready.push((waiter, result));
            }
            ticket > resolved
        });
    }

    /// Nothing queued or taken will get a place any more.
    pub fn fail_all(&mut self, errno: Errno) {
        self.queued.clear();
        self.tickets.clear();
        self.resolved = self.issued;
        self.ready.extend(self.waiters.drain(..).map(|(waiter, _)| (waiter, Err(errno))));
    }

    pub fn take_ready(&mut self, out: &mut Vec<(u64, Result<(), Errno>)>) {
        out.append(&mut self.ready);
    }

    /// Nothing queued. Blocks may be taken and unresolved.
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(queue: &mut AllocationQueue) -> Vec<(u64, Result<(), Errno>)> {
        let mut out = Vec::new();
        queue.take_ready(&mut out);
        out
    }

    #[test]
    fn a_block_is_queued_once_and_all_its_waiters_are_told() {
        let mut queue = AllocationQueue::default();
        let ticket = queue.want(9);
        assert_eq!(queue.want(9), ticket);
        queue.wait(1, ticket);
        queue.wait(2, ticket);
        assert_eq!(queue.take(|_| true), [9]);
        queue.resolve([9].into_iter(), Ok(()));
        assert_eq!(ready(&mut queue), [(1, Ok(())), (2, Ok(()))]);
    }

    #[test]
    fn a_waiter_waits_for_the_last_of_its_blocks() {
        let mut queue = AllocationQueue::default();
        let ticket = queue.want(5).max(queue.want(6));
        queue.wait(1, ticket);
        let mut left = 1;
        let first = queue.take(|_| std::mem::replace(&mut left, 0) == 1);
        assert_eq!(first, [5]);
        queue.resolve(first.into_iter(), Ok(()));
        assert_eq!(ready(&mut queue), []);
        let second = queue.take(|_| true);
        queue.resolve(second.into_iter(), Err(28));
        assert_eq!(ready(&mut queue), [(1, Err(28))]);
    }

    #[test]
    fn a_block_that_failed_may_be_wanted_again() {
        let mut queue = AllocationQueue::default();
        let ticket = queue.want(5);
        queue.wait(1, ticket);
        queue.take(|_| true);
        queue.fail_all(5);
        assert_eq!(ready(&mut queue), [(1, Err(5))]);
        assert!(queue.want(5) > ticket);
    }
}
