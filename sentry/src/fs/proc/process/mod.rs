//! `/proc/PID` and `/proc/PID/task/TID`.

mod counters;
mod fd;
mod links;
mod maps;
mod mem;
pub(crate) mod mounts;
mod namespaces;
mod net;
mod pagemap;
mod query;
pub(crate) mod reopen;
mod stat;
mod status;
mod tasks;
mod texts;

use crate::errno::{Errno, Result};
use crate::fs::pseudo::{Directory, Listed, Node, Rights, Text};
use crate::kernel::namespace::PidNamespace;
use crate::kernel::namespace::user::MapKind;
use crate::kernel::ptrace::access;
use crate::kernel::{Kernel, Task, ThreadGroup};
use crate::mm::MemoryManager;
use crate::wait::Changes;
use std::sync::{Arc, Weak};

/// The process or thread that a file is about.
#[derive(Clone)]
pub struct Subject {
    kernel: Weak<Kernel>,
    /// Whose numbers are shown.
    pids: Arc<PidNamespace>,
    group: Arc<ThreadGroup>,
    /// The thread, below `task/`.
    task: Option<Arc<Task>>,
}

impl Subject {
    fn kernel(&self) -> Result<Arc<Kernel>> {
        self.kernel.upgrade().ok_or(Errno::ESRCH)
    }

    /// The thread, or one that stands for the process. `ESRCH` for a zombie.
    fn task(&self) -> Result<Arc<Task>> {
        match &self.task {
            Some(task) => Ok(task.clone()),
            None => self.group.any_task().ok_or(Errno::ESRCH),
        }
    }

    /// Its memory; `None` for a zombie.
    fn mm(&self) -> Option<Arc<MemoryManager>> {
        self.task().ok()?.mm().ok()
    }

    /// Its directories; `ENOENT` for a zombie.
    fn fs(&self) -> Result<Arc<crate::vfs::FsContext>> {
        self.task().and_then(|task| task.fs()).map_err(|_| Errno::ENOENT)
    }

    /// The id that the directory is named after.
    fn id(&self) -> i32 {
        self.pids.local(self.task.as_ref().map_or(self.group.tgid(), |task| task.tid()))
    }

    /// User and group of the files of a process that may be inspected, as a reader sees them.
    fn show_uid(&self, uid: u32) -> u32 {
        crate::kernel::current().map_or(uid, |reader| reader.creds().user_ns.show_uid(uid))
    }

    /// As [`Subject::show_uid`], of a group.
    fn show_gid(&self, gid: u32) -> u32 {
        crate::kernel::current().map_or(gid, |reader| reader.creds().user_ns.show_gid(gid))
    }

    /// Its files belong to the effective user, unless it may not be inspected.
    fn owned(&self, mode: u32) -> Rights {
        match self.task() {
            Ok(task) if self.group.is_dumpable() => {
                let creds = task.creds();
                Rights { mode, uid: creds.euid, gid: creds.egid }
            }
            _ => Rights::root(mode),
        }
    }

    /// The check for files that show memory or files of a process (`PTRACE_MODE_READ`): same user,
    /// or `CAP_SYS_PTRACE`.
    fn may_inspect(&self) -> Result<()> {
        let Some(reader) = crate::kernel::current() else { return Ok(()) };
        if reader.tgid() == self.group.tgid() {
            return Ok(());
        }
        // Nothing is left of a zombie that anybody could look at.
        let Ok(task) = self.task() else { return Ok(()) };
        let may = access::may_access(&reader.creds(), &task, access::Mode::Fs);
        if may { Ok(()) } else { Err(Errno::EACCES) }
    }
}

/// One file of the directory.
#[derive(Clone, Copy)]
struct Entry {
    name: &'static str,
    /// How it is made.
    node: fn(&Subject) -> Node,
    /// Not in `task/TID`.
    process_only: bool,
}

const fn entry(name: &'static str, node: fn(&Subject) -> Node) -> Entry {
    Entry { name, node, process_only: false }
}

const fn process_entry(name: &'static str, node: fn(&Subject) -> Node) -> Entry {
    Entry { name, node, process_only: true }
}

