//! Namespaces (`namespaces(7)`): who sees which ids, names, mounts and clocks.
//!
//! * [`UserNamespace`]: ids and capabilities; every other namespace belongs to one.
//! * [`PidNamespace`], [`UtsNamespace`], [`IpcNamespace`], [`NetNamespace`], [`CgroupNamespace`],
//!   [`TimeNamespace`]; mount namespaces are [`crate::vfs::MountNamespace`].
//! * [`Namespaces`]: those of one task (Linux's `nsproxy`). [`Namespace`]: any one of them, as a file.
//! * [`change`]: `unshare(2)`, `setns(2)` and the flags of `clone(2)`.

mod cgroup;
pub mod change;
mod ipc;
mod net;
pub mod pid;
mod time;
pub mod user;
mod uts;

pub use cgroup::CgroupNamespace;
pub use ipc::IpcNamespace;
pub use net::NetNamespace;
pub use pid::PidNamespace;
pub use time::TimeNamespace;
pub use user::UserNamespace;
pub use uts::{Names, UtsNamespace};

use super::cgroup::Cgroup;
use super::clone::CloneFlags;
use crate::errno::{Errno, Result};
use crate::vfs::MountNamespace;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Most namespaces of one kind in a sandbox (`/proc/sys/user/max_*_namespaces`).
pub const MAX_NAMESPACES: usize = 8192;

static NEXT_ID: AtomicU64 = AtomicU64::new(0xf000_0000);

/// A fresh inode number for a namespace.
pub fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// Kind of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Kind {
    /// Control groups.
    Cgroup,
    /// System V IPC and message queues.
    Ipc,
    /// Mounts.
    Mount,
    /// Network.
    Net,
    /// Process ids.
    Pid,
    /// Clocks.
    Time,
    /// User and group ids, capabilities.
    User,
    /// Host and domain name.
    Uts,
}

impl Kind {
    /// Name in `/proc/PID/ns`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cgroup => "cgroup",
            Kind::Ipc => "ipc",
            Kind::Mount => "mnt",
            Kind::Net => "net",
            Kind::Pid => "pid",
            Kind::Time => "time",
            Kind::User => "user",
            Kind::Uts => "uts",
        }
    }

    /// Its flag for `clone(2)`, `unshare(2)` and `setns(2)`.
    pub fn flag(self) -> CloneFlags {
        match self {
            Kind::Cgroup => CloneFlags::NEWCGROUP,
            Kind::Ipc => CloneFlags::NEWIPC,
            Kind::Mount => CloneFlags::NEWNS,
            Kind::Net => CloneFlags::NEWNET,
            Kind::Pid => CloneFlags::NEWPID,
            Kind::Time => CloneFlags::NEWTIME,
            Kind::User => CloneFlags::NEWUSER,
            Kind::Uts => CloneFlags::NEWUTS,
        }
    }

    /// Inode number of the first namespace of the kind (`PROC_*_INIT_INO`).
    pub fn initial_id(self) -> u64 {
        match self {
            Kind::Cgroup => 0xeffffffb,
            Kind::Ipc => 0xefffffff,
            Kind::Mount => 0xeffffff8,
            Kind::Net => 0xeffffff9,
            Kind::Pid => 0xeffffffc,
            Kind::Time => 0xeffffffa,
            Kind::User => 0xeffffffd,
            Kind::Uts => 0xeffffffe,
        }
    }
}

static COUNTS: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];

/// Counts one namespace of a kind for as long as it lives.
#[derive(Debug)]
pub struct Counted(Kind);

