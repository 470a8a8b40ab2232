//! The `ptrace` back end: guest code runs in stub processes under `PTRACE_SYSEMU`.
//!
//! Works on every host that allows `ptrace(2)` of one's own children. A system call costs four host
//! calls and two context switches (see [`crate::placement`] for why both sides share a CPU). Mapping
//! work is injected: the stopped stub thread is made to execute `mmap(2)` and its like from our code
//! page, several calls per stop ([`crate::stub`]).
//!
//! The sentry's end kills all traced stubs (`PTRACE_O_EXITKILL`); those that nobody traces at that
//! moment end when the pipe they wait on is closed.

mod context;
mod fault;
mod inject;
mod interrupt;
mod space;
mod tracee;

use crate::stub::batch::{Call, call};
use crate::stub::code::{self, Entries};
use crate::stub::filter::{self, PROCESS_FLAGS};
use crate::stub::link::Link;
use crate::stub::process::StubProcess;
use crate::stub::{layout, zygote};
use crate::{
    AddressSpace, MemoryFile, PAGE_SIZE, PendingContext, Platform, PlatformError, Result, XState,
    placement,
};
use context::{PtracePending, park};
use inject::gone;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::sock_fprog;
use parking_lot::Mutex;
use space::{Shared, Space};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use tracee::Tracee;

/// The `ptrace` platform.
#[derive(Debug)]
pub struct PtracePlatform {
    shared: Arc<Shared>,
    zygote: Mutex<Arc<StubProcess>>,
}

impl PtracePlatform {
    /// Sets the platform up: forks the process that all guest processes descend from.
    ///
    /// To be called when the sentry has its final credentials and namespaces, and best while it has
    /// one thread and little memory. Fails when the host does not allow tracing or lacks a feature.
    pub fn new(memory: Arc<MemoryFile>) -> Result<Arc<Self>> {
        placement::init();
        let text = memory.allocate(PAGE_SIZE)?;
        text.write(0, code::text())?;
        let link = Link::new().map_err(host("create the descriptor channel of the stubs"))?;
        let (ended, alive) = nix::unistd::pipe2(OFlag::O_CLOEXEC)
            .map_err(host("create the pipe that ends the stubs"))?;
        let filter = filter::program();
        let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        let descriptors = zygote::Descriptors {
            memory: memory.fd(),
            link: link.stub_end(),
            alive: ended.as_fd(),
        };
        let zygote = zygote::fork(&descriptors).map_err(host("fork the first stub"))?;
        let zygote = Arc::new(zygote);
        strip(&zygote, text.offset(), &raw const program as u64)?;
        let shared = Arc::new(Shared { memory, link, _alive: alive, _text: text });
        Ok(Arc::new(Self { shared, zygote: Mutex::new(zygote) }))
    }
}

impl Platform for PtracePlatform {
    fn name(&self) -> &'static str {
        "ptrace"
    }

    fn user_addresses(&self) -> Range<u64> {
        layout::GUEST
    }

    fn new_address_space(&self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)> {
        let zygote = self.zygote.lock();
        // Tracer and tracee hand over fastest on one CPU.
        placement::follow(zygote.pid());
        let tracee = seize(&zygote)?;
        let cloned = inject::clone(&tracee, PROCESS_FLAGS, &mut false);
        let parked = park(&tracee);
        let pid = cloned?.map_err(|e| PlatformError::host("create a stub", e))?;
        let space = Space::new(self.shared.clone(), Arc::new(StubProcess::new(pid)));
        parked?;
        let pending = PtracePending::new(pid, space.clone());
        Ok((space, Box::new(pending)))
    }
}

/// Turns the freshly forked copy of the sentry into a stub: our page of code, nothing else.
fn strip(zygote: &Arc<StubProcess>, text: u64, program: u64) -> Result<()> {
    let tracee = seize(zygote)?;
    let sentry = Entries::sentry();
    let execute = (libc::PROT_READ | libc::PROT_EXEC) as u64;
    run(
        &tracee,
        sentry,
        "map the stub's code",
        &call(
            libc::SYS_mmap,
            &[layout::TEXT, PAGE_SIZE, execute, filter::MAP_FLAGS.into(), layout::FD_MEMORY, text],
        ),
    )?;
    // The kernel would go on writing to the C library's registration.
    const UNREGISTER: u64 = 1;
    match tracee.rseq() {
        Ok(Some((pointer, size, signature))) => {
            let arguments = [pointer, size.into(), UNREGISTER, signature.into()];
            let call = call(libc::SYS_rseq, &arguments);
            run(&tracee, Entries::STUB, "unregister rseq in the stub", &call)?;
        }
        Ok(None) => {}
        Err(Errno::EIO | Errno::EINVAL) => {
            return Err(PlatformError::Unsupported(
                "the ptrace platform needs Linux 5.13 or newer (PTRACE_GET_RSEQ_CONFIGURATION)"
                    .to_owned(),
            ));
        }
        Err(error) => return Err(gone(error)),
    }
    const SET_MODE_FILTER: u64 = 1;
    const SPEC_ALLOW: u64 = 4;
    let arguments = [SET_MODE_FILTER, SPEC_ALLOW, program];
    let filter = call(libc::SYS_seccomp, &arguments);
    run(&tracee, Entries::STUB, "install the stub's seccomp filter", &filter)?;
    for range in [0..layout::TEXT, layout::BATCH..layout::TASK_END] {
        let call = call(libc::SYS_munmap, &[range.start, range.end - range.start]);
        run(&tracee, Entries::STUB, "unmap the sentry's memory in the stub", &call)?;
    }
    tracee.set_xstate(&XState::initial()).map_err(gone)?;
    park(&tracee)
}

fn run(tracee: &Tracee, entries: Entries, what: &'static str, call: &Call) -> Result<()> {
    inject::syscall(tracee, entries, call, &mut false)?.map(drop).map_err(host(what))
}

fn seize(zygote: &Arc<StubProcess>) -> Result<Tracee> {
    Tracee::seize(zygote, zygote.pid()).map_err(|error| match error {
        Errno::EPERM => PlatformError::Unsupported(
            "this host does not allow tracing of own child processes (ptrace: EPERM); check \
             /proc/sys/kernel/yama/ptrace_scope and the container's seccomp profile"
                .to_owned(),
        ),
        Errno::ESRCH => PlatformError::StubDied,
        other => PlatformError::host("attach to a stub with ptrace", other),
    })
}

fn host(what: &'static str) -> impl Fn(Errno) -> PlatformError {
    move |error| PlatformError::host(what, error)
}
