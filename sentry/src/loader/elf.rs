//! ELF executables (`elf(5)`): 64-bit, x86-64, fixed or position-independent.

use super::read_at;
use crate::errno::{Errno, Result};
use crate::mm::{Backing, MapFlags, MapRequest, MemoryManager, PAGE_SIZE, UserAddr, VmaName};
use crate::vfs::File;
use platform::Prot;
use std::ops::Range;
use std::sync::Arc;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// `ELIBBAD`: the interpreter is not one.
const ELIBBAD: i32 = 80;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    phoff: u64,
    shoff: u64,
    flags: u32,
    ehsize: u16,
    phentsize: u16,
    phnum: u16,
    shentsize: u16,
    shnum: u16,
    shstrndx: u16,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
}

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;
/// Most bytes of program headers.
const MAX_HEADERS: usize = 65536;
/// Longest path of an interpreter (`PATH_MAX`).
const PATH_MAX: u64 = 4096;

impl Segment {
    fn prot(&self) -> Prot {
        let mut prot = Prot::empty();
        prot.set(Prot::READ, self.flags & PF_R != 0);
        prot.set(Prot::WRITE, self.flags & PF_W != 0);
        prot.set(Prot::EXEC, self.flags & PF_X != 0);
        prot
    }
}

/// An executable's or interpreter's headers.
#[derive(Debug)]
pub struct Program {
    header: Header,
    segments: Vec<Segment>,
    /// `PT_GNU_STACK` asks for an executable stack.
    pub executable_stack: bool,
}

impl Program {
    /// Reads the headers of an executable whose first bytes are `head`. `ENOEXEC` if it is none.
    pub fn read(file: &File, head: &[u8]) -> Result<Program> {
        let header = Header::read_from_prefix(head).map_err(|_| Errno::ENOEXEC)?.0;
        Self::parse(file, header)
    }

    /// Reads the headers of an interpreter. `ELIBBAD` if it is none, `EIO` if it is too short.
    pub fn read_interpreter(file: &File) -> Result<Program> {
        let mut header = Header::new_zeroed();
        if read_at(file, 0, header.as_mut_bytes())? < size_of::<Header>() {
            return Err(Errno::EIO);
        }
        Self::parse(file, header).map_err(|_| Errno::from_raw(ELIBBAD))
    }

    fn parse(file: &File, header: Header) -> Result<Program> {
        let is_ours = header.ident.starts_with(b"\x7fELF")
            && (header.kind == ET_EXEC || header.kind == ET_DYN)
            && header.machine == EM_X86_64;
        let size = usize::from(header.phnum) * size_of::<Segment>();
        if !is_ours
            || usize::from(header.phentsize) != size_of::<Segment>()
            || size == 0
            || size > MAX_HEADERS
        {
            return Err(Errno::ENOEXEC);
        }
        let mut bytes = vec![0u8; size];
        if read_at(file, header.phoff, &mut bytes).map_err(|_| Errno::ENOEXEC)? < size {
            return Err(Errno::ENOEXEC);
        }
        let segments: Vec<Segment> = bytes
            .chunks_exact(size_of::<Segment>())
            .filter_map(|chunk| Segment::read_from_bytes(chunk).ok())
            .collect();
        let executable_stack = segments
            .iter()
            .rev()
            .find(|s| s.kind == PT_GNU_STACK)
            .is_some_and(|s| s.flags & PF_X != 0);
        Ok(Program { header, segments, executable_stack })
    }

    /// Path of the interpreter, if the program wants one.
    pub fn interpreter(&self, file: &File) -> Result<Option<Vec<u8>>> {
        let Some(segment) = self.segments.iter().find(|s| s.kind == PT_INTERP) else {
            return Ok(None);
        };
        if segment.filesz > PATH_MAX || segment.filesz < 2 {
            return Err(Errno::ENOEXEC);
        }
        let mut path = vec![0u8; segment.filesz as usize];
        if read_at(file, segment.offset, &mut path)? < path.len() {
            return Err(Errno::EIO);
        }
        if path.pop() != Some(0) {
            return Err(Errno::ENOEXEC);
        }
        if let Some(nul) = path.iter().position(|&b| b == 0) {
            path.truncate(nul);
        }
        Ok(Some(path))
    }

