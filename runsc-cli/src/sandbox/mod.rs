//! The processes of a sandbox: how they are started, watched and ended.
//!
//! ```text
//! runsc ── fork ──► gofer    own namespaces, sees the exports only
//!       ├─ fork ──► proxy    with --network=user and host: own namespaces but the network's; host sockets
//!       └─ fork ──► sentry   own namespaces, empty root, no capabilities; first process of its pid
//!                            namespace, so that its stubs cannot outlive it
//! ```
//! Neither is executed anew: both are forks of this single-threaded process. In the foreground they die with it
//! (`PR_SET_PDEATHSIG`), and it ends when the sentry does. A container of `create` outlives it: the sentry ends
//! with the connection it was started with until told otherwise, the gofer ends with the sentry.

mod confine;
pub mod control;
mod export;
mod gofer;
mod identity;
mod netns;
pub mod network;
mod sentry;
pub mod spawn;
pub mod standin;
pub mod supervise;
pub mod terminal;

pub use export::Exports;
pub use sentry::give_network;

use crate::cli::{Global, NetworkName, PlatformName};
use ::sentry::boot::protocol::{Reply, Request};
use ::sentry::boot::{ContainerSpec, EventKinds, Network};
use anyhow::{Context, bail};
use control::Control;
use netproxy::policy::Rule;
use network::Takeover;
use network::helper::Helper;
use network::publish::Publish;
use network::resolver::Resolver;
use network::user::UserOptions;
use nix::unistd::Pid;
use spawn::Child;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Everything that a sandbox is started from.
pub struct Sandbox {
    /// The container.
    pub spec: ContainerSpec,
    /// Host directories and files that the gofer serves.
    pub exports: Exports,
    /// Files of the first process, by their numbers there.
    pub files: Vec<(i32, OwnedFd)>,
    /// Network namespace to join, and with `--network=sandbox` to take over.
    pub network: Option<PathBuf>,
    /// Without one: hooks give the sandbox's own network namespace its interfaces.
    pub network_by_hooks: bool,
    /// Without either: somebody may give it its interfaces before it is started, as Docker's daemon does.
    pub network_later: bool,
    /// Ports of the host that lead into it, with `--network=user`.
    pub publish: Vec<Publish>,
    /// What the bundle says of whom it may reach, besides the flags.
    pub egress: Vec<Rule>,
    /// How its processes are tied to this one.
    pub life: Life,
}

/// What a container that joins a sandbox is started from.
pub struct Member {
    /// The container.
    pub spec: ContainerSpec,
    /// Host directories and files that its gofer serves.
    pub exports: Exports,
    /// Files of the first process, by their numbers there.
    pub files: Vec<(i32, OwnedFd)>,
    /// The host's side of the first process's terminal.
    pub console: Option<OwnedFd>,
    /// Gets the exit status of the first process.
    pub exit: Option<OwnedFd>,
    /// It dies with this process.
    pub attached: bool,
}

/// How the processes of a sandbox are tied to the one that starts them.
pub enum Life {
    /// They die with it; the first process starts at once.
    Foreground,
    /// They outlive it, and wait to be told to start.
    Detached(Detached),
}

/// What a container that is kept needs.
#[derive(Default)]
pub struct Detached {
    /// Where the control protocol is spoken.
    pub listener: Option<OwnedFd>,
    /// The host's side of the first process's terminal, which becomes the sentry's controlling terminal.
    pub console: Option<OwnedFd>,
    /// Gets the exit status of the first process.
    pub exit: Option<OwnedFd>,
    /// They die with this process all the same.
    pub attached: bool,
}

/// The processes of a sandbox that has been started.
pub struct Running {
    /// The sentry; or what stands for a container that joined another's sandbox.
    pub sentry: Child,
    /// Where it is told what to do.
    pub control: Control,
    /// The gofer.
    pub gofer: gofer::Gofer,
    /// The network proxy with `--network=user`, or what makes sockets with `--network=host`.
    pub proxy: Option<Helper>,
    /// What it has taken over of its network namespace; given back with this value.
    pub takeover: Option<Takeover>,
}

