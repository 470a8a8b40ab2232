//! Links: what carries frames, and the frames.
//!
//! A link gets batches through [`Link::transmit`]; what it receives goes to `Stack::input`. Neither blocks.
//! Offloads follow virtio-net: a frame may leave with its transport checksum unfinished, or as one large TCP
//! segment that the link cuts, when the link says that it can.

use crate::rxbuf::{Kept, RxBuffer};
use crate::wire::ethernet::MacAddr;
use std::borrow::Cow;
use std::sync::Arc;

/// Room kept in front of a payload for headers: Ethernet 14, IPv6 40 with a fragment header 8, TCP 60.
const HEADROOM: usize = 128;

/// What a link can do.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// The hardware address; `None`: the link carries bare IP packets and has no neighbours to resolve.
    pub mac: Option<MacAddr>,
    /// Largest IP packet, in bytes.
    pub mtu: usize,
    /// The link finishes TCP and UDP checksums ([`Frame::checksum`]).
    pub tx_checksum: bool,
    /// The largest TCP packet, headers included, that the link cuts into segments ([`Frame::gso`]); zero: none.
    pub gso_max: usize,
    /// The link takes frames whose end lies elsewhere ([`Frame::tail`]).
    pub gather: bool,
}

/// A transport checksum for the link to finish: sum everything from `start`, store it at `start + offset`.
/// The field holds the sum of the pseudo-header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Where the transport header starts, from the start of the frame.
    pub start: usize,
    /// Where its checksum is, from `start`.
    pub offset: usize,
}

/// A TCP packet for the link to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// Payload bytes of each segment but the last.
    pub size: u16,
    /// Length of all headers.
    pub headers: usize,
    /// IPv6 rather than IPv4.
    pub v6: bool,
}

/// A frame to send.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    data: Vec<u8>,
    start: usize,
    /// What follows those bytes. Only large TCP packets, for links that take them, have some.
    pub(crate) tail: Vec<Kept>,
    pub(crate) checksum: Option<PartialChecksum>,
    pub(crate) gso: Option<Gso>,
    pub(crate) origin: u64,
}

impl Frame {
    /// The bytes, from the link header on; without [`Frame::tail`].
    pub fn bytes(&self) -> &[u8] {
        self.data.get(self.start..).unwrap_or_default()
    }

    /// What follows them, where a connection keeps it. Nothing for links without [`Capabilities::gather`].
    pub fn tail(&self) -> &[Kept] {
        &self.tail
    }

    /// All bytes, in one place.
    pub fn whole(&self) -> Cow<'_, [u8]> {
        if self.tail.is_empty() {
            return Cow::Borrowed(self.bytes());
        }
        let tail = self.tail.iter().map(Kept::bytes);
        Cow::Owned(std::iter::once(self.bytes()).chain(tail).collect::<Vec<_>>().concat())
    }

    /// The checksum left to the link.
    pub fn checksum(&self) -> Option<PartialChecksum> {
        self.checksum
    }

    /// What the caller of `Stack::inject` has named the frame's sender; 0 for the stack itself.
    pub fn origin(&self) -> u64 {
        self.origin
    }

    /// How the link is to cut the frame.
    pub fn gso(&self) -> Option<Gso> {
        self.gso
    }

    /// An empty packet on recycled storage.
    pub(crate) fn reuse(mut data: Vec<u8>) -> Self {
        data.clear();
        data.resize(HEADROOM, 0);
        Self { data, start: HEADROOM, ..Self::default() }
    }

    /// An empty packet with room for `payload` bytes.
    pub(crate) fn with_room(payload: usize) -> Self {
        Self::reuse(Vec::with_capacity(HEADROOM + payload))
    }

    /// A packet with this payload.
    #[cfg(test)]
    pub(crate) fn from_payload(payload: &[u8]) -> Self {
        let mut f = Self::with_room(payload.len());
        f.extend(payload);
        f
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.data.len() - self.start + self.tail.iter().map(Kept::len).sum::<usize>()
    }

    /// Appends payload, to what has no tail.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
    }

    /// Opens `n` bytes in front of what is there, zeroed.
    pub(crate) fn prepend(&mut self, n: usize) -> &mut [u8] {
        if n > self.start {
            // Only a packet with more headers than any of ours comes here.
            let more = n - self.start;
            self.data.splice(0..0, std::iter::repeat_n(0, more));
            self.start += more;
        }
        self.start -= n;
        if let Some(c) = &mut self.checksum {
            c.start += n;
        }
        if let Some(g) = &mut self.gso {
            g.headers += n;
        }
        let opened = self.data.get_mut(self.start..).and_then(|d| d.get_mut(..n));
        let opened = opened.unwrap_or_default();
        opened.fill(0);
        opened
    }

    /// The bytes, to be changed in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.data.get_mut(self.start..).unwrap_or_default()
    }

    /// The storage, for the pool.
    pub(crate) fn into_storage(self) -> Vec<u8> {
        self.data
    }
}

/// A frame that a link received.
#[derive(Clone, Copy, Debug)]
pub struct RxFrame<'a> {
    /// The bytes, from the link header on. May be a TCP packet that the link put together from many (GRO).
    pub data: &'a [u8],
    /// The link has checked the transport checksum, or the frame never left the machine.
    pub checksum_valid: bool,
    /// Where the bytes are, if they may be kept there.
    pub buffer: Option<&'a Arc<RxBuffer>>,
}

impl<'a> RxFrame<'a> {
    /// A frame whose checksums nobody has looked at.
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, checksum_valid: false, buffer: None }
    }
}

/// What carries frames to the outside.
pub trait Link: Send + Sync {
    /// What the link can do. Asked once, when the interface is made.
    fn capabilities(&self) -> Capabilities;

    /// Sends frames in order and returns how many it took; never blocks. When it took fewer than all, the
    /// rest stays queued (bounded) until `Stack::link_writable`. Called with no endpoint locked, by one
    /// thread at a time.
    fn transmit(&self, frames: &[Frame]) -> usize;
}

/// What a stack has to do with a frame, see [`Stack::expects`](crate::Stack::expects).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    No,
    /// It goes on with what begins a connection.
    Beginning,
    /// It belongs to a connection, or whoever has bound a port for datagrams; or it is ARP or NDP.
    Known,
}
