//! `PROCMAP_QUERY`: asking for one line of `maps` in binary form (`ioctl(2)` on `/proc/PID/maps`).

use super::{Subject, maps};
use crate::errno::{Errno, Result};
use crate::kernel::Task;
use crate::mm::stats::MapsEntry;
use crate::mm::{MemoryManager, PAGE_SIZE, UserAddr};
use platform::Prot;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The command.
pub const PROCMAP_QUERY: u32 = 0xc068_6611;

const READABLE: u64 = 1;
const WRITABLE: u64 = 2;
const EXECUTABLE: u64 = 4;
const SHARED: u64 = 8;
const COVERING_OR_NEXT: u64 = 0x10;
const FILE_BACKED: u64 = 0x20;

/// Longest name that is given out, with the NUL.
const NAME_MAX: u32 = 4096;

/// `struct procmap_query`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Query {
    size: u64,
    flags: u64,
    addr: u64,
    start: u64,
    end: u64,
    vma_flags: u64,
    page_size: u64,
    offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    name_size: u32,
    build_id_size: u32,
    name_addr: u64,
    build_id_addr: u64,
}

/// Bytes that every version of the structure has.
const LEAST: u64 = 24;

/// What `vma_flags` is for an area.
fn rights(m: &MapsEntry) -> u64 {
    let bit = |set: bool, bit: u64| if set { bit } else { 0 };
    bit(m.prot.contains(Prot::READ), READABLE)
        | bit(m.prot.contains(Prot::WRITE), WRITABLE)
        | bit(m.prot.contains(Prot::EXEC), EXECUTABLE)
        | bit(m.shared, SHARED)
}

fn find(mm: &MemoryManager, query: &Query) -> Result<MapsEntry> {
    let wanted = query.flags & (READABLE | WRITABLE | EXECUTABLE | SHARED);
    let next = query.flags & COVERING_OR_NEXT != 0;
    let mut at = query.addr;
    loop {
        let area = mm.maps_from(at).ok_or(Errno::ENOENT)?;
        let fits = rights(&area) & wanted == wanted
            && (query.flags & FILE_BACKED == 0 || area.file.is_some());
        if fits && (next || area.start <= query.addr) {
            return Ok(area);
        }
        if !next || area.end <= at {
            return Err(Errno::ENOENT);
        }
        at = area.end;
    }
}

/// Answers the question at `at`. Build ids are not looked for: there is none, as for a file without one.
/// `ENOENT` if no area fits, `EINVAL` and `E2BIG` for a malformed question, `ENAMETOOLONG`.
pub fn answer(subject: &Subject, task: &Task, at: UserAddr) -> Result<()> {
    let memory = task.mm()?;
    let size: u64 = memory.read_obj(at)?;
    if size > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < LEAST {
        return Err(Errno::EINVAL);
    }
    let mut query = Query::default();
    let own = size_of::<Query>();
    let size = size as usize;
    memory.read(at, query.as_mut_bytes().get_mut(..size.min(own)).unwrap_or_default())?;
    let mut rest = vec![0; size.saturating_sub(own)];
    memory.read(at.offset(own as u64), &mut rest)?;
    if rest.iter().any(|b| *b != 0) {
        return Err(Errno::E2BIG);
    }
    let known = READABLE | WRITABLE | EXECUTABLE | SHARED | COVERING_OR_NEXT | FILE_BACKED;
    if query.flags & !known != 0
        || (query.name_size == 0) != (query.name_addr == 0)
        || (query.build_id_size == 0) != (query.build_id_addr == 0)
    {
        return Err(Errno::EINVAL);
    }
    let mm = subject.mm().ok_or(Errno::ESRCH)?;
    let area = find(&mm, &query)?;
    (query.start, query.end) = (area.start, area.end);
    query.vma_flags = rights(&area);
    query.page_size = PAGE_SIZE;
    let attr = area.file.as_ref().and_then(|file| file.attr().ok());
    let (dev, inode) = attr.map_or((0, 0), |attr| (attr.dev, attr.ino));
    query.offset = if area.file.is_some() { area.offset } else { 0 };
    query.inode = inode;
    (query.dev_major, query.dev_minor) = (libc::major(dev), libc::minor(dev));
    query.build_id_size = 0;
    if query.name_size != 0 {
        let mut name = maps::name(subject, &area)?;
        if !name.is_empty() {
            name.push(0);
        }
        if name.len() as u64 > u64::from(query.name_size.min(NAME_MAX)) {
            return Err(Errno::ENAMETOOLONG);
        }
        query.name_size = name.len() as u32;
        memory.write(UserAddr(query.name_addr), &name)?;
    }
    memory.write(at, query.as_bytes().get(..size.min(own)).unwrap_or_default())
}
