//! `ioctl(2)`: the commands every file knows.

use super::inode_flags::{
    self, FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, FS_IOC_GETFLAGS, FS_IOC_SETFLAGS,
};
use crate::errno::Errno;
use crate::fs::ioctl::{FIONREAD, put_int};
use crate::kernel::CurrentTask;
use crate::kernel::landlock::{access, fs::is_common_ioctl};
use crate::kernel::seccomp::notify::{self, NotifyFile};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags};
use crate::syscalls::blocking::on_file;
use crate::vfs::{FileType, OpenFlags, async_io};
use crate::wait::EventMask;

const FIONBIO: u32 = 0x5421;
const FIONCLEX: u32 = 0x5450;
const FIOCLEX: u32 = 0x5451;
const FIOASYNC: u32 = 0x5452;
const FIOQSIZE: u32 = 0x5460;
const FIOSETOWN: u32 = 0x8901;
const SIOCSPGRP: u32 = 0x8902;
const FIOGETOWN: u32 = 0x8903;
const SIOCGPGRP: u32 = 0x8904;
const FIGETBSZ: u32 = 2;

/// `ioctl(2)`.
pub fn ioctl(t: &mut CurrentTask, fd: Fd, cmd: Flags, arg: u64) -> SysResult {
    let file = t.file(fd.0)?;
    if file.refuses(access::IOCTL_DEV) && !is_common_ioctl(cmd.0) {
        return Err(Errno::EACCES);
    }
    match cmd.0 {
        FIOCLEX | FIONCLEX => {
            t.files().set_cloexec(fd.0, cmd.0 == FIOCLEX)?;
            Ok(0)
        }
        FIONBIO => {
            let on: i32 = t.mm().read_obj(UserAddr(arg))?;
            let flag = OpenFlags::NONBLOCK;
            file.set_flags(flag, if on != 0 { flag } else { OpenFlags::empty() });
            Ok(0)
        }
        FIOASYNC => {
            let on: i32 = t.mm().read_obj(UserAddr(arg))?;
            let on = on != 0;
            let known = async_io::set_async(t, &file, fd.0, on);
            if known || on == file.flags().contains(OpenFlags::ASYNC) {
                Ok(0)
            } else {
                Err(Errno::ENOTTY)
            }
        }
        FIOSETOWN | SIOCSPGRP if is_socket(&file) => {
            let id: i32 = t.mm().read_obj(UserAddr(arg))?;
            async_io::set_owner_signed(t, &file, id).map(|()| 0)
        }
        FIOGETOWN | SIOCGPGRP if is_socket(&file) => {
            t.mm().write_obj(UserAddr(arg), &async_io::owner_signed(t, &file))?;
            Ok(0)
        }
        FIOQSIZE => {
            let attr = file.attr()?;
            if !attr.is_regular()
                && !matches!(attr.file_type(), FileType::Directory | FileType::Symlink)
            {
                return Err(Errno::ENOTTY);
            }
            t.mm().write_obj(UserAddr(arg), &attr.size)?;
            Ok(0)
        }
        FS_IOC_GETFLAGS | FS_IOC_SETFLAGS if file.path().is_some() => {
            let path = file.path().ok_or(Errno::ENOTTY)?;
            let get = cmd.0 == FS_IOC_GETFLAGS;
            if get { inode_flags::get(t, path, arg) } else { inode_flags::set(t, path, arg) }
        }
        FS_IOC_FSGETXATTR | FS_IOC_FSSETXATTR if file.path().is_some() => {
            let path = file.path().ok_or(Errno::ENOTTY)?;
            match cmd.0 {
                FS_IOC_FSGETXATTR => inode_flags::get_extended(t, path, arg),
                _ => inode_flags::set_extended(t, path, arg),
            }
        }
        FIGETBSZ if file.path().is_some() => put_int(t, arg, file.attr()?.blksize as usize),
        FIONREAD if is_regular(&file) => {
            let left = file.ops().size()?.saturating_sub(*file.pos());
            put_int(t, arg, usize::try_from(left).unwrap_or(usize::MAX))
        }
        notify::NOTIF_RECV if file.ops_as::<NotifyFile>().is_some() => {
            on_file(t, &file, EventMask::IN, false, None, |t| {
                let ops = file.ops_as::<NotifyFile>().ok_or(Errno::EBADF)?;
                ops.listener().receive(t, UserAddr(arg))
            })
        }
        cmd => file.ops().ioctl(t, &file, cmd, arg),
    }
}

fn is_socket(file: &crate::vfs::File) -> bool {
    crate::socket::of(file).is_ok()
}

fn is_regular(file: &crate::vfs::File) -> bool {
    file.path().is_some_and(|p| p.dentry.file_type() == FileType::Regular)
}
