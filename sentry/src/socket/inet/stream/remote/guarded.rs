//! Connections that an egress policy lets begin, and then looks into: what only a name allows must not ask for
//! another by TLS, and questions to name servers must be for names that may be resolved.

use super::stack::StackStream;
use super::{StreamSocket, Transport};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::socket::inet::addr::Endpoint;
use crate::socket::inet::stream::core::Core;
use crate::socket::inet::uplink::egress::{Admitted, Egress, program};
use crate::sync::{Mutex, rank};
use crate::wait::EventMask;
use netproxy::policy::frames::{Frames, frame};
use netproxy::policy::guard::{Asked, Verdict};
use netproxy::protocol::{Program, Protocol};
use std::collections::VecDeque;
use std::sync::Arc;

/// Most bytes that are copied at a time.
const CHUNK: usize = 16 << 10;
/// The stack's send buffer: what is held back fits at once.
const BUFFER: usize = 256 << 10;
/// Bytes of answers that wait for the guest, after which no more are taken from the stack.
const MAX_READY: usize = 128 << 10;

/// What is looked at.
enum State {
    /// The first bytes, as far as the guest has sent them.
    First(Vec<u8>),
    /// Questions and answers.
    Names(Names),
    /// Nothing any more.
    Open,
    /// It was refused.
    Refused,
}

#[derive(Default)]
struct Names {
    questions: Frames,
    answers: Frames,
    /// Answers for the guest.
    ready: VecDeque<u8>,
    /// No more come.
    ended: bool,
}

/// See the module.
pub struct Guarded {
    stream: Arc<StackStream>,
    core: Arc<Core>,
    egress: Arc<Egress>,
    program: Program,
    to: Endpoint,
    state: Mutex<State, { rank::INODE_NESTED }>,
}

impl Guarded {
    /// Looks into a connection to `to`, as `how` it was admitted asks for.
    pub fn new(
        stream: Arc<StackStream>,
        core: &Arc<Core>,
        egress: &Arc<Egress>,
        to: Endpoint,
        how: Admitted,
    ) -> Arc<Guarded> {
        stream.reserve(BUFFER);
        let state = match how {
            Admitted::NameServer => State::Names(Names::default()),
            Admitted::ByName => State::First(Vec::new()),
            Admitted::Freely => State::Open,
        };
        let (core, egress) = (core.clone(), egress.clone());
        Arc::new(Guarded { stream, core, egress, program: program(), to, state: Mutex::new(state) })
    }

    fn take(src: &mut dyn Source) -> Result<Vec<u8>> {
        let mut data = vec![0; src.remaining().min(CHUNK)];
        let n = if data.is_empty() { 0 } else { src.take(&mut data)? };
        data.truncate(n);
        Ok(data)
    }

    /// True while bytes have to be looked at; `EACCES` when they were refused.
    fn looks(&self) -> Result<bool> {
        match *self.state.lock() {
            State::Open => Ok(false),
            State::Refused => Err(Errno::EACCES),
            State::First(_) | State::Names(_) => Ok(true),
        }
    }

    /// Sends what was looked at. The buffer was made large enough: what finds no room is the guest's doing, and the
    /// end of the connection.
    fn pass(&self, data: &[u8]) -> Result<()> {
        if self.stream.push(data)? < data.len() {
            self.stream.abort();
            return Err(Errno::ECONNRESET);
        }
        Ok(())
    }

    fn look(&self, data: &[u8]) -> Result<()> {
        let mut state = self.state.lock();
        match &mut *state {
            State::First(first) => {
                first.extend_from_slice(data);
                match self.egress.first(&self.program, self.to, first) {
                    Verdict::More => Ok(()),
                    Verdict::Open => {
                        let first = std::mem::take(first);
                        *state = State::Open;
                        self.pass(&first)
                    }
                    Verdict::Refused => {
                        *state = State::Refused;
                        drop(state);
                        self.stream.abort();
                        Err(Errno::EACCES)
                    }
                }
            }
            State::Names(names) => {
                names.questions.push(data);
                let mut refused = false;
                while let Some(question) = names.questions.take() {
                    match self.egress.question(Protocol::Tcp, self.to, &question) {
                        Asked::Pass => self.pass(&frame(&question).unwrap_or_default())?,
                        Asked::Refuse(answer) => {
                            names.ready.extend(frame(&answer).unwrap_or_default());
                            refused = true;
                        }
                    }
                }
                drop(state);
                if refused {
                    self.core.queue.notify(EventMask::READABLE);
                }
                Ok(())
            }
            State::Open => self.pass(data),
            State::Refused => Err(Errno::EACCES),
        }
    }

