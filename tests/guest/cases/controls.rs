//! What a process is told to be: memory that may not become executable, options of `prctl`, capabilities, scheduling.

use crate::prelude::*;

const SET_MDWE: i32 = 65;
const GET_MDWE: i32 = 66;
const RX: i32 = PROT_READ | PROT_EXEC;
const RWX: i32 = PROT_READ | PROT_WRITE | PROT_EXEC;
const CAP_CHOWN: i32 = 0;
const CAP_KILL: i32 = 5;
const AMBIENT: i32 = 47;
const IS_SET: i32 = 1;
const RAISE: i32 = 2;
const LOWER: i32 = 3;
const CLEAR: i32 = 4;

/// Only whether it failed: addresses are no matter.
fn failure(ret: Ret) -> Ret {
    Ret(ret.0.min(0))
}
fn private(prot: i32) -> Ret {
    mmap(0, PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
}
fn option(op: i32, args: [u64; 4]) -> Ret {
    sc!(SYS_prctl, op, args[0], args[1], args[2], args[3])
}
fn comm() -> String {
    get(c"/proc/self/comm").text()
}
fn ambient(op: i32, cap: i32) -> Ret {
    sc!(SYS_prctl, AMBIENT, op, cap, 0, 0)
}
fn status(key: &str) -> String {
    let text = get(c"/proc/self/status").text();
    text.lines().find(|line| line.starts_with(key)).unwrap_or("").replace('\t', " ")
}

fn memory_does_not_become_executable() {
    let (code, data) = (private(RX).addr(), anon(1));
    p!(prctl(GET_MDWE, 0), prctl(SET_MDWE, 1), prctl(GET_MDWE, 0));
    p!(failure(private(RX)), failure(private(RWX)), failure(private(PROT_WRITE | PROT_EXEC)));
    p!(mprotect(data, PAGE, RX), mprotect(data, PAGE, PROT_EXEC), mprotect(data, PAGE, PROT_READ));
    p!(mprotect(code, PAGE, RX), mprotect(code, PAGE, RWX), mprotect(code, PAGE, PROT_EXEC));
    p!(mprotect(code, PAGE, PROT_READ), mprotect(code, PAGE, RX));
}

fn memory_that_may_not_become_executable_in_parts() {
    let a = anon(3);
    p!(mprotect(a, PAGE, RX), prctl(SET_MDWE, 1));
    p!(mprotect(a, 3 * PAGE, PROT_EXEC | PROT_READ), poke(a + PAGE, 1), peek(a));
    p!(mprotect(a, 2 * PAGE, PROT_NONE), mprotect(a, PAGE, RX), peek(a));
}

fn memory_that_may_not_become_executable_of_files() {
    put(c"f", "text");
    let fd = open(c"f", O_RDWR, 0).fd();
    let mem = sc!(SYS_memfd_create, c"m", 0).fd();
    ftruncate(mem, PAGE as i64);
    prctl(SET_MDWE, 1);
    for prot in [PROT_READ, RX, RWX] {
        let shared = mmap(0, PAGE, prot, MAP_SHARED, mem, 0);
        p!(failure(shared), failure(mmap(0, PAGE, prot, MAP_PRIVATE, mem, 0)));
    }
    let page = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0).addr();
    p!(mprotect(page, PAGE, RX), peek(page));
    // What is there stays when the new mapping is refused.
    let a = anon(1);
    fill(a, b"x");
    let fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    p!(
        failure(mmap(a, PAGE, RWX, fixed, -1, 0)),
        peek(a),
        failure(mmap(a, PAGE, RX, fixed, -1, 0)),
        peek(a)
    );
}

fn executable_memory_is_asked_for_wrongly() {
    for args in
        [[2, 0, 0, 0], [4, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [1 << 32, 0, 0, 0]]
    {
        p!(option(SET_MDWE, args));
    }
    for args in [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]] {
        p!(option(GET_MDWE, args));
    }
    p!(prctl(SET_MDWE, 0), prctl(GET_MDWE, 0), prctl(SET_MDWE, 3), prctl(GET_MDWE, 0));
    p!(prctl(SET_MDWE, 3), prctl(SET_MDWE, 1), prctl(SET_MDWE, 0), prctl(GET_MDWE, 0));
}

