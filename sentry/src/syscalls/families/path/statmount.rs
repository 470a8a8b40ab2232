//! `statmount(2)` and `listmount(2)`.

use super::fscontext::ATTRIBUTES;
use crate::errno::{Errno, Result};
use crate::fs::proc::process::mounts::root_within_fs;
use crate::kernel::CurrentTask;
use crate::kernel::credentials::CAP_SYS_ADMIN;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::vfs::{Mount, MountFlags};
use std::sync::Arc;

/// Unique ids are larger than this, so that no one mistakes others for them.
const UNIQUE_ID_OFFSET: u64 = 1 << 31;
/// `LSMT_ROOT`: the root of the namespace.
const LSMT_ROOT: u64 = u64::MAX;
/// Most ids of one call.
const LIST_MAX: u64 = 1_000_000;
/// Size of `struct statmount` without its strings.
const FIXED: usize = 512;

const SB_BASIC: u64 = 0x1;
const MNT_BASIC: u64 = 0x2;
const PROPAGATE_FROM: u64 = 0x4;
const MNT_ROOT: u64 = 0x8;
const MNT_POINT: u64 = 0x10;
const FS_TYPE: u64 = 0x20;
const MNT_NS_ID: u64 = 0x40;
const MNT_OPTS: u64 = 0x80;
const SB_SOURCE: u64 = 0x200;
const SUPPORTED_MASK: u64 = 0x1000;
const SUPPORTED: u64 = SB_BASIC
    | MNT_BASIC
    | PROPAGATE_FROM
    | MNT_ROOT
    | MNT_POINT
    | FS_TYPE
    | MNT_NS_ID
    | MNT_OPTS
    | SB_SOURCE
    | SUPPORTED_MASK;

/// `EPERM` for a mount that cannot be reached from the caller's root, unless it may administer the namespace.
fn may_see(t: &CurrentTask, reachable: bool) -> Result<()> {
    let admin = || t.creds().has_in(t.fs().namespace().user_ns(), CAP_SYS_ADMIN);
    if reachable || admin() { Ok(()) } else { Err(Errno::EPERM) }
}

/// `struct mnt_id_req`.
struct Request {
    id: u64,
    param: u64,
}

impl Request {
    fn read(t: &CurrentTask, at: UserAddr) -> Result<Request> {
        const SIZE: u64 = 24;
        const WITH_NAMESPACE: u64 = 32;
        let size = u64::from(t.mm().read_obj::<u32>(at)?);
        if size > crate::mm::PAGE_SIZE {
            return Err(Errno::E2BIG);
        }
        if size < SIZE {
            return Err(Errno::EINVAL);
        }
        let [head, id, param]: [u64; 3] = t.mm().read_obj(at)?;
        let namespace = match size >= WITH_NAMESPACE {
            true => t.mm().read_obj::<u64>(at.offset(SIZE))?,
            false => 0,
        };
        let mut rest = vec![0; size.saturating_sub(WITH_NAMESPACE) as usize];
        t.mm().read(at.offset(WITH_NAMESPACE), &mut rest)?;
        if rest.iter().any(|b| *b != 0) {
            return Err(Errno::E2BIG);
        }
        if head >> 32 != 0 || id <= UNIQUE_ID_OFFSET {
            return Err(Errno::EINVAL);
        }
        // The caller's own namespace is the only one that has a name here.
        if namespace != 0 && namespace != t.fs().namespace().id() {
            return Err(Errno::ENOENT);
        }
        Ok(Request { id, param })
    }
}

fn find(t: &CurrentTask, id: u64) -> Result<Arc<Mount>> {
    let mounts = t.fs().namespace().mounts();
    mounts.into_iter().find(|m| m.unique_id() == id).ok_or(Errno::ENOENT)
}

/// The structure while it is put together.
struct Builder {
    fixed: [u8; FIXED],
    strings: Vec<u8>,
    mask: u64,
}

impl Builder {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.fixed.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_ne_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_ne_bytes());
    }

    /// A string whose place is told at `at`.
    fn text(&mut self, at: usize, bit: u64, text: &[u8]) {
        self.u32(at, self.strings.len() as u32);
        self.strings.extend_from_slice(text);
        self.strings.push(0);
        self.mask |= bit;
    }
}

