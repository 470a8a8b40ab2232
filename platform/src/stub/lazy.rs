//! Which mapping work can wait until the guest misses it.
//!
//! What only adds mappings where a stub has none, and none waits, takes nothing away from anybody: until it is done, an access
//! faults, and the fault gets it done. Programs map several areas before they use the first, and unmap what they have not
//! used: the stub does such operations at once, or not at all. What changes a mapping that waits changes the list. What changes
//! one that is there is done before guest code runs again.
//!
//! A fault costs about as much as the message to the stub that it has put off, so that waiting does not pay for who maps a
//! single area and uses it. That is learnt, for each process.

use super::mapped::MappedRanges;
use std::ops::Range;

/// The most, and the least, that is believed of waiting.
const SCORES: std::ops::RangeInclusive<i32> = -8..=8;
/// From this score down nothing waits.
const HOPELESS: i32 = -4;
/// How often nothing waits before it is tried again.
const PROBE_AFTER: u32 = 64;

/// What is known of the operations that wait.
#[derive(Debug, Default)]
pub struct Lazy {
    /// What waits to be mapped where the stub has nothing.
    fresh: MappedRanges,
    /// Something must not wait.
    urgent: bool,
    /// How often the guest was let go on before the operations were executed.
    passed: u32,
    /// Messages that waiting has saved, roughly.
    score: i32,
    /// How often nothing has waited since it was found not to pay.
    refused: u32,
}

impl Lazy {
    /// For a copy of a stub: what has been learnt.
    pub fn for_copy(&self) -> Self {
        Self { score: self.score, ..Self::default() }
    }

    /// Before a range is mapped.
    pub fn map(&mut self, mapped: &MappedRanges, range: &Range<u64>) {
        if !self.change(mapped, range) {
            self.fresh.insert(range.clone());
        }
    }

    /// Before mappings in a range are changed. Whether there are some.
    pub fn change(&mut self, mapped: &MappedRanges, range: &Range<u64>) -> bool {
        let present = mapped.within(range.clone()).next().is_some();
        self.urgent |= present;
        present
    }

    /// Nothing waits any more.
    pub fn urge(&mut self) {
        self.urgent = true;
    }

    /// Whether something is mapped in a range, all of that waits, and so does everything else.
    pub fn is_waiting(&self, mapped: &MappedRanges, range: &Range<u64>) -> bool {
        let bytes = |set: &MappedRanges| -> u64 {
            set.within(range.clone()).map(|part| part.end - part.start).sum()
        };
        if self.urgent {
            return false;
        }
        // Seldom does anything wait, and much may be mapped.
        let waiting = bytes(&self.fresh);
        waiting != 0 && bytes(mapped) == waiting
    }

    /// What waits in a range was taken back.
    pub fn forget(&mut self, range: Range<u64>) {
        self.fresh.remove(range);
    }

    /// Something was taken back that was never used.
    pub fn spare(&mut self) {
        self.learn(2);
    }

    /// Guest code has faulted. Whether that is because an operation waits.
    pub fn is_missed(&mut self, address: u64) -> bool {
        let missed = self.fresh.within(address..address.saturating_add(1)).next().is_some();
        if missed {
            self.learn(self.passed.min(8) as i32 - 2);
        }
        missed
    }

    /// Guest code is to go on, and operations wait. Whether they are executed first.
    pub fn is_due(&mut self) -> bool {
        if self.urgent {
            self.learn(self.passed.min(8) as i32);
            return true;
        }
        if self.score <= HOPELESS {
            self.refused += 1;
            if self.refused < PROBE_AFTER {
                return true;
            }
            self.refused = 0;
            self.score = HOPELESS + 1;
        }
        self.passed += 1;
        false
    }

    /// The operations are executed.
    pub fn reset(&mut self) {
        self.urgent = false;
        self.passed = 0;
        self.fresh = MappedRanges::default();
    }

    fn learn(&mut self, saved: i32) {
        self.score = (self.score + saved).clamp(*SCORES.start(), *SCORES.end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_adds_can_wait() {
        let (mut lazy, mut mapped) = (Lazy::default(), MappedRanges::default());
        mapped.insert(100..200);
        lazy.map(&mapped, &(0..50));
        mapped.insert(0..50);
        assert!(!lazy.is_due());
        // Beside what waits and what the stub has.
        lazy.map(&mapped, &(50..100));
        mapped.insert(50..100);
        assert!(!lazy.is_due());
        // Over what waits.
        lazy.map(&mapped, &(10..20));
        assert!(lazy.is_due());
        lazy.reset();
        assert!(!lazy.is_due() && !lazy.is_missed(45));
        // Over what the stub has.
        lazy.map(&mapped, &(190..210));
        assert!(lazy.is_due() && !lazy.is_missed(205));
    }

    #[test]
    fn what_does_not_pay_is_given_up_and_tried_again() {
        let (mut lazy, mapped) = (Lazy::default(), MappedRanges::default());
        let once = |lazy: &mut Lazy| {
            lazy.map(&mapped, &(0..10));
            let waits = !lazy.is_due();
            if waits {
                assert!(lazy.is_missed(5));
            }
            lazy.reset();
            waits
        };
        let waited = (0..100).filter(|_| once(&mut lazy)).count();
        assert!((1..16).contains(&waited), "{waited}");
        (0..8).for_each(|_| lazy.spare());
        assert!(once(&mut lazy));
    }
}