impl Counted {
    /// `ENOSPC` when there are too many of the kind.
    pub fn new(kind: Kind) -> Result<Counted> {
        let count = COUNTS.get(kind as usize).ok_or(Errno::ENOSPC)?;
        let more = |n: usize| (n < MAX_NAMESPACES).then_some(n + 1);
        count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map_err(|_| Errno::ENOSPC)?;
        Ok(Counted(kind))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(count) = COUNTS.get(self.0 as usize) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The namespaces of a task, but for its user namespace (with its credentials) and its mount namespace
/// (with its root and working directory).
#[derive(Clone)]
pub struct Namespaces {
    /// Host name.
    pub uts: Arc<UtsNamespace>,
    /// System V IPC.
    pub ipc: Arc<IpcNamespace>,
    /// Network.
    pub net: Arc<NetNamespace>,
    /// Control groups.
    pub cgroup: Arc<CgroupNamespace>,
    /// Clocks.
    pub time: Arc<TimeNamespace>,
    /// Clocks of children.
    pub time_for_children: Arc<TimeNamespace>,
    /// Process ids of children.
    pub pid_for_children: Arc<PidNamespace>,
}

impl Namespaces {
    /// The first ones.
    pub fn initial(names: Names, cgroup: &Arc<Cgroup>) -> Arc<Namespaces> {
        let user = UserNamespace::root();
        let time = TimeNamespace::initial(&user);
        Arc::new(Namespaces {
            uts: UtsNamespace::initial(&user, names),
            ipc: IpcNamespace::initial(&user),
            net: NetNamespace::initial(&user),
            cgroup: CgroupNamespace::initial(&user, cgroup),
            time_for_children: time.clone(),
            time,
            pid_for_children: PidNamespace::initial(&user),
        })
    }
}

/// Any namespace, as a file under `/proc/PID/ns` stands for it.
#[derive(Clone)]
pub enum Namespace {
    /// Control groups.
    Cgroup(Arc<CgroupNamespace>),
    /// System V IPC.
    Ipc(Arc<IpcNamespace>),
    /// Mounts.
    Mount(Arc<MountNamespace>),
    /// Network.
    Net(Arc<NetNamespace>),
    /// Process ids.
    Pid(Arc<PidNamespace>),
    /// Clocks.
    Time(Arc<TimeNamespace>),
    /// User and group ids.
    User(Arc<UserNamespace>),
    /// Host name.
    Uts(Arc<UtsNamespace>),
}

impl Namespace {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Namespace::Cgroup(_) => Kind::Cgroup,
            Namespace::Ipc(_) => Kind::Ipc,
            Namespace::Mount(_) => Kind::Mount,
            Namespace::Net(_) => Kind::Net,
            Namespace::Pid(_) => Kind::Pid,
            Namespace::Time(_) => Kind::Time,
            Namespace::User(_) => Kind::User,
            Namespace::Uts(_) => Kind::Uts,
        }
    }

    /// Its inode number.
    pub fn id(&self) -> u64 {
        match self {
            Namespace::Cgroup(ns) => ns.id(),
            Namespace::Ipc(ns) => ns.id(),
            Namespace::Mount(ns) => ns.id(),
            Namespace::Net(ns) => ns.id(),
            Namespace::Pid(ns) => ns.id(),
            Namespace::Time(ns) => ns.id(),
            Namespace::User(ns) => ns.id(),
            Namespace::Uts(ns) => ns.id(),
        }
    }

    /// The user namespace it belongs to; of a user namespace its parent.
    pub fn owner(&self) -> Option<Arc<UserNamespace>> {
        match self {
            Namespace::Cgroup(ns) => Some(ns.user_ns().clone()),
            Namespace::Ipc(ns) => Some(ns.user_ns().clone()),
            Namespace::Mount(ns) => Some(ns.user_ns().clone()),
            Namespace::Net(ns) => Some(ns.user_ns().clone()),
            Namespace::Pid(ns) => Some(ns.user_ns().clone()),
            Namespace::Time(ns) => Some(ns.user_ns().clone()),
            Namespace::User(ns) => ns.parent().cloned(),
            Namespace::Uts(ns) => Some(ns.user_ns().clone()),
        }
    }

    /// As links to it read: `uts:[4026531838]`.
    pub fn text(&self) -> String {
        format!("{}:[{}]", self.kind().name(), self.id())
    }
}
