//! `fcntl(2)` and `flock(2)`.

use super::descriptors::duplicate;
use crate::errno::{Errno, Result};
use crate::fs::pipe;
use crate::fs::tmpfs::TmpfsInode;
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags};
use crate::vfs::async_io::{self, OwnerKind};
use crate::vfs::locks::lease;
use crate::vfs::{File, OpenFlags, attachments, dnotify, locks, permission};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const F_DUPFD: u32 = 0;
const F_GETFD: u32 = 1;
const F_SETFD: u32 = 2;
const F_GETFL: u32 = 3;
const F_SETFL: u32 = 4;
const F_GETLK: u32 = 5;
const F_SETLKW: u32 = 7;
const F_SETOWN: u32 = 8;
const F_GETOWN: u32 = 9;
const F_SETSIG: u32 = 10;
const F_GETSIG: u32 = 11;
const F_SETOWN_EX: u32 = 15;
const F_GETOWN_EX: u32 = 16;
const F_GETOWNER_UIDS: u32 = 17;
const F_OFD_GETLK: u32 = 36;
const F_OFD_SETLKW: u32 = 38;
const F_SETLEASE: u32 = 1024;
const F_GETLEASE: u32 = 1025;
const F_NOTIFY: u32 = 1026;
const F_DUPFD_QUERY: u32 = 1027;
const F_CREATED_QUERY: u32 = 1028;
const F_DUPFD_CLOEXEC: u32 = 1030;
const F_SETPIPE_SZ: u32 = 1031;
const F_GETPIPE_SZ: u32 = 1032;
const F_ADD_SEALS: u32 = 1033;
const F_GET_SEALS: u32 = 1034;
const F_GET_RW_HINT: u32 = 1035;
const F_SET_RW_HINT: u32 = 1036;

const FD_CLOEXEC: u64 = 1;
/// Highest signal number.
const SIGRTMAX: u64 = 64;
/// Highest write-life hint.
const RWH_WRITE_LIFE_EXTREME: u64 = 5;

