//! The `systrap` back end: guest code runs untraced, and the host's seccomp brings its calls to us.
//!
//! # Which trap serves what, and why
//!
//! * **System calls**: every guest thread has a seccomp filter that turns each of its calls into a
//!   notification (`SECCOMP_RET_USER_NOTIF`), which its sentry thread receives and answers with the
//!   result: half the price of a ptrace stop, and less than `SECCOMP_RET_TRAP` with a hand-over through
//!   shared memory (`examples/round_trip` measures). A notification carries number and arguments. The
//!   few calls that need the other registers as a rule ([`filter::NEED_REGISTERS`]) raise `SIGSYS`; where
//!   another one turns out to need them (a signal to deliver), a signal brings the thread to its handler.
//! * **System calls made often**: a site that made 64 notifications is patched ([`site`], [`patches`]) and
//!   enters the gate ([`gate`]), which hands over through memory while the sentry's thread looks there, on a CPU where
//!   nothing else runs ([`spin`]). At all other times it makes the call that the filter traps: the patch is an
//!   accelerator, the filter the boundary.
//! * **Exceptions and interrupts**: one handler in the stub's code page, on a stack outside of the guest's
//!   addresses, reports with a system call of its own number. The sentry answers once it has written
//!   the state to go on with to the frame, and `rt_sigreturn(2)` loads it.
//! * **Mapping work, new threads, copies**: a thread of the stub that never runs guest code, the *agent*
//!   ([`agent`]). It is bound by a filter of its own, is told what to do in a page that the stub can only
//!   read, and reports by the length of messages. One list of calls costs about as much as one system call.
//!
//! # What patching changes for the guest
//!
//! * Its code reads as patched; for `/proc/PID/mem` and debuggers, which see the sentry's view, it does not. Writing to a patched page or
//!   stepping through the process takes its patches away.
//! * `rdgsbase` shows the address of the thread's block while the guest has no gs base of its own.
//! * The arithmetic flags behind a system call are not those before it.
//!
//! # What a hostile stub can do
//!
//! Guest code can jump anywhere in our code page, with any registers, and can write what handlers and new
//! threads have on their stacks, at any time. All its system calls arrive at the sentry, except three
//! that concern but the calling thread: `futex(2)` of its own process, `rt_sigreturn(2)`, whose frame can
//! describe nothing that guest code could not bring about, and `exit(2)`. It cannot reach the agent, whose
//! state is in registers and in pages that the stub cannot write. Arguments in a notification are the
//! kernel's copy; a call in a thread's block is copied once, and is one that guest code could make anyway. What a frame says is copied once and describes the guest itself. A thread that blocks
//! our signals or spoils its signal stack cannot be interrupted any more: its stub is ended ([`watchdog`]).

pub(crate) mod agent;
pub(crate) mod block;
pub(crate) mod code;
pub(crate) mod context;
pub(crate) mod filter;
pub(crate) mod frame;
pub(crate) mod gate;
pub(crate) mod listener;
pub(crate) mod origin;
pub(crate) mod patches;
pub(crate) mod setup;
pub(crate) mod site;
pub(crate) mod slots;
pub(crate) mod space;
pub(crate) mod spare;
pub(crate) mod spin;
pub(crate) mod stack;
pub(crate) mod turn;
pub(crate) mod watchdog;

use crate::cpu;
use crate::stub::layout;
use crate::stub::process::StubProcess;
use crate::stub::space::Shared;
use crate::{AddressSpace, MemoryFile, PendingContext, Platform, PlatformError, Result, XState};
use agent::Agent;
use context::SystrapPending;
use parking_lot::Mutex;
use space::SystrapSpace;
use spare::Blanks;
use std::ops::Range;
use std::sync::Arc;

/// First Linux release whose listeners can be told not to let signals end a wait.
const NEEDED: (u32, u32) = (5, 19);

/// The `systrap` platform.
#[derive(Debug)]
pub struct SystrapPlatform {
    shared: Arc<Shared>,
    /// The first stub: all others are copies of it.
    zygote: Mutex<Agent>,
    /// Its process, ended with the platform.
    _process: Arc<StubProcess>,
    /// Stubs for new programs.
    blanks: Arc<Blanks>,
    /// Call sites are patched.
    patching: bool,
}

/// Room for patched call sites of a program image, in bytes: 32,767 of them. What is not used costs nothing.
const SLOTS: u64 = 1 << 20;

/// Whether the host's kernel has what this back end needs; the error says what is missing.
///
/// Cheap: three host calls.
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
    if !cpu::has_fsgsbase() {
        return Err(PlatformError::Unsupported(
            "the systrap platform needs a CPU and a kernel with FSGSBASE; use ptrace".to_owned(),
        ));
    }
    Ok(())
}

impl SystrapPlatform {
    /// Sets the platform up: forks the process that all guest processes descend from.
    ///
    /// `patching`: call sites that are used often are patched.
    ///
    /// To be called when the sentry has its final credentials and namespaces, and best while it has
    /// one thread and little memory. Fails when the host lacks a feature ([`probe`]).
    pub fn new(memory: Arc<MemoryFile>, patching: bool) -> Result<Arc<Self>> {
        probe()?;
        let (shared, process, agent) = setup::start(memory)?;
        let (zygote, blanks) = (Mutex::new(agent), Arc::default());
        Ok(Arc::new(Self { shared, zygote, _process: process, blanks, patching }))
    }
}

impl Platform for SystrapPlatform {
    fn name(&self) -> &'static str {
        "systrap"
    }

    fn user_addresses(&self) -> Range<u64> {
        layout::GUEST
    }

    fn slots_size(&self) -> u64 {
        if self.patching { SLOTS } else { 0 }
    }

    fn has_protection_keys(&self) -> bool {
        self.shared.keys
    }

    fn new_address_space(&self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)> {
        if let Some((space, thread)) = SystrapSpace::take_blank(&self.blanks) {
            let pending = SystrapPending::new(XState::initial(), space.clone());
            return Ok((space, Box::new(pending.with_thread(Some(thread)))));
        }
        let agent = self.zygote.lock().new_process(&self.shared, &[])??;
        let process = Arc::new(StubProcess::new(agent.pid()));
        let space = SystrapSpace::new(self.shared.clone(), process, agent, self.blanks.clone());
        let pending = SystrapPending::new(XState::initial(), space.clone());
        Ok((space, Box::new(pending)))
    }
}
