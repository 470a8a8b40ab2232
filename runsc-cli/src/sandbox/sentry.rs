//! Starts the sentry: namespaces, an empty root, no privileges; then the kernel.

use super::control::Control;
use super::netns::Joined;
use super::network::Takeover;
use super::spawn::{self, Child};
use super::{confine, identity, network};
use crate::cli::{HostSeccomp, PlatformName};
use crate::log;
use anyhow::{Context, bail};
use nix::unistd::Pid;
use sentry::boot::protocol::{Connection, Reply, Request};
use sentry::boot::{
    self, ContainerSpec, EgressSpec, EventKinds, Network, NetworkMessage, NetworkSpec, UserNetwork,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use tracing::level_filters::LevelFilter;

/// What the sentry is given.
pub struct Setup {
    /// The container.
    pub spec: ContainerSpec,
    /// How guest code is run.
    pub platform: PlatformName,
    /// An open `/dev/kvm`, if it may be used and is there.
    pub kvm: Option<OwnedFd>,
    /// Systrap patches call sites.
    pub patching: bool,
    /// What becomes of host calls that the sentry should not make.
    pub host_seccomp: HostSeccomp,
    /// Connections to the gofer.
    pub channels: Vec<OwnedFd>,
    /// The debug log.
    pub log: Option<OwnedFd>,
    /// How its lines look.
    pub log_format: log::Format,
    /// It says more.
    pub debug: bool,
    /// Gets the report if the sentry has a bug.
    pub panic_log: Option<OwnedFd>,
    /// A file that gets events, and of which kinds.
    pub trace: Option<(OwnedFd, EventKinds)>,
    /// Write a line for each system call to the log.
    pub strace: bool,
    /// For these only, if there are any.
    pub strace_calls: Vec<String>,
    /// Files of the first process, by their numbers there.
    pub files: Vec<(i32, OwnedFd)>,
    /// Where the control protocol is spoken.
    pub listener: Option<OwnedFd>,
    /// The terminal that becomes its own.
    pub console: Option<OwnedFd>,
    /// Gets the exit status.
    pub exit: Option<OwnedFd>,
    /// Start the first process without being told.
    pub start: bool,
    /// It dies with this process.
    pub attached: bool,
    /// Its way to other machines.
    pub network: Option<Network>,
    /// The file that gets its packets.
    pub pcap: Option<OwnedFd>,
    /// Whom it may reach through the interfaces it takes over.
    pub egress: Option<EgressSpec>,
    /// What it takes over is known only when its process exists: the interfaces that hooks put into its new
    /// network namespace.
    pub network_follows: bool,
    /// The same, and it is not known before the first process is started.
    pub network_later: bool,
}

/// A network namespace that somebody else has made.
pub struct Namespace<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// The sandbox takes over its interfaces.
    pub take_over: bool,
}

/// Namespaces of the sentry: all there are.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Starts the sentry, in a new network namespace or in `namespace`. It waits for `prepare`, which gets
/// its process id. What it takes over goes back to the host's kernel when the last value of the result is dropped.
pub fn start(
    mut setup: Setup,
    namespace: Option<Namespace<'_>>,
    prepare: impl FnOnce(Pid) -> anyhow::Result<()>,
) -> anyhow::Result<(Child, Control, Option<Takeover>)> {
    let (control, theirs) = Control::pair()?;
    let mut takeover = None;
    let joined = namespace.as_ref().map(|namespace| Joined::join(namespace.path)).transpose()?;
    if let (Some(joined), Some(Namespace { take_over: true, .. })) = (&joined, &namespace)
        && joined.is_another()?
    {
        let (spec, taken) = network::take_over(setup.attached, setup.host_seccomp)?;
        setup.network = Some(Network::Interfaces(spec));
        takeover = Some(taken);
    }
    let namespaces = if joined.is_some() { NAMESPACES & !libc::CLONE_NEWNET } else { NAMESPACES };
    let (attached, network_follows) = (setup.attached, setup.network_follows);
    let mode = setup.host_seccomp;
    let follow = &mut takeover;
    let prepare = |pid| {
        identity::write_maps(pid)?;
        prepare(pid)?;
        if network_follows {
            *follow = Some(send_network(pid, &control, attached, mode)?);
        }
        Ok(())
    };
    let child = spawn::spawn(namespaces, attached, prepare, move || {
        let control = Arc::new(Connection::new(theirs));
        match enter(setup, control.clone()) {
            Ok(status) => status,
            Err(e) => {
                let boot = e.downcast_ref::<boot::BootError>();
                let status = boot.map_or(crate::EXIT_INTERNAL, boot::BootError::exit_status);
                // The CLI says it; if that has gone there is nobody to tell.
                let _ = control.send(&Reply::Failed { message: format!("{e:#}"), status }, &[]);
                i32::from(status)
            }
        }
    })?;
    Ok((child, control, takeover))
}