const ENTRIES: &[Entry] = &[
    process_entry("task", tasks::directory),
    entry("fd", fd::links),
    entry("fdinfo", fd::infos),
    entry("ns", namespaces::directory),
    entry("net", net::directory_of),
    entry("attr", texts::attr),
    entry("auxv", |s| raw_file(s, 0o400, texts::auxv)),
    entry("cgroup", |s| file(s, 0o444, texts::cgroup)),
    entry("children", |s| file(s, 0o444, texts::children)),
    entry("cmdline", |s| raw_file(s, 0o444, texts::cmdline)),
    entry("comm", |s| Node::Text(Arc::new(texts::Comm(s.clone())))),
    process_entry("coredump_filter", |s| Node::Text(Arc::new(texts::CoredumpFilter(s.clone())))),
    entry("cpuset", |s| file(s, 0o444, texts::cpuset)),
    entry("cwd", links::cwd),
    entry("environ", |s| {
        made(s, 0o400, texts::environ, |made| {
            (made.inspected, made.sequence) = (true, false);
        })
    }),
    entry("exe", links::exe),
    entry("gid_map", |s| namespaces::id_map(s, MapKind::Group)),
    entry("io", |s| inspected(s, 0o400, texts::io)),
    entry("limits", |s| file(s, 0o444, texts::limits)),
    entry("loginuid", |s| raw_file(s, 0o644, |_| Ok(b"4294967295".to_vec()))),
    entry("maps", |s| Node::Text(Arc::new(maps::Maps(s.clone())))),
    entry("mem", |s| Node::Text(Arc::new(mem::Mem(s.clone())))),
    entry("mountinfo", |s| mount_file(s, 0o444, mounts::mountinfo)),
    entry("mounts", |s| mount_file(s, 0o444, mounts::mounts)),
    process_entry("mountstats", |s| file(s, 0o400, mounts::mountstats)),
    entry("numa_maps", |s| inspected(s, 0o444, maps::numa_maps)),
    entry("oom_adj", |s| {
        Node::Text(Arc::new(texts::OomScoreAdj { subject: s.clone(), old: true }))
    }),
    entry("oom_score", |s| file(s, 0o444, texts::oom_score)),
    entry("oom_score_adj", |s| {
        Node::Text(Arc::new(texts::OomScoreAdj { subject: s.clone(), old: false }))
    }),
    entry("pagemap", |s| Node::Text(Arc::new(pagemap::Pagemap(s.clone())))),
    entry("personality", |s| inspected(s, 0o400, texts::personality)),
    entry("root", links::root),
    entry("schedstat", |s| file(s, 0o444, stat::schedstat)),
    entry("sessionid", |s| raw_file(s, 0o444, |_| Ok(b"4294967295".to_vec()))),
    entry("setgroups", namespaces::setgroups),
    entry("smaps", |s| inspected(s, 0o444, maps::smaps)),
    process_entry("smaps_rollup", |s| inspected(s, 0o444, maps::smaps_rollup)),
    entry("stat", |s| file(s, 0o444, stat::stat)),
    entry("statm", |s| file(s, 0o444, stat::statm)),
    entry("status", |s| file(s, 0o444, status::status)),
    entry("syscall", |s| inspected(s, 0o400, texts::syscall)),
    process_entry("timerslack_ns", |s| file(s, 0o666, texts::timer_slack)),
    entry("uid_map", |s| namespaces::id_map(s, MapKind::User)),
    process_entry("timens_offsets", namespaces::timens_offsets),
    entry("wchan", |s| file(s, 0o444, texts::wchan)),
];

/// `/proc/PID` or `/proc/PID/task/TID`.
pub struct ProcessDir {
    subject: Subject,
}

impl ProcessDir {
    /// `/proc/PID`.
    pub fn of_process(
        kernel: &Arc<Kernel>,
        pids: &Arc<PidNamespace>,
        group: Arc<ThreadGroup>,
    ) -> Self {
        let (kernel, pids) = (Arc::downgrade(kernel), pids.clone());
        Self { subject: Subject { kernel, pids, group, task: None } }
    }

    fn of_task(process: &Subject, task: Arc<Task>) -> Self {
        Self { subject: Subject { task: Some(task), ..process.clone() } }
    }

    fn entries(&self) -> impl Iterator<Item = &'static Entry> {
        let thread = self.subject.task.is_some();
        // `children` exists for threads only.
        ENTRIES.iter().filter(move |e| if thread { !e.process_only } else { e.name != "children" })
    }
}

impl Directory for ProcessDir {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let found = self.entries().find(|e| e.name.as_bytes() == name);
        found.map(|e| (e.node)(&self.subject)).ok_or(Errno::ENOENT)
    }

    fn process(&self) -> Option<Arc<ThreadGroup>> {
        self.subject.task.is_none().then(|| self.subject.group.clone())
    }

    fn list(&self) -> Result<Vec<Listed>> {
        let listed = |e: &Entry| Listed::new(e.name, (e.node)(&self.subject).file_type());
        Ok(self.entries().map(listed).collect())
    }

    fn rights(&self) -> Rights {
        self.subject.owned(0o555)
    }
}

/// A file whose text comes from a function of the subject.
struct Made {
    subject: Subject,
    mode: u32,
    inspected: bool,
    /// It shows mounts.
    mounts: bool,
    /// It is made as a whole (`seq_file`).
    sequence: bool,
    make: fn(&Subject) -> Result<Vec<u8>>,
}

impl Text for Made {
    fn read(&self) -> Result<Vec<u8>> {
        (self.make)(&self.subject)
    }

    fn rights(&self) -> Rights {
        self.subject.owned(self.mode)
    }

    fn takes_writes_at(&self, _writable: bool) -> bool {
        !self.sequence
    }

    fn changes(&self) -> Option<Arc<Changes>> {
        let fs = self.mounts.then(|| self.subject.task().ok()?.fs().ok())??;
        Some(fs.namespace().changes().clone())
    }

    fn may_open(&self) -> Result<()> {
        if self.inspected { self.subject.may_inspect() } else { Ok(()) }
    }
}

/// A file that everyone may read whom its permission bits let.
fn file(subject: &Subject, mode: u32, make: fn(&Subject) -> Result<Vec<u8>>) -> Node {
    made(subject, mode, make, |_| {})
}

/// As [`file`], one that Linux reads from what it shows, and does not make as a whole.
fn raw_file(subject: &Subject, mode: u32, make: fn(&Subject) -> Result<Vec<u8>>) -> Node {
    made(subject, mode, make, |made| made.sequence = false)
}

/// As [`file`], one that shows mounts.
fn mount_file(subject: &Subject, mode: u32, make: fn(&Subject) -> Result<Vec<u8>>) -> Node {
    made(subject, mode, make, |made| made.mounts = true)
}

/// A file for those who may inspect the process.
fn inspected(subject: &Subject, mode: u32, make: fn(&Subject) -> Result<Vec<u8>>) -> Node {
    made(subject, mode, make, |made| made.inspected = true)
}

fn made(
    subject: &Subject,
    mode: u32,
    make: fn(&Subject) -> Result<Vec<u8>>,
    change: fn(&mut Made),
) -> Node {
    let (inspected, mounts, sequence) = (false, false, true);
    let mut made = Made { subject: subject.clone(), mode, inspected, mounts, sequence, make };
    change(&mut made);
    Node::Text(Arc::new(made))
}
