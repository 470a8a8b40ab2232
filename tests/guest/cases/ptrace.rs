//! Tracing: `ptrace(2)`, its stops, and how `wait` reports them.

use crate::prelude::*;
use crate::sys::Ret;

fn ptrace(request: u32, pid: i32, addr: u64, data: u64) -> Ret {
    sc!(SYS_ptrace, request, pid, addr, data)
}
fn cont(pid: i32, signal: i32) -> Ret {
    ptrace(PTRACE_CONT, pid, 0, signal as u64)
}
/// A stopped tracee that runs `f` when it is let go.
fn tracee(f: impl FnOnce() -> i32) -> i32 {
    let pid = child(|| {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        kill(getpid(), SIGSTOP);
        f()
    });
    wait_opt(pid, __WALL);
    pid
}
fn status_of(pid: i32) -> String {
    format!("{:#x}", wait_opt(pid, __WALL).1)
}
fn regs(pid: i32) -> [u64; 27] {
    let mut regs = [0u64; 27];
    ptrace(PTRACE_GETREGS, pid, 0, at_mut(&mut regs));
    regs
}

fn errors() {
    let pid = child(|| {
        loop {
            sc!(SYS_pause);
        }
    });
    p!(ptrace(PTRACE_CONT, pid, 0, 0), ptrace(PTRACE_PEEKDATA, pid, 0, 0), ptrace(9999, pid, 0, 0));
    p!(ptrace(PTRACE_ATTACH, getpid(), 0, 0), ptrace(PTRACE_ATTACH, 0x7fff_fff0, 0, 0));
    p!(ptrace(PTRACE_SEIZE, pid, 1, 0), ptrace(PTRACE_SEIZE, pid, 0, 1 << 30));
    p!(
        ptrace(PTRACE_SEIZE, pid, 0, 0),
        ptrace(PTRACE_SEIZE, pid, 0, 0),
        ptrace(PTRACE_ATTACH, pid, 0, 0)
    );
    p!(ptrace(PTRACE_CONT, pid, 0, 0), kill(pid, SIGKILL), wait(pid));
}

fn signals_are_shown_first() {
    let pid = tracee(|| {
        catch(SIGUSR1, 0);
        kill(getpid(), SIGUSR1);
        kill(getpid(), SIGUSR2);
        count() as i32
    });
    p!(cont(pid, 0), status_of(pid), cont(pid, SIGUSR1), status_of(pid), cont(pid, 0), wait(pid));
    let pid = tracee(|| {
        kill(getpid(), SIGUSR1);
        0
    });
    p!(cont(pid, 0), status_of(pid), cont(pid, SIGTERM), wait(pid));
    let pid = tracee(|| {
        ignore(SIGUSR1);
        kill(getpid(), SIGUSR1);
        3
    });
    p!(cont(pid, 0), status_of(pid), cont(pid, 999), cont(pid, SIGUSR1), wait(pid));
}

fn system_call_stops() {
    let pid = tracee(|| {
        sc!(SYS_getppid);
        sc!(SYS_close, -1);
        0
    });
    p!(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD as u64));
    for _ in 0..5 {
        p!(ptrace(PTRACE_SYSCALL, pid, 0, 0), status_of(pid));
        let regs = regs(pid);
        let mut info = [0u64; 11];
        let len = ptrace(0x420e, pid, 88, at_mut(&mut info));
        say!("{} {len} op {} arch {:#x}", regs[15] as i64, info[0] as u32, info[0] >> 32);
    }
    p!(cont(pid, 0), wait(pid));
}

fn changing_a_system_call() {
    let pid = tracee(|| sc!(SYS_close, -1).errno());
    ptrace(PTRACE_SYSCALL, pid, 0, 0);
    wait_opt(pid, __WALL);
    // The call that stopped the tracee returns first.
    ptrace(PTRACE_SYSCALL, pid, 0, 0);
    wait_opt(pid, __WALL);
    let mut r = regs(pid);
    p!(r[15] as i64 == SYS_close, r[10] as i64);
    r[15] = u64::MAX;
    r[10] = -77i64 as u64;
    p!(ptrace(PTRACE_SETREGS, pid, 0, at(&r)), cont(pid, 0), wait(pid));
}

fn memory_and_registers() {
    let address = anon(1);
    word(address).store(0x5566_7788, SeqCst);
    word(address + 4).store(0x1122_3344, SeqCst);
    let pid = tracee(move || i32::from(word(address).load(SeqCst) == 5));
    let mut value = 0u64;
    p!(ptrace(PTRACE_PEEKDATA, pid, address, at_mut(&mut value)), value == 0x1122_3344_5566_7788);
    p!(
        ptrace(PTRACE_POKEDATA, pid, address, 5),
        ptrace(PTRACE_PEEKDATA, pid, 8, at_mut(&mut value))
    );
    p!(
        ptrace(PTRACE_POKEDATA, pid, 8, 5),
        ptrace(PTRACE_PEEKUSER, pid, 16 * 8, at_mut(&mut value))
    );
    p!(value == regs(pid)[16], ptrace(PTRACE_PEEKUSER, pid, 3, at_mut(&mut value)));
    p!(ptrace(PTRACE_PEEKUSER, pid, 5000, at_mut(&mut value)));
    let text = regs(pid)[16];
    ptrace(PTRACE_PEEKTEXT, pid, text, at_mut(&mut value));
    p!(ptrace(PTRACE_POKETEXT, pid, text, value), cont(pid, 0), wait(pid));
}

