//! Processes and threads as files (`pidfd_open(2)`).

use super::namespace::Namespace;
use super::ptrace::access;
use super::{CurrentTask, Rlimit, Task, ThreadGroup};
use crate::errno::{Errno, Result};
use crate::fs::nsfs;
use crate::fs::pseudo::PseudoInode;
use crate::mm::{PAGE_SIZE, UserAddr};
use crate::vfs::{Attr, File, FileOps, OpenFlags};
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a pidfd does.
pub struct PidFd {
    group: Arc<ThreadGroup>,
    /// With `PIDFD_THREAD`: the thread, and the id that it had.
    thread: Option<(Arc<Task>, i32)>,
}

impl PidFd {
    /// The process.
    pub fn group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }

    /// The thread that it stands for, or the first one of the process. `ESRCH` once that has ended.
    pub fn task(&self) -> Result<Arc<Task>> {
        match &self.thread {
            // A thread that executes a program takes its leader's id.
            Some((task, id)) if !task.has_ended() && task.tid() == *id => Ok(task.clone()),
            Some(_) => Err(Errno::ESRCH),
            None => self.group.any_task().ok_or(Errno::ESRCH),
        }
    }

    /// Id of the process or thread in the root pid namespace.
    fn id(&self) -> i32 {
        self.thread.as_ref().map_or(self.group.tgid(), |(_, id)| *id)
    }

    /// Nothing more will come of it: for a process that is the end of its last thread.
    fn has_ended(&self) -> bool {
        match &self.thread {
            Some((task, _)) => task.has_ended(),
            None => self.group.is_dead(),
        }
    }

    /// Its parent, or whoever else waits for it, has learned of its end.
    fn is_reaped(&self) -> bool {
        if self.thread.is_some() && self.id() != self.group.tgid() {
            return self.has_ended();
        }
        self.group.reaped.load(Ordering::SeqCst)
    }
}

/// Commands (`PIDFS_IOCTL_MAGIC`): namespaces, and `PIDFD_GET_INFO`.
const MAGIC: u32 = 0xff;
const GET_INFO: u32 = 11;
/// `FS_IOC_GETVERSION`
const GET_VERSION: u32 = 0x8008_7601;

type Find = fn(&Task) -> Result<Namespace>;

/// Namespaces by the number of the command that opens them (`PIDFD_GET_*_NAMESPACE`).
const NAMESPACES: [(u32, Find); 10] = [
    (1, |t| Ok(Namespace::Cgroup(t.namespaces().cgroup.clone()))),
    (2, |t| Ok(Namespace::Ipc(t.namespaces().ipc.clone()))),
    (3, |t| Ok(Namespace::Mount(t.fs()?.namespace()))),
    (4, |t| Ok(Namespace::Net(t.namespaces().net.clone()))),
    (5, |t| Ok(Namespace::Pid(t.group().pid_ns().clone()))),
    (6, |t| Ok(Namespace::Pid(t.namespaces().pid_for_children.clone()))),
    (7, |t| Ok(Namespace::Time(t.namespaces().time.clone()))),
    (8, |t| Ok(Namespace::Time(t.namespaces().time_for_children.clone()))),
    (9, |t| Ok(Namespace::User(t.creds().user_ns.clone()))),
    (10, |t| Ok(Namespace::Uts(t.namespaces().uts.clone()))),
];

const INFO_PID: u64 = 1;
const INFO_CREDS: u64 = 2;
const INFO_CGROUPID: u64 = 4;
const INFO_EXIT: u64 = 8;

/// `struct pidfd_info`, as it was first; later versions are longer.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Info {
    mask: u64,
    cgroup_id: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

impl PidFd {
    /// `PIDFD_GET_INFO`. `ESRCH` for a process that the caller cannot see, or of which only the end is known
    /// while that was not asked for.
    fn info(&self, t: &Task, at: UserAddr, size: u64) -> Result<()> {
        let own = size_of::<Info>() as u64;
        if at.is_null() || size < own {
            return Err(Errno::EINVAL);
        }
        let mm = t.mm()?;
        let wanted: u64 = mm.read_obj(at)?;
        if !t.group().pid_ns().contains(self.group.pid_ns()) {
            return Err(Errno::ESRCH);
        }
        let mut info = Info::default();
        if self.is_reaped() {
            if wanted & INFO_EXIT == 0 {
                return Err(Errno::ESRCH);
            }
            info.mask = INFO_EXIT | INFO_CGROUPID;
            info.cgroup_id = self.group.cgroup().id();
            info.exit_code = match &self.thread {
                Some((task, id)) if *id != self.group.tgid() => task.exit_code(),
                _ => self.group.exit_code(),
            };
        } else {
            self.describe(t, &mut info);
            if info.pid == 0 || info.tgid == 0 {
                return Err(Errno::ESRCH);
            }
        }
        mm.write(at, info.as_bytes())?;
        // What a later version has besides is not known.
        let zeroes = vec![0; usize::try_from(size - own).unwrap_or(0)];
        mm.write(at.offset(own), &zeroes)
    }

