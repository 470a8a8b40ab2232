//! Dummy interfaces: what is sent on them is gone.

use super::Home;
use crate::socket::packet::frame::Checksum;
use crate::sync::{Mutex, rank};
use netstack::{Capabilities, Frame, Link};
use std::sync::Arc;

/// See the module.
pub struct Dummy {
    mac: Mutex<[u8; 6], { rank::LEAF }>,
    home: Mutex<Option<Home>, { rank::LEAF }>,
}

impl Dummy {
    /// One with a hardware address, which is nowhere yet.
    pub fn new(mac: [u8; 6]) -> Arc<Dummy> {
        Arc::new(Dummy { mac: Mutex::new(mac), home: Mutex::default() })
    }

    /// It is somewhere else now.
    pub fn settle(&self, home: Option<Home>) {
        let old = std::mem::replace(&mut *self.home.lock(), home);
        drop(old);
    }

    /// Changes its hardware address.
    pub fn set_mac(&self, mac: [u8; 6]) {
        *self.mac.lock() = mac;
    }
}

impl Link for Dummy {
    fn capabilities(&self) -> Capabilities {
        // It asks for nobody's link address (`IFF_NOARP`): the stack gives it bare packets.
        Capabilities { mac: None, mtu: 1500, tx_checksum: true, gso_max: 65_535, gather: false }
    }

    fn transmit(&self, frames: &[Frame]) -> usize {
        let home = self.home.lock().clone();
        let Some(home) = home.filter(|home| home.taps.is_watched()) else { return frames.len() };
        let mac = *self.mac.lock();
        for frame in frames {
            let packet = frame.bytes();
            let v6 = packet.first().is_some_and(|first| first >> 4 == 6);
            let kind: [u8; 2] = if v6 { [0x86, 0xdd] } else { [8, 0] };
            let bytes = match frame.origin() {
                0 => [&mac[..], &mac, &kind, packet].concat(),
                _ => packet.to_vec(),
            };
            let missing = frame.checksum().is_some();
            let checksum = if missing { Checksum::Missing } else { Checksum::Unknown };
            home.show(mac, true, &bytes, checksum, frame.origin());
        }
        frames.len()
    }
}