fn events_of_a_life() {
    let options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEEXIT | PTRACE_O_TRACEEXEC;
    let pid = tracee(|| {
        let inner = child(|| 3);
        wait(inner).code()
    });
    p!(ptrace(PTRACE_SETOPTIONS, pid, 0, options as u64), cont(pid, 0), status_of(pid));
    let mut message = 0u64;
    p!(ptrace(PTRACE_GETEVENTMSG, pid, 0, at_mut(&mut message)), message > 1);
    let inner = message as i32;
    p!(status_of(inner), cont(pid, 0), cont(inner, 0), status_of(inner));
    p!(ptrace(PTRACE_GETEVENTMSG, inner, 0, at_mut(&mut message)), message, cont(inner, 0));
    p!(
        status_of(inner),
        status_of(pid),
        cont(pid, SIGCHLD),
        status_of(pid),
        cont(pid, 0),
        wait(pid)
    );
}

/// A process that is about to end is past being killed: its last stop goes on.
fn killing_in_the_exit_stop() {
    for call in [SYS_exit, SYS_exit_group] {
        let pid = tracee(|| syscall(call, &[3]).errno());
        ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXIT as u64);
        p!(cont(pid, 0), status_of(pid), kill(pid, SIGKILL));
        nap(20);
        p!(wait_opt(pid, WNOHANG | __WALL), cont(pid, 0), wait(pid));
    }
}

fn seize_interrupt_and_detach() {
    let [r, w] = pipe(0);
    let pid = child(|| {
        rd(r, 1);
        7
    });
    p!(ptrace(PTRACE_SEIZE, pid, 0, 0), ptrace(PTRACE_PEEKDATA, pid, 0, 0));
    p!(ptrace(PTRACE_INTERRUPT, pid, 0, 0), status_of(pid), ptrace(PTRACE_INTERRUPT, pid, 0, 0));
    p!(cont(pid, 0), status_of(pid), ptrace(PTRACE_DETACH, pid, 0, 0), cont(pid, 0));
    wr(w, "x");
    p!(wait(pid));
}

fn attach_and_detach() {
    let [r, w] = pipe(0);
    let pid = child(|| {
        rd(r, 1);
        8
    });
    p!(ptrace(PTRACE_ATTACH, pid, 0, 0), status_of(pid));
    let tracer = get(&CString::new(format!("/proc/{pid}/status")).unwrap_or_default()).text();
    p!(tracer.contains(&format!("TracerPid:\t{}\n", getpid())), tracer.contains("tracing stop"));
    p!(ptrace(PTRACE_DETACH, pid, 0, SIGCONT as u64));
    wr(w, "x");
    p!(wait(pid));
}

fn a_tracer_that_ends() {
    let [r, w] = pipe(0);
    let pid = child(|| {
        rd(r, 1);
        9
    });
    p!(run(|| {
        ptrace(PTRACE_ATTACH, pid, 0, 0);
        wait_opt(pid, __WALL);
        0
    }));
    wr(w, "x");
    p!(wait(pid));
}

fn exec_under_a_tracer() {
    let pid = tracee(|| exec_helper(&["ids"]).errno());
    p!(cont(pid, 0), status_of(pid), cont(pid, 0), wait(pid));
}

fn not_across_user_namespaces_or_capabilities() {
    // The target keeps its capabilities, or its namespace, where the caller has the same ids.
    let target = child(|| {
        loop {
            sc!(SYS_pause);
        }
    });
    p!(run(|| {
        p!(sc!(SYS_capset, at(&[0x2008_0522u32, 0]), at(&[0u32; 6])));
        p!(ptrace(PTRACE_ATTACH, target, 0, 0), ptrace(PTRACE_SEIZE, target, 0, 0));
        0
    }));
    p!(run(|| {
        p!(sc!(SYS_unshare, CLONE_NEWUSER), ptrace(PTRACE_SEIZE, target, 0, 0));
        let memory = CString::new(format!("/proc/{target}/mem")).unwrap_or_default();
        let namespace = CString::new(format!("/proc/{target}/ns/uts")).unwrap_or_default();
        p!(open(&memory, O_RDWR, 0), open(&namespace, O_RDONLY, 0));
        let (byte, local) = (at(&[0u8]), [0u8; 1]);
        let iov = [at(&local), 1, byte, 1];
        p!(sc!(SYS_process_vm_readv, target, at(&iov[..2]), 1, at(&iov[2..]), 1, 0));
        0
    }));
    p!(kill(target, SIGKILL), wait(target));
}

fn single_steps() {
    let pid = tracee(|| 4);
    let mut all = true;
    for _ in 0..20 {
        ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
        all &= wait_opt(pid, __WALL).1 == SIGTRAP << 8 | 0x7f;
    }
    p!(all, cont(pid, 0), wait(pid));
}

cases![
    errors,
    signals_are_shown_first,
    system_call_stops,
    changing_a_system_call,
    memory_and_registers,
    events_of_a_life,
    killing_in_the_exit_stop,
    seize_interrupt_and_detach,
    attach_and_detach,
    a_tracer_that_ends,
    exec_under_a_tracer,
    not_across_user_namespaces_or_capabilities,
    single_steps,
];
