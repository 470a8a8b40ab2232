//! Attributes of a process (`prctl(2)`).

use crate::errno::Errno;
use crate::kernel::CurrentTask;
use crate::kernel::credentials::{
    CAP_LAST_CAP, CAP_SETPCAP, CAP_SYS_RESOURCE, SECBIT_KEEP_CAPS, SECBIT_NO_CAP_AMBIENT_RAISE,
};
use crate::mm::UserAddr;
use crate::mm::protect::Mdwe;
use crate::syscalls::SysResult;
use std::sync::atomic::Ordering;

const PR_SET_PDEATHSIG: i32 = 1;
const PR_GET_PDEATHSIG: i32 = 2;
const PR_GET_DUMPABLE: i32 = 3;
const PR_SET_DUMPABLE: i32 = 4;
const PR_GET_UNALIGN: i32 = 5;
const PR_GET_KEEPCAPS: i32 = 7;
const PR_SET_KEEPCAPS: i32 = 8;
const PR_GET_TIMING: i32 = 13;
const PR_SET_TIMING: i32 = 14;
const PR_SET_NAME: i32 = 15;
const PR_GET_NAME: i32 = 16;
const PR_GET_SECCOMP: i32 = 21;
const PR_SET_SECCOMP: i32 = 22;
const PR_CAPBSET_READ: i32 = 23;
const PR_CAPBSET_DROP: i32 = 24;
const PR_GET_TSC: i32 = 25;
const PR_SET_TSC: i32 = 26;
const PR_TSC_ENABLE: u64 = 1;
const PR_TSC_SIGSEGV: u64 = 2;
const PR_GET_SECUREBITS: i32 = 27;
const PR_SET_SECUREBITS: i32 = 28;
const PR_SET_TIMERSLACK: i32 = 29;
const PR_GET_TIMERSLACK: i32 = 30;
const PR_MCE_KILL: i32 = 33;
const PR_MCE_KILL_GET: i32 = 34;
const PR_SET_CHILD_SUBREAPER: i32 = 36;
const PR_GET_CHILD_SUBREAPER: i32 = 37;
const PR_SET_NO_NEW_PRIVS: i32 = 38;
const PR_GET_NO_NEW_PRIVS: i32 = 39;
const PR_GET_TID_ADDRESS: i32 = 40;
const PR_SET_THP_DISABLE: i32 = 41;
const PR_GET_THP_DISABLE: i32 = 42;
const PR_CAP_AMBIENT: i32 = 47;
const PR_GET_SPECULATION_CTRL: i32 = 52;
const PR_SET_SPECULATION_CTRL: i32 = 53;
const PR_SET_IO_FLUSHER: i32 = 57;
const PR_GET_IO_FLUSHER: i32 = 58;
const PR_SET_MDWE: i32 = 65;
const PR_GET_MDWE: i32 = 66;
const PR_SET_PTRACER: i32 = 0x5961_6d61;

