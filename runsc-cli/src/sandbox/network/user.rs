//! `--network=user`: a proxy process with ordinary sockets of the host, for a sandbox that was given no network.
//!
//! It is a [`helper`].

use super::egress;
use super::helper::{self, Helper};
use super::publish::Publish;
use super::resolver::Resolver;
use crate::cli::HostSeccomp;
use anyhow::Context;
use netproxy::policy::Policy;
use netproxy::server::calls::FILTER;
use netproxy::server::{Options, Server};
use platform::host::socket;
use sentry::boot::UserNetwork;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

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

/// Starts the proxy; also returns what the sentry needs to talk to it.
pub fn start(
    options: UserOptions,
    resolver: &Resolver,
    attached: bool,
    mode: HostSeccomp,
) -> anyhow::Result<(Helper, UserNetwork)> {
    let pair = || socket::seqpacket_pair().context("cannot make a socket pair for the network");
    let ((control, their_control), (packets, their_packets)) = (pair()?, pair()?);
    let UserOptions { publish, host_loopback, policy } = options;
    let published = publish.iter().map(Publish::open).collect::<anyhow::Result<Vec<_>>>()?;
    let options = Options {
        control: their_control,
        packets: their_packets,
        name_servers: resolver.servers.clone(),
        names_only: false,
        host_loopback,
        published,
        policy,
        report: egress::report,
    };
    let helper = helper::start("network proxy", attached, move || serve(options, attached, mode))?;
    let network = UserNetwork { control, packets, v6: reaches_v6() };
    Ok((helper, network))
}

/// Starts a proxy in this process's network namespace that reaches nobody but the name server `at` there.
pub fn start_for_names(
    at: SocketAddr,
    attached: bool,
    mode: HostSeccomp,
) -> anyhow::Result<(Helper, UserNetwork)> {
    let pair = || socket::seqpacket_pair().context("cannot make a socket pair for name questions");
    let ((control, their_control), (packets, their_packets)) = (pair()?, pair()?);
    let options = Options {
        control: their_control,
        packets: their_packets,
        name_servers: vec![at],
        names_only: true,
        host_loopback: false,
        published: Vec::new(),
        policy: Policy::default(),
        report: egress::report,
    };
    let helper = helper::start("proxy for name questions", attached, move || {
        serve(options, attached, mode)
    })?;
    Ok((helper, UserNetwork { control, packets, v6: false }))
}

/// In the new process: gives everything up, then serves.
fn serve(options: Options, attached: bool, mode: HostSeccomp) -> anyhow::Result<()> {
    helper::confine(attached, mode, &FILTER, options, kept, |options| {
        Server::new(options).context("cannot watch its sockets")
    })?
    .run();
    Ok(())
}

/// The descriptors of the options.
fn kept(options: &Options) -> Vec<BorrowedFd<'_>> {
    let own = [&options.control, &options.packets].into_iter();
    own.chain(options.published.iter().map(|p| &p.socket)).map(AsFd::as_fd).collect()
}

/// True when the host has a way to others over IPv6. Nothing is sent.
fn reaches_v6() -> bool {
    // Any address that is nobody's neighbour will do (that of a public name server).
    UdpSocket::bind("[::]:0").is_ok_and(|s| s.connect("[2001:4860:4860::8888]:53").is_ok())
}