/// `fcntl(2)`.
pub fn fcntl(t: &mut CurrentTask, fd: Fd, cmd: Flags, arg: u64) -> SysResult {
    let cmd = cmd.0;
    match cmd {
        F_DUPFD => return duplicate(t, fd, arg as i32, false),
        F_DUPFD_CLOEXEC => return duplicate(t, fd, arg as i32, true),
        F_GETFD => return Ok(u64::from(t.files().cloexec(fd.0)?)),
        F_SETFD => {
            t.files().set_cloexec(fd.0, arg & FD_CLOEXEC != 0)?;
            return Ok(0);
        }
        _ => {}
    }
    let file = t.files().get_raw(fd.0)?;
    match cmd {
        F_GETFL => return Ok(u64::from(file.flags().bits())),
        F_CREATED_QUERY => return Ok(u64::from(file.created())),
        F_DUPFD_QUERY => {
            let other = t.files().get_raw(arg as i32)?;
            return Ok(u64::from(Arc::ptr_eq(&file, &other)));
        }
        _ => {}
    }
    if file.flags().contains(OpenFlags::PATH) {
        return Err(Errno::EBADF);
    }
    match cmd {
        F_SETFL => set_flags(t, &file, fd.0, arg as u32),
        F_GETLK..=F_SETLKW | F_OFD_GETLK..=F_OFD_SETLKW => locks::fcntl(t, &file, cmd, arg),
        F_SETOWN..=F_GETSIG | F_SETOWN_EX..=F_GETOWNER_UIDS => owner(t, &file, cmd, arg),
        F_SETPIPE_SZ => {
            let privileged = t.creds().has(permission::CAP_SYS_RESOURCE);
            pipe::of(&file).ok_or(Errno::EBADF)?.set_capacity(u64::from(arg as u32), privileged)
        }
        F_GETPIPE_SZ => Ok(pipe::of(&file).ok_or(Errno::EBADF)?.capacity()),
        F_ADD_SEALS => {
            if !file.flags().writable() {
                return Err(Errno::EPERM);
            }
            memfd(&file)?.add_seals(arg as u32)?;
            Ok(0)
        }
        F_GET_SEALS => Ok(u64::from(memfd(&file)?.seals()?)),
        F_SETLEASE => lease::set(t, &file, fd.0, arg as i16).map(|()| 0),
        F_GETLEASE => Ok(lease::get(t, &file) as u64),
        F_NOTIFY => dnotify::set(t, &file, fd.0, arg as u32).map(|()| 0),
        F_GET_RW_HINT => {
            let hint = attachments::of(&file)
                .get::<WriteHint>()
                .map_or(0, |h| h.0.load(Ordering::Relaxed));
            t.mm().write_obj(UserAddr(arg), &hint)?;
            Ok(0)
        }
        F_SET_RW_HINT => {
            let hint: u64 = t.mm().read_obj(UserAddr(arg))?;
            if hint > RWH_WRITE_LIFE_EXTREME {
                return Err(Errno::EINVAL);
            }
            let place = attachments::of(&file).get_or_insert_with(WriteHint::default);
            place.0.store(hint, Ordering::Relaxed);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// How long what is written to an inode is expected to live (`F_SET_RW_HINT`); without effect.
#[derive(Default)]
struct WriteHint(AtomicU64);

fn memfd(file: &File) -> Result<&TmpfsInode> {
    file.path().and_then(|p| p.inode().as_any().downcast_ref()).ok_or(Errno::EINVAL)
}

fn set_flags(t: &CurrentTask, file: &Arc<File>, fd: i32, raw: u32) -> SysResult {
    let asynchronous = OpenFlags::from_bits_truncate(raw).contains(OpenFlags::ASYNC);
    let flags = OpenFlags::from_bits_truncate(raw) & OpenFlags::SETTABLE;
    let old = file.flags();
    if flags.contains(OpenFlags::NOATIME)
        && !old.contains(OpenFlags::NOATIME)
        && !permission::is_owner_or_capable(&file.attr()?, t.creds())
    {
        return Err(Errno::EPERM);
    }
    // Packets in pipes.
    if flags.contains(OpenFlags::DIRECT) && pipe::of(file).is_none() && !file.can_be_direct()? {
        return Err(Errno::EINVAL);
    }
    async_io::set_async(t, file, fd, asynchronous);
    file.set_flags(OpenFlags::SETTABLE, flags);
    Ok(0)
}

/// Commands about who is signalled.
fn owner(t: &CurrentTask, file: &Arc<File>, cmd: u32, arg: u64) -> SysResult {
    let addr = UserAddr(arg);
    let state = file.owner.get();
    match cmd {
        F_GETOWN => Ok(i64::from(async_io::owner_signed(t, file)) as u64),
        F_SETOWN => async_io::set_owner_signed(t, file, arg as i32).map(|()| 0),
        F_GETOWN_EX => {
            let kind = match state.kind {
                OwnerKind::Thread => 0,
                OwnerKind::Process => 1,
                OwnerKind::Group => 2,
            };
            t.mm().write_obj(addr, &[kind, t.local_id(state.id)])?;
            Ok(0)
        }
        F_SETOWN_EX => {
            let [kind, id]: [i32; 2] = t.mm().read_obj(addr)?;
            let kind = match kind {
                0 => OwnerKind::Thread,
                1 => OwnerKind::Process,
                2 => OwnerKind::Group,
                _ => return Err(Errno::EINVAL),
            };
            async_io::set_owner(t, file, kind, id).map(|()| 0)
        }
        F_GETOWNER_UIDS => {
            t.mm().write_obj(addr, &[state.uids.0, state.uids.1])?;
            Ok(0)
        }
        F_GETSIG => Ok(state.signal as u64),
        F_SETSIG => {
            if arg > SIGRTMAX {
                return Err(Errno::EINVAL);
            }
            async_io::set_signal(t, file, arg as i32);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `flock(2)`.
pub fn flock(t: &mut CurrentTask, fd: Fd, operation: Flags) -> SysResult {
    let file = t.file(fd.0)?;
    locks::flock(t, &file, operation.0)?;
    Ok(0)
}
