//! What a container is to be: plain data, independent of OCI's JSON and of the command line.

use serde::{Deserialize, Serialize};

/// A container: its root, mounts, names and first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Name of the container, for messages.
    pub id: String,
    /// What `/` is.
    pub root: RootSpec,
    /// Further mounts, in the order they are made.
    pub mounts: Vec<MountSpec>,
    /// `uname(2)`'s nodename.
    pub hostname: String,
    /// `uname(2)`'s domainname.
    pub domainname: Option<String>,
    /// Device nodes beyond the default ones.
    pub devices: Vec<DeviceSpec>,
    /// Files and directories of `/proc/sys`, relative to it, and what is written to them.
    pub sysctl: Vec<(String, String)>,
    /// Paths that look empty.
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written to.
    pub read_only_paths: Vec<String>,
    /// What it may use.
    pub limits: LimitSpec,
    /// It has a time namespace of its own, with these offsets.
    pub clocks: Option<ClocksSpec>,
    /// The maps of users and groups that its user namespace would have on the host, as `/proc/PID/uid_map` shows
    /// them: first id inside, first outside, count. Empty: everybody is himself.
    pub id_maps: [Vec<(u32, u32, u32)>; 2],
    /// Programs with set-user-ID and set-group-ID bits get that user's and group's rights.
    pub allow_suid: bool,
    /// As in a pid namespace on Linux, signals from inside that the first process has no handler for do nothing to it.
    pub init_immune: bool,
    /// The filter of system calls that every process from outside starts with (`seccomp(2)`); empty: none.
    pub seccomp: Vec<FilterInstruction>,
    /// In a sandbox that it joins: the container whose process ids it shares.
    pub pids_of: Option<String>,
    /// Programs that are run in the container before the first process, one after the other.
    pub hooks: HooksSpec,
    /// The first process.
    pub process: ProcessSpec,
}

/// The hooks of the point `startContainer` (OCI runtime specification, POSIX-platform hooks).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HooksSpec {
    /// What is run.
    pub list: Vec<HookSpec>,
    /// What each reads on its standard input: the container's state, as JSON.
    pub state: Vec<u8>,
}

/// A hook.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HookSpec {
    /// The program, absolute.
    pub path: Vec<u8>,
    /// Its arguments, its name first.
    pub args: Vec<Vec<u8>>,
    /// Its environment, `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// Seconds after which it is killed.
    pub timeout: Option<u64>,
}

/// An instruction of a filter of system calls (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterInstruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if true.
    pub jt: u8,
    /// Instructions to skip if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// What a container may use; `None`: as much as there is, or what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LimitSpec {
    /// Most tasks (processes and threads) at a time; `clone(2)` fails with `EAGAIN` beyond.
    pub tasks: Option<u64>,
    /// Memory that programs are told of, in bytes.
    pub memory: Option<u64>,
    /// CPU time in a period, in microseconds; [`u64::MAX`]: as much as there is.
    pub cpu_quota: Option<u64>,
    /// Length of such a period, in microseconds.
    pub cpu_period: Option<u64>,
}

/// Offsets of the clocks of a time namespace, in nanoseconds (`time_namespaces(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClocksSpec {
    /// Added to `CLOCK_MONOTONIC`.
    pub monotonic: i64,
    /// Added to `CLOCK_BOOTTIME`.
    pub boottime: i64,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Absolute path in the container.
    pub path: String,
    /// Type and permissions (`st_mode`).
    pub mode: u32,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootSpec {
    /// The gofer's export that holds it.
    pub export: u32,
    /// The export is a file with an EROFS image, which is what is mounted.
    pub image: bool,
    /// Mounted read-only for the guest.
    pub read_only: bool,
    /// Writes stay in the sandbox, in an overlay of at most so many bytes; `None`: they go to the
    /// export.
    pub overlay: Option<u64>,
    /// Without an overlay: others change the export meanwhile.
    pub shared: bool,
    /// How it propagates when everything is mounted, as in [`MountSpec::flags`].
    pub propagation: u64,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Absolute path in the container. Made if it does not exist.
    pub destination: String,
    /// What is mounted.
    pub kind: MountKind,
    /// What `/proc/PID/mountinfo` names as its source; `None` for what is usual.
    pub source: Option<String>,
    /// `MS_*` flags of `mount(2)` that apply to the mount itself (`MS_RDONLY`, `MS_NOSUID`,
    /// `MS_NODEV`, `MS_NOEXEC`, `MS_NOSYMFOLLOW`, and those for access times), and one of `MS_SHARED`, `MS_PRIVATE`, `MS_SLAVE`
    /// and `MS_UNBINDABLE` (with `MS_REC` for what is below, too) that it is changed to.
    pub flags: u64,
}

