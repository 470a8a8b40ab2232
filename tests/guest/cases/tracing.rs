//! Tracers: registers, breakpoints and steps around system calls, stops, and what may not be done when.

use crate::prelude::*;
use crate::sys::site::{CALL, TAIL, TAIL_CALL, enter, heat, load, map};

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
const RAX: usize = 10;
const RCX: usize = 11;
const R11: usize = 6;
const ORIG: usize = 15;
const RIP: usize = 16;
const FLAGS: usize = 18;

fn word_at(pid: i32, addr: u64) -> u64 {
    let mut value = 0u64;
    ptrace(PTRACE_PEEKTEXT, pid, addr, at_mut(&mut value));
    value
}
fn set_byte(pid: i32, addr: u64, byte: u8) -> Ret {
    ptrace(PTRACE_POKETEXT, pid, addr, word_at(pid, addr) & !0xff | u64::from(byte))
}
const NONE: [u64; 5] = [0; 5];

fn code_of_a_hot_place_is_as_written() {
    let code = map(c"code", &load(SYS_getppid));
    heat(code, NONE);
    let pid = tracee(|| i32::from(heat(code, NONE) != i64::from(getppid())));
    let want = u64::from_le_bytes(load(SYS_getppid)[4..12].try_into().unwrap_or_default());
    p!(word_at(pid, code + 4) == want, cont(pid, 0), wait(pid));
}

fn breakpoints_on_a_hot_place() {
    let code = map(c"code", &load(SYS_getppid));
    heat(code, NONE);
    for offset in [0, 4, CALL, CALL + 2] {
        let pid = tracee(|| i32::from(enter(code, NONE, 0x202).rax != i64::from(getppid())));
        let original = word_at(pid, code + offset);
        p!(set_byte(pid, code + offset, 0xcc), word_at(pid, code + offset) & 0xff);
        p!(cont(pid, 0), status_of(pid));
        let mut r = regs(pid);
        p!(r[RIP].wrapping_sub(code));
        r[RIP] -= 1;
        p!(
            ptrace(PTRACE_POKETEXT, pid, code + offset, original),
            ptrace(PTRACE_SETREGS, pid, 0, at(&r))
        );
        p!(cont(pid, 0), wait(pid));
    }
    // Only the tracees had it.
    p!(heat(code, NONE) == i64::from(getppid()), copy(code, 12) == load(SYS_getppid));
}

fn steps_over_a_hot_place() {
    for (bytes, number) in [(load(SYS_getppid), 0), (TAIL.to_vec(), SYS_getppid as u64)] {
        let code = map(c"code", &bytes);
        let args = [number, 0, 0, 0, 0];
        heat(code, args);
        let pid = tracee(|| i32::from(enter(code, args, 0x202).rax != i64::from(getppid())));
        let original = word_at(pid, code);
        set_byte(pid, code, 0xcc);
        cont(pid, 0);
        wait_opt(pid, __WALL);
        let mut r = regs(pid);
        r[RIP] = code;
        ptrace(PTRACE_POKETEXT, pid, code, original);
        ptrace(PTRACE_SETREGS, pid, 0, at(&r));
        let mut line = String::new();
        for _ in 0..4 {
            ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
            line += &format!("{:#x} ", wait_opt(pid, __WALL).1);
            let r = regs(pid);
            let at = r[RIP].wrapping_sub(code);
            line += &if at < 64 { format!("at {at}; ") } else { "left; ".into() };
        }
        say!("{line}");
        p!(cont(pid, 0), wait(pid));
    }
}

fn registers_in_call_stops() {
    let code = map(c"code", &TAIL);
    heat(code, [SYS_getppid as u64, 0, 0, 0, 0]);
    let pid =
        tracee(|| enter(code, [SYS_close as u64, 999, 0, 0, 0], 0x203).rax.unsigned_abs() as i32);
    p!(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD as u64));
    for _ in 0..12 {
        ptrace(PTRACE_SYSCALL, pid, 0, 0);
        let status = wait_opt(pid, __WALL).1;
        let r = regs(pid);
        if r[ORIG] != SYS_close as u64 {
            continue;
        }
        p!(
            format!("{status:#x}"),
            r[RAX] as i64,
            r[RIP].wrapping_sub(code) == TAIL_CALL + 2,
            r[RCX] == r[RIP]
        );
        p!(r[R11] & 1, r[FLAGS] & 1);
        if r[RAX] as i64 != -i64::from(ENOSYS) {
            break;
        }
    }
    p!(cont(pid, 0), wait(pid));
}

