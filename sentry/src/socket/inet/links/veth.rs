//! Pairs of interfaces: what is sent on one comes in on the other.
//!
//! A frame goes into the other end's queue, which is bounded, and from there into the stack by the [`super::ticker`]'s
//! thread. Checksums are never added up, and large TCP packets never cut: they do not leave memory.

use super::Home;
use super::ticker::{self, Input};
use crate::socket::packet::frame::Checksum;
use crate::sync::{Mutex, rank};
use netstack::{Capabilities, Frame, IfaceId, Link, MacAddr, RxFrame};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// Frames in a queue, and their bytes.
const MAX_FRAMES: usize = 2048;
const MAX_BYTES: usize = 8 << 20;

/// A frame on its way.
struct Arriving {
    bytes: Vec<u8>,
    /// Its checksum was left to the interface.
    missing: bool,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Arriving>,
    bytes: usize,
}

/// One of a pair.
pub struct Veth {
    this: Weak<Veth>,
    mac: Mutex<[u8; 6], { rank::LEAF }>,
    peer: OnceLock<Weak<Veth>>,
    up: AtomicBool,
    home: Mutex<Option<Home>, { rank::LEAF }>,
    queue: Mutex<Queue, { rank::LEAF }>,
}

impl Veth {
    /// Two that are nowhere yet.
    pub fn pair(macs: [[u8; 6]; 2]) -> [Arc<Veth>; 2] {
        let [a, b] = macs.map(|mac| {
            Arc::new_cyclic(|this| Veth {
                this: this.clone(),
                mac: Mutex::new(mac),
                peer: OnceLock::new(),
                up: AtomicBool::new(false),
                home: Mutex::default(),
                queue: Mutex::default(),
            })
        });
        // Nobody else has them yet.
        let _ = a.peer.set(Arc::downgrade(&b));
        let _ = b.peer.set(Arc::downgrade(&a));
        [a, b]
    }

    /// The other one, while there is one.
    pub fn peer(&self) -> Option<Arc<Veth>> {
        self.peer.get().and_then(Weak::upgrade)
    }

    /// Where it is.
    pub fn home(&self) -> Option<Home> {
        self.home.lock().clone()
    }

    /// It is somewhere else now; what was on its way is lost.
    pub fn settle(&self, home: Option<Home>) {
        let old = std::mem::replace(&mut *self.home.lock(), home);
        let lost = std::mem::take(&mut *self.queue.lock());
        drop((old, lost));
    }

    /// It was started or stopped.
    pub fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
    }

    /// True if both are started.
    pub fn has_carrier(&self) -> bool {
        let up = |veth: &Veth| veth.up.load(Ordering::SeqCst) && veth.home.lock().is_some();
        up(self) && self.peer().is_some_and(|peer| up(&peer))
    }

    /// Changes its hardware address.
    pub fn set_mac(&self, mac: [u8; 6]) {
        *self.mac.lock() = mac;
    }

    /// A frame has come from the other end.
    fn arrive(&self, frame: &Frame) {
        let arriving =
            Arriving { bytes: frame.bytes().to_vec(), missing: frame.checksum().is_some() };
        let first = {
            let mut queue = self.queue.lock();
            let len = arriving.bytes.len();
            if queue.frames.len() >= MAX_FRAMES || queue.bytes + len > MAX_BYTES {
                return;
            }
            queue.bytes += len;
            queue.frames.push_back(arriving);
            queue.frames.len() == 1
        };
        if first && let Some(this) = self.this.upgrade() {
            ticker::ready(this);
        }
    }
}

impl Link for Veth {
    fn capabilities(&self) -> Capabilities {
        let mac = Some(MacAddr(*self.mac.lock()));
        Capabilities { mac, mtu: 1500, tx_checksum: true, gso_max: 65_535, gather: false }
    }

    fn transmit(&self, frames: &[Frame]) -> usize {
        let (home, mac) = (self.home(), *self.mac.lock());
        let peer = self.peer().filter(|_| self.has_carrier());
        for frame in frames {
            if let Some(home) = &home {
                let missing = frame.checksum().is_some();
                let checksum = if missing { Checksum::Missing } else { Checksum::Unknown };
                home.show(mac, true, frame.bytes(), checksum, frame.origin());
            }
            if let Some(peer) = &peer {
                peer.arrive(frame);
            }
        }
        frames.len()
    }
}

impl Input for Veth {
    fn take_in(&self, most: usize) -> bool {
        let (home, mac) = (self.home(), *self.mac.lock());
        for _ in 0..most {
            let next = {
                let mut queue = self.queue.lock();
                let next = queue.frames.pop_front();
                queue.bytes -= next.as_ref().map_or(0, |frame| frame.bytes.len());
                next
            };
            let Some(frame) = next else { return false };
            let Some(home) = &home else { continue };
            let checksum = if frame.missing { Checksum::Missing } else { Checksum::Unknown };
            home.show(mac, false, &frame.bytes, checksum, 0);
            if let Some(stack) = home.stack.upgrade() {
                let rx = RxFrame { checksum_valid: frame.missing, ..RxFrame::new(&frame.bytes) };
                stack.input(IfaceId(home.index), &[rx]);
            }
        }
        !self.queue.lock().frames.is_empty()
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        // With its network an end is gone without anybody's removing it: the other one goes as well.
        if let Some(peer) = self.peer() {
            ticker::bereaved(peer);
        }
    }
}
