//! Setting up what all stubs descend from.

use super::context::park;
use super::inject::{self, gone};
use super::tracee::Tracee;
use crate::stub::batch::{Call, call};
use crate::stub::code::{self, Entries};
use crate::stub::filter::{self, PROCESS_FLAGS};
use crate::stub::link::Link;
use crate::stub::process::StubProcess;
use crate::stub::space::Shared;
use crate::stub::{keys, layout, zygote};
use crate::{EXECUTE_ONLY_KEY, MemoryFile, PAGE_SIZE, PlatformError, Result, XState, placement};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::sock_fprog;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Forks and strips the process that all stubs descend from; see [`super::PtracePlatform::new`].
pub fn start(memory: Arc<MemoryFile>) -> Result<(Arc<Shared>, Arc<StubProcess>)> {
    placement::init();
    let text = memory.allocate(PAGE_SIZE)?;
    text.write(0, code::text())?;
    let link = Link::new().map_err(host("create the descriptor channel of the stubs"))?;
    let (ended, alive) = nix::unistd::pipe2(OFlag::O_CLOEXEC)
        .map_err(host("create the pipe that ends the stubs"))?;
    // The zygote has copies of these until it is stripped.
    let filter = filter::program();
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    let descriptors = [memory.fd(), link.stub_end(), ended.as_fd()];
    let zygote = zygote::fork(&descriptors, Entries::sentry().park(), 0);
    let zygote = Arc::new(zygote.map_err(host("fork the first stub"))?);
    let keys = strip(&zygote, text.offset(), &program)?;
    let shared = Arc::new(Shared { memory, link, keys, _alive: Some(alive), _text: text });
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

/// Turns the freshly forked copy of the sentry into a stub: our page of code, nothing else. Returns whether it has protection keys.
fn strip(zygote: &Arc<StubProcess>, text: u64, program: &sock_fprog) -> Result<bool> {
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
    allocate_keys(&tracee)?;
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
    let arguments = [SET_MODE_FILTER, SPEC_ALLOW, std::ptr::from_ref(program) as u64];
    let filter = call(libc::SYS_seccomp, &arguments);
    run(&tracee, Entries::STUB, "install the stub's seccomp filter", &filter)?;
    for range in [0..layout::TEXT, layout::BATCH..layout::TASK_END] {
        let call = call(libc::SYS_munmap, &[range.start, range.end - range.start]);
        run(&tracee, Entries::STUB, "unmap the sentry's memory in the stub", &call)?;
    }
    let keys = has_keys(&tracee)?;
    tracee.set_xstate(&XState::initial()).map_err(gone)?;
    park(&tracee)?;
    Ok(keys)
}

/// Allocates the protection keys, or none.
fn allocate_keys(tracee: &Tracee) -> Result<()> {
    let run = |[number, first, second, third]: [u64; 4]| {
        let call = [number, first, second, third, 0, 0, 0];
        inject::syscall(tracee, Entries::sentry(), &call, &mut false)
    };
    let mut complete = true;
    for (call, expected) in keys::SETUP {
        complete &= run(call)?.is_ok_and(|result| result as i64 == expected);
    }
    if !complete {
        for key in 1..=EXECUTE_ONLY_KEY {
            let _unknown = run(keys::free(key.into()))?;
        }
    }
    Ok(())
}

/// Whether they are there.
fn has_keys(tracee: &Tracee) -> Result<bool> {
    for call in keys::probe() {
        if inject::syscall(tracee, Entries::STUB, &call, &mut false)?.is_err() {
            return Ok(false);
        }
    }
    Ok(keys::has_rights())
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
