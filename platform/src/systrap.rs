//! The `systrap` back end: guest code that makes many system calls runs untraced, and they arrive as
//! seccomp notifications.
//!
//! # Which trap serves what, and why
//!
//! Figures of a 2-CPU virtual machine, both sides on one CPU (medians of `examples/round_trip`):
//!
//! * **System calls**: every guest thread has a seccomp filter that turns each of its calls into a
//!   notification (`SECCOMP_RET_USER_NOTIF`), which its sentry thread receives and answers with the
//!   result: about 7 µs, half of a ptrace stop. `SECCOMP_RET_TRAP` with a hand-over through shared
//!   memory would be 12 µs. A notification carries number and arguments; what needs the other
//!   registers (a signal to deliver, `clone(2)`) gets them by stopping the thread, at the price of a
//!   ptrace stop.
//! * **Exceptions and interrupts**: handlers in the stub's code page, on a stack outside of the guest's
//!   addresses, report with a system call of their own number.
//! * **Mapping work**: the thread is attached with ptrace for as long as it takes and executes the
//!   calls as in the `ptrace` back end. The host then continues guest code with any registers, so there
//!   is no `rt_sigreturn(2)`, and no guest-writable memory is involved in going on.
//!
//! Attaching and letting go costs some 20 µs, a listener for a thread some 150 µs. So a thread starts as
//! in the `ptrace` back end and gets a listener only after some tens of calls; and one that was attached
//! for mapping work or a fault stays so until it has made a few calls in a row that need neither
//! ([`Options`]). Without that, a call that maps a page took 61 µs (ptrace: 39), fork with attaching
//! 502 µs (140). With it, measured in one run: a system call 7.5 µs (ptrace: 15.2), one that maps a
//! page 30.0 (29.7), a write fault that maps a page with a call 121 (114), fork with attaching 171 (131).
//!
//! # What a hostile stub can do
//!
//! Guest code can jump anywhere in our code page, with any registers, while another thread does mapping
//! work. So the host's filter lets a call from that page pass only if it carries a 64-bit secret
//! ([`crate::stub::filter`]) that is only ever in the registers of a thread that ptrace controls, with
//! signals held back, or of a leader, which has no stack that a signal frame could go to. Without it a
//! stub has no host system call at all. The lists of mapping calls are read-only in the stub and do not hold the secret. Arguments
//! in a notification are the kernel's copy. The frame of a signal is guest-writable memory, copied
//! once; it can describe any state of the guest thread itself, which is nothing that guest code could
//! not bring about, and its signal mask and signal stack are never taken from there.

pub(crate) mod context;
pub(crate) mod listener;
pub(crate) mod signal;
pub(crate) mod space;
pub(crate) mod stack;

use crate::ptrace::setup;
use crate::ptrace::space::Shared;
use crate::stub::filter::Secret;
use crate::stub::layout;
use crate::stub::process::StubProcess;
use crate::{AddressSpace, MemoryFile, PendingContext, Platform, PlatformError, Result, host};
use context::SystrapPending;
use parking_lot::Mutex;
use space::SystrapSpace;
use std::ops::Range;
use std::sync::Arc;

/// First Linux release whose listeners can be told not to let signals end a wait.
const NEEDED: (u32, u32) = (5, 19);

/// The `systrap` platform.
#[derive(Debug)]
pub struct SystrapPlatform {
    shared: Arc<Shared>,
    zygote: Mutex<Arc<StubProcess>>,
    secret: Secret,
    options: Options,
}

/// When a guest thread is traced, and when it runs untraced. For tuning; the defaults are measured.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// System calls that a traced thread makes in a row, without mapping work and faults in between,
    /// before it is let go. Attaching again costs about as much as four calls gain, so that whatever
    /// the guest does, this is at most twice as dear as the better of both ways.
    pub calls_before_detach: u32,
    /// System calls that a thread makes before it gets a listener, which costs as much as some fifty
    /// calls gain: many processes end, or execute another program, before that.
    pub calls_before_listener: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { calls_before_detach: 4, calls_before_listener: 48 }
    }
}

/// Whether the host's kernel has what this back end needs; the error says what is missing.
///
/// Cheap: three host calls. Whether `ptrace(2)` of own children is allowed shows in
/// [`SystrapPlatform::new`].
pub fn probe() -> Result<()> {
    let release = listener::release();
    if release < NEEDED {
        return Err(PlatformError::Unsupported(format!(
            "the systrap platform needs Linux {}.{} or newer, this is {}.{}; use ptrace",
            NEEDED.0, NEEDED.1, release.0, release.1
        )));
    }
    if !listener::is_available() {
        return Err(PlatformError::Unsupported(
            "the systrap platform needs seccomp with SECCOMP_RET_USER_NOTIF, which this host's \
             kernel or the surrounding container refuses; use ptrace"
                .to_owned(),
        ));
    }
    Ok(())
}

impl SystrapPlatform {
    /// Sets the platform up: forks the process that all guest processes descend from.
    ///
    /// To be called when the sentry has its final credentials and namespaces, and best while it has
    /// one thread and little memory. Fails when the host lacks a feature ([`probe`]) or does not allow
    /// tracing of own children.
    pub fn new(memory: Arc<MemoryFile>, options: Options) -> Result<Arc<Self>> {
        probe()?;
        let mut random = [0; 8];
        host::random::fill(&mut random)
            .map_err(|e| PlatformError::host("get random bytes from the host", e))?;
        let random = u64::from_le_bytes(random);
        let secret = Secret::new([random as u32, (random >> 32) as u32]);
        let (shared, zygote) = setup::start(memory, secret)?;
        Ok(Arc::new(Self { shared, zygote: Mutex::new(zygote), secret, options }))
    }
}

impl Platform for SystrapPlatform {
    fn name(&self) -> &'static str {
        "systrap"
    }

    fn user_addresses(&self) -> Range<u64> {
        layout::GUEST
    }

    fn new_address_space(&self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)> {
        let pid = setup::new_stub(&self.zygote.lock())?;
        let process = Arc::new(StubProcess::new(pid, self.secret));
        let space = SystrapSpace::new(self.shared.clone(), process, self.options);
        let pending = SystrapPending::new(pid, None, space.clone());
        Ok((space, Box::new(pending)))
    }
}