fn children_may_not_make_memory_executable_either() {
    for mode in [0, 1, 3] {
        p!(run(|| {
            p!(prctl(SET_MDWE, mode));
            p!(run(|| {
                p!(prctl(GET_MDWE, 0), failure(private(RWX)), prctl(SET_MDWE, 1));
                0
            }));
            0
        }));
    }
}

fn names_of_tasks() {
    for name in [
        c"",
        c"short",
        c"fifteen letters",
        c"a name that is too long",
        c"with\nnewline",
        c"back\\slash",
    ] {
        p!(prctl(PR_SET_NAME, name), comm().escape_debug());
        let mut seen = [b'x'; 20];
        p!(prctl(PR_GET_NAME, &mut seen), seen.escape_ascii().to_string());
    }
    p!(prctl(PR_SET_NAME, 8u64), prctl(PR_GET_NAME, 8u64));
}

fn names_are_written_to_proc() {
    let fd = open(c"/proc/self/comm", O_RDWR, 0).fd();
    p!(wr(fd, "new name"), comm(), wr(fd, "a name that is much too long"), comm());
    p!(wr(fd, ""), comm(), wr(fd, "x\ny\n"), comm(), wr(fd, "a\0b"), comm().escape_debug());
    p!(status("Name"));
    let child = child(|| exit(sc!(SYS_pause).errno()));
    let path = CString::new(format!("/proc/{child}/comm")).unwrap_or_default();
    let other = open(&path, O_WRONLY, 0).fd();
    p!(wr(other, "x"), kill(child, SIGKILL), wait(child));
}

fn signals_at_the_end_of_the_parent() {
    for value in [0u64, 64, 65, u64::MAX, 1 << 32] {
        let mut signal = 77i32;
        p!(prctl(PR_SET_PDEATHSIG, value), prctl(PR_GET_PDEATHSIG, at_mut(&mut signal)), signal);
    }
    p!(prctl(PR_GET_PDEATHSIG, 8u64));
    prctl(PR_SET_PDEATHSIG, SIGUSR2);
    p!(run(|| {
        let mut signal = 77i32;
        p!(prctl(PR_GET_PDEATHSIG, at_mut(&mut signal)), signal);
        0
    }));
}

fn slack_of_timers() {
    let slack = || get(c"/proc/self/timerslack_ns").text();
    p!(prctl(PR_SET_TIMERSLACK, 1), prctl(PR_GET_TIMERSLACK, 0), slack());
    p!(prctl(PR_SET_TIMERSLACK, 0), slack(), prctl(PR_SET_TIMERSLACK, 77_777), slack());
    p!(run(|| {
        p!(slack(), prctl(PR_SET_TIMERSLACK, 5), prctl(PR_SET_TIMERSLACK, 0), slack());
        0
    }));
    p!(slack());
}

fn options_with_arguments_that_must_be_zero() {
    for op in [PR_GET_NO_NEW_PRIVS, PR_GET_THP_DISABLE, PR_MCE_KILL_GET] {
        for args in [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]] {
            p!(option(op, args));
        }
    }
    for op in [PR_SET_NO_NEW_PRIVS, PR_SET_THP_DISABLE] {
        for args in [[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]] {
            p!(option(op, args));
        }
    }
    p!(prctl(PR_SET_NO_NEW_PRIVS, 2), prctl(PR_GET_NO_NEW_PRIVS, 0));
}

fn what_to_do_with_broken_memory() {
    for (a, b, c, d) in [
        (0, 0, 0, 0),
        (0, 1, 0, 0),
        (1, 0, 0, 0),
        (1, 1, 0, 0),
        (1, 2, 0, 0),
        (1, 3, 0, 0),
        (2, 0, 0, 0),
        (0, 0, 1, 0),
        (1, 1, 0, 1),
    ] {
        p!(option(PR_MCE_KILL, [a, b, c, d]));
    }
}

