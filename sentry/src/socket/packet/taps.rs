//! The packet sockets of a network.

use super::PacketSocket;
use super::frame::{self, Checksum, Frame};
use crate::errno::{Errno, Result};
use crate::sync::{RwLock, rank};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Most bytes that the rings of a network's sockets have together.
const MAX_RINGS: u64 = 256 << 20;

/// Who looks at frames.
#[derive(Default)]
pub struct Taps {
    sockets: RwLock<Vec<Weak<PacketSocket>>, { rank::LEAF }>,
    count: AtomicUsize,
    rings: AtomicU64,
}

impl Taps {
    /// True if frames are worth showing.
    pub fn is_watched(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// A socket looks from now on.
    pub fn add(&self, socket: &Weak<PacketSocket>) {
        let mut sockets = self.sockets.write();
        sockets.push(socket.clone());
        self.count.store(sockets.len(), Ordering::Relaxed);
    }

    /// It does not any more. False if it did not look.
    pub fn remove(&self, socket: &Weak<PacketSocket>) -> bool {
        let mut sockets = self.sockets.write();
        let before = sockets.len();
        sockets.retain(|s| !s.ptr_eq(socket));
        self.count.store(sockets.len(), Ordering::Relaxed);
        sockets.len() < before
    }

    /// Every socket.
    pub fn all(&self) -> Vec<Arc<PacketSocket>> {
        self.sockets.read().iter().filter_map(Weak::upgrade).collect()
    }

    /// An interface has gone down, or is `removed`.
    pub fn interface_gone(&self, device: u32, removed: bool) {
        for socket in self.all() {
            socket.interface_gone(device, removed);
        }
    }

    /// A frame goes by. `sender`: the socket that has sent it.
    pub fn show(&self, frame: &Frame<'_>, sender: Option<u64>) {
        for socket in self.all() {
            socket.offer(frame, sender);
        }
    }

    /// A frame of the loopback interface, which goes out and comes in at once.
    pub fn show_loopback(&self, frame: &[u8], checksum: Checksum, sender: Option<u64>) {
        for outgoing in [true, false] {
            self.show(&Frame::loopback(frame, outgoing, checksum), sender);
        }
    }

    /// The same of an IP packet.
    pub fn show_packet(&self, packet: &[u8], checksum: Checksum) {
        if self.is_watched() {
            self.show_loopback(&frame::on_loopback(packet), checksum, None);
        }
    }

    /// Takes room for a ring. `ENOMEM`.
    pub fn take_ring(&self, bytes: u64) -> Result<()> {
        let fits = |all: u64| all.checked_add(bytes).filter(|all| *all <= MAX_RINGS);
        let taken = self.rings.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(drop).map_err(|_| Errno::ENOMEM)
    }

    /// Gives it back.
    pub fn give_ring(&self, bytes: u64) {
        self.rings.fetch_sub(bytes, Ordering::Relaxed);
    }
}
