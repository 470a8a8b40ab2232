//! Limits of resources that act, and options of `prctl`.

use crate::prelude::*;

fn limit(which: u32, soft: u64, hard: u64) -> Ret {
    sc!(SYS_prlimit64, 0, which, at(&[soft, hard]), 0u64)
}
/// Runs as a user without capabilities.
fn as_user(f: impl FnOnce()) -> String {
    let uid = fresh_uid();
    run(|| {
        sc!(SYS_setresgid, uid, uid, uid);
        sc!(SYS_setresuid, uid, uid, uid);
        f();
        0
    })
    .to_string()
}
fn option5(option: i32, args: [u64; 4]) -> Ret {
    sc!(SYS_prctl, option, args[0], args[1], args[2], args[3])
}

fn file_size_by_every_call() {
    catch(SIGXFSZ, 0);
    limit(RLIMIT_FSIZE, 10, 10);
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).fd();
    p!(wr(fd, "0123456"), wr(fd, "0123456"), wr(fd, "x"), caught(), pwrite(fd, "x", 10), caught());
    p!(
        writev(fd, &[b"a", b"b"]),
        caught(),
        ftruncate(fd, 11),
        caught(),
        ftruncate(fd, 10),
        caught()
    );
    p!(sc!(SYS_truncate, c"f", 100), caught(), sc!(SYS_fallocate, fd, 0, 0, 11), caught());
    p!(pwrite(fd, "yz", 9), stat(c"f"));
    // Pipes and devices have no such limit.
    let [_r, w] = pipe(0);
    p!(
        wr(w, "more than ten bytes"),
        wr(open(c"/dev/null", O_WRONLY, 0), "more than ten bytes"),
        caught()
    );
    p!(ftruncate(sc!(SYS_memfd_create, c"m", 0), 11), caught());
}

fn file_size_kills() {
    p!(run(|| {
        limit(RLIMIT_FSIZE, 0, 0);
        wr(open(c"f", O_CREAT | O_RDWR, 0o644), "x").errno()
    }));
    p!(run(|| {
        ignore(SIGXFSZ);
        limit(RLIMIT_FSIZE, 0, 0);
        wr(open(c"f", O_CREAT | O_RDWR, 0o644), "x").errno()
    }));
    p!(stat(c"f"));
}

fn descriptors_by_every_call() {
    let [r, w] = pipe(0);
    let [a, b] = pair(SOCK_STREAM);
    let l = server(SOCK_STREAM, "s");
    let c = client(SOCK_STREAM, "s");
    let extra = open(c"/dev/null", O_RDONLY, 0).fd();
    limit(RLIMIT_NOFILE, extra as u64 + 1, 4096);
    p!(open(c".", O_RDONLY, 0), dup(r), fcntl(r, F_DUPFD, 0), fcntl(r, F_DUPFD, 500), dup2(r, 900));
    p!(sc!(SYS_pipe2, at_mut(&mut [0i32; 2]), 0), socket(SOCK_STREAM), accept(l, 0), epoll(0));
    p!(
        sc!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, at_mut(&mut [0i32; 2])),
        sc!(SYS_eventfd2, 0, 0)
    );
    p!(sc!(SYS_timerfd_create, CLOCK_MONOTONIC, 0), sc!(SYS_signalfd4, -1, at(&0u64), 8, 0));
    p!(sc!(SYS_inotify_init1, 0), sc!(SYS_memfd_create, c"m", 0), sc!(SYS_pidfd_open, getpid(), 0));
    p!(sc!(SYS_dup3, r, 900, 0), dup2(r, r).fd() == r, poll(&[(r, POLLIN)], 0));
    p!(sendmsg(a, b"x", &rights(&[w]), None, 0), recvmsg(b, 9, 64, 0));
    // What is there above the limit stays.
    limit(RLIMIT_NOFILE, 3, 4096);
    p!(wr(w, "x"), rd(r, 1), close(c), open(c".", O_RDONLY, 0));
    let many = vec![0u64; 64];
    p!(sc!(SYS_poll, at(many.as_slice()), 64, 0), limit(RLIMIT_NOFILE, 3, 1 << 40).ok());
}