    fn loads(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.segments.iter().filter(|s| s.kind == PT_LOAD)
    }

    /// Lowest and one past the highest address of the segments, in pages.
    fn extent(&self, high: u64) -> Result<Range<u64>> {
        let mut extent: Option<Range<u64>> = None;
        for segment in self.loads() {
            let end = segment.vaddr.checked_add(segment.memsz).filter(|&end| end <= high);
            let end = end.ok_or(Errno::EINVAL)?;
            if segment.filesz > segment.memsz {
                return Err(Errno::EINVAL);
            }
            let start = segment.vaddr & !(PAGE_SIZE - 1);
            let all = extent.get_or_insert(start..end);
            *all = all.start.min(start)..all.end.max(end);
        }
        // Without anything to load there is nothing to run.
        let extent = extent.ok_or(Errno::EINVAL)?;
        let end = extent.end.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL)?;
        if end == extent.start {
            return Err(Errno::EINVAL);
        }
        Ok(extent.start..end)
    }

    /// Largest alignment that a segment asks for: a power of two, at least a page.
    fn alignment(&self) -> u64 {
        self.loads()
            .map(|s| s.align)
            .filter(|a| a.is_power_of_two())
            .max()
            .unwrap_or(PAGE_SIZE)
            .clamp(PAGE_SIZE, 1 << 30)
    }
}

/// A mapped program.
#[derive(Debug, Clone)]
pub struct Image {
    /// Where execution starts: in the interpreter, if there is one.
    pub start: u64,
    /// The program's entry point (`AT_ENTRY`).
    pub entry: u64,
    /// Where its program headers are (`AT_PHDR`); 0 if in no segment.
    pub headers: u64,
    /// Their number (`AT_PHNUM`).
    pub header_count: u64,
    /// Where the interpreter is (`AT_BASE`).
    pub interpreter_base: u64,
    /// Its text.
    pub code: Range<u64>,
    /// Its data.
    pub data: Range<u64>,
}

/// Maps a program and its interpreter, and places the heap.
pub fn map(
    mm: &MemoryManager,
    file: &Arc<File>,
    program: &Program,
    interpreter: Option<(&Program, &Arc<File>)>,
) -> Result<Image> {
    let layout = mm.layout();
    let extent = program.extent(layout.high)?;
    let bias = match program.header.kind {
        ET_EXEC => 0,
        // A program that is its own loader goes where libraries go, and leaves room for the heap.
        _ if interpreter.is_none() => reserve(mm, &extent, program.alignment(), 0)?,
        _ => {
            let base = layout.pie_base & !(program.alignment() - 1);
            reserve(mm, &extent, program.alignment(), base)?
        }
    };
    load_segments(mm, file, program, bias)?;
    let address = |offset: u64| bias.wrapping_add(offset);
    let mut code = Range { start: u64::MAX, end: 0 };
    let mut data = 0..0;
    for segment in program.loads() {
        let start = address(segment.vaddr);
        let end = start.wrapping_add(segment.filesz);
        code.start = code.start.min(start);
        if segment.flags & PF_X != 0 {
            code.end = code.end.max(end);
        }
        if start > data.start {
            data.start = start;
        }
        data.end = data.end.max(end);
    }
    let mut image = Image {
        start: address(program.header.entry),
        entry: address(program.header.entry),
        headers: header_address(program).map_or(0, address),
        header_count: program.header.phnum.into(),
        interpreter_base: 0,
        code,
        data,
    };
    if let Some((interpreter, file)) = interpreter {
        let extent = interpreter.extent(layout.high)?;
        let bias = match interpreter.header.kind {
            ET_EXEC => 0,
            _ => reserve(mm, &extent, interpreter.alignment(), 0)?,
        };
        load_segments(mm, file, interpreter, bias)?;
        image.interpreter_base = bias.wrapping_add(extent.start);
        image.start = bias.wrapping_add(interpreter.header.entry);
    }
    if image.start >= layout.high {
        return Err(Errno::EINVAL);
    }
    let end = if program.header.kind == ET_DYN && interpreter.is_none() {
        layout.pie_base
    } else {
        address(extent.end)
    };
    mm.set_brk_start(UserAddr(end.saturating_add(layout.brk_offset)));
    Ok(image)
}