/// What is mounted at a [`MountSpec::destination`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A host directory or file behind the gofer.
    Gofer {
        /// The gofer's export.
        export: u32,
        /// Writes stay in the sandbox, as in [`RootSpec::overlay`].
        overlay: Option<u64>,
    },
    /// `tmpfs`, with its mount options (`size=64m,mode=1777`).
    Tmpfs {
        /// Options in `mount(8)`'s form.
        options: String,
        /// What the image has there can be seen, and is copied when it is changed.
        copy_up: bool,
    },
    /// `proc`.
    Proc,
    /// `sysfs`.
    Sysfs,
    /// The device nodes of `/dev`, on a `tmpfs`.
    Dev {
        /// With `/dev/console`.
        console: bool,
    },
    /// `devpts`, with its mount options.
    Devpts {
        /// Options in `mount(8)`'s form.
        options: String,
    },
    /// `mqueue`.
    Mqueue,
    /// `cgroup2`.
    Cgroup,
}

/// User and group of a process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Capability sets, a bit for each `CAP_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// Bounding set.
    pub bounding: u64,
    /// Effective set.
    pub effective: u64,
    /// Inheritable set.
    pub inheritable: u64,
    /// Permitted set.
    pub permitted: u64,
    /// Ambient set.
    pub ambient: u64,
}

/// A resource limit (`getrlimit(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RlimitSpec {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// How a process is scheduled (`sched_setattr(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerSpec {
    /// `SCHED_*`
    pub policy: u32,
    /// Niceness, -20 to 19.
    pub nice: i32,
    /// Real-time priority, 0 for the others.
    pub priority: u32,
    /// `SCHED_RESET_ON_FORK`
    pub reset_on_fork: bool,
    /// Nanoseconds that `SCHED_DEADLINE` gives in each period: runtime, deadline and period. They can be read
    /// back, and are not kept.
    pub deadline: [u64; 3],
}

/// A NUMA policy (`set_mempolicy(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemPolicySpec {
    /// `MPOL_*`, with `MPOL_F_*`.
    pub mode: i32,
    /// Node 0, the only one there is, is among its nodes.
    pub node0: bool,
}

/// A process to start: the container's first one, or one of `runsc exec`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program and arguments. A program without a slash is looked up in `PATH` of `env`.
    pub args: Vec<Vec<u8>>,
    /// Environment, `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// Working directory, absolute.
    pub cwd: Vec<u8>,
    /// The working directory is made if it does not exist.
    pub make_cwd: bool,
    /// User and groups; `None`: look `user` up in the container's `/etc/passwd`.
    pub ids: Ids,
    /// A name or `name:group` to be looked up in the container's `/etc/passwd` and `/etc/group`, which
    /// then overrides `ids`.
    pub user: Option<String>,
    /// File mode creation mask.
    pub umask: u32,
    /// Capabilities.
    pub capabilities: CapabilitySets,
    /// Limits that differ from the defaults.
    pub rlimits: Vec<RlimitSpec>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// `/proc/PID/oom_score_adj`, as the process sees it.
    pub oom_score_adj: i32,
    /// How it is scheduled, if not as usual.
    pub scheduler: Option<SchedulerSpec>,
    /// `ioprio_set(2)`
    pub io_priority: u32,
    /// CPUs it may run on (`sched_setaffinity(2)`), a bit each, 64 to a word. Empty: all.
    pub affinity: Vec<u64>,
    /// `personality(2)`
    pub personality: u32,
    /// `set_mempolicy(2)`
    pub mempolicy: MemPolicySpec,
    /// Path of its control group; `None` for the root of all.
    pub cgroup: Option<String>,
    /// Its stdin, stdout and stderr are a terminal of the sandbox that is connected to the console
    /// given to [`super::run`].
    pub terminal: bool,
    /// Initial size of that terminal: columns and rows.
    pub terminal_size: (u16, u16),
}