fn processes_of_a_user() {
    p!(as_user(|| {
        limit(RLIMIT_NPROC, 2, 2);
        let [r, w] = pipe(0);
        let first = child(|| {
            rd(r, 1);
            0
        });
        p!(first > 0, sc!(SYS_fork), sc!(SYS_clone, THREAD | CLONE_VM, 0u64, 0u64, 0u64, 0u64));
        p!(wr(w, "x"), wait(first), run(|| 3));
    }));
    // The limit is not for those who may do all.
    p!(run(|| {
        limit(RLIMIT_NPROC, 1, 1);
        run(|| 4).code()
    }));
}

fn processes_after_changing_the_user() {
    // Too many processes of the user that one has become: the next program cannot be executed.
    let uid = fresh_uid();
    let [r, w] = pipe(0);
    let first = child(|| {
        sc!(SYS_setresuid, uid, uid, uid);
        rd(r, 1);
        0
    });
    p!(run(|| {
        limit(RLIMIT_NPROC, 1, 1);
        p!(until(|| {
            let status =
                get(&CString::new(format!("/proc/{first}/status")).unwrap_or_default()).text();
            status.contains(&format!("Uid:\t{uid}"))
        }));
        p!(sc!(SYS_setresuid, uid, uid, uid), exec_helper(&["exit", "3"]));
        0
    }));
    p!(wr(w, "x"), wait(first));
}

fn locked_memory_of_users() {
    p!(as_user(|| {
        limit(RLIMIT_MEMLOCK, 4 * PAGE, 4 * PAGE);
        let a = anon(8);
        p!(
            sc!(SYS_mlock, a, 4 * PAGE),
            sc!(SYS_mlock, a + 4 * PAGE, 1),
            sc!(SYS_mlock, a, 4 * PAGE)
        );
        p!(
            sc!(SYS_munlock, a, PAGE),
            sc!(SYS_mlock, a + 4 * PAGE, PAGE),
            sc!(SYS_mlockall, MCL_CURRENT)
        );
        p!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0));
        p!(
            sc!(SYS_munlockall),
            sc!(SYS_mlock, a, 5 * PAGE),
            limit(RLIMIT_MEMLOCK, 0, 0),
            sc!(SYS_mlock, a, 1)
        );
        p!(sc!(SYS_mlockall, MCL_FUTURE), sc!(SYS_mlock2, a, PAGE, 1), sc!(SYS_munlock, a, PAGE));
    }));
}