/// The address of the program headers within the program, if a segment contains them.
fn header_address(program: &Program) -> Option<u64> {
    let at = program.header.phoff;
    let segment = program.loads().find(|s| s.offset <= at && at - s.offset < s.filesz)?;
    segment.vaddr.checked_add(at - segment.offset)
}

/// Finds room for a position-independent program near `base` (0: anywhere). Returns what to add to
/// its addresses. Nothing stays mapped: no other thread can take the room.
fn reserve(mm: &MemoryManager, extent: &Range<u64>, align: u64, base: u64) -> Result<u64> {
    let len = extent.end - extent.start;
    let slack = if align > PAGE_SIZE { align } else { 0 };
    let want = len.checked_add(slack).ok_or(Errno::ENOMEM)?;
    let room = MapRequest::anonymous(base, want, Prot::empty(), MapFlags::empty());
    let start = mm.mmap(room)?;
    mm.munmap(start, want)?;
    let start = start.0.checked_next_multiple_of(align).ok_or(Errno::ENOMEM)?;
    Ok(start.wrapping_sub(extent.start & !(align - 1)))
}

fn load_segments(mm: &MemoryManager, file: &Arc<File>, program: &Program, bias: u64) -> Result<()> {
    // Linux refuses to map over what is there already (MAP_FIXED_NOREPLACE) for the first segment
    // of a fixed program; in a fresh address space nothing is.
    let mappable = file.ops().mappable().map_err(|_| Errno::ENOEXEC)?;
    for segment in program.loads() {
        if segment.memsz == 0 {
            continue;
        }
        let in_page = segment.vaddr % PAGE_SIZE;
        let start = bias.wrapping_add(segment.vaddr - in_page);
        let prot = segment.prot();
        let file_end = start.checked_add(in_page + segment.filesz).ok_or(Errno::EINVAL)?;
        let end = start.checked_add(in_page + segment.memsz).ok_or(Errno::EINVAL)?;
        let mut mapped_end = start;
        if segment.filesz > 0 {
            let offset = segment.offset.checked_sub(in_page).ok_or(Errno::EINVAL)?;
            if !offset.is_multiple_of(PAGE_SIZE) {
                return Err(Errno::EINVAL);
            }
            let backing = Backing { mappable: mappable.clone(), file: Some(file.clone()), offset };
            mm.mmap(MapRequest::file(start, file_end - start, prot, MapFlags::FIXED, backing))?;
            mapped_end = file_end.next_multiple_of(PAGE_SIZE);
        }
        if end > file_end && mapped_end > file_end && segment.filesz > 0 {
            // The rest of the last page is the start of the zeroed part. Where the segment cannot be
            // written Linux leaves the bytes alone.
            let rest = mapped_end.min(end.next_multiple_of(PAGE_SIZE)) - file_end;
            if prot.contains(Prot::WRITE) {
                mm.zero(UserAddr(file_end), rest)?;
            }
        }
        let end = end.next_multiple_of(PAGE_SIZE);
        if end > mapped_end {
            let mut request =
                MapRequest::anonymous(mapped_end, end - mapped_end, prot, MapFlags::FIXED);
            request.name = VmaName::None;
            mm.mmap(request)?;
        }
    }
    Ok(())
}
