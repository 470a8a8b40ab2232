//! `seccomp(2)`.

use crate::bpf::{INSTRUCTION_SIZE, MAX_INSTRUCTIONS, Program};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::credentials::CAP_SYS_ADMIN;
use crate::kernel::seccomp::action;
use crate::kernel::seccomp::data;
use crate::kernel::seccomp::filter::{self, FilterFlags};
use crate::kernel::seccomp::notify::{self, Listener, NOTIF_SIZE};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use std::sync::atomic::Ordering;

const SET_MODE_STRICT: u32 = 0;
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;
const GET_NOTIF_SIZES: u32 = 3;
/// Sizes of `struct seccomp_notif_resp` and `struct seccomp_data`.
const RESPONSE_SIZE: u16 = 24;
const DATA_SIZE: u16 = 64;

/// `seccomp(2)`
pub fn seccomp(t: &mut CurrentTask, op: u32, flags: u32, args: UserAddr) -> SysResult {
    match op {
        SET_MODE_STRICT if flags == 0 && args.is_null() => {
            filter::set_strict(t)?;
            Ok(0)
        }
        SET_MODE_FILTER => add_filter(t, flags, args),
        GET_ACTION_AVAIL if flags == 0 => {
            let wanted: u32 = t.mm().read_obj(args)?;
            if action::ALL.contains(&wanted) { Ok(0) } else { Err(Errno::EOPNOTSUPP) }
        }
        GET_NOTIF_SIZES if flags == 0 => {
            t.mm().write_obj(args, &[NOTIF_SIZE as u16, RESPONSE_SIZE, DATA_SIZE])?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `PR_SET_SECCOMP`
pub fn set_seccomp(t: &mut CurrentTask, mode: u64, program: UserAddr) -> SysResult {
    match mode {
        1 => seccomp(t, SET_MODE_STRICT, 0, UserAddr::NULL),
        2 => seccomp(t, SET_MODE_FILTER, 0, program),
        _ => Err(Errno::EINVAL),
    }
}

/// Whether the task can gain no privileges any more (`PR_GET_NO_NEW_PRIVS`).
pub(in crate::syscalls::families) fn bound(t: &CurrentTask) -> bool {
    t.creds().no_new_privs || t.no_new_privs.load(Ordering::Relaxed)
}

fn add_filter(t: &mut CurrentTask, flags: u32, at: UserAddr) -> SysResult {
    let flags = FilterFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let sync = flags.contains(FilterFlags::TSYNC);
    let listens = flags.contains(FilterFlags::NEW_LISTENER);
    let killable = flags.contains(FilterFlags::WAIT_KILLABLE_RECV);
    if (sync && listens && !flags.contains(FilterFlags::TSYNC_ESRCH)) || (killable && !listens) {
        return Err(Errno::EINVAL);
    }
    let [len, address]: [u64; 2] = t.mm().read_obj(at)?;
    let len = usize::from(len as u16);
    if len == 0 || len > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    if !bound(t) && !t.creds().has_own(CAP_SYS_ADMIN) {
        return Err(Errno::EACCES);
    }
    let program = read_program(t, UserAddr(address), len)?;
    let listener = listens.then(|| Listener::new(killable));
    let fd = match &listener {
        Some(listener) => Some(notify::install(t, listener.clone())?),
        None => None,
    };
    let result = match filter::add(t, program, flags, listener) {
        Ok(None) => return Ok(fd.unwrap_or(0) as u64),
        Ok(Some(_)) if flags.contains(FilterFlags::TSYNC_ESRCH) => Err(Errno::ESRCH),
        Ok(Some(tid)) => Ok(t.local_id(tid) as u64),
        Err(e) => Err(e),
    };
    if let Some(fd) = fd {
        t.files().close(fd)?;
    }
    result
}

fn read_program(t: &CurrentTask, at: UserAddr, len: usize) -> Result<Program> {
    let mut bytes = vec![0; len * INSTRUCTION_SIZE];
    t.mm().read(at, &mut bytes)?;
    data::verify(&Program::parse(&bytes))
}
