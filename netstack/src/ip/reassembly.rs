//! Reassembly of fragments, for both IP versions.
//!
//! The policy is Linux's: a fragment that lies wholly within what is there already is a duplicate and
//! ignored; any other overlap kills the whole packet (RFC 5722 demands it for IPv6, and for IPv4 the
//! alternatives have been attacks). Memory is bounded: each fragment is charged with its length and a fixed
//! overhead, and when the limit is reached the packet that wanted more dies. A packet may consist of at
//! most [`MAX_PIECES`] fragments.

use crate::iface::IfaceId;
use crate::random::{KeyedHash, addr_words};
use crate::time::Instant;
use std::collections::hash_map::{self, HashMap};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

/// Charged for each fragment beyond its bytes: the map's node, the vector, the allocator.
const OVERHEAD: usize = 128;
/// Fragments of one packet. At the least MTU of IPv4 (68) a packet of 64 KiB has 1,366.
const MAX_PIECES: usize = 1400;
/// Bytes of a first fragment that are kept for the error message.
const QUOTE: usize = 1280;

/// What fragments have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FragmentKey {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub id: u32,
    pub protocol: u8,
    pub iface: IfaceId,
}

/// In few words, each of which costs a round of a keyed hash.
impl Hash for FragmentKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                state.write_u64(u64::from(u32::from(src)) << 32 | u64::from(u32::from(dst)));
            }
            (src, dst) => {
                addr_words(src).into_iter().chain(addr_words(dst)).for_each(|w| state.write_u64(w))
            }
        }
        let rest = u64::from(self.iface.0) << 8 | u64::from(self.protocol);
        state.write_u64(u64::from(self.id) << 32 | rest & 0xffff_ffff);
    }
}

/// A fragment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    pub offset: usize,
    pub more: bool,
    pub data: &'a [u8],
    pub ecn: u8,
    /// What goes in front of the whole packet, taken from the first fragment.
    pub head: &'a [u8],
    /// The fragment's packet, for the error message.
    pub quote: &'a [u8],
}

/// A packet put together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    /// The head, then the data.
    pub bytes: Vec<u8>,
    pub head_len: usize,
    /// Congestion experienced by any of the fragments (RFC 3168, section 5.3).
    pub ecn: u8,
}

/// What became of a fragment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Others are missing, or it was a duplicate.
    Waiting,
    /// The packet is complete.
    Whole(Whole),
    /// The packet was given up: overlap, contradiction, or no memory.
    Dropped,
    /// The packet would be longer than IP allows.
    TooLong,
}

#[derive(Debug)]
struct Partial {
    /// By offset; they do not overlap.
    pieces: BTreeMap<usize, Vec<u8>>,
    bytes: usize,
    /// Known once the last fragment is there.
    total: Option<usize>,
    head: Option<Vec<u8>>,
    quote: Option<Vec<u8>>,
    ecn: u8,
    charged: usize,
    serial: u64,
}

