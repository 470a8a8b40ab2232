//! `runsc port-forward` and [`super::loopback`]: a connection of the host is carried to a port of the sandbox's loopback
//! interface.
//!
//! Two threads carry bytes, one in each direction; both sleep when there is nothing to carry. When the host's side
//! says that it sends no more, the guest's learns it; when the guest's does, the connection is closed.

use super::protocol::{Connection, Reply};
use crate::errno::{Errno, Result};
use crate::io::{BufSink, BufSource, from_host};
use crate::socket::inet::addr::AF_INET;
use crate::socket::inet::net::Net;
use crate::socket::inet::stream::StreamSocket;
use crate::socket::options::Options;
use crate::socket::{RecvMsg, SendMsg, Socket, Ucred};
use crate::wait::{EventMask, Waker};
use platform::host::park::Parker;
use platform::host::{Errno as HostErrno, io, poll, thread};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that are carried at a time.
const CHUNK: usize = 16 << 10;

/// Stack of each thread, in bytes.
const STACK: usize = 128 << 10;

/// `SHUT_WR` of `shutdown(2)`.
const SHUT_WR: i32 = 1;

/// A connection that is forwarded. Whoever asked for it, if that was by the control protocol, learns of its end.
pub struct Forward {
    guest: Arc<StreamSocket>,
    host: OwnedFd,
    owner: Option<Arc<Connection>>,
    /// Wakes the thread that reads the host's side.
    stop: poll::Waker,
    /// Wakes the threads that wait for the guest's side.
    bells: [Arc<Bell>; 2],
    over: AtomicBool,
}

#[derive(Default)]
struct Bell(Parker);

impl Waker for Bell {
    fn wake(&self, _events: EventMask) {
        self.0.unpark();
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.guest.release();
        if let Some(owner) = &self.owner {
            // Whoever asked may have gone.
            let _ = owner.send(&Reply::Done, &[]);
        }
    }
}

impl Forward {
    /// Connects `host`, a stream, with the port. `ECONNREFUSED` if nothing listens there.
    pub fn start(
        net: &Arc<Net>,
        port: u16,
        host: OwnedFd,
        owner: Option<Arc<Connection>>,
    ) -> Result<Arc<Forward>> {
        let guest = StreamSocket::new(AF_INET, net, Options::with_creator(Ucred::NOBODY));
        let [high, low] = port.to_be_bytes();
        let [family, zero] = (AF_INET as u16).to_le_bytes();
        guest.start(&[family, zero, high, low, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])?;
        if let Some(error) = guest.take_error() {
            return Err(error);
        }
        let stop = poll::Waker::new().map_err(from_host)?;
        let (bells, over) = (<[Arc<Bell>; 2]>::default(), AtomicBool::new(false));
        let forward = Arc::new(Forward { guest, host, owner, stop, bells, over });
        let (inward, outward) = (forward.clone(), forward.clone());
        thread::spawn("forward-in", STACK, move || inward.carry_in()).map_err(from_host)?;
        if let Err(e) = thread::spawn("forward-out", STACK, move || outward.carry_out()) {
            forward.finish();
            return Err(from_host(e));
        }
        Ok(forward)
    }

    /// Ends it.
    pub fn finish(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.stop.wake();
        for bell in &self.bells {
            bell.0.unpark();
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// From the host to the guest.
    fn carry_in(&self) {
        let [bell, _] = &self.bells;
        let events = EventMask::WRITABLE | EventMask::HUP | EventMask::ERR;
        let key = self.guest.wait_queue().add(events, bell.clone());
        match self.read_host(bell) {
            // It sends no more, but may listen still.
            Ok(()) if self.guest.shutdown(SHUT_WR).is_ok() => {}
            _ => self.finish(),
        }
        self.guest.wait_queue().remove(key);
    }

    /// Until the end of what the host's side sends.
    fn read_host(&self, bell: &Bell) -> Result<()> {
        let mut buffer = vec![0; CHUNK];
        while !self.is_over() {
            let mut wanted = [(self.host.as_fd(), libc::POLLIN), (self.stop.as_fd(), libc::POLLIN)];
            match poll::poll(&mut wanted, None) {
                Ok(_) | Err(HostErrno::EINTR | HostErrno::EAGAIN) => {}
                Err(e) => return Err(from_host(e)),
            }
            if self.is_over() {
                break;
            }
            let n = match io::read(self.host.as_fd(), &mut buffer, None) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(HostErrno::EAGAIN | HostErrno::EINTR) => continue,
                Err(e) => return Err(from_host(e)),
            };
            let mut rest = buffer.get(..n).unwrap_or_default();
            while !rest.is_empty() && !self.is_over() {
                match self.guest.send(&mut BufSource::new(rest), &mut SendMsg::default()) {
                    Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                    Err(Errno::EAGAIN) => bell.0.park(),
                    Err(e) => return Err(e),
                }
            }
        }
        Err(Errno::ECANCELED)
    }

    /// From the guest to the host.
    fn carry_out(&self) {
        let [_, bell] = &self.bells;
        let events = EventMask::READABLE | EventMask::HUP | EventMask::ERR;
        let key = self.guest.wait_queue().add(events, bell.clone());
        let mut buffer = vec![0; CHUNK];
        while !self.is_over() {
            let mut sink = BufSink::new(&mut buffer);
            match self.guest.receive(&mut sink, &mut RecvMsg::default()) {
                Ok(0) => break,
                Ok(n) if self.write_host(buffer.get(..n).unwrap_or_default()).is_ok() => {}
                Err(Errno::EAGAIN) => bell.0.park(),
                _ => break,
            }
        }
        self.guest.wait_queue().remove(key);
        self.finish();
    }

    fn write_host(&self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            match io::write(self.host.as_fd(), data, None) {
                Ok(n) => data = data.get(n..).unwrap_or_default(),
                Err(HostErrno::EAGAIN) => {
                    let mut wanted =
                        [(self.host.as_fd(), libc::POLLOUT), (self.stop.as_fd(), libc::POLLIN)];
                    poll::poll(&mut wanted, None).map_err(from_host)?;
                    if self.is_over() {
                        return Err(Errno::ECANCELED);
                    }
                }
                Err(HostErrno::EINTR) => {}
                Err(e) => return Err(from_host(e)),
            }
        }
        Ok(())
    }
}
