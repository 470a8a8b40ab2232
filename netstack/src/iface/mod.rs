//! Interfaces: a link with its addresses, neighbours, groups and queue of frames to send.

pub(crate) mod address;
pub(crate) mod groups;
pub(crate) mod ndp;
pub(crate) mod neighbor;
pub(crate) mod queue;
pub(crate) mod solicit;

use crate::link::{Capabilities, Link};
use crate::stats::Counter;
use crate::wire::ethernet::MacAddr;
use address::Addresses;
use groups::Groups;
use neighbor::NeighborTable;
use parking_lot::{Mutex, RwLock};
use queue::TxQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Names an interface; small numbers, as `ifindex`. 1 is the loopback interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfaceId(pub u32);

/// The loopback interface.
pub(crate) const LOOPBACK: IfaceId = IfaceId(1);

/// Beyond the bits of a hardware address: there is one.
const HAS_MAC: u64 = 1 << 63;

/// Traffic counters of an interface.
#[derive(Debug, Default)]
pub struct IfaceStats {
    /// Frames received.
    pub rx_packets: Counter,
    /// Bytes received.
    pub rx_bytes: Counter,
    /// Frames sent.
    pub tx_packets: Counter,
    /// Bytes sent.
    pub tx_bytes: Counter,
    /// Frames dropped at the full queue.
    pub tx_dropped: Counter,
}

/// One interface. Its locks are leaves of the lock order except `tx_turn`; see the crate's head.
pub(crate) struct Iface {
    pub id: IfaceId,
    /// Its bit among the interfaces that exist.
    pub slot: u32,
    pub name: String,
    /// What the link could do when the interface was made; MTU and address may have been changed since.
    pub caps: Capabilities,
    mtu: AtomicUsize,
    /// The hardware address and [`HAS_MAC`], or zero.
    mac: AtomicU64,
    /// `None`: the loopback interface.
    pub link: Option<Arc<dyn Link>>,
    pub up: AtomicBool,
    /// Router advertisements configure the interface.
    pub accept_ra: AtomicBool,
    pub addresses: RwLock<Addresses>,
    pub neighbors: Mutex<NeighborTable>,
    pub groups: Mutex<Groups>,
    pub tx: Mutex<TxQueue>,
    /// Held by the one thread that hands frames to the link.
    pub tx_turn: Mutex<()>,
    pub stats: IfaceStats,
}

impl Iface {
    pub(crate) fn new(id: IfaceId, slot: u32, name: String, link: Option<Arc<dyn Link>>) -> Self {
        let caps = match &link {
            Some(link) => link.capabilities(),
            None => Capabilities {
                mac: None,
                mtu: 65536,
                tx_checksum: true,
                gso_max: 65535,
                gather: false,
            },
        };
        Self {
            id,
            slot,
            name,
            caps,
            mtu: AtomicUsize::new(caps.mtu),
            mac: AtomicU64::new(caps.mac.map_or(0, packed)),
            link,
            up: AtomicBool::new(true),
            accept_ra: AtomicBool::new(false),
            addresses: RwLock::default(),
            neighbors: Mutex::default(),
            groups: Mutex::default(),
            tx: Mutex::default(),
            tx_turn: Mutex::new(()),
            stats: IfaceStats::default(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.link.is_none()
    }

    /// The hardware address, on links that have one.
    pub(crate) fn mac(&self) -> Option<MacAddr> {
        let packed = self.mac.load(Ordering::Relaxed);
        let [.., a, b, c, d, e, f] = packed.to_be_bytes();
        (packed & HAS_MAC != 0).then_some(MacAddr([a, b, c, d, e, f]))
    }

    /// Changes it, on links that have one.
    pub(crate) fn set_mac(&self, mac: MacAddr) {
        if self.mac().is_some() {
            self.mac.store(packed(mac), Ordering::Relaxed);
        }
    }

    /// Largest IP packet, in bytes.
    pub(crate) fn mtu(&self) -> usize {
        self.mtu.load(Ordering::Relaxed)
    }

    pub(crate) fn set_mtu(&self, mtu: usize) {
        self.mtu.store(mtu, Ordering::Relaxed);
    }
}

fn packed(MacAddr([a, b, c, d, e, f]): MacAddr) -> u64 {
    HAS_MAC | u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}