fn address_space_by_every_call() {
    p!(run(|| {
        let status = get(c"/proc/self/statm").text();
        let pages: u64 = status.split(' ').next().and_then(|t| t.parse().ok()).unwrap_or(0);
        let limit_pages = pages + 64;
        limit(RLIMIT_AS, limit_pages * PAGE, RLIM_INFINITY);
        let a = anon(32);
        p!(a != 0, mmap(0, 64 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        p!(
            sc!(SYS_mremap, a, 32 * PAGE, 96 * PAGE, MREMAP_MAYMOVE),
            sc!(SYS_mremap, a, 32 * PAGE, 33 * PAGE, MREMAP_MAYMOVE).ok()
        );
        let start = sc!(SYS_brk, 0u64).addr();
        p!(sc!(SYS_brk, start + 64 * PAGE).addr() == start, sc!(SYS_shmat, -1, 0u64, 0));
        // In the place of what is there nothing is added.
        p!(mmap(0, 200 * PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
        0
    }));
}

fn core_and_stack_limits_are_kept_over_programs() {
    p!(run(|| {
        limit(RLIMIT_CORE, 123, 456);
        limit(RLIMIT_NOFILE, 77, 88);
        exec_helper(&["limits"]).errno()
    }));
}

fn priorities_within_the_limit() {
    p!(as_user(|| {
        // 20 - n is the least nice value.
        p!(limit(RLIMIT_NICE, 15, 15));
        p!(sc!(SYS_setpriority, PRIO_PROCESS, 0, 10), sc!(SYS_setpriority, PRIO_PROCESS, 0, 5));
        p!(sc!(SYS_setpriority, PRIO_PROCESS, 0, 4), sc!(SYS_getpriority, PRIO_PROCESS, 0));
        p!(sc!(SYS_setpriority, PRIO_PROCESS, 0, 100), sc!(SYS_getpriority, PRIO_PROCESS, 0));
        p!(
            sc!(SYS_setpriority, 3, 0, 0),
            sc!(SYS_getpriority, 3, 0),
            sc!(SYS_setpriority, PRIO_PROCESS, 1, 0)
        );
        p!(
            sc!(SYS_setpriority, PRIO_USER, 77_777, 0),
            sc!(SYS_getpriority, PRIO_PGRP, 0x7fff_fff0)
        );
    }));
}

fn real_time_within_the_limit() {
    p!(as_user(|| {
        let policy =
            |policy: i32, priority: i32| sc!(SYS_sched_setscheduler, 0, policy, at(&priority));
        p!(
            limit(RLIMIT_RTPRIO, 0, 10),
            policy(SCHED_FIFO, 1),
            limit(RLIMIT_RTPRIO, 5, 10),
            policy(SCHED_FIFO, 5)
        );
        p!(
            policy(SCHED_RR, 6),
            policy(SCHED_RR, 3),
            policy(SCHED_OTHER, 0),
            policy(SCHED_BATCH, 0)
        );
        p!(
            policy(SCHED_IDLE, 0),
            policy(SCHED_OTHER, 1),
            policy(SCHED_FIFO, 0),
            policy(SCHED_FIFO, 100),
            policy(77, 0)
        );
    }));
}

fn pending_signals_of_a_user() {
    p!(as_user(|| {
        let sig = SIGRTMIN();
        block(&[sig, SIGUSR1]);
        limit(RLIMIT_SIGPENDING, 3, 3);
        for value in 0..5 {
            p!(queue(getpid(), 0, sig, -1, value));
        }
        // kill(2) and classic signals get through without a place.
        p!(
            kill(getpid(), sig),
            kill(getpid(), SIGUSR1),
            pending(),
            sigwait(&[sig], 0),
            queue(getpid(), 0, sig, -1, 9)
        );
    }));
}

fn stacks_have_a_limit() {
    fn deep(n: u64) -> u64 {
        let block = [n; 512];
        if n == 0 {
            block[1]
        } else {
            deep(std::hint::black_box(n) - 1) + std::hint::black_box(&block)[0]
        }
    }
    p!(run(|| {
        limit(RLIMIT_STACK, 1 << 20, RLIM_INFINITY);
        p!(deep(100));
        limit(RLIMIT_STACK, 64 << 20, RLIM_INFINITY);
        p!(deep(4000));
        0
    }));
}

fn limits_of_others() {
    let uid = fresh_uid();
    let [r, w] = pipe(0);
    let pid = child(|| {
        sc!(SYS_setresgid, uid, uid, uid);
        sc!(SYS_setresuid, uid, uid, uid);
        wr(w, "x");
        loop {
            sc!(SYS_pause);
        }
    });
    rd(r, 1);
    let mut old = [0u64; 2];
    for own in [uid, uid + 500_000] {
        p!(
            own == uid,
            run(|| {
                sc!(SYS_setresgid, own, own, own);
                sc!(SYS_setresuid, own, own, own);
                p!(sc!(SYS_prlimit64, pid, RLIMIT_CORE, at(&[5u64, 6]), at_mut(&mut old)));
                p!(sc!(SYS_prlimit64, pid, RLIMIT_CORE, 0u64, at_mut(&mut old)), old[0], old[1]);
                p!(sc!(SYS_prlimit64, pid, RLIMIT_CORE, at(&[5u64, 7]), 0u64));
                p!(
                    sc!(SYS_prlimit64, pid, 99, 0u64, 0u64),
                    sc!(SYS_prlimit64, pid, RLIMIT_CORE, 8u64, 0u64)
                );
                p!(sc!(SYS_prlimit64, pid, RLIMIT_CORE, at(&[7u64, 6]), 0u64));
                0
            })
        );
    }
    p!(kill(pid, SIGKILL), wait(pid));
}

fn options_that_do_not_exist() {
    for option in [0, 17, 18, 40, 80, 100, 0x7fff_ffff] {
        p!(option, option5(option, [0; 4]));
    }
    // Arguments that must be zero.
    p!(option5(PR_SET_NO_NEW_PRIVS, [1, 1, 0, 0]), option5(PR_SET_NO_NEW_PRIVS, [2, 0, 0, 0]));
    p!(option5(PR_GET_NO_NEW_PRIVS, [1, 0, 0, 0]), option5(PR_SET_THP_DISABLE, [1, 0, 1, 0]));
    p!(option5(PR_GET_THP_DISABLE, [1, 0, 0, 0]), option5(PR_SET_PDEATHSIG, [65, 0, 0, 0]));
    p!(option5(PR_SET_PDEATHSIG, [u64::MAX, 0, 0, 0]), option5(PR_GET_PDEATHSIG, [8, 0, 0, 0]));
    p!(
        option5(PR_SET_KEEPCAPS, [2, 0, 0, 0]),
        option5(PR_CAPBSET_READ, [64, 0, 0, 0]),
        option5(PR_CAPBSET_READ, [41, 0, 0, 0])
    );
    p!(option5(PR_MCE_KILL, [5, 0, 0, 0]), option5(PR_MCE_KILL_GET, [1, 0, 0, 0]));
    p!(
        option5(PR_SET_NAME, [8, 0, 0, 0]),
        option5(PR_GET_NAME, [8, 0, 0, 0]),
        option5(PR_SET_TIMING, [1, 0, 0, 0])
    );
    p!(
        option5(PR_GET_TIMING, [0; 4]),
        option5(PR_SET_TIMING, [0; 4]),
        option5(PR_GET_CHILD_SUBREAPER, [8, 0, 0, 0])
    );
}

fn options_of_one_kind_of_machine() {
    for option in
        [PR_GET_UNALIGN, PR_SET_UNALIGN, PR_GET_FPEMU, PR_SET_FPEMU, PR_GET_FPEXC, PR_SET_FPEXC]
    {
        p!(option, option5(option, [1, 0, 0, 0]));
    }
    // The last are of vector lengths, pointer authentication and tagged addresses.
    for option in [PR_GET_ENDIAN, PR_SET_FP_MODE, 51, 54, 56] {
        p!(option, option5(option, [0; 4]));
    }
}

fn machine_checks_and_pages() {
    p!(option5(PR_MCE_KILL_GET, [0; 4]), option5(PR_MCE_KILL, [1, 0, 1, 0]));
    p!(option5(PR_SET_THP_DISABLE, [1, 0, 0, 0]), option5(PR_GET_THP_DISABLE, [0; 4]));
    p!(run(|| option5(PR_GET_THP_DISABLE, [0; 4]).fd()), option5(PR_SET_THP_DISABLE, [0; 4]));
}

fn what_children_and_programs_inherit() {
    let state = || {
        [
            PR_GET_KEEPCAPS,
            PR_GET_DUMPABLE,
            PR_GET_NO_NEW_PRIVS,
            PR_GET_TIMERSLACK,
            PR_GET_SECUREBITS,
        ]
        .map(|o| option5(o, [0; 4]).to_string())
        .join(" ")
    };
    p!(
        state(),
        prctl(PR_SET_KEEPCAPS, 1),
        prctl(PR_SET_TIMERSLACK, 12_345),
        prctl(PR_SET_DUMPABLE, 0)
    );
    p!(state(), prctl(PR_SET_PDEATHSIG, SIGUSR1), prctl(PR_SET_CHILD_SUBREAPER, 1));
    p!(run(|| {
        let (mut signal, mut reaper) = (-1i32, -1i32);
        p!(state(), prctl(PR_GET_PDEATHSIG, at_mut(&mut signal)), signal);
        p!(prctl(PR_GET_CHILD_SUBREAPER, at_mut(&mut reaper)), reaper);
        0
    }));
    p!(prctl(PR_SET_DUMPABLE, 1), prctl(PR_SET_DUMPABLE, 2), prctl(PR_GET_DUMPABLE, 0));
}

cases![
    file_size_by_every_call,
    file_size_kills,
    descriptors_by_every_call,
    processes_of_a_user,
    processes_after_changing_the_user,
    locked_memory_of_users,
    address_space_by_every_call,
    core_and_stack_limits_are_kept_over_programs,
    priorities_within_the_limit,
    real_time_within_the_limit,
    pending_signals_of_a_user,
    stacks_have_a_limit,
    limits_of_others,
    options_that_do_not_exist,
    options_of_one_kind_of_machine,
    machine_checks_and_pages,
    what_children_and_programs_inherit,
];