fn huge_pages_are_declined() {
    p!(prctl(PR_GET_THP_DISABLE, 0), prctl(PR_SET_THP_DISABLE, 1), prctl(PR_GET_THP_DISABLE, 0));
    p!(status("THP_enabled"));
    p!(run(|| {
        p!(prctl(PR_GET_THP_DISABLE, 0));
        0
    }));
    p!(prctl(PR_SET_THP_DISABLE, 0), prctl(PR_GET_THP_DISABLE, 0), status("THP_enabled"));
}

fn options_that_there_are_not() {
    for op in [0, 10, 11, 12, 45, 46, 50, 51, 54, 100, -1, i32::MIN, i32::MAX] {
        p!(prctl(op, 0));
    }
}

fn no_new_privileges_in_proc() {
    p!(status("NoNewPrivs"), prctl(PR_SET_NO_NEW_PRIVS, 1), status("NoNewPrivs"));
    p!(run(|| {
        p!(prctl(PR_GET_NO_NEW_PRIVS, 0), prctl(PR_SET_NO_NEW_PRIVS, 1));
        0
    }));
}

fn adopting_orphans_in_turn() {
    let flag = || {
        let mut flag = 7i32;
        let ret = prctl(PR_GET_CHILD_SUBREAPER, at_mut(&mut flag));
        format!("{ret} {flag}")
    };
    p!(flag(), prctl(PR_SET_CHILD_SUBREAPER, 99), flag(), prctl(PR_GET_CHILD_SUBREAPER, 8u64));
    p!(run(|| {
        p!(flag());
        0
    }));
    p!(prctl(PR_SET_CHILD_SUBREAPER, 0), flag());
}

fn bounding_set_of_capabilities() {
    for cap in [0u64, 12, 40, 41, 63, 64, u64::MAX] {
        p!(prctl(PR_CAPBSET_READ, cap));
    }
    p!(
        prctl(PR_CAPBSET_DROP, 41),
        prctl(PR_CAPBSET_DROP, CAP_CHOWN),
        prctl(PR_CAPBSET_DROP, CAP_CHOWN)
    );
    p!(prctl(PR_CAPBSET_READ, CAP_CHOWN), status("CapBnd").len());
    // The inheritable set may not grow beyond it.
    let header = [0x2008_0522u32, 0];
    let mut sets = [0u32; 6];
    p!(sc!(SYS_capget, at(&header), at_mut(&mut sets)));
    sets[2] = 1 << CAP_CHOWN;
    let gained = sets;
    p!(sc!(SYS_capset, at(&header), at(&gained)));
    sets[2] = 1 << CAP_KILL;
    let kept = sets;
    p!(sc!(SYS_capset, at(&header), at(&kept)), status("CapInh"));
}

fn ambient_capabilities_are_asked_for_wrongly() {
    p!(
        ambient(IS_SET, 41),
        ambient(IS_SET, -1),
        ambient(RAISE, 41),
        ambient(LOWER, 64),
        ambient(9, 0)
    );
    p!(
        ambient(CLEAR, 1),
        ambient(CLEAR, 0),
        option(AMBIENT, [4, 0, 1, 0]),
        option(AMBIENT, [1, 0, 0, 1])
    );
    p!(ambient(RAISE, CAP_CHOWN), ambient(LOWER, CAP_CHOWN), ambient(IS_SET, CAP_CHOWN));
}

fn ambient_capabilities_follow_the_others() {
    let header = [0x2008_0522u32, 0];
    let mut sets = [0u32; 6];
    sc!(SYS_capget, at(&header), at_mut(&mut sets));
    sets[2] = 1 << CAP_CHOWN | 1 << CAP_KILL;
    let inheritable = sets;
    p!(sc!(SYS_capset, at(&header), at(&inheritable)));
    p!(ambient(RAISE, CAP_CHOWN), ambient(RAISE, CAP_KILL), status("CapAmb"));
    sets[2] = 1 << CAP_KILL;
    let fewer = sets;
    p!(sc!(SYS_capset, at(&header), at(&fewer)), status("CapAmb"));
    p!(run(|| {
        p!(status("CapAmb"), ambient(LOWER, CAP_KILL), status("CapAmb"));
        0
    }));
    // No capability may be raised behind this bit.
    p!(
        prctl(PR_SET_SECUREBITS, 1 << 6),
        ambient(RAISE, CAP_KILL),
        ambient(CLEAR, 0),
        status("CapAmb")
    );
    p!(ambient(RAISE, CAP_KILL));
}

