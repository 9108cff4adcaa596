//! The sending half of a connection: one send at a time, started at the end of a turn so that everything answered in
//! the turn goes out together.

use std::os::fd::AsRawFd;

use super::connection::{Connection, Surroundings};
use super::outbox::{Next, Sending};
use crate::disk::Errno;
use crate::exports::ExportCx;
use crate::reactor::Op;

impl Connection {
    /// Starts the next send, if none is under way: everything that was answered in this turn goes out together.
    pub fn end_turn(&mut self, with: &mut Surroundings<'_>) {
        if self.sending != Sending::Nothing || self.is_broken() {
            return;
        }
        self.sending = match self.outbox.next() {
            Next::Nothing => return,
            Next::Replies => Sending::Replies,
            Next::Read(job) => Sending::Run { job, run: 0, sent: 0 },
        };
        self.send(with.cx);
    }

    /// Sends the rest of what `sending` names.
    fn send(&mut self, cx: &mut dyn ExportCx) {
        let (buf, len) = match self.sending {
            Sending::Nothing => return,
            Sending::Replies => (self.outbox.flying().as_ptr(), self.outbox.flying().len()),
            Sending::Run { job, run, sent } => {
                let job = self.jobs.get(job);
                let (Some(buffer), Some(run)) = (&job.buffer, job.runs.get(run)) else { return };
                (buffer.at(run.send_position + sent).cast_const(), run.send_len - sent)
            }
        };
        let op = Op::Send { fd: self.socket.as_raw_fd(), buf, len: len as u32 };
        // SAFETY: `flying` is not touched and the job not released while `sending` names them; both stay where they are
        // when the connection moves. The socket is closed with the connection.
        unsafe { cx.submit(op, u32::from(self.index) << 1 | 1) };
    }

    pub fn on_sent(&mut self, result: Result<u32, Errno>, with: &mut Surroundings<'_>) {
        let sending = std::mem::replace(&mut self.sending, Sending::Nothing);
        let failed = !matches!(result, Ok(1..) | Err(libc::EINTR | libc::EAGAIN));
        if failed {
            self.break_off(with.pool);
        }
        if self.is_broken() {
            if let Sending::Run { job, .. } = sending {
                self.jobs.release(job, with.pool);
            }
            return;
        }
        let count = result.unwrap_or(0) as usize;
        self.sending = match sending {
            Sending::Nothing => Sending::Nothing,
            Sending::Replies => {
                self.outbox.flew(count);
                if self.outbox.flying().is_empty() { Sending::Nothing } else { Sending::Replies }
            }
            Sending::Run { job, run, sent } => {
                let runs = &self.jobs.get(job).runs;
                let sent = sent + count;
                if runs.get(run).is_some_and(|run| sent < run.send_len) {
                    Sending::Run { job, run, sent }
                } else if run + 1 < runs.len() {
                    Sending::Run { job, run: run + 1, sent: 0 }
                } else {
                    self.jobs.release(job, with.pool);
                    Sending::Nothing
                }
            }
        };
        if self.sending == Sending::Nothing {
            // A place, or room for replies, has become free.
            self.advance(with);
        } else {
            self.send(with.cx);
        }
    }
}
