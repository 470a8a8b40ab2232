//! Tests of the whole stack, at the level of packets and of simulated networks.
//!
//! `bench` has a stack on a link whose other end is the test; `peer` a scripted TCP peer on it; `sim` whole
//! networks of stacks. Each of the other files has a topic.

pub(crate) mod bench;
pub(crate) mod peer;
mod sim;

mod admin;
mod arp;
mod filter;
mod flood;
mod icmp;
mod ipv4;
mod ipv6;
mod multicast;
mod offload;
mod raw;
mod tcp_ack;
mod tcp_close;
mod tcp_ecn;
mod tcp_handshake;
mod tcp_keepalive;
mod tcp_listen;
mod tcp_loopback;
mod tcp_loss;
mod tcp_options;
mod tcp_pmtu;
mod tcp_reset;
mod tcp_send;
mod tcp_time_wait;
mod tcp_urgent;
mod tcp_window;
mod throughput;
mod udp;