fn secure_bits_lock() {
    p!(prctl(PR_GET_SECUREBITS, 0), prctl(PR_SET_SECUREBITS, 0x30), prctl(PR_GET_SECUREBITS, 0));
    p!(prctl(PR_SET_SECUREBITS, 0x20), prctl(PR_SET_SECUREBITS, 0), prctl(PR_SET_SECUREBITS, 0x31));
    p!(
        prctl(PR_GET_SECUREBITS, 0),
        prctl(PR_SET_KEEPCAPS, 0),
        prctl(PR_SET_KEEPCAPS, 2),
        prctl(PR_GET_KEEPCAPS, 0)
    );
    p!(prctl(PR_SET_SECUREBITS, 1 << 8), prctl(PR_SET_SECUREBITS, -1i64));
}

fn capabilities_do_not_come_back() {
    let header = [0x2008_0522u32, 0];
    let mut sets = [0u32; 6];
    sc!(SYS_capget, at(&header), at_mut(&mut sets));
    let all = sets;
    sets[0] &= !(1 << CAP_KILL);
    let effective = sets;
    p!(sc!(SYS_capset, at(&header), at(&effective)), sc!(SYS_capset, at(&header), at(&all)));
    sets[1] &= !(1 << CAP_KILL);
    let permitted = sets;
    p!(sc!(SYS_capset, at(&header), at(&permitted)), sc!(SYS_capset, at(&header), at(&all)));
    sets[0] |= 1 << CAP_KILL;
    let beyond = sets;
    p!(sc!(SYS_capset, at(&header), at(&beyond)));
    let other = [0x2008_0522u32, getppid() as u32];
    p!(
        sc!(SYS_capset, at(&other), at(&permitted)),
        sc!(SYS_capset, at(&header), 8u64),
        sc!(SYS_capget, 8u64, 0u64)
    );
}

/// `struct sched_attr`: size, policy, flags, nice, priority, runtime, deadline, period.
fn attributes(size: u32, policy: u32, flags: u64, nice: i32, priority: u32) -> [u64; 7] {
    let low = |a: u32, b: u32| u64::from(a) | u64::from(b) << 32;
    [low(size, policy), flags, low(nice as u32, priority), 0, 0, 0, 0]
}
fn told() -> String {
    let mut seen = [0u64; 7];
    let ret = sc!(SYS_sched_getattr, 0, at_mut(&mut seen), 56, 0);
    let [head, flags, third, ..] = seen;
    format!("{ret} {} {flags:#x} {} {}", head >> 32, third as i32, third >> 32)
}
fn schedule(attr: [u64; 7]) -> Ret {
    sc!(SYS_sched_setattr, 0, at(&attr), 0)
}

fn attributes_of_scheduling() {
    p!(told(), schedule(attributes(48, 0, 0, 5, 0)), told());
    p!(schedule(attributes(48, 3, 0, 7, 0)), told(), schedule(attributes(48, 5, 0, 0, 0)), told());
    p!(
        schedule(attributes(48, 0, 1, 0, 0)),
        told(),
        schedule(attributes(48, 0, 0, -20, 0)),
        told()
    );
    p!(
        schedule(attributes(48, 0, 0, 100, 0)),
        told(),
        schedule(attributes(48, 0, 0, -100, 0)),
        told()
    );
}

