//! Boot: from a container's description to its first task, and to its exit status.
//!
//! The CLI translates an OCI bundle or the flags of `runsc do` into a [`ContainerSpec`], forks the
//! sentry and calls [`run`] there.

pub mod config;
pub mod control;
mod mounts;
mod process;
mod run;
pub mod spec;
mod stdio;

pub use config::{BootError, Config, ExitStatus, PlatformKind};
pub use control::ControlMessage;
pub use run::run;
pub use spec::{
    CapabilitySets, ContainerSpec, Ids, MountKind, MountSpec, ProcessSpec, RlimitSpec, RootSpec,
};
