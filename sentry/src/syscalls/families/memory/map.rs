//! `mmap(2)` and what changes mappings.

use super::CAP_IPC_LOCK;
use crate::errno::{Errno, Result};
use crate::kernel::accounting::note_before_release;
use crate::kernel::{CurrentTask, pkeys};
use crate::mm::protect::Grows;
use crate::mm::{
    Backing, MapFlags, MapRequest, PAGE_SIZE, PKEY_DISABLE_ACCESS, PKEY_DISABLE_WRITE, RemapFlags,
    SharedMemory, UserAddr,
};
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags, flags};
use crate::vfs::{MountFlags, OpenFlags};
use platform::Prot;
use std::sync::Arc;

const MAP_TYPE: u32 = 0xf;
const MAP_SHARED: u32 = 1;
const MAP_PRIVATE: u32 = 2;
const MAP_SHARED_VALIDATE: u32 = 3;
/// Flags that `MAP_SHARED_VALIDATE` knows for every file (`LEGACY_MAP_MASK`).
const LEGACY: u32 = MAP_TYPE
    | 0x10
    | 0x20
    | 0x40
    | 0x80
    | 0x100
    | 0x800
    | 0x1000
    | 0x2000
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000
    | 0x4_0000
    | 0x400_0000
    | 0xfc00_0000;

const PROT_SEM: u64 = 8;
const PROT_GROWSDOWN: u64 = 0x0100_0000;
const PROT_GROWSUP: u64 = 0x0200_0000;

/// `mmap(2)`
pub fn mmap(
    t: &mut CurrentTask,
    addr: UserAddr,
    len: u64,
    prot: u64,
    flags: Flags,
    fd: Fd,
    offset: u64,
) -> SysResult {
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let map_flags = MapFlags::from_bits_truncate(flags.0);
    let anonymous = map_flags.contains(MapFlags::ANONYMOUS);
    let file = if anonymous { None } else { Some(t.file(fd.0)?) };
    if file.as_ref().is_some_and(|f| f.flags().contains(OpenFlags::PATH)) {
        return Err(Errno::EBADF);
    }
    if map_flags.contains(MapFlags::HUGETLB) {
        // There are no huge pages to be had.
        return Err(if anonymous { Errno::ENOMEM } else { Errno::EINVAL });
    }
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    // Rights that Linux does not know are ignored.
    let prot = Prot::from_bits_truncate(prot as u32);
    let mut request = MapRequest::anonymous(addr.0, len, prot, map_flags);
    let kind = flags.0 & MAP_TYPE;
    match &file {
        None => {
            request.shared = match kind {
                MAP_SHARED => true,
                MAP_PRIVATE => false,
                _ => return Err(Errno::EINVAL),
            };
            if request.shared {
                if map_flags.contains(MapFlags::GROWSDOWN) {
                    return Err(Errno::EINVAL);
                }
                if len > t.mm().task_size() {
                    return Err(Errno::ENOMEM);
                }
                let memory = SharedMemory::new(t.mm().memory_file(), len)?;
                request.backing =
                    Some(Backing { mappable: Arc::new(memory), file: None, offset: 0 });
            }
        }
        Some(file) => {
            let mode = file.flags();
            let writing = prot.contains(Prot::WRITE);
            if kind == MAP_SHARED_VALIDATE && flags.0 & !LEGACY != 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            request.shared = match kind {
                MAP_SHARED | MAP_SHARED_VALIDATE => true,
                MAP_PRIVATE => false,
                _ => return Err(Errno::EINVAL),
            };
            if request.shared && !mode.writable() {
                if writing {
                    return Err(Errno::EACCES);
                }
                request.max_prot -= Prot::WRITE;
            }
            if !mode.readable() {
                return Err(Errno::EACCES);
            }
            if file.path().is_some_and(|p| p.mount.flags().contains(MountFlags::NOEXEC)) {
                if prot.contains(Prot::EXEC) {
                    return Err(Errno::EPERM);
                }
                request.max_prot -= Prot::EXEC;
            }
            if request.shared && file.ops().write_sealed() {
                if writing {
                    return Err(Errno::EPERM);
                }
                request.max_prot -= Prot::WRITE;
            }
            if request.shared && !file.ops().shared_writes_map() {
                if writing {
                    return Err(Errno::ENODEV);
                }
                request.max_prot -= Prot::WRITE;
            }
            let mappable = file.ops().mappable()?;
            if map_flags.contains(MapFlags::GROWSDOWN) {
                return Err(Errno::EINVAL);
            }
            request.backing = Some(Backing { mappable, file: Some(file.clone()), offset });
        }
    }
    if map_flags.contains(MapFlags::LOCKED)
        && t.mm().limits().memlock() == 0
        && !t.creds().has(CAP_IPC_LOCK)
    {
        return Err(Errno::EPERM);
    }
    t.mm().mmap(request).map(|addr| addr.0)
}

/// `munmap(2)`
pub fn munmap(t: &mut CurrentTask, addr: UserAddr, len: u64) -> SysResult {
    note_before_release(t, addr.0, len);
    t.mm().munmap(addr, len).map(|()| 0)
}

