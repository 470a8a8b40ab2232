//! Link addresses of neighbours that are set by hand.

use super::super::Net;
use super::super::uplink::error::errno;
use crate::errno::{Errno, Result};
use crate::socket::netlink::notify::{self, Cause};
use netstack::{IfaceId, MacAddr, NeighborState};
use std::net::IpAddr;
use std::sync::Arc;

/// A neighbour.
#[derive(Debug, Clone, Copy)]
pub struct Neighbor {
    /// Index of the interface.
    pub device: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its link address, if that is known.
    pub mac: Option<[u8; 6]>,
    /// Where it is in its life.
    pub state: NeighborState,
}

impl Neighbor {
    /// `NUD_*`
    pub fn state_number(&self) -> u16 {
        match self.state {
            NeighborState::Incomplete => 1,
            NeighborState::Reachable => 2,
            NeighborState::Stale => 4,
            NeighborState::Delay => 8,
            NeighborState::Probe => 0x10,
            NeighborState::Failed => 0x20,
            NeighborState::Permanent => 0x80,
        }
    }
}

impl Net {
    /// Every neighbour of every interface.
    pub fn neighbors(&self) -> Vec<Neighbor> {
        let Some(stack) = self.stack() else { return Vec::new() };
        let indexes: Vec<u32> = self.interfaces.read().iter().map(|i| i.index).collect();
        let of = |device: u32| {
            let list = stack.neighbors(IfaceId(device)).unwrap_or_default();
            list.into_iter().map(move |(ip, mac, state)| Neighbor {
                device,
                ip,
                mac: mac.map(|MacAddr(mac)| mac),
                state,
            })
        };
        let mut all: Vec<Neighbor> = indexes.into_iter().flat_map(of).collect();
        all.sort_by_key(|n| (n.device, n.ip));
        all
    }

    /// Sets a neighbour's link address. `ENODEV`, `EINVAL` on interfaces without neighbours, `EEXIST`.
    pub fn set_neighbor(
        self: &Arc<Net>,
        device: u32,
        ip: IpAddr,
        mac: [u8; 6],
        exclusive: bool,
        cause: Cause,
    ) -> Result<()> {
        self.with_device(device, |_| ()).ok_or(Errno::ENODEV)?;
        let stack = self.stack().ok_or(Errno::EINVAL)?;
        let known = stack.neighbors(IfaceId(device)).map_err(errno)?;
        if exclusive && known.iter().any(|(known, _, _)| *known == ip) {
            return Err(Errno::EEXIST);
        }
        stack.set_neighbor(IfaceId(device), ip, MacAddr(mac)).map_err(errno)?;
        let state = NeighborState::Permanent;
        notify::neighbor(self, &Neighbor { device, ip, mac: Some(mac), state }, true, cause);
        Ok(())
    }

    /// Forgets a neighbour. `ENODEV`, `ENOENT`.
    pub fn remove_neighbor(self: &Arc<Net>, device: u32, ip: IpAddr, cause: Cause) -> Result<()> {
        self.with_device(device, |_| ()).ok_or(Errno::ENODEV)?;
        let stack = self.stack().ok_or(Errno::ENOENT)?;
        if !stack.remove_neighbor(IfaceId(device), ip).map_err(errno)? {
            return Err(Errno::ENOENT);
        }
        let state = NeighborState::Failed;
        notify::neighbor(self, &Neighbor { device, ip, mac: None, state }, false, cause);
        Ok(())
    }
}
