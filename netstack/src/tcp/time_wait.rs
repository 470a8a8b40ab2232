//! TIME-WAIT: connections that are over, kept as small records for 60 seconds so that their last segments
//! are answered and do not disturb new ones (RFC 9293, section 3.6.1; RFC 1337; RFC 6191).
//!
//! The number of records is bounded; beyond the limit a connection ends without one, as in Linux.

use super::Seq;
use crate::demux::FourTuple;
use crate::random::KeyedHash;
use crate::time::Instant;
use crate::wire::tcp::{Flags, Segment};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// `TCP_TIMEWAIT_LEN`.
pub(crate) const TIME_WAIT: Duration = Duration::from_secs(60);

/// A connection that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub tuple: FourTuple,
    pub rcv_nxt: Seq,
    pub snd_nxt: Seq,
    /// As in the last segment.
    pub window: u16,
    pub stamps_on: bool,
    pub recent: u32,
    pub offset: u32,
    /// Where a new connection with the same ends starts.
    pub next_iss: Seq,
    pub since: Instant,
    pub last_ack: Option<Instant>,
}

/// What is to be done about a segment for such a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// Nothing.
    Drop,
    /// Acknowledge again.
    Ack(Record),
    /// A new connection begins: the record is gone.
    Reopen(Record),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct TimeWaitTable {
    records: HashMap<FourTuple, Record, KeyedHash>,
    /// By age; an entry whose time does not fit its record is stale.
    order: VecDeque<(Instant, FourTuple)>,
    ports: HashMap<u16, usize>,
}

impl TimeWaitTable {
    pub(crate) fn new(hash: KeyedHash) -> Self {
        Self { records: HashMap::with_hasher(hash), order: VecDeque::new(), ports: HashMap::new() }
    }

    /// Adds a record; false when there are `max`.
    pub(crate) fn insert(&mut self, record: Record, max: usize, now: Instant) -> bool {
        if self.records.len() >= max {
            return false;
        }
        let port = record.tuple.local.port();
        if self.records.insert(record.tuple, record).is_none() {
            *self.ports.entry(port).or_default() += 1;
        }
        self.order.push_back((now, record.tuple));
        true
    }

    pub(crate) fn get(&self, tuple: &FourTuple) -> Option<&Record> {
        self.records.get(tuple)
    }

    /// True when a record has the local port.
    pub(crate) fn has_port(&self, port: u16) -> bool {
        self.ports.contains_key(&port)
    }

    /// The number of records.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn remove(&mut self, tuple: &FourTuple) -> Option<Record> {
        let record = self.records.remove(tuple)?;
        let port = tuple.local.port();
        if let Some(n) = self.ports.get_mut(&port) {
            *n -= 1;
            if *n == 0 {
                self.ports.remove(&port);
            }
        }
        Some(record)
    }

    /// Takes in a segment; `None`: there is no record.
    pub(crate) fn segment(
        &mut self,
        tuple: &FourTuple,
        s: &Segment<'_>,
        limit: Duration,
        now: Instant,
    ) -> Option<Verdict> {
        let r = *self.records.get(tuple)?;
        let h = &s.header;
        let stamp = h.options.timestamps.filter(|_| r.stamps_on).map(|(value, _)| value);
        let old = stamp.is_some_and(|v| (v.wrapping_sub(r.recent) as i32) < 0);
        if s.has(Flags::RST) {
            // Only at the right number, and never for an old duplicate (RFC 1337).
            if h.seq == r.rcv_nxt && !old {
                self.remove(tuple);
            }
            return Some(Verdict::Drop);
        }
        if s.has(Flags::SYN) && !s.has(Flags::ACK) && !old {
            let newer = h.seq.after(r.rcv_nxt)
                || stamp.is_some_and(|v| (v.wrapping_sub(r.recent) as i32) > 0);
            if newer {
                return self.remove(tuple).map(Verdict::Reopen);
            }
        }
        if s.has(Flags::FIN) && !old && !s.has(Flags::SYN) {
            // The peer did not get our acknowledgement: it needs the whole time again. At most once a
            // second, which bounds the order's stale entries.
            if let Some(r) = self.records.get_mut(tuple)
                && now.since(r.since) >= Duration::from_secs(1)
            {
                r.since = now;
                self.order.push_back((now, *tuple));
            }
            return Some(Verdict::Ack(r));
        }
        // A pure acknowledgement of all, at the right place, needs no answer.
        if s.len() == 0 && h.seq == r.rcv_nxt && !old {
            return Some(Verdict::Drop);
        }
        if r.last_ack.is_some_and(|at| now.since(at) < limit) {
            return Some(Verdict::Drop);
        }
        if let Some(r) = self.records.get_mut(tuple) {
            r.last_ack = Some(now);
        }
        Some(Verdict::Ack(r))
    }

    /// Forgets what is old enough.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(&(at, tuple)) = self.order.front() {
            let current = self.records.get(&tuple).is_some_and(|r| r.since == at);
            if current && at + TIME_WAIT > now {
                break;
            }
            self.order.pop_front();
            if current {
                self.remove(&tuple);
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.order.front().map(|(at, _)| *at + TIME_WAIT)
    }

    /// All records.
    pub(crate) fn all(&self) -> Vec<FourTuple> {
        self.records.keys().copied().collect()
    }
}
