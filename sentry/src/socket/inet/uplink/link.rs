//! An Ethernet interface of the host behind a packet socket.
//!
//! Each packet has a `struct virtio_net_hdr` in front (`PACKET_VNET_HDR`), by which host and stack leave
//! checksums and the cutting of large TCP packets to each other.

use super::capture::{Capture, Direction, InterfaceNumber};
use crate::socket::packet::frame::{self, Checksum};
use crate::socket::packet::taps::Taps;
use netstack::{Capabilities, Frame, IfaceId, Link, MacAddr, RxBuffer, RxFrame, RxPool};
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
    socket: OwnedFd,
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

/// Room for one packet: another one for each that a connection keeps.
pub struct Buffer {
    pool: Arc<RxPool>,
    room: Arc<RxBuffer>,
}

impl Buffer {
    /// An empty one.
    pub fn new() -> Buffer {
        let pool = RxPool::new(HEADER + LARGEST);
        Buffer { room: pool.take(), pool }
    }

    /// The room, when nobody else has it any more.
    fn free(&mut self) -> &mut [u8] {
        if Arc::get_mut(&mut self.room).is_none() {
            self.room = self.pool.take();
        }
        Arc::get_mut(&mut self.room).map(RxBuffer::bytes_mut).unwrap_or_default()
    }
}

impl PacketLink {
    /// A link on a socket as [`super::InterfaceSpec`] describes it. `on_blocked` is called when the host takes
    /// no more frames.
    pub fn new(
        socket: OwnedFd,
        mac: [u8; 6],
        mtu: u32,
        tap: Option<(Arc<Capture>, InterfaceNumber)>,
        on_blocked: impl Fn() + Send + Sync + 'static,
    ) -> PacketLink {
        let mtu = mtu.min(LARGEST as u32) as usize;
        let mac = Some(MacAddr(mac));
        let capabilities = Capabilities { mac, mtu, tx_checksum: true, gso_max: GSO_MAX };
        let (blocked, on_blocked) = (AtomicBool::new(false), Box::new(on_blocked));
        PacketLink { socket, capabilities, blocked, on_blocked, tap, watched: OnceLock::new() }
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

    /// The socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// True while the stack waits for [`PacketLink::unblock`].
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// The host takes frames again.
    pub fn unblock(&self) {
        self.blocked.store(false, Ordering::Release);
    }

    /// The next packet that came in. `EAGAIN` without one; others when the interface has trouble.
    pub fn receive<'a>(&self, buffer: &'a mut Buffer) -> Result<Option<RxFrame<'a>>, Errno> {
        let n = io::read(self.socket.as_fd(), buffer.free(), None)?;
        let buffer = &buffer.room;
        let packet = buffer.bytes().get(..n).unwrap_or_default();
        let Some((header, data)) = packet.split_at_checked(HEADER) else { return Ok(None) };
        self.keep(Direction::In, data);
        let flags = header.first().copied().unwrap_or(0);
        let checksum_valid = flags & (NEEDS_CHECKSUM | DATA_VALID) != 0;
        let checksum = match flags {
            _ if flags & NEEDS_CHECKSUM != 0 => Checksum::Missing,
            _ if flags & DATA_VALID != 0 => Checksum::Valid,
            _ => Checksum::Unknown,
        };
        self.show(false, data, checksum, 0);
        Ok(Some(RxFrame { data, checksum_valid, buffer: Some(buffer) }))
    }

    fn keep(&self, direction: Direction, frame: &[u8]) {
        if let Some((capture, number)) = &self.tap {
            capture.packet(*number, direction, frame);
        }
    }

    fn send(&self, frame: &Frame) -> Result<usize, Errno> {
        io::write_vectored(self.socket.as_fd(), &[&header(frame), frame.bytes()])
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
            let missing = frame.checksum().is_some();
            let checksum = if missing { Checksum::Missing } else { Checksum::Unknown };
            loop {
                match self.send(frame) {
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) => {
                        self.blocked.store(true, Ordering::Release);
                        (self.on_blocked)();
                        return n;
                    }
                    Ok(_) => {
                        self.show(true, frame.bytes(), checksum, frame.origin());
                        self.keep(Direction::Out, frame.bytes());
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
