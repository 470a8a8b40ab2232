//! Shared memory segments (`shmget(2)`, `shmop(2)`, `shmctl(2)`).
//!
//! A segment is an unnamed file on the internal tmpfs; attaching it is a shared mapping. Every area
//! that maps it holds the file, so the number of attachments is the number of references.

use super::limits::Limits;
use super::{IPC_CREAT, IPC_EXCL, IPC_PRIVATE, Permissions, now};
use crate::errno::{Errno, Result};
use crate::fs::tmpfs::memfd::{self, MemfdFlags};
use crate::kernel::namespace::IpcNamespace;
use crate::kernel::{Credentials, CurrentTask, Task};
use crate::mm::{Backing, MapFlags, MapRequest, PAGE_SIZE, UserAddr};
use crate::sync::{Mutex, rank};
use crate::vfs::{File, SetAttr};
use platform::Prot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// `kernel.shmmni`: segments.
pub const SHMMNI: usize = 4096;
/// `kernel.shmmax`: bytes of one segment.
pub const SHMMAX: u64 = u64::MAX - (1 << 24);
/// Identifiers of one place in the table are this far apart.
const SEQ_STEP: i32 = 32768;

/// `SHM_RDONLY`
pub const SHM_RDONLY: u32 = 0o10000;
/// `SHM_RND`
pub const SHM_RND: u32 = 0o20000;
/// `SHM_REMAP`
pub const SHM_REMAP: u32 = 0o40000;
/// `SHM_EXEC`
pub const SHM_EXEC: u32 = 0o100000;
/// Marked for removal.
pub const SHM_DEST: u32 = 0o1000;
/// Locked in memory (`SHM_LOCK`); shown, for nothing is ever swapped out here.
pub const SHM_LOCKED: u32 = 0o2000;

/// A segment.
#[derive(Clone)]
pub struct Segment {
    /// Who may use it.
    pub perm: Permissions,
    /// Size in bytes.
    pub size: u64,
    /// Seconds since the epoch: attached, detached, changed.
    pub times: [i64; 3],
    /// Maker and last user.
    pub pids: [i32; 2],
    maker: Weak<Task>,
    file: Arc<File>,
}

impl Segment {
    /// Attachments now: references beyond the table's and this copy's.
    pub fn attached(&self) -> u64 {
        (Arc::strong_count(&self.file) as u64).saturating_sub(2)
    }

    /// Bytes that lie in memory.
    fn resident(&self) -> u64 {
        self.file.attr().map_or(0, |attr| attr.blocks.saturating_mul(512))
    }
}

/// The segments of an IPC namespace.
#[derive(Default)]
pub struct Segments {
    table: Mutex<Table, { rank::LEAF }>,
}

#[derive(Default)]
struct Table {
    segments: BTreeMap<i32, Segment>,
    seq: u16,
}

/// Segments marked for removal go when nobody has them attached; with `shm_rmid_forced` also those that have been
/// attached, or whose maker has ended.
fn sweep(ns: &IpcNamespace) {
    let mut gone = Vec::new();
    {
        let mut table = ns.shm.table.lock();
        let forced = ns.limits.shm_rmid_forced.load(Ordering::Relaxed) != 0;
        let orphan = |s: &Segment| s.times[0] != 0 || s.maker.strong_count() == 0;
        let marked = |s: &Segment| s.perm.mode & SHM_DEST != 0 || forced && orphan(s);
        let dead = |s: &Segment| marked(s) && Arc::strong_count(&s.file) == 1;
        let ids: Vec<i32> =
            table.segments.iter().filter(|(_, s)| dead(s)).map(|(id, _)| *id).collect();
        gone.extend(ids.iter().filter_map(|id| table.segments.remove(id)));
    }
    drop(gone);
}

