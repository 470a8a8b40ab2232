//! Starts the sentry: namespaces, an empty root, no privileges; then the kernel.

use super::control::Control;
use super::spawn::{self, Child};
use super::{confine, identity};
use crate::cli::PlatformName;
use sentry::boot::{self, ContainerSpec};
use std::os::fd::OwnedFd;

/// What the sentry is given.
pub struct Setup {
    /// The container.
    pub spec: ContainerSpec,
    /// How guest code is run.
    pub platform: PlatformName,
    /// Connections to the gofer.
    pub channels: Vec<OwnedFd>,
    /// The debug log.
    pub log: Option<OwnedFd>,
    /// Write a line for each system call to the log.
    pub strace: bool,
}

/// Namespaces of the sentry: all there are.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Starts the sentry.
pub fn start(setup: Setup) -> anyhow::Result<(Child, Control)> {
    let (control, theirs) = Control::pair()?;
    let child =
        spawn::spawn(NAMESPACES, identity::write_maps, move || match enter(setup, theirs) {
            Ok(status) => status,
            Err(e) => {
                eprintln!("runsc: {e:#}");
                let boot = e.downcast_ref::<boot::BootError>();
                i32::from(boot.map_or(crate::EXIT_INTERNAL, boot::BootError::exit_status))
            }
        })?;
    Ok((child, control))
}

/// In the new process: gives everything up, then runs the kernel.
fn enter(setup: Setup, control: OwnedFd) -> anyhow::Result<i32> {
    let stdio = [0, 1, 2].map(confine::take_stdio);
    let memory_total = host_memory();
    let Setup { spec, platform, channels, log, strace } = setup;
    let keep = channels.iter().chain(&log).chain([&control]).chain(stdio.iter().flatten());
    confine::close_others(keep)?;
    confine::empty_root()?;
    confine::drop_privileges()?;
    let platform = match platform {
        PlatformName::Auto | PlatformName::Ptrace => boot::PlatformKind::Ptrace,
        PlatformName::Systrap => boot::PlatformKind::Systrap,
    };
    boot::run(boot::Config { spec, platform, channels, control, stdio, log, strace, memory_total })
        .map(|status| status.for_shell())
        .map_err(Into::into)
}

/// Memory of the host in bytes, which is what programs in the sandbox may use of it.
fn host_memory() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}
