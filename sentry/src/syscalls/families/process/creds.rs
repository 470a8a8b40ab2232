//! User and group ids, capabilities (`setuid(2)`, `capset(2)`).

use crate::errno::{Errno, Result};
use crate::kernel::credentials::{ALL_CAPS, CAP_SETGID, CAP_SETPCAP, CAP_SETUID};
use crate::kernel::{Credentials, CurrentTask};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;

/// No id: leave it as it is, or invalid.
const NONE: u32 = u32::MAX;
/// Most supplementary groups.
const NGROUPS_MAX: usize = 65536;

/// What the caller calls a user.
fn show_uid(t: &CurrentTask, uid: u32) -> u32 {
    t.creds().user_ns.show_uid(uid)
}

/// What the caller calls a group.
fn show_gid(t: &CurrentTask, gid: u32) -> u32 {
    t.creds().user_ns.show_gid(gid)
}

/// The kernel's id for what the caller calls `uid`; -1 stays what it is. `EINVAL` without a mapping.
fn kernel_uid(t: &CurrentTask, uid: u32) -> Result<u32> {
    if uid == NONE {
        return Ok(NONE);
    }
    t.creds().user_ns.uid_to_kernel(uid).ok_or(Errno::EINVAL)
}

/// As [`kernel_uid`], of a group.
fn kernel_gid(t: &CurrentTask, gid: u32) -> Result<u32> {
    if gid == NONE {
        return Ok(NONE);
    }
    t.creds().user_ns.gid_to_kernel(gid).ok_or(Errno::EINVAL)
}

/// `getuid(2)`
pub fn getuid(t: &mut CurrentTask) -> SysResult {
    Ok(u64::from(show_uid(t, t.creds().uid)))
}

/// `geteuid(2)`
pub fn geteuid(t: &mut CurrentTask) -> SysResult {
    Ok(u64::from(show_uid(t, t.creds().euid)))
}

/// `getgid(2)`
pub fn getgid(t: &mut CurrentTask) -> SysResult {
    Ok(u64::from(show_gid(t, t.creds().gid)))
}

/// `getegid(2)`
pub fn getegid(t: &mut CurrentTask) -> SysResult {
    Ok(u64::from(show_gid(t, t.creds().egid)))
}

fn write_ids(t: &CurrentTask, to: [UserAddr; 3], ids: [u32; 3]) -> SysResult {
    for (addr, id) in to.into_iter().zip(ids) {
        t.mm().write_obj(addr, &id)?;
    }
    Ok(0)
}

/// `getresuid(2)`
pub fn getresuid(t: &mut CurrentTask, r: UserAddr, e: UserAddr, s: UserAddr) -> SysResult {
    let c = t.creds();
    write_ids(t, [r, e, s], [c.uid, c.euid, c.suid].map(|id| show_uid(t, id)))
}

/// `getresgid(2)`
pub fn getresgid(t: &mut CurrentTask, r: UserAddr, e: UserAddr, s: UserAddr) -> SysResult {
    let c = t.creds();
    write_ids(t, [r, e, s], [c.gid, c.egid, c.sgid].map(|id| show_gid(t, id)))
}

/// Puts changed user ids in force.
fn commit_uids(t: &mut CurrentTask, mut new: Credentials) -> SysResult {
    let old = t.creds().clone();
    new.fsuid = new.euid;
    new.fix_up_capabilities(&old);
    new.fix_up_fsuid(&old);
    note_change(t, &old, &new);
    t.set_creds(new);
    Ok(0)
}

/// A process that changed its ids is no longer to be inspected by its old self.
fn note_change(t: &CurrentTask, old: &Credentials, new: &Credentials) {
    use std::sync::atomic::Ordering;
    let ids = |c: &Credentials| (c.euid, c.egid, c.fsuid, c.fsgid);
    if ids(old) != ids(new) || new.permitted & !old.permitted != 0 {
        t.group().dumpable.store(0, Ordering::Relaxed);
        t.pdeath_signal.store(0, Ordering::Relaxed);
    }
}

/// `setuid(2)`
pub fn setuid(t: &mut CurrentTask, uid: u32) -> SysResult {
    if uid == NONE {
        return Err(Errno::EINVAL);
    }
    let uid = kernel_uid(t, uid)?;
    let mut new = (**t.creds()).clone();
    if new.has_own(CAP_SETUID) {
        (new.uid, new.suid) = (uid, uid);
    } else if uid != new.uid && uid != new.suid {
        return Err(Errno::EPERM);
    }
    new.euid = uid;
    commit_uids(t, new)
}

