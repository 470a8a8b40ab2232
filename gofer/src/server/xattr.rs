//! Extended attributes: the user's own, and file capabilities to look at.

use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, XattrFlags as HostXattrFlags};
use rustix::io::Errno;

use super::{Result, Server};
use crate::protocol::{At, Bytes, FileKind, MAX_XATTR_NAME, MAX_XATTR_VALUE, Reply, XattrFlags};

/// How often a value that grows while it is read is read again.
const ATTEMPTS: usize = 8;

impl Server {
    pub(super) fn get_xattr(&self, at: &At<'_>, name: &[u8]) -> Result<Reply<'static>> {
        check_readable(name)?;
        let Some(fd) = self.open_for_xattr(at)? else { return Err(Errno::NODATA) };
        let value = read_sized(
            || rustix::fs::fgetxattr_query(&fd, name),
            |buffer| rustix::fs::fgetxattr(&fd, name, buffer),
        )?;
        Ok(Reply::Bytes(Bytes::owned(value)))
    }

    pub(super) fn list_xattr(&self, at: &At<'_>) -> Result<Reply<'static>> {
        let Some(fd) = self.open_for_xattr(at)? else {
            return Ok(Reply::Bytes(Bytes::default()));
        };
        let all = read_sized(
            || rustix::fs::flistxattr_query(&fd),
            |buffer| rustix::fs::flistxattr(&fd, buffer),
        )?;
        let mut shown = Vec::with_capacity(all.len());
        for name in all.split_inclusive(|&byte| byte == 0) {
            if check_readable(name.strip_suffix(&[0]).unwrap_or(name)).is_ok() {
                shown.extend_from_slice(name);
            }
        }
        Ok(Reply::Bytes(Bytes::owned(shown)))
    }

    pub(super) fn set_xattr(
        &self,
        at: &At<'_>,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<Reply<'static>> {
        check_writable(name)?;
        if value.len() > MAX_XATTR_VALUE {
            return Err(Errno::TOOBIG);
        }
        let mut host = HostXattrFlags::empty();
        host.set(HostXattrFlags::CREATE, flags.contains(XattrFlags::CREATE));
        host.set(HostXattrFlags::REPLACE, flags.contains(XattrFlags::REPLACE));
        if XattrFlags::from_bits(flags.bits()).is_none() {
            return Err(Errno::INVAL);
        }
        let fd = self.open_to_change_xattr(at)?;
        rustix::fs::fsetxattr(fd, name, value, host)?;
        Ok(Reply::Done)
    }

    pub(super) fn remove_xattr(&self, at: &At<'_>, name: &[u8]) -> Result<Reply<'static>> {
        check_writable(name)?;
        rustix::fs::fremovexattr(self.open_to_change_xattr(at)?, name)?;
        Ok(Reply::Done)
    }

    /// The file, open, or `None` if it is of a kind that has no such attributes.
    fn open_for_xattr(&self, at: &At<'_>) -> Result<Option<OwnedFd>> {
        let found = self.find(at)?;
        if !matches!(found.attr.kind(), FileKind::Regular | FileKind::Directory)
            || found.fd().is_err()
        {
            return Ok(None);
        }
        self.reopen(found.fd()?, OFlags::RDONLY).map(Some)
    }

    fn open_to_change_xattr(&self, at: &At<'_>) -> Result<OwnedFd> {
        let node = self.nodes.get(at.node)?;
        self.writable(&node)?;
        self.open_for_xattr(at)?.ok_or(Errno::PERM)
    }
}

fn check_readable(name: &[u8]) -> Result<()> {
    if name == b"security.capability" { Ok(()) } else { check_writable(name) }
}

fn check_writable(name: &[u8]) -> Result<()> {
    if name.is_empty() || name.len() > MAX_XATTR_NAME {
        return Err(Errno::RANGE);
    }
    match name.strip_prefix(b"user.") {
        Some(b"") => Err(Errno::INVAL),
        Some(_) => Ok(()),
        None => Err(Errno::OPNOTSUPP),
    }
}

/// Reads something whose size has to be asked for first.
fn read_sized(
    size: impl Fn() -> Result<usize>,
    read: impl Fn(&mut [u8]) -> Result<usize>,
) -> Result<Vec<u8>> {
    for _ in 0..ATTEMPTS {
        let mut buffer = vec![0; size()?.min(MAX_XATTR_VALUE)];
        if buffer.is_empty() {
            return Ok(buffer);
        }
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::BUSY)
}