fn attributes_of_scheduling_that_are_wrong() {
    p!(schedule(attributes(48, 9, 0, 0, 0)), schedule(attributes(48, 0, 0, 0, 1)));
    p!(
        schedule(attributes(48, 1, 0, 0, 0)),
        schedule(attributes(48, 1, 0, 0, 100)),
        schedule(attributes(48, 4, 0, 0, 0))
    );
    p!(
        schedule(attributes(48, 0, 1 << 20, 0, 0)),
        schedule(attributes(47, 0, 0, 0, 0)),
        schedule(attributes(5000, 0, 0, 0, 0))
    );
    p!(schedule(attributes(0, 0, 0, 3, 0)), told());
    let attr = attributes(48, 0, 0, 0, 0);
    p!(sc!(SYS_sched_setattr, 0, at(&attr), 1), sc!(SYS_sched_setattr, -1, at(&attr), 0));
    p!(
        sc!(SYS_sched_setattr, 0, 0u64, 0),
        sc!(SYS_sched_setattr, 0, 8u64, 0),
        sc!(SYS_sched_setattr, 0x7fff_fff0, at(&attr), 0)
    );
}

fn attributes_of_scheduling_in_pieces() {
    let mut seen = [0u64; 520];
    for size in [0u32, 47, 48, 56, 64, 4096, 4097] {
        p!(sc!(SYS_sched_getattr, 0, at_mut(&mut seen), size, 0), seen[0] as u32);
    }
    p!(
        sc!(SYS_sched_getattr, 0, 0u64, 48, 0),
        sc!(SYS_sched_getattr, -1, at_mut(&mut seen), 48, 0)
    );
    p!(
        sc!(SYS_sched_getattr, 0, at_mut(&mut seen), 48, 1),
        sc!(SYS_sched_getattr, 0x7fff_fff0, at_mut(&mut seen), 48, 0)
    );
}

fn some_attributes_of_scheduling_are_kept() {
    const KEEP_POLICY: u64 = 8;
    const KEEP_PARAMS: u64 = 16;
    p!(schedule(attributes(48, 3, 0, 4, 0)), told());
    p!(
        schedule(attributes(48, 0, KEEP_POLICY, 6, 0)),
        told(),
        schedule(attributes(48, 0, KEEP_PARAMS, 9, 0)),
        told()
    );
    p!(schedule(attributes(48, 0, KEEP_POLICY | KEEP_PARAMS, 9, 0)), told());
}

fn scheduling_starts_anew_in_children() {
    const RESET_ON_FORK: i32 = 0x4000_0000;
    let param = 0i32;
    p!(
        sc!(SYS_setpriority, 0, 0, 5),
        sc!(SYS_sched_setscheduler, 0, SCHED_BATCH | RESET_ON_FORK, at(&param))
    );
    p!(sc!(SYS_sched_getscheduler, 0), told());
    p!(run(|| {
        p!(sc!(SYS_sched_getscheduler, 0), told());
        0
    }));
    p!(sc!(SYS_sched_setscheduler, 0, SCHED_OTHER, at(&param)), sc!(SYS_sched_getscheduler, 0));
}

fn ranges_of_priorities() {
    for policy in [0, 1, 2, 3, 4, 5, 6, -1] {
        p!(sc!(SYS_sched_get_priority_min, policy), sc!(SYS_sched_get_priority_max, policy));
    }
    p!(
        sc!(SYS_sched_rr_get_interval, -1, 0u64),
        sc!(SYS_sched_rr_get_interval, 0, 8u64),
        sc!(SYS_sched_rr_get_interval, 0x7fff_fff0, 0u64)
    );
}

fn parameters_of_scheduling() {
    let mut param = 7i32;
    p!(
        sc!(SYS_sched_getparam, 0, at_mut(&mut param)),
        param,
        sc!(SYS_sched_getparam, 0, 0u64),
        sc!(SYS_sched_getparam, -1, at_mut(&mut param))
    );
    for value in [0i32, 1, 99, -1] {
        p!(
            sc!(SYS_sched_setparam, 0, at(&value)),
            sc!(SYS_sched_setscheduler, 0, SCHED_BATCH, at(&value))
        );
    }
    p!(
        sc!(SYS_sched_setparam, 0, 8u64),
        sc!(SYS_sched_setparam, -1, at(&param)),
        sc!(SYS_sched_setscheduler, 0, -1, at(&param))
    );
    p!(sc!(SYS_sched_getscheduler, 0x7fff_fff0), sc!(SYS_sched_getscheduler, -1));
}

