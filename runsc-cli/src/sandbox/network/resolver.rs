//! The host's name servers (`resolv.conf(5)`), and what a sandbox is told of them.

use crate::sandbox::Exports;
use anyhow::Context;
use netproxy::address::{DNS, RESOLVER};
use nix::sys::stat::{Mode, fchmod};
use sentry::boot::{MountKind, MountSpec};
use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where the list is, on the host and in the sandbox.
const PATH: &str = "/etc/resolv.conf";
/// The servers that systemd-resolved asks.
const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";

/// The name servers, and everything else of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolver {
    /// The servers, in order.
    pub servers: Vec<SocketAddr>,
    /// Other lines: search list and options.
    rest: String,
}

impl Resolver {
    /// The host's. Without a file there is, by convention, a server on the host itself.
    pub fn of_host() -> Self {
        Self::parse(&std::fs::read_to_string(PATH).unwrap_or_default())
    }

    /// The servers that a sandbox with interfaces of its own can reach: those on the host itself are its stubs,
    /// behind which systemd-resolved names the others.
    pub fn remote_of_host() -> Vec<IpAddr> {
        let servers = [
            Some(Self::of_host()),
            std::fs::read_to_string(BEHIND_STUB).ok().map(|text| Self::parse(&text)),
        ];
        let all = servers.into_iter().flatten().flat_map(|resolver| resolver.servers);
        all.map(|server| server.ip().to_canonical()).filter(|ip| !ip.is_loopback()).collect()
    }

    fn parse(text: &str) -> Self {
        let mut servers = Vec::new();
        let mut rest = String::new();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match (words.next(), words.next()) {
                (Some("nameserver"), Some(server)) => {
                    // A server on a link is reached by the link's name, which the proxy does not know.
                    if let Ok(ip) = server.parse::<IpAddr>() {
                        servers.push(SocketAddr::new(ip, DNS));
                    }
                }
                (Some("search" | "domain" | "options" | "sortlist"), Some(_)) => {
                    rest.push_str(line);
                    rest.push('\n');
                }
                _ => {}
            }
        }
        if servers.is_empty() {
            servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DNS));
        }
        Self { servers, rest }
    }

    /// A mount that tells programs of the proxy's name server instead; `None` where the container brings its own
    /// file.
    pub fn mount(
        &self,
        mounts: &[MountSpec],
        exports: &mut Exports,
    ) -> anyhow::Result<Option<MountSpec>> {
        if mounts.iter().any(|mount| mount.destination == PATH) {
            return Ok(None);
        }
        let file = self.file().context("cannot make a file for the sandbox's /etc/resolv.conf")?;
        let kind = MountKind::Gofer { export: exports.add_file(file)?, overlay: None };
        let (destination, source, flags) = (PATH.into(), None, libc::MS_RDONLY);
        Ok(Some(MountSpec { destination, kind, source, flags }))
    }

    /// The file, which has no name. Not a memory file: Landlock has no rules for these.
    fn file(&self) -> std::io::Result<File> {
        let mut file = tempfile::tempfile()?;
        write!(file, "nameserver {RESOLVER}\n{}", self.rest)?;
        fchmod(&file, Mode::from_bits_truncate(0o444))?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let of = |text: &str| {
            let Resolver { servers, rest } = Resolver::parse(text);
            (servers.iter().map(ToString::to_string).collect::<Vec<_>>(), rest)
        };
        let text = "# x\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\nsearch a b\nnonsense\n";
        let expected = vec!["192.0.2.1:53".to_string(), "[2001:db8::1]:53".to_string()];
        assert_eq!(of(text), (expected, "search a b\n".to_string()));
        assert_eq!(of("nameserver fe80::1%eth0\n").0, ["127.0.0.1:53"]);
        assert_eq!(of("").0, ["127.0.0.1:53"]);
    }
}
