//! Setting up what all stubs descend from, for this back end and for `systrap`.

use super::context::park;
use super::inject::{self, gone};
use super::space::Shared;
use super::tracee::Tracee;
use crate::stub::batch::{Call, call};
use crate::stub::code::{self, Entries};
use crate::stub::filter::{self, PROCESS_FLAGS, Secret};
use crate::stub::link::Link;
use crate::stub::process::StubProcess;
use crate::stub::{layout, zygote};
use crate::systrap::context::LEADER_MASK;
use crate::{Frames, MemoryFile, PAGE_SIZE, PlatformError, Result, XState, placement};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::sock_fprog;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Signals that a `systrap` stub handles: those of exceptions, of the vsyscall page, and the one that
/// interrupts.
const HANDLED: [i32; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGUSR1,
];

/// The kernel's `struct sigaction`.
#[repr(C)]
struct SignalAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

impl SignalAction {
    /// Reports on the thread's signal stack, with all signals blocked. It never returns, so the
    /// restorer that Linux insists on is of no matter.
    fn handler() -> Self {
        const SA_RESTORER: u64 = 0x0400_0000;
        let flags = (libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART) as u64 | SA_RESTORER;
        let handler = Entries::STUB.signal();
        Self { handler, flags, restorer: handler, mask: u64::MAX }
    }
}

/// What the zygote reads from its copy of our memory.
struct Borrowed<'a> {
    program: sock_fprog,
    handler: Option<&'a SignalAction>,
}

/// Forks and strips the process that all stubs descend from; see [`super::PtracePlatform::new`].
pub fn start(memory: Arc<MemoryFile>, secret: Secret) -> Result<(Arc<Shared>, Arc<StubProcess>)> {
    placement::init();
    let text = memory.allocate(PAGE_SIZE)?;
    text.write(0, code::text())?;
    if secret != Secret::NONE {
        write_listener_filter(&text)?;
    }
    let link = Link::new().map_err(host("create the descriptor channel of the stubs"))?;
    let (ended, alive) = nix::unistd::pipe2(OFlag::O_CLOEXEC)
        .map_err(host("create the pipe that ends the stubs"))?;
    // The zygote has copies of these until it is stripped.
    let filter = filter::program(secret);
    let handler = SignalAction::handler();
    let borrowed = Borrowed {
        program: sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() },
        handler: (secret != Secret::NONE).then_some(&handler),
    };
    let descriptors =
        zygote::Descriptors { memory: memory.fd(), link: link.stub_end(), alive: ended.as_fd() };
    let zygote = zygote::fork(&descriptors, secret).map_err(host("fork the first stub"))?;
    let zygote = Arc::new(zygote);
    strip(&zygote, text.offset(), &borrowed)?;
    let shared = Arc::new(Shared { memory, link, _alive: alive, _text: text });
    Ok((shared, zygote))
}

/// Makes a new stub, in which nothing is mapped; returns its host process id.
pub fn new_stub(zygote: &Arc<StubProcess>) -> Result<i32> {
    // Tracer and tracee hand over fastest on one CPU.
    placement::follow(zygote.pid());
    let tracee = seize(zygote)?;
    let cloned = inject::clone(&tracee, PROCESS_FLAGS, &mut false);
    let parked = park(&tracee);
    let pid = cloned?.map_err(|e| PlatformError::host("create a stub", e))?;
    parked?;
    Ok(pid)
}

/// Puts the filter of guest threads where they can install it from: `struct sock_fprog`, then the
/// program.
fn write_listener_filter(text: &Frames) -> Result<()> {
    const PROGRAM: u64 = layout::LISTENER_FILTER + 16;
    let filter = filter::listener();
    let mut bytes = (filter.len() as u64).to_le_bytes().to_vec();
    bytes.extend((layout::TEXT + PROGRAM).to_le_bytes());
    for op in filter {
        bytes.extend(op.code.to_le_bytes());
        bytes.extend([op.jt, op.jf]);
        bytes.extend(op.k.to_le_bytes());
    }
    Ok(text.write(layout::LISTENER_FILTER, &bytes)?)
}

/// Turns the freshly forked copy of the sentry into a stub: our page of code, nothing else.
fn strip(zygote: &Arc<StubProcess>, text: u64, borrowed: &Borrowed<'_>) -> Result<()> {
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
    if let Some(handler) = borrowed.handler {
        for signal in HANDLED {
            let arguments = [signal as u64, std::ptr::from_ref(handler) as u64, 0, 8];
            let call = call(libc::SYS_rt_sigaction, &arguments);
            run(&tracee, sentry, "set the stub's signal handlers", &call)?;
        }
        // Inherited by all threads; those that run guest code get an empty mask.
        tracee.set_signal_mask(LEADER_MASK).map_err(gone)?;
    }
    const SET_MODE_FILTER: u64 = 1;
    const SPEC_ALLOW: u64 = 4;
    let program = &raw const borrowed.program as u64;
    let arguments = [SET_MODE_FILTER, SPEC_ALLOW, program];
    let filter = call(libc::SYS_seccomp, &arguments);
    run(&tracee, Entries::STUB, "install the stub's seccomp filter", &filter)?;
    // From here on, calls carry the secret.
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

/// Attaches to the zygote.
pub fn seize(zygote: &Arc<StubProcess>) -> Result<Tracee> {
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
