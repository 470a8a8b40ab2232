//! The file of a core dump: an ELF file of type `ET_CORE` with notes and memory (`elf(5)`).

use super::areas::{self, Area};
use super::{Thread, name, notes};
use crate::errno::{Errno, Result};
use crate::io::BufSource;
use crate::kernel::{CurrentTask, Rlimit, SigInfo};
use crate::mm::{MemoryManager, PAGE_SIZE, UserAddr};
use crate::syscalls::arg::AT_FDCWD;
use crate::vfs::{File, FileType, OpenFlags, SetAttr, open};
use platform::Prot;
use std::sync::Arc;

/// Bytes of memory that are looked at together: without a page in memory they are a hole.
const WINDOW: u64 = 1 << 20;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const EHDR: u64 = 64;
const PHDR: u64 = 56;

/// Writes the core dump of the calling thread's process. `EFBIG` if `RLIMIT_CORE` has cut it off; errors of opening
/// and writing; `EPERM` for a file that it must not be written to.
pub(super) fn write(
    t: &mut CurrentTask,
    info: &SigInfo,
    own: &Thread,
    others: &[Thread],
) -> Result<()> {
    let kernel = t.kernel().clone();
    let path = name::path(t, &kernel.core, info);
    let file = create(t, &path)?;
    let limit = t.limit(Rlimit::Core).soft;
    let mut out = Output { file, at: 0, left: limit };
    let mm = t.mm().clone();
    let areas = areas::of(&mm, t.group());
    let notes = notes::all(t, info, own, others, &areas);
    out.put(&headers(&areas, notes.len() as u64))?;
    out.put(&notes)?;
    out.at = out.at.next_multiple_of(PAGE_SIZE);
    for area in &areas {
        memory(&mm, area, &mut out)?;
    }
    out.finish()
}

/// Opens the file: a new one, or an old one that only the process's user can read.
fn create(t: &mut CurrentTask, path: &[u8]) -> Result<Arc<File>> {
    let flags = OpenFlags::CREAT
        | OpenFlags::WRONLY
        | OpenFlags::NOFOLLOW
        | OpenFlags::NONBLOCK
        | OpenFlags::LARGEFILE;
    let file = open::open(t, AT_FDCWD, path, flags, 0o600)?;
    let attr = file.attr()?;
    let place = file.path().ok_or(Errno::EPERM)?;
    let fit = attr.file_type() == FileType::Regular
        && attr.nlink == 1
        && attr.uid == t.creds().fsuid
        && attr.mode & 0o677 == 0o600;
    if !fit {
        return Err(Errno::EPERM);
    }
    place.inode().set_attr(&SetAttr { size: Some(0), ..SetAttr::default() })?;
    Ok(file)
}

/// The file, and how much of it may still be written.
struct Output {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Output {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let len = bytes.len() as u64;
        self.left = self.left.checked_sub(len).ok_or(Errno::EFBIG)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = self.file.ops().write(&self.file, &mut BufSource::new(rest), self.at)?;
            if written == 0 {
                return Err(Errno::EIO);
            }
            self.at += written as u64;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Makes it as long as it should be: it may end in a hole.
    fn finish(self) -> Result<()> {
        let inode = self.file.path().ok_or(Errno::EIO)?.inode();
        if inode.attr()?.size < self.at {
            inode.set_attr(&SetAttr { size: Some(self.at), ..SetAttr::default() })?;
        }
        Ok(())
    }
}

/// ELF header and program headers.
fn headers(areas: &[Area], notes: u64) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    let u16s = |out: &mut Vec<u8>, words: &[u16]| {
        out.extend(words.iter().flat_map(|w| w.to_ne_bytes()));
    };
    let u32s = |out: &mut Vec<u8>, words: &[u32]| {
        out.extend(words.iter().flat_map(|w| w.to_ne_bytes()));
    };
    let u64s = |out: &mut Vec<u8>, words: &[u64]| {
        out.extend(words.iter().flat_map(|w| w.to_ne_bytes()));
    };
    // There are fewer areas than a count of 16 bits can say: `vm.max_map_count`.
    let count = areas.len() as u16 + 1;
    // ET_CORE, x86-64, version 1; no entry, no sections.
    u16s(&mut out, &[4, 62]);
    u32s(&mut out, &[1]);
    u64s(&mut out, &[0, EHDR, 0]);
    u32s(&mut out, &[0]);
    u16s(&mut out, &[EHDR as u16, PHDR as u16, count, 0, 0, 0]);
    let after = EHDR + PHDR * u64::from(count);
    u32s(&mut out, &[PT_NOTE, 0]);
    u64s(&mut out, &[after, 0, 0, notes, 0, 4]);
    let mut offset = (after + notes).next_multiple_of(PAGE_SIZE);
    for area in areas {
        let map = &area.map;
        let right = |prot: Prot, bit: u32| if map.prot.contains(prot) { bit } else { 0 };
        let rights = right(Prot::READ, 4) | right(Prot::WRITE, 2) | right(Prot::EXEC, 1);
        u32s(&mut out, &[PT_LOAD, rights]);
        u64s(&mut out, &[offset, map.start, 0, area.dumped, map.end - map.start, PAGE_SIZE]);
        offset += area.dumped;
    }
    out
}

/// Writes what is dumped of an area. Pages that lie nowhere in memory, or that cannot be read, are a hole.
fn memory(mm: &MemoryManager, area: &Area, out: &mut Output) -> Result<()> {
    let (start, base) = (area.map.start, out.at);
    let end = start + area.dumped;
    let mut page = vec![0; PAGE_SIZE as usize];
    let mut window = start;
    while window < end {
        let window_end = (window + WINDOW).min(end);
        if mm.usage(window, window_end).total() > 0 {
            for at in (window..window_end).step_by(PAGE_SIZE as usize) {
                if mm.page_state(at).present && mm.read(UserAddr(at), &mut page).is_ok() {
                    out.at = base + (at - start);
                    out.put(&page)?;
                }
            }
        }
        window = window_end;
    }
    out.at = base + area.dumped;
    Ok(())
}