/// `prctl(2)`
pub fn prctl(t: &mut CurrentTask, op: i32, a2: u64, a3: u64, a4: u64, a5: u64) -> SysResult {
    let rest_zero = a3 == 0 && a4 == 0 && a5 == 0;
    let all_zero = a2 == 0 && rest_zero;
    let group = t.group().clone();
    match op {
        PR_SET_PDEATHSIG => {
            if a2 > 64 {
                return Err(Errno::EINVAL);
            }
            t.pdeath_signal.store(a2 as i32, Ordering::Relaxed);
        }
        PR_GET_PDEATHSIG => {
            t.mm().write_obj(UserAddr(a2), &t.pdeath_signal.load(Ordering::Relaxed))?;
        }
        PR_GET_DUMPABLE => return Ok(group.dumpable.load(Ordering::Relaxed).into()),
        PR_SET_DUMPABLE if a2 <= 1 => group.dumpable.store(a2 as u32, Ordering::Relaxed),
        PR_GET_UNALIGN => return Err(Errno::EINVAL),
        PR_GET_KEEPCAPS => {
            return Ok(u64::from(t.creds().securebits & SECBIT_KEEP_CAPS != 0));
        }
        PR_SET_KEEPCAPS => return set_keepcaps(t, a2),
        PR_GET_TIMING => {}
        PR_SET_TIMING if a2 == 0 => {}
        PR_SET_NAME => return set_name(t, UserAddr(a2)),
        PR_GET_NAME => t.mm().write_obj(UserAddr(a2), &t.comm_bytes())?,
        PR_GET_SECCOMP => return Ok(t.task().seccomp.mode() as u64),
        PR_SET_SECCOMP => return super::set_seccomp(t, a2, UserAddr(a3)),
        PR_CAPBSET_READ => {
            let cap = valid_cap(a2)?;
            return Ok(t.creds().bounding >> cap & 1);
        }
        PR_CAPBSET_DROP => {
            if !t.creds().has_own(CAP_SETPCAP) {
                return Err(Errno::EPERM);
            }
            let cap = valid_cap(a2)?;
            change_creds(t, |c| c.bounding &= !(1 << cap));
        }
        PR_GET_TSC => {
            let mode = if t.may_read_tsc() { PR_TSC_ENABLE } else { PR_TSC_SIGSEGV };
            t.mm().write_obj(UserAddr(a2), &(mode as i32))?;
        }
        PR_SET_TSC => match a2 & 0xffff_ffff {
            PR_TSC_ENABLE => t.set_may_read_tsc(true)?,
            PR_TSC_SIGSEGV => t.set_may_read_tsc(false)?,
            _ => return Err(Errno::EINVAL),
        },
        PR_GET_SECUREBITS => return Ok(t.creds().securebits.into()),
        PR_SET_SECUREBITS => return set_securebits(t, a2),
        PR_SET_TIMERSLACK => {
            let slack = if a2 == 0 { t.default_timer_slack } else { a2 };
            t.timer_slack.store(slack, Ordering::Relaxed);
        }
        PR_GET_TIMERSLACK => return Ok(t.timer_slack.load(Ordering::Relaxed)),
        PR_MCE_KILL if a4 == 0 && a5 == 0 && (a2 == 0 && a3 == 0 || a2 == 1 && a3 <= 2) => {}
        PR_MCE_KILL_GET if all_zero => return Ok(2),
        PR_SET_CHILD_SUBREAPER => {
            group.child_subreaper.store(a2 != 0, Ordering::Relaxed);
        }
        PR_GET_CHILD_SUBREAPER => {
            let is = i32::from(group.child_subreaper.load(Ordering::Relaxed));
            t.mm().write_obj(UserAddr(a2), &is)?;
        }
        PR_SET_NO_NEW_PRIVS if a2 == 1 && rest_zero => {
            change_creds(t, |c| c.no_new_privs = true);
        }
        PR_GET_NO_NEW_PRIVS if all_zero => return Ok(super::bound(t).into()),
        PR_GET_TID_ADDRESS => {
            let addr = t.clear_child_tid.load(Ordering::Relaxed);
            t.mm().write_obj(UserAddr(a2), &addr)?;
        }
        PR_SET_THP_DISABLE if rest_zero => {
            group.thp_disable.store(a2 != 0, Ordering::Relaxed);
        }
        PR_GET_THP_DISABLE if all_zero => {
            return Ok(group.thp_disable.load(Ordering::Relaxed).into());
        }
        PR_SET_MDWE if a3 | a4 | a5 == 0 => {
            let mdwe = u32::try_from(a2).ok().and_then(Mdwe::from_bits).ok_or(Errno::EINVAL)?;
            if mdwe == Mdwe::NO_INHERIT {
                return Err(Errno::EINVAL);
            }
            t.mm().set_mdwe(mdwe)?;
        }
        PR_GET_MDWE if all_zero => return Ok(t.mm().mdwe().bits().into()),
        PR_CAP_AMBIENT => return ambient(t, a2, a3, a4 | a5),
        // As on a CPU that is not affected.
        PR_GET_SPECULATION_CTRL if rest_zero => {
            return if a2 <= 2 { Ok(0) } else { Err(Errno::ENODEV) };
        }
        PR_SET_SPECULATION_CTRL if a4 == 0 && a5 == 0 => {
            return Err(if a2 <= 2 { Errno::ENXIO } else { Errno::ENODEV });
        }
        PR_SET_IO_FLUSHER | PR_GET_IO_FLUSHER => {
            return if t.creds().has(CAP_SYS_RESOURCE) && a2 == 0 && rest_zero {
                Ok(0)
            } else if t.creds().has(CAP_SYS_RESOURCE) {
                Err(Errno::EINVAL)
            } else {
                Err(Errno::EPERM)
            };
        }
        // Without the Yama module there is nothing to allow.
        PR_SET_PTRACER => return Err(Errno::EINVAL),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn change_creds(t: &mut CurrentTask, change: impl FnOnce(&mut crate::kernel::Credentials)) {
    let mut new = (**t.creds()).clone();
    change(&mut new);
    t.set_creds(new);
}

fn valid_cap(raw: u64) -> Result<u32, Errno> {
    u32::try_from(raw).ok().filter(|c| *c <= CAP_LAST_CAP).ok_or(Errno::EINVAL)
}

fn set_keepcaps(t: &mut CurrentTask, value: u64) -> SysResult {
    if value > 1 {
        return Err(Errno::EINVAL);
    }
    if t.creds().securebits & SECBIT_KEEP_CAPS << 1 != 0 {
        return Err(Errno::EPERM);
    }
    change_creds(t, |c| {
        c.securebits &= !SECBIT_KEEP_CAPS;
        if value == 1 {
            c.securebits |= SECBIT_KEEP_CAPS;
        }
    });
    Ok(0)
}

fn set_securebits(t: &mut CurrentTask, value: u64) -> SysResult {
    let old = t.creds().securebits;
    let new = u32::try_from(value).map_err(|_| Errno::EPERM)?;
    // Every second bit locks the one below it.
    let locks = 0xaa & old;
    let locked = locks >> 1 | locks;
    let allowed = (old ^ new) & locked == 0 && new & !0xff == 0 && t.creds().has_own(CAP_SETPCAP);
    if !allowed {
        return Err(Errno::EPERM);
    }
    change_creds(t, |c| c.securebits = new);
    Ok(0)
}

fn set_name(t: &mut CurrentTask, at: UserAddr) -> SysResult {
    let mut name = Vec::with_capacity(16);
    for i in 0..15 {
        match t.mm().read_obj::<u8>(at.offset(i))? {
            0 => break,
            byte => name.push(byte),
        }
    }
    t.task().set_comm(&name);
    Ok(0)
}

const PR_CAP_AMBIENT_IS_SET: u64 = 1;
const PR_CAP_AMBIENT_RAISE: u64 = 2;
const PR_CAP_AMBIENT_LOWER: u64 = 3;
const PR_CAP_AMBIENT_CLEAR_ALL: u64 = 4;

fn ambient(t: &mut CurrentTask, op: u64, cap: u64, rest: u64) -> SysResult {
    if op == PR_CAP_AMBIENT_CLEAR_ALL {
        if cap | rest != 0 {
            return Err(Errno::EINVAL);
        }
        change_creds(t, |c| c.ambient = 0);
        return Ok(0);
    }
    if rest != 0 {
        return Err(Errno::EINVAL);
    }
    let bit = 1_u64 << valid_cap(cap)?;
    let creds = t.creds();
    match op {
        PR_CAP_AMBIENT_IS_SET => Ok(u64::from(creds.ambient & bit != 0)),
        PR_CAP_AMBIENT_RAISE => {
            let allowed = creds.permitted & creds.inheritable & bit != 0
                && creds.securebits & SECBIT_NO_CAP_AMBIENT_RAISE == 0;
            if !allowed {
                return Err(Errno::EPERM);
            }
            change_creds(t, |c| c.ambient |= bit);
            Ok(0)
        }
        PR_CAP_AMBIENT_LOWER => {
            change_creds(t, |c| c.ambient &= !bit);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `personality(2)`
pub fn personality(t: &mut CurrentTask, persona: u32) -> SysResult {
    let old = t.personality.load(Ordering::Relaxed);
    if persona != u32::MAX {
        t.personality.store(persona, Ordering::Relaxed);
    }
    Ok(old.into())
}