impl Partial {
    fn new(serial: u64) -> Self {
        Self {
            pieces: BTreeMap::new(),
            bytes: 0,
            total: None,
            head: None,
            quote: None,
            ecn: 0,
            charged: 0,
            serial,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Reassembly {
    partial: HashMap<FragmentKey, Partial, KeyedHash>,
    /// In the order of their time limits, as far as the two versions' limits allow; stale entries (the
    /// serial does not fit) are skipped.
    order: VecDeque<(Instant, u64, FragmentKey)>,
    used: usize,
    limit: usize,
    next_serial: u64,
}

impl Reassembly {
    pub(crate) fn new(limit: usize, hash: KeyedHash) -> Self {
        Self {
            partial: HashMap::with_hasher(hash),
            order: VecDeque::new(),
            used: 0,
            limit,
            next_serial: 0,
        }
    }

    /// Takes in a fragment, whose packet must be complete by `until` if it is its first to come.
    pub(crate) fn add(&mut self, key: FragmentKey, piece: Piece<'_>, until: Instant) -> Outcome {
        let end = piece.offset + piece.data.len();
        // All but the last carry a multiple of eight bytes; an empty one says nothing.
        if piece.more && (!end.is_multiple_of(8) || piece.data.is_empty()) {
            return self.kill(&key);
        }
        if piece.head.len().max(20) + end > crate::wire::ipv4::MAX {
            self.kill(&key);
            return Outcome::TooLong;
        }
        let mut cost = OVERHEAD + piece.data.len();
        let first = piece.offset == 0;
        if first {
            cost += piece.head.len() + piece.quote.len().min(QUOTE);
        }
        if self.used + cost > self.limit {
            return self.kill(&key);
        }
        // Stale entries must not pile up behind one that lives long.
        if self.order.len() > 2 * self.partial.len() + 64 {
            let partial = &self.partial;
            self.order.retain(|(_, s, k)| partial.get(k).is_some_and(|p| p.serial == *s));
        }
        let p = match self.partial.entry(key) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(free) => {
                let serial = self.next_serial;
                self.next_serial += 1;
                let last = self.order.back().is_none_or(|(other, ..)| *other <= until);
                let at = match last {
                    true => self.order.len(),
                    false => self.order.partition_point(|(other, ..)| *other <= until),
                };
                self.order.insert(at, (until, serial, key));
                free.insert(Partial::new(serial))
            }
        };
        // The end of the packet is said once, and nothing lies behind it.
        let ends_ok = match (piece.more, p.total) {
            (false, Some(total)) => total == end,
            (false, None) => p.pieces.last_key_value().is_none_or(|(at, d)| at + d.len() <= end),
            (true, Some(total)) => end <= total,
            (true, None) => true,
        };
        if !ends_ok {
            return self.kill(&key);
        }
        let before = p.pieces.range(..=piece.offset).next_back();
        if let Some((at, data)) = before
            && at + data.len() > piece.offset
        {
            // Within what is there: a duplicate. Runs of adjacent fragments count as one, as in Linux.
            let mut covered = at + data.len();
            for (at, data) in p.pieces.range(piece.offset + 1..) {
                if *at != covered {
                    break;
                }
                covered += data.len();
            }
            return if covered >= end { Outcome::Waiting } else { self.kill(&key) };
        }
        let overlaps_next =
            p.pieces.range(piece.offset..).next().is_some_and(|(next, _)| *next < end);
        if overlaps_next || p.pieces.len() >= MAX_PIECES {
            return self.kill(&key);
        }
        if !piece.more {
            p.total = Some(end);
        }
        if first {
            p.head = Some(piece.head.to_vec());
            let quote = piece.quote.get(..piece.quote.len().min(QUOTE));
            p.quote = quote.map(<[u8]>::to_vec);
        }
        if piece.ecn == 3 {
            p.ecn = 3;
        }
        p.pieces.insert(piece.offset, piece.data.to_vec());
        p.bytes += piece.data.len();
        p.charged += cost;
        self.used += cost;
        if p.total != Some(p.bytes) || p.head.is_none() {
            return Outcome::Waiting;
        }
        match self.forget(&key) {
            Some(p) => {
                let mut bytes = p.head.unwrap_or_default();
                let head_len = bytes.len();
                bytes.reserve(p.bytes);
                for data in p.pieces.values() {
                    bytes.extend_from_slice(data);
                }
                Outcome::Whole(Whole { bytes, head_len, ecn: p.ecn })
            }
            None => Outcome::Dropped,
        }
    }

    /// Gives up what was not complete in time: its key, and the packet of its first fragment.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(FragmentKey, Option<Vec<u8>>)> {
        let mut out = Vec::new();
        while let Some(&(until, serial, key)) = self.order.front() {
            let current = self.partial.get(&key).is_some_and(|p| p.serial == serial);
            if current && until > now {
                break;
            }
            self.order.pop_front();
            if current && let Some(p) = self.forget(&key) {
                out.push((key, p.quote));
            }
        }
        out
    }

    /// When [`expire`](Self::expire) may have something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.order.front().map(|(until, ..)| *until)
    }

