//! Opening files for the sentry: the descriptors that leave this process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::node::File;
use super::resolve::{Found, fd_errno};
use super::stat::stat_fd;
use super::{Result, Server};
use crate::protocol::{At, FileKind, OpenFlags, Reach, Reply};

/// Never waits (for a lease holder, say), never becomes a controlling terminal, never leaks.
const ALWAYS: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// A reply and the descriptor that goes with it.
pub(super) type Answer<'a> = (Reply<'a>, Option<OwnedFd>);

impl Server {
    /// Opens a regular file, or a FIFO of an export that leads to them, and donates it.
    pub(super) fn open(
        &self,
        at: &At<'_>,
        flags: OpenFlags,
        want_node: bool,
    ) -> Result<Answer<'static>> {
        let found = self.find(at)?;
        match found.attr.kind() {
            FileKind::Regular => {}
            FileKind::Fifo if self.export_of(&found.node)?.reach.contains(Reach::FIFO) => {}
            FileKind::Directory => return Err(Errno::ISDIR),
            FileKind::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::NXIO),
        }
        let host_flags = host_flags(flags)?;
        if flags.contains(OpenFlags::WRITE) {
            self.writable(&found.node)?;
        }
        let fd = self.reopen(found.fd()?, host_flags)?;
        // Cutting the file changed what was known about it.
        let attr = if flags.contains(OpenFlags::TRUNCATE) { stat_fd(&fd)? } else { found.attr };
        let node = if want_node { Some(self.hold(found.node)?) } else { None };
        Ok((Reply::Node { node, attr }, Some(fd)))
    }

    /// Opens the file behind a descriptor once more, with access.
    pub(super) fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
        let name = descriptor_name(fd);
        rustix::fs::openat(&self.fds, name.as_str(), flags | ALWAYS, Mode::empty())
            .map_err(fd_errno)
    }

    /// The entry of `/proc/self/fd` for `fd`: a name for calls that take no descriptor.
    pub(super) fn by_name<T>(
        &self,
        fd: BorrowedFd<'_>,
        call: impl FnOnce(BorrowedFd<'_>, &str) -> Result<T>,
    ) -> Result<T> {
        call(self.fds.as_fd(), descriptor_name(fd).as_str())
    }

    /// A file as the reply that describes it.
    pub(super) fn describe(found: &Found) -> Reply<'static> {
        Reply::Node { node: None, attr: found.attr }
    }

    /// The file open as `fd`, reached from `dir`, held for the sentry.
    pub(super) fn hold_opened(
        &self,
        export: usize,
        fd: BorrowedFd<'_>,
    ) -> Result<crate::protocol::NodeId> {
        let fd = self.reopen(fd, OFlags::PATH)?;
        let attr = stat_fd(&fd)?;
        self.nodes.insert(super::node::Node { export, file: File::Open { fd, attr } })
    }
}

pub(super) fn descriptor_name(fd: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd;
    fd.as_raw_fd().to_string()
}

/// What the sentry may ask for, as `open(2)` has it.
fn host_flags(flags: OpenFlags) -> Result<OFlags> {
    if OpenFlags::from_bits(flags.bits()).is_none() {
        return Err(Errno::INVAL);
    }
    let mut host = match (flags.contains(OpenFlags::READ), flags.contains(OpenFlags::WRITE)) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (true, false) => OFlags::RDONLY,
        (false, false) => return Err(Errno::INVAL),
    };
    if flags.contains(OpenFlags::TRUNCATE) {
        if !flags.contains(OpenFlags::WRITE) {
            return Err(Errno::INVAL);
        }
        host |= OFlags::TRUNC;
    }
    host.set(OFlags::APPEND, flags.contains(OpenFlags::APPEND));
    host.set(OFlags::SYNC, flags.contains(OpenFlags::SYNC));
    host.set(OFlags::DIRECT, flags.contains(OpenFlags::DIRECT));
    if flags.contains(OpenFlags::DSYNC) {
        host |= OFlags::from_bits_retain(libc::O_DSYNC.unsigned_abs());
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_flags_reach_the_host() {
        assert_eq!(host_flags(OpenFlags::READ), Ok(OFlags::RDONLY));
        assert_eq!(
            host_flags(OpenFlags::READ | OpenFlags::WRITE | OpenFlags::TRUNCATE),
            Ok(OFlags::RDWR | OFlags::TRUNC)
        );
        assert_eq!(host_flags(OpenFlags::empty()), Err(Errno::INVAL));
        assert_eq!(host_flags(OpenFlags::READ | OpenFlags::TRUNCATE), Err(Errno::INVAL));
        assert_eq!(host_flags(OpenFlags::from_bits_retain(1 | 1 << 30)), Err(Errno::INVAL));
    }
}
