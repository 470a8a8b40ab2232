//! Local sockets (`unix(7)`).
//!
//! * [`conn`]: streams and sequenced packets, which are connected. [`dgram`]: datagrams.
//! * [`outside`]: programs outside the sandbox as the other side. [`address`]: names. [`message`]: what lies in receive queues. [`rights`]: files in flight.

pub mod address;
pub mod conn;
pub mod dgram;
pub mod message;
mod oob;
mod outside;
pub mod rights;

use super::family::{AF_UNIX, Family, Pair};
use super::{Kind, OptionValue, Options, Socket, SocketFile, Ucred};
use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, landlock};
use crate::socket::options::so;
use crate::sync::{Mutex, rank};
use crate::vfs::File;
use conn::ConnSocket;
use dgram::DgramSocket;
use rights::Rights;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// A local socket of any kind.
#[derive(Clone)]
pub enum Unix {
    /// Stream or sequenced packets.
    Conn(Arc<ConnSocket>),
    /// Datagrams.
    Dgram(Arc<DgramSocket>),
}

/// As [`Unix`], without keeping it alive.
#[derive(Clone)]
pub enum WeakUnix {
    /// Stream or sequenced packets.
    Conn(Weak<ConnSocket>),
    /// Datagrams.
    Dgram(Weak<DgramSocket>),
}

impl WeakUnix {
    /// The socket, if it is still there.
    pub fn upgrade(&self) -> Option<Unix> {
        match self {
            WeakUnix::Conn(s) => s.upgrade().map(Unix::Conn),
            WeakUnix::Dgram(s) => s.upgrade().map(Unix::Dgram),
        }
    }
}

/// `AF_UNIX`.
pub struct UnixFamily;

fn kind_of(kind: i32, protocol: i32) -> Result<Kind> {
    if protocol != 0 && protocol != AF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match super::family::kind(kind) {
        // Linux makes datagram sockets of raw ones.
        Some(Kind::Raw) => Ok(Kind::Dgram),
        Some(kind) => Ok(kind),
        None => Err(Errno::ESOCKTNOSUPPORT),
    }
}

impl Family for UnixFamily {
    fn number(&self) -> i32 {
        AF_UNIX
    }

    fn create(&self, t: &CurrentTask, kind: i32, protocol: i32) -> Result<Arc<dyn Socket>> {
        Ok(match kind_of(kind, protocol)? {
            Kind::Dgram => DgramSocket::new(Options::new(t)),
            kind => ConnSocket::new(kind, Options::new(t)),
        })
    }

    fn pair(&self, t: &CurrentTask, kind: i32, protocol: i32) -> Result<Pair> {
        let credentials = PeerCreds::of(t);
        Ok(match kind_of(kind, protocol)? {
            Kind::Dgram => {
                let (a, b) = DgramSocket::pair([0; 2].map(|_| Options::new(t)), credentials);
                (a, b)
            }
            kind => {
                let options = [0; 2].map(|_| Options::new(t));
                let (a, b) = ConnSocket::pair(kind, options, credentials);
                (a, b)
            }
        })
    }
}

