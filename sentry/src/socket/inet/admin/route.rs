//! Routes to other machines.

use super::super::Net;
use super::super::interface::LOOPBACK;
use super::super::uplink::error::errno;
use super::{Failure, Outcome};
use crate::errno::Errno;
use crate::socket::netlink::notify::{self, Cause};
use netstack::{Cidr, IfaceId, RouteEntry};
use std::net::IpAddr;
use std::sync::Arc;

/// Metric of a route of IPv6 that says nothing else (`IP6_RT_PRIO_USER`).
const METRIC_V6: u32 = 1024;

/// A route, as far as it was named.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The network it leads to.
    pub to: IpAddr,
    /// Bits of the network part.
    pub prefix: u8,
    /// The next hop.
    pub via: Option<IpAddr>,
    /// Index of the interface; 0 for whichever leads to the next hop.
    pub device: u32,
    /// Source address to prefer.
    pub source: Option<IpAddr>,
    /// Lower wins.
    pub metric: Option<u32>,
    /// It leads to a next hop, or to the link; if that was said (`rtm_scope` of IPv4).
    pub direct: Option<bool>,
}

/// What is to become of a route that is there already, and of one that is not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// There must be none (`NLM_F_EXCL`).
    pub exclusive: bool,
    /// It is replaced (`NLM_F_REPLACE`).
    pub replace: bool,
    /// One may be made (`NLM_F_CREATE`).
    pub create: bool,
}

impl Net {
    /// Adds a route. `ENODEV`, `ENETUNREACH`, `ENETDOWN`, `EINVAL`, `EEXIST`, `ENOENT`; `EOPNOTSUPP` over the loopback
    /// interface.
    pub fn add_route(self: &Arc<Net>, wanted: Wanted, how: Manner, cause: Cause) -> Outcome {
        let unreachable = || Failure::new(Errno::ENETUNREACH, "Nexthop has invalid gateway");
        let Some(stack) = self.stack() else {
            return Err(match wanted.device {
                LOOPBACK => Errno::EOPNOTSUPP.into(),
                0 if wanted.via.is_some() => unreachable(),
                _ => Errno::ENODEV.into(),
            });
        };
        let device = match (wanted.device, wanted.via) {
            (0, None) => return Err(Errno::ENODEV.into()),
            (0, Some(via)) => {
                let (_, iface) = stack.route_to(via, None).map_err(|_| unreachable())?;
                iface.0
            }
            (device, _) => device,
        };
        if device == LOOPBACK {
            return Err(match wanted.device {
                0 => unreachable(),
                _ => Errno::EOPNOTSUPP.into(),
            });
        }
        let up = self.with_device(device, |i| i.is_up()).ok_or(Errno::ENODEV)?;
        if !up {
            return Err(Failure::new(Errno::ENETDOWN, "Device for nexthop is not up"));
        }
        if let Some(via) = wanted.via {
            // The next hop has to be on the link.
            let direct =
                |r: &RouteEntry| r.iface.0 == device && r.via.is_none() && r.dst.contains(via);
            if !stack.routes().iter().any(direct) {
                return Err(unreachable());
            }
        }
        if wanted.source.is_some_and(|source| !self.is_local(source)) {
            return Err(Failure::new(Errno::EINVAL, "Invalid prefsrc address"));
        }
        let v6 = wanted.to.is_ipv6();
        let entry = RouteEntry {
            dst: Cidr::new(wanted.to, wanted.prefix).ok_or(Errno::EINVAL)?.network(),
            via: wanted.via,
            iface: IfaceId(device),
            source: wanted.source,
            metric: wanted.metric.unwrap_or(if v6 { METRIC_V6 } else { 0 }),
            mtu: None,
        };
        let rival = |r: &RouteEntry| (r.dst, r.metric) == (entry.dst, entry.metric);
        let old = stack.routes().into_iter().find(rival);
        match old {
            Some(_) if how.exclusive => return Err(Errno::EEXIST.into()),
            Some(old) if how.replace => {
                stack.remove_route(&old);
            }
            // With `append` there may be several.
            Some(old) if (old.via, old.iface) == (entry.via, entry.iface) => {
                return Err(Errno::EEXIST.into());
            }
            None if !how.create => return Err(Errno::ENOENT.into()),
            _ => {}
        }
        stack.add_route(entry).map_err(errno)?;
        notify::route(self, &entry, true, cause);
        Ok(())
    }

    /// Takes away the first route that is as wanted. `ESRCH`.
    pub fn remove_route(self: &Arc<Net>, wanted: Wanted, cause: Cause) -> Outcome {
        let Some(stack) = self.stack() else { return Err(Errno::ESRCH.into()) };
        let dst = Cidr::new(wanted.to, wanted.prefix).ok_or(Errno::EINVAL)?.network();
        let is = |r: &RouteEntry| {
            r.dst == dst
                && wanted.via.is_none_or(|via| r.via == Some(via))
                && (wanted.device == 0 || r.iface.0 == wanted.device)
                && wanted.metric.is_none_or(|metric| metric == r.metric)
                && wanted.direct.is_none_or(|direct| direct == r.via.is_none())
        };
        let old = stack.routes().into_iter().find(is).ok_or(Errno::ESRCH)?;
        stack.remove_route(&old);
        notify::route(self, &old, false, cause);
        Ok(())
    }
}
