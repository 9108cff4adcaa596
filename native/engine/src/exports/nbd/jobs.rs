//! The requests of one connection that were taken and are not answered yet.

use std::sync::Arc;

use super::buffers::{Buffer, BufferPool};
use super::bytewise::Pass;
use super::codec::MAX_PAYLOAD_BYTES;
use super::read_reply::Run;
use super::transmission::Plan;
use super::wire::RequestHeader;
use crate::disk::Errno;

/// Requests under way per connection. More than a queue depth anyone uses; a client that sends on is simply not read
/// from.
pub const MAX_JOBS: usize = 128;
/// Payload bytes under way per connection: one request of the maximum length always fits, alone if it must.
pub const MAX_JOB_BYTES: u32 = MAX_PAYLOAD_BYTES;

/// The number of a job in its table.
pub type JobId = u16;

#[derive(Debug)]
pub struct Job {
    pub request: RequestHeader,
    pub plan: Plan,
    pub buffer: Option<Arc<Buffer>>,
    /// READ: the pieces of its answer. Keeps its capacity from job to job.
    pub runs: Vec<Run>,
    pub hole_after: u32,
    /// Engine requests not done yet.
    pub waiting: u32,
    /// The first error of any of them.
    pub failed: Option<Errno>,
    /// A TRIM or WRITE_ZEROES with FUA is done and its flush is under way.
    pub flushing: bool,
    /// What it may do beside the writes of others.
    pub pass: Pass,
    /// The first and the last block of a request that is not whole blocks, while they are read; see `bytewise`.
    pub edges: Option<Arc<Buffer>>,
}

pub struct JobTable {
    jobs: Vec<Job>,
    free: Vec<JobId>,
    bytes: u32,
}

impl Default for JobTable {
    fn default() -> Self {
        Self { jobs: Vec::new(), free: Vec::with_capacity(MAX_JOBS), bytes: 0 }
    }
}

impl JobTable {
    pub fn has_room(&self, payload: u32) -> bool {
        let has_slot = !self.free.is_empty() || self.jobs.len() < MAX_JOBS;
        has_slot && (self.bytes == 0 || self.bytes.saturating_add(payload) <= MAX_JOB_BYTES)
    }

    /// Ask [`JobTable::has_room`] first; `buffer` is counted by the request's payload.
    pub fn add(&mut self, request: RequestHeader, plan: Plan, buffer: Option<Arc<Buffer>>) -> JobId {
        self.bytes += plan.payload_bytes(&request);
        let runs = Vec::new();
        let job = Job {
            request,
            plan,
            buffer,
            runs,
            hole_after: 0,
            waiting: 0,
            failed: None,
            flushing: false,
            pass: Pass::None,
            edges: None,
        };
        match self.free.pop() {
            Some(id) => {
                let place = &mut self.jobs[usize::from(id)];
                let runs = std::mem::take(&mut place.runs);
                *place = Job { runs, ..job };
                id
            }
            None => {
                self.jobs.push(job);
                (self.jobs.len() - 1) as JobId
            }
        }
    }

    pub fn release(&mut self, id: JobId, pool: &mut BufferPool) {
        let job = &mut self.jobs[usize::from(id)];
        self.bytes -= job.plan.payload_bytes(&job.request);
        job.runs.clear();
        for buffer in [job.buffer.take(), job.edges.take()].into_iter().flatten() {
            pool.put(buffer);
        }
        self.free.push(id);
    }

    pub fn get(&self, id: JobId) -> &Job {
        &self.jobs[usize::from(id)]
    }

    pub fn get_mut(&mut self, id: JobId) -> &mut Job {
        &mut self.jobs[usize::from(id)]
    }

    pub fn is_empty(&self) -> bool {
        self.free.len() == self.jobs.len()
    }
}
