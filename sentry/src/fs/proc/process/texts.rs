//! The small files of `/proc/PID`.

use super::Subject;
use crate::errno::{Errno, Result};
use crate::fs::pseudo::{Fixed, Node, Rights, Text, directory, text};
use crate::kernel::Rlimit;
use crate::mm::UserAddr;
use std::fmt::Write;
use std::num::IntErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Longest command line or environment that is shown, in bytes.
const STRINGS_MAX: u64 = 1 << 20;

fn strings(subject: &Subject, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
    let Some(mm) = subject.mm() else { return Ok(Vec::new()) };
    let len = range.end.saturating_sub(range.start).min(STRINGS_MAX);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    // The program may have unmapped them, which leaves nothing to show.
    match mm.read(UserAddr(range.start), &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Ok(Vec::new()),
    }
}

/// `cmdline`
pub fn cmdline(subject: &Subject) -> Result<Vec<u8>> {
    match subject.mm() {
        Some(mm) => strings(subject, mm.exec_info().args.clone()),
        None => Ok(Vec::new()),
    }
}

/// `environ`
pub fn environ(subject: &Subject) -> Result<Vec<u8>> {
    match subject.mm() {
        Some(mm) => strings(subject, mm.exec_info().env.clone()),
        None => Ok(Vec::new()),
    }
}

/// `auxv`
pub fn auxv(subject: &Subject) -> Result<Vec<u8>> {
    subject.may_inspect()?;
    subject.task()?;
    Ok(subject.mm().map(|mm| mm.exec_info().auxv.clone()).unwrap_or_default())
}

/// `cgroup`, as seen from the reader's cgroup namespace.
pub fn cgroup(subject: &Subject) -> Result<Vec<u8>> {
    let reader = crate::kernel::current().ok_or(Errno::ESRCH)?.namespaces();
    let path = subject.group.cgroup().path_from(reader.cgroup.root());
    Ok([b"0::", &*path, b"\n"].concat())
}

/// `cpuset`: the control group alone.
pub fn cpuset(subject: &Subject) -> Result<Vec<u8>> {
    let reader = crate::kernel::current().ok_or(Errno::ESRCH)?.namespaces();
    Ok([&*subject.group.cgroup().path_from(reader.cgroup.root()), b"\n"].concat())
}

/// `children` of a thread: those of the process stand at its first thread.
pub fn children(subject: &Subject) -> Result<Vec<u8>> {
    if subject.task.as_ref().is_some_and(|task| !task.is_leader()) {
        return Ok(Vec::new());
    }
    let kernel = subject.kernel()?;
    let tree = kernel.tree();
    let children = tree.nodes.get(&subject.group.tgid()).map(|node| node.children.clone());
    let children = children.unwrap_or_default();
    let shown = children.iter().map(|id| subject.pids.local(*id)).filter(|id| *id > 0);
    Ok(shown.map(|id| format!("{id} ")).collect::<String>().into())
}

/// `limits`
pub fn limits(subject: &Subject) -> Result<Vec<u8>> {
    use Rlimit as L;
    const NAMES: &[(L, &str, &str)] = &[
        (L::Cpu, "Max cpu time", "seconds"),
        (L::Fsize, "Max file size", "bytes"),
        (L::Data, "Max data size", "bytes"),
        (L::Stack, "Max stack size", "bytes"),
        (L::Core, "Max core file size", "bytes"),
        (L::Rss, "Max resident set", "bytes"),
        (L::Nproc, "Max processes", "processes"),
        (L::Nofile, "Max open files", "files"),
        (L::Memlock, "Max locked memory", "bytes"),
        (L::As, "Max address space", "bytes"),
        (L::Locks, "Max file locks", "locks"),
        (L::Sigpending, "Max pending signals", "signals"),
        (L::Msgqueue, "Max msgqueue size", "bytes"),
        (L::Nice, "Max nice priority", ""),
        (L::Rtprio, "Max realtime priority", ""),
        (L::Rttime, "Max realtime timeout", "us"),
    ];
    let value = |v: u64| if v == u64::MAX { "unlimited".to_string() } else { v.to_string() };
    let mut text =
        format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (which, name, unit) in NAMES {
        let limit = subject.group.limit(*which);
        let _ = write!(text, "{name:<25} {:<20} {:<20} ", value(limit.soft), value(limit.hard));
        let _ = if unit.is_empty() { writeln!(text) } else { writeln!(text, "{unit:<10}") };
    }
    Ok(text.into_bytes())
}

/// `io`. Bytes are not counted yet; what is shown is what is known.
pub fn io(_subject: &Subject) -> Result<Vec<u8>> {
    Ok(b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\n\
         cancelled_write_bytes: 0\n"
        .to_vec())
}

/// `oom_score`
pub fn oom_score(subject: &Subject) -> Result<Vec<u8>> {
    let kernel = subject.kernel()?;
    let total = crate::fs::proc::system::memory::usage(&kernel).0.max(1);
    let rss = subject.mm().map_or(0, |mm| mm.usage(0, u64::MAX).total());
    let adj = i64::from(subject.group.oom_score_adj.load(Ordering::Relaxed));
    let points = i64::try_from(rss.saturating_mul(1000) / total).unwrap_or(1000) + adj;
    Ok(format!("{}\n", (667 + points * 2 / 3).clamp(0, 1334)).into_bytes())
}

