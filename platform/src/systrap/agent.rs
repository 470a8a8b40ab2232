#![expect(unsafe_code, reason = "takes ownership of fetched descriptors")]
//! The sentry's end of a stub's agent: the thread that changes mappings and makes threads and copies.
//!
//! A list of calls is written to a page that the stub can only read, a message wakes the agent, and its
//! answer's *length* is the result; so a hostile guest thread of the same stub can change neither what
//! is done nor what is reported. Ids of new stubs come from the host (`SCM_CREDENTIALS`), descriptors by
//! `pidfd_getfd(2)` under numbers that follow from what the stub has.
//!
//! Host calls: `sendmsg`, `recvmsg`, `setsockopt`, `pidfd_open`, `pidfd_getfd`.

use super::filter::WAIT;
use super::listener::Listener;
use super::stack::SignalStack;
use crate::host::socket;
use crate::stub::batch::{BatchPages, CAPACITY, Call, Plan, call, receive};
use crate::stub::filter::{PROCESS_FLAGS, THREAD_FLAGS};
use crate::stub::layout::{FD_RECEIVED, GUEST, HELLO, SCRATCH, control};
use crate::stub::operation::Operation;
use crate::stub::space::{Execute, Shared, refused};
use crate::{PAGE_SIZE, PlatformError, Result, placement};
use nix::errno::Errno;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// How long an agent or a new thread may take to report, in milliseconds: guest threads can keep theirs waiting, and somebody on the host
/// can stop it.
pub const PATIENCE: i32 = 20_000;

/// Most calls that making a thread takes.
const OWN_CALLS: usize = 8;

/// A stub's agent.
#[derive(Debug)]
pub struct Agent {
    pid: i32,
    control: OwnedFd,
    pages: BatchPages,
    /// A descriptor to close in the stub before the next one is made.
    left_open: Option<u64>,
    /// The CPU it was last told to run on.
    cpu: Option<usize>,
}

/// A guest process's address space.
pub type Space = crate::stub::space::Space<Agent>;

impl Agent {
    /// For the stub `pid`, whose agent has the other end of `control` and has mapped `pages`.
    pub fn new(pid: i32, control: OwnedFd, pages: BatchPages) -> Self {
        Self { pid, control, pages, left_open: None, cpu: None }
    }

    /// A socket to an agent: the sentry's end, on which messages tell who sends them and do not let wait for ever, and
    /// the agent's.
    pub fn control() -> Result<(OwnedFd, OwnedFd), Errno> {
        let (ours, theirs) = socket::seqpacket_pair()?;
        socket::pass_credentials(ours.as_fd())?;
        socket::set_timeout(ours.as_fd(), PATIENCE)?;
        Ok((ours, theirs))
    }

    /// Makes the agent execute calls in order, up to the first one that fails.
    pub fn run(&mut self, calls: &[Call], descriptors: usize) -> Result<Result<(), Errno>> {
        self.start(calls, descriptors)?;
        let answer = self.answer(self.pid)?;
        // What a guest thread that jumps into our code finds: nothing.
        self.pages.clear()?;
        Ok(answer)
    }

    fn start(&mut self, calls: &[Call], descriptors: usize) -> Result<()> {
        debug_assert!(calls.len() <= CAPACITY);
        self.pages.write(calls, descriptors)?;
        placement::bring(self.pid, &mut self.cpu);
        socket::send(self.control.as_fd(), &[0], &[]).map(drop).map_err(lost)
    }

    /// Waits for the answer of the agent of stub `pid` on this agent's socket.
    fn answer(&self, pid: i32) -> Result<Result<(), Errno>> {
        loop {
            let (sender, len) = socket::receive_length(self.control.as_fd()).map_err(lost)?;
            if len == 0 {
                return Err(PlatformError::StubDied);
            }
            if sender == pid {
                return Ok(match len - 1 {
                    0 => Ok(()),
                    errno => Err(Errno::from_raw(errno as i32)),
                });
            }
        }
    }

    /// The call that closes what must not be open when a descriptor's number counts.
    fn close_left_open(&mut self) -> impl Iterator<Item = Call> + use<> {
        self.left_open.take().into_iter().map(|fd| call(libc::SYS_close, &[fd]))
    }

    /// Executes operations and makes a thread with a listener, which reports over it and waits.
    pub fn new_thread(
        &mut self,
        shared: &Shared,
        stack: &mut SignalStack,
        operations: &[Operation],
    ) -> Result<Listener> {
        const WHAT: &str = "create a thread in a stub";
        let mut plan = Plan::default();
        let left_open = self.left_open;
        plan.calls.extend(self.close_left_open());
        let all = operations.iter().all(|operation| plan.add(operation));
        if !all || !plan.descriptors.is_empty() || plan.calls.len() + OWN_CALLS > CAPACITY {
            plan = Plan::default();
            self.left_open = left_open;
            self.execute(shared, (), operations)?;
        }
        let mut calls = plan.calls;
        calls.extend(stack.calls());
        calls.push(call(libc::SYS_clone, &[THREAD_FLAGS.into()]));
        calls.push(call(libc::SYS_futex, &[SCRATCH + HELLO, WAIT.into(), 0, 0]));
        let frames = self.pages.frames();
        frames.store32(PAGE_SIZE + HELLO, 0)?;
        for (index, word) in stack.description().into_iter().enumerate() {
            frames.store64(control::STACK + 8 * index as u64, word)?;
        }
        self.run(&calls, 0)?.map_err(|e| PlatformError::host(WHAT, e))?;
        stack.set_mapped();
        self.left_open = Some(FD_RECEIVED);
        let listener = fetch(self.pid, FD_RECEIVED);
        let listener = listener.map_err(|e| PlatformError::host("fetch a stub's listener", e))?;
        Ok(Listener::new(listener))
    }