/// `shmget(2)`.
pub fn get(t: &CurrentTask, key: i32, size: u64, flags: u32) -> Result<i32> {
    let ns = &*t.namespaces().ipc;
    sweep(ns);
    let creds = t.creds();
    if key != IPC_PRIVATE {
        let table = ns.shm.table.lock();
        let found =
            table.segments.iter().find(|(_, s)| s.perm.key == key && s.perm.mode & SHM_DEST == 0);
        if let Some((id, segment)) = found {
            if flags & IPC_CREAT != 0 && flags & IPC_EXCL != 0 {
                return Err(Errno::EEXIST);
            }
            if size > segment.size {
                return Err(Errno::EINVAL);
            }
            let want = (flags >> 6 | flags >> 3 | flags) & 6;
            segment.perm.check(ns, creds, want)?;
            return Ok(*id);
        }
        if flags & IPC_CREAT == 0 {
            return Err(Errno::ENOENT);
        }
    }
    const SHM_HUGETLB: u32 = 0o4000;
    if flags & SHM_HUGETLB != 0 || size == 0 || size > ns.limits.shmmax.load(Ordering::Relaxed) {
        return Err(Errno::EINVAL);
    }
    let name = format!("SYSV{key:08x}");
    let file = memfd::create(t.kernel(), creds, name.as_bytes(), MemfdFlags::empty())?;
    let len = size.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
    let path = file.path().ok_or(Errno::EIO)?;
    path.inode()
        .set_attr(&SetAttr { size: Some(len), ..SetAttr::default() })
        .map_err(|_| Errno::ENOMEM)?;
    let mut table = ns.shm.table.lock();
    if table.segments.len() >= Limits::count(&ns.limits.shmmni) {
        return Err(Errno::ENOSPC);
    }
    let pages = |size: u64| size.div_ceil(PAGE_SIZE);
    let all: u64 = table.segments.values().map(|s| pages(s.size)).sum();
    if all.saturating_add(pages(size)) > ns.limits.shmall.load(Ordering::Relaxed) {
        return Err(Errno::ENOSPC);
    }
    let (first, seq) = if let Some(id) = Limits::take_id(&ns.limits.shm_next_id) {
        (id % SEQ_STEP, (id / SEQ_STEP) as u16)
    } else {
        table.seq = table.seq.wrapping_add(1) % 32768;
        (0, table.seq)
    };
    let used: BTreeSet<i32> = table.segments.keys().map(|id| id % SEQ_STEP).collect();
    let index = (first..SEQ_STEP).find(|i| !used.contains(i)).ok_or(Errno::ENOSPC)?;
    let id = i32::from(seq) * SEQ_STEP + index;
    let perm = Permissions::new(key, creds, flags, seq);
    let times = [0, 0, now()];
    let maker = Arc::downgrade(t.task());
    table.segments.insert(id, Segment { perm, size, times, pids: [t.tgid(), 0], maker, file });
    Ok(id)
}

/// A copy of a segment's description. `EINVAL` if there is none.
pub fn find(ns: &IpcNamespace, id: i32) -> Result<Segment> {
    sweep(ns);
    ns.shm.table.lock().segments.get(&id).cloned().ok_or(Errno::EINVAL)
}

fn update(ns: &IpcNamespace, id: i32, change: impl FnOnce(&mut Segment)) {
    if let Some(segment) = ns.shm.table.lock().segments.get_mut(&id) {
        change(segment);
    }
}

/// `shmat(2)`: returns the address.
pub fn attach(t: &CurrentTask, id: i32, addr: UserAddr, flags: u32) -> Result<UserAddr> {
    let ns = &*t.namespaces().ipc;
    let segment = find(ns, id)?;
    let read_only = flags & SHM_RDONLY != 0;
    segment.perm.check(ns, t.creds(), if read_only { 4 } else { 6 })?;
    let mut at = addr.0;
    let mut map = MapFlags::empty();
    if at != 0 {
        if !at.is_multiple_of(PAGE_SIZE) {
            if flags & SHM_RND == 0 {
                return Err(Errno::EINVAL);
            }
            at -= at % PAGE_SIZE;
            if at == 0 && flags & SHM_REMAP != 0 {
                return Err(Errno::EINVAL);
            }
        }
        map |= if flags & SHM_REMAP != 0 { MapFlags::FIXED } else { MapFlags::FIXED_NOREPLACE };
    } else if flags & SHM_REMAP != 0 {
        return Err(Errno::EINVAL);
    }
    let mut prot = Prot::READ;
    prot.set(Prot::WRITE, !read_only);
    prot.set(Prot::EXEC, flags & SHM_EXEC != 0);
    let len = segment.size.next_multiple_of(PAGE_SIZE);
    let mappable = segment.file.ops().mappable()?;
    let backing = Backing { mappable, file: Some(segment.file.clone()), offset: 0 };
    let mut request = MapRequest::file(at, len, prot, map, backing);
    request.shared = true;
    if read_only {
        request.max_prot -= Prot::WRITE;
    }
    let at = t.mm().mmap(request).map_err(|e| match e {
        // What `FIXED_NOREPLACE` says about an address that is taken.
        Errno::EEXIST => Errno::EINVAL,
        e => e,
    })?;
    let pid = t.tgid();
    update(ns, id, |s| {
        s.times[0] = now();
        s.pids[1] = pid;
    });
    Ok(at)
}

