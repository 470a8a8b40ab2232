//! The options of `SOL_SOCKET` that are the same for all families (`socket(7)`).

use super::{Socket, Ucred};
use crate::errno::{Errno, Result};
use crate::kernel::landlock::Domain;
use crate::kernel::{Credentials, CurrentTask};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// `net.core.wmem_default` and `rmem_default`, in bytes.
pub const DEFAULT_BUFFER: usize = 212_992;
/// `net.core.wmem_max` and `rmem_max`, before doubling.
pub const MAX_BUFFER: i32 = 212_992;
const MIN_SNDBUF: usize = 4608;
const MIN_RCVBUF: usize = 2304;

const CAP_NET_ADMIN: u32 = 12;

/// Numbers of the options.
#[expect(missing_docs, reason = "the names are socket(7)'s")]
pub mod so {
    pub const DEBUG: i32 = 1;
    pub const REUSEADDR: i32 = 2;
    pub const TYPE: i32 = 3;
    pub const ERROR: i32 = 4;
    pub const DONTROUTE: i32 = 5;
    pub const BROADCAST: i32 = 6;
    pub const SNDBUF: i32 = 7;
    pub const RCVBUF: i32 = 8;
    pub const KEEPALIVE: i32 = 9;
    pub const OOBINLINE: i32 = 10;
    pub const NO_CHECK: i32 = 11;
    pub const PRIORITY: i32 = 12;
    pub const LINGER: i32 = 13;
    pub const BSDCOMPAT: i32 = 14;
    pub const REUSEPORT: i32 = 15;
    pub const PASSCRED: i32 = 16;
    pub const PEERCRED: i32 = 17;
    pub const RCVLOWAT: i32 = 18;
    pub const SNDLOWAT: i32 = 19;
    pub const RCVTIMEO: i32 = 20;
    pub const SNDTIMEO: i32 = 21;
    pub const TIMESTAMP: i32 = 29;
    pub const ACCEPTCONN: i32 = 30;
    pub const PEERSEC: i32 = 31;
    pub const SNDBUFFORCE: i32 = 32;
    pub const RCVBUFFORCE: i32 = 33;
    pub const PASSSEC: i32 = 34;
    pub const TIMESTAMPNS: i32 = 35;
    pub const MARK: i32 = 36;
    pub const PROTOCOL: i32 = 38;
    pub const DOMAIN: i32 = 39;
    pub const RXQ_OVFL: i32 = 40;
    pub const WIFI_STATUS: i32 = 41;
    pub const PEEK_OFF: i32 = 42;
    pub const NOFCS: i32 = 43;
    pub const LOCK_FILTER: i32 = 44;
    pub const SELECT_ERR_QUEUE: i32 = 45;
    pub const BUSY_POLL: i32 = 46;
    pub const PEERGROUPS: i32 = 59;
    pub const TIMESTAMP_NEW: i32 = 63;
    pub const TIMESTAMPNS_NEW: i32 = 64;
    pub const RCVTIMEO_NEW: i32 = 66;
    pub const SNDTIMEO_NEW: i32 = 67;

    /// Those of which one at most is on.
    pub const TIMESTAMPS: [i32; 4] = [TIMESTAMP, TIMESTAMPNS, TIMESTAMP_NEW, TIMESTAMPNS_NEW];
}

/// Options that are on or off: number and the bit that keeps it.
const SWITCHES: &[i32] = &[
    so::DEBUG,
    so::REUSEADDR,
    so::DONTROUTE,
    so::BROADCAST,
    so::KEEPALIVE,
    so::OOBINLINE,
    so::NO_CHECK,
    so::REUSEPORT,
    so::PASSCRED,
    so::TIMESTAMP,
    so::PASSSEC,
    so::TIMESTAMPNS,
    so::RXQ_OVFL,
    so::WIFI_STATUS,
    so::NOFCS,
    so::LOCK_FILTER,
    so::SELECT_ERR_QUEUE,
    so::TIMESTAMP_NEW,
    so::TIMESTAMPNS_NEW,
];

fn switch(name: i32) -> Option<u32> {
    SWITCHES.iter().position(|s| *s == name).map(|i| 1 << i)
}

