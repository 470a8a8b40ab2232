//! The interface of `iptables-legacy` and `ip6tables-legacy` to the packet filter: tables as one block of bytes each,
//! which `setsockopt(2)` replaces as a whole (`linux/netfilter_ipv4/ip_tables.h`).
//!
//! * here: the options. [`tables`]: the tables of a network and their contents at first.
//! * [`blob`]: the blocks, checked and taken apart. [`matches`] and [`targets`]: the extensions in them.
//!
//! A table is kept as it was given, so that it is read back byte for byte; what the filter runs is made from it.

pub mod blob;
pub mod matches;
mod tables;
pub mod targets;
#[cfg(test)]
mod tests;

pub use tables::Tables;

use super::Socket;
use super::inet::stream::StreamSocket;
use super::inet::{AF_INET, AF_INET6, Net, SOL_IP, SOL_IPV6};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::credentials::CAP_NET_ADMIN;
use crate::mm::UserAddr;
use blob::{Bytes, Layout};

/// `IPT_SO_SET_REPLACE`, `IPT_SO_GET_INFO`
const REPLACE_OR_INFO: i32 = 64;
/// `IPT_SO_SET_ADD_COUNTERS`, `IPT_SO_GET_ENTRIES`
const COUNTERS_OR_ENTRIES: i32 = 65;
/// `SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`
const ORIGINAL_DST: i32 = 80;
/// Longest block that is taken.
const MAX_BLOB: usize = 4 << 20;
/// `struct xt_counters`
const COUNTER: usize = 16;

/// What an option is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Option_ {
    First,
    Second,
    MatchRevision,
    TargetRevision,
    OriginalDestination,
}

fn option(level: i32, name: i32) -> Option<Option_> {
    let (matches, targets) = if level == SOL_IPV6 { (68, 69) } else { (66, 67) };
    Some(match name {
        _ if !matches!(level, SOL_IP | SOL_IPV6) => return None,
        REPLACE_OR_INFO => Option_::First,
        COUNTERS_OR_ENTRIES => Option_::Second,
        ORIGINAL_DST => Option_::OriginalDestination,
        n if n == matches => Option_::MatchRevision,
        n if n == targets => Option_::TargetRevision,
        _ => return None,
    })
}

fn concerns(socket: &dyn Socket, level: i32) -> bool {
    match socket.family() {
        AF_INET => level == SOL_IP,
        AF_INET6 => true,
        _ => false,
    }
}

fn layout(level: i32) -> &'static Layout {
    if level == SOL_IPV6 { &blob::V6 } else { &blob::V4 }
}

/// `setsockopt(2)`, if it is about tables.
pub fn setsockopt(
    t: &CurrentTask,
    socket: &dyn Socket,
    (level, name): (i32, i32),
    (at, len): (UserAddr, usize),
) -> Option<Result<()>> {
    let option = option(level, name).filter(|_| concerns(socket, level))?;
    let layout = layout(level);
    match option {
        Option_::First => Some(change(t, (at, len), |data| replace(t, layout, data))),
        Option_::Second => Some(change(t, (at, len), |data| add_counters(t, layout, data))),
        _ => None,
    }
}