/// `personality`
pub fn personality(subject: &Subject) -> Result<Vec<u8>> {
    let personality = subject.task()?.personality.load(Ordering::Relaxed);
    Ok(format!("{personality:08x}\n").into_bytes())
}

/// `syscall`
pub fn syscall(subject: &Subject) -> Result<Vec<u8>> {
    let Ok(task) = subject.task() else { return Ok(b"-1 0x0 0x0\n".to_vec()) };
    let reads_itself = crate::kernel::current().is_some_and(|me| Arc::ptr_eq(&me, &task));
    match task.state() {
        'R' if !reads_itself => Ok(b"running\n".to_vec()),
        'Z' => Ok(b"-1 0x0 0x0\n".to_vec()),
        _ => Ok(task.last_call.line().into_bytes()),
    }
}

/// `timerslack_ns`
pub fn timer_slack(subject: &Subject) -> Result<Vec<u8>> {
    Ok(format!("{}\n", subject.task()?.timer_slack.load(Ordering::Relaxed)).into_bytes())
}

/// `wchan`: the system call in which a thread sleeps.
pub fn wchan(subject: &Subject) -> Result<Vec<u8>> {
    let task = subject.task()?;
    match task.last_call.number().and_then(crate::syscalls::table::lookup) {
        Some(entry) if task.state() == 'S' => Ok(format!("do_{}", entry.name).into_bytes()),
        _ => Ok(b"0".to_vec()),
    }
}

/// `comm`, which the process itself may write.
pub struct Comm(pub Subject);

impl Text for Comm {
    fn read(&self) -> Result<Vec<u8>> {
        // A zombie keeps its name.
        let mut comm = match self.0.task() {
            Ok(task) => task.comm(),
            Err(_) => self.0.group.comm(),
        };
        comm.push(b'\n');
        Ok(comm)
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let task = self.0.task()?;
        if crate::kernel::current().is_none_or(|me| me.tgid() != task.tgid()) {
            return Err(Errno::EINVAL);
        }
        // With the line's end, if there is one, as on Linux.
        task.set_comm(data);
        Ok(())
    }

    fn rights(&self) -> Rights {
        self.0.owned(0o644)
    }

    fn takes_writes_at(&self, _writable: bool) -> bool {
        false
    }
}

/// `coredump_filter`: which areas of memory a core dump has (`core(5)`).
pub struct CoredumpFilter(pub Subject);

impl Text for CoredumpFilter {
    fn read(&self) -> Result<Vec<u8>> {
        if self.0.mm().is_none() {
            return Ok(Vec::new());
        }
        let filter = self.0.group.coredump_filter.load(Ordering::Relaxed);
        Ok(format!("{filter:08x}\n").into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        const KNOWN: u32 = 0x1ff;
        let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?.trim();
        let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None if text.len() > 1 && text.starts_with('0') => (text, 8),
            None => (text, 10),
        };
        let filter = u32::from_str_radix(digits, radix).map_err(|e| match e.kind() {
            IntErrorKind::PosOverflow => Errno::ERANGE,
            _ => Errno::EINVAL,
        })?;
        self.0.mm().ok_or(Errno::ESRCH)?;
        self.0.group.coredump_filter.store(filter & KNOWN, Ordering::Relaxed);
        Ok(())
    }

    fn rights(&self) -> Rights {
        self.0.owned(0o644)
    }
}

/// `oom_score_adj` (-1000 to 1000) and the older `oom_adj` (-17 to 15).
pub struct OomScoreAdj {
    /// Whose.
    pub subject: Subject,
    /// The older scale.
    pub old: bool,
}

impl Text for OomScoreAdj {
    fn read(&self) -> Result<Vec<u8>> {
        let adj = self.subject.group.oom_score_adj.load(Ordering::Relaxed);
        let shown = match (self.old, adj) {
            (true, 1000) => 15,
            (true, adj) => adj * 17 / 1000,
            (false, adj) => adj,
        };
        Ok(format!("{shown}\n").into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?.trim();
        let value: i32 = text.parse().map_err(|_| Errno::EINVAL)?;
        let adj = match (self.old, value) {
            (true, 15) => 1000,
            (true, -17..=14) => value * 1000 / 17,
            (false, -1000..=1000) => value,
            _ => return Err(Errno::EINVAL),
        };
        const CAP_SYS_RESOURCE: u32 = 24;
        let place = &self.subject.group.oom_score_adj;
        let lower = adj < place.load(Ordering::Relaxed);
        let may = crate::kernel::current().is_none_or(|me| me.creds().has(CAP_SYS_RESOURCE));
        if lower && !may {
            return Err(Errno::EACCES);
        }
        place.store(adj, Ordering::Relaxed);
        Ok(())
    }

    fn rights(&self) -> Rights {
        self.subject.owned(0o644)
    }
}

/// `attr/`: no security module.
pub fn attr(_subject: &Subject) -> Node {
    directory(vec![("current", text(Fixed("unconfined\n")))])
}