/// The value of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionValue {
    /// An `int`.
    Int(i32),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl OptionValue {
    /// As it is stored.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            OptionValue::Int(n) => n.to_ne_bytes().to_vec(),
            OptionValue::Bytes(bytes) => bytes.clone(),
        }
    }
}

/// An `int` option's value. `EINVAL` if it is too short.
pub fn int(value: &[u8]) -> Result<i32> {
    value.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or(Errno::EINVAL)
}

/// The options of a socket.
pub struct Options {
    switches: AtomicU32,
    rcvbuf: AtomicUsize,
    priority: AtomicI32,
    mark: AtomicI32,
    rcvlowat: AtomicI32,
    peek_off: AtomicI32,
    busy_poll: AtomicI32,
    linger: AtomicU64,
    /// Nanoseconds; 0 for ever.
    rcvtimeo: AtomicU64,
    sndtimeo: AtomicU64,
    /// Inode number, once there is a file.
    pub ino: AtomicU64,
    /// Who made the socket, for messages sent with `write(2)`.
    pub creator: Ucred,
    /// What the task that made it has restricted itself with.
    pub landlock: Option<Arc<Domain>>,
}

impl Options {
    /// Defaults, for a socket made by a task.
    pub fn new(t: &CurrentTask) -> Options {
        let landlock = t.creds().landlock.clone();
        Options { landlock, ..Options::with_creator(Ucred::of(t, t.creds())) }
    }

    /// Defaults.
    pub fn with_creator(creator: Ucred) -> Options {
        Options {
            switches: AtomicU32::new(0),
            rcvbuf: AtomicUsize::new(DEFAULT_BUFFER),
            priority: AtomicI32::new(0),
            mark: AtomicI32::new(0),
            rcvlowat: AtomicI32::new(1),
            peek_off: AtomicI32::new(-1),
            busy_poll: AtomicI32::new(0),
            linger: AtomicU64::new(0),
            rcvtimeo: AtomicU64::new(0),
            sndtimeo: AtomicU64::new(0),
            ino: AtomicU64::new(0),
            creator,
            landlock: None,
        }
    }

    /// `SO_MARK`.
    pub fn mark(&self) -> u32 {
        self.mark.load(Ordering::Relaxed) as u32
    }

    /// `SO_PASSCRED`.
    pub fn passcred(&self) -> bool {
        self.is_on(so::PASSCRED)
    }

    /// True if a switch is on.
    pub fn is_on(&self, name: i32) -> bool {
        switch(name).is_some_and(|bit| self.switches.load(Ordering::Relaxed) & bit != 0)
    }