impl Sandbox {
    /// Runs the sandbox to its end, in the foreground; the result is the exit status for the shell.
    pub fn run(self, global: &Global) -> anyhow::Result<u8> {
        supervise::block_signals()?;
        let terminal = self.spec.process.terminal.then(terminal::Terminal::open).transpose()?;
        let running = self.start(global, |_, _, _| Ok(()))?;
        supervise::wait(running, terminal)
    }

    /// Starts its processes. `prepare` is run with the ids of the sentry, which waits for it, of the gofer, and of
    /// the network proxy.
    pub fn start(
        mut self,
        global: &Global,
        prepare: impl FnOnce(Pid, Pid, Option<Pid>) -> anyhow::Result<()>,
    ) -> anyhow::Result<Running> {
        let log = open_log(global, &self.spec.id)?;
        let panic_log = global.panic_log.as_deref();
        let panic_log =
            panic_log.map(|path| open_file(path, &self.spec.id, "panic log")).transpose()?;
        let trace = open_trace(global, &self.spec.id)?;
        let pcap = network::open_pcap(global, &self.spec.id)?;
        let user = global.network == NetworkName::User;
        if !user && !self.publish.is_empty() {
            bail!(
                "--publish needs --network=user: without it the sandbox has no use for the host's ports"
            );
        }
        let policy = network::egress::policy(global, std::mem::take(&mut self.egress))?;
        let host = global.network == NetworkName::Host;
        if host && !policy.is_empty() {
            bail!(
                "an egress policy needs --network=user or sandbox: with the host's own sockets it would not be kept"
            );
        }
        let resolver = user.then(Resolver::of_host);
        if let Some(resolver) = &resolver {
            let mount = resolver.mount(&self.spec.mounts, &mut self.exports)?;
            self.spec.mounts.extend(mount);
        }
        let (attached, detached) = match self.life {
            Life::Foreground => (true, None),
            Life::Detached(detached) => (detached.attached, Some(detached)),
        };
        let (gofer, channels) = gofer::start(self.exports, attached, global)?;
        let mut egress = None;
        let (proxy, user_network) = match &resolver {
            None => {
                egress = network::egress::of_interfaces(global, policy);
                if host {
                    let namespace = self.network.as_deref();
                    let mode = global.host_seccomp;
                    let (maker, network) = network::host::start(namespace, attached, mode)?;
                    (Some(maker), Some(Network::Host(network)))
                } else {
                    (None, None)
                }
            }
            Some(resolver) => {
                let host_loopback = global.host_loopback;
                let options = UserOptions { publish: self.publish, host_loopback, policy };
                let mode = global.host_seccomp;
                let (proxy, network) = network::user::start(options, resolver, attached, mode)?;
                (Some(proxy), Some(Network::User(network)))
            }
        };
        let start = detached.is_none();
        let Detached { listener, console, exit, .. } = detached.unwrap_or_default();
        let setup = sentry::Setup {
            spec: self.spec,
            platform: global.platform,
            kvm: open_kvm(global.platform),
            patching: !global.systrap_disable_syscall_patching,
            host_seccomp: global.host_seccomp,
            channels,
            log,
            log_format: global.debug_log_format,
            debug: global.debug,
            panic_log,
            trace,
            strace: global.strace,
            strace_calls: global.strace_syscalls.clone(),
            files: self.files,
            listener,
            console,
            exit,
            start,
            attached,
            network: user_network,
            pcap,
            egress,
            network_follows: self.network.is_none()
                && self.network_by_hooks
                && global.network == NetworkName::Sandbox,
            network_later: self.network.is_none()
                && !self.network_by_hooks
                && self.network_later
                && global.network == NetworkName::Sandbox,
        };
        let (gofer_pid, proxy_pid) = (gofer.pid(), proxy.as_ref().map(Helper::pid));
        let namespace = self.network.as_deref().filter(|_| !user && !host).map(|path| {
            sentry::Namespace { path, take_over: global.network == NetworkName::Sandbox }
        });
        let prepare = |pid| prepare(pid, gofer_pid, proxy_pid);
        let (sentry, control, takeover) =
            sentry::start(setup, namespace, prepare).context("cannot start the sentry")?;
        Ok(Running { sentry, control, gofer, proxy, takeover })
    }
}

