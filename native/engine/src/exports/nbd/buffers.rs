//! Page-aligned memory for payloads, pooled by size.
//!
//! A buffer is lent out three ways at once: to the engine (by the iovecs of a request, kept mapped by `Request::keep`),
//! to the kernel (a receive or send on the socket) and to the connection that fills in headers. So it is raw memory
//! behind an `Arc`, never a slice, and goes back into use only when the pool holds the last reference: a write the
//! engine has acknowledged but still has under way somewhere keeps its bytes to itself.

use std::ptr::NonNull;
use std::sync::Arc;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::codec::MAX_PAYLOAD_BYTES;

/// Data starts at multiples of this: what O_DIRECT below may ask for.
pub const BUFFER_ALIGN: usize = 4096;
/// Room beyond the payload: reply headers before the data, and one page for alignment (see `read_reply`).
pub const BUFFER_SLACK: usize = 3 * BUFFER_ALIGN;
/// Payload sizes of the classes. Memory is mapped, not touched, so a small request in a large class costs two pages.
const CLASS_BYTES: [usize; 5] = [64 << 10, 256 << 10, 1 << 20, 4 << 20, MAX_PAYLOAD_BYTES as usize];
/// Idle memory kept for each open connection: what one connection may have under way.
pub const KEEP_BYTES_PER_CONNECTION: usize = MAX_PAYLOAD_BYTES as usize;
/// Buffers still referenced elsewhere that the pool looks after; beyond that it lets its own reference go.
const MAX_COOLING: usize = 1024;

/// Memory that stays where it is until the last reference is gone.
#[derive(Debug)]
pub struct Buffer {
    memory: NonNull<u8>,
    capacity: usize,
}

