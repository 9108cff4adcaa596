//! The thread-pool reactor.
use super::{Completion, Op, Reactor, Token, Wait};
pub struct ThreadReactor;
impl ThreadReactor {
    pub fn new(_entries: u32) -> std::io::Result<Self> {
        Ok(Self)
    }
}
impl Reactor for ThreadReactor {
    unsafe fn submit(&mut self, _op: Op, _token: Token) {}
    fn turn(&mut self, _wait: Wait, _out: &mut Vec<Completion>) -> std::io::Result<()> {
        Ok(())
    }
    fn in_flight(&self) -> usize {
        0
    }
    fn name(&self) -> &'static str {
        "threads"
    }
}
