//! Docker's name server: its daemon listens at 127.0.0.11 inside the network namespace of a container that is in a network
//! which users have made, and redirects port 53 there. A proxy process in the namespace lets the sandbox reach it.

use super::helper::Helper;
use super::user;
use crate::cli::HostSeccomp;
use sentry::boot::UserNetwork;
use std::net::Ipv4Addr;

/// Where it listens.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// Where it is asked.
const PORT: u16 = 53;

/// Starts the proxy if somebody listens there in this process's network namespace.
pub fn start(attached: bool, mode: HostSeccomp) -> anyhow::Result<Option<(Helper, UserNetwork)>> {
    // Of this process: `self` is followed to the namespace that it is in now.
    let sockets = std::fs::read_to_string("/proc/self/net/udp").unwrap_or_default();
    if !listens(&sockets) {
        return Ok(None);
    }
    user::start_for_names((ADDRESS, PORT).into(), attached, mode).map(Some)
}

/// True if a line of `/proc/net/udp` is a socket bound to the address, whatever its port.
fn listens(sockets: &str) -> bool {
    // Hexadecimal, in the byte order of the machine.
    let prefix = format!("{:08X}:", u32::from_ne_bytes(ADDRESS.octets()));
    let local = |line: &str| line.split_ascii_whitespace().nth(1).map(str::to_owned);
    sockets.lines().filter_map(local).any(|address| address.starts_with(&prefix))
}

#[cfg(test)]
mod tests {
    use super::listens;

    #[test]
    fn sockets() {
        let head = "   sl  local_address rem_address   st\n";
        let line = |at: &str| format!("{head}  387: {at} 00000000:0000 07 00000000:00000000\n");
        assert!(listens(&line("0B00007F:A2C3")));
        assert!(!listens(&line("0100007F:0035")));
        assert!(!listens(head));
    }
}
