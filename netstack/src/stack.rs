//! The stack: what holds everything together, and its life cycle.
//!
//! Frames come in through [`Stack::input`], time through [`Stack::poll`], work through the endpoints. Each of
//! them ends with [`Stack::flush`], which hands the frames that have gathered to their links.

use crate::budget::Budget;
use crate::config::Config;
use crate::demux::Demux;
use crate::endpoint::EndpointId;
use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::iface::address::IfaceAddr;
use crate::iface::{Iface, IfaceId, LOOPBACK};
use crate::ip::pmtu::PmtuCache;
use crate::ip::reassembly::Reassembly;
use crate::limiter::Limiter;
use crate::link::{Frame, Link, RxFrame};
use crate::random::{Key, KeyedHash, RandomSource};
use crate::route::RouteTable;
use crate::stats::Stats;
use crate::time::{Clock, Instant};
use crate::timers::{TimerKey, Timers};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// Interfaces of a stack; one bit each in `dirty`.
const MAX_IFACES: usize = 64;
/// Buffers kept for reuse, and the largest of them.
const POOL: usize = 256;
const POOL_BUFFER: usize = 4096;
/// The same for frames that the link cuts.
const LARGE_POOL: usize = 16;
const LARGE_BUFFER: usize = 80 << 10;
/// Rounds of loopback delivery in one flush: what two endpoints say to each other ends by itself, but the
/// caller should come back now and then.
const LOOPBACK_ROUNDS: usize = 10_000;

/// A TCP/IP stack.
pub struct Stack {
    me: Weak<Stack>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn RandomSource>,
    pub(crate) config: Config,
    pub(crate) keys: Keys,
    pub(crate) ifaces: RwLock<Vec<Arc<Iface>>>,
    next_iface: AtomicU32,
    pub(crate) routes: RwLock<RouteTable>,
    /// Our own addresses and where they are.
    pub(crate) locals: RwLock<HashMap<IpAddr, IfaceId>>,
    pub(crate) demux: Demux,
    pub(crate) timers: Mutex<Timers>,
    pub(crate) reassembly: Mutex<Reassembly>,
    pub(crate) pmtu: Mutex<PmtuCache>,
    pub(crate) icmp_limit: Mutex<Limiter>,
    pub(crate) challenge_limit: Mutex<Limiter>,
    /// Of resets for segments of no connection.
    pub(crate) reset_limit: Mutex<Limiter>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) endpoints: AtomicUsize,
    pub(crate) orphans: AtomicUsize,
    pub(crate) ip_id: AtomicU16,
    /// How far connections to a hash of destinations have used up the local ports (RFC 6056, algorithm 4).
    pub(crate) port_cursors: Vec<AtomicU32>,
    stats: Stats,
    pool: Mutex<Vec<Vec<u8>>>,
    large_pool: Mutex<Vec<Vec<u8>>>,
    next_id: AtomicU64,
    /// A bit for each interface with frames to send.
    dirty: AtomicU64,
    pub(crate) gate: OnceLock<Arc<dyn Gate>>,
}

/// Secrets of a stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    pub isn: Key,
    pub cookie: Key,
    pub timestamp: Key,
    pub port: Key,
    pub hash: KeyedHash,
}

impl Keys {
    fn new(random: &dyn RandomSource) -> Self {
        let key = || [random.next_u64(), random.next_u64()];
        Self { isn: key(), cookie: key(), timestamp: key(), port: key(), hash: KeyedHash(key()) }
    }
}