/// Gives a sandbox that waits for its start what somebody has put into its network namespace meanwhile. That outlives
/// this process.
pub fn give_network(pid: i32, control: &Control, mode: HostSeccomp) -> anyhow::Result<()> {
    let joined = Joined::join(Path::new(&format!("/proc/{pid}/ns/net")))?;
    let (spec, takeover) = network::take_over(false, mode)?;
    drop(joined);
    if spec.interfaces.is_empty() {
        return Ok(());
    }
    let (message, sockets) = NetworkMessage::split(spec);
    let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    control.ask(&Request::Network(message), &sockets)?;
    takeover.keep();
    Ok(())
}

/// Takes over what is in the network namespace of a sentry that waits, and tells it.
fn send_network(
    pid: Pid,
    control: &Control,
    attached: bool,
    mode: HostSeccomp,
) -> anyhow::Result<Takeover> {
    let joined = Joined::join(Path::new(&format!("/proc/{pid}/ns/net")))?;
    let (spec, takeover) = network::take_over(attached, mode)?;
    drop(joined);
    let (message, sockets) = NetworkMessage::split(spec);
    let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    control.tell(&Request::Network(message), &sockets)?;
    Ok(takeover)
}

/// The network that [`send_network`] has sent before this process was let go.
fn receive_network(control: &Connection) -> anyhow::Result<NetworkSpec> {
    match control.receive().context("cannot learn of the network")? {
        Some((Request::Network(message), sockets)) => Ok(message.join(sockets)),
        _ => bail!("the network was announced, but did not come"),
    }
}

/// In the new process: gives everything up, then runs the kernel.
fn enter(setup: Setup, control: Arc<Connection>) -> anyhow::Result<i32> {
    let memory_total = host_memory();
    // rustix reads the auxiliary vector once, on first use, from where the sentry's filter forbids.
    rustix::param::page_size();
    let Setup {
        spec,
        platform,
        kvm,
        patching,
        host_seccomp,
        channels,
        log,
        log_format,
        debug,
        panic_log,
        trace,
        strace,
        strace_calls,
        files,
        listener,
        console,
        exit,
        start,
        attached,
        network,
        pcap,
        egress,
        network_follows,
        network_later,
    } = setup;
    let network = match network_follows {
        true => Some(Network::Interfaces(receive_network(&control)?)),
        false => network,
    };
    let limited = egress.is_some();
    let (network, egress) = match network {
        Some(Network::Interfaces(spec)) => {
            (Some(Network::Interfaces(NetworkSpec { egress, ..spec })), None)
        }
        other => (other, egress),
    };
    let console_signals = console.is_some();
    if let Some(console) = console {
        confine::take_terminal(console)?;
    }
    confine::replace_standard_streams(attached)?;
    let keep = channels
        .iter()
        .chain(&log)
        .chain(&listener)
        .chain(&exit)
        .chain(&kvm)
        .chain(&pcap)
        .chain(&panic_log)
        .chain(trace.iter().map(|(file, _)| file))
        .chain(files.iter().map(|(_, fd)| fd));
    let links = network.iter().flat_map(sockets);
    // Refusals are written there.
    let links = links.chain(log::descriptor().filter(|_| limited));
    confine::close_others(keep.map(AsFd::as_fd).chain(links).chain([control.as_fd()]))?;
    confine::empty_root()?;
    let memory = confine::memory_file();
    confine::allow_descriptors();
    confine::drop_privileges(attached)?;
    let platform = match platform {
        PlatformName::Auto => boot::PlatformKind::Auto,
        PlatformName::Ptrace => boot::PlatformKind::Ptrace,
        PlatformName::Systrap => boot::PlatformKind::Systrap,
        PlatformName::Kvm => boot::PlatformKind::Kvm,
    };
    let host_seccomp = match host_seccomp {
        HostSeccomp::Enforce => boot::HostSeccomp::Enforce,
        HostSeccomp::Log => boot::HostSeccomp::Log,
    };
    boot::run(boot::Config {
        spec,
        platform,
        kvm,
        patching,
        host_seccomp,
        channels,
        control,
        listener,
        start,
        files,
        network,
        network_later,
        egress,
        pcap,
        console_signals,
        log,
        log_format: match log_format {
            log::Format::Text => boot::LogFormat::Text,
            log::Format::Json => boot::LogFormat::Json,
        },
        log_level: if debug { LevelFilter::DEBUG } else { LevelFilter::INFO },
        panic_log,
        trace,
        exit,
        strace,
        strace_calls,
        memory,
        memory_total,
    })
    .map(|status| status.for_shell())
    .map_err(Into::into)
}

/// The descriptors of a network.
fn sockets(network: &Network) -> Vec<BorrowedFd<'_>> {
    match network {
        Network::Interfaces(spec) => {
            let names = spec.names.iter().flat_map(|n| [n.control.as_fd(), n.packets.as_fd()]);
            let loopback =
                spec.loopback.iter().flat_map(|l| [l.listener.as_fd(), l.steering.as_fd()]);
            let interfaces = spec.interfaces.iter().flat_map(|i| i.sockets.iter().map(AsFd::as_fd));
            interfaces.chain(names).chain(loopback).collect()
        }
        Network::Host(network) => vec![network.control.as_fd()],
        Network::User(UserNetwork { control, packets, .. }) => {
            vec![control.as_fd(), packets.as_fd()]
        }
    }
}

/// Memory of the host in bytes, which is what programs in the sandbox may use of it.
fn host_memory() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}
