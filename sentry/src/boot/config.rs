//! What the sentry process is handed by the CLI, and what it gives back.

use super::ContainerSpec;
use std::os::fd::OwnedFd;

/// How guest code is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformKind {
    /// `PTRACE_SYSEMU`.
    Ptrace,
    /// Seccomp notifications.
    Systrap,
}

/// Everything that a sentry starts from. Its process has given up its privileges already.
#[derive(Debug)]
pub struct Config {
    /// The container.
    pub spec: ContainerSpec,
    /// How guest code is run.
    pub platform: PlatformKind,
    /// Connections to the gofer.
    pub channels: Vec<OwnedFd>,
    /// Carries [`super::ControlMessage`]s.
    pub control: OwnedFd,
    /// Standard streams of the container's first process, or the two sides of its console.
    pub stdio: [Option<OwnedFd>; 3],
    /// Where the debug log goes.
    pub log: Option<OwnedFd>,
    /// Write a line for each system call to the log.
    pub strace: bool,
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
    /// The working directory could not be entered.
    #[error("cannot enter the working directory {0}: {1}")]
    Cwd(String, crate::Errno),
    /// No such user or group.
    #[error("{0}")]
    User(String),
    /// The program could not be executed; the shell's convention for the exit status applies.
    #[error("cannot execute {program:?}: {reason}")]
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