    /// Copies what an accepted socket inherits from its listener.
    pub fn inherit(&self, from: &Options) {
        self.switches.store(from.switches.load(Ordering::Relaxed), Ordering::Relaxed);
        self.rcvbuf.store(from.rcvbuf.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// As [`Options::inherit`], for a socket that is a copy of its listener in everything.
    pub fn inherit_all(&self, from: &Options) {
        self.inherit(from);
        let copy = |to: &AtomicI32, from: &AtomicI32| {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        copy(&self.priority, &from.priority);
        copy(&self.mark, &from.mark);
        copy(&self.rcvlowat, &from.rcvlowat);
        for (to, from) in [
            (&self.linger, &from.linger),
            (&self.rcvtimeo, &from.rcvtimeo),
            (&self.sndtimeo, &from.sndtimeo),
        ] {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// `SO_RCVBUF`, bytes.
    pub fn rcvbuf(&self) -> usize {
        self.rcvbuf.load(Ordering::Relaxed)
    }

    /// Sets the receive buffer of a new socket.
    pub fn set_rcvbuf(&self, bytes: usize) {
        self.rcvbuf.store(bytes, Ordering::Relaxed);
    }

    /// `SO_LINGER`: seconds, if it is on.
    pub fn linger(&self) -> Option<i32> {
        let value = self.linger.load(Ordering::Relaxed).to_ne_bytes();
        let [a, b, c, d, e, f, g, h] = value;
        (i32::from_ne_bytes([a, b, c, d]) != 0).then(|| i32::from_ne_bytes([e, f, g, h]))
    }

    /// How long a receiving (or, with `write`, sending) call may wait, in nanoseconds.
    pub fn timeout(&self, write: bool) -> Option<u64> {
        let timeo = if write { &self.sndtimeo } else { &self.rcvtimeo };
        Some(timeo.load(Ordering::Relaxed)).filter(|n| *n != 0)
    }

    /// Bytes that a receiving call waits for.
    pub fn rcvlowat(&self) -> usize {
        usize::try_from(self.rcvlowat.load(Ordering::Relaxed)).unwrap_or(1).max(1)
    }

    /// `SO_PEEK_OFF`; `None` when it is off.
    pub fn peek_off(&self) -> Option<usize> {
        usize::try_from(self.peek_off.load(Ordering::Relaxed)).ok()
    }

    /// Moves the peek offset after a peek (forward) or a read (backward, `n` negative).
    pub fn move_peek_off(&self, n: i64) {
        let _ = self.peek_off.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            (old >= 0).then(|| (i64::from(old) + n).clamp(0, i64::from(i32::MAX)) as i32)
        });
    }

    /// Reads an option. `sndbuf` is the socket's. `None` if it is not one of these.
    pub fn get(&self, socket: &dyn Socket, sndbuf: usize, name: i32) -> Option<OptionValue> {
        let load = |a: &AtomicI32| OptionValue::Int(a.load(Ordering::Relaxed));
        Some(match name {
            so::TYPE => OptionValue::Int(socket.kind() as i32),
            so::PROTOCOL => OptionValue::Int(socket.protocol()),
            so::DOMAIN => OptionValue::Int(socket.family()),
            so::ERROR => OptionValue::Int(socket.take_error().map_or(0, Errno::raw)),
            so::ACCEPTCONN => OptionValue::Int(i32::from(socket.is_listening())),
            so::SNDBUF => OptionValue::Int(i32::try_from(sndbuf).unwrap_or(i32::MAX)),
            so::RCVBUF => {
                let n = self.rcvbuf.load(Ordering::Relaxed);
                OptionValue::Int(i32::try_from(n).unwrap_or(i32::MAX))
            }
            so::PRIORITY => load(&self.priority),
            so::MARK => load(&self.mark),
            so::RCVLOWAT => load(&self.rcvlowat),
            so::SNDLOWAT => OptionValue::Int(1),
            // Which layout the stamps have, whatever their unit.
            so::TIMESTAMP_NEW => {
                let new = self.is_on(so::TIMESTAMP_NEW) || self.is_on(so::TIMESTAMPNS_NEW);
                OptionValue::Int(i32::from(new))
            }
            // Obsolete: can be set, to no effect.
            so::BSDCOMPAT => OptionValue::Int(0),
            so::PEEK_OFF => load(&self.peek_off),
            so::BUSY_POLL => load(&self.busy_poll),
            so::LINGER => {
                OptionValue::Bytes(self.linger.load(Ordering::Relaxed).to_ne_bytes().to_vec())
            }
            so::RCVTIMEO | so::RCVTIMEO_NEW => timeval(&self.rcvtimeo),
            so::SNDTIMEO | so::SNDTIMEO_NEW => timeval(&self.sndtimeo),
            _ => OptionValue::Int(i32::from(switch(name).map(|_| self.is_on(name))?)),
        })
    }

    /// Sets an option. `None` if it is not one of these. `set_sndbuf` gets the new send buffer.
    pub fn set(
        &self,
        creds: &Credentials,
        name: i32,
        value: &[u8],
        set_sndbuf: impl FnOnce(usize),
    ) -> Option<Result<()>> {
        match self.try_set(creds, name, value, set_sndbuf) {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(e) => Some(Err(e)),
        }
    }

    /// False if the option is not one of these.
    fn try_set(
        &self,
        creds: &Credentials,
        name: i32,
        value: &[u8],
        set_sndbuf: impl FnOnce(usize),
    ) -> Result<bool> {
        let n = int(value)?;
        if is_read_only(name) {
            return Err(Errno::ENOPROTOOPT);
        }
        let doubled = |n: i32, min: usize| (n.max(0) as usize).saturating_mul(2).max(min);
        match name {
            so::SNDBUF => set_sndbuf(doubled(clamp_buffer(n), MIN_SNDBUF)),
            so::RCVBUF => {
                self.rcvbuf.store(doubled(clamp_buffer(n), MIN_RCVBUF), Ordering::Relaxed)
            }
            so::SNDBUFFORCE | so::RCVBUFFORCE if !creds.has(CAP_NET_ADMIN) => {
                return Err(Errno::EPERM);
            }
            // Even a capability does not lift the sentry's own bound by much.
            so::SNDBUFFORCE => set_sndbuf(doubled(n.clamp(0, 8 << 20), MIN_SNDBUF)),
            so::RCVBUFFORCE => {
                self.rcvbuf.store(doubled(n.clamp(0, 8 << 20), MIN_RCVBUF), Ordering::Relaxed)
            }
            so::PRIORITY if !(0..=6).contains(&n) && !creds.has(CAP_NET_ADMIN) => {
                return Err(Errno::EPERM);
            }
            so::PRIORITY => self.priority.store(n, Ordering::Relaxed),
            so::MARK if !creds.has(CAP_NET_ADMIN) => return Err(Errno::EPERM),
            so::MARK => self.mark.store(n, Ordering::Relaxed),
            so::RCVLOWAT => {
                let n = if n < 0 { i32::MAX } else { n.max(1) };
                self.rcvlowat.store(n, Ordering::Relaxed);
            }
            so::PEEK_OFF => self.peek_off.store(n, Ordering::Relaxed),
            so::BSDCOMPAT => {}
            so::BUSY_POLL if n < 0 => return Err(Errno::EINVAL),
            so::BUSY_POLL => self.busy_poll.store(n, Ordering::Relaxed),
            so::LINGER => {
                let bytes = value.first_chunk::<8>().ok_or(Errno::EINVAL)?;
                self.linger.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
            }
            so::RCVTIMEO | so::RCVTIMEO_NEW => set_timeval(&self.rcvtimeo, value)?,
            so::SNDTIMEO | so::SNDTIMEO_NEW => set_timeval(&self.sndtimeo, value)?,
            _ => {
                let Some(bit) = switch(name) else { return Ok(false) };
                if so::TIMESTAMPS.contains(&name) {
                    let group = so::TIMESTAMPS.into_iter().filter_map(switch);
                    let group = group.fold(0, |all, bit| all | bit);
                    self.switches.fetch_and(!group, Ordering::Relaxed);
                }
                if name == so::LOCK_FILTER && n == 0 && self.is_on(name) {
                    return Err(Errno::EPERM);
                }
                if n != 0 {
                    self.switches.fetch_or(bit, Ordering::Relaxed);
                } else {
                    self.switches.fetch_and(!bit, Ordering::Relaxed);
                }
            }
        }
        Ok(true)
    }
}

fn is_read_only(name: i32) -> bool {
    matches!(name, so::TYPE | so::PROTOCOL | so::DOMAIN | so::ERROR | so::ACCEPTCONN | so::SNDLOWAT)
}

/// Negative numbers are huge ones, as in Linux.
fn clamp_buffer(n: i32) -> i32 {
    (n as u32).min(MAX_BUFFER as u32) as i32
}

fn timeval(nanos: &AtomicU64) -> OptionValue {
    let n = nanos.load(Ordering::Relaxed);
    let mut bytes = (n / 1_000_000_000).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&(n % 1_000_000_000 / 1000).to_ne_bytes());
    OptionValue::Bytes(bytes)
}

fn set_timeval(nanos: &AtomicU64, value: &[u8]) -> Result<()> {
    let bytes: &[u8; 16] = value.first_chunk().ok_or(Errno::EINVAL)?;
    let (sec, usec) = bytes.split_at(8);
    let word = |b: &[u8]| b.try_into().map(i64::from_ne_bytes).unwrap_or(0);
    let (sec, usec) = (word(sec), word(usec));
    if !(0..1_000_000).contains(&usec) {
        return Err(Errno::EDOM);
    }
    // A negative time has passed already; the shortest wait is as good as none.
    let n = match u64::try_from(sec) {
        Ok(sec) => sec.saturating_mul(1_000_000_000).saturating_add(usec as u64 * 1000),
        Err(_) => 1,
    };
    nanos.store(n, Ordering::Relaxed);
    Ok(())
}
