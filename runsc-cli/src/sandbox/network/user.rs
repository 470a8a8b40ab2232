//! `--network=user`: a proxy process with ordinary sockets of the host, for a sandbox that was given no network.
//!
//! ```text
//! runsc ── fork ──► proxy    own namespaces but for the network's, empty root, no capabilities
//! ```
//! Like the gofer it is a fork of this process. It ends with its connection to the sentry.

use super::egress;
use super::publish::Publish;
use super::resolver::Resolver;
use crate::cli::HostSeccomp;
use crate::log;
use crate::sandbox::spawn::{self, Child};
use crate::sandbox::{confine, identity};
use anyhow::Context;
use netproxy::policy::Policy;
use netproxy::server::calls::FILTER;
use netproxy::server::{Options, Server};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use platform::host::{seccomp, socket};
use sentry::boot::{self, UserNetwork};
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};

/// Namespaces of the proxy: all but the network's.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// What the flags say of such a network.
#[derive(Debug, Default)]
pub struct UserOptions {
    /// Ports of the host that lead into the sandbox.
    pub publish: Vec<Publish>,
    /// The gateway's address stands for the host's loopback interface.
    pub host_loopback: bool,
    /// Whom it may reach.
    pub policy: Policy,
}

/// A running proxy. Ended when dropped.
pub struct Proxy {
    child: Child,
    kept: bool,
}

/// Starts the proxy; also returns what the sentry needs to talk to it.
pub fn start(
    options: UserOptions,
    resolver: &Resolver,
    attached: bool,
    mode: HostSeccomp,
) -> anyhow::Result<(Proxy, UserNetwork)> {
    let pair = || socket::seqpacket_pair().context("cannot make a socket pair for the network");
    let ((control, their_control), (packets, their_packets)) = (pair()?, pair()?);
    let UserOptions { publish, host_loopback, policy } = options;
    let published = publish.iter().map(Publish::open).collect::<anyhow::Result<Vec<_>>>()?;
    let options = Options {
        control: their_control,
        packets: their_packets,
        name_servers: resolver.servers.clone(),
        host_loopback,
        published,
        policy,
        report: egress::report,
    };
    let child = spawn::spawn(NAMESPACES, attached, identity::write_maps, move || {
        match serve(options, attached, mode) {
            Ok(()) => 0,
            Err(e) => {
                eprintln!("runsc: the network proxy: {e:#}");
                1
            }
        }
    })
    .context("cannot start the network proxy")?;
    let network = UserNetwork { control, packets, v6: reaches_v6() };
    Ok((Proxy { child, kept: false }, network))
}

/// In the new process: gives everything up, then serves.
fn serve(options: Options, attached: bool, mode: HostSeccomp) -> anyhow::Result<()> {
    confine::replace_standard_streams(attached)?;
    let sockets: Vec<&OwnedFd> = options.published.iter().map(|p| &p.socket).collect();
    let keep = [&options.control, &options.packets].into_iter().chain(sockets);
    confine::close_others(keep.map(AsFd::as_fd).chain(log::descriptor()))?;
    confine::empty_root()?;
    confine::allow_descriptors();
    confine::drop_privileges(attached)?;
    let mode = match mode {
        HostSeccomp::Enforce => boot::HostSeccomp::Enforce,
        HostSeccomp::Log => boot::HostSeccomp::Log,
    };
    seccomp::limit_arenas(1);
    seccomp::hide_process().context("cannot hide the process")?;
    let server = Server::new(options).context("cannot watch its sockets")?;
    FILTER.install(mode, libc::STDERR_FILENO).context("cannot install the filter of host calls")?;
    server.run();
    Ok(())
}

/// True when the host has a way to others over IPv6. Nothing is sent.
fn reaches_v6() -> bool {
    // Any address that is nobody's neighbour will do (that of a public name server).
    UdpSocket::bind("[::]:0").is_ok_and(|s| s.connect("[2001:4860:4860::8888]:53").is_ok())
}

impl Proxy {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.child.pid
    }

    /// It outlives this value: its connection to the sentry ends it.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !self.kept {
            self.child.kill();
            let _ = waitpid(self.child.pid, None);
        }
    }
}
