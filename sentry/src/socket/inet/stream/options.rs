//! Options of level `SOL_TCP` (`tcp(7)`).
//!
//! What they tune on a wire has no effect between two sockets of one sandbox, where nothing is lost,
//! delayed or resent; they are kept, checked as Linux checks them, and read back.

use super::StreamSocket;
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::credentials::CAP_NET_ADMIN;
use crate::socket::OptionValue;
use crate::socket::inet::Net;
use crate::socket::inet::net::Settings;
use crate::socket::options::int;
use netstack::Congestion;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

mod number {
    pub const NODELAY: i32 = 1;
    pub const MAXSEG: i32 = 2;
    pub const CORK: i32 = 3;
    pub const KEEPIDLE: i32 = 4;
    pub const KEEPINTVL: i32 = 5;
    pub const KEEPCNT: i32 = 6;
    pub const SYNCNT: i32 = 7;
    pub const LINGER2: i32 = 8;
    pub const DEFER_ACCEPT: i32 = 9;
    pub const WINDOW_CLAMP: i32 = 10;
    pub const INFO: i32 = 11;
    pub const QUICKACK: i32 = 12;
    pub const CONGESTION: i32 = 13;
    pub const THIN_LINEAR_TIMEOUTS: i32 = 16;
    pub const THIN_DUPACK: i32 = 17;
    pub const USER_TIMEOUT: i32 = 18;
    pub const FASTOPEN: i32 = 23;
    pub const TIMESTAMP: i32 = 24;
    pub const NOTSENT_LOWAT: i32 = 25;
    pub const SAVE_SYN: i32 = 27;
    pub const FASTOPEN_CONNECT: i32 = 30;
    pub const REPAIR: i32 = 19;
    pub const REPAIR_QUEUE: i32 = 20;
    pub const QUEUE_SEQ: i32 = 21;
    pub const REPAIR_OPTIONS: i32 = 22;
    pub const CC_INFO: i32 = 26;
    pub const SAVED_SYN: i32 = 28;
    pub const REPAIR_WINDOW: i32 = 29;
    pub const ULP: i32 = 31;
    pub const INQ: i32 = 36;
    pub const IS_MPTCP: i32 = 43;
}

/// An option with a number for a value.
struct Knob {
    name: i32,
    default: i32,
    min: i32,
    max: i32,
    /// Any number but 0 is 1.
    switch: bool,
}

const fn switch(name: i32) -> Knob {
    Knob { name, default: 0, min: i32::MIN, max: i32::MAX, switch: true }
}

const fn knob(name: i32, default: i32, min: i32, max: i32) -> Knob {
    Knob { name, default, min, max, switch: false }
}

/// A switch that nobody has touched.
const UNSET: i32 = 2;

const KNOBS: &[Knob] = &[
    switch(number::NODELAY),
    switch(number::CORK),
    // Until it is set, the stack does as it likes.
    Knob { default: UNSET, ..switch(number::QUICKACK) },
    knob(number::SAVE_SYN, 0, 0, 2),
    knob(number::INQ, 0, 0, 1),
    knob(number::FASTOPEN, 0, 0, i32::MAX),
    knob(number::MAXSEG, 0, 88, 32767),
    knob(number::KEEPIDLE, 0, 1, 32767),
    knob(number::KEEPINTVL, 0, 1, 32767),
    knob(number::KEEPCNT, 0, 1, 127),
    knob(number::SYNCNT, 0, 1, 127),
    knob(number::LINGER2, 0, i32::MIN, i32::MAX),
    knob(number::DEFER_ACCEPT, 0, i32::MIN, i32::MAX),
    knob(number::WINDOW_CLAMP, 0, i32::MIN, i32::MAX),
    knob(number::USER_TIMEOUT, 0, 0, i32::MAX),
    knob(number::NOTSENT_LOWAT, 0, i32::MIN, i32::MAX),
    knob(number::THIN_LINEAR_TIMEOUTS, 0, 0, 1),
    knob(number::THIN_DUPACK, 0, 0, 1),
    knob(number::TIMESTAMP, 0, i32::MIN, i32::MAX),
];

/// Congestion controls that may be asked for (`tcp_allowed_congestion_control`).
const CONGESTION: [&[u8]; 2] = [b"cubic", b"reno"];

/// The largest segment over the loopback interface: its MTU without the headers.
const LOOPBACK_MSS: i32 = 65483;
/// What Linux reports before there is a connection (`TCP_MSS_DEFAULT`).
const DEFAULT_MSS: i32 = 536;

