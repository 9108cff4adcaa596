//! Page-aligned buffers for direct I/O, kept by size class so that a warm data path does not allocate.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

/// Alignment of every buffer: the page, which satisfies any direct-I/O rule met so far.
const ALIGN: usize = 4096;
/// Idle buffers of one class kept for reuse: a guest's queue of small writes, or the copier's eight megabytes.
const KEEP_BYTES_PER_CLASS: usize = 8 << 20;
const SMALLEST_CLASS_SHIFT: u32 = 12;
const CLASSES: usize = 16;

pub struct AlignedBuffer {
    ptr: *mut u8,
    capacity: usize,
    len: usize,
}

// SAFETY: the buffer owns its memory; nothing else points at it but I/O whose owner keeps the buffer.
unsafe impl Send for AlignedBuffer {}

impl AlignedBuffer {
    /// Zeroed memory of at least `len` bytes.
    pub fn new(len: usize) -> Self {
        let capacity = len.max(1).next_multiple_of(ALIGN);
        let layout = Self::layout(capacity);
        // SAFETY: the layout has a size above zero.
        let ptr = unsafe { alloc_zeroed(layout) };
        if ptr.is_null() {
            handle_alloc_error(layout);
        }
        Self { ptr, capacity, len }
    }

    fn layout(capacity: usize) -> Layout {
        // SAFETY: ALIGN is a power of two and the capacity a multiple of it, far below isize::MAX.
        unsafe { Layout::from_size_align_unchecked(capacity, ALIGN) }
    }

    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `ptr` is valid for `capacity` >= `len` initialised bytes for as long as the buffer lives.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.ptr, self.len) }
    }

    pub fn iovec(&self) -> libc::iovec {
        libc::iovec { iov_base: self.ptr.cast(), iov_len: self.len }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout.
        unsafe { dealloc(self.ptr, Self::layout(self.capacity)) }
    }
}

#[derive(Default)]
pub struct BufferPool {
    classes: [Vec<AlignedBuffer>; CLASSES],
}

impl BufferPool {
    fn class(len: usize) -> usize {
        let shift = len.max(1).next_power_of_two().trailing_zeros().max(SMALLEST_CLASS_SHIFT);
        (shift - SMALLEST_CLASS_SHIFT) as usize
    }

    /// A buffer of exactly `len` bytes; its content is whatever was in it.
    pub fn take(&mut self, len: usize) -> AlignedBuffer {
        let class = Self::class(len);
        if class < CLASSES
            && let Some(mut buffer) = self.classes[class].pop()
        {
            buffer.len = len;
            return buffer;
        }
        let mut buffer =
            AlignedBuffer::new(if class < CLASSES { 1usize << (class as u32 + SMALLEST_CLASS_SHIFT) } else { len });
        buffer.len = len;
        buffer
    }

    pub fn put(&mut self, buffer: AlignedBuffer) {
        let class = Self::class(buffer.capacity);
        if class < CLASSES && (self.classes[class].len() + 1) * buffer.capacity <= KEEP_BYTES_PER_CLASS {
            self.classes[class].push(buffer);
        }
    }
}
