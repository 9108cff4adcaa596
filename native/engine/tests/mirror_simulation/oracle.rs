//! What a guest may find, grain by grain.
//!
//! A value is legal unless a write that was acknowledged with success began after the value's own write had been
//! answered. So of overlapping concurrent writes any order is legal, but once the guest has seen one (no write being
//! under way) it stays.

#[derive(Clone, Copy, Debug)]
struct Candidate {
    value: u32,
    issued: u64,
    /// `u64::MAX` while under way.
    answered: u64,
    succeeded: bool,
}

#[derive(Default, Clone)]
struct Grain {
    legal: Vec<Candidate>,
    /// The same without forgetting what was overwritten but never flushed.
    legal_after_power_cut: Vec<Candidate>,
    under_way: u32,
}

pub struct Oracle {
    grains: Vec<Grain>,
    clock: u64,
    /// Without a power cut to come the second list is not kept: it only grows between flushes.
    power_cut_comes: bool,
}

/// A write or flush as the oracle knows it: when it was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued(u64);

impl Oracle {
    pub fn new(content: &[u32], power_cut_comes: bool) -> Self {
        let initial = |value: u32| {
            let first = Candidate { value, issued: 0, answered: 0, succeeded: true };
            Grain { legal: vec![first], legal_after_power_cut: vec![first], under_way: 0 }
        };
        Self { grains: content.iter().map(|value| initial(*value)).collect(), clock: 0, power_cut_comes }
    }

    pub fn issue(&mut self) -> Issued {
        self.clock += 1;
        Issued(self.clock)
    }

    pub fn write_issued(&mut self, grains: std::ops::Range<u64>, value: u32) -> Issued {
        let issued = self.issue();
        for grain in &mut self.grains[grains.start as usize..grains.end as usize] {
            let candidate = Candidate { value, issued: issued.0, answered: u64::MAX, succeeded: false };
            grain.legal.push(candidate);
            if self.power_cut_comes {
                grain.legal_after_power_cut.push(candidate);
            }
            grain.under_way += 1;
        }
        issued
    }

    pub fn write_answered(&mut self, grains: std::ops::Range<u64>, issued: Issued, succeeded: bool) {
        self.clock += 1;
        let now = self.clock;
        for grain in &mut self.grains[grains.start as usize..grains.end as usize] {
            for candidate in grain.legal.iter_mut().chain(&mut grain.legal_after_power_cut) {
                if candidate.issued == issued.0 {
                    candidate.answered = now;
                    candidate.succeeded = succeeded;
                }
            }
            if succeeded {
                grain.legal.retain(|candidate| candidate.answered >= issued.0);
            }
            grain.under_way -= 1;
        }
    }

    pub fn flush_answered(&mut self, issued: Issued) {
        for grain in &mut self.grains {
            let list = &mut grain.legal_after_power_cut;
            if list.len() < 2 {
                continue;
            }
            let floor = list.iter().filter(|c| c.succeeded && c.answered < issued.0).map(|c| c.issued).max();
            if let Some(floor) = floor {
                list.retain(|candidate| candidate.answered >= floor);
            }
        }
    }

    pub fn is_quiet(&self, grain: u64) -> bool {
        self.grains[grain as usize].under_way == 0
    }

    /// A guest read `value`.
    pub fn check(&mut self, grain: u64, value: u32, what: &str) -> Result<(), String> {
        let state = &mut self.grains[grain as usize];
        if !state.legal.iter().any(|candidate| candidate.value == value) {
            return Err(format!("{what}: grain {grain} holds {value}, legal are {:?}", state.legal));
        }
        if state.under_way == 0 {
            state.legal.retain(|candidate| candidate.value == value);
        }
        Ok(())
    }

    pub fn check_after_power_cut(&self, grain: u64, value: u32, what: &str) -> Result<(), String> {
        let list = &self.grains[grain as usize].legal_after_power_cut;
        if list.iter().any(|candidate| candidate.value == value) {
            Ok(())
        } else {
            Err(format!("{what}: grain {grain} holds {value} after the power cut, legal are {list:?}"))
        }
    }
}
