//! Connections of the stack's.

use super::super::core::Core;
use super::super::{StreamSocket, TCP_CLOSE, TCP_CLOSE_WAIT};
use super::super::{TCP_ESTABLISHED, TCP_FIN_WAIT2, TCP_LISTEN, TCP_SYN_SENT};
use super::scratch::{CHUNK, Scratch};
use super::{TCP_SYN_RECV, TCP_TIME_WAIT, Transport};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::socket::inet::addr::{AF_INET, Endpoint};
use crate::socket::inet::uplink::error::{errno, events};
use crate::sync::{Mutex, rank};
use crate::wait::EventMask;
use netstack::{
    Family, Readiness, RxBuffer, RxPool, Shutdown, TcpInfo, TcpSocket, TcpStateName, Waker,
};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

/// `TCP_FIN_WAIT1`
const TCP_FIN_WAIT1: u8 = 4;
/// `TCP_LAST_ACK`
const TCP_LAST_ACK: u8 = 9;
/// `TCP_CLOSING`
const TCP_CLOSING: u8 = 11;

/// Where much that is sent is copied to.
static LARGE: LazyLock<Arc<RxPool>> = LazyLock::new(|| RxPool::new(CHUNK));

/// An endpoint of the stack.
pub struct StackStream {
    tcp: TcpSocket,
    /// Held while bytes are looked at, copied and taken off: one reader at a time.
    reader: Mutex<(), { rank::INODE }>,
}

/// Tells those who wait on a socket.
pub struct CoreWaker(pub Arc<Core>);

impl Waker for CoreWaker {
    fn wake(&self, ready: Readiness) {
        self.0.queue.notify(events(ready));
    }
}

/// As the stack writes it.
pub fn socket_addr(at: Endpoint) -> SocketAddr {
    SocketAddr::new(at.ip, at.port)
}

/// As sockets here write it.
pub fn endpoint(at: SocketAddr) -> Endpoint {
    Endpoint::new(at.ip(), at.port())
}

/// The stack's name for a family.
pub fn family(number: i32) -> Family {
    if number == AF_INET { Family::V4 } else { Family::V6 }
}

impl StackStream {
    /// Takes it.
    pub fn new(tcp: TcpSocket) -> Arc<StackStream> {
        Arc::new(StackStream { tcp, reader: Mutex::default() })
    }

    /// Sends what fits of `data`. `EAGAIN` if nothing does.
    pub(super) fn push(&self, data: &[u8]) -> Result<usize> {
        if data.is_empty() { Ok(0) } else { self.tcp.send(data).map_err(errno) }
    }

    /// Receives into `buffer`, for who is the only one to receive; 0 at the end.
    pub(super) fn pull(&self, buffer: &mut [u8]) -> Result<usize> {
        self.tcp.recv(buffer).map_err(errno)
    }

    /// Makes room for at least `size` bytes that were not acknowledged.
    pub(super) fn reserve(&self, size: usize) {
        let mut options = self.tcp.options();
        options.sndbuf = Some(options.sndbuf.unwrap_or(0).max(size));
        self.tcp.set_options(options);
    }

    fn send_chunk(
        &self,
        src: &mut dyn Source,
        buffer: &mut [u8],
        urgent: bool,
    ) -> Result<(usize, bool)> {
        let wanted = src.remaining().min(buffer.len());
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        let taken = if wanted > 0 { src.take(chunk)? } else { 0 };
        let data = chunk.get(..taken).unwrap_or_default();
        let last = src.remaining() == 0;
        let sent = if urgent && last { self.tcp.send_urgent(data) } else { self.tcp.send(data) };
        let n = *sent.as_ref().unwrap_or(&0);
        src.rewind(taken.saturating_sub(n));
        sent.map(|n| (n, n == taken)).map_err(errno)
    }

    /// As [`send_chunk`](Self::send_chunk) for much: the stack sends it from where it is copied to here.
    fn send_large(&self, src: &mut dyn Source) -> Result<(usize, bool)> {
        let mut buffer = LARGE.take();
        let wanted = src.remaining().min(CHUNK);
        let room = Arc::get_mut(&mut buffer).map(RxBuffer::bytes_mut).unwrap_or_default();
        let taken = src.take(room.get_mut(..wanted).unwrap_or_default())?;
        let sent = self.tcp.send_kept(&buffer, taken);
        let n = *sent.as_ref().unwrap_or(&0);
        src.rewind(taken.saturating_sub(n));
        sent.map(|n| (n, n == taken)).map_err(errno)
    }

    /// Receives once, for who holds `reader`: bytes, and whether there may be more for `dst`.
    fn receive_chunk(
        &self,
        dst: &mut dyn Sink,
        buffer: &mut Option<Scratch>,
    ) -> Result<(usize, bool)> {
        let kept = self.tcp.lend();
        let data = match &kept {
            Some(kept) => kept.bytes(),
            None => {
                let wanted = dst.remaining().min(CHUNK);
                let buffer = buffer.get_or_insert_with(|| {
                    let (ready, _) = self.tcp.queued();
                    Scratch::new(wanted.min(ready.max(1)))
                });
                let wanted = wanted.min(buffer.len());
                let chunk = buffer.get_mut(..wanted).unwrap_or_default();
                let n = self.tcp.peek(chunk).map_err(errno)?;
                chunk.get(..n).unwrap_or_default()
            }
        };
        if data.is_empty() {
            return Ok((0, false));
        }
        let put = dst.put(data)?;
        // Taken off only once the guest has it.
        let n = self.tcp.discard(put).map_err(errno)?;
        Ok((n, dst.remaining() > 0 && put == data.len()))
    }
}

