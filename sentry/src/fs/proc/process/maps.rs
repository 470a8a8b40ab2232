//! `maps`, `smaps`, `smaps_rollup`, `numa_maps`: the memory map.

use super::{Subject, query};
use crate::errno::{Errno, Result};
use crate::fs::pseudo::{Rights, Text};
use crate::kernel::Task;
use crate::kernel::mempolicy::MemPolicy;
use crate::mm::VmaFlags;
use crate::mm::stats::MapsEntry;
use crate::mm::{MemoryManager, UserAddr};
use platform::Prot;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn mappings(subject: &Subject) -> Option<(Arc<MemoryManager>, Vec<MapsEntry>)> {
    let mm = subject.mm()?;
    let list = mm.maps();
    Some((mm, list))
}

/// What the area is called; nothing, if it has no name.
pub(super) fn name(subject: &Subject, m: &MapsEntry) -> Result<Vec<u8>> {
    Ok(match &m.file {
        Some(file) => super::fd::name_of(subject, file)?,
        None if m.shared_anonymous => b"/dev/zero (deleted)".to_vec(),
        None => m.name.text().as_bytes().to_vec(),
    })
}

/// The line of `maps`.
fn line(subject: &Subject, m: &MapsEntry, out: &mut Vec<u8>) -> Result<()> {
    let flag = |right: Prot, c: char| if m.prot.contains(right) { c } else { '-' };
    let attr = m.file.as_ref().and_then(|file| file.attr().ok());
    let (dev, ino) = attr.map_or((0, 0), |attr| (attr.dev, attr.ino));
    let mut text = format!(
        "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {ino} ",
        m.start,
        m.end,
        flag(Prot::READ, 'r'),
        flag(Prot::WRITE, 'w'),
        flag(Prot::EXEC, 'x'),
        if m.shared { 's' } else { 'p' },
        m.offset,
        libc::major(dev),
        libc::minor(dev),
    );
    let name = name(subject, m)?;
    if !name.is_empty() {
        // Linux starts the name in column 74; without a name the space after the inode is still there.
        text = format!("{text:<73}");
    }
    out.extend_from_slice(text.as_bytes());
    // A line end in a name would break the line.
    out.extend(name.iter().flat_map(|&b| match b {
        b'\n' => b"\\012".to_vec(),
        b => vec![b],
    }));
    out.push(b'\n');
    Ok(())
}

/// `maps`, which also answers questions about single areas (`PROCMAP_QUERY`).
pub struct Maps(pub Subject);

impl Text for Maps {
    fn read(&self) -> Result<Vec<u8>> {
        maps(&self.0)
    }

    fn rights(&self) -> Rights {
        self.0.owned(0o444)
    }

    fn may_open(&self) -> Result<()> {
        self.0.may_inspect()
    }

