//! What the sentry process is handed by the CLI, and what it gives back.

use super::EventKinds;
use super::Network;
use super::log::LogFormat;
use super::protocol::Connection;
use super::{ContainerSpec, EgressSpec};
pub use platform::host::seccomp::Mode as HostSeccomp;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tracing::level_filters::LevelFilter;

/// How guest code is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformKind {
    /// The first of kvm, systrap and ptrace that works on this host, and for kvm, fast.
    Auto,
    /// `PTRACE_SYSEMU`.
    Ptrace,
    /// Seccomp notifications.
    Systrap,
    /// A virtual machine.
    Kvm,
}

/// Everything that a sentry starts from. Its process has given up its privileges already.
#[derive(Debug)]
pub struct Config {
    /// The container.
    pub spec: ContainerSpec,
    /// How guest code is run.
    pub platform: PlatformKind,
    /// An open `/dev/kvm`, where there is one.
    pub kvm: Option<OwnedFd>,
    /// Systrap patches call sites that are used often.
    pub patching: bool,
    /// What becomes of host calls that the sentry should not make.
    pub host_seccomp: HostSeccomp,
    /// Connections to the gofer.
    pub channels: Vec<OwnedFd>,
    /// The first connection of the control protocol ([`super::protocol`]). The sandbox ends with it unless
    /// it says otherwise.
    pub control: Arc<Connection>,
    /// Where others connect: a listening socket that only the sandbox's owner can reach.
    pub listener: Option<OwnedFd>,
    /// Run the first process without waiting to be told.
    pub start: bool,
    /// Files of the container's first process by their numbers in it; or, with a terminal, 0 and 1: the two
    /// sides of its console.
    pub files: Vec<(i32, OwnedFd)>,
    /// The console is the controlling terminal of the sentry: the host tells of a new size by a signal.
    pub console_signals: bool,
    /// The way to other machines; without one there is a loopback interface and nothing else.
    pub network: Option<Network>,
    /// The network comes before the first process is started, by [`super::protocol::Request::Network`].
    pub network_later: bool,
    /// The policy for a network that comes later.
    pub egress: Option<EgressSpec>,
    /// An empty file, open for appending, that gets the packets of its interfaces.
    pub pcap: Option<OwnedFd>,
    /// Where the debug log goes.
    pub log: Option<OwnedFd>,
    /// How its lines look.
    pub log_format: LogFormat,
    /// From what level on the sentry says something.
    pub log_level: LevelFilter,
    /// A file that gets the exit status for the shell, for those who ask when the sandbox has gone.
    pub exit: Option<OwnedFd>,
    /// A file that gets the report if the sentry itself has a bug, besides standard error.
    pub panic_log: Option<OwnedFd>,
    /// A file that gets events of these kinds.
    pub trace: Option<(OwnedFd, EventKinds)>,
    /// Write a line for each system call to the log.
    pub strace: bool,
    /// For these only, by name, unless there are none.
    pub strace_calls: Vec<String>,
    /// An empty file for guest memory, see [`platform::MemoryFile::in_tmpfs`].
    pub memory: Option<OwnedFd>,
    /// Memory that programs are told of, in bytes.
    pub memory_total: u64,
}

/// How the container's first process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called `exit(2)` with this status.
    Exited(u8),
    /// This signal killed it.
    Signaled(u8),
}

impl ExitStatus {
    /// The status by which a shell would report it.
    pub fn for_shell(self) -> i32 {
        match self {
            ExitStatus::Exited(code) => i32::from(code),
            ExitStatus::Signaled(signal) => 128 + i32::from(signal),
        }
    }
}

/// Why a container could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The host does not let us run guest code.
    #[error("platform {0}: {1}")]
    Platform(&'static str, platform::PlatformError),
    /// The connection to the gofer failed.
    #[error("no connection to the gofer: {0}")]
    Gofer(gofer::ClientError),
    /// A host call failed.
    #[error("{what}: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: platform::PlatformError,
    },
    /// The kernel's own objects could not be made.
    #[error("cannot start the kernel: {0}")]
    Kernel(crate::Errno),
    /// The network could not be taken over, or reached through its proxy.
    #[error("cannot set up the network: {0}")]
    Network(crate::Errno),
    /// The clocks of its time namespace cannot show that.
    #[error("cannot shift the clocks (\"linux.timeOffsets\"): {0}")]
    Clocks(crate::Errno),
    /// A mount could not be made.
    #[error("cannot mount {what} at {destination}: {errno}")]
    Mount {
        /// What was to be mounted.
        what: String,
        /// Where.
        destination: String,
        /// Why it failed.
        errno: crate::Errno,
    },
    /// A kernel setting cannot be changed.
    #[error(
        "sysctl {name}={value:?}: this kernel has no such setting that could be changed: {errno}"
    )]
    Sysctl {
        /// The setting, with dots.
        name: String,
        /// What it should have become.
        value: String,
        /// Why it failed.
        errno: crate::Errno,
    },
    /// Each container of a sandbox has a name of its own.
    #[error("container {0:?} exists: container with given ID already exists in the sandbox")]
    Exists(String),
    /// It was to share something of a container that is not in the sandbox.
    #[error("there is no container {0:?} in the sandbox whose process ids could be shared")]
    NoContainer(String),
    /// There is no second start.
    #[error("cannot start a container that is not created: it was started before")]
    Started,
    /// Processes join the first one, never come before it.
    #[error("cannot exec in a container that is not running: it has not been started")]
    NotStarted,
    /// The working directory could not be entered.
    #[error("cannot enter the working directory {0}: {1}")]
    Cwd(String, crate::Errno),
    /// A hook could not be run, or failed.
    #[error("startContainer hook {path} failed: {reason}")]
    Hook {
        /// Its program.
        path: String,
        /// Why.
        reason: String,
    },
    /// The filter of system calls cannot be used.
    #[error("the seccomp profile makes a filter that is not valid or too long: {0}")]
    Seccomp(crate::Errno),
    /// No such user or group.
    #[error("{0}")]
    User(String),
    /// The program could not be executed; the shell's convention for the exit status applies.
    #[error("exec: {program:?}: {reason}")]
    Exec {
        /// The program.
        program: String,
        /// Why, in words.
        reason: String,
        /// Exit status: 127 when it does not exist, else 126.
        status: u8,
    },
}

impl BootError {
    /// The exit status for this failure.
    pub fn exit_status(&self) -> u8 {
        match self {
            BootError::Exec { status, .. } => *status,
            _ => 128,
        }
    }
}
