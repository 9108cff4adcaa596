//! The drivers at work: usually none or one, a second while an ended move still waits for a destination that hangs.
//!
//! Each has a number of its own. The number of a move that is over is not the next one's: its scan, on a thread of its own, and whoever
//! stops it a moment too late still name it.

use super::driver::Driver;
use super::turn_length::TurnLength;

/// A number has sixteen bits in an operation's tag.
const NUMBERS: u32 = 1 << 16;

#[derive(Default)]
pub struct Drivers {
    /// `None` while it is being driven.
    list: Vec<(u32, Option<Box<Driver>>)>,
    next: u32,
}

impl Drivers {
    /// The number the next [`Drivers::add`] gives.
    pub fn next_number(&self) -> u32 {
        let is_free = |number: &u32| self.list.iter().all(|(taken, _)| taken != number);
        // A handful are taken.
        (0..NUMBERS).map(|step| (self.next + step) % NUMBERS).find(is_free).unwrap_or(0)
    }

    pub fn add(&mut self, driver: Driver) -> u32 {
        let number = self.next_number();
        self.next = (number + 1) % NUMBERS;
        self.list.push((number, Some(Box::new(driver))));
        number
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many, for [`Drivers::number_at`].
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn number_at(&self, place: usize) -> Option<u32> {
        self.list.get(place).map(|(number, _)| *number)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Driver> {
        self.list.iter().filter_map(|(_, driver)| driver.as_deref())
    }

    pub fn get(&self, number: u32) -> Option<&Driver> {
        self.list.iter().find(|(have, _)| *have == number)?.1.as_deref()
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut Driver> {
        self.place_of(number)?.as_deref_mut()
    }

    /// Takes it out, so that it and the service can be borrowed side by side. [`Drivers::put_back`] follows.
    pub fn take(&mut self, number: u32) -> Option<Box<Driver>> {
        self.place_of(number)?.take()
    }

    pub fn put_back(&mut self, number: u32, driver: Box<Driver>) {
        if let Some(place) = self.place_of(number) {
            *place = Some(driver);
        }
    }

    /// A turn has ended: it counts for every move that runs.
    pub fn note_turn(&mut self, turn: TurnLength) {
        for driver in self.list.iter_mut().filter_map(|(_, driver)| driver.as_mut()) {
            driver.longest_turn = driver.longest_turn.longer_of(turn);
        }
    }

    /// The move is over.
    pub fn remove(&mut self, number: u32) -> Option<Box<Driver>> {
        let place = self.list.iter().position(|(have, _)| *have == number)?;
        self.list.remove(place).1
    }

    fn place_of(&mut self, number: u32) -> Option<&mut Option<Box<Driver>>> {
        self.list.iter_mut().find(|(have, _)| *have == number).map(|(_, place)| place)
    }
}