impl Transport for StackStream {
    fn state_number(&self) -> u8 {
        match self.tcp.state() {
            TcpStateName::Closed => TCP_CLOSE,
            TcpStateName::Listen => TCP_LISTEN,
            TcpStateName::SynSent => TCP_SYN_SENT,
            TcpStateName::SynReceived => TCP_SYN_RECV,
            TcpStateName::Established => TCP_ESTABLISHED,
            TcpStateName::FinWait1 => TCP_FIN_WAIT1,
            TcpStateName::FinWait2 => TCP_FIN_WAIT2,
            TcpStateName::CloseWait => TCP_CLOSE_WAIT,
            TcpStateName::Closing => TCP_CLOSING,
            TcpStateName::LastAck => TCP_LAST_ACK,
            TcpStateName::TimeWait => TCP_TIME_WAIT,
        }
    }

    fn queued(&self) -> (usize, usize) {
        self.tcp.queued()
    }

    fn at_mark(&self) -> bool {
        self.tcp.at_mark()
    }

    fn take_error(&self) -> Option<Errno> {
        self.tcp.take_error().map(errno)
    }

    fn poll(&self) -> EventMask {
        events(self.tcp.readiness())
    }

    fn send(&self, src: &mut dyn Source, urgent: bool) -> Result<usize> {
        let mut buffer = None;
        let mut done = 0;
        loop {
            let sent = if !urgent && src.remaining() >= CHUNK / 2 {
                self.send_large(src)
            } else {
                let buffer = buffer.get_or_insert_with(|| Scratch::new(src.remaining()));
                self.send_chunk(src, buffer, urgent)
            };
            match sent {
                Ok((n, all)) => {
                    done += n;
                    if !all || src.remaining() == 0 {
                        return Ok(done);
                    }
                }
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(e),
            }
        }
    }

    fn receive(&self, dst: &mut dyn Sink, peek: Option<usize>, discard: bool) -> Result<usize> {
        if let Some(skip) = peek {
            let (ready, _) = self.tcp.queued();
            let mut buffer = vec![0; skip.saturating_add(dst.remaining()).min(ready.max(1))];
            let n = self.tcp.peek(&mut buffer).map_err(errno)?;
            let data = buffer.get(skip..n).unwrap_or_default();
            return match data {
                [] if n > 0 => Err(Errno::EAGAIN),
                [] => Ok(0),
                data => dst.put(data),
            };
        }
        let _reader = self.reader.lock();
        if discard {
            let (ready, _) = self.tcp.queued();
            return self.tcp.discard(dst.remaining().min(CHUNK).min(ready.max(1))).map_err(errno);
        }
        let mut buffer = None;
        let mut done = 0;
        loop {
            match self.receive_chunk(dst, &mut buffer) {
                Ok((n, more)) => {
                    done += n;
                    if !more {
                        return Ok(done);
                    }
                }
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(e),
            }
        }
    }

    fn receive_urgent(&self, dst: &mut dyn Sink, peek: bool) -> Result<usize> {
        let byte = self.tcp.recv_urgent(peek).map_err(errno)?;
        dst.put(&[byte])
    }

    fn shutdown(&self, how: i32) -> Result<()> {
        let how = match how {
            0 => Shutdown::Read,
            1 => Shutdown::Write,
            _ => Shutdown::Both,
        };
        self.tcp.shutdown(how).map_err(errno)
    }

    fn abort(&self) {
        self.tcp.abort();
    }

    fn apply(&self, socket: &StreamSocket) {
        socket.apply_to(&self.tcp);
    }

    fn info(&self) -> Option<Vec<u8>> {
        Some(info(self.state_number(), &self.tcp.info()))
    }

    fn segment_size(&self) -> Option<i32> {
        i32::try_from(self.tcp.info().snd_mss).ok()
    }
}

/// `struct tcp_info`, as far as the stack counts what is in it.
fn info(state: u8, of: &TcpInfo) -> Vec<u8> {
    const SIZE: usize = 248;
    let mut out = vec![0u8; SIZE];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = out.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    let mss = of.snd_mss.max(1);
    let segments = |bytes: u32| bytes.div_ceil(mss).to_ne_bytes();
    let micros = |time: std::time::Duration| {
        u32::try_from(time.as_micros()).unwrap_or(u32::MAX).to_ne_bytes()
    };
    let [timestamps, sack, scaling, ecn] = of.negotiated.map(u8::from);
    put(0, &[state]);
    put(4, &[u8::try_from(of.backoff).unwrap_or(u8::MAX)]);
    put(5, &[timestamps | sack << 1 | scaling << 2 | ecn << 3]);
    put(6, &[(of.shifts.1 & 15) | of.shifts.0 << 4]);
    put(8, &micros(of.rto));
    put(16, &mss.to_ne_bytes());
    put(20, &mss.to_ne_bytes());
    put(24, &segments(of.unacked));
    put(28, &segments(of.sacked));
    put(32, &segments(of.lost));
    put(64, &of.rcv_wnd.to_ne_bytes());
    put(68, &micros(of.rtt.0));
    put(72, &micros(of.rtt.1));
    let threshold = if of.ssthresh == u32::MAX { i32::MAX as u32 } else { of.ssthresh / mss };
    put(76, &threshold.to_ne_bytes());
    put(80, &segments(of.cwnd));
    put(84, &mss.to_ne_bytes());
    put(88, &3u32.to_ne_bytes());
    put(100, &u32::try_from(of.total_retrans).unwrap_or(u32::MAX).to_ne_bytes());
    put(120, &of.bytes_acked.to_ne_bytes());
    put(128, &of.bytes_received.to_ne_bytes());
    put(148, &of.min_rtt.map_or([0xff; 4], micros));
    put(228, &of.snd_wnd.to_ne_bytes());
    put(232, &of.rcv_wnd.to_ne_bytes());
    out
}
