//! `fsopen(2)`, `fsconfig(2)`, `fsmount(2)`, `fspick(2)`: file systems set up step by step.

use super::mounts::{is_root, new_mount, require_admin};
use super::{AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, find_path};
use crate::errno::{Errno, Result};
use crate::fs::filesystems;
use crate::fs::fscontext::{FsContextFile, Phase, State};
use crate::fs::tmpfs::TmpfsOptions;
use crate::kernel::{CurrentTask, Rlimit};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{AT_FDCWD, Fd, PathPtr};
use crate::vfs::mount::detached;
use crate::vfs::permission::CAP_SYS_ADMIN;
use crate::vfs::{File, MountFlags};
use std::sync::Arc;

/// Longest name of a file system, key or value, with the NUL.
const NAME_MAX: usize = 4095;
const VALUE_MAX: usize = 255;
/// Largest binary value.
const BINARY_MAX: i32 = 1 << 20;

const SET_FLAG: u32 = 0;
const SET_STRING: u32 = 1;
const SET_BINARY: u32 = 2;
const SET_PATH: u32 = 3;
const SET_PATH_EMPTY: u32 = 4;
const SET_FD: u32 = 5;
const CMD_CREATE: u32 = 6;
const CMD_RECONFIGURE: u32 = 7;
const CMD_CREATE_EXCL: u32 = 8;

/// `MOUNT_ATTR_*` and the flags of a mount that they stand for.
pub(super) const ATTRIBUTES: [(u64, MountFlags); 6] = [
    (0x1, MountFlags::RDONLY),
    (0x2, MountFlags::NOSUID),
    (0x4, MountFlags::NODEV),
    (0x8, MountFlags::NOEXEC),
    (0x80, MountFlags::NODIRATIME),
    (0x20_0000, MountFlags::NOSYMFOLLOW),
];
/// `MOUNT_ATTR__ATIME`: which of the choices about access times.
pub(super) const ATIME: u64 = 0x70;
const ATTR_NOATIME: u64 = 0x10;
const ATTR_STRICTATIME: u64 = 0x20;

/// The flags that attributes stand for; those about access times are one choice. `EINVAL` for unknown ones.
pub(super) fn flags_of(attributes: u64) -> Result<MountFlags> {
    let mut known = ATIME;
    let mut flags = match attributes & ATIME {
        0 => MountFlags::RELATIME,
        ATTR_NOATIME => MountFlags::NOATIME,
        ATTR_STRICTATIME => MountFlags::empty(),
        _ => return Err(Errno::EINVAL),
    };
    for (bit, flag) in ATTRIBUTES {
        known |= bit;
        flags.set(flag, attributes & bit != 0);
    }
    if attributes & !known != 0 { Err(Errno::EINVAL) } else { Ok(flags) }
}

pub(super) fn install(t: &CurrentTask, file: Arc<File>, cloexec: bool) -> SysResult {
    let limit = t.limit(Rlimit::Nofile).soft;
    t.files().insert(file, cloexec, 0, limit).map(|fd| fd as u64)
}

/// `fsopen(2)`.
pub fn fsopen(t: &mut CurrentTask, fsname: UserAddr, flags: u32) -> SysResult {
    require_admin(t)?;
    if flags & !1 != 0 {
        return Err(Errno::EINVAL);
    }
    let name = t.mm().read_cstr(fsname, NAME_MAX)?;
    if !filesystems::is_known(&name) {
        return Err(Errno::ENODEV);
    }
    install(t, FsContextFile::open(&name, Phase::Create), flags & 1 != 0)
}

/// `fspick(2)`.
pub fn fspick(t: &mut CurrentTask, dirfd: Fd, path: PathPtr, flags: u32) -> SysResult {
    require_admin(t)?;
    if flags & !0xf != 0 {
        return Err(Errno::EINVAL);
    }
    let mut at_flags = 0;
    if flags & 2 != 0 {
        at_flags |= AT_SYMLINK_NOFOLLOW;
    }
    if flags & 8 != 0 {
        at_flags |= AT_EMPTY_PATH;
    }
    let at = find_path(t, dirfd, path, at_flags)?;
    if !is_root(&at) {
        return Err(Errno::EINVAL);
    }
    let name = at.mount.fs().type_name().as_bytes();
    let file = FsContextFile::open(name, Phase::Reconfigure(at.mount.clone()));
    install(t, file, flags & 1 != 0)
}

