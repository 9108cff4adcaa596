//! What an export sees of the service during a callback.

use std::collections::VecDeque;

use crate::disk::{ByteRange, IoVecs, Request};
use crate::exports::{DiskFacts, ExportCx};
use crate::image::Image;
use crate::reactor::{Op, Reactor, Token};

pub struct Cx<'a> {
    pub export: u32,
    pub owner: u32,
    pub facts: DiskFacts,
    pub reactor: &'a mut dyn Reactor,
    pub image: Option<&'a mut Image>,
    pub incoming: &'a mut VecDeque<(u32, Request)>,
    pub iovecs: &'a mut Vec<IoVecs>,
    pub pending_io: &'a mut u32,
    pub close: &'a mut bool,
}

impl ExportCx for Cx<'_> {
    fn request(&mut self, request: Request) {
        self.incoming.push_back((self.export, request));
    }

    unsafe fn submit(&mut self, op: Op, slot: u32) {
        *self.pending_io += 1;
        // SAFETY: the export promised the same to us.
        unsafe { self.reactor.submit(op, Token { owner: self.owner, slot }) };
    }

    fn take_iovecs(&mut self) -> IoVecs {
        self.iovecs.pop().unwrap_or_default()
    }

    fn facts(&self) -> DiskFacts {
        self.facts
    }

    fn allocation(&mut self, offset: u64, len: u64, out: &mut Vec<(u64, bool)>) {
        match &mut self.image {
            Some(image) => image.allocation(ByteRange::new(offset, len), out),
            None => out.push((len, false)),
        }
    }

    fn close(&mut self) {
        *self.close = true;
    }
}
