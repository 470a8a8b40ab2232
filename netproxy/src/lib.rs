//! Network for sandboxes that were given none: a process of its own, the *proxy*, makes ordinary sockets of the
//! host for the sandbox, which needs no privileges and no network namespace.
//!
//! The sentry has the sockets of the guest. What they say to other machines it asks the proxy for:
//!
//! - A TCP connection is made by the proxy and, once it is established, given to the sentry as a descriptor, which
//!   reads and writes it from then on. An established connection cannot be turned to another peer.
//! - Datagrams and echo requests go through the proxy one by one, because their sockets could reach anybody.
//! - Ports of the host that are published are listened on by the proxy.
//!
//! Parts: [`address`] (what the guest sees, and what it may reach), [`policy`] (what else it may not), [`protocol`], [`server`] (the proxy), and
//! [`client`] (the sentry's side).
//!
//! [`host`] is something else: a process that makes sockets for a sentry that may use all of the host's network.
//!
//! Neither side trusts the other: what does not decode ends the connection and nothing else. Every address is
//! checked by the proxy.
//!
//! There are no locks: the proxy has one thread.

pub mod address;
pub mod client;
pub mod host;
pub mod policy;
pub mod protocol;
pub mod server;

pub use client::Client;