/// The options of one socket.
pub struct TcpOptions {
    values: [AtomicI32; KNOBS.len()],
    congestion: AtomicI32,
}

impl Default for TcpOptions {
    fn default() -> TcpOptions {
        let value = |i: usize| AtomicI32::new(KNOBS.get(i).map_or(0, |k| k.default));
        TcpOptions { values: std::array::from_fn(value), congestion: AtomicI32::new(0) }
    }
}

impl Clone for TcpOptions {
    fn clone(&self) -> TcpOptions {
        let copy = |a: &AtomicI32| AtomicI32::new(a.load(Ordering::Relaxed));
        TcpOptions { values: self.values.each_ref().map(copy), congestion: copy(&self.congestion) }
    }
}

/// Seconds of a defer-accept setting, as Linux rounds them: it counts retransmissions, which come after
/// 1, 2, 4 … seconds.
fn rounded_to_retransmissions(seconds: i32) -> i32 {
    let (mut period, mut step) = (1, 1);
    if seconds <= 0 {
        return 0;
    }
    // It is kept in a byte.
    let mut count = 1;
    while seconds > period && count < u8::MAX {
        step = (step * 2).min(120);
        period += step;
        count += 1;
    }
    period
}

impl TcpOptions {
    fn place(&self, name: i32) -> Option<(&Knob, &AtomicI32)> {
        KNOBS.iter().zip(&self.values).find(|(knob, _)| knob.name == name)
    }

    fn value(&self, name: i32) -> i32 {
        self.place(name).map_or(0, |(_, value)| value.load(Ordering::Relaxed))
    }

    /// `TCP_DEFER_ACCEPT`, in seconds.
    pub fn defer_accept(&self) -> u32 {
        u32::try_from(self.value(number::DEFER_ACCEPT)).unwrap_or(0)
    }

    /// Seconds for which the other side's `FIN` is waited for once the socket is closed (`TCP_LINGER2`); none for not at all.
    pub fn fin_timeout(&self, settings: &Settings) -> Option<u32> {
        let seconds = match self.value(number::LINGER2) {
            0 => settings.fin_timeout.load(Ordering::Relaxed),
            n => n,
        };
        u32::try_from(seconds).ok()
    }

    /// `TCP_CORK`
    pub fn is_corked(&self) -> bool {
        self.value(number::CORK) != 0
    }

    /// `TCP_INQ`: how much is left is told with what is received.
    pub fn tells_inq(&self) -> bool {
        self.value(number::INQ) != 0
    }

    /// For how long an answer to a SYN is waited for, nanoseconds: it is sent again after 1, 2, 4 … seconds, as often as
    /// `TCP_SYNCNT` says, or until `TCP_USER_TIMEOUT` is over.
    pub fn syn_patience(&self, settings: &Settings) -> u64 {
        let retries = match self.value(number::SYNCNT) {
            0 => settings.syn_retries.load(Ordering::Relaxed),
            n => n,
        };
        let limit = u64::try_from(self.value(number::USER_TIMEOUT)).unwrap_or(0);
        let (mut seconds, mut step) = (1, 1);
        for _ in 0..retries.max(0) {
            if limit != 0 && seconds * 1000 >= limit {
                break;
            }
            step = (step * 2).min(120);
            seconds += step;
        }
        seconds * 1_000_000_000
    }

    /// What an endpoint of the uplink's stack is to do: `base` with what the program has set.
    pub fn for_stack(
        &self,
        settings: &Settings,
        base: netstack::TcpOptions,
    ) -> netstack::TcpOptions {
        let set = |name| Some(self.value(name)).filter(|n| *n != 0);
        let seconds = |n: i32| Duration::from_secs(u64::try_from(n).unwrap_or(0));
        let keep = |name, i: usize| {
            let default = settings.keepalive.get(i).map_or(0, |k| k.load(Ordering::Relaxed));
            set(name).unwrap_or(default)
        };
        let probes = u8::try_from(keep(number::KEEPCNT, 2)).unwrap_or(u8::MAX);
        let idle = seconds(keep(number::KEEPIDLE, 0));
        let reno = self.congestion.load(Ordering::Relaxed) == 1;
        let millis = |n: i32| Duration::from_millis(u64::try_from(n).unwrap_or(0));
        let retries = set(number::SYNCNT);
        let retries = retries.unwrap_or_else(|| settings.syn_retries.load(Ordering::Relaxed));
        let fin = set(number::LINGER2);
        let fin = fin.unwrap_or_else(|| settings.fin_timeout.load(Ordering::Relaxed));
        netstack::TcpOptions {
            nodelay: self.value(number::NODELAY) != 0,
            cork: self.value(number::CORK) != 0,
            quickack: self.value(number::QUICKACK) == 1,
            keep: (idle, seconds(keep(number::KEEPINTVL, 1)), probes),
            user_timeout: set(number::USER_TIMEOUT).map(millis),
            fin_timeout: seconds(fin),
            max_segment: set(number::MAXSEG).and_then(|n| u16::try_from(n).ok()),
            congestion: if reno { Congestion::Reno } else { Congestion::Cubic },
            syn_retries: u8::try_from(retries).unwrap_or(u8::MAX),
            ..base
        }
    }

