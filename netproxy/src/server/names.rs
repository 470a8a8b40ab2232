//! Questions to the host's name server over TCP, where a policy has to see them: the guest's connection ends here, and
//! whole messages go between it and the server's.

use super::rules::Rules;
use super::{Token, Watch};
use crate::policy::frames::{Frames, frame};
use crate::policy::guard::Asked;
use crate::protocol::Program;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, socketpair,
};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

/// Bytes that are taken at a time.
const CHUNK: usize = 16 << 10;
/// Bytes that wait to be sent, after which nothing more is taken.
const MAX_WAITING: usize = 64 << 10;

/// One side of such a connection.
#[derive(Debug)]
struct Side {
    fd: OwnedFd,
    /// What has come, up to a whole message.
    incoming: Frames,
    /// What is to be sent.
    waiting: Vec<u8>,
    /// Nothing more comes.
    ended: bool,
    /// It was told that nothing more comes from here.
    shut: bool,
    interest: EventFlags,
}

#[derive(Debug)]
struct Connection {
    guest: Side,
    server: Side,
    program: Program,
}

/// All of them, by the sentry's name for its socket.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<u64, Connection>);

impl Side {
    fn new(fd: OwnedFd) -> Self {
        let (incoming, waiting, interest) = (Frames::default(), Vec::new(), EventFlags::IN);
        Self { fd, incoming, waiting, ended: false, shut: false, interest }
    }

    /// Takes what has come. `Err` at a failure.
    fn read(&mut self) -> Result<(), Errno> {
        let mut buffer = [0; CHUNK];
        match rustix::net::recv(&self.fd, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.ended = true,
            Ok((n, _)) => self.incoming.push(buffer.get(..n).unwrap_or_default()),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Sends what it can; with `last` that nothing more comes, once all has gone.
    fn write(&mut self, last: bool) -> Result<(), Errno> {
        if !self.waiting.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&self.fd, &self.waiting, flags) {
                Ok(n) => drop(self.waiting.drain(..n)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        if last && self.waiting.is_empty() && !self.shut {
            self.shut = true;
            rustix::net::shutdown(&self.fd, Shutdown::Write)?;
        }
        Ok(())
    }
}

impl Connection {
    /// Does what can be done. False at the end.
    fn pump(&mut self, rules: &mut Rules) -> Result<bool, Errno> {
        if !self.guest.ended && self.server.waiting.len() < MAX_WAITING {
            self.guest.read()?;
        }
        if !self.server.ended && self.guest.waiting.len() < MAX_WAITING {
            self.server.read()?;
        }
        while let Some(question) = self.guest.incoming.take() {
            match rules.asked(&self.program, &question) {
                Asked::Pass => self.server.waiting.extend(frame(&question).unwrap_or_default()),
                Asked::Refuse(answer) => {
                    self.guest.waiting.extend(frame(&answer).unwrap_or_default());
                }
            }
        }
        while let Some(answer) = self.server.incoming.take() {
            rules.learn(&answer);
            self.guest.waiting.extend(frame(&answer).unwrap_or_default());
        }
        self.server.write(self.guest.ended)?;
        self.guest.write(self.server.ended)?;
        Ok(!self.guest.shut)
    }

    fn watch(&mut self, id: u64, watch: &Watch) -> Result<(), Errno> {
        let full = [self.server.waiting.len(), self.guest.waiting.len()].map(|n| n >= MAX_WAITING);
        let sides = [(&mut self.guest, full[0], false), (&mut self.server, full[1], true)];
        for (side, full, is_server) in sides {
            let mut wanted = EventFlags::empty();
            wanted.set(EventFlags::IN, !side.ended && !full);
            wanted.set(EventFlags::OUT, !side.waiting.is_empty());
            if wanted != side.interest {
                side.interest = wanted;
                watch.change(side.fd.as_fd(), Token::Names(id, is_server), wanted)?;
            }
        }
        Ok(())
    }
}

impl Names {
    /// Takes a connection to a name server over; the result is the guest's end of it.
    pub(super) fn begin(
        &mut self,
        id: u64,
        server: OwnedFd,
        program: Program,
        watch: &Watch,
    ) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        watch.add(ours.as_fd(), Token::Names(id, false), EventFlags::IN)?;
        watch.add(server.as_fd(), Token::Names(id, true), EventFlags::IN)?;
        let (guest, server) = (Side::new(ours), Side::new(server));
        self.0.insert(id, Connection { guest, server, program });
        Ok(theirs)
    }

    /// Something has happened on one.
    pub(super) fn ready(&mut self, id: u64, flags: EventFlags, watch: &Watch, rules: &mut Rules) {
        let Some(connection) = self.0.get_mut(&id) else { return };
        // One that is broken without anything to read would be told of for ever.
        let broken = flags.intersects(EventFlags::ERR)
            || (flags.contains(EventFlags::HUP) && !flags.contains(EventFlags::IN));
        let goes_on = !broken && connection.pump(rules).unwrap_or(false);
        if !goes_on || connection.watch(id, watch).is_err() {
            // Closing ends the watch: nobody else has the descriptors.
            self.0.remove(&id);
        }
    }
}