    /// Executes operations and copies the stub; returns the agent of the copy. The inner error is one that leaves the stub
    /// as it should be.
    pub fn new_process(
        &mut self,
        shared: &Shared,
        operations: &[Operation],
    ) -> Result<Result<Self>> {
        let left_open = self.left_open;
        let mut plan = Plan::default();
        plan.calls.extend(self.close_left_open());
        let all = operations.iter().all(|operation| plan.add(operation));
        if all && plan.descriptors.is_empty() && plan.calls.len() + OWN_CALLS <= CAPACITY {
            let made = self.copy(shared, plan.calls);
            if made.is_ok() || operations.is_empty() {
                return Ok(made);
            }
            // Which call has failed is not known. Those that change mappings can be made once more.
        }
        self.left_open = left_open;
        self.execute(shared, (), operations)?;
        let calls = self.close_left_open().collect();
        Ok(self.copy(shared, calls))
    }

    /// Makes calls, and copies the stub.
    fn copy(&mut self, shared: &Shared, mut calls: Vec<Call>) -> Result<Self> {
        let host = |e| PlatformError::host("copy a stub", e);
        let pages = BatchPages::new(&shared.memory)?;
        let (control, theirs) = Self::control().map_err(host)?;
        calls.push(receive(0));
        calls.push(call(libc::SYS_clone, &[PROCESS_FLAGS.into()]));
        calls.push(call(libc::SYS_close, &[FD_RECEIVED]));
        self.pages.frames().store64(control::PAGES, pages.frames().offset())?;
        let transfer = shared.link.begin();
        transfer.send(theirs.as_fd()).map_err(host)?;
        drop(theirs);
        self.start(&calls, 1)?;
        // The agent and its copy report, in any order.
        let (mut own, mut copy, mut transfer) = (false, None, Some(transfer));
        while !own || copy.is_none() {
            match socket::receive_length(self.control.as_fd()).map_err(lost)? {
                (_, 0) => return Err(PlatformError::StubDied),
                (pid, 1) if pid == self.pid => {
                    own = true;
                    // Should the copy not come to life, others do not wait for it.
                    drop(transfer.take());
                }
                (pid, len) if pid == self.pid => return Err(host(Errno::from_raw(len as i32 - 1))),
                (pid, _) => copy = Some(pid),
            }
        }
        let pid = copy.ok_or(PlatformError::StubDied)?;
        Ok(Self { pid, control, pages, left_open: None, cpu: None })
    }

    /// Leaves a stub in which nothing of a guest's is mapped, and nothing in our pages tells of it.
    pub fn clear(&mut self) -> Result<()> {
        let Range { start, end } = GUEST;
        let mut calls: Vec<Call> = self.close_left_open().collect();
        calls.push(call(libc::SYS_munmap, &[start, end - start]));
        self.run(&calls, 0)?.map_err(refused)?;
        Ok(self.pages.frames().zero(0, 2 * PAGE_SIZE)?)
    }

    /// Process id of the stub.
    pub fn pid(&self) -> i32 {
        self.pid
    }
}

impl Execute for Agent {
    type With<'a> = ();

    fn execute(&mut self, shared: &Shared, (): (), operations: &[Operation]) -> Result<()> {
        let mut rest = operations;
        while !rest.is_empty() {
            let mut plan = Plan::default();
            plan.calls.extend(self.close_left_open());
            const { assert!(CAPACITY > 8) };
            while let Some((first, others)) = rest.split_first() {
                if !plan.add(first) {
                    break;
                }
                rest = others;
            }
            let transfer = (!plan.descriptors.is_empty()).then(|| shared.link.begin());
            for fd in &plan.descriptors {
                if let Some(transfer) = &transfer {
                    transfer
                        .send(*fd)
                        .map_err(|e| PlatformError::host("send a file descriptor to a stub", e))?;
                }
            }
            self.run(&plan.calls, plan.descriptors.len())?.map_err(refused)?;
        }
        Ok(())
    }
}

/// What a failure of the control socket means.
fn lost(error: Errno) -> PlatformError {
    match error {
        Errno::EPIPE | Errno::ECONNRESET | Errno::EAGAIN => PlatformError::StubDied,
        other => PlatformError::host("exchange a message with a stub", other),
    }
}

/// Takes a descriptor out of a stub, which is our child and not yet waited for.
fn fetch(pid: i32, fd: u64) -> Result<OwnedFd, Errno> {
    // SAFETY: plain values.
    let process = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })? as i32;
    // SAFETY: a fresh descriptor that nobody else knows.
    let process = unsafe { OwnedFd::from_raw_fd(process) };
    // SAFETY: plain values.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd as i32, 0) };
    let fd = Errno::result(fd)? as i32;
    // SAFETY: a fresh descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