// SAFETY: the memory belongs to this value alone and is reached only through raw pointers, whose users keep to the
// protocol of lending: one party at a time writes, and nobody reads what may be written.
unsafe impl Send for Buffer {}
// SAFETY: as above; the type itself has no method that reads or writes without a promise of the caller.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Zeroed memory; fails only where the system has none left.
    pub fn new(capacity: usize) -> std::io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new anonymous mapping at an address the kernel chooses touches no existing memory.
        let memory =
            unsafe { mmap_anonymous(std::ptr::null_mut(), capacity, ProtFlags::READ | ProtFlags::WRITE, flags)? };
        let memory =
            NonNull::new(memory.cast::<u8>()).ok_or_else(|| std::io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { memory, capacity })
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Where `len` bytes from `position` on live; the end of the buffer limits both, so that no caller can leave it.
    fn clamp(&self, position: usize, len: usize) -> (*mut u8, usize) {
        let position = position.min(self.capacity);
        // SAFETY: `position` is at most `capacity`, so the result is inside the mapping or one past its end.
        (unsafe { self.memory.as_ptr().add(position) }, len.min(self.capacity - position))
    }

    pub fn at(&self, position: usize) -> *mut u8 {
        self.clamp(position, 0).0
    }

    /// # Safety
    /// Nobody else reads or writes the range during the call.
    pub unsafe fn write(&self, position: usize, bytes: &[u8]) {
        let (target, room) = self.clamp(position, bytes.len());
        // SAFETY: `target` is valid for `room` bytes, `bytes` for at least as many, and they are different objects.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, room) }
    }

    /// # Safety
    /// Nobody writes the range while the result lives.
    pub unsafe fn bytes(&self, position: usize, len: usize) -> &[u8] {
        let (source, len) = self.clamp(position, len);
        // SAFETY: the mapping is initialised (zero pages) and at least `len` bytes long from `source` on.
        unsafe { std::slice::from_raw_parts(source, len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; the last reference is gone, so nothing points into it.
        let unmapped = unsafe { munmap(self.memory.as_ptr().cast(), self.capacity) };
        debug_assert!(unmapped.is_ok(), "a whole mapping of our own can always be unmapped");
    }
}

#[derive(Debug, Default)]
pub struct BufferPool {
    free: [Vec<Arc<Buffer>>; CLASS_BYTES.len()],
    free_bytes: usize,
    keep_bytes: usize,
    /// Given back, but still referenced by the engine when last looked at.
    cooling: Vec<Arc<Buffer>>,
    mapped: u64,
}

impl BufferPool {
    /// A buffer for `payload` bytes and [`BUFFER_SLACK`]; its content is whatever was in it.
    pub fn take(&mut self, payload: usize) -> std::io::Result<Arc<Buffer>> {
        let class = CLASS_BYTES.iter().position(|&bytes| payload <= bytes);
        let Some(class) = class else { return Err(std::io::Error::from_raw_os_error(libc::ENOMEM)) };
        if self.free[class].is_empty() {
            self.sweep();
        }
        if let Some(buffer) = self.free[class].pop() {
            self.free_bytes -= buffer.capacity();
            return Ok(buffer);
        }
        self.mapped += 1;
        Buffer::new(CLASS_BYTES[class] + BUFFER_SLACK).map(Arc::new)
    }

    pub fn put(&mut self, buffer: Arc<Buffer>) {
        if Arc::strong_count(&buffer) == 1 {
            self.keep(buffer);
        } else if self.cooling.len() < MAX_COOLING {
            self.cooling.push(buffer);
        }
    }

    /// Sets how many connections there are to keep memory for; what is beyond goes back to the system.
    pub fn resize(&mut self, connections: usize) {
        self.keep_bytes = connections * KEEP_BYTES_PER_CONNECTION;
        self.sweep();
        for class in self.free.iter_mut().rev() {
            while self.free_bytes > self.keep_bytes
                && let Some(buffer) = class.pop()
            {
                self.free_bytes -= buffer.capacity();
            }
        }
        if connections == 0 {
            self.cooling.clear();
        }
    }

    /// Buffers mapped since the start: it stands still once the pool is warm.
    pub fn mapped(&self) -> u64 {
        self.mapped
    }

    /// Idle memory, in bytes.
    pub fn kept_bytes(&self) -> usize {
        self.free_bytes
    }

    fn keep(&mut self, buffer: Arc<Buffer>) {
        let class = CLASS_BYTES.iter().position(|&bytes| bytes + BUFFER_SLACK == buffer.capacity());
        if let Some(class) = class
            && self.free_bytes + buffer.capacity() <= self.keep_bytes + BUFFER_SLACK
        {
            self.free_bytes += buffer.capacity();
            self.free[class].push(buffer);
        }
    }

    fn sweep(&mut self) {
        let mut index = 0;
        while index < self.cooling.len() {
            if Arc::strong_count(&self.cooling[index]) == 1 {
                let buffer = self.cooling.swap_remove(index);
                self.keep(buffer);
            } else {
                index += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_somebody_still_refers_to_is_not_handed_out_again() {
        let mut pool = BufferPool::default();
        pool.resize(1);
        let buffer = pool.take(4096).unwrap();
        let (address, elsewhere) = (buffer.at(0), Arc::clone(&buffer));
        pool.put(buffer);
        assert_ne!(pool.take(4096).unwrap().at(0), address);
        drop(elsewhere);
        assert_eq!(pool.take(4096).unwrap().at(0), address);
    }

    #[test]
    fn a_warm_pool_maps_nothing_and_an_idle_one_keeps_nothing() {
        let mut pool = BufferPool::default();
        pool.resize(1);
        for _ in 0..100 {
            let buffers: Vec<_> = (0..8).map(|_| pool.take(1 << 20).unwrap()).collect();
            buffers.into_iter().for_each(|buffer| pool.put(buffer));
        }
        assert_eq!(pool.mapped(), 8);
        pool.resize(0);
        assert_eq!(pool.kept_bytes(), 0);
    }
}
