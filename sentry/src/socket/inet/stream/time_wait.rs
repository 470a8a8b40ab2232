//! What is left of connections that are over: `TIME-WAIT`, and `FIN-WAIT-2` once nobody has the socket any more
//! (RFC 9293, 3.6.1; `tcp(7)`: `tcp_fin_timeout`, `tcp_max_tw_buckets`, `tcp_tw_reuse`).
//!
//! The side that ended a connection first keeps its port and the pair of addresses for a minute. [`Link`] knows which
//! side that is, [`TimeWait`] holds the remains.

use super::{StreamSocket, TCP_FIN_WAIT2, TCP_TIME_WAIT};
use crate::socket::inet::Net;
use crate::socket::inet::port::Claim;
use crate::socket::inet::table::{Registered, Tuple};
use crate::sync::{Mutex, rank};
use crate::time::{TimerQueue, TimerTarget};
use platform::host::time::Clock;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

const SECOND: u64 = 1_000_000_000;
/// How long the pair of addresses is kept (`TCP_TIMEWAIT_LEN`), nanoseconds.
const LENGTH: u64 = 60 * SECOND;
/// Age from which `connect(2)` may take a pair again, where it chooses the port itself (`tcp_tw_reuse_delay`).
const REUSE_AFTER: u64 = SECOND;
/// Default of `tcp_max_tw_buckets`.
const MAX: i32 = 32_768;
/// The most that it can be.
const LIMIT: i32 = 65_536;

/// The remains of one end.
struct Remains {
    family: i32,
    /// `TCP_TIME_WAIT` or `TCP_FIN_WAIT2`.
    state: u8,
    since: u64,
    /// Its place in the order of deadlines.
    key: (u64, u64),
    _claim: Option<Arc<Claim<StreamSocket>>>,
}

#[derive(Default)]
struct Inner {
    by_tuple: FxHashMap<Tuple, Remains>,
    by_deadline: BTreeMap<(u64, u64), Tuple>,
}

impl Inner {
    fn remove(&mut self, tuple: &Tuple) -> Option<Remains> {
        let remains = self.by_tuple.remove(tuple)?;
        self.by_deadline.remove(&remains.key);
        Some(remains)
    }
}

/// One of them, as it is listed.
pub struct Waiting {
    /// `AF_INET` or `AF_INET6`.
    pub family: i32,
    /// `TCP_TIME_WAIT` or `TCP_FIN_WAIT2`.
    pub state: u8,
    /// Both ends.
    pub tuple: Tuple,
}

/// The remains of a network's connections.
pub struct TimeWait {
    this: Weak<TimeWait>,
    inner: Mutex<Inner, { rank::LEAF }>,
    next_id: AtomicU64,
    /// When the first timer that is set calls; `u64::MAX` without one.
    armed: AtomicU64,
    /// `tcp_max_tw_buckets`: connections beyond it leave nothing.
    pub max: AtomicI32,
    /// How many have been let go when their time was over, for a new connection, and at once for want of room.
    pub finished: AtomicU64,
    /// See [`TimeWait::finished`].
    pub recycled: AtomicU64,
    /// See [`TimeWait::finished`].
    pub overflowed: AtomicU64,
}

impl TimeWait {
    /// Of no connections.
    pub fn new() -> Arc<TimeWait> {
        Arc::new_cyclic(|this| TimeWait {
            this: this.clone(),
            inner: Mutex::default(),
            next_id: AtomicU64::new(0),
            armed: AtomicU64::new(u64::MAX),
            max: AtomicI32::new(MAX),
            finished: AtomicU64::new(0),
            recycled: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
        })
    }

