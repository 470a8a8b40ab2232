//! How much of each area of memory a core dump has (`vma_dump_size`).

use crate::kernel::ThreadGroup;
use crate::mm::stats::MapsEntry;
use crate::mm::{MemoryManager, PAGE_SIZE, UserAddr, VmaFlags, VmaName};
use platform::Prot;
use std::sync::atomic::Ordering;

/// Bits of `/proc/PID/coredump_filter`.
const ANON_PRIVATE: u32 = 1;
const ANON_SHARED: u32 = 2;
const MAPPED_PRIVATE: u32 = 4;
const MAPPED_SHARED: u32 = 8;
const ELF_HEADERS: u32 = 16;

/// An area, and how many of its bytes are dumped.
pub struct Area {
    /// The area.
    pub map: MapsEntry,
    /// Bytes from its beginning.
    pub dumped: u64,
}

/// All areas, by address.
pub fn of(mm: &MemoryManager, group: &ThreadGroup) -> Vec<Area> {
    let filter = group.coredump_filter.load(Ordering::Relaxed);
    let maps = mm.maps().into_iter();
    maps.map(|map| Area { dumped: dumped(mm, &map, filter), map }).collect()
}

fn dumped(mm: &MemoryManager, map: &MapsEntry, filter: u32) -> u64 {
    let (has, len) = (|bit: u32| filter & bit != 0, map.end - map.start);
    let whole = |dump: bool| if dump { len } else { 0 };
    if map.name == VmaName::Vdso {
        return len;
    }
    if map.flags.intersects(VmaFlags::DONTDUMP | VmaFlags::SPECIAL) {
        return 0;
    }
    if map.shared {
        let unnamed = map.file.as_ref().is_none_or(|file| {
            let attr = file.attr();
            attr.is_ok_and(|attr| attr.nlink == 0)
        });
        return whole(has(if unnamed { ANON_SHARED } else { MAPPED_SHARED }));
    }
    if has(ANON_PRIVATE) && mm.has_private_pages(map.start, map.end) {
        return len;
    }
    if map.file.is_none() {
        return 0;
    }
    if has(MAPPED_PRIVATE) {
        return len;
    }
    let mut magic = [0; 4];
    let elf = has(ELF_HEADERS)
        && map.offset == 0
        && map.prot.contains(Prot::READ)
        && mm.read(UserAddr(map.start), &mut magic).is_ok()
        && magic == *b"\x7fELF";
    if elf { PAGE_SIZE.min(len) } else { 0 }
}
