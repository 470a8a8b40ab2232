//! What belongs to nothing that is known: first packets of connections, pings, fragments, and what a flood brings.
//!
//! So much of it is served in each millisecond. The queue for what may be no flow, and those of flows in which nothing known has
//! come lately, are not looked at beyond that; what comes to others waits here.

use netstack::{Expected, IfaceId, RxFrame, Stack};
use std::collections::VecDeque;

/// Frames that are served in a period, from each of both kinds of queues: while there are known ones (32,000 a second), and
/// while nobody is disturbed. How long one is, in nanoseconds.
const SHARE: usize = 32;
const ALONE: usize = 256;
const PERIOD: u64 = 1_000_000;
/// Periods that are made up for if the thread has waited for a CPU meanwhile.
const LATE: u64 = 8;
/// Frames that wait, and the longest of them.
const MAX_KEPT: usize = 1024;
const MAX_LENGTH: usize = 2048;

/// The strangers of one link.
#[derive(Default)]
pub struct Strangers {
    kept: VecDeque<(Vec<u8>, bool)>,
    /// How many from the queues of flows are served yet, and how many from the other one, of this period.
    flows: usize,
    first: usize,
    /// When the next period begins.
    next: u64,
}

impl Strangers {
    /// Begins a period, if it is time. Those who wait come first. `alone`: nothing known has come lately.
    pub fn renew(&mut self, now: u64, alone: bool, stack: &Stack, id: IfaceId) {
        if now < self.next {
            return;
        }
        let periods = ((now - self.next) / PERIOD + 1).min(LATE) as usize;
        let share = periods * if alone { ALONE } else { SHARE };
        let most = self.kept.len().min(share);
        (self.flows, self.first, self.next) = (share - most, share, now + PERIOD);
        if most == 0 {
            return;
        }
        let frames: Vec<_> = self.kept.drain(..most).collect();
        let frames = frames.iter().map(|(data, checksum_valid)| RxFrame {
            checksum_valid: *checksum_valid,
            ..RxFrame::new(data)
        });
        stack.input(id, &frames.collect::<Vec<_>>());
    }

    /// When more of either kind will be served, if fewer are now than there may be.
    pub fn later(&self) -> Option<u64> {
        (self.first == 0 || self.flows == 0).then_some(self.next)
    }

    /// Whether the queue for what may be no flow is looked at.
    pub fn first(&self) -> bool {
        self.first > 0
    }

    /// Whether the queues of flows are, in which there is nothing known.
    pub fn flows(&self) -> bool {
        self.flows > 0
    }

    /// Counts what came from the queue for what may be no flow.
    pub fn count(&mut self, frames: usize) {
        self.first = self.first.saturating_sub(frames);
    }

    /// Takes strangers out of what has come from a queue of flows, unless they may be served now. Whether there was anybody who is
    /// known.
    /// `trusted`: that queue is looked at in any case, so that only they count.
    pub fn sort(&mut self, trusted: bool, stack: &Stack, frames: &mut Vec<RxFrame<'_>>) -> bool {
        let found: Vec<_> = frames.iter().map(|frame| stack.expects(frame)).collect();
        let strangers = found.iter().filter(|found| **found == Expected::No).count();
        let known = found.contains(&Expected::Known);
        if !trusted || strangers <= self.flows {
            let counted = if trusted { strangers } else { found.len() };
            self.flows = self.flows.saturating_sub(counted);
            return known;
        }
        self.flows = 0;
        let mut found = found.into_iter();
        frames.retain(|frame| {
            let stranger = found.next() == Some(Expected::No);
            if stranger {
                self.keep(frame);
            }
            !stranger
        });
        known
    }

    /// Keeps a frame; without room it is lost.
    fn keep(&mut self, frame: &RxFrame<'_>) {
        if self.kept.len() < MAX_KEPT && frame.data.len() <= MAX_LENGTH {
            self.kept.push_back((frame.data.to_vec(), frame.checksum_valid));
        }
    }
}
