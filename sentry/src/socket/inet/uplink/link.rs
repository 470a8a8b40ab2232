//! An Ethernet interface of the host behind packet sockets.
//!
//! Each packet has a `struct virtio_net_hdr` in front (`PACKET_VNET_HDR`), by which host and stack leave
//! checksums and the cutting of large TCP packets to each other.

use super::capture::{Capture, Direction, InterfaceNumber};
use crate::socket::packet::frame::{self, Checksum};
use crate::socket::packet::taps::Taps;
use netstack::{Capabilities, Frame, IfaceId, Kept, Link, MacAddr, RxBuffer, RxFrame, RxPool};
use platform::host::messages::Receiver;
use platform::host::{Errno, io};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Size of `struct virtio_net_hdr`.
const HEADER: usize = 10;
/// The largest packet of the host, and room for its link header.
const LARGEST: usize = 65_535 + 64;
/// The largest TCP packet that is left to the host to cut (`GSO_LEGACY_MAX_SIZE`).
const GSO_MAX: usize = 65_535;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM` and `VIRTIO_NET_HDR_F_DATA_VALID`
const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
/// `VIRTIO_NET_HDR_GSO_TCPV4` and `VIRTIO_NET_HDR_GSO_TCPV6`
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// See the module.
pub struct PacketLink {
    /// The socket that sends, which also receives what may belong to no flow; those for flows.
    socket: OwnedFd,
    flows: Vec<OwnedFd>,
    capabilities: Capabilities,
    /// The host took fewer frames than there were: they wait until it takes more.
    blocked: AtomicBool,
    /// Makes somebody wait for that.
    on_blocked: Box<dyn Fn() + Send + Sync>,
    /// Where its packets are kept.
    tap: Option<(Arc<Capture>, InterfaceNumber)>,
    /// The sandbox's packet sockets, and which interface it is to them.
    watched: OnceLock<(Arc<Taps>, IfaceId)>,
}

/// Packets that are taken from the host in one call.
pub const BATCH: usize = 16;

/// Room for some packets: another one for each that a connection keeps.
pub struct Batch {
    pool: Arc<RxPool>,
    rooms: Vec<Arc<RxBuffer>>,
    receiver: Receiver,
    /// How much of each room has something in it, since the last call.
    lengths: Vec<usize>,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Batch {
        let pool = RxPool::new(HEADER + LARGEST);
        let rooms = (0..BATCH).map(|_| pool.take()).collect();
        Batch { pool, rooms, receiver: Receiver::new(BATCH), lengths: Vec::new() }
    }

    /// Takes what there is on a socket.
    fn fill(&mut self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        for room in &mut self.rooms {
            // Somebody keeps what came into it.
            if Arc::get_mut(room).is_none() {
                *room = self.pool.take();
            }
        }
        let free = self.rooms.iter_mut().filter_map(Arc::get_mut).map(RxBuffer::bytes_mut);
        self.receiver.receive(socket, free, &mut self.lengths)
    }
}

impl PacketLink {
    /// A link on sockets as [`super::InterfaceSpec`] describes them. `on_blocked` is called when the host takes
    /// no more frames. `None` without a socket.
    pub fn new(
        sockets: Vec<OwnedFd>,
        mac: [u8; 6],
        mtu: u32,
        tap: Option<(Arc<Capture>, InterfaceNumber)>,
        on_blocked: impl Fn() + Send + Sync + 'static,
    ) -> Option<PacketLink> {
        let mut flows = sockets.into_iter();
        let socket = flows.next()?;
        let flows = flows.collect();
        let mtu = mtu.min(LARGEST as u32) as usize;
        let mac = Some(MacAddr(mac));
        let capabilities =
            Capabilities { mac, mtu, tx_checksum: true, gso_max: GSO_MAX, gather: true };
        let (blocked, on_blocked) = (AtomicBool::new(false), Box::new(on_blocked));
        let watched = OnceLock::new();
        Some(PacketLink { socket, flows, capabilities, blocked, on_blocked, tap, watched })
    }

    /// Shows its frames to packet sockets from now on, as those of an interface.
    pub fn show_to(&self, taps: &Arc<Taps>, interface: IfaceId) {
        // Only who makes the link calls this.
        let _ = self.watched.set((taps.clone(), interface));
    }

    /// Lets packet sockets see a frame.
    fn show(&self, outgoing: bool, bytes: &[u8], checksum: Checksum, sender: u64) {
        let Some((taps, IfaceId(device))) = self.watched.get() else { return };
        let Some(MacAddr(mac)) = self.capabilities.mac else { return };
        if !taps.is_watched() {
            return;
        }
        if let Some(frame) = frame::Frame::ethernet(*device, mac, outgoing, bytes, checksum) {
            taps.show(&frame, (sender != 0).then_some(sender));
        }
    }

    /// The sockets. The first is the one that sends.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.socket].into_iter().chain(&self.flows).map(AsFd::as_fd)
    }

    /// True while the stack waits for [`PacketLink::unblock`].
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// The host takes frames again.
    pub fn unblock(&self) {
        self.blocked.store(false, Ordering::Release);
    }

    /// The next packets that came to a socket of the link's; fewer than [`BATCH`]: there are no more. `EAGAIN` without one; others when the
    /// interface has trouble.
    pub fn receive<'a>(
        &self,
        socket: BorrowedFd<'_>,
        batch: &'a mut Batch,
    ) -> Result<(usize, Vec<RxFrame<'a>>), Errno> {
        batch.fill(socket)?;
        let packets = batch.rooms.iter().zip(&batch.lengths);
        let frames = packets.filter_map(|(room, len)| self.received(room, *len));
        Ok((batch.lengths.len(), frames.collect()))
    }

    fn received<'a>(&self, buffer: &'a Arc<RxBuffer>, len: usize) -> Option<RxFrame<'a>> {
        let packet = buffer.bytes().get(..len).unwrap_or_default();
        let (header, data) = packet.split_at_checked(HEADER)?;
        self.keep(Direction::In, data);
        let flags = header.first().copied().unwrap_or(0);
        let checksum_valid = flags & (NEEDS_CHECKSUM | DATA_VALID) != 0;
        let checksum = match flags {
            _ if flags & NEEDS_CHECKSUM != 0 => Checksum::Missing,
            _ if flags & DATA_VALID != 0 => Checksum::Valid,
            _ => Checksum::Unknown,
        };
        self.show(false, data, checksum, 0);
        Some(RxFrame { data, checksum_valid, buffer: Some(buffer) })
    }

    /// Shows a frame that has left, and keeps it, if somebody looks.
    fn sent(&self, frame: &Frame) {
        if self.tap.is_none() && self.watched.get().is_none_or(|(taps, _)| !taps.is_watched()) {
            return;
        }
        let missing = frame.checksum().is_some();
        let checksum = if missing { Checksum::Missing } else { Checksum::Unknown };
        let bytes = frame.whole();
        self.show(true, &bytes, checksum, frame.origin());
        self.keep(Direction::Out, &bytes);
    }

    fn keep(&self, direction: Direction, frame: &[u8]) {
        if let Some((capture, number)) = &self.tap {
            capture.packet(*number, direction, frame);
        }
    }

    fn send(&self, frame: &Frame) -> Result<usize, Errno> {
        let header = header(frame);
        if frame.tail().is_empty() {
            return io::write_vectored(self.socket.as_fd(), &[&header, frame.bytes()]);
        }
        let tail = frame.tail().iter().map(Kept::bytes);
        let parts: Vec<_> = [&header[..], frame.bytes()].into_iter().chain(tail).collect();
        io::write_vectored(self.socket.as_fd(), &parts)
    }
}

/// What the host is to do with a frame.
fn header(frame: &Frame) -> [u8; HEADER] {
    let mut words = [0u16; 4];
    let [header_len, gso_size, start, offset] = &mut words;
    let (mut flags, mut gso_type) = (0, 0);
    if let Some(sum) = frame.checksum() {
        flags = NEEDS_CHECKSUM;
        *start = sum.start as u16;
        *offset = sum.offset as u16;
    }
    if let Some(gso) = frame.gso() {
        gso_type = if gso.v6 { GSO_TCPV6 } else { GSO_TCPV4 };
        *header_len = gso.headers as u16;
        *gso_size = gso.size;
    }
    let mut out = [0; HEADER];
    let words = words.iter().flat_map(|word| word.to_ne_bytes());
    for (place, byte) in out.iter_mut().zip([flags, gso_type].into_iter().chain(words)) {
        *place = byte;
    }
    out
}

impl Link for PacketLink {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn transmit(&self, frames: &[Frame]) -> usize {
        for (n, frame) in frames.iter().enumerate() {
            loop {
                match self.send(frame) {
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) => {
                        self.blocked.store(true, Ordering::Release);
                        (self.on_blocked)();
                        return n;
                    }
                    Ok(_) => {
                        self.sent(frame);
                        break;
                    }
                    // Lost as on any network: the device's queue is full, it is down or gone.
                    _ => break,
                }
            }
        }
        frames.len()
    }
}