/// Starts a container that joins the sandbox whose control socket `connect` reaches: its gofer, and a process that
/// stands for it. `prepare` is run with the ids of that process, which waits for it, and of the gofer.
pub fn join(
    global: &Global,
    member: Member,
    connect: impl FnOnce() -> anyhow::Result<Control>,
    prepare: impl FnOnce(Pid, Pid) -> anyhow::Result<()>,
) -> anyhow::Result<(Child, gofer::Gofer)> {
    let Member { spec, exports, files, console, exit, attached } = member;
    let (gofer, channels) = gofer::start(exports, attached, global)?;
    let gofer_pid = gofer.pid();
    let start = move || {
        let control = connect()?;
        let numbers = files.iter().map(|(number, _)| *number).collect();
        let fds: Vec<_> =
            files.iter().map(|(_, fd)| fd).chain(&channels).map(AsFd::as_fd).collect();
        match control.ask(&Request::Create { spec: Box::new(spec), files: numbers }, &fds)? {
            Reply::Ready => Ok(standin::Owned { control, console, exit }),
            other => bail!("the sandbox answered {other:?} instead of being ready"),
        }
    };
    let child = standin::spawn(attached, |pid| prepare(pid, gofer_pid), start)?;
    Ok((child, gofer))
}

/// The standard streams of this process, as files of the first one in a container.
pub fn standard_streams() -> Vec<(i32, OwnedFd)> {
    (0..3).filter_map(|fd| Some((fd, confine::duplicate(fd)?))).collect()
}

/// A descriptor `fd` that this process was started with, under a number of its own; `None` if there is none. Descriptors that
/// this process has opened itself are nobody else's.
pub fn inherited(fd: i32) -> Option<OwnedFd> {
    confine::is_inherited(fd).then(|| confine::duplicate(fd)).flatten()
}

/// Opens `/dev/kvm` where it may be used; the sentry cannot any more. That it is not there or not for us
/// is for the sentry to say, if it matters.
fn open_kvm(platform: PlatformName) -> Option<OwnedFd> {
    if !matches!(platform, PlatformName::Auto | PlatformName::Kvm) {
        return None;
    }
    let device = File::options().read(true).write(true).open(platform::kvm::PATH);
    device.ok().map(OwnedFd::from)
}

/// Opens a log, whose name may be a pattern, for a container.
fn open_file(pattern: &Path, id: &str, what: &str) -> anyhow::Result<OwnedFd> {
    let path = crate::log::file_name(pattern, id);
    let file = File::options().create(true).append(true).open(&path).with_context(|| {
        format!("cannot open the {what} {}: is its directory there and writable?", path.display())
    })?;
    Ok(file.into())
}

/// Opens the file for events that the flags ask for.
fn open_trace(global: &Global, id: &str) -> anyhow::Result<Option<(OwnedFd, EventKinds)>> {
    let Some(path) = &global.trace else {
        if !global.trace_events.is_empty() {
            bail!("--trace-events is of no use without --trace");
        }
        return Ok(None);
    };
    let file = open_file(path, id, "file for --trace")?;
    let kinds = match &*global.trace_events {
        [] => EventKinds::all(),
        some => some.iter().copied().collect(),
    };
    Ok(Some((file, kinds)))
}

/// Opens the debug log that the flags ask for.
fn open_log(global: &Global, id: &str) -> anyhow::Result<Option<OwnedFd>> {
    if let Some(commands) = &global.debug_command
        && !crate::log::is_debugged(commands)
    {
        return Ok(None);
    }
    if let Some(path) = &global.debug_log {
        return open_file(path, id, "debug log").map(Some);
    }
    if !global.strace && !global.debug {
        return Ok(None);
    }
    let stderr = std::io::stderr().as_fd().try_clone_to_owned();
    Ok(Some(stderr.context("cannot duplicate standard error for the debug log")?))
}