impl Stack {
    /// A stack with nothing but its loopback interface (127.0.0.1/8 and ::1).
    pub fn new(config: Config, clock: Arc<dyn Clock>, random: Arc<dyn RandomSource>) -> Arc<Self> {
        let keys = Keys::new(&*random);
        let stack = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            keys,
            ifaces: RwLock::default(),
            next_iface: AtomicU32::new(LOOPBACK.0 + 1),
            routes: RwLock::default(),
            locals: RwLock::default(),
            demux: Demux::new(keys.hash),
            timers: Mutex::default(),
            reassembly: Mutex::new(Reassembly::new(config.fragment_memory, keys.hash)),
            pmtu: Mutex::new(PmtuCache::new(keys.hash)),
            icmp_limit: Mutex::new(Limiter::new(config.icmp_per_second, 50)),
            reset_limit: Mutex::new(Limiter::new(config.resets_per_second, 1000)),
            challenge_limit: Mutex::new(Limiter::new(
                config.tcp.challenge_acks,
                config.tcp.challenge_acks,
            )),
            budget: Budget::new(config.memory_limit),
            endpoints: AtomicUsize::new(0),
            orphans: AtomicUsize::new(0),
            port_cursors: (0..256).map(|_| AtomicU32::new(random.next_u64() as u32)).collect(),
            ip_id: AtomicU16::new(random.next_u64() as u16),
            stats: Stats::default(),
            pool: Mutex::default(),
            large_pool: Mutex::default(),
            next_id: AtomicU64::new(1),
            dirty: AtomicU64::new(0),
            gate: OnceLock::new(),
            clock,
            random,
            config,
        });
        stack.add_loopback();
        stack
    }

    fn add_loopback(&self) {
        self.ifaces.write().push(Arc::new(Iface::new(LOOPBACK, 0, "lo".to_owned(), None)));
        for (addr, len) in [("127.0.0.1", 8), ("::1", 128)] {
            let cidr = addr.parse().ok().and_then(|addr| crate::Cidr::new(addr, len));
            if let Some(cidr) = cidr {
                let added = self.add_address(LOOPBACK, cidr);
                debug_assert!(added.is_ok());
            }
        }
    }

    /// Sets who is asked about connections that others begin. Only the first one counts.
    pub fn set_gate(&self, gate: Arc<dyn Gate>) {
        // A second one is the caller's mistake, which does no harm.
        let _ = self.gate.set(gate);
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Now, by the stack's clock.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Bytes that endpoint buffers take.
    pub fn memory_used(&self) -> usize {
        self.budget.used()
    }

    /// Endpoints of all kinds that exist.
    pub fn endpoint_count(&self) -> usize {
        self.endpoints.load(Ordering::Relaxed)
    }

    /// Makes an interface on a link. It is up and has no addresses.
    ///
    /// # Errors
    /// [`Error::NoBuffers`] when there are 64.
    pub fn add_interface(&self, name: &str, link: Arc<dyn Link>) -> Result<IfaceId> {
        let mut ifaces = self.ifaces.write();
        let is_free = |slot: &u32| ifaces.iter().all(|i| i.slot != *slot);
        let slot = (0..MAX_IFACES as u32).find(is_free).ok_or(Error::NoBuffers)?;
        let id = IfaceId(self.next_iface.fetch_add(1, Ordering::Relaxed));
        ifaces.push(Arc::new(Iface::new(id, slot, name.to_owned(), Some(link))));
        Ok(id)
    }

    /// Takes an interface away, with its addresses and routes. Its number is not given to another one.
    ///
    /// # Errors
    /// [`Error::NoDevice`]; [`Error::Invalid`] for the loopback interface.
    pub fn remove_interface(&self, id: IfaceId) -> Result<()> {
        let iface = self.iface(id)?;
        if iface.is_loopback() {
            return Err(Error::Invalid);
        }
        iface.up.store(false, Ordering::Relaxed);
        let own: Vec<IpAddr> =
            iface.addresses.read().list().iter().map(|a| a.cidr.addr()).collect();
        for addr in own {
            // Whoever takes an address away at the same time has done this already.
            let _ = self.remove_address(id, addr);
        }
        self.remove_routes_of(id);
        self.ifaces.write().retain(|i| i.id != id);
        let waiting = iface.tx.lock().take();
        self.recycle(waiting.into_iter());
        Ok(())
    }

    pub(crate) fn iface(&self, id: IfaceId) -> Result<Arc<Iface>> {
        self.ifaces.read().iter().find(|i| i.id == id).cloned().ok_or(Error::NoDevice)
    }

    pub(crate) fn arc(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// A name for a new endpoint, unless there are too many.
    pub(crate) fn new_endpoint(&self) -> Result<EndpointId> {
        if self.endpoints.fetch_add(1, Ordering::Relaxed) >= self.config.max_endpoints {
            self.endpoints.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::NoBuffers);
        }
        Ok(EndpointId(self.next_id.fetch_add(1, Ordering::Relaxed)))
    }

    /// The counterpart of [`new_endpoint`](Self::new_endpoint).
    pub(crate) fn endpoint_gone(&self) {
        self.endpoints.fetch_sub(1, Ordering::Relaxed);
    }

    /// An empty packet, on recycled storage when there is some.
    pub(crate) fn frame(&self, room: usize) -> Frame {
        let pool = if room < POOL_BUFFER { &self.pool } else { &self.large_pool };
        match pool.lock().pop() {
            Some(storage) => Frame::reuse(storage),
            None => Frame::with_room(room),
        }
    }

    pub(crate) fn recycle(&self, frames: impl Iterator<Item = Frame>) {
        let mut pool = self.pool.lock();
        for frame in frames {
            let storage = frame.into_storage();
            let size = storage.capacity();
            if size <= POOL_BUFFER {
                if pool.len() < POOL {
                    pool.push(storage);
                }
            } else if size <= LARGE_BUFFER {
                let mut pool = self.large_pool.lock();
                if pool.len() < LARGE_POOL {
                    pool.push(storage);
                }
            }
        }
    }

    /// Queues a frame, link header and all; false when it was dropped.
    pub(crate) fn enqueue(&self, iface: &Iface, frame: Frame) -> bool {
        let len = frame.len() as u64;
        if !iface.is_up() || !iface.tx.lock().push(frame) {
            iface.stats.tx_dropped.inc();
            self.stats.ip_out_discards.inc();
            return false;
        }
        iface.stats.tx_packets.inc();
        iface.stats.tx_bytes.add(len);
        self.dirty.fetch_or(1 << iface.slot, Ordering::Release);
        true
    }

    /// Takes in frames that the link of `iface` received.
    pub fn input(&self, iface: IfaceId, frames: &[RxFrame<'_>]) {
        if let Ok(iface) = self.iface(iface) {
            for frame in frames {
                self.input_frame(&iface, *frame);
            }
        }
        self.flush();
    }

    /// Sends a frame as it is, link header and all, on behalf of `origin`. False when the queue is full.
    ///
    /// # Errors
    /// [`Error::NoDevice`].
    pub fn inject(&self, iface: IfaceId, bytes: &[u8], origin: u64) -> Result<bool> {
        let iface = self.iface(iface)?;
        let mut frame = self.frame(bytes.len());
        frame.extend(bytes);
        frame.origin = origin;
        let queued = self.enqueue(&iface, frame);
        self.flush();
        Ok(queued)
    }

    /// The link of `iface` takes frames again.
    pub fn link_writable(&self, iface: IfaceId) {
        if let Ok(iface) = self.iface(iface) {
            self.dirty.fetch_or(1 << iface.slot, Ordering::Release);
        }
        self.flush();
    }

    /// Hands queued frames to their links. Only one thread at a time serves a link; who comes second leaves
    /// its frames to the first.
    pub(crate) fn flush(&self) {
        for _ in 0..LOOPBACK_ROUNDS {
            let dirty = self.dirty.swap(0, Ordering::Acquire);
            if dirty == 0 {
                return;
            }
            for slot in 0..MAX_IFACES as u32 {
                if dirty & (1 << slot) == 0 {
                    continue;
                }
                let iface = self.ifaces.read().iter().find(|i| i.slot == slot).cloned();
                if let Some(iface) = iface {
                    self.flush_iface(&iface);
                }
            }
        }
    }

    fn flush_iface(&self, iface: &Arc<Iface>) {
        loop {
            let Some(turn) = iface.tx_turn.try_lock() else { return };
            let mut frames = iface.tx.lock().take();
            let mut stuck = false;
            if let Some(link) = &iface.link {
                while !frames.is_empty() {
                    let taken = link.transmit(frames.make_contiguous());
                    if taken == 0 {
                        break;
                    }
                    self.recycle(frames.drain(..taken.min(frames.len())));
                }
                if !frames.is_empty() {
                    stuck = true;
                    iface.tx.lock().put_back(frames.into_iter());
                }
            } else {
                for frame in &frames {
                    let rx = RxFrame { checksum_valid: true, ..RxFrame::new(frame.bytes()) };
                    self.input_frame(iface, rx);
                }
                self.recycle(frames.into_iter());
            }
            drop(turn);
            // A frame that was queued meanwhile by a thread that did not get the turn is ours to send.
            if stuck || iface.tx.lock().is_empty() {
                return;
            }
        }
    }

    /// Sets or clears a deadline.
    pub(crate) fn set_timer(&self, key: TimerKey, at: Option<Instant>) {
        let earliest = self.timers.lock().set(key, at);
        if earliest && let Some(at) = at {
            self.clock.wake_by(at);
        }
    }

    /// Does what is due, and says when something will be due next.
    pub fn poll(&self) -> Option<Instant> {
        let now = self.now();
        loop {
            // Taken in a statement of its own: the guard must be gone before the work starts.
            let due = self.timers.lock().pop(now);
            let Some(key) = due else { break };
            match key {
                TimerKey::Tcp(id) => self.tcp_timer(id, now),
                TimerKey::TimeWait => self.time_wait_timer(now),
                TimerKey::Reassembly => self.reassembly_timer(now),
                TimerKey::Iface(id) => self.iface_timer(id, now),
            }
        }
        self.flush();
        self.timers.lock().next()
    }

    /// True when the address is this stack's own.
    pub fn is_local(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(a) if a.is_loopback() => true,
            _ => self.locals.read().contains_key(&addr),
        }
    }

    /// The addresses of an interface.
    ///
    /// # Errors
    /// [`Error::NoDevice`].
    pub fn addresses(&self, iface: IfaceId) -> Result<Vec<IfaceAddr>> {
        Ok(self.iface(iface)?.addresses.read().list().to_vec())
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("config", &self.config).finish_non_exhaustive()
    }
}
