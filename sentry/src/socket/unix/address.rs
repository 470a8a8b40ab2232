//! Names of local sockets (`unix(7)`): paths, abstract names, and who is bound to which.

use super::Unix;
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::socket::Kind;
use crate::socket::family::AF_UNIX;
use crate::sync::{Mutex, rank};
use crate::vfs::open;
use crate::vfs::permission::{self, Access};
use crate::vfs::walk::{self, WalkContext, WalkFlags};
use crate::vfs::{FileType, Inode, Path};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Size of `struct sockaddr_un`.
const MAX_LEN: usize = 110;

/// The name a socket is bound to.
pub struct Name {
    /// The kind of the socket that has it.
    kind: Kind,
    /// `sun_path` as `getsockname(2)` reports it: a path with its NUL, or a NUL and abstract bytes.
    pub bytes: Vec<u8>,
    /// Where the socket's inode is; keeps it in memory.
    path: Option<Path>,
}

impl Name {
    /// True for one that is not in a file system.
    pub fn is_abstract(&self) -> bool {
        self.path.is_none()
    }

    /// As `/proc/net/unix` shows it.
    pub fn show(&self) -> String {
        let (abstract_name, bytes) = match self.bytes.split_first() {
            Some((0, rest)) => (true, rest),
            _ => (false, self.bytes.strip_suffix(b"\0").unwrap_or(&self.bytes)),
        };
        let text: String =
            bytes.iter().map(|b| if *b == 0 { '@' } else { char::from(*b) }).collect();
        if abstract_name { format!("@{text}") } else { text }
    }
}

/// A `struct sockaddr_un` for a name, or for none.
pub fn sockaddr(name: Option<&Name>) -> Vec<u8> {
    let mut out = (AF_UNIX as u16).to_ne_bytes().to_vec();
    if let Some(name) = name {
        out.extend_from_slice(&name.bytes);
    }
    out
}

/// What a program gave as an address.
#[derive(Debug, PartialEq, Eq)]
pub enum Address<'a> {
    /// Nothing: any free name will do.
    Unnamed,
    /// A path, without NUL.
    Path(&'a [u8]),
    /// Abstract: the bytes from the leading NUL on.
    Abstract(&'a [u8]),
}

/// Takes a `struct sockaddr_un` apart. `EINVAL`.
pub fn parse(addr: &[u8]) -> Result<Address<'_>> {
    if addr.len() > MAX_LEN {
        return Err(Errno::EINVAL);
    }
    let (family, rest) = addr.split_first_chunk::<2>().ok_or(Errno::EINVAL)?;
    if i32::from(u16::from_ne_bytes(*family)) != AF_UNIX {
        return Err(Errno::EINVAL);
    }
    Ok(match rest.first() {
        None => Address::Unnamed,
        Some(0) => Address::Abstract(rest),
        Some(_) => Address::Path(rest.split(|b| *b == 0).next().unwrap_or_default()),
    })
}

/// An abstract name: each kind of socket has its own.
type AbstractName = (Kind, Vec<u8>);

/// Abstract names in use.
static ABSTRACT: Mutex<Option<HashMap<AbstractName, super::WeakUnix>>, { rank::LEAF }> =
    Mutex::new(None);
static NEXT_AUTO: AtomicU32 = AtomicU32::new(0x1f2a3);

/// On the inode of a bound socket: which one it is.
struct BoundSocket(super::WeakUnix);

fn bind_abstract(bytes: &[u8], kind: Kind, socket: super::WeakUnix) -> Result<Arc<Name>> {
    let mut names = ABSTRACT.lock();
    let names = names.get_or_insert_default();
    let key = (kind, bytes.to_vec());
    if names.get(&key).is_some_and(|s| s.upgrade().is_some()) {
        return Err(Errno::EADDRINUSE);
    }
    names.insert(key, socket);
    Ok(Arc::new(Name { bytes: bytes.to_vec(), kind, path: None }))
}

/// Binds to any free abstract name (five hexadecimal digits). `ENOSPC` when there is none.
pub fn autobind(kind: Kind, socket: super::WeakUnix) -> Result<Arc<Name>> {
    for _ in 0..1 << 20 {
        let n = NEXT_AUTO.fetch_add(1, Ordering::Relaxed) & 0xf_ffff;
        let bytes = format!("\0{n:05x}").into_bytes();
        match bind_abstract(&bytes, kind, socket.clone()) {
            Err(Errno::EADDRINUSE) => {}
            other => return other,
        }
    }
    Err(Errno::ENOSPC)
}

