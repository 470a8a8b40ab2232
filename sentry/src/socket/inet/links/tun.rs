//! TUN and TAP interfaces: what is sent on one a program reads, and what it writes comes in (`/dev/net/tun`).

use super::Home;
use crate::errno::{Errno, Result};
use crate::kernel::Credentials;
use crate::socket::packet::frame::{self, Checksum, Frame as Shown};
use crate::sync::{Mutex, rank};
use crate::wait::{EventMask, WaitQueue};
use netstack::{Capabilities, Frame, IfaceId, Link, MacAddr, RxFrame};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// `ARPHRD_NONE`
pub const ARPHRD_NONE: u16 = 0xfffe;
/// Frames that wait to be read, and their bytes.
const MAX_FRAMES: usize = 1000;
const MAX_BYTES: usize = 4 << 20;

#[derive(Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// See the module.
pub struct Tun {
    /// Its hardware address; none for bare packets (TUN).
    mac: Mutex<Option<[u8; 6]>, { rank::LEAF }>,
    home: Mutex<Option<Home>, { rank::LEAF }>,
    queue: Mutex<Queue, { rank::LEAF }>,
    /// A program has it.
    attached: AtomicBool,
    /// It stays when the program closes it (`TUNSETPERSIST`).
    persistent: AtomicBool,
    /// Who may have it besides administrators (`TUNSETOWNER`, `TUNSETGROUP`).
    users: Mutex<Users, { rank::LEAF }>,
    /// It was started.
    up: AtomicBool,
    /// Who waits for frames.
    pub readers: WaitQueue,
}

/// An owner and a group, if there are some.
#[derive(Debug, Clone, Copy, Default)]
pub struct Users {
    /// User.
    pub owner: Option<u32>,
    /// Group.
    pub group: Option<u32>,
}

impl Tun {
    /// One that is nowhere yet, and that its maker has.
    pub fn new(mac: Option<[u8; 6]>) -> Arc<Tun> {
        Arc::new(Tun {
            mac: Mutex::new(mac),
            home: Mutex::default(),
            queue: Mutex::default(),
            attached: AtomicBool::new(true),
            persistent: AtomicBool::new(false),
            users: Mutex::default(),
            up: AtomicBool::new(false),
            readers: WaitQueue::new(),
        })
    }

    /// True for Ethernet frames (TAP).
    pub fn is_tap(&self) -> bool {
        self.mac.lock().is_some()
    }

    /// Where it is.
    pub fn home(&self) -> Option<Home> {
        self.home.lock().clone()
    }

    /// It is somewhere else now.
    pub fn settle(&self, home: Option<Home>) {
        let gone = home.is_none();
        let old = std::mem::replace(&mut *self.home.lock(), home);
        drop(old);
        if gone {
            self.readers.notify(EventMask::ERR | EventMask::READABLE);
        }
    }

    /// It was started or stopped.
    pub fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
        if up {
            self.readers.notify(EventMask::WRITABLE);
        }
    }

    /// True once it was started.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    /// Changes its hardware address.
    pub fn set_mac(&self, mac: [u8; 6]) {
        if let Some(place) = &mut *self.mac.lock() {
            *place = mac;
        }
    }

    /// Changes who may have it.
    pub fn change_users(&self, change: impl FnOnce(&mut Users)) {
        change(&mut self.users.lock());
    }

    /// Whether a user who is no administrator may have it (`tun_not_capable`).
    pub fn is_open_to(&self, creds: &Credentials) -> bool {
        let users = *self.users.lock();
        let member = |gid: u32| creds.egid == gid || creds.groups.contains(&gid);
        users.owner.is_none_or(|uid| creds.euid == uid) && users.group.is_none_or(member)
    }

    /// True while a program has it.
    pub fn is_attached(&self) -> bool {
        self.attached.load(Ordering::SeqCst)
    }

    /// A program takes it. False if another one has it.
    pub fn attach(&self) -> bool {
        !self.attached.swap(true, Ordering::SeqCst)
    }

    /// The program gives it back. True if it is to be removed.
    pub fn detach(&self) -> bool {
        self.attached.store(false, Ordering::SeqCst);
        let unread = std::mem::take(&mut *self.queue.lock());
        drop(unread);
        !self.persistent.load(Ordering::SeqCst)
    }

    /// `TUNSETPERSIST`
    pub fn keep(&self, persistent: bool) {
        self.persistent.store(persistent, Ordering::SeqCst);
    }

    /// True if there is something to be read.
    pub fn is_readable(&self) -> bool {
        !self.queue.lock().frames.is_empty()
    }

    /// The next frame. `EAGAIN`; `EBADFD` once the interface is gone.
    pub fn next(&self) -> Result<Vec<u8>> {
        let next = {
            let mut queue = self.queue.lock();
            let next = queue.frames.pop_front();
            queue.bytes -= next.as_ref().map_or(0, Vec::len);
            next
        };
        match next {
            Some(frame) => Ok(frame),
            None if self.home.lock().is_none() => Err(Errno::EBADFD),
            None => Err(Errno::EAGAIN),
        }
    }

    /// A frame comes in. `EIO` while the interface is down, `EINVAL` for what is none.
    pub fn take_in(&self, bytes: &[u8]) -> Result<()> {
        let home = self.home().ok_or(Errno::EBADFD)?;
        let version = bytes.first().map(|first| first >> 4);
        match self.is_tap() {
            true if bytes.len() < frame::ETHERNET_HEADER => return Err(Errno::EINVAL),
            false if !matches!(version, Some(4 | 6)) => return Err(Errno::EINVAL),
            _ if !self.is_up() => return Err(Errno::EIO),
            _ => {}
        }
        self.show(&home, false, bytes, 0);
        if let Some(stack) = home.stack.upgrade() {
            stack.input(IfaceId(home.index), &[RxFrame::new(bytes)]);
        }
        Ok(())
    }

    fn show(&self, home: &Home, outgoing: bool, bytes: &[u8], sender: u64) {
        let mac = *self.mac.lock();
        if let Some(mac) = mac {
            home.show(mac, outgoing, bytes, Checksum::Unknown, sender);
            return;
        }
        if home.taps.is_watched() {
            let v6 = bytes.first().is_some_and(|first| first >> 4 == 6);
            let shown = Shown {
                device: home.index,
                hardware: ARPHRD_NONE,
                kind: if outgoing { frame::OUTGOING } else { frame::HOST },
                protocol: if v6 { frame::ETH_P_IPV6 } else { frame::ETH_P_IP },
                bytes,
                header: 0,
                checksum: Checksum::Unknown,
            };
            home.taps.show(&shown, (sender != 0).then_some(sender));
        }
    }
}

impl Link for Tun {
    fn capabilities(&self) -> Capabilities {
        // Programs get whole packets: checksums added up, nothing to be cut.
        let mac = self.mac.lock().map(MacAddr);
        Capabilities { mac, mtu: 1500, tx_checksum: false, gso_max: 0, gather: false }
    }

    fn transmit(&self, frames: &[Frame]) -> usize {
        let Some(home) = self.home() else { return frames.len() };
        for frame in frames {
            self.show(&home, true, frame.bytes(), frame.origin());
            if !self.is_attached() {
                continue;
            }
            let mut queue = self.queue.lock();
            if queue.frames.len() < MAX_FRAMES && queue.bytes + frame.bytes().len() <= MAX_BYTES {
                queue.bytes += frame.bytes().len();
                queue.frames.push_back(frame.bytes().to_vec());
            }
        }
        self.readers.notify(EventMask::READABLE);
        frames.len()
    }
}
