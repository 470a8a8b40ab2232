//! A TCP/IP stack as a library: no I/O, no threads, no clock of its own, no file descriptors and no `errno`.
//! It never blocks.
//!
//! # Use
//! A [`Stack`] is made from a [`Config`], a [`Clock`] and a [`RandomSource`]. Interfaces are made on
//! [`Link`]s. Whoever owns a link gives what it receives to [`Stack::input`]; the stack hands what it sends to
//! [`Link::transmit`], in batches. [`Stack::poll`] does what is due and says when to call it next;
//! [`Clock::wake_by`] tells when that must be sooner. [`TcpSocket`], [`UdpSocket`] and [`RawSocket`] are
//! handles to endpoints: operations return at once, [`Error::WouldBlock`] where they could not go on, and a
//! [`Waker`] is told when that has changed. All of it can be called from any thread.
//!
//! # Map
//!
//! | module | what |
//! |---|---|
//! | `stack`, `admin`, `config`, `stats` | what holds everything together; configuration; counters |
//! | `link`, `iface` | links and frames; interfaces: addresses, neighbours, groups, send queue, ARP, NDP, SLAAC |
//! | `route`, `ip` | routes; packets in and out, fragments, ICMP, path MTU |
//! | `filter` | the packet filter: rules, connection tracking, address translation |
//! | `gate` | who may begin a connection with a listener |
//! | `demux`, `endpoint`, `datagram` | whom a packet is for; what endpoints have in common |
//! | `udp`, `raw`, `tcp` | the protocols and their handles |
//! | `timers`, `limiter`, `budget`, `ring`, `rxbuf`, `random`, `time` | tools |
//! | `wire` | headers, from and to bytes |
//!
//! # Locks
//! No lock covers the stack. The order, outermost first; a thread takes only locks further down:
//!
//! 1. an interface's turn to send (`tx_turn`; only ever tried, never waited for),
//! 2. an endpoint's state (a listener's before its children's; never two others at once),
//! 3. the tables of `demux`: TIME-WAIT, then connections, then ports; the list of raw endpoints comes before
//!    raw endpoints' own state,
//! 4. `locals`, then one of: routes, interfaces' addresses, neighbours, groups,
//! 5. leaves: timers, send queues, the frame pools (small before large), what is spare of kept pieces, reassembly, path MTUs, limiters, wakers' cells.
//!
//! Wakers and links are called with nothing of 2 to 5 held.
//!
//! # Bounds
//! Every queue and table has a limit, named where it is defined: endpoints, buffer memory, half-open and
//! waiting connections, TIME-WAIT records, out-of-order ranges, segments in flight, fragments, neighbours and
//! the packets waiting for them, routes, addresses, groups, path MTUs, send queues, queued errors. What
//! remote parties can make us send (ICMP, challenge ACKs, answers to bad segments) is limited in rate.
//!
//! # State
//! Plain data: ids instead of pointers into the outside, no closures, all time from one clock. The exceptions
//! are what the caller registers: links, wakers, a gate, clock and random source.

mod admin;
mod budget;
mod config;
mod datagram;
mod demux;
mod endpoint;
mod error;
pub mod filter;
mod gate;
mod iface;
mod ip;
mod limiter;
mod link;
mod random;
mod raw;
mod ring;
mod route;
mod rxbuf;
mod stack;
mod stats;
mod tcp;
mod time;
mod timers;
mod udp;
mod wire;

#[cfg(test)]
mod tests;

pub use admin::IfaceInfo;
pub use config::{Config, Congestion, Ecn, TcpConfig};
pub use datagram::{Datagram, DatagramOptions, QueuedError};
pub use endpoint::{EndpointId, Family, IcmpError, Readiness, Shutdown, Waker};
pub use error::{Error, Result};
pub use gate::{Admission, Gate};
pub use iface::address::IfaceAddr;
pub use iface::neighbor::NeighborState;
pub use iface::{IfaceId, IfaceStats};
pub use link::{Capabilities, Expected, Frame, Gso, Link, PartialChecksum, RxFrame};
pub use random::RandomSource;
pub use raw::{RawKind, RawSocket};
pub use route::{Cidr, RouteEntry};
pub use rxbuf::{Kept, RxBuffer, RxPool};
pub use stack::Stack;
pub use stats::{Counter, Stats};
pub use tcp::{TcpInfo, TcpOptions, TcpSocket, TcpStateName};
pub use time::{Clock, Instant};
pub use udp::UdpSocket;
pub use wire::ethernet::MacAddr;
