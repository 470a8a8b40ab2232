//! What has been sent and not yet acknowledged, segment by segment: the basis of loss recovery (RFC 6675's
//! pipe, RFC 8985's per-segment times).

use super::Seq;
use crate::time::Instant;
use crate::wire::tcp_options::Block;
use std::collections::VecDeque;

/// Segments outstanding. A sender of tiny segments waits at this limit.
pub(crate) const MAX_SEGMENTS: usize = 16_384;

/// A segment that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub seq: Seq,
    /// Sequence space: data, SYN and FIN.
    pub len: u32,
    /// When it was sent last.
    pub at: Instant,
    /// Times it was sent.
    pub transmissions: u8,
    pub sacked: bool,
    /// Thought to be lost; not in flight.
    pub lost: bool,
    /// Sent again since it was thought to be lost; in flight once more.
    pub resent: bool,
}

impl Sent {
    pub(crate) fn end(&self) -> Seq {
        self.seq + self.len
    }

    fn in_flight(&self) -> bool {
        !self.sacked && (!self.lost || self.resent)
    }
}

/// What an acknowledgement newly delivered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivered {
    /// Bytes, cumulatively or selectively acknowledged for the first time.
    pub bytes: u32,
    /// Of these, selectively.
    pub sacked: u32,
    /// Segments, for RACK: the ones delivered by this acknowledgement.
    pub segments: Vec<Sent>,
    /// A block covers data that was acknowledged before (RFC 2883).
    pub dsack: Option<Block>,
    /// Segments that came behind others sent later although they were sent once only: reordering.
    pub below_fack: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scoreboard {
    sent: VecDeque<Sent>,
    flight: u32,
    lost: u32,
    sacked: u32,
    /// The highest sequence number that was acknowledged in any way.
    pub fack: Option<Seq>,
}

impl Scoreboard {
    /// Bytes thought to be in the network (RFC 6675's pipe).
    pub(crate) fn flight(&self) -> u32 {
        self.flight
    }

    /// Bytes thought to be lost and not sent again.
    pub(crate) fn lost(&self) -> u32 {
        self.lost
    }

    /// Bytes acknowledged selectively.
    pub(crate) fn sacked(&self) -> u32 {
        self.sacked
    }

    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    pub(crate) fn first(&self) -> Option<&Sent> {
        self.sent.front()
    }

    pub(crate) fn last(&self) -> Option<&Sent> {
        self.sent.back()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter()
    }

    /// Notes a new segment.
    pub(crate) fn push(&mut self, seq: Seq, len: u32, at: Instant) {
        self.flight += len;
        self.sent.push_back(Sent {
            seq,
            len,
            at,
            transmissions: 1,
            sacked: false,
            lost: false,
            resent: false,
        });
    }

    fn change(&mut self, i: usize, f: impl FnOnce(&mut Sent)) {
        let Some(s) = self.sent.get_mut(i) else { return };
        let before = *s;
        f(s);
        let after = *s;
        self.count(&before, false);
        self.count(&after, true);
    }

    fn count(&mut self, s: &Sent, add: bool) {
        let step = |n: &mut u32, on: bool| {
            if on {
                *n = if add { *n + s.len } else { n.saturating_sub(s.len) };
            }
        };
        step(&mut self.flight, s.in_flight());
        step(&mut self.lost, s.lost && !s.resent && !s.sacked);
        step(&mut self.sacked, s.sacked);
    }

    /// Cuts segment `i` so that its first part has `len`.
    pub(crate) fn split(&mut self, i: usize, len: u32) {
        let Some(s) = self.sent.get_mut(i) else { return };
        if len == 0 || len >= s.len {
            return;
        }
        let rest = Sent { seq: s.seq + len, len: s.len - len, ..*s };
        s.len = len;
        self.sent.insert(i + 1, rest);
    }

    /// Everything before `una` has arrived.
    pub(crate) fn acknowledge(&mut self, una: Seq, out: &mut Delivered) {
        while let Some(&s) = self.sent.front() {
            if s.end().after(una) {
                if s.seq.before(una) {
                    let part = una.since(s.seq);
                    self.split(0, part);
                    continue;
                }
                break;
            }
            self.count(&s, false);
            self.sent.pop_front();
            if !s.sacked {
                self.deliver(&s, out);
            }
        }
        self.fack = Some(self.fack.map_or(una, |f| f.max(una)));
    }