    /// Sets `tcp_max_tw_buckets`. It is the sandbox's memory: no more than a bound of its own.
    pub fn set_max(&self, max: i32) {
        self.max.store(max.clamp(0, LIMIT), Ordering::Relaxed);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.inner.lock().by_tuple.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Waiting> {
        let inner = self.inner.lock();
        let one = |(tuple, r): (&Tuple, &Remains)| Waiting {
            family: r.family,
            state: r.state,
            tuple: *tuple,
        };
        inner.by_tuple.iter().map(one).collect()
    }

    /// True if `connect(2)` may choose this pair. It is then to be [forgotten](TimeWait::forget).
    pub fn may_reuse(&self, tuple: &Tuple) -> bool {
        let inner = self.inner.lock();
        let Some(remains) = inner.by_tuple.get(tuple) else { return true };
        remains.state == TCP_TIME_WAIT
            && Clock::Monotonic.now() >= remains.since.saturating_add(REUSE_AFTER)
    }

    /// Gives back what was kept of a connection: it is used again, or was reset.
    pub fn forget(&self, tuple: &Tuple) {
        // Its claim is let go without the lock.
        let old = self.inner.lock().remove(tuple);
        self.recycled.fetch_add(u64::from(old.is_some()), Ordering::Relaxed);
        drop(old);
    }

    fn enter(&self, place: Place, state: u8, length: u64) {
        let Place { entry, claim, tuple, family } = place;
        let now = Clock::Monotonic.now();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let key = (now.saturating_add(length), id);
        let mut gone = self.expire(now);
        {
            let mut inner = self.inner.lock();
            if inner.by_tuple.len() < usize::try_from(self.max.load(Ordering::Relaxed)).unwrap_or(0)
            {
                gone.extend(inner.remove(&tuple));
                inner.by_deadline.insert(key, tuple);
                inner
                    .by_tuple
                    .insert(tuple, Remains { family, state, since: now, key, _claim: claim });
            } else {
                self.overflowed.fetch_add(1, Ordering::Relaxed);
            }
        }
        drop((entry, gone));
        self.arm(key.0);
    }

    /// The other side of a connection in `FIN-WAIT-2` has sent its `FIN`.
    fn advance(&self, tuple: &Tuple) {
        let now = Clock::Monotonic.now();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.inner.lock();
        let Some(mut remains) = inner.remove(tuple) else { return };
        remains.state = TCP_TIME_WAIT;
        remains.since = now;
        remains.key = (now.saturating_add(LENGTH), id);
        inner.by_deadline.insert(remains.key, *tuple);
        inner.by_tuple.insert(*tuple, remains);
    }

    fn expire(&self, now: u64) -> Vec<Remains> {
        let mut gone = Vec::new();
        let mut inner = self.inner.lock();
        while let Some((key, tuple)) = inner.by_deadline.first_key_value() {
            if key.0 > now {
                break;
            }
            let tuple = *tuple;
            gone.extend(inner.remove(&tuple));
        }
        self.finished.fetch_add(gone.len() as u64, Ordering::Relaxed);
        gone
    }

    /// Sees to it that what is over at `deadline` is let go then.
    fn arm(&self, deadline: u64) {
        if let Some(task) = crate::kernel::current() {
            self.arm_in(&task.kernel().timers, deadline);
        }
    }

    fn arm_in(&self, queue: &Arc<TimerQueue>, deadline: u64) {
        // One that calls earlier sets the next.
        if self.armed.fetch_min(deadline, Ordering::SeqCst) > deadline {
            let this: Weak<TimeWait> = self.this.clone();
            queue.set(deadline, this, 0);
        }
    }
}

impl TimerTarget for TimeWait {
    fn expired(&self, queue: &Arc<TimerQueue>, _cookie: u64) {
        let gone = self.expire(Clock::Monotonic.now());
        drop(gone);
        self.armed.store(u64::MAX, Ordering::SeqCst);
        let first = self.inner.lock().by_deadline.first_key_value().map(|(key, _)| key.0);
        if let Some(deadline) = first {
            self.arm_in(queue, deadline);
        }
    }
}

/// What an end holds while the connection lasts.
struct Place {
    entry: Registered<StreamSocket>,
    claim: Option<Arc<Claim<StreamSocket>>>,
    tuple: Tuple,
    family: i32,
}

/// What both ends of a connection share: who was the first to say that it would send no more.
pub(super) struct Link {
    waits: Arc<TimeWait>,
    first: AtomicU8,
    tuples: [Tuple; 2],
    places: [Mutex<Option<Place>, { rank::LEAF }>; 2],
}

/// Nobody has said so yet.
const NOBODY: u8 = 2;

/// Which end of a [`Link`]: the one that connected is 0.
pub(super) type End = u8;

impl Link {
    /// Of a connection between the ends with these places in the table. One that a socket has with itself has one.
    pub(super) fn new(
        net: &Net,
        client: Registered<StreamSocket>,
        server: Option<Registered<StreamSocket>>,
        families: [i32; 2],
        claims: [Option<Arc<Claim<StreamSocket>>>; 2],
    ) -> Arc<Link> {
        let [client_family, server_family] = families;
        let [client_claim, server_claim] = claims;
        let place = |entry: Registered<StreamSocket>, claim, family| {
            let tuple = entry.tuple();
            Place { entry, claim, tuple, family }
        };
        let client = place(client, client_claim, client_family);
        let server = server.map(|entry| place(entry, server_claim, server_family));
        let tuples = [client.tuple, server.as_ref().map_or(client.tuple, |s| s.tuple)];
        let places = [Mutex::new(Some(client)), Mutex::new(server)];
        Arc::new(Link {
            waits: net.time_wait.clone(),
            first: AtomicU8::new(NOBODY),
            tuples,
            places,
        })
    }

    fn take(&self, end: End) -> Option<Place> {
        self.places.get(usize::from(end))?.lock().take()
    }

    fn tuple(&self, end: End) -> Option<&Tuple> {
        self.tuples.get(usize::from(end))
    }

    /// `end` has sent its `FIN`. `both`: the other side had.
    pub(super) fn finished(&self, end: End, both: bool) {
        let first = self.first.compare_exchange(NOBODY, end, Ordering::SeqCst, Ordering::SeqCst);
        let first = match first {
            Ok(_) => end,
            Err(first) => first,
        };
        if !both && first == end {
            return;
        }
        let last = self.take(1 - first);
        match self.take(first) {
            Some(place) => self.waits.enter(place, TCP_TIME_WAIT, LENGTH),
            None => {
                if let Some(tuple) = self.tuple(first) {
                    self.waits.advance(tuple);
                }
            }
        }
        drop(last);
    }

    /// The socket of `end`, which has sent its `FIN`, is gone; the other side has not sent its own yet. `seconds`: how long
    /// that is waited for.
    pub(super) fn orphaned(&self, end: End, seconds: u32) {
        if let Some(place) = self.take(end) {
            let length = u64::from(seconds).saturating_mul(SECOND);
            self.waits.enter(place, TCP_FIN_WAIT2, length);
        }
    }

    /// The connection was reset: nothing of it remains.
    pub(super) fn broken(&self) {
        for end in [0, 1] {
            let place = self.take(end);
            if let Some(tuple) = self.tuple(end).filter(|_| place.is_none()) {
                self.waits.forget(tuple);
            }
        }
    }

    /// The remains of an end, if there are any, are seen to by the other side.
    pub(super) fn advance(&self, end: End) {
        if let Some(tuple) = self.tuple(end) {
            self.waits.advance(tuple);
        }
    }
}
