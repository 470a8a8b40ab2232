//! The packet filter, as connections meet it that other machines begin: rules for what is received may turn them to another
//! port, refuse or drop them.

use crate::socket::inet::Net;
use crate::socket::inet::addr::Endpoint;
use crate::sync::{Mutex, rank};
use netstack::filter::Refusal;
use netstack::{Admission, Gate, IfaceId};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Weak;

/// Connections that were turned to another port and are not established yet.
const MAX_TURNED: usize = 4096;

type Ends = (SocketAddr, SocketAddr);

#[derive(Default)]
struct Turned {
    ports: FxHashMap<Ends, u16>,
    order: VecDeque<Ends>,
}

impl Turned {
    fn insert(&mut self, ends: Ends, port: u16) {
        if self.ports.insert(ends, port).is_none() {
            self.order.push_back(ends);
        }
        while self.order.len() > MAX_TURNED {
            if let Some(oldest) = self.order.pop_front() {
                self.ports.remove(&oldest);
            }
        }
    }
}

/// The rules of a network.
pub struct InputGate {
    net: Weak<Net>,
    turned: Mutex<Turned, { rank::LEAF }>,
}

impl InputGate {
    /// Those of `net`.
    pub fn new(net: Weak<Net>) -> InputGate {
        InputGate { net, turned: Mutex::default() }
    }
}

impl Gate for InputGate {
    fn admit(&self, syn: bool, from: SocketAddr, to: SocketAddr, iface: IfaceId) -> Admission {
        let Some(net) = self.net.upgrade() else { return Admission::Drop };
        if !net.is_filtered() {
            return Admission::Pass(to.port());
        }
        if !syn {
            let port = self.turned.lock().ports.get(&(from, to)).copied();
            return Admission::Pass(port.unwrap_or(to.port()));
        }
        let peer = Endpoint::new(from.ip(), from.port());
        let local = Endpoint::new(to.ip(), to.port());
        match net.filter_connection(peer, local, iface.0) {
            Ok(at) => {
                if at.port != to.port() {
                    self.turned.lock().insert((from, to), at.port);
                }
                Admission::Pass(at.port)
            }
            Err(None) => Admission::Drop,
            Err(Some(Refusal::Reset)) => Admission::Reset,
            Err(Some(Refusal::Icmp(kind, code))) => Admission::Unreachable(kind, code),
        }
    }
}