/// Who the peer is (`SO_PEERCRED`, `SO_PEERGROUPS`).
#[derive(Debug, Clone)]
pub struct PeerCreds {
    /// Ids.
    pub ucred: Ucred,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl PeerCreds {
    /// The task itself, as others see it.
    pub fn of(t: &CurrentTask) -> PeerCreds {
        let creds = t.creds();
        let ucred = Ucred { pid: t.tgid(), uid: creds.euid, gid: creds.egid };
        PeerCreds { ucred, groups: creds.groups.clone() }
    }
}

/// Whether a task may connect, or send, to a socket: `EPERM` if its restrictions keep it from abstract names of
/// others (`landlock(7)`).
fn check_scope(t: &CurrentTask, name: Option<Arc<address::Name>>, options: &Options) -> Result<()> {
    if t.creds().landlock.is_none() || !name.is_some_and(|name| name.is_abstract()) {
        return Ok(());
    }
    landlock::scope::check_abstract(t.creds(), options.landlock.as_deref())
}

/// Options that local sockets have beyond [`Options`].
fn get_option(peer: Option<&PeerCreds>, level: i32, name: i32) -> Result<OptionValue> {
    if level != super::SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP);
    }
    match name {
        so::PEERCRED => {
            let seen = |c: Ucred| crate::kernel::current().map_or(c, |task| c.seen_by(&task));
            // Without a peer the ids are none, not those of somebody without a name.
            let none = Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
            let c = peer.map_or(none, |peer| seen(peer.ucred));
            let words = [c.pid.to_ne_bytes(), c.uid.to_ne_bytes(), c.gid.to_ne_bytes()];
            Ok(OptionValue::Bytes(words.concat()))
        }
        so::PEERGROUPS => {
            let groups = &peer.ok_or(Errno::ENODATA)?.groups;
            Ok(OptionValue::Bytes(groups.iter().flat_map(|g| g.to_ne_bytes()).collect()))
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}

fn set_option(level: i32) -> Result<()> {
    Err(if level == super::SOL_SOCKET { Errno::ENOPROTOOPT } else { Errno::EOPNOTSUPP })
}

fn unix_of(file: &File) -> Option<Unix> {
    let socket = file.ops_as::<SocketFile>()?.socket();
    let any = socket.as_any();
    if let Some(conn) = any.downcast_ref::<ConnSocket>() {
        return conn.this().map(Unix::Conn);
    }
    any.downcast_ref::<DgramSocket>()?.this().map(Unix::Dgram)
}

/// Ids of the files in flight in a socket's receive queue (and those of connections it has not
/// accepted yet), one for each reference.
fn held_by(file: &File) -> Vec<u64> {
    let mut out = Vec::new();
    let mut note = |rights: &Rights| out.extend(rights.files().iter().map(|f| f.id()));
    match unix_of(file) {
        Some(Unix::Conn(s)) => s.each_rights(&mut note),
        Some(Unix::Dgram(s)) => s.each_rights(&mut note),
        None => {}
    }
    out
}

/// Takes all files in flight out of a socket's receive queue.
fn take_rights(file: &File) -> Vec<Rights> {
    match unix_of(file) {
        Some(Unix::Conn(s)) => s.take_rights(),
        Some(Unix::Dgram(s)) => s.take_rights(),
        None => Vec::new(),
    }
}

/// Every local socket, for `/proc/net/unix`.
static ALL: Mutex<Vec<WeakUnix>, { rank::LEAF }> = Mutex::new(Vec::new());

/// Notes a new socket; those that are gone are forgotten now and then.
fn note(socket: WeakUnix) {
    let mut all = ALL.lock();
    if all.len().is_power_of_two() {
        all.retain(|s| match s {
            WeakUnix::Conn(s) => s.strong_count() > 0,
            WeakUnix::Dgram(s) => s.strong_count() > 0,
        });
    }
    all.push(socket);
}

/// The contents of `/proc/net/unix`.
pub fn proc_net_unix() -> String {
    use std::fmt::Write;
    let mut out = String::from("Num       RefCount Protocol Flags    Type St Inode Path\n");
    let sockets: Vec<Unix> = ALL.lock().iter().filter_map(WeakUnix::upgrade).collect();
    for socket in sockets {
        let (kind, listening, connected, name, options) = match &socket {
            Unix::Conn(s) => (s.kind(), s.is_listening(), s.is_connected(), s.name(), s.options()),
            Unix::Dgram(s) => (s.kind(), false, s.is_connected(), s.name(), s.options()),
        };
        // `SS_UNCONNECTED` and `SS_CONNECTED`; a listener shows `__SO_ACCEPTCON`.
        let flags = if listening { 0x10000 } else { 0 };
        let state = if connected { 3 } else { 1 };
        let ino = options.ino.load(Ordering::Relaxed);
        let _ = write!(
            out,
            "{:016x}: {:08X} {:08X} {flags:08X} {:04X} {state:02X} {ino:5}",
            0, 2, 0, kind as i32
        );
        if let Some(name) = name {
            let _ = write!(out, " {}", name.show());
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests;
