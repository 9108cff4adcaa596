//! A table whose entries keep their heap memory when they are freed: after warm-up a data path over it does not allocate.

#[derive(Default)]
pub struct Slots<T> {
    entries: Vec<T>,
    free: Vec<u32>,
}

impl<T: Default> Slots<T> {
    pub fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    /// A slot whose entry is as it was left: the caller sets every field it uses.
    pub fn take(&mut self) -> u32 {
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        self.entries.push(T::default());
        (self.entries.len() - 1) as u32
    }

    pub fn put(&mut self, slot: u32) {
        debug_assert!(!self.free.contains(&slot), "slot {slot} freed twice");
        self.free.push(slot);
    }

    pub fn in_use(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Slots made so far, free ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn get(&mut self, slot: u32) -> &mut T {
        &mut self.entries[slot as usize]
    }

    pub fn get_ref(&self, slot: u32) -> &T {
        &self.entries[slot as usize]
    }
}
