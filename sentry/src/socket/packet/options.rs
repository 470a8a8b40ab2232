//! The options of `SOL_PACKET`.

use super::PacketSocket;
use super::ring::{self, Request, Ring};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::socket::OptionValue;
use crate::socket::options::int;
use crate::sync::{Mutex, rank};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

/// Numbers of the options.
mod number {
    pub const ADD_MEMBERSHIP: i32 = 1;
    pub const DROP_MEMBERSHIP: i32 = 2;
    pub const RX_RING: i32 = 5;
    pub const STATISTICS: i32 = 6;
    pub const AUXDATA: i32 = 8;
    pub const ORIGDEV: i32 = 9;
    pub const VERSION: i32 = 10;
    pub const HDRLEN: i32 = 11;
    pub const RESERVE: i32 = 12;
    pub const LOSS: i32 = 14;
    pub const TIMESTAMP: i32 = 17;
    pub const QDISC_BYPASS: i32 = 20;
    pub const IGNORE_OUTGOING: i32 = 23;
}

/// Most memberships of a socket.
const MAX_MEMBERSHIPS: usize = 1024;
/// `PACKET_MR_PROMISC`
const PROMISCUOUS: u16 = 1;
/// Size of a `struct packet_mreq`, and where its address is; addresses may be longer.
const MREQ: usize = 16;
const MREQ_ADDRESS: usize = 8;
const MAX_ADDRESS: usize = 32;

/// What a socket is a member of (`struct packet_mreq`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Membership {
    device: u32,
    kind: u16,
    len: u16,
    address: [u8; MAX_ADDRESS],
}

impl Membership {
    /// `EINVAL`.
    fn parse(value: &[u8]) -> Result<Membership> {
        let [d0, d1, d2, d3, k0, k1, l0, l1, ..] =
            *value.first_chunk::<MREQ>().ok_or(Errno::EINVAL)?;
        let len = u16::from_ne_bytes([l0, l1]);
        let given = value.get(MREQ_ADDRESS..).unwrap_or_default();
        let mut address = [0; MAX_ADDRESS];
        if usize::from(len) > given.len().min(MAX_ADDRESS) {
            return Err(Errno::EINVAL);
        }
        for (to, from) in address.iter_mut().zip(given) {
            *to = *from;
        }
        let (device, kind) = (u32::from_ne_bytes([d0, d1, d2, d3]), u16::from_ne_bytes([k0, k1]));
        Ok(Membership { device, kind, len, address })
    }

    fn is(&self, other: &Membership) -> bool {
        let address = |m: &Membership| m.address.get(..usize::from(m.len)).map(<[u8]>::to_vec);
        (self.device, self.kind, self.len) == (other.device, other.kind, other.len)
            && address(self) == address(other)
    }
}

/// The options of a socket.
#[derive(Default)]
pub(super) struct PacketOptions {
    auxdata: AtomicBool,
    origdev: AtomicBool,
    loss: AtomicBool,
    ignore_outgoing: AtomicBool,
    bypass: AtomicBool,
    version: AtomicI32,
    timestamp: AtomicI32,
    reserve: AtomicU32,
    /// Each with how often it was added.
    memberships: Mutex<Vec<(Membership, u32)>, { rank::LEAF }>,
}

impl PacketOptions {
    /// `PACKET_AUXDATA`
    pub(super) fn wants_auxdata(&self) -> bool {
        self.auxdata.load(Ordering::Relaxed)
    }

    /// `PACKET_IGNORE_OUTGOING`
    pub(super) fn ignores_outgoing(&self) -> bool {
        self.ignore_outgoing.load(Ordering::Relaxed)
    }

    fn switch(&self, name: i32) -> Option<&AtomicBool> {
        Some(match name {
            number::AUXDATA => &self.auxdata,
            number::ORIGDEV => &self.origdev,
            number::LOSS => &self.loss,
            number::IGNORE_OUTGOING => &self.ignore_outgoing,
            // There are no queues to go around.
            number::QDISC_BYPASS => &self.bypass,
            _ => return None,
        })
    }
}

impl PacketSocket {
    /// Reads an option; `given` is what the program has put in the place of the answer.
    pub(super) fn own_option(
        &self,
        name: i32,
        given: &mut dyn FnMut() -> Result<i32>,
    ) -> Result<OptionValue> {
        let own = &self.own;
        Ok(match name {
            number::STATISTICS => {
                let mut received = self.received.lock();
                if let Some(ring) = &mut received.ring {
                    ring.forget_losses();
                }
                let counts = received.take_counts();
                OptionValue::Bytes(counts.iter().flat_map(|n| n.to_ne_bytes()).collect())
            }
            number::VERSION => OptionValue::Int(own.version.load(Ordering::Relaxed)),
            number::HDRLEN => OptionValue::Int(ring::header_len(given()?)?),
            number::RESERVE => OptionValue::Int(own.reserve.load(Ordering::Relaxed) as i32),
            number::TIMESTAMP => OptionValue::Int(own.timestamp.load(Ordering::Relaxed)),
            name => {
                let switch = own.switch(name).ok_or(Errno::ENOPROTOOPT)?;
                OptionValue::Int(i32::from(switch.load(Ordering::Relaxed)))
            }
        })
    }

