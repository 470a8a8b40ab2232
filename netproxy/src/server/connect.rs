//! TCP connections that are being made, and those that are held back until the guest's first bytes have been
//! looked at.

use super::names::Names;
use super::rules::{Admitted, Rules};
use super::{Sentry, Token, Watch};
use crate::policy::guard::Verdict;
use crate::protocol::Event;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

/// A connection that is being made.
#[derive(Debug)]
struct Attempt {
    socket: OwnedFd,
    admitted: Admitted,
}

/// A connection that is held back.
#[derive(Debug)]
struct Gate {
    attempt: Attempt,
    /// What the guest has sent so far.
    first: Vec<u8>,
}

/// Them, by the sentry's name for the socket.
#[derive(Debug, Default)]
pub(super) struct Connecting {
    attempts: HashMap<u64, Attempt>,
    gates: HashMap<u64, Gate>,
}

impl Connecting {
    /// Begins to connect.
    pub(super) fn begin(
        &mut self,
        id: u64,
        to: Admitted,
        watch: &Watch,
        sentry: &Sentry,
        names: &mut Names,
    ) {
        match start(to.host) {
            Ok((socket, true)) => {
                self.established(id, Attempt { socket, admitted: to }, watch, sentry, names);
            }
            Ok((socket, false)) => {
                let events = EventFlags::OUT;
                match watch.add(socket.as_fd(), Token::Connecting(id), events) {
                    // One of the same name is not the sentry's doing any more.
                    Ok(()) => drop(self.attempts.insert(id, Attempt { socket, admitted: to })),
                    Err(e) => fail(sentry, id, e),
                }
            }
            Err(e) => self.next(id, to, e, watch, sentry, names),
        }
    }

    /// An attempt has failed: the next name server is tried, if it was one.
    fn next(
        &mut self,
        id: u64,
        mut to: Admitted,
        error: Errno,
        watch: &Watch,
        sentry: &Sentry,
        names: &mut Names,
    ) {
        match to.names.as_mut().and_then(VecDeque::pop_front) {
            Some(host) => self.begin(id, Admitted { host, ..to }, watch, sentry, names),
            None => fail(sentry, id, error),
        }
    }

    /// The host has news of an attempt.
    pub(super) fn ended(&mut self, id: u64, watch: &Watch, sentry: &Sentry, names: &mut Names) {
        let Some(attempt) = self.attempts.remove(&id) else { return };
        // It lives on in the sentry, and would be watched here.
        watch.remove(attempt.socket.as_fd());
        match sockopt::socket_error(&attempt.socket).and_then(|state| state) {
            Ok(()) => self.established(id, attempt, watch, sentry, names),
            Err(e) => self.next(id, attempt.admitted, e, watch, sentry, names),
        }
    }

    fn established(
        &mut self,
        id: u64,
        attempt: Attempt,
        watch: &Watch,
        sentry: &Sentry,
        names: &mut Names,
    ) {
        if attempt.admitted.names.is_some() {
            let Attempt { socket, admitted } = attempt;
            match names.begin(id, socket, admitted.program, watch) {
                Ok(end) => sentry.tell(&Event::Connected { id, sent: 0 }, Some(end.as_fd())),
                Err(e) => fail(sentry, id, e),
            }
            return;
        }
        if !attempt.admitted.by_name {
            sentry.tell(&Event::Connected { id, sent: 0 }, Some(attempt.socket.as_fd()));
            return;
        }
        let events = EventFlags::IN | EventFlags::RDHUP;
        match watch.add(attempt.socket.as_fd(), Token::Gated(id), events) {
            Ok(()) => {
                self.gates.insert(id, Gate { attempt, first: Vec::new() });
                sentry.tell(&Event::Gated { id }, None);
            }
            Err(e) => fail(sentry, id, e),
        }
    }

    /// The guest has sent something over a connection that is held back; nothing: it will not.
    pub(super) fn first(
        &mut self,
        id: u64,
        data: &[u8],
        watch: &Watch,
        sentry: &Sentry,
        rules: &mut Rules,
    ) {
        // Given out meanwhile, because the other side spoke: the sentry sends the bytes itself.
        let Some(gate) = self.gates.get_mut(&id) else { return };
        gate.first.extend_from_slice(data);
        if data.is_empty() {
            self.give_out(id, true, watch, sentry);
            return;
        }
        match rules.first(&gate.attempt.admitted, &gate.first) {
            Verdict::More => sentry.tell(&Event::More { id }, None),
            Verdict::Open => self.release(id, watch, sentry),
            Verdict::Refused => {
                self.give_up(id, watch);
                fail(sentry, id, Errno::ACCESS);
            }
        }
    }

    /// Gives a connection out, after sending what the guest has sent.
    pub(super) fn release(&mut self, id: u64, watch: &Watch, sentry: &Sentry) {
        self.give_out(id, false, watch, sentry);
    }

    /// The same; `end`: nothing more can be sent over it.
    fn give_out(&mut self, id: u64, end: bool, watch: &Watch, sentry: &Sentry) {
        let Some(Gate { attempt: Attempt { socket, .. }, first }) = self.gates.remove(&id) else {
            return;
        };
        watch.remove(socket.as_fd());
        // A new connection has room for that.
        match rustix::net::send(&socket, &first, SendFlags::NOSIGNAL) {
            Ok(n) if n == first.len() => {
                if end {
                    // It has ended by itself when that fails.
                    let _ = rustix::net::shutdown(&socket, Shutdown::Write);
                }
                sentry.tell(&Event::Connected { id, sent: n }, Some(socket.as_fd()));
            }
            Ok(_) => fail(sentry, id, Errno::CONNRESET),
            Err(e) => fail(sentry, id, e),
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn give_up(&mut self, id: u64, watch: &Watch) {
        if let Some(attempt) = self.attempts.remove(&id) {
            watch.remove(attempt.socket.as_fd());
        }
        if let Some(gate) = self.gates.remove(&id) {
            watch.remove(gate.attempt.socket.as_fd());
        }
    }
}

fn fail(sentry: &Sentry, id: u64, error: Errno) {
    let errno = match error {
        // The limit is this process's, of which the guest knows nothing.
        Errno::MFILE | Errno::NFILE => Errno::NOBUFS,
        error => error,
    };
    sentry.tell(&Event::Failed { id, errno: errno.raw_os_error() }, None);
}

/// A socket that connects, and whether it has connected already.
fn start(to: SocketAddr) -> Result<(OwnedFd, bool), Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS) => Ok((socket, false)),
        Err(e) => Err(e),
    }
}