    /// What a socket of the host is to do: options by level and name.
    pub fn for_host(&self, settings: &Settings) -> Vec<(i32, i32, i32)> {
        let mut out = Vec::new();
        for name in [number::NODELAY, number::CORK, number::QUICKACK] {
            if self.value(name) != UNSET {
                out.push((libc::IPPROTO_TCP, name, self.value(name)));
            }
        }
        let keep = [number::KEEPIDLE, number::KEEPINTVL, number::KEEPCNT];
        for (name, default) in keep.into_iter().zip(&settings.keepalive) {
            let value = self.value(name);
            let value = if value == 0 { default.load(Ordering::Relaxed) } else { value };
            out.push((libc::IPPROTO_TCP, name, value));
        }
        for name in [number::USER_TIMEOUT, number::LINGER2] {
            if self.value(name) != 0 {
                out.push((libc::IPPROTO_TCP, name, self.value(name)));
            }
        }
        out
    }

    /// Reads an option. `ENOPROTOOPT`.
    pub fn get(&self, socket: &StreamSocket, name: i32) -> Result<OptionValue> {
        let settings = &socket.common().net.settings;
        let or = |value: i32, default: i32| if value == 0 { default } else { value };
        let keepalive =
            |i: usize| settings.keepalive.get(i).map_or(0, |k| k.load(Ordering::Relaxed));
        let connected = socket.connection().is_some();
        Ok(OptionValue::Int(match name {
            number::KEEPIDLE => or(self.value(name), keepalive(0)),
            number::KEEPINTVL => or(self.value(name), keepalive(1)),
            number::KEEPCNT => or(self.value(name), keepalive(2)),
            number::SYNCNT => or(self.value(name), settings.syn_retries.load(Ordering::Relaxed)),
            number::MAXSEG if connected => match self.value(name) {
                0 => LOOPBACK_MSS,
                n => n.min(LOOPBACK_MSS),
            },
            number::MAXSEG => match socket.remote().and_then(|remote| remote.segment_size()) {
                Some(size) => size,
                None => or(self.value(name), DEFAULT_MSS),
            },
            number::LINGER2 => match self.value(name) {
                0 => settings.fin_timeout.load(Ordering::Relaxed),
                n => n,
            },
            // Acknowledgements are never late here.
            number::QUICKACK => i32::from(self.value(name) != 0),
            number::FASTOPEN_CONNECT | number::REPAIR | number::IS_MPTCP => 0,
            // Only of a connection that is being repaired.
            number::REPAIR_QUEUE | number::QUEUE_SEQ | number::REPAIR_WINDOW => {
                return Err(Errno::EINVAL);
            }
            // No protocol is put above; neither CUBIC nor Reno has anything to tell; no SYN is kept.
            number::ULP | number::CC_INFO | number::SAVED_SYN => {
                return Ok(OptionValue::Bytes(Vec::new()));
            }
            number::CONGESTION => {
                let index = self.congestion.load(Ordering::Relaxed);
                let name = CONGESTION.get(index as usize).copied().unwrap_or_default();
                let mut bytes = name.to_vec();
                bytes.resize(16, 0);
                return Ok(OptionValue::Bytes(bytes));
            }
            number::INFO => {
                let remote = socket.remote().and_then(|remote| remote.info());
                return Ok(OptionValue::Bytes(remote.unwrap_or_else(|| info(socket))));
            }
            name => match self.place(name) {
                Some((_, value)) => value.load(Ordering::Relaxed),
                None => return Err(Errno::ENOPROTOOPT),
            },
        }))
    }