/// `shmdt(2)`. `EINVAL` if no segment is attached there.
pub fn detach(t: &CurrentTask, addr: UserAddr) -> Result<()> {
    let ns = &*t.namespaces().ipc;
    if !addr.0.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let first = t.mm().maps_from(addr.0).filter(|m| m.start == addr.0 && m.offset == 0);
    let file = first.and_then(|m| m.file).ok_or(Errno::EINVAL)?;
    let (id, size) = {
        let table = ns.shm.table.lock();
        let found = table.segments.iter().find(|(_, s)| Arc::ptr_eq(&s.file, &file));
        found.map(|(id, s)| (*id, s.size)).ok_or(Errno::EINVAL)?
    };
    // The program may have cut pieces out of the mapping or put others in.
    let end = addr.0.saturating_add(size.next_multiple_of(PAGE_SIZE));
    let mut at = addr.0;
    while let Some(map) = t.mm().maps_from(at).filter(|m| m.start < end) {
        at = map.end;
        let same = map.file.as_ref().is_some_and(|f| Arc::ptr_eq(f, &file));
        if same && map.start.wrapping_sub(addr.0) == map.offset {
            t.mm().munmap(UserAddr(map.start), map.end - map.start)?;
        }
    }
    drop(file);
    let pid = t.tgid();
    update(ns, id, |s| {
        s.times[1] = now();
        s.pids[1] = pid;
    });
    sweep(ns);
    Ok(())
}

/// `IPC_RMID`: it goes when the last one detaches it.
pub fn remove(ns: &IpcNamespace, creds: &Credentials, id: i32) -> Result<()> {
    find(ns, id)?.perm.check_owner(ns, creds)?;
    update(ns, id, |s| {
        s.perm.mode |= SHM_DEST;
        s.perm.key = IPC_PRIVATE;
    });
    sweep(ns);
    Ok(())
}

/// `IPC_SET`.
pub fn set(
    ns: &IpcNamespace,
    creds: &Credentials,
    id: i32,
    uid: u32,
    gid: u32,
    mode: u32,
) -> Result<()> {
    find(ns, id)?.perm.check_owner(ns, creds)?;
    update(ns, id, |s| {
        s.perm.change(uid, gid, mode);
        s.times[2] = now();
    });
    Ok(())
}

/// `SHM_LOCK`, `SHM_UNLOCK`.
pub fn set_locked(ns: &IpcNamespace, id: i32, locked: bool) {
    update(ns, id, |s| match locked {
        true => s.perm.mode |= SHM_LOCKED,
        false => s.perm.mode &= !SHM_LOCKED,
    });
}

/// What is used, for `IPC_INFO` and `SHM_INFO`.
pub struct Used {
    /// Highest place in use.
    pub highest: i32,
    /// Number of segments.
    pub segments: usize,
    /// Their pages.
    pub pages: u64,
    /// Those of their pages that lie in memory.
    pub resident: u64,
}

/// What is used.
pub fn usage(ns: &IpcNamespace) -> Used {
    sweep(ns);
    let (highest, all) = {
        let table = ns.shm.table.lock();
        let highest = table.segments.keys().map(|id| id % SEQ_STEP).max().unwrap_or(0);
        (highest, table.segments.values().cloned().collect::<Vec<_>>())
    };
    Used {
        highest,
        segments: all.len(),
        pages: all.iter().map(|s| s.size.div_ceil(PAGE_SIZE)).sum(),
        resident: all.iter().map(|s| s.resident() / PAGE_SIZE).sum(),
    }
}

/// The id of the segment at a place in the table (`SHM_STAT`). An id names its place, too.
pub fn id_at(ns: &IpcNamespace, index: i32) -> Result<i32> {
    sweep(ns);
    let (table, index) = (ns.shm.table.lock(), index % SEQ_STEP);
    table.segments.keys().find(|id| *id % SEQ_STEP == index).copied().ok_or(Errno::EINVAL)
}

/// The contents of `/proc/sysvipc/shm`.
pub fn proc_text(ns: &IpcNamespace) -> String {
    use std::fmt::Write;
    let mut out = String::from(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  \
         cgid      atime      dtime      ctime                   rss                  swap\n",
    );
    sweep(ns);
    let all: Vec<_> = ns.shm.table.lock().segments.iter().map(|(id, s)| (*id, s.clone())).collect();
    for (id, s) in all {
        let p = &s.perm;
        let [atime, dtime, ctime] = s.times;
        let _ = writeln!(
            out,
            "{:10} {id:10}  {:4o} {:21} {:5} {:5}  {:5} {:5} {:5} {:5} {:5} {atime:10} {dtime:10} \
             {ctime:10} {:21} {:21}",
            p.key,
            p.mode,
            s.size,
            s.pids[0],
            s.pids[1],
            s.attached(),
            p.uid,
            p.gid,
            p.cuid,
            p.cgid,
            s.resident(),
            0
        );
    }
    out
}
