//! What Internet sockets of all kinds have: a network, options, an interface they are bound to.

use super::Net;
use super::addr::AF_INET;
use super::ip::IpOptions;
use super::multicast::Memberships;
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::credentials::{CAP_NET_ADMIN, CAP_NET_RAW};
use crate::socket::filter::{SO_ATTACH_FILTER, SO_DETACH_FILTER, SocketFilter};
use crate::socket::options::{int, so};
use crate::socket::{Kind, OptionValue, Options, SOL_SOCKET, Socket};
use crate::sync::{Mutex, rank};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

/// Options of `SOL_SOCKET` that only Internet sockets have here.
mod number {
    pub const PEERCRED: i32 = 17;
    pub const BINDTODEVICE: i32 = 25;
    pub const PEERNAME: i32 = 28;
    pub const TIMESTAMPING: i32 = 37;
    pub const MAX_PACING_RATE: i32 = 47;
    pub const BPF_EXTENSIONS: i32 = 48;
    pub const INCOMING_CPU: i32 = 49;
    pub const CNX_ADVICE: i32 = 53;
    pub const MEMINFO: i32 = 55;
    pub const INCOMING_NAPI_ID: i32 = 56;
    pub const COOKIE: i32 = 57;
    pub const PEERGROUPS: i32 = 59;
    pub const BINDTOIFINDEX: i32 = 62;
    pub const PREFER_BUSY_POLL: i32 = 69;
    pub const NETNS_COOKIE: i32 = 71;
    pub const BUF_LOCK: i32 = 72;
    pub const TIMESTAMPING_NEW: i32 = 65;
    pub const PASSPIDFD: i32 = 76;
    pub const PEERPIDFD: i32 = 77;
    pub const PASSRIGHTS: i32 = 83;
}

/// Options that are for local sockets alone.
const LOCAL_ONLY: [i32; 4] = [so::PASSCRED, so::PASSSEC, number::PASSPIDFD, number::PASSRIGHTS];

/// Flags of `SO_TIMESTAMPING` that mean received packets: `RX_SOFTWARE` and `SOFTWARE`.
pub const TIMESTAMPING_RX: i32 = 8 | 16;
/// Flags that change nothing without hardware: `RX_HARDWARE`, `SYS_HARDWARE`, `RAW_HARDWARE`.
const TIMESTAMPING_HARDWARE: i32 = 4 | 32 | 64;

/// `SOCK_SNDBUF_LOCK` and `SOCK_RCVBUF_LOCK`: the size was set by the program.
const BUF_LOCKS: i32 = 3;

/// The common part.
pub struct Common {
    family: AtomicI32,
    /// The network.
    pub net: Arc<Net>,
    /// Options of `SOL_SOCKET` that all families have.
    pub options: Options,
    /// What it is spared (`SO_ATTACH_FILTER`).
    pub filter: SocketFilter,
    /// Options of IP and IPv6.
    pub ip: IpOptions,
    /// Multicast groups it is in.
    pub groups: Memberships,
    /// Index of the interface it is bound to; 0 for none.
    pub device: AtomicU32,
    /// `SO_TIMESTAMPING`.
    pub timestamping: AtomicI32,
    /// Which buffer sizes the program has set.
    locks: AtomicI32,
    pacing: AtomicU64,
    prefer_busy_poll: AtomicI32,
    incoming_cpu: AtomicI32,
    cookie: Mutex<u64, { rank::LEAF }>,
}

impl Common {
    /// The part of a new socket.
    pub fn new(family: i32, net: &Arc<Net>, options: Options) -> Common {
        Common {
            family: AtomicI32::new(family),
            net: net.clone(),
            options,
            filter: SocketFilter::default(),
            ip: IpOptions::default(),
            groups: Memberships::new(net),
            device: AtomicU32::new(0),
            timestamping: AtomicI32::new(0),
            locks: AtomicI32::new(0),
            pacing: AtomicU64::new(u64::MAX),
            prefer_busy_poll: AtomicI32::new(0),
            incoming_cpu: AtomicI32::new(-1),
            cookie: Mutex::new(0),
        }
    }

    /// The part of a socket that a listener with this one accepts.
    pub fn child(&self) -> Common {
        let options = Options::with_creator(self.options.creator);
        options.inherit_all(&self.options);
        Common {
            family: AtomicI32::new(self.family()),
            net: self.net.clone(),
            options,
            filter: SocketFilter::default(),
            ip: self.ip.clone(),
            groups: Memberships::new(&self.net),
            device: AtomicU32::new(self.device()),
            timestamping: AtomicI32::new(self.timestamping.load(Ordering::Relaxed)),
            locks: AtomicI32::new(self.locks.load(Ordering::Relaxed)),
            pacing: AtomicU64::new(self.pacing.load(Ordering::Relaxed)),
            prefer_busy_poll: AtomicI32::new(0),
            incoming_cpu: AtomicI32::new(-1),
            cookie: Mutex::new(0),
        }
    }

