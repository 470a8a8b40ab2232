//! The name server on the loopback interface of the namespace that the sandbox has taken over.
//!
//! Docker's daemon answers for the names of a network that users make at 127.0.0.11: it listens inside the container's
//! network namespace, and redirects port 53 there by rules of the host's packet filter. The loopback interface
//! that the guest has is the sentry's, so that neither is on its way. What the guest sends to that address, and
//! nobody in the sandbox takes, goes to a process outside ([`netproxy`]), whose sockets are in the namespace and reach
//! nobody but the name server.
//!
//! See [`crate::socket::inet::dgram`] (`named`) for datagrams; TCP connections are proxied streams.

use super::super::Net;
use super::super::addr::Endpoint;
use super::proxy::{Proxy, UserNetwork};
use crate::errno::Result;
use netproxy::address::{DNS, RESOLVER};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Where it listens, to the guest.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The way to such a name server.
pub struct NameServer {
    proxy: Arc<Proxy>,
}

impl NameServer {
    /// Starts to serve what `given` leads to.
    pub fn start(net: &Arc<Net>, given: UserNetwork) -> Result<NameServer> {
        Ok(NameServer { proxy: Proxy::serve(net, given)? })
    }

    /// Where it is, to the guest.
    pub fn address(&self) -> Endpoint {
        Endpoint { ip: ADDRESS.into(), port: DNS }
    }

    /// The same, to the proxy.
    pub fn at_proxy(&self) -> Endpoint {
        Endpoint { ip: RESOLVER.into(), port: DNS }
    }

    /// The proxy.
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }
}