fn results_are_changed() {
    let pid = tracee(|| getppid() & 0x7f);
    ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD as u64);
    for _ in 0..12 {
        ptrace(PTRACE_SYSCALL, pid, 0, 0);
        wait_opt(pid, __WALL);
        let mut r = regs(pid);
        if r[ORIG] == SYS_getppid as u64 && r[RAX] as i64 != -i64::from(ENOSYS) {
            r[RAX] = 42;
            p!(ptrace(PTRACE_SETREGS, pid, 0, at(&r)));
            break;
        }
    }
    p!(cont(pid, 0), wait(pid));
}

fn a_call_is_skipped() {
    let pid = tracee(|| {
        mkdir(c"d", 0o755);
        i32::from(access(c"d", F_OK).ok())
    });
    ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD as u64);
    for _ in 0..12 {
        ptrace(PTRACE_SYSCALL, pid, 0, 0);
        wait_opt(pid, __WALL);
        let mut r = regs(pid);
        if r[ORIG] == SYS_mkdir as u64 {
            r[ORIG] = u64::MAX;
            p!(r[RAX] as i64, ptrace(PTRACE_SETREGS, pid, 0, at(&r)));
            break;
        }
    }
    p!(cont(pid, 0), wait(pid), access(c"d", F_OK));
}

fn signal_information_is_read_and_changed() {
    let pid = tracee(|| {
        catch(SIGUSR1, 0);
        queue(getpid(), 0, SIGUSR1, -1, 5);
        hits().first().map_or(0, |h| h.value as i32)
    });
    let mut info = [0i32; 32];
    p!(cont(pid, 0), status_of(pid), ptrace(PTRACE_GETSIGINFO, pid, 0, at_mut(&mut info)));
    p!(info[0], info[2], info[6], info[4] == pid);
    info[6] = 9;
    p!(ptrace(PTRACE_SETSIGINFO, pid, 0, at(&info)), cont(pid, SIGUSR1), wait(pid));
    let pid = tracee(|| 0);
    p!(
        ptrace(PTRACE_GETSIGINFO, pid, 0, 8),
        ptrace(PTRACE_GETSIGINFO, pid, 0, at_mut(&mut info)),
        info[0]
    );
    p!(cont(pid, 0), wait(pid), ptrace(PTRACE_GETSIGINFO, pid, 0, at_mut(&mut info)));
}

fn signals_waiting_are_peeked_at() {
    let pid = tracee(|| {
        block(&[SIGUSR1, SIGUSR2]);
        queue(getpid(), 0, SIGUSR1, -1, 7);
        raise(SIGUSR2);
        kill(getpid(), SIGCONT);
        raise(SIGSTOP);
        0
    });
    cont(pid, 0);
    p!(status_of(pid));
    let mut infos = [0i32; 64];
    for flags in [0u32, 1] {
        // From the first on, of the thread or of the process.
        let args = [0u64, u64::from(flags) | 4 << 32];
        let n = ptrace(PTRACE_PEEKSIGINFO, pid, at(&args), at_mut(&mut infos));
        p!(flags, n, infos[0], infos[2], infos[6]);
    }
    let mut mask = 0u64;
    p!(
        ptrace(PTRACE_GETSIGMASK, pid, 8, at_mut(&mut mask)),
        names(mask),
        ptrace(PTRACE_GETSIGMASK, pid, 4, at_mut(&mut mask))
    );
    p!(ptrace(PTRACE_SETSIGMASK, pid, 8, at(&set(&[SIGUSR1]))), kill(pid, SIGKILL), wait(pid));
}

fn register_sets() {
    let pid = tracee(|| 3);
    let mut general = [0u64; 40];
    let mut vector = [at_mut(&mut general), 320];
    p!(
        ptrace(PTRACE_GETREGSET, pid, 1, at_mut(&mut vector)),
        vector[1],
        general[RIP] == regs(pid)[RIP]
    );
    vector[1] = 16;
    p!(ptrace(PTRACE_GETREGSET, pid, 1, at_mut(&mut vector)), vector[1]);
    vector[1] = 12;
    p!(
        ptrace(PTRACE_GETREGSET, pid, 1, at_mut(&mut vector)),
        ptrace(PTRACE_GETREGSET, pid, 0x9999, at_mut(&mut vector))
    );
    let mut floating = [0u64; 64];
    p!(
        ptrace(PTRACE_GETFPREGS, pid, 0, at_mut(&mut floating)),
        floating[3] as u32,
        ptrace(PTRACE_SETFPREGS, pid, 0, at(&floating))
    );
    vector = [at_mut(&mut floating), 512];
    p!(
        ptrace(PTRACE_GETREGSET, pid, 2, at_mut(&mut vector)),
        vector[1],
        ptrace(PTRACE_GETREGS, pid, 0, 8)
    );
    p!(cont(pid, 0), wait(pid));
}