    fn deliver(&mut self, s: &Sent, out: &mut Delivered) {
        out.bytes += s.len;
        if s.transmissions == 1 && self.fack.is_some_and(|f| s.end().before(f)) {
            out.below_fack = true;
        }
        out.segments.push(*s);
    }

    /// Takes in SACK blocks. Those outside what is outstanding are ignored (RFC 2018, section 5.1), except
    /// a first one that reports a duplicate (RFC 2883, section 4).
    pub(crate) fn sack(&mut self, blocks: &[Block], una: Seq, nxt: Seq, out: &mut Delivered) {
        for (n, &(from, to)) in blocks.iter().enumerate() {
            if !from.before(to) || to.after(nxt) {
                continue;
            }
            let within = |outer: &Block| !from.before(outer.0) && !to.after(outer.1);
            let duplicate = !to.after(una) || (n == 0 && blocks.get(1).is_some_and(within));
            if n == 0 && duplicate {
                out.dsack = Some((from, to));
                continue;
            }
            if from.before(una) {
                continue;
            }
            self.sack_range(from, to, out);
        }
    }

    fn sack_range(&mut self, from: Seq, to: Seq, out: &mut Delivered) {
        let mut i = self.sent.partition_point(|s| !s.end().after(from));
        while let Some(&s) = self.sent.get(i) {
            if !s.seq.before(to) {
                break;
            }
            if s.seq.before(from) {
                if !s.sacked {
                    self.split(i, from.since(s.seq));
                }
                i += 1;
                continue;
            }
            if s.end().after(to) && !s.sacked {
                self.split(i, to.since(s.seq));
            }
            if let Some(&s) = self.sent.get(i)
                && !s.sacked
            {
                self.deliver(&s, out);
                out.sacked += s.len;
                self.change(i, |s| s.sacked = true);
            }
            i += 1;
        }
        self.fack = Some(self.fack.map_or(to, |f| f.max(to)));
    }

    /// Marks segment `i` as lost.
    pub(crate) fn mark_lost(&mut self, i: usize) {
        self.change(i, |s| {
            if !s.sacked {
                (s.lost, s.resent) = (true, false);
            }
        });
    }

    /// A time-out: everything not selectively acknowledged counts as lost; with `renege`, what was selectively
    /// acknowledged, too (RFC 2018, section 8).
    pub(crate) fn mark_all_lost(&mut self, renege: bool) {
        for i in 0..self.sent.len() {
            if renege {
                self.change(i, |s| s.sacked = false);
            }
            self.mark_lost(i);
        }
    }

    /// A reduction that was not justified: nothing is lost.
    pub(crate) fn forget_losses(&mut self) {
        for i in 0..self.sent.len() {
            self.change(i, |s| (s.lost, s.resent) = (false, false));
        }
    }

    /// The first segment to be sent again.
    pub(crate) fn next_lost(&self) -> Option<usize> {
        if self.lost == 0 {
            return None;
        }
        self.sent.iter().position(|s| s.lost && !s.resent && !s.sacked)
    }

    pub(crate) fn get(&self, i: usize) -> Option<&Sent> {
        self.sent.get(i)
    }