fn change(
    t: &CurrentTask,
    (at, len): (UserAddr, usize),
    f: impl FnOnce(&[u8]) -> Result<()>,
) -> Result<()> {
    if !Net::capable(t, CAP_NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    if len > MAX_BLOB {
        return Err(Errno::ENOMEM);
    }
    let mut data = vec![0; len];
    t.mm().read(at, &mut data)?;
    f(&data)
}

/// `struct ipt_replace`
fn replace(t: &CurrentTask, layout: &'static Layout, data: &[u8]) -> Result<()> {
    let head = Bytes(data);
    let name = head.name(0, 32).ok_or(Errno::EINVAL)?;
    let word = |at| head.u32(at).ok_or(Errno::EINVAL);
    let counters_at = UserAddr(head.u64(88).ok_or(Errno::EINVAL)?);
    let entries = data.get(96..).ok_or(Errno::EINVAL)?;
    let old_counters = word(84)? as usize;
    if word(40)? as usize != entries.len() || old_counters == 0 {
        return Err(Errno::EINVAL);
    }
    let hooks = |at: usize| -> Result<[u32; 5]> {
        let mut out = [0; 5];
        for (n, place) in out.iter_mut().enumerate() {
            *place = word(at + 4 * n)?;
        }
        Ok(out)
    };
    let given = blob::Given {
        hooks: word(32)?,
        count: word(36)?,
        starts: hooks(44)?,
        ends: hooks(64)?,
        entries: entries.to_vec(),
    };
    let net = Net::of(t);
    let user_ns = t.namespaces().net.user_ns().clone();
    let id = |id: u32, group: bool| {
        if group { user_ns.gid_to_kernel(id) } else { user_ns.uid_to_kernel(id) }
    };
    let old =
        tables::of(&net, layout).lock().replace(&net, layout, &name, given, old_counters, &id)?;
    let bytes: Vec<u8> = old
        .into_iter()
        .flat_map(|(packets, bytes)| [packets.to_ne_bytes(), bytes.to_ne_bytes()])
        .flatten()
        .collect();
    // As in Linux the table is in place, whatever becomes of the old counters.
    let _ = t.mm().write(counters_at, &bytes);
    Ok(())
}

/// `struct xt_counters_info`
fn add_counters(t: &CurrentTask, layout: &'static Layout, data: &[u8]) -> Result<()> {
    let head = Bytes(data);
    let name = head.name(0, 32).ok_or(Errno::EINVAL)?;
    let count = head.u32(32).ok_or(Errno::EINVAL)? as usize;
    let counters = data.get(40..).ok_or(Errno::EINVAL)?;
    if Some(counters.len()) != count.checked_mul(COUNTER) {
        return Err(Errno::EINVAL);
    }
    let number = |at: usize| Bytes(counters).u64(at).unwrap_or(0);
    let counters: Vec<_> =
        (0..count).map(|n| (number(n * COUNTER), number(n * COUNTER + 8))).collect();
    tables::of(&Net::of(t), layout).lock().add_counters(layout, &name, &counters)
}

/// `getsockopt(2)`, if it is about tables or translated connections: the value, and what the call returns.
pub fn getsockopt(
    t: &CurrentTask,
    socket: &dyn Socket,
    (level, name): (i32, i32),
    (at, room): (UserAddr, usize),
) -> Option<Result<(Vec<u8>, u64)>> {
    let option = option(level, name).filter(|_| concerns(socket, level))?;
    if option == Option_::OriginalDestination {
        return Some(original_destination(socket, level, room).map(|v| (v, 0)));
    }
    if !Net::capable(t, CAP_NET_ADMIN) {
        return Some(Err(Errno::EPERM));
    }
    let mut input = vec![0; room.min(64)];
    if let Err(e) = t.mm().read(at, &mut input) {
        return Some(Err(e));
    }
    let (layout, input) = (layout(level), Bytes(&input));
    let net = Net::of(t);
    let tables = || tables::of(&net, layout).lock();
    let name = |len| input.name(0, len).ok_or(Errno::EINVAL);
    Some(match option {
        Option_::First if room != 84 => Err(Errno::EINVAL),
        Option_::First => name(32).and_then(|n| tables().info(layout, &n)).map(|v| (v, 0)),
        Option_::Second => (|| {
            let size = input.u32(32).ok_or(Errno::EINVAL)? as usize;
            if room < 40 || Some(room) != size.checked_add(40) {
                return Err(Errno::EINVAL);
            }
            tables().entries(layout, &name(32)?, size).map(|v| (v, 0))
        })(),
        _ if room != 30 => Err(Errno::EINVAL),
        _ => (|| {
            let name = name(29)?;
            let revision = input.u8(29).ok_or(Errno::EINVAL)?;
            let known = if option == Option_::MatchRevision {
                matches::revisions(layout.v6, &name)
            } else {
                targets::revisions(layout.v6, &name)
            };
            let best = known.iter().max().copied().ok_or(Errno::ENOENT)?;
            if !known.contains(&revision) {
                return Err(Errno::EPROTONOSUPPORT);
            }
            // What the caller gave stays as it is.
            Ok((Vec::new(), u64::from(best)))
        })(),
    })
}

fn original_destination(socket: &dyn Socket, level: i32, room: usize) -> Result<Vec<u8>> {
    let stream = socket.as_any().downcast_ref::<StreamSocket>().ok_or(Errno::ENOPROTOOPT)?;
    let family = if level == SOL_IPV6 { AF_INET6 } else { AF_INET };
    let address = stream.original_destination()?.sockaddr(family);
    if room < address.len() {
        return Err(Errno::EINVAL);
    }
    Ok(address)
}

/// `/proc/net/ip_tables_names` and `ip6_tables_names`.
pub fn proc_names(net: &Net, v6: bool) -> String {
    let layout = if v6 { &blob::V6 } else { &blob::V4 };
    tables::of(net, layout).lock().names().iter().map(|name| format!("{name}\n")).collect()
}

/// `/proc/net/ip_tables_matches`.
pub fn proc_matches(v6: bool) -> String {
    matches::names(v6).iter().map(|name| format!("{name}\n")).collect()
}

/// `/proc/net/ip_tables_targets`.
pub fn proc_targets(v6: bool) -> String {
    let standard = ["ERROR", ""].into_iter();
    standard.chain(targets::names(v6)).map(|name| format!("{name}\n")).collect()
}
