//! One channel: from datagram to datagram.

use rustix::io::Errno;

use super::list::Lister;
use super::open::Answer;
use super::stat::statfs_fd;
use super::{Result, Server};
use crate::protocol::{
    Bytes, Envelope, FileKind, MAGIC, MAX_FORGET, Reply, Request, Transport, TransportError,
    VERSION,
};

/// What one channel remembers between requests.
#[derive(Debug, Default)]
pub(super) struct Session {
    greeted: bool,
    lister: Lister,
}

/// What becomes of the channel after an answer.
enum Next<'a> {
    Stay(Answer<'a>),
    Close(Errno),
}

impl Server {
    /// Answers on one channel until it is closed, by either side.
    pub(super) fn answer(&self, transport: &mut Transport) {
        let mut session = Session::default();
        loop {
            let next = match transport.receive::<Envelope<'_>>() {
                Ok((envelope, None)) => self.handle(&envelope, &mut session),
                // The sentry has nothing to send a descriptor for.
                Ok((_, Some(_)))
                | Err(TransportError::Malformed(_) | TransportError::NoDescriptor) => {
                    Next::Close(Errno::PROTO)
                }
                Err(_) => return,
            };
            let (reply, fd, stay) = match next {
                Next::Stay((reply, fd)) => (reply, fd, true),
                Next::Close(errno) => (Reply::Error(errno.raw_os_error()), None, false),
            };
            let sent = match transport.send(&reply, fd.as_ref().map(std::os::fd::AsFd::as_fd)) {
                // Cannot happen with the bounds there are; if it does, it is this request's error.
                Err(TransportError::TooLarge) => {
                    transport.send(&Reply::Error(Errno::MSGSIZE.raw_os_error()), None)
                }
                sent => sent,
            };
            if sent.is_err() || !stay {
                transport.shutdown();
                return;
            }
        }
    }

    fn handle<'a>(&self, envelope: &Envelope<'_>, session: &'a mut Session) -> Next<'a> {
        if envelope.forget.len() > MAX_FORGET {
            return Next::Close(Errno::PROTO);
        }
        match envelope.request {
            Request::Hello { magic: MAGIC, version: VERSION } if !session.greeted => {
                session.greeted = true;
                let exports = u32::try_from(self.exports.len()).unwrap_or(u32::MAX);
                return Next::Stay((Reply::Hello { version: VERSION, exports }, None));
            }
            Request::Hello { .. } => return Next::Close(Errno::PROTO),
            _ if !session.greeted => return Next::Close(Errno::PROTO),
            _ => {}
        }
        // Before the request: it may need the descriptors that this frees.
        self.nodes.forget(&envelope.forget);
        if !matches!(envelope.request, Request::ListNext) {
            session.lister.stop();
        }
        match self.perform(&envelope.request, session) {
            Ok(answer) => Next::Stay(answer),
            Err(errno) => Next::Stay((Reply::Error(errno.raw_os_error()), None)),
        }
    }

    fn perform<'a>(&self, request: &Request<'_>, session: &'a mut Session) -> Result<Answer<'a>> {
        let reply = match request {
            Request::Hello { .. } => return Err(Errno::PROTO),
            Request::Nop => Reply::Done,
            Request::Attach { export } => {
                let found = self.attach(*export)?;
                let (attr, reach) = (found.attr, self.export_of(&found.node)?.reach);
                Reply::Root { node: self.hold(found.node)?, attr, reach }
            }
            Request::Walk { at, want_node } => self.walk(at, *want_node)?,
            Request::Stat { at } => Self::describe(&self.find(at)?),
            Request::List { at, want_node, options } => {
                session.lister.start(self, at, *want_node, *options)?
            }
            Request::ListNext => session.lister.next(self)?,
            Request::Open { at, flags, want_node } => return self.open(at, *flags, *want_node),
            Request::Create { at, mode, flags, owner } => {
                return self.create(at, *mode, *flags, *owner);
            }
            Request::CreateUnnamed { at, mode, owner } => {
                return self.create_unnamed(at, *mode, *owner);
            }
            Request::Mkdir { at, mode, owner, want_node } => {
                self.mkdir(at, *mode, *owner, *want_node)?
            }
            Request::Symlink { at, target, owner } => self.symlink(at, target, *owner)?,
            Request::Mknod { at, mode, owner } => self.mknod(at, *mode, *owner)?,
            Request::Link { from, to } => self.link(from, to)?,
            Request::Unlink { at } => self.unlink(at, false)?,
            Request::Rmdir { at } => self.unlink(at, true)?,
            Request::Rename { from, to, flags } => self.rename(from, to, *flags)?,
            Request::SetAttr { at, set } => self.set_attr(at, set)?,
            Request::Readlink { at } => {
                let found = self.find(at)?;
                if found.attr.kind() != FileKind::Symlink {
                    return Err(Errno::INVAL);
                }
                Reply::Bytes(Bytes::owned(super::resolve::read_link(found.fd()?)?))
            }
            Request::Statfs { at } => {
                let found = self.find(at)?;
                // A hidden directory seems to lie on the file system of its export's root.
                let root = self.export_of(&found.node)?.root();
                Reply::Statfs(statfs_fd(found.fd().unwrap_or(root))?)
            }
            Request::Fsync { at, data_only } => self.fsync(at, *data_only)?,
            Request::GetXattr { at, name } => self.get_xattr(at, name)?,
            Request::ListXattr { at } => self.list_xattr(at)?,
            Request::SetXattr { at, name, value, flags } => {
                self.set_xattr(at, name, value, *flags)?
            }
            Request::RemoveXattr { at, name } => self.remove_xattr(at, name)?,
            Request::Connect { at, kind } => return self.connect(at, *kind),
            Request::NewWatcher => return self.new_watcher(),
            Request::Watch { watcher, at } => self.watch(*watcher, at)?,
            Request::Unwatch { watcher, number } => self.unwatch(*watcher, *number)?,
            Request::Bind { at, kind, mode, owner } => {
                return self.bind(at, *kind, *mode, *owner);
            }
        };
        Ok((reply, None))
    }
}