    fn describe(&self, t: &Task, info: &mut Info) {
        let task = match &self.thread {
            Some((task, _)) => Some(task.clone()),
            None => self.group.any_task(),
        };
        // A zombie whose last thread has gone keeps its ids in its tree node alone.
        if let Some(task) = task {
            let creds = task.creds();
            let ns = t.creds().user_ns.clone();
            info.ids = [
                ns.show_uid(creds.uid),
                ns.show_gid(creds.gid),
                ns.show_uid(creds.euid),
                ns.show_gid(creds.egid),
                ns.show_uid(creds.suid),
                ns.show_gid(creds.sgid),
                ns.show_uid(creds.fsuid),
                ns.show_gid(creds.fsgid),
            ];
        } else {
            let uid = t.kernel().tree().nodes.get(&self.group.tgid()).and_then(|n| n.exit);
            let uid = uid.map_or(0, |exit| t.creds().user_ns.show_uid(exit.uid));
            info.ids = [uid, 0, uid, 0, uid, 0, uid, 0];
        }
        info.mask = INFO_PID | INFO_CREDS | INFO_CGROUPID;
        info.cgroup_id = self.group.cgroup().id();
        info.ppid = t.local_id(self.group.ppid()) as u32;
        info.tgid = t.local_id(self.group.tgid()) as u32;
        info.pid = t.local_id(self.id()) as u32;
    }
}

impl FileOps for PidFd {
    fn poll(&self, _file: &File) -> EventMask {
        if !self.has_ended() {
            return EventMask::empty();
        }
        let hung_up = if self.is_reaped() { EventMask::HUP } else { EventMask::empty() };
        EventMask::READABLE | hung_up
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.group.exit_queue)
    }

    fn attr(&self) -> Option<Result<Attr>> {
        Some(Ok(crate::fs::anon::attr()))
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[pidfd]".to_owned())
    }

    fn fdinfo(&self) -> String {
        let reader = crate::kernel::current();
        let local = |id| reader.as_ref().map_or(id, |reader| reader.local_id(id));
        let pid = if self.has_ended() { -1 } else { local(self.id()) };
        format!("Pid:\t{pid}\nNSpid:\t{pid}\n")
    }

    fn ioctl(&self, t: &Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        if cmd == GET_VERSION {
            if arg == 0 {
                return Err(Errno::EINVAL);
            }
            t.mm()?.write_obj(UserAddr(arg), &0_u32)?;
            return Ok(0);
        }
        let (number, magic, size, direction) =
            (cmd & 0xff, cmd >> 8 & 0xff, cmd >> 16 & 0x3fff, cmd >> 30);
        if magic != MAGIC {
            return Err(Errno::ENOTTY);
        }
        if number == GET_INFO && direction == 3 {
            if u64::from(size) > PAGE_SIZE {
                return Err(Errno::E2BIG);
            }
            return self.info(t, UserAddr(arg), size.into()).map(|()| 0);
        }
        let found = NAMESPACES.iter().find(|(n, _)| *n == number && size == 0 && direction == 0);
        let &(_, find) = found.ok_or(Errno::ENOTTY)?;
        let task = self.task()?;
        if arg != 0 {
            return Err(Errno::EINVAL);
        }
        let own = task.tgid() == t.tgid();
        if !own && !access::may_access(&t.creds(), &task, access::Mode::Fs) {
            return Err(Errno::EACCES);
        }
        nsfs::open(t, find(&task).map_err(|_| Errno::ESRCH)?)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A file that stands for a process.
pub fn file(group: &Arc<ThreadGroup>, nonblock: bool) -> Arc<File> {
    open(group, None, nonblock)
}

/// A file that stands for a thread.
pub fn thread_file(task: &Arc<Task>, nonblock: bool) -> Arc<File> {
    open(task.group(), Some((task.clone(), task.tid())), nonblock)
}

fn open(group: &Arc<ThreadGroup>, thread: Option<(Arc<Task>, i32)>, nonblock: bool) -> Arc<File> {
    let mut flags = OpenFlags::RDWR;
    flags.set(OpenFlags::NONBLOCK, nonblock);
    File::new(Arc::new(PidFd { group: group.clone(), thread }), None, flags)
}

/// Installs a pidfd of a new task in the caller's table, close-on-exec.
pub fn install(t: &CurrentTask, task: &Arc<Task>) -> Result<i32> {
    let file = match task.is_leader() {
        true => file(task.group(), false),
        false => thread_file(task, false),
    };
    t.files().insert(file, true, 0, t.limit(Rlimit::Nofile).soft)
}

/// The process behind a pidfd. `EBADF` if it is none, `ESRCH` for one of a thread that does not lead its
/// process.
pub fn group_of(t: &CurrentTask, fd: i32) -> Result<Arc<ThreadGroup>> {
    let file = t.files().get(fd)?;
    let pidfd = file.ops_as::<PidFd>().ok_or(Errno::EBADF)?;
    if pidfd.id() == pidfd.group.tgid() { Ok(pidfd.group.clone()) } else { Err(Errno::ESRCH) }
}

/// The thread behind a pidfd, or the first one of the process. `EBADF` if it is none, `ESRCH` once it has ended.
pub fn task_of(t: &CurrentTask, fd: i32) -> Result<Arc<Task>> {
    let file = t.files().get(fd)?;
    file.ops_as::<PidFd>().ok_or(Errno::EBADF)?.task()
}

/// Whom a signal through a descriptor goes to: the process, and the thread if the descriptor is of one. One of
/// `/proc/PID` is as good as a pidfd.
pub fn to_signal(t: &CurrentTask, fd: i32) -> Result<(Arc<ThreadGroup>, Option<Arc<Task>>)> {
    let file = t.files().get(fd)?;
    if let Some(pidfd) = file.ops_as::<PidFd>() {
        let task = pidfd.thread.is_some().then(|| pidfd.task()).transpose()?;
        return Ok((pidfd.group.clone(), task));
    }
    let inode = file.path().and_then(|path| path.inode().as_any().downcast_ref::<PseudoInode>());
    Ok((inode.and_then(PseudoInode::process).ok_or(Errno::EBADF)?, None))
}