/// `mprotect(2)`
pub fn mprotect(t: &mut CurrentTask, addr: UserAddr, len: u64, prot: u64) -> SysResult {
    protect(t, addr, len, prot, None)
}

fn protect(
    t: &mut CurrentTask,
    addr: UserAddr,
    len: u64,
    prot: u64,
    key: Option<i32>,
) -> SysResult {
    let grows = match (prot & PROT_GROWSDOWN != 0, prot & PROT_GROWSUP != 0) {
        (false, false) => Grows::No,
        (true, false) => Grows::Down,
        (false, true) => Grows::Up,
        (true, true) => return Err(Errno::EINVAL),
    };
    let rights = prot & !(PROT_GROWSDOWN | PROT_GROWSUP);
    if !addr.0.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    if rights & !(u64::from(Prot::all().bits()) | PROT_SEM) != 0 {
        return Err(Errno::EINVAL);
    }
    let prot = Prot::from_bits_truncate(rights as u32);
    match key {
        None => t.mm().mprotect(addr, len, prot, grows)?,
        Some(key) => t.mm().pkey_mprotect(addr, len, prot, key, grows)?,
    }
    Ok(0)
}

/// `pkey_mprotect(2)`
pub fn pkey_mprotect(
    t: &mut CurrentTask,
    addr: UserAddr,
    len: u64,
    prot: u64,
    pkey: i32,
) -> SysResult {
    // No key: as without.
    protect(t, addr, len, prot, Some(pkey).filter(|key| *key != -1))
}

/// `pkey_alloc(2)`
pub fn pkey_alloc(t: &mut CurrentTask, flags: u64, rights: u64) -> SysResult {
    if flags != 0 || rights & !(PKEY_DISABLE_ACCESS | PKEY_DISABLE_WRITE) != 0 {
        return Err(Errno::EINVAL);
    }
    let key = t.mm().allocate_key()?;
    match pkeys::set_rights(t, key, rights) {
        Ok(()) => Ok(key.into()),
        Err(error) => {
            t.mm().free_key(key.into())?;
            Err(error)
        }
    }
}

/// `pkey_free(2)`
pub fn pkey_free(t: &mut CurrentTask, pkey: i32) -> SysResult {
    t.mm().free_key(pkey).map(|()| 0)
}

/// `brk(2)`
pub fn brk(t: &mut CurrentTask, addr: UserAddr) -> SysResult {
    Ok(t.mm().brk(addr).0)
}

/// `mremap(2)`
pub fn mremap(
    t: &mut CurrentTask,
    old: UserAddr,
    old_len: u64,
    new_len: u64,
    raw: u64,
    new: UserAddr,
) -> SysResult {
    let raw = u32::try_from(raw).map_err(|_| Errno::EINVAL)?;
    let flags: RemapFlags = flags(raw)?;
    t.mm().mremap(old, old_len, new_len, flags, new).map(|addr| addr.0)
}

/// `remap_file_pages(2)`
pub fn remap_file_pages(
    t: &mut CurrentTask,
    addr: UserAddr,
    size: u64,
    prot: u64,
    page: u64,
    _flags: u64,
) -> SysResult {
    if prot != 0 {
        return Err(Errno::EINVAL);
    }
    t.mm().remap_file_pages(addr, size, page).map(|()| 0)
}

/// `mseal(2)`
pub fn mseal(t: &mut CurrentTask, addr: UserAddr, len: u64, flags: u64) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    t.mm().mseal(addr, len).map(|()| 0)
}

/// `map_shadow_stack(2)`: the guest's CPU has no shadow stacks.
pub fn map_shadow_stack(
    _: &mut CurrentTask,
    _addr: UserAddr,
    _size: u64,
    _flags: u64,
) -> SysResult {
    Err(Errno::EOPNOTSUPP)
}

/// `msync(2)`
pub fn msync(t: &mut CurrentTask, addr: UserAddr, len: u64, flags: Flags) -> SysResult {
    const MS_ASYNC: u32 = 1;
    const MS_INVALIDATE: u32 = 2;
    const MS_SYNC: u32 = 4;
    let bits = flags.0;
    let both = bits & MS_ASYNC != 0 && bits & MS_SYNC != 0;
    if bits & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) != 0 || both {
        return Err(Errno::EINVAL);
    }
    t.mm().msync(addr, len, bits & MS_SYNC != 0, bits & MS_INVALIDATE != 0).map(|()| 0)
}

/// `mincore(2)`
pub fn mincore(t: &mut CurrentTask, addr: UserAddr, len: u64, out: UserAddr) -> SysResult {
    if !addr.0.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    t.mm().check_buffer(addr, len).map_err(|_| Errno::ENOMEM)?;
    let pages = len.div_ceil(PAGE_SIZE);
    t.mm().check_buffer(out, pages)?;
    // A page of results at a time, as on Linux.
    let mut done = 0;
    let mut bytes = Vec::new();
    while done < pages {
        let n = (pages - done).min(PAGE_SIZE);
        bytes.clear();
        let result: Result<()> = t.mm().mincore(addr.0 + done * PAGE_SIZE, n, &mut bytes);
        result?;
        t.mm().write(out.offset(done), &bytes)?;
        done += n;
    }
    Ok(0)
}