    /// Sets an option.
    pub(super) fn set_own_option(&self, t: &CurrentTask, name: i32, value: &[u8]) -> Result<()> {
        let own = &self.own;
        match name {
            number::ADD_MEMBERSHIP => self.add_membership(Membership::parse(value)?),
            number::DROP_MEMBERSHIP => {
                self.drop_membership(&Membership::parse(value)?);
                Ok(())
            }
            number::RX_RING => self.set_ring(t, Request::parse(value)?),
            number::VERSION => {
                let version = int(value)?;
                if version == ring::V3 || !(ring::V1..=ring::V2).contains(&version) {
                    return Err(Errno::EINVAL);
                }
                self.unless_ring(|| own.version.store(version, Ordering::Relaxed))
            }
            number::RESERVE => {
                let reserve = int(value)? as u32;
                if reserve > ring::max_reserve() {
                    return Err(Errno::EINVAL);
                }
                self.unless_ring(|| own.reserve.store(reserve, Ordering::Relaxed))
            }
            number::LOSS => {
                let on = int(value)? != 0;
                self.unless_ring(|| own.loss.store(on, Ordering::Relaxed))
            }
            // There is no hardware that stamps frames: all of them have the time at which they were seen.
            number::TIMESTAMP => {
                own.timestamp.store(int(value)?, Ordering::Relaxed);
                Ok(())
            }
            number::IGNORE_OUTGOING => {
                let on = int(value)?;
                if !(0..=1).contains(&on) {
                    return Err(Errno::EINVAL);
                }
                own.ignore_outgoing.store(on != 0, Ordering::Relaxed);
                Ok(())
            }
            name => {
                let switch = own.switch(name).ok_or(Errno::ENOPROTOOPT)?;
                switch.store(int(value)? != 0, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// Changes something that a ring is made by. `EBUSY` when there is one.
    fn unless_ring(&self, change: impl FnOnce()) -> Result<()> {
        if self.received.lock().ring.is_some() {
            return Err(Errno::EBUSY);
        }
        change();
        Ok(())
    }

    /// Makes a ring, or takes it away. `EBUSY`, `EINVAL`, `ENOMEM`.
    fn set_ring(&self, t: &CurrentTask, request: Request) -> Result<()> {
        let taps = &self.net.wire.taps;
        let busy = self.received.lock().ring.as_ref().map(Ring::is_mapped);
        if busy == Some(true) || (busy.is_some() && !request.is_empty()) {
            return Err(Errno::EBUSY);
        }
        if request.is_empty() {
            if request.slots != 0 {
                return Err(Errno::EINVAL);
            }
            let old = self.received.lock().ring.take();
            if let Some(old) = old {
                taps.give_ring(old.memory().len());
            }
            return Ok(());
        }
        if self.own.version.load(Ordering::Relaxed) != ring::V2 {
            return Err(Errno::EINVAL);
        }
        let reserve = self.own.reserve.load(Ordering::Relaxed);
        let bytes = request.check(reserve)?;
        taps.take_ring(bytes)?;
        let made = Ring::new(t.mm().memory_file(), request, reserve);
        let (ring, unread) = match made {
            Ok(ring) => {
                let mut received = self.received.lock();
                let unread = received.clear();
                (received.ring.replace(ring), unread)
            }
            Err(e) => {
                taps.give_ring(bytes);
                return Err(e);
            }
        };
        // Another thread was faster.
        if let Some(other) = &ring {
            taps.give_ring(other.memory().len());
        }
        drop((ring, unread));
        Ok(())
    }

    fn add_membership(&self, wanted: Membership) -> Result<()> {
        let longest = self.net.with_device(wanted.device, |_| 6).ok_or(Errno::ENODEV)?;
        if wanted.len > longest {
            return Err(Errno::EINVAL);
        }
        let mut all = self.own.memberships.lock();
        if let Some((_, count)) = all.iter_mut().find(|(m, _)| m.is(&wanted)) {
            *count = count.saturating_add(1);
            return Ok(());
        }
        if all.len() >= MAX_MEMBERSHIPS {
            return Err(Errno::ENOBUFS);
        }
        all.push((wanted, 1));
        drop(all);
        self.change_promiscuity(&wanted, 1);
        Ok(())
    }

    fn drop_membership(&self, unwanted: &Membership) {
        let mut all = self.own.memberships.lock();
        let Some(at) = all.iter().position(|(m, _)| m.is(unwanted)) else { return };
        let Some((_, count)) = all.get_mut(at) else { return };
        *count -= 1;
        if *count == 0 {
            all.remove(at);
            drop(all);
            self.change_promiscuity(unwanted, -1);
        }
    }

    /// Leaves everything.
    pub(super) fn drop_memberships(&self) {
        let all = std::mem::take(&mut *self.own.memberships.lock());
        for (membership, _) in all {
            self.change_promiscuity(&membership, -1);
        }
    }

    /// Interfaces count who wants everything of them.
    fn change_promiscuity(&self, membership: &Membership, by: i32) {
        if membership.kind == PROMISCUOUS
            && let Some(interface) = self.net.interfaces.write().get_mut(membership.device)
        {
            interface.promiscuity = interface.promiscuity.saturating_add_signed(by);
        }
    }
}
