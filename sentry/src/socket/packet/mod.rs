//! `AF_PACKET` (`packet(7)`): frames of interfaces as they are.
//!
//! * [`PacketSocket`]: the socket, and which frames it is shown. [`frame`]: frames. [`taps`]: all sockets that look.
//! * [`queue`]: frames that wait to be received. [`ring`]: the same in memory shared with the program
//!   (`PACKET_RX_RING`). [`send`]: frames it sends.
//! * [`address`]: `struct sockaddr_ll`. [`options`]: the options of `SOL_PACKET`. [`socket`]: the socket as system calls
//!   see it.
//!
//! Sockets of one sandbox make no packets: those of the loopback interface are made for who looks
//! ([`crate::socket::inet::wire`]).

pub mod address;
pub mod frame;
mod options;
mod queue;
mod ring;
mod send;
mod socket;
pub mod taps;

use super::family::Family;
use super::filter::SocketFilter;
use super::inet::Net;
use super::inet::uplink::Uplink;
use super::{Kind, Options, Socket};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::credentials::CAP_NET_RAW;
use crate::socket::options::DEFAULT_BUFFER;
use crate::sync::{Mutex, rank};
use crate::wait::{EventMask, WaitQueue};
use frame::Frame;
use options::PacketOptions;
use queue::Received;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// `AF_PACKET`
pub const AF_PACKET: i32 = 17;
/// `SOL_PACKET`
pub const SOL_PACKET: i32 = 263;

const SOCK_DGRAM: i32 = 2;
const SOCK_RAW: i32 = 3;

/// `AF_PACKET`.
pub struct PacketFamily;

impl Family for PacketFamily {
    fn number(&self) -> i32 {
        AF_PACKET
    }

    fn create(&self, t: &CurrentTask, kind: i32, protocol: i32) -> Result<Arc<dyn Socket>> {
        if !Net::capable(t, CAP_NET_RAW) {
            return Err(Errno::EPERM);
        }
        let net = Net::of(t);
        // The host's own interfaces are nothing that a sandbox may listen at.
        if matches!(net.uplink.get(), Some(Uplink::Host(_))) {
            return Err(Errno::EAFNOSUPPORT);
        }
        let kind = match kind {
            SOCK_DGRAM => Kind::Dgram,
            SOCK_RAW => Kind::Raw,
            _ => return Err(Errno::ESOCKTNOSUPPORT),
        };
        // It is in the byte order of the network.
        let protocol = u16::from_be(protocol as u16);
        Ok(PacketSocket::new(&net, kind, protocol, Options::new(t)))
    }
}

/// What a socket is bound to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Binding {
    /// `ETH_P_*`; 0: nothing is shown to it.
    protocol: u16,
    /// Index of the interface; 0 for all.
    device: u32,
}

/// A packet socket.
pub struct PacketSocket {
    this: Weak<PacketSocket>,
    net: Arc<Net>,
    kind: Kind,
    options: Options,
    filter: SocketFilter,
    own: PacketOptions,
    sndbuf: AtomicUsize,
    /// Names it to itself among frames that it has sent.
    id: u64,
    binding: Mutex<Binding, { rank::LEAF }>,
    error: AtomicI32,
    /// When the frame that was received last had come: nanoseconds since the epoch.
    last: AtomicU64,
    queue: WaitQueue,
    received: Mutex<Received, { rank::INODE_NESTED }>,
}

impl PacketSocket {
    /// A socket for frames of `protocol` of all interfaces.
    pub fn new(net: &Arc<Net>, kind: Kind, protocol: u16, options: Options) -> Arc<PacketSocket> {
        let socket = Arc::new_cyclic(|this| PacketSocket {
            this: this.clone(),
            net: net.clone(),
            kind,
            options,
            filter: SocketFilter::default(),
            own: PacketOptions::default(),
            sndbuf: AtomicUsize::new(DEFAULT_BUFFER),
            id: net.next_cookie(),
            binding: Mutex::new(Binding { protocol, device: 0 }),
            error: AtomicI32::new(0),
            last: AtomicU64::new(0),
            queue: WaitQueue::new(),
            received: Mutex::default(),
        });
        net.wire.add_tap(&socket.this);
        socket
    }

    fn binding(&self) -> Binding {
        *self.binding.lock()
    }

    /// A frame goes by: takes it if it is for this socket. `sender` is the socket that has sent it, if one has.
    pub fn offer(&self, frame: &Frame<'_>, sender: Option<u64>) {
        let binding = self.binding();
        let outgoing = frame.kind == frame::OUTGOING;
        let wanted = match binding.protocol {
            0 => false,
            frame::ETH_P_ALL => {
                let own = outgoing && sender == Some(self.id);
                let ignored = outgoing && self.own.ignores_outgoing();
                !own && !ignored
            }
            protocol => !outgoing && protocol == frame.protocol,
        };
        if !wanted || (binding.device != 0 && binding.device != frame.device) {
            return;
        }
        let cooked = self.kind == Kind::Dgram;
        let input = frame.input(cooked);
        let most = self.filter.admits(&input);
        if most == 0 {
            return;
        }
        let taken = {
            let mut received = self.received.lock();
            received.take(frame, cooked, most, self.options.rcvbuf())
        };
        if taken {
            self.queue.notify(EventMask::READABLE);
        }
    }

    /// An interface has gone down (`ENETDOWN`) or is no more: who is bound to it is told.
    pub fn interface_gone(&self, device: u32, removed: bool) {
        {
            let mut binding = self.binding.lock();
            if binding.device != device || binding.protocol == 0 {
                return;
            }
            if removed {
                binding.device = u32::MAX;
            }
        }
        self.error.store(Errno::ENETDOWN.raw(), Ordering::SeqCst);
        self.queue.notify(EventMask::ERR);
    }
}
