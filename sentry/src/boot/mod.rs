//! Boot: from a container's description to its first task, and to its exit status.
//!
//! The CLI translates an OCI bundle or the flags of `runsc do` into a [`ContainerSpec`], forks the
//! sentry and calls [`run`] there.

pub mod config;
mod container;
mod forward;
mod hooks;
pub mod log;
mod loopback;
mod mounts;
mod network;
mod paths;
mod pod;
mod process;
pub mod protocol;
mod run;
mod server;
pub mod spec;
mod stdio;

pub use crate::kernel::trace::EventKinds;
pub use crate::socket::inet::host::{HostInterface, HostNetwork};
pub use crate::socket::inet::uplink::{
    EgressSpec, InterfaceSpec, LoopbackSpec, Network, NetworkSpec, RouteSpec, UserNetwork,
};
pub use config::{BootError, Config, ExitStatus, HostSeccomp, PlatformKind};
pub use log::{LogFormat, LogLevel};
pub use network::NetworkMessage;
pub use run::run;
pub use spec::{
    CapabilitySets, ClocksSpec, ContainerSpec, DeviceSpec, FilterInstruction, HookSpec, HooksSpec,
    Ids, LimitSpec, MemPolicySpec, MountKind, MountSpec, ProcessSpec, RlimitSpec, RootSpec,
    SchedulerSpec,
};