    /// Sets an option. `ENOPROTOOPT`, `EINVAL`; `EOPNOTSUPP` for what this kernel refuses.
    pub fn set(
        &self,
        socket: &StreamSocket,
        t: &CurrentTask,
        name: i32,
        value: &[u8],
    ) -> Result<()> {
        if name == number::CONGESTION {
            let wanted = value.split(|b| *b == 0).next().unwrap_or_default();
            if wanted.is_empty() {
                return Err(Errno::EINVAL);
            }
            let index = CONGESTION.iter().position(|c| *c == wanted).ok_or(Errno::ENOENT)?;
            self.congestion.store(index as i32, Ordering::Relaxed);
            return Ok(());
        }
        if name == number::ULP {
            let wanted = value.split(|b| *b == 0).next().unwrap_or_default();
            return Err(if wanted.is_empty() { Errno::EINVAL } else { Errno::ENOENT });
        }
        let mut n = int(value)?;
        let closed = socket.state_number() == super::TCP_CLOSE;
        match name {
            // Data in a SYN: there are no SYNs here to carry it (`tcp_fastopen` is 0).
            number::FASTOPEN_CONNECT if !(0..=1).contains(&n) => return Err(Errno::EINVAL),
            number::FASTOPEN_CONNECT => return Err(Errno::EOPNOTSUPP),
            // A listener may offer it nevertheless.
            number::FASTOPEN if !closed && !socket.accepts() => return Err(Errno::EINVAL),
            // Connections are not taken apart and put together again.
            number::REPAIR | number::REPAIR_QUEUE | number::REPAIR_WINDOW => {
                return Err(Errno::EPERM);
            }
            number::QUEUE_SEQ if !closed => return Err(Errno::EPERM),
            number::QUEUE_SEQ | number::REPAIR_OPTIONS => return Err(Errno::EINVAL),
            _ => {}
        }
        let (knob, place) = self.place(name).ok_or(Errno::ENOPROTOOPT)?;
        // 0 takes the setting back.
        let resets = n == 0 && name == number::MAXSEG;
        if !resets && !(knob.min..=knob.max).contains(&n) {
            return Err(Errno::EINVAL);
        }
        match name {
            _ if knob.switch => n = i32::from(n != 0),
            number::FASTOPEN => {
                let most = socket.common().net.settings.somaxconn.load(Ordering::Relaxed);
                n = n.min(i32::try_from(most).unwrap_or(i32::MAX));
            }
            // Retired: it can be set, to no effect.
            number::THIN_DUPACK => n = 0,
            number::DEFER_ACCEPT => n = rounded_to_retransmissions(n),
            number::LINGER2 => n = if n < 0 { -1 } else { n.min(120) },
            number::WINDOW_CLAMP if n == 0 && socket.state_number() != super::TCP_CLOSE => {
                return Err(Errno::EINVAL);
            }
            number::WINDOW_CLAMP if n != 0 => n = n.max(2304 / 2),
            // Only to repair a connection from a checkpoint.
            number::TIMESTAMP if !Net::capable(t, CAP_NET_ADMIN) => return Err(Errno::EPERM),
            number::TIMESTAMP => return Err(Errno::EPERM),
            _ => {}
        }
        place.store(n, Ordering::Relaxed);
        Ok(())
    }
}

/// `struct tcp_info`, as far as there is something to tell: state, segment sizes, windows, bytes.
fn info(socket: &StreamSocket) -> Vec<u8> {
    const SIZE: usize = 248;
    let mut out = vec![0u8; SIZE];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = out.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_ne_bytes();
    put(0, &[socket.state_number()]);
    let (received, sent) = socket.queued();
    let connection = socket.connection();
    let mss = if connection.is_some() { LOOPBACK_MSS } else { DEFAULT_MSS };
    if connection.is_some() {
        // Options: time stamps, SACK and window scaling, with a scale of 7 both ways.
        put(5, &[7]);
        put(6, &[0x77]);
    }
    put(8, &word(200_000));
    put(12, &word(40_000));
    put(16, &word(mss as usize));
    put(20, &word(mss as usize));
    if socket.state_number() == super::TCP_LISTEN {
        put(24, &word(received));
        put(28, &word(sent));
    }
    put(60, &word(65536));
    put(64, &word(socket.window()));
    put(68, &word(10));
    put(72, &word(5));
    put(76, &word(i32::MAX as usize));
    put(80, &word(10));
    put(84, &word(mss as usize));
    put(88, &word(3));
    if let Some(c) = &connection {
        let (out_bytes, in_bytes) = (c.tx.total(), c.rx.total());
        put(120, &out_bytes.to_ne_bytes());
        put(128, &in_bytes.to_ne_bytes());
        put(144, &word(c.tx.unsent()));
        put(200, &out_bytes.to_ne_bytes());
    }
    out
}