/// `fsconfig(2)`.
pub fn fsconfig(
    t: &mut CurrentTask,
    fd: Fd,
    cmd: u32,
    key: UserAddr,
    value: UserAddr,
    aux: i32,
) -> SysResult {
    if fd.0 < 0 {
        return Err(Errno::EINVAL);
    }
    let (has_key, has_value) = (!key.is_null(), !value.is_null());
    let wrong = match cmd {
        SET_FLAG => !has_key || has_value || aux != 0,
        SET_STRING => !has_key || !has_value || aux != 0,
        SET_BINARY => !has_key || !has_value || !(1..=BINARY_MAX).contains(&aux),
        SET_PATH | SET_PATH_EMPTY => !has_key || !has_value || (aux != AT_FDCWD && aux < 0),
        SET_FD => !has_key || has_value || aux < 0,
        CMD_CREATE | CMD_CREATE_EXCL | CMD_RECONFIGURE => has_key || has_value || aux != 0,
        _ => return Err(Errno::EOPNOTSUPP),
    };
    if wrong {
        return Err(Errno::EINVAL);
    }
    let file = t.files().get(fd.0)?;
    let context = file.ops_as::<FsContextFile>().ok_or(Errno::EINVAL)?;
    let key = if has_key { t.mm().read_cstr(key, VALUE_MAX).map_err(long)? } else { Vec::new() };
    let text = match cmd {
        SET_STRING => Some(t.mm().read_cstr(value, VALUE_MAX).map_err(long)?),
        _ => None,
    };
    match cmd {
        SET_FLAG | SET_STRING => {
            let mut state = context.state.lock();
            parameter(t, context, &mut state, &key, text.as_deref())?;
        }
        // No file system here takes such values.
        SET_BINARY | SET_PATH | SET_PATH_EMPTY | SET_FD => {
            if cmd == SET_FD {
                t.files().get_raw(aux)?;
            }
            return Err(match context.state.lock().phase {
                Phase::Create | Phase::Reconfigure(_) => Errno::EINVAL,
                _ => Errno::EBUSY,
            });
        }
        CMD_RECONFIGURE => reconfigure(t, context)?,
        _ => create(t, context)?,
    }
    Ok(0)
}

/// A string that is too long is an invalid one here.
fn long(e: Errno) -> Errno {
    if e == Errno::ENAMETOOLONG { Errno::EINVAL } else { e }
}

fn parameter(
    t: &CurrentTask,
    context: &FsContextFile,
    state: &mut State,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<()> {
    if !matches!(state.phase, Phase::Create | Phase::Reconfigure(_)) {
        return Err(Errno::EBUSY);
    }
    match (key, value) {
        (b"ro" | b"rw", _) => state.read_only = Some(key == b"ro"),
        (
            b"sync" | b"async" | b"dirsync" | b"lazytime" | b"nolazytime" | b"mand" | b"nomand",
            _,
        ) => {}
        (b"source", Some(value)) if state.source.is_none() => state.source = Some(value.to_vec()),
        (b"source", _) => return Err(Errno::EINVAL),
        _ => {
            let options = state.options_with(key, value)?;
            let known = match context.type_name.as_slice() {
                b"tmpfs" | b"ramfs" => TmpfsOptions::parse_for(&options, t.creds()).is_ok(),
                b"proc" => matches!(key, b"hidepid" | b"gid" | b"subset") && value.is_some(),
                b"devpts" => {
                    matches!(key, b"uid" | b"gid" | b"mode" | b"ptmxmode" | b"max" | b"newinstance")
                }
                b"cgroup2" => {
                    matches!(key, b"nsdelegate" | b"favordynmods" | b"memory_recursiveprot")
                }
                name if crate::fs::fuse::is_type(name) => matches!(
                    key,
                    b"fd"
                        | b"rootmode"
                        | b"user_id"
                        | b"group_id"
                        | b"default_permissions"
                        | b"allow_other"
                        | b"max_read"
                ),
                _ => false,
            };
            if !known {
                return Err(Errno::EINVAL);
            }
            state.set_options(options);
        }
    }
    Ok(())
}

fn create(t: &CurrentTask, context: &FsContextFile) -> Result<()> {
    let mut state = context.state.lock();
    if !matches!(state.phase, Phase::Create) {
        return Err(Errno::EBUSY);
    }
    let source = state.source.clone().unwrap_or_else(|| b"none".to_vec());
    let flags = match state.read_only {
        Some(true) => MountFlags::RDONLY,
        _ => MountFlags::empty(),
    };
    match new_mount(t, &context.type_name, state.options(), &source, flags) {
        Ok(mount) => {
            state.phase = Phase::Created(mount);
            Ok(())
        }
        // Privileges are looked at before anything begins.
        Err(Errno::EPERM) => Err(Errno::EPERM),
        Err(e) => {
            state.phase = Phase::Failed;
            Err(e)
        }
    }
}

fn reconfigure(t: &CurrentTask, context: &FsContextFile) -> Result<()> {
    let state = context.state.lock();
    let Phase::Reconfigure(mount) = &state.phase else { return Err(Errno::EBUSY) };
    if !t.creds().has_in(&mount.fs_owner(), CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    crate::kernel::landlock::fs::check_mounts(t.creds())?;
    if let Some(read_only) = state.read_only {
        let mut flags = mount.flags();
        flags.set(MountFlags::RDONLY, read_only);
        mount.set_flags(flags)?;
    }
    Ok(())
}

/// `fsmount(2)`.
pub fn fsmount(t: &mut CurrentTask, fd: Fd, flags: u32, attr_flags: u32) -> SysResult {
    require_admin(t)?;
    if flags & !1 != 0 {
        return Err(Errno::EINVAL);
    }
    let mount_flags = flags_of(u64::from(attr_flags))?;
    let file = t.files().get(fd.0)?;
    let context = file.ops_as::<FsContextFile>().ok_or(Errno::EINVAL)?;
    let mount = {
        let mut state = context.state.lock();
        match std::mem::replace(&mut state.phase, Phase::Failed) {
            Phase::Created(mount) => {
                state.phase = Phase::Reconfigure(mount.clone());
                mount
            }
            phase @ Phase::Reconfigure(_) => {
                state.phase = phase;
                return Err(Errno::EBUSY);
            }
            phase => {
                state.phase = phase;
                return Err(Errno::EINVAL);
            }
        }
    };
    let read_only = mount.flags() & MountFlags::RDONLY;
    mount.set_flags(mount_flags | read_only)?;
    install(t, detached::open(mount), flags & 1 != 0)
}