/// `setreuid(2)`
pub fn setreuid(t: &mut CurrentTask, ruid: u32, euid: u32) -> SysResult {
    let (ruid, euid) = (kernel_uid(t, ruid)?, kernel_uid(t, euid)?);
    let old = t.creds().clone();
    let mut new = (*old).clone();
    let capable = old.has_own(CAP_SETUID);
    if ruid != NONE {
        if !capable && ruid != old.uid && ruid != old.euid {
            return Err(Errno::EPERM);
        }
        new.uid = ruid;
    }
    if euid != NONE {
        if !capable && ![old.uid, old.euid, old.suid].contains(&euid) {
            return Err(Errno::EPERM);
        }
        new.euid = euid;
    }
    if ruid != NONE || (euid != NONE && euid != old.uid) {
        new.suid = new.euid;
    }
    commit_uids(t, new)
}

/// `setresuid(2)`
pub fn setresuid(t: &mut CurrentTask, ruid: u32, euid: u32, suid: u32) -> SysResult {
    let (ruid, euid, suid) = (kernel_uid(t, ruid)?, kernel_uid(t, euid)?, kernel_uid(t, suid)?);
    let mut new = (**t.creds()).clone();
    if !new.has_own(CAP_SETUID) {
        let own = [new.uid, new.euid, new.suid];
        if [ruid, euid, suid].iter().any(|id| *id != NONE && !own.contains(id)) {
            return Err(Errno::EPERM);
        }
    }
    for (place, id) in [(&mut new.uid, ruid), (&mut new.euid, euid), (&mut new.suid, suid)] {
        if id != NONE {
            *place = id;
        }
    }
    commit_uids(t, new)
}

/// Puts changed group ids in force.
fn commit_gids(t: &mut CurrentTask, mut new: Credentials) -> SysResult {
    new.fsgid = new.egid;
    note_change(t, &t.creds().clone(), &new);
    t.set_creds(new);
    Ok(0)
}

/// `setgid(2)`
pub fn setgid(t: &mut CurrentTask, gid: u32) -> SysResult {
    if gid == NONE {
        return Err(Errno::EINVAL);
    }
    let gid = kernel_gid(t, gid)?;
    let mut new = (**t.creds()).clone();
    if new.has_own(CAP_SETGID) {
        (new.gid, new.sgid) = (gid, gid);
    } else if gid != new.gid && gid != new.sgid {
        return Err(Errno::EPERM);
    }
    new.egid = gid;
    commit_gids(t, new)
}

/// `setregid(2)`
pub fn setregid(t: &mut CurrentTask, rgid: u32, egid: u32) -> SysResult {
    let (rgid, egid) = (kernel_gid(t, rgid)?, kernel_gid(t, egid)?);
    let old = t.creds().clone();
    let mut new = (*old).clone();
    let capable = old.has_own(CAP_SETGID);
    if rgid != NONE {
        if !capable && rgid != old.gid && rgid != old.egid {
            return Err(Errno::EPERM);
        }
        new.gid = rgid;
    }
    if egid != NONE {
        if !capable && ![old.gid, old.egid, old.sgid].contains(&egid) {
            return Err(Errno::EPERM);
        }
        new.egid = egid;
    }
    if rgid != NONE || (egid != NONE && egid != old.gid) {
        new.sgid = new.egid;
    }
    commit_gids(t, new)
}

/// `setresgid(2)`
pub fn setresgid(t: &mut CurrentTask, rgid: u32, egid: u32, sgid: u32) -> SysResult {
    let (rgid, egid, sgid) = (kernel_gid(t, rgid)?, kernel_gid(t, egid)?, kernel_gid(t, sgid)?);
    let mut new = (**t.creds()).clone();
    if !new.has_own(CAP_SETGID) {
        let own = [new.gid, new.egid, new.sgid];
        if [rgid, egid, sgid].iter().any(|id| *id != NONE && !own.contains(id)) {
            return Err(Errno::EPERM);
        }
    }
    for (place, id) in [(&mut new.gid, rgid), (&mut new.egid, egid), (&mut new.sgid, sgid)] {
        if id != NONE {
            *place = id;
        }
    }
    commit_gids(t, new)
}

/// `setfsuid(2)`: the old id, whether or not it was changed.
pub fn setfsuid(t: &mut CurrentTask, uid: u32) -> SysResult {
    let old = t.creds().clone();
    let shown = u64::from(show_uid(t, old.fsuid));
    let Ok(uid) = kernel_uid(t, uid) else { return Ok(shown) };
    let allowed =
        [old.uid, old.euid, old.suid, old.fsuid].contains(&uid) || old.has_own(CAP_SETUID);
    if uid != NONE && uid != old.fsuid && allowed {
        let mut new = (*old).clone();
        new.fsuid = uid;
        new.fix_up_fsuid(&old);
        note_change(t, &old, &new);
        t.set_creds(new);
    }
    Ok(shown)
}