    /// Segment `i` was sent again.
    pub(crate) fn mark_resent(&mut self, i: usize, at: Instant) {
        self.change(i, |s| {
            s.at = at;
            s.transmissions = s.transmissions.saturating_add(1);
            s.resent = s.lost;
        });
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn board(n: u32) -> Scoreboard {
        let mut b = Scoreboard::default();
        for i in 0..n {
            b.push(Seq(i * 100), 100, Instant::from_millis(i.into()));
        }
        b
    }

    #[test]
    fn cumulative_acknowledgements_pop_and_split() {
        let mut b = board(5);
        let mut d = Delivered::default();
        b.acknowledge(Seq(250), &mut d);
        assert_eq!((d.bytes, b.len(), b.flight()), (250, 3, 250));
        assert_eq!(b.first().unwrap().seq, Seq(250));
    }

    #[test]
    fn selective_acknowledgements_mark_and_split() {
        let mut b = board(5);
        let mut d = Delivered::default();
        b.sack(&[(Seq(150), Seq(350))], Seq(0), Seq(500), &mut d);
        assert_eq!((d.bytes, b.sacked(), b.flight(), b.len()), (200, 200, 300, 7));
        b.sack(&[(Seq(150), Seq(350))], Seq(0), Seq(500), &mut d);
        assert_eq!(d.bytes, 200, "the same again delivers nothing");
        b.acknowledge(Seq(500), &mut d);
        assert_eq!((d.bytes, b.sacked(), b.flight()), (500, 0, 0));
    }

    #[test]
    fn blocks_outside_the_window_are_ignored() {
        let mut b = board(3);
        let mut d = Delivered::default();
        b.sack(&[(Seq(200), Seq(900)), (Seq(250), Seq(220))], Seq(0), Seq(300), &mut d);
        assert_eq!((d.bytes, b.sacked()), (0, 0));
    }

    #[test]
    fn duplicates_are_recognised() {
        let mut b = board(3);
        let mut d = Delivered::default();
        b.acknowledge(Seq(100), &mut d);
        b.sack(&[(Seq(0), Seq(100))], Seq(100), Seq(300), &mut d);
        assert_eq!(d.dsack, Some((Seq(0), Seq(100))));
        let mut d = Delivered::default();
        let blocks = [(Seq(200), Seq(250)), (Seq(200), Seq(300))];
        b.sack(&blocks, Seq(100), Seq(300), &mut d);
        assert_eq!((d.dsack, b.sacked()), (Some(blocks[0]), 100));
    }

    #[test]
    fn lost_and_resent_segments_leave_and_enter_the_flight() {
        let mut b = board(4);
        b.mark_lost(1);
        assert_eq!((b.flight(), b.lost(), b.next_lost()), (300, 100, Some(1)));
        b.mark_resent(1, Instant::from_millis(50));
        assert_eq!((b.flight(), b.lost(), b.next_lost()), (400, 0, None));
        b.mark_all_lost(false);
        assert_eq!((b.flight(), b.lost()), (0, 400));
        b.forget_losses();
        assert_eq!((b.flight(), b.lost()), (400, 0));
    }

    #[test]
    fn late_arrivals_show_reordering() {
        let mut b = board(3);
        let mut d = Delivered::default();
        b.sack(&[(Seq(200), Seq(300))], Seq(0), Seq(300), &mut d);
        assert!(!d.below_fack);
        b.sack(&[(Seq(0), Seq(100))], Seq(0), Seq(300), &mut d);
        assert!(d.below_fack);
    }

    proptest! {
        /// The counts always equal what the segments say, whatever the peer sends.
        #[test]
        fn counts_hold(ops in prop::collection::vec((0u8..5, 0u32..1100, 0u32..1100), 0..80)) {
            let mut b = board(10);
            let mut una = Seq(0);
            for (op, x, y) in ops {
                let mut d = Delivered::default();
                match op {
                    0 => { una = una.max(Seq(x.min(1000))); b.acknowledge(una, &mut d); }
                    1 => b.sack(&[(Seq(x), Seq(y)), (Seq(y), Seq(x))], una, Seq(1000), &mut d),
                    2 => b.mark_lost(x as usize % 16),
                    3 => if let Some(i) = b.next_lost() { b.mark_resent(i, Instant::from_millis(y.into())) },
                    _ => b.mark_all_lost(x % 2 == 0),
                }
                let sum = |f: fn(&Sent) -> bool| b.iter().filter(|s| f(s)).map(|s| s.len).sum::<u32>();
                prop_assert_eq!(b.flight(), sum(Sent::in_flight));
                prop_assert_eq!(b.sacked(), sum(|s| s.sacked));
                prop_assert_eq!(b.lost(), sum(|s| s.lost && !s.resent && !s.sacked));
                prop_assert!(b.iter().all(|s| s.len > 0));
            }
        }
    }
}