    /// `AF_INET` or `AF_INET6`.
    pub fn family(&self) -> i32 {
        self.family.load(Ordering::Relaxed)
    }

    /// Makes an IPv6 socket one of IPv4 (`IPV6_ADDRFORM`).
    pub fn become_v4(&self) {
        self.family.store(AF_INET, Ordering::Relaxed);
    }

    /// Index of the interface it is bound to; 0 for none.
    pub fn device(&self) -> u32 {
        self.device.load(Ordering::Relaxed)
    }

    /// True if the program has set the size of the send buffer.
    pub fn sndbuf_locked(&self) -> bool {
        self.locks.load(Ordering::Relaxed) & 1 != 0
    }

    /// True if the program has set the size of the receive buffer.
    pub fn rcvbuf_locked(&self) -> bool {
        self.locks.load(Ordering::Relaxed) & 2 != 0
    }

    /// `SO_COOKIE`.
    pub fn cookie(&self) -> u64 {
        let mut cookie = self.cookie.lock();
        if *cookie == 0 {
            *cookie = self.net.next_cookie();
        }
        *cookie
    }

    /// An option of `SOL_SOCKET`, `SOL_IP` or `SOL_IPV6`; `None` for another level.
    pub fn get(
        &self,
        socket: &dyn Socket,
        (level, name): (i32, i32),
        sndbuf: usize,
        used: (usize, usize),
    ) -> Option<Result<OptionValue>> {
        match level {
            // Nothing that these ask for travels with packets.
            SOL_SOCKET if LOCAL_ONLY.contains(&name) => Some(Err(Errno::EOPNOTSUPP)),
            SOL_SOCKET if name == number::PEERNAME => {
                Some(socket.peer_address().map(OptionValue::Bytes))
            }
            SOL_SOCKET => Some(match self.options.get(socket, sndbuf, name) {
                Some(value) => Ok(value),
                None => self.get_socket(name, sndbuf, used),
            }),
            super::SOL_IP | super::SOL_IPV6 => Some(self.ip.get(self, socket, level, name)),
            _ => None,
        }
    }

    fn get_socket(&self, name: i32, sndbuf: usize, used: (usize, usize)) -> Result<OptionValue> {
        let atomic = |a: &AtomicI32| OptionValue::Int(a.load(Ordering::Relaxed));
        Ok(match name {
            number::BINDTODEVICE => {
                let name = self.net.with_device(self.device(), |i| i.name.clone());
                let terminated = |mut name: Vec<u8>| {
                    name.push(0);
                    name
                };
                OptionValue::Bytes(name.map(terminated).unwrap_or_default())
            }
            number::BINDTOIFINDEX => OptionValue::Int(self.device() as i32),
            // `struct so_timestamping`; there are no hardware clocks to be bound to.
            number::TIMESTAMPING | number::TIMESTAMPING_NEW => {
                let flags = self.timestamping.load(Ordering::Relaxed).to_ne_bytes();
                OptionValue::Bytes([flags, [0; 4]].concat())
            }
            // Nobody: pid 0, and ids that are none.
            number::PEERCRED => OptionValue::Bytes([[0; 4], [0xff; 4], [0xff; 4]].concat()),
            number::PEERGROUPS | number::PEERPIDFD => return Err(Errno::ENODATA),
            number::BPF_EXTENSIONS => OptionValue::Int(64),
            number::MAX_PACING_RATE => {
                OptionValue::Bytes(self.pacing.load(Ordering::Relaxed).to_ne_bytes().to_vec())
            }
            // No queue is any connection's own.
            number::INCOMING_CPU => atomic(&self.incoming_cpu),
            number::INCOMING_NAPI_ID => OptionValue::Int(0),
            number::COOKIE => OptionValue::Bytes(self.cookie().to_ne_bytes().to_vec()),
            number::NETNS_COOKIE => OptionValue::Bytes(1u64.to_ne_bytes().to_vec()),
            number::PREFER_BUSY_POLL => atomic(&self.prefer_busy_poll),
            number::BUF_LOCK => OptionValue::Int(self.locks.load(Ordering::Relaxed) & BUF_LOCKS),
            number::MEMINFO => {
                let (received, sent) = used;
                let rcvbuf = self.options.rcvbuf();
                let words = [received, rcvbuf, sent, sndbuf, 0, sent, 0, 0, 0];
                let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_ne_bytes();
                OptionValue::Bytes(words.into_iter().flat_map(word).collect())
            }
            _ => return Err(Errno::ENOPROTOOPT),
        })
    }

