//! poll, epoll and select, with their results as text.

use super::{Arg, Ret, at, at_mut, sc};

/// The names of poll event bits.
pub fn events(bits: u32) -> String {
    const NAMES: [(u32, &str); 13] = [
        (0x1, "IN"),
        (0x2, "PRI"),
        (0x4, "OUT"),
        (0x8, "ERR"),
        (0x10, "HUP"),
        (0x20, "NVAL"),
        (0x40, "RDNORM"),
        (0x80, "RDBAND"),
        (0x100, "WRNORM"),
        (0x200, "WRBAND"),
        (0x2000, "RDHUP"),
        (1 << 30, "ONESHOT"),
        (1 << 31, "ET"),
    ];
    let set: Vec<&str> = NAMES.iter().filter(|(b, _)| bits & b != 0).map(|(_, n)| *n).collect();
    if set.is_empty() { "none".into() } else { set.join("|") }
}

/// poll(2) of descriptor and event pairs: the result and every revents.
pub fn poll(fds: &[(i32, i16)], timeout_ms: i32) -> String {
    let mut set: Vec<libc::pollfd> =
        fds.iter().map(|&(fd, events)| libc::pollfd { fd, events, revents: 0 }).collect();
    let ret = sc!(SYS_poll, at_mut(set.as_mut_slice()), set.len(), timeout_ms);
    if !ret.ok() {
        return ret.to_string();
    }
    let each: Vec<String> = set.iter().map(|p| events(u32::from(p.revents as u16))).collect();
    format!("{ret} [{}]", each.join(", "))
}

/// epoll_create1(2).
pub fn epoll(flags: i32) -> i32 {
    sc!(SYS_epoll_create1, flags).fd()
}

/// A `struct epoll_event`, which is packed on x86-64.
pub fn event(bits: u32, data: u64) -> [u8; 12] {
    let mut out = [0; 12];
    out[..4].copy_from_slice(&bits.to_le_bytes());
    out[4..].copy_from_slice(&data.to_le_bytes());
    out
}

/// epoll_ctl(2).
pub fn epoll_ctl(ep: i32, op: i32, fd: i32, bits: i32, data: u64) -> Ret {
    sc!(SYS_epoll_ctl, ep, op, fd, &event(bits as u32, data))
}

/// epoll_wait(2): every event as `data:bits`, in the order of their data.
pub fn epoll_wait(ep: i32, max: usize, timeout_ms: i32) -> String {
    let mut buf = vec![0u8; max.min(1024) * 12];
    let ret = sc!(SYS_epoll_wait, ep, buf.as_mut_slice(), max, timeout_ms);
    if !ret.ok() {
        return ret.to_string();
    }
    let mut list: Vec<(u64, u32)> = buf.chunks_exact(12).take(ret.0 as usize).map(decode).collect();
    list.sort_unstable();
    let each: Vec<String> = list.iter().map(|(d, e)| format!("{d}:{}", events(*e))).collect();
    format!("[{}]", each.join(", "))
}

fn decode(raw: &[u8]) -> (u64, u32) {
    let number = |part: &[u8]| part.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
    (number(&raw[4..12]), number(&raw[..4]) as u32)
}

/// A set of descriptors below 1024 for select(2).
pub fn fd_set(fds: &[i32]) -> [u64; 16] {
    let mut set = [0; 16];
    for &fd in fds {
        set[fd as usize / 64] |= 1u64 << (fd as usize % 64);
    }
    set
}

/// select(2) of these read, write and except sets: the result and the members left in each.
pub fn select(nfds: i32, sets: [&[i32]; 3], timeout: impl Arg) -> String {
    let mut raw = sets.map(fd_set);
    let [r, w, e] = &mut raw;
    let ret = sc!(SYS_select, nfds, at_mut(r), at_mut(w), at_mut(e), timeout);
    let member = |i: usize| {
        let left = sets[i].iter().map(|&fd| raw[i][fd as usize / 64] >> (fd as usize % 64) & 1);
        left.map(|b| if b == 1 { 'y' } else { 'n' }).collect::<String>()
    };
    format!("{ret} r={} w={} e={}", member(0), member(1), member(2))
}

/// The bytes of a `timeval` for select(2).
pub fn timeval(ms: i64) -> [i64; 2] {
    [ms / 1000, ms % 1000 * 1000]
}

/// ppoll(2) with a timeout in milliseconds (none when negative) and an optional mask.
pub fn ppoll(fd: i32, events_wanted: i16, timeout_ms: i64, mask: Option<u64>) -> String {
    let mut set = libc::pollfd { fd, events: events_wanted, revents: 0 };
    let span = super::time::span(timeout_ms);
    let timeout = if timeout_ms < 0 { 0 } else { at(&span) };
    let mask = mask.as_ref().map_or(0, at);
    let ret = sc!(SYS_ppoll, at_mut(&mut set), 1, timeout, mask, 8);
    format!("{ret} {}", events(u32::from(set.revents as u16)))
}
