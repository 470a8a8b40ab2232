//! `sysfs(2)` and `ustat(2)`, which only old programs call.

use crate::errno::Errno;
use crate::fs::proc::system::filesystem_types;
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use zerocopy::{Immutable, IntoBytes};

/// `sysfs(2)`: the numbers and names of the types of file systems. `EINVAL`, `EFAULT`.
pub fn sysfs(t: &mut CurrentTask, option: i32, arg1: u64, arg2: u64) -> SysResult {
    let types = filesystem_types();
    match option {
        1 => {
            let name = t.mm().read_cstr(UserAddr(arg1), 4095)?;
            let at = types.iter().position(|kind| kind.as_bytes() == name);
            at.map(|i| i as u64).ok_or(Errno::EINVAL)
        }
        2 => {
            let index = usize::try_from(arg1 as u32).map_err(|_| Errno::EINVAL)?;
            let name = types.get(index).ok_or(Errno::EINVAL)?;
            t.mm().write(UserAddr(arg2), &[name.as_bytes(), b"\0"].concat())?;
            Ok(0)
        }
        3 => Ok(types.len() as u64),
        _ => Err(Errno::EINVAL),
    }
}

/// `struct ustat`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Ustat {
    free: i32,
    padding: u32,
    inodes: u64,
    names: [u8; 12],
    padding2: u32,
}

/// `ustat(2)`: what is free on the file system with a device number. `EINVAL` if none is mounted.
pub fn ustat(t: &mut CurrentTask, dev: u32, ubuf: UserAddr) -> SysResult {
    let mounts = t.fs().namespace().mounts();
    let fs = mounts.iter().map(|mount| mount.fs()).find(|fs| fs.dev() as u32 == dev);
    let stat = fs.ok_or(Errno::EINVAL)?.statfs()?;
    let [_, free, _] = stat.blocks;
    let [_, inodes] = stat.files;
    let free = free.min(i32::MAX as u64) as i32;
    let out = Ustat { free, padding: 0, inodes, names: [0; 12], padding2: 0 };
    t.mm().write_obj(ubuf, &out)?;
    Ok(0)
}