    fn ioctl(&self, task: &Task, cmd: u32, arg: u64) -> Result<u64> {
        match cmd {
            query::PROCMAP_QUERY => query::answer(&self.0, task, UserAddr(arg)).map(|()| 0),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn takes_writes_at(&self, _writable: bool) -> bool {
        false
    }
}

fn maps(subject: &Subject) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for m in mappings(subject).map(|(_, list)| list).unwrap_or_default() {
        line(subject, &m, &mut out)?;
    }
    Ok(out)
}

/// Memory of one mapping, or of several.
#[derive(Default, Clone, Copy)]
struct Sizes {
    size: u64,
    anonymous: u64,
    file: u64,
    shared: u64,
    locked: u64,
}

impl Sizes {
    fn resident(&self) -> u64 {
        self.anonymous + self.file + self.shared
    }
}

fn sizes(mm: &MemoryManager, m: &MapsEntry) -> Sizes {
    let usage = mm.usage(m.start, m.end);
    Sizes {
        size: m.end - m.start,
        anonymous: usage.anonymous,
        file: usage.file,
        shared: usage.shared,
        locked: if m.flags.contains(VmaFlags::LOCKED) { usage.total() } else { 0 },
    }
}

fn write_sizes(s: &Sizes, rollup: bool, out: &mut String) {
    let mut row = |name: &str, bytes: u64| {
        let _ = writeln!(out, "{:<16}{:>8} kB", format!("{name}:"), bytes / 1024);
    };
    if !rollup {
        row("Size", s.size);
        row("KernelPageSize", 4096);
        row("MMUPageSize", 4096);
    }
    let rss = s.resident();
    row("Rss", rss);
    row("Pss", rss);
    row("Shared_Clean", s.file);
    row("Shared_Dirty", s.shared);
    row("Private_Clean", 0);
    row("Private_Dirty", s.anonymous);
    row("Referenced", rss);
    row("Anonymous", s.anonymous);
    for zero in [
        "LazyFree",
        "AnonHugePages",
        "ShmemPmdMapped",
        "FilePmdMapped",
        "Shared_Hugetlb",
        "Private_Hugetlb",
        "Swap",
        "SwapPss",
    ] {
        row(zero, 0);
    }
    row("Locked", s.locked);
}

/// `smaps`
pub fn smaps(subject: &Subject) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let Some((mm, list)) = mappings(subject) else { return Ok(out) };
    for m in list {
        line(subject, &m, &mut out)?;
        let mut text = String::new();
        write_sizes(&sizes(&mm, &m), false, &mut text);
        let flag = |set: bool, name: &'static str| if set { name } else { "" };
        let flags = [
            flag(m.prot.contains(Prot::READ), "rd "),
            flag(m.prot.contains(Prot::WRITE), "wr "),
            flag(m.prot.contains(Prot::EXEC), "ex "),
            flag(m.shared, "sh "),
            flag(m.max_prot.contains(Prot::READ), "mr "),
            flag(m.max_prot.contains(Prot::WRITE), "mw "),
            flag(m.max_prot.contains(Prot::EXEC), "me "),
            flag(m.flags.contains(VmaFlags::SHARED), "ms "),
            flag(m.flags.contains(VmaFlags::GROWSDOWN), "gd "),
            flag(m.flags.contains(VmaFlags::LOCKED), "lo "),
            flag(m.flags.contains(VmaFlags::DONTFORK), "dc "),
            flag(m.flags.contains(VmaFlags::SPECIAL), "de "),
            flag(m.flags.contains(VmaFlags::NORESERVE), "nr "),
            flag(m.flags.contains(VmaFlags::WIPEONFORK), "wf "),
            flag(m.flags.contains(VmaFlags::DONTDUMP), "dd "),
            flag(m.flags.contains(VmaFlags::SEALED), "sl "),
        ];
        text.push_str("THPeligible:           0\n");
        if mm.has_protection_keys() {
            let _ = writeln!(text, "ProtectionKey:  {:>8}", m.key);
        }
        let _ = writeln!(text, "VmFlags: {}", flags.concat());
        out.extend_from_slice(text.as_bytes());
    }
    Ok(out)
}

/// `smaps_rollup`
pub fn smaps_rollup(subject: &Subject) -> Result<Vec<u8>> {
    let Some((mm, list)) = mappings(subject) else { return Ok(Vec::new()) };
    let mut total = Sizes::default();
    for m in &list {
        let one = sizes(&mm, m);
        total.size += one.size;
        total.anonymous += one.anonymous;
        total.file += one.file;
        total.shared += one.shared;
        total.locked += one.locked;
    }
    let (start, end) = (list.first().map_or(0, |m| m.start), list.last().map_or(0, |m| m.end));
    let mut text = format!("{start:08x}-{end:08x} ---p 00000000 00:00 0 ");
    text = format!("{text:<73}[rollup]\n");
    write_sizes(&total, true, &mut text);
    Ok(text.into_bytes())
}

/// `numa_maps`: all memory is on node 0, under the policy of the task.
pub fn numa_maps(subject: &Subject) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let Some((mm, list)) = mappings(subject) else { return Ok(out) };
    let task = MemPolicy::from_raw(subject.task()?.mempolicy.load(Ordering::Relaxed));
    for m in list {
        let policy = if m.policy == MemPolicy::default() { task } else { m.policy }.text();
        out.extend_from_slice(format!("{:08x} {policy}", m.start).as_bytes());
        match (&m.file, name(subject, &m)?) {
            (Some(_), path) => {
                out.extend_from_slice(b" file=");
                // As Linux escapes what would end the field.
                out.extend(path.iter().flat_map(|&b| match b {
                    b'\n' | b'\t' | b' ' | b'=' | b'\\' => format!("\\{b:03o}").into_bytes(),
                    b => vec![b],
                }));
            }
            (None, name) if name == b"[heap]" => out.extend_from_slice(b" heap"),
            (None, name) if name == b"[stack]" => out.extend_from_slice(b" stack"),
            _ => {}
        }
        let sizes = sizes(&mm, &m);
        let pages = sizes.resident() / 4096;
        let mut text = String::new();
        if pages > 0 {
            let anonymous = sizes.anonymous / 4096;
            if anonymous > 0 {
                let _ = write!(text, " anon={anonymous}");
            }
            let dirty = anonymous + sizes.shared / 4096;
            if dirty > 0 {
                let _ = write!(text, " dirty={dirty}");
            }
            if pages != anonymous && pages != dirty {
                let _ = write!(text, " mapped={pages}");
            }
            let _ = write!(text, " N0={pages} kernelpagesize_kB=4");
        }
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }
    Ok(out)
}
