//! `--network=host`: the sandbox's sockets are the host's, made by a process outside.

use super::helper::{self, Helper};
use super::netlink::Netlink;
use crate::cli::HostSeccomp;
use crate::sandbox::netns::Joined;
use anyhow::Context;
use netproxy::host::{FILTER, serve};
use platform::host::socket;
use sentry::boot::{HostInterface, HostNetwork, RouteSpec};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Starts the process, in the network namespace at `namespace` or this process's own; also returns what the sentry
/// needs of it, with what is to be seen of that namespace.
pub fn start(
    namespace: Option<&Path>,
    attached: bool,
    mode: HostSeccomp,
) -> anyhow::Result<(Helper, HostNetwork)> {
    let _joined = namespace.map(Joined::join).transpose()?;
    let pair = socket::seqpacket_pair();
    let (control, theirs) = pair.context("cannot make a socket pair for the network")?;
    let (interfaces, routes) = look()?;
    let helper = helper::start("socket maker", attached, move || {
        serve(&helper::confine(attached, mode, &FILTER, theirs, kept, Ok)?);
        Ok(())
    })?;
    Ok((helper, HostNetwork { control, interfaces, routes }))
}

/// Its one descriptor.
fn kept(control: &OwnedFd) -> Vec<BorrowedFd<'_>> {
    vec![control.as_fd()]
}

/// The interfaces, but for the loopback interface, and the routes of this process's network namespace.
fn look() -> anyhow::Result<(Vec<HostInterface>, Vec<RouteSpec>)> {
    let what = "cannot list the interfaces of the host";
    let mut netlink = Netlink::open().context(what)?;
    let links = netlink.links().context(what)?;
    let addresses = netlink.addresses().context(what)?;
    let routes = netlink.routes().context("cannot list the routes of the host")?;
    let others = links.into_iter().filter(|link| link.flags & libc::IFF_LOOPBACK as u32 == 0);
    let interfaces: Vec<_> = others
        .map(|link| HostInterface {
            index: link.index,
            mac: link.mac,
            mtu: link.mtu,
            flags: link.flags,
            kind: link.kind,
            addresses: addresses
                .iter()
                .filter(|a| a.index == link.index)
                .map(|a| (a.ip, a.prefix))
                .collect(),
            name: link.name,
        })
        .collect();
    let position = |index| interfaces.iter().position(|i: &HostInterface| i.index == index);
    let spec = |route: &super::netlink::Route| {
        let interface = position(route.index)?;
        let &super::netlink::Route { to, prefix, via, source, metric, .. } = route;
        Some(RouteSpec { to, prefix, via, interface, source, metric })
    };
    let routes = routes.iter().filter_map(spec).collect();
    Ok((interfaces, routes))
}