/// `setfsgid(2)`: the old id, whether or not it was changed.
pub fn setfsgid(t: &mut CurrentTask, gid: u32) -> SysResult {
    let old = t.creds().clone();
    let shown = u64::from(show_gid(t, old.fsgid));
    let Ok(gid) = kernel_gid(t, gid) else { return Ok(shown) };
    let allowed =
        [old.gid, old.egid, old.sgid, old.fsgid].contains(&gid) || old.has_own(CAP_SETGID);
    if gid != NONE && gid != old.fsgid && allowed {
        let mut new = (*old).clone();
        new.fsgid = gid;
        note_change(t, &old, &new);
        t.set_creds(new);
    }
    Ok(shown)
}

/// `getgroups(2)`
pub fn getgroups(t: &mut CurrentTask, size: i32, list: UserAddr) -> SysResult {
    let groups = &t.creds().groups;
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    if size == 0 {
        return Ok(groups.len() as u64);
    }
    if groups.len() > size {
        return Err(Errno::EINVAL);
    }
    let bytes: Vec<u8> = groups.iter().flat_map(|g| show_gid(t, *g).to_le_bytes()).collect();
    t.mm().write(list, &bytes)?;
    Ok(groups.len() as u64)
}

/// `setgroups(2)`
pub fn setgroups(t: &mut CurrentTask, size: u64, list: UserAddr) -> SysResult {
    if !t.creds().has_own(CAP_SETGID) || !t.creds().user_ns.may_setgroups() {
        return Err(Errno::EPERM);
    }
    let size = usize::try_from(size as i32).unwrap_or(usize::MAX);
    if size > NGROUPS_MAX {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0; size * 4];
    t.mm().read(list, &mut bytes)?;
    let (words, _) = bytes.as_chunks::<4>();
    let mut groups: Vec<u32> = words.iter().map(|w| u32::from_le_bytes(*w)).collect();
    for group in &mut groups {
        *group = t.creds().user_ns.gid_to_kernel(*group).ok_or(Errno::EINVAL)?;
    }
    groups.sort_unstable();
    let mut new = (**t.creds()).clone();
    new.groups = groups;
    t.set_creds(new);
    Ok(0)
}

const CAP_VERSION_1: u32 = 0x1998_0330;
const CAP_VERSION_2: u32 = 0x2007_1026;
const CAP_VERSION_3: u32 = 0x2008_0522;

/// Reads the header; the number of 32-bit sets, and the process id. An unknown version is answered with
/// the newest one.
fn cap_header(t: &CurrentTask, header: UserAddr) -> Result<(usize, i32)> {
    let [version, pid]: [u32; 2] = t.mm().read_obj(header)?;
    match version {
        CAP_VERSION_1 => Ok((1, pid as i32)),
        CAP_VERSION_2 | CAP_VERSION_3 => Ok((2, pid as i32)),
        _ => {
            t.mm().write_obj(header, &CAP_VERSION_3)?;
            Err(Errno::EINVAL)
        }
    }
}

/// `capget(2)`
pub fn capget(t: &mut CurrentTask, header: UserAddr, data: UserAddr) -> SysResult {
    let (sets, pid) = match cap_header(t, header) {
        // A program that only asks for the version.
        Err(Errno::EINVAL) if data.is_null() => return Ok(0),
        other => other?,
    };
    if pid < 0 {
        return Err(Errno::EINVAL);
    }
    let creds = super::task_or_self(t, pid)?.creds();
    if data.is_null() {
        return Ok(0);
    }
    for i in 0..sets {
        let half = |set: u64| (set >> (32 * i)) as u32;
        let words = [half(creds.effective), half(creds.permitted), half(creds.inheritable)];
        t.mm().write_obj(data.offset(12 * i as u64), &words)?;
    }
    Ok(0)
}

/// `capset(2)`
pub fn capset(t: &mut CurrentTask, header: UserAddr, data: UserAddr) -> SysResult {
    let (sets, pid) = cap_header(t, header)?;
    if pid != 0 && pid != t.ns_tid() {
        return Err(Errno::EPERM);
    }
    let (mut effective, mut permitted, mut inheritable) = (0_u64, 0_u64, 0_u64);
    for i in 0..sets {
        let [e, p, h]: [u32; 3] = t.mm().read_obj(data.offset(12 * i as u64))?;
        effective |= u64::from(e) << (32 * i);
        permitted |= u64::from(p) << (32 * i);
        inheritable |= u64::from(h) << (32 * i);
    }
    (effective, permitted, inheritable) =
        (effective & ALL_CAPS, permitted & ALL_CAPS, inheritable & ALL_CAPS);
    let old = t.creds().clone();
    let may_inherit = old.inheritable | old.permitted;
    let allowed = inheritable & !(old.inheritable | old.bounding) == 0
        && (old.has_own(CAP_SETPCAP) || inheritable & !may_inherit == 0)
        && permitted & !old.permitted == 0
        && effective & !permitted == 0;
    if !allowed {
        return Err(Errno::EPERM);
    }
    let mut new = (*old).clone();
    new.effective = effective;
    new.permitted = permitted;
    new.inheritable = inheritable;
    new.ambient &= permitted & inheritable;
    t.set_creds(new);
    Ok(0)
}