    /// Sets an option of `SOL_SOCKET`, `SOL_IP` or `SOL_IPV6`; `None` for another level.
    pub fn set(
        &self,
        t: &CurrentTask,
        socket: &dyn Socket,
        (level, name): (i32, i32),
        value: &[u8],
        set_sndbuf: impl FnOnce(usize),
    ) -> Option<Result<()>> {
        match level {
            SOL_SOCKET if name != number::BINDTODEVICE && value.len() < 4 => {
                Some(Err(Errno::EINVAL))
            }
            SOL_SOCKET if LOCAL_ONLY.contains(&name) => Some(Err(Errno::EOPNOTSUPP)),
            // Connections have no packets that a filter could judge.
            SOL_SOCKET if name == SO_ATTACH_FILTER && socket.kind() == Kind::Stream => {
                Some(Err(Errno::EPERM))
            }
            SOL_SOCKET if matches!(name, SO_ATTACH_FILTER | SO_DETACH_FILTER) => {
                self.filter.set(t, &self.options, name, value)
            }
            SOL_SOCKET => Some(match self.set_socket(t, name, value) {
                Err(Errno::ENOPROTOOPT) => {
                    let known = self.options.set(t.creds(), name, value, set_sndbuf);
                    let lock = match name {
                        so::SNDBUF | so::SNDBUFFORCE => 1,
                        so::RCVBUF | so::RCVBUFFORCE => 2,
                        _ => 0,
                    };
                    if let Some(Ok(())) = known {
                        self.locks.fetch_or(lock, Ordering::Relaxed);
                    }
                    known.unwrap_or(Err(Errno::ENOPROTOOPT))
                }
                other => other,
            }),
            super::SOL_IP | super::SOL_IPV6 => {
                Some(self.ip.set(self, t, socket, level, name, value))
            }
            _ => None,
        }
    }

    fn set_socket(&self, t: &CurrentTask, name: i32, value: &[u8]) -> Result<()> {
        match name {
            number::BINDTODEVICE => {
                let name = value.split(|b| *b == 0).next().unwrap_or_default();
                let name = name.get(..15).unwrap_or(name);
                let index = match name {
                    [] => 0,
                    name => self.net.device_named(name).ok_or(Errno::ENODEV)?,
                };
                self.bind_device(t, index)
            }
            number::BINDTOIFINDEX => {
                let index = u32::try_from(int(value)?).map_err(|_| Errno::EINVAL)?;
                if index != 0 && self.net.with_device(index, |_| ()).is_none() {
                    return Err(Errno::ENODEV);
                }
                self.bind_device(t, index)
            }
            number::TIMESTAMPING | number::TIMESTAMPING_NEW => {
                let flags = int(value)?;
                // Time stamps of what is sent are not taken.
                if flags & !(TIMESTAMPING_RX | TIMESTAMPING_HARDWARE) != 0 {
                    return Err(Errno::EINVAL);
                }
                self.timestamping.store(flags, Ordering::Relaxed);
                Ok(())
            }
            // What goes through queues has no pace.
            number::MAX_PACING_RATE => {
                let rate = match value.first_chunk::<8>() {
                    Some(bytes) => u64::from_ne_bytes(*bytes),
                    None => u64::from(int(value)? as u32),
                };
                self.pacing.store(rate, Ordering::Relaxed);
                Ok(())
            }
            number::PREFER_BUSY_POLL => {
                let on = int(value)?;
                if on != 0 && !Net::capable(t, CAP_NET_ADMIN) {
                    return Err(Errno::EPERM);
                }
                self.prefer_busy_poll.store(i32::from(on != 0), Ordering::Relaxed);
                Ok(())
            }
            number::INCOMING_CPU => {
                self.incoming_cpu.store(int(value)?, Ordering::Relaxed);
                Ok(())
            }
            // Whether the peer was heard of is told to the neighbour table, which has it from elsewhere.
            number::CNX_ADVICE => int(value).map(|_| ()),
            number::BUF_LOCK => {
                let locks = int(value)?;
                if locks & !BUF_LOCKS != 0 {
                    return Err(Errno::EINVAL);
                }
                self.locks.store(locks, Ordering::Relaxed);
                Ok(())
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn bind_device(&self, t: &CurrentTask, index: u32) -> Result<()> {
        if self.device() != 0 && !Net::capable(t, CAP_NET_RAW) {
            return Err(Errno::EPERM);
        }
        self.device.store(index, Ordering::Relaxed);
        Ok(())
    }
}
