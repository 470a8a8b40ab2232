//! Starting a gofer.
//!
//! The gofer is a copy of the process that starts it, not a program of its own: nothing has to be
//! found, loaded and linked, and it shares that process's memory pages. [`spawn`] returns at once;
//! the gofer locks itself up meanwhile ([`crate::sandbox`]) and then serves. It is a child of the
//! caller, which has to wait for it (`waitpid(2)`), and ends when its channels are closed.

mod fork;
mod maps;

pub use maps::{IdMap, Users};

use std::io::IoSlice;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::protocol::{MAX_EXPORTS, TransportError, channel_count, channel_pair};
use crate::sandbox::seccomp::filter_for;
use crate::sandbox::{Entered, Isolation, enter};
use crate::server::{Export, Server};
use fork::Forked;

/// How a gofer is started.
#[derive(Debug)]
pub struct Options {
    /// What it serves.
    pub exports: Vec<Export>,
    /// Try to give it namespaces of its own. Without it only the protocol's rules protect the host.
    pub isolate: bool,
    /// Whose files it serves, if not those of its starter's users. Needs namespaces of its own.
    pub users: Option<Users>,
    /// It dies with the thread that started it, also while it serves (`PR_SET_PDEATHSIG`). Not for
    /// a short-lived starter: then it ends with its channels.
    pub die_with_starter: bool,
    /// Where it says why it had to abort. Nowhere by default, because whoever waits for the end of
    /// that stream would wait for the sandbox.
    pub stderr: Option<OwnedFd>,
    /// What becomes of host calls that are not in [`crate::server::calls`].
    pub filter_mode: platform::host::seccomp::Mode,
    /// Number of channels; one for each CPU by default.
    pub channels: usize,
}

impl Options {
    /// A gofer of `exports` with all the isolation there is.
    pub fn new(exports: Vec<Export>) -> Self {
        Self {
            exports,
            isolate: true,
            users: None,
            die_with_starter: false,
            stderr: None,
            filter_mode: platform::host::seccomp::Mode::Enforce,
            channels: channel_count(),
        }
    }
}

/// Why a gofer could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The number of exports or channels is zero or too large.
    #[error("a gofer needs 1 to {MAX_EXPORTS} exports and at least one channel")]
    Options,
    /// A host call failed.
    #[error("starting the gofer: {what}: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: Errno,
    },
    /// It started, and gave up.
    #[error("starting the gofer: {0}")]
    GaveUp(String),
}

impl SpawnError {
    fn host(what: &'static str) -> impl FnOnce(Errno) -> Self {
        move |source| Self::Host { what, source }
    }
}

/// A gofer that was started.
#[derive(Debug)]
pub struct Gofer {
    /// Its process number, in the caller's pid namespace.
    pub pid: Pid,
    /// The sentry's ends of its channels, for [`crate::Client::connect`].
    pub channels: Vec<OwnedFd>,
    status: OwnedFd,
}

impl Gofer {
    /// Waits until it is locked up and serves, and says how well, or why it gave up.
    ///
    /// Calls on its channels work before, too: they wait.
    pub fn wait_ready(&self) -> Result<Isolation, SpawnError> {
        let mut message = [0; 4096];
        let length = loop {
            match rustix::io::read(&self.status, &mut message) {
                Ok(length) => break length,
                Err(Errno::INTR) => {}
                Err(error) => return Err(SpawnError::host("waiting for it")(error)),
            }
        };
        match message.get(..length) {
            Some([STATUS_READY, bits @ ..]) if bits.len() == 4 => {
                let mut raw = [0; 4];
                raw.copy_from_slice(bits);
                Ok(Isolation::from_bits_truncate(u32::from_le_bytes(raw)))
            }
            Some([STATUS_FAILED, text @ ..]) => {
                Err(SpawnError::GaveUp(String::from_utf8_lossy(text).into_owned()))
            }
            _ => Err(SpawnError::GaveUp("it died before it was ready".to_owned())),
        }
    }
}

/// Arenas of the allocator; its requests need little memory.
const ARENAS: usize = 2;

const STATUS_READY: u8 = 1;
const STATUS_FAILED: u8 = 2;

/// Starts a gofer.
///
/// May be called by a process with several threads (the gofer has one, and then its own).
pub fn spawn(options: Options) -> Result<Gofer, SpawnError> {
    if !(1..=MAX_EXPORTS).contains(&options.exports.len()) || options.channels == 0 {
        return Err(SpawnError::Options);
    }
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..options.channels {
        let (our, their) = channel_pair().map_err(SpawnError::host("making a channel"))?;
        ours.push(our);
        theirs.push(their);
    }
    let (status, status_writer) =
        channel_pair().map_err(SpawnError::host("making the status channel"))?;
    let (isolate, users) = (options.isolate, options.users.clone());
    let starter = rustix::process::getpid();
    let forked = fork::spawn(isolate, users.as_ref(), move |namespaces| {
        run(options, theirs, &status_writer, namespaces, starter)
    })
    .map_err(SpawnError::host("making its process"))?;
    let Forked { pid, abandoned } = forked;
    for pid in abandoned {
        // These ended by themselves; nothing can be learnt from how.
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    }
    Ok(Gofer { pid, channels: ours, status })
}

/// The gofer's life.
fn run(
    options: Options,
    channels: Vec<OwnedFd>,
    status: &OwnedFd,
    namespaces: Isolation,
    starter: Pid,
) {
    let Options { exports, die_with_starter, stderr, filter_mode, users, .. } = options;
    // By sendmsg(2), the one call to send that the filter allows.
    let report = |kind: u8, text: &[u8]| {
        let mut message = vec![kind];
        message.extend_from_slice(text.get(..text.len().min(4000)).unwrap_or_default());
        // Nobody may be listening any more, which is theirs to know.
        let parts = [IoSlice::new(&message)];
        let mut nothing = SendAncillaryBuffer::new(&mut []);
        let _ = rustix::net::sendmsg(status, &parts, &mut nothing, SendFlags::NOSIGNAL);
    };
    let mut keep: Vec<BorrowedFd<'_>> = channels.iter().map(AsFd::as_fd).collect();
    keep.push(status.as_fd());
    // A terminal's Ctrl-C is for the program in the sandbox.
    let _ = rustix::process::setsid();
    // Closed by `enter`, under its own number.
    let stderr = ManuallyDrop::new(stderr);
    let stderr = stderr.as_ref().map(AsFd::as_fd);
    match enter(exports, &keep, namespaces, stderr, users.is_some()) {
        Ok(Entered { exports, fds, isolation }) => {
            if die_with_starter {
                // After the credentials changed, which clears it.
                let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
                if !isolation.contains(Isolation::PID)
                    && rustix::process::getppid() != Some(starter)
                {
                    return;
                }
            }
            // Modes come from the guest, whose umask the sentry has applied.
            rustix::process::umask(rustix::fs::Mode::empty());
            // The last of start-up. What is said of a violation goes where what it says when it aborts does.
            let filter = filter_for(&exports);
            platform::host::seccomp::limit_arenas(ARENAS);
            if let Err(error) = filter.install(filter_mode, libc::STDERR_FILENO) {
                report(STATUS_FAILED, format!("the filter of its host calls: {error}").as_bytes());
                return;
            }
            report(STATUS_READY, &isolation.bits().to_le_bytes());
            Arc::new(Server::new(exports, fds)).run(channels);
        }
        Err(error) => report(STATUS_FAILED, error.to_string().as_bytes()),
    }
}

impl From<TransportError> for SpawnError {
    fn from(error: TransportError) -> Self {
        Self::GaveUp(error.to_string())
    }
}