/// `statmount(2)`.
pub fn statmount(
    t: &mut CurrentTask,
    req: UserAddr,
    buf: UserAddr,
    bufsize: u64,
    flags: u32,
) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let request = Request::read(t, req)?;
    let mount = find(t, request.id)?;
    let root = t.fs().root();
    let place = mount.root_path().text(&root);
    may_see(t, place.reachable)?;
    let wanted = |bit: u64| request.param & bit != 0;
    let mut out = Builder { fixed: [0; FIXED], strings: Vec::new(), mask: 0 };
    if wanted(SB_BASIC) {
        let dev = mount.fs().dev();
        out.u32(16, libc::major(dev));
        out.u32(20, libc::minor(dev));
        out.u64(24, mount.fs().statfs().map_or(0, |s| s.magic));
        let read_only = mount.flags().contains(MountFlags::RDONLY);
        out.u32(32, u32::from(read_only));
        out.mask |= SB_BASIC;
    }
    let parent = mount.mountpoint().map_or_else(|| mount.clone(), |at| at.mount);
    if wanted(MNT_BASIC) {
        out.u64(40, mount.unique_id());
        out.u64(48, parent.unique_id());
        out.u32(56, mount.id() as u32);
        out.u32(60, parent.id() as u32);
        out.u64(64, attributes(mount.flags()));
        let (peers, master) = (mount.peer_group(), mount.master());
        let mut propagation = 0_u64;
        propagation |= if peers.is_some() { 1 << 20 } else { 0 };
        propagation |= if master.is_some() { 1 << 19 } else { 0 };
        propagation |= if mount.is_unbindable() { 1 << 17 } else { 0 };
        out.u64(72, if propagation == 0 { 1 << 18 } else { propagation });
        out.u64(80, peers.map_or(0, |group| u64::from(group.id())));
        out.u64(88, master.map_or(0, |group| u64::from(group.id())));
        out.mask |= MNT_BASIC;
    }
    if wanted(PROPAGATE_FROM) {
        out.mask |= PROPAGATE_FROM;
    }
    if wanted(MNT_NS_ID) {
        out.u64(112, t.fs().namespace().id());
        out.mask |= MNT_NS_ID;
    }
    if wanted(FS_TYPE) {
        out.text(36, FS_TYPE, mount.fs().type_name().as_bytes());
    }
    if wanted(MNT_ROOT) {
        out.text(104, MNT_ROOT, &root_within_fs(&mount));
    }
    if wanted(MNT_POINT) {
        let text = if place.reachable { place.bytes } else { Vec::new() };
        out.text(108, MNT_POINT, &text);
    }
    if wanted(MNT_OPTS) {
        let options = mount.fs().options();
        if !options.is_empty() {
            out.text(4, MNT_OPTS, options.as_bytes());
        }
    }
    if wanted(SB_SOURCE) {
        out.text(124, SB_SOURCE, mount.source());
    }
    if wanted(SUPPORTED_MASK) {
        out.u64(144, SUPPORTED);
        out.mask |= SUPPORTED_MASK;
    }
    out.u64(8, out.mask);
    let fixed = (bufsize as usize).min(FIXED);
    let size = fixed + out.strings.len();
    if !out.strings.is_empty() && size as u64 > bufsize {
        return Err(Errno::EOVERFLOW);
    }
    out.u32(0, size as u32);
    t.mm().write(buf.offset(FIXED as u64), &out.strings)?;
    t.mm().write(buf, out.fixed.get(..fixed).unwrap_or_default())?;
    Ok(0)
}

/// `MOUNT_ATTR_*` of a mount.
fn attributes(flags: MountFlags) -> u64 {
    let set = ATTRIBUTES.iter().filter(|(_, flag)| flags.contains(*flag)).map(|(bit, _)| bit);
    let times = if flags.contains(MountFlags::NOATIME) {
        0x10
    } else if flags.contains(MountFlags::RELATIME) {
        0
    } else {
        0x20
    };
    set.sum::<u64>() | times
}

/// `listmount(2)`.
pub fn listmount(
    t: &mut CurrentTask,
    req: UserAddr,
    mnt_ids: UserAddr,
    nr: u64,
    flags: u32,
) -> SysResult {
    if flags & !1 != 0 {
        return Err(Errno::EINVAL);
    }
    if nr > LIST_MAX {
        return Err(Errno::EOVERFLOW);
    }
    let request = Request::read(t, req)?;
    let last = request.param;
    if last != 0 && last <= UNIQUE_ID_OFFSET {
        return Err(Errno::EINVAL);
    }
    let root = t.fs().root();
    let top = match request.id {
        LSMT_ROOT => root.mount.clone(),
        id => {
            let top = find(t, id)?;
            may_see(t, top.root_path().text(&root).reachable)?;
            top
        }
    };
    // Those below it, wherever; of the root it is all that can be reached.
    let mut ids: Vec<u64> = top
        .tree()
        .iter()
        .filter(|m| !Arc::ptr_eq(m, &top) || request.id == LSMT_ROOT)
        .filter(|m| m.root_path().text(&root).reachable)
        .map(|m| m.unique_id())
        .collect();
    ids.sort_unstable();
    if flags & 1 != 0 {
        ids.reverse();
        ids.retain(|id| last == 0 || *id < last);
    } else {
        ids.retain(|id| *id > last);
    }
    ids.truncate(nr as usize);
    for (i, id) in ids.iter().enumerate() {
        t.mm().write_obj(mnt_ids.offset(i as u64 * 8), id)?;
    }
    Ok(ids.len() as u64)
}