    /// Bytes charged.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    fn forget(&mut self, key: &FragmentKey) -> Option<Partial> {
        let p = self.partial.remove(key)?;
        self.used -= p.charged;
        Some(p)
    }

    fn kill(&mut self, key: &FragmentKey) -> Outcome {
        self.forget(key);
        Outcome::Dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const KEY: FragmentKey = FragmentKey {
        src: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        dst: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
        id: 7,
        protocol: 17,
        iface: IfaceId(2),
    };

    fn new(limit: usize) -> Reassembly {
        Reassembly::new(limit, KeyedHash([1, 2]))
    }

    fn piece(offset: usize, more: bool, data: &[u8]) -> Piece<'_> {
        Piece { offset, more, data, ecn: 0, head: b"HEAD", quote: b"quote" }
    }

    fn add(r: &mut Reassembly, offset: usize, more: bool, data: &[u8]) -> Outcome {
        r.add(KEY, piece(offset, more, data), Instant::from_millis(30_000))
    }

    fn whole(data: &[u8]) -> Outcome {
        let bytes = [b"HEAD", data].concat();
        Outcome::Whole(Whole { bytes, head_len: 4, ecn: 0 })
    }

    #[test]
    fn in_order_and_out_of_order() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let mut r = new(1 << 20);
            let parts = [(0, true, &b"aaaaaaaa"[..]), (8, true, b"bbbbbbbb"), (16, false, b"cc")];
            let mut last = Outcome::Waiting;
            for i in order {
                assert_eq!(last, Outcome::Waiting);
                let (at, more, data) = parts[i];
                last = add(&mut r, at, more, data);
            }
            assert_eq!(last, whole(b"aaaaaaaabbbbbbbbcc"));
            assert_eq!(r.used(), 0);
        }
    }

    #[test]
    fn duplicates_are_ignored_and_overlaps_kill_the_packet() {
        let mut r = new(1 << 20);
        assert_eq!(add(&mut r, 0, true, &[1; 16]), Outcome::Waiting);
        assert_eq!(add(&mut r, 0, true, &[2; 16]), Outcome::Waiting);
        assert_eq!(add(&mut r, 8, true, &[3; 8]), Outcome::Waiting, "wholly inside");
        assert_eq!(add(&mut r, 16, false, &[4; 4]), whole(&[&[1; 16][..], &[4; 4]].concat()));
        for (at, len) in [(8, 16), (24, 16), (0, 48)] {
            let mut r = new(1 << 20);
            assert_eq!(add(&mut r, 0, true, &[1; 16]), Outcome::Waiting);
            assert_eq!(add(&mut r, 32, true, &[1; 16]), Outcome::Waiting);
            assert_eq!(add(&mut r, at, true, &vec![2; len]), Outcome::Dropped, "{at} {len}");
            assert_eq!(r.used(), 0);
        }
    }

    #[test]
    fn the_end_cannot_be_moved() {
        let mut r = new(1 << 20);
        assert_eq!(add(&mut r, 16, false, &[1; 4]), Outcome::Waiting);
        assert_eq!(add(&mut r, 24, true, &[1; 8]), Outcome::Dropped, "behind the end");
        assert_eq!(add(&mut r, 24, true, &[1; 8]), Outcome::Waiting);
        assert_eq!(add(&mut r, 8, false, &[1; 8]), Outcome::Dropped, "an end before what is there");
    }

    #[test]
    fn fragments_that_are_no_multiple_of_eight_kill_the_packet() {
        let mut r = new(1 << 20);
        assert_eq!(add(&mut r, 0, true, &[1; 9]), Outcome::Dropped);
        assert_eq!(add(&mut r, 65528, false, &[1; 100]), Outcome::TooLong);
    }

    #[test]
    fn congestion_marks_survive() {
        let mut r = new(1 << 20);
        let marked = Piece { ecn: 3, ..piece(0, true, &[0; 8]) };
        assert_eq!(r.add(KEY, marked, Instant::ZERO), Outcome::Waiting);
        match add(&mut r, 8, false, &[0; 8]) {
            Outcome::Whole(w) => assert_eq!(w.ecn, 3),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn time_limits_give_the_first_fragment_back() {
        let mut r = new(1 << 20);
        let _ = add(&mut r, 0, true, &[1; 8]);
        assert_eq!(r.deadline(), Some(Instant::from_millis(30_000)));
        assert!(r.expire(Instant::from_millis(29_999)).is_empty());
        let gone = r.expire(Instant::from_millis(30_000));
        assert_eq!(gone, [(KEY, Some(b"quote".to_vec()))]);
        assert_eq!((r.used(), r.deadline()), (0, None));
    }

    #[test]
    fn floods_of_tiny_fragments_stay_within_the_limit() {
        let mut r = new(100_000);
        for id in 0..20_000 {
            let key = FragmentKey { id, ..KEY };
            let _ = r.add(key, piece(8, true, &[0; 8]), Instant::from_millis(id.into()));
            assert!(r.used() <= 100_000);
        }
        assert!(r.order.len() < 3000);
        let mut r = new(100 << 20);
        let mut dropped = 0;
        for n in 0..8000 {
            let outcome = add(&mut r, n * 8 + 8, true, &[0; 8]);
            dropped += usize::from(outcome == Outcome::Dropped);
        }
        assert!(dropped >= 5, "a packet of very many pieces dies");
    }

    proptest! {
        /// Any cut of a packet, in any order and with repetitions, gives the packet.
        #[test]
        fn any_cut_in_any_order(
            data in prop::collection::vec(any::<u8>(), 9..3000),
            cuts in prop::collection::vec(1usize..60, 1..20),
            seed in any::<u64>(),
        ) {
            let mut pieces = Vec::new();
            let mut at = 0;
            for c in cuts {
                let end = at + c * 8;
                if end >= data.len() { break; }
                pieces.push((at, end, true));
                at = end;
            }
            pieces.push((at, data.len(), false));
            let mut order = pieces.clone();
            order.extend(pieces.iter().take(3));
            let n = order.len();
            for i in 0..n {
                order.swap(i, (seed.rotate_left(i as u32) % n as u64) as usize);
            }
            let mut r = new(1 << 20);
            let mut done = false;
            for (from, to, more) in order {
                match add(&mut r, from, more, &data[from..to]) {
                    Outcome::Whole(w) => { prop_assert_eq!(&w.bytes[4..], &data[..]); done = true; }
                    Outcome::Waiting => {}
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            prop_assert!(done);
        }

        /// Anything else neither panics nor passes the limit.
        #[test]
        fn arbitrary_fragments(
            pieces in prop::collection::vec((0usize..9000, any::<bool>(), 0usize..2000, 0u32..3), 0..200)
        ) {
            let mut r = new(20_000);
            for (at, more, len, id) in pieces {
                let key = FragmentKey { id, ..KEY };
                let _ = r.add(key, piece(at * 8, more, &vec![0; len]), Instant::ZERO);
                prop_assert!(r.used() <= 20_000);
            }
            let _ = r.expire(Instant::from_millis(1));
            prop_assert_eq!(r.used(), 0);
        }
    }
}