fn masks_of_processors() {
    let mut mask = [0u64; 32];
    let size = sc!(SYS_sched_getaffinity, 0, 256, at_mut(&mut mask));
    p!(
        size.0 % 8,
        sc!(SYS_sched_getaffinity, 0, 7, at_mut(&mut mask)),
        sc!(SYS_sched_getaffinity, 0, 0, at_mut(&mut mask))
    );
    let (none, one) = ([0u64; 32], {
        let mut one = [0u64; 32];
        one[0] = mask[0] & mask[0].wrapping_neg();
        one
    });
    p!(
        sc!(SYS_sched_setaffinity, 0, 256, at(&none)),
        sc!(SYS_sched_setaffinity, 0, 0, at(&mask)),
        sc!(SYS_sched_setaffinity, 0, 256, 8u64)
    );
    p!(
        sc!(SYS_sched_setaffinity, 0, 256, at(&one)),
        sc!(SYS_sched_getaffinity, 0, 256, at_mut(&mut mask)).ok(),
        mask == one
    );
    p!(run(|| {
        let mut mask = [0u64; 32];
        p!(sc!(SYS_sched_getaffinity, 0, 256, at_mut(&mut mask)).ok(), mask == one);
        0
    }));
    p!(
        sc!(SYS_sched_setaffinity, 0x7fff_fff0, 256, at(&one)),
        sc!(SYS_sched_getaffinity, -1, 256, at_mut(&mut mask))
    );
}

fn priorities_of_input_and_output() {
    let class = |class: i32, level: i32| class << 13 | level;
    p!(
        sc!(SYS_ioprio_get, 1, 0),
        sc!(SYS_ioprio_set, 1, 0, class(2, 3)),
        sc!(SYS_ioprio_get, 1, 0)
    );
    p!(
        sc!(SYS_ioprio_set, 1, 0, class(3, 7)),
        sc!(SYS_ioprio_get, 1, 0),
        sc!(SYS_ioprio_set, 1, 0, class(0, 1))
    );
    p!(
        sc!(SYS_ioprio_set, 1, 0, class(7, 0)),
        sc!(SYS_ioprio_set, 9, 0, class(2, 3)),
        sc!(SYS_ioprio_get, 9, 0)
    );
    p!(sc!(SYS_ioprio_set, 1, 0x7fff_fff0, class(2, 3)), sc!(SYS_ioprio_get, 1, 0x7fff_fff0));
    p!(
        sc!(SYS_ioprio_set, 1, 0, class(2, 6)),
        run(|| {
            p!(sc!(SYS_ioprio_get, 1, 0));
            0
        })
    );
}

cases![
    memory_does_not_become_executable,
    memory_that_may_not_become_executable_in_parts,
    memory_that_may_not_become_executable_of_files,
    executable_memory_is_asked_for_wrongly,
    children_may_not_make_memory_executable_either,
    names_of_tasks,
    names_are_written_to_proc,
    signals_at_the_end_of_the_parent,
    slack_of_timers,
    options_with_arguments_that_must_be_zero,
    what_to_do_with_broken_memory,
    huge_pages_are_declined,
    options_that_there_are_not,
    no_new_privileges_in_proc,
    adopting_orphans_in_turn,
    bounding_set_of_capabilities,
    ambient_capabilities_are_asked_for_wrongly,
    ambient_capabilities_follow_the_others,
    secure_bits_lock,
    capabilities_do_not_come_back,
    attributes_of_scheduling,
    attributes_of_scheduling_that_are_wrong,
    attributes_of_scheduling_in_pieces,
    some_attributes_of_scheduling_are_kept,
    scheduling_starts_anew_in_children,
    ranges_of_priorities,
    parameters_of_scheduling,
    masks_of_processors,
    priorities_of_input_and_output,
];