fn what_needs_a_stop() {
    let pid = child(|| {
        loop {
            sc!(SYS_pause);
        }
    });
    p!(
        ptrace(PTRACE_SEIZE, pid, 0, 0),
        ptrace(PTRACE_GETREGS, pid, 0, at_mut(&mut [0u64; 27])),
        ptrace(PTRACE_DETACH, pid, 0, 0)
    );
    p!(
        ptrace(PTRACE_LISTEN, pid, 0, 0),
        ptrace(PTRACE_SETOPTIONS, pid, 0, 0),
        ptrace(PTRACE_KILL, pid, 0, 0)
    );
    p!(
        // It dies by itself: only then is it certain what the others find.
        status_of(pid),
        ptrace(PTRACE_INTERRUPT, pid, 0, 0),
        ptrace(PTRACE_LISTEN, pid, 0, 0),
        ptrace(PTRACE_SETOPTIONS, pid, 0, 1 << 29)
    );
    p!(ptrace(PTRACE_DETACH, pid, 0, 99), ptrace(PTRACE_DETACH, pid, 0, SIGTERM as u64), wait(pid));
}

fn group_stops_of_a_seized_process() {
    let pid = child(|| {
        loop {
            sc!(SYS_pause);
        }
    });
    ptrace(PTRACE_SEIZE, pid, 0, 0);
    p!(
        kill(pid, SIGSTOP),
        status_of(pid),
        cont(pid, SIGSTOP),
        status_of(pid),
        ptrace(PTRACE_LISTEN, pid, 0, 0)
    );
    p!(
        wait_opt(pid, WNOHANG | __WALL),
        kill(pid, SIGCONT),
        status_of(pid),
        cont(pid, 0),
        status_of(pid),
        cont(pid, SIGCONT)
    );
    p!(kill(pid, SIGKILL), wait(pid));
}

fn a_tracee_dies_with_its_tracer() {
    let [r, w] = pipe(0);
    p!(run(|| {
        let pid = child(|| {
            loop {
                sc!(SYS_pause);
            }
        });
        ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL as u64);
        wr(w, pid.to_le_bytes());
        0
    }));
    let pid = i32::from_le_bytes(rd(r, 4).bytes().try_into().unwrap_or_default());
    p!(until(|| kill(pid, 0).errno() == ESRCH
        || get(&CString::new(format!("/proc/{pid}/stat")).unwrap_or_default())
            .text()
            .contains(") Z ")));
}

fn clones_and_programs_are_announced() {
    let options =
        PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    let pid = tracee(|| exec_helper(&["exit", "3"]).errno());
    p!(ptrace(PTRACE_SETOPTIONS, pid, 0, options as u64), cont(pid, 0), status_of(pid));
    let mut former = 0u64;
    p!(
        ptrace(PTRACE_GETEVENTMSG, pid, 0, at_mut(&mut former)),
        former == pid as u64,
        cont(pid, 0),
        wait(pid)
    );
    let pid = tracee(|| {
        extern "C" fn entry(_: *mut c_void) -> i32 {
            exit(4)
        }
        let inner = spawn(CLONE_VM | CLONE_VFORK | SIGCHLD, entry, 0, 0, 0);
        wait(inner.fd()).code()
    });
    p!(ptrace(PTRACE_SETOPTIONS, pid, 0, options as u64), cont(pid, 0), status_of(pid));
    let mut inner = 0u64;
    ptrace(PTRACE_GETEVENTMSG, pid, 0, at_mut(&mut inner));
    p!(status_of(inner as i32), cont(inner as i32, 0), cont(pid, 0), status_of(pid));
    p!(wait(inner as i32), cont(pid, 0), status_of(pid), cont(pid, 0), wait(pid));
}

cases![
    code_of_a_hot_place_is_as_written,
    breakpoints_on_a_hot_place,
    steps_over_a_hot_place,
    registers_in_call_stops,
    results_are_changed,
    a_call_is_skipped,
    signal_information_is_read_and_changed,
    signals_waiting_are_peeked_at,
    register_sets,
    what_needs_a_stop,
    group_stops_of_a_seized_process,
    a_tracee_dies_with_its_tracer,
    clones_and_programs_are_announced,
];