    /// Takes what the name server has sent, and learns from it.
    fn pump(&self, names: &mut Names) -> Result<()> {
        let mut buffer = vec![0; CHUNK];
        while !names.ended && names.ready.len() < MAX_READY {
            match self.stream.pull(&mut buffer) {
                Ok(0) => names.ended = true,
                Ok(n) => {
                    names.answers.push(buffer.get(..n).unwrap_or_default());
                    while let Some(answer) = names.answers.take() {
                        self.egress.answered(&answer);
                        names.ready.extend(frame(&answer).unwrap_or_default());
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(error) if names.ready.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// The other side has spoken first: that is no TLS.
    fn open(&self) -> Result<()> {
        let mut state = self.state.lock();
        if let State::First(first) = &mut *state {
            let first = std::mem::take(first);
            *state = State::Open;
            self.pass(&first)?;
        }
        Ok(())
    }
}

impl Transport for Guarded {
    fn state_number(&self) -> u8 {
        self.stream.state_number()
    }

    fn queued(&self) -> (usize, usize) {
        let (received, sent) = self.stream.queued();
        match &*self.state.lock() {
            State::Names(names) => (names.ready.len(), sent),
            _ => (received, sent),
        }
    }

    fn at_mark(&self) -> bool {
        self.stream.at_mark()
    }

    fn take_error(&self) -> Option<Errno> {
        self.stream.take_error()
    }

    fn poll(&self) -> EventMask {
        let events = self.stream.poll();
        match &mut *self.state.lock() {
            State::Names(names) => {
                // The error stays for who receives.
                let failed = self.pump(names).is_err();
                let ready = failed || names.ended || !names.ready.is_empty();
                let readable = if ready { EventMask::READABLE } else { EventMask::empty() };
                (events - EventMask::READABLE) | readable
            }
            State::Refused => {
                events
                    | EventMask::READABLE
                    | EventMask::WRITABLE
                    | EventMask::HUP
                    | EventMask::RDHUP
            }
            _ => events,
        }
    }

    fn send(&self, src: &mut dyn Source, urgent: bool) -> Result<usize> {
        if !self.looks()? {
            return self.stream.send(src, urgent);
        }
        // Not established yet, or no room.
        if !self.stream.poll().contains(EventMask::WRITABLE) {
            return Err(Errno::EAGAIN);
        }
        let data = Self::take(src)?;
        self.look(&data)?;
        Ok(data.len())
    }

    fn receive(&self, dst: &mut dyn Sink, peek: Option<usize>, discard: bool) -> Result<usize> {
        if !self.looks()? {
            return self.stream.receive(dst, peek, discard);
        }
        if let State::Names(names) = &mut *self.state.lock() {
            self.pump(names)?;
            let skip = peek.unwrap_or(0).min(names.ready.len());
            let more = names.ready.iter().skip(skip).copied();
            let data: Vec<u8> = more.take(dst.remaining()).collect();
            if data.is_empty() {
                return if names.ended { Ok(0) } else { Err(Errno::EAGAIN) };
            }
            let n = if discard { data.len() } else { dst.put(&data)? };
            if peek.is_none() {
                names.ready.drain(..n);
            }
            return Ok(n);
        }
        let received = self.stream.receive(dst, peek, discard);
        if matches!(received, Ok(n) if n > 0) {
            self.open()?;
        }
        received
    }

    fn receive_urgent(&self, dst: &mut dyn Sink, peek: bool) -> Result<usize> {
        self.stream.receive_urgent(dst, peek)
    }

    fn shutdown(&self, how: i32) -> Result<()> {
        if how != 0 {
            // Nothing more will be sent: whatever it is, it is no TLS client.
            self.open()?;
        }
        self.stream.shutdown(how)
    }

    fn abort(&self) {
        self.stream.abort();
    }

    fn apply(&self, socket: &StreamSocket) {
        self.stream.apply(socket);
        if self.looks().unwrap_or(false) {
            self.stream.reserve(BUFFER);
        }
    }

    fn info(&self) -> Option<Vec<u8>> {
        self.stream.info()
    }

    fn segment_size(&self) -> Option<i32> {
        self.stream.segment_size()
    }
}
