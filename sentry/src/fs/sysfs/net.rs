//! `/sys/class/net`: interfaces as directories.

use crate::errno::{Errno, Result};
use crate::fs::pseudo::{Directory, Listed, Node, directory, text_fn};
use crate::socket::inet::Net;
use crate::socket::inet::interface::{IFF_UP, Interface};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The directory; it shows the network of whoever looks.
pub struct Interfaces;

fn network() -> Result<Arc<Net>> {
    let task = crate::kernel::current().ok_or(Errno::ENOENT)?;
    Ok(Net::of(&task))
}

impl Directory for Interfaces {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let net = network()?;
        let interfaces = net.interfaces.read();
        let found = interfaces.named(name).ok_or(Errno::ENOENT)?;
        Ok(interface(found, &net))
    }

    fn list(&self) -> Result<Vec<Listed>> {
        let net = network()?;
        let names: Vec<_> = net.interfaces.read().iter().map(|i| i.name.clone()).collect();
        Ok(names.into_iter().map(Listed::directory).collect())
    }
}

fn interface(i: &Interface, net: &Arc<Net>) -> Node {
    let up = i.flags & IFF_UP != 0;
    let mac: Vec<String> = i.mac.iter().map(|b| format!("{b:02x}")).collect();
    let line = |value: String| text_fn(move || format!("{value}\n"));
    let counter = |bytes: bool| {
        let net = Arc::downgrade(net);
        text_fn(move || {
            let net = net.upgrade();
            let value = net.map_or(0, |net| {
                let c = &net.counters;
                (if bytes { &c.lo_bytes } else { &c.lo_packets }).load(Ordering::Relaxed)
            });
            format!("{value}\n")
        })
    };
    let zero = || line("0".into());
    directory(vec![
        ("address", line(mac.join(":"))),
        ("addr_len", line("6".into())),
        ("broadcast", line("00:00:00:00:00:00".into())),
        ("carrier", line(u8::from(up).to_string())),
        ("dev_id", line("0x0".into())),
        ("flags", line(format!("{:#x}", i.flags & !0x40))),
        ("ifindex", line(i.index.to_string())),
        ("iflink", line(i.index.to_string())),
        ("mtu", line(i.mtu.to_string())),
        ("operstate", line(if up { "unknown" } else { "down" }.into())),
        (
            "statistics",
            directory(vec![
                ("rx_bytes", counter(true)),
                ("rx_dropped", zero()),
                ("rx_errors", zero()),
                ("rx_packets", counter(false)),
                ("tx_bytes", counter(true)),
                ("tx_dropped", zero()),
                ("tx_errors", zero()),
                ("tx_packets", counter(false)),
            ]),
        ),
        ("tx_queue_len", line("1000".into())),
        ("type", line(i.kind.to_string())),
    ])
}