/// Binds a socket. `EADDRINUSE`, and whatever making the inode fails with. Where programs outside can connect, there is
/// a socket of the host's besides, which listens.
pub fn bind(
    t: &CurrentTask,
    addr: &[u8],
    kind: Kind,
    socket: super::WeakUnix,
) -> Result<(Arc<Name>, Option<OwnedFd>)> {
    let path = match parse(addr)? {
        Address::Unnamed => return Ok((autobind(kind, socket)?, None)),
        Address::Abstract(bytes) => return Ok((bind_abstract(bytes, kind, socket)?, None)),
        Address::Path(path) => path,
    };
    let ctx = WalkContext::of(t);
    let parent = walk::resolve_parent(&ctx, ctx.cwd.clone(), path)?;
    let name = parent.name(Errno::EADDRINUSE)?;
    if parent.slash {
        return Err(Errno::ENOENT);
    }
    let mode = FileType::Socket as u32 | 0o777;
    let (dir, mut outside) = (parent.dir.inode(), None);
    let make = |mode, owner| match dir.bind_outside(name, kind, mode, owner) {
        None => dir.create(name, mode, 0, owner),
        Some(bound) => bound.map(|(inode, fd)| {
            outside = Some(fd);
            inode
        }),
    };
    let (dentry, new) = open::create_with(&ctx, &parent.dir, name, mode, make)?;
    if !new {
        return Err(Errno::EADDRINUSE);
    }
    let at = Path { mount: parent.dir.mount.clone(), dentry };
    at.inode().attachments().set(Arc::new(BoundSocket(socket)));
    let mut bytes = path.to_vec();
    bytes.push(0);
    Ok((Arc::new(Name { bytes, kind, path: Some(at) }), outside))
}

/// Who is at an address.
pub enum Found {
    /// A socket of the sandbox.
    Inside(Unix),
    /// Nobody of the sandbox; a program outside may have bound this.
    Outside(Arc<dyn Inode>),
}

impl Found {
    /// A connection of the host's with a program outside. `ECONNREFUSED` where there is none.
    pub fn connect(inode: &Arc<dyn Inode>, kind: Kind) -> Result<OwnedFd> {
        inode.connect_outside(kind).unwrap_or(Err(Errno::ECONNREFUSED))
    }
}

/// A bound socket goes: its name becomes free (a path stays, but leads to nobody).
pub fn unbind(name: &Name) {
    match &name.path {
        Some(path) => {
            let old = path.inode().attachments().remove::<BoundSocket>();
            drop(old);
        }
        None => {
            let key = (name.kind, name.bytes.clone());
            let old = ABSTRACT.lock().as_mut().and_then(|names| names.remove(&key));
            drop(old);
        }
    }
}

/// The socket bound to an address; of this kind, if the name is abstract. `ECONNREFUSED` if nobody can be, `EACCES` without write
/// permission.
pub fn find(t: &CurrentTask, addr: &[u8], kind: Kind) -> Result<Found> {
    let found = match parse(addr)? {
        // Linux takes an empty address for the empty abstract name here.
        Address::Unnamed => return Err(Errno::EINVAL),
        Address::Abstract(bytes) => {
            let key = (kind, bytes.to_vec());
            ABSTRACT.lock().as_ref().and_then(|names| names.get(&key).cloned())
        }
        Address::Path(path) => {
            let ctx = WalkContext::of(t);
            let at = walk::resolve(&ctx, ctx.cwd.clone(), path, WalkFlags::FOLLOW)?;
            permission::check(at.inode().as_ref(), &ctx.creds, Access::WRITE)?;
            if at.dentry.file_type() != FileType::Socket {
                return Err(Errno::ECONNREFUSED);
            }
            let bound = at.inode().attachments().get::<BoundSocket>().map(|b| b.0.clone());
            match bound.and_then(|s| s.upgrade()) {
                Some(socket) => return Ok(Found::Inside(socket)),
                None => return Ok(Found::Outside(at.inode().clone())),
            }
        }
    };
    found.and_then(|s| s.upgrade()).map(Found::Inside).ok_or(Errno::ECONNREFUSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(parse(b"\x01\0"), Ok(Address::Unnamed));
        assert_eq!(parse(b"\x01\0/a\0b"), Ok(Address::Path(b"/a")));
        assert_eq!(parse(b"\x01\0\0a\0b"), Ok(Address::Abstract(b"\0a\0b")));
        assert_eq!(parse(b"\x02\0/a"), Err(Errno::EINVAL));
        assert_eq!(parse(b"\x01"), Err(Errno::EINVAL));
        assert_eq!(parse(&[1; 111]), Err(Errno::EINVAL));
        let name = Name { bytes: b"\0a\0b".to_vec(), kind: Kind::Stream, path: None };
        assert_eq!(name.show(), "@a@b");
        assert_eq!(sockaddr(Some(&name)), b"\x01\0\0a\0b");
    }
}
