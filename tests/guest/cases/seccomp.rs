//! A program's own system-call filters: `seccomp(2)`, `prctl(PR_SET_SECCOMP)`, supervisors.

use crate::prelude::*;
use crate::sys::Ret;

const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;
const NEW_LISTENER: u64 = 8;
const TSYNC: u64 = 1;
const TSYNC_ESRCH: u64 = 16;

fn insn(code: u16, jt: u8, jf: u8, k: u32) -> u64 {
    u64::from(code) | u64::from(jt) << 16 | u64::from(jf) << 24 | u64::from(k) << 32
}
fn ret(value: u32) -> u64 {
    insn(0x06, 0, 0, value)
}
/// A filter that returns `value` for one call and allows the rest.
fn on(nr: i64, value: u32) -> Vec<u64> {
    vec![insn(0x20, 0, 0, 0), insn(0x15, 0, 1, nr as u32), ret(value), ret(ALLOW)]
}
fn install(flags: u64, program: &[u64]) -> Ret {
    sc!(SYS_seccomp, 1, flags, at(&[program.len() as u64, at(program)]))
}
fn bound() {
    prctl(PR_SET_NO_NEW_PRIVS, 1);
}
/// What a program returns for getppid, which is made with an argument.
fn outcome(program: &[u64]) -> String {
    let status = run(|| {
        bound();
        let installed = install(0, program);
        if !installed.ok() {
            say!("{installed}");
            exit(99);
        }
        let ret = sc!(SYS_getppid, 0x1234_5678_9abc_def0u64);
        i32::from(ret.errno() as u8)
    });
    status.to_string()
}

fn strict_mode() {
    p!(run(|| {
        p!(prctl(PR_GET_SECCOMP, 0));
        let [r, w] = pipe(0);
        sc!(SYS_seccomp, 0, 0, 0u64);
        wr(w, "x");
        rd(r, 1);
        say!("read and write are allowed");
        sc!(SYS_exit, 3);
        0
    }));
    p!(run(|| {
        prctl(PR_SET_SECCOMP, 1);
        sc!(SYS_getpid);
        0
    }));
    p!(run(|| {
        prctl(PR_SET_SECCOMP, 1);
        sc!(SYS_exit_group, 0);
        0
    }));
}

fn arguments() {
    p!(sc!(SYS_seccomp, 0, 1, 0u64), sc!(SYS_seccomp, 0, 0, 1u64), sc!(SYS_seccomp, 9, 0, 0u64));
    p!(sc!(SYS_seccomp, 1, 0x100, 0u64), sc!(SYS_seccomp, 1, 0, 0u64), install(32, &on(1, ALLOW)));
    p!(install(TSYNC | NEW_LISTENER, &on(1, ALLOW)), install(0, &[]));
    p!(prctl(PR_SET_SECCOMP, 0), prctl(PR_SET_SECCOMP, 3));
    for action in
        [KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, NOTIFY, TRACE, LOG, ALLOW, 1, 0x0001_0000]
    {
        p!(sc!(SYS_seccomp, 2, 0, at(&action)));
    }
    p!(sc!(SYS_seccomp, 2, 1, at(&ALLOW)), sc!(SYS_seccomp, 2, 0, 0u64));
    let mut sizes = [0u16; 3];
    p!(sc!(SYS_seccomp, 3, 0, at_mut(&mut sizes)), sizes[0], sizes[1], sizes[2]);
    p!(sc!(SYS_seccomp, 3, 1, at_mut(&mut sizes)), sc!(SYS_seccomp, 3, 0, 0u64));
}

fn needs_no_new_privs() {
    p!(run(|| {
        sc!(SYS_setresuid, 1234, 1234, 1234);
        p!(install(0, &on(SYS_getppid, ERRNO)));
        bound();
        p!(install(0, &on(SYS_getppid, ERRNO)), prctl(PR_GET_SECCOMP, 0));
        0
    }));
}

fn every_action() {
    for value in [
        ERRNO | 1,
        ERRNO,
        ERRNO | 0xffff,
        LOG,
        ALLOW,
        KILL_PROCESS,
        KILL_THREAD,
        TRACE,
        TRAP,
        0x1234_0000,
        0x7ffe_0000,
        0x0006_0000,
        NOTIFY,
    ] {
        say!("{value:#x}: {}", outcome(&on(SYS_getppid, value)));
    }
}

fn what_the_verifier_refuses() {
    let load = insn(0x20, 0, 0, 0);
    let programs: [&[u64]; 24] = [
        &[load],
        &[insn(0x20, 0, 0, 64), ret(ALLOW)],
        &[insn(0x20, 0, 0, 60), ret(ALLOW)],
        &[insn(0x20, 0, 0, 2), ret(ALLOW)],
        &[insn(0x28, 0, 0, 0), ret(ALLOW)],
        &[insn(0x30, 0, 0, 0), ret(ALLOW)],
        &[insn(0x40, 0, 0, 0), ret(ALLOW)],
        &[insn(0xb1, 0, 0, 0), ret(ALLOW)],
        &[insn(0x34, 0, 0, 0), ret(ALLOW)],
        &[insn(0x94, 0, 0, 3), ret(ALLOW)],
        &[insn(0x64, 0, 0, 31), ret(ALLOW)],
        &[insn(0x64, 0, 0, 32), ret(ALLOW)],
        &[insn(0x60, 0, 0, 0), ret(ALLOW)],
        &[insn(0x02, 0, 0, 0), insn(0x60, 0, 0, 0), ret(ALLOW)],
        &[insn(0x02, 0, 0, 16), ret(ALLOW)],
        &[insn(0x05, 0, 0, 0), ret(ALLOW)],
        &[insn(0x05, 0, 0, 1), ret(ALLOW)],
        &[insn(0x05, 0, 0, u32::MAX), ret(ALLOW)],
        &[insn(0x15, 1, 0, 0), ret(ALLOW)],
        &[insn(0x15, 0, 1, 0), ret(ALLOW)],
        &[insn(0x15, 0, 1, 1), insn(0x02, 0, 0, 3), insn(0x60, 0, 0, 3), ret(ALLOW)],
        &[insn(0x80, 0, 0, 0), insn(0x16, 0, 0, 0)],
        &[insn(0x0e, 0, 0, 0)],
        &[insn(0xffff, 0, 0, 0), ret(ALLOW)],
    ];
    for (i, program) in programs.iter().enumerate() {
        let status = run(|| {
            bound();
            install(0, program).errno()
        });
        say!("{i}: {status}");
    }
}

fn length_limits() {
    p!(run(|| {
        bound();
        p!(install(0, &vec![ret(ALLOW); 4097]), install(0, &vec![ret(ALLOW); 4096]));
        let mut n = 1;
        let error = loop {
            let ret = install(0, &vec![ret(ALLOW); 4096]);
            if !ret.ok() || n > 20 {
                break ret;
            }
            n += 1;
        };
        p!(n, error);
        0
    }));
}

fn arithmetic() {
    // Each leaves an error number in A, which is returned as one.
    let end = [insn(0x44, 0, 0, ERRNO), insn(0x16, 0, 0, 0)];
    let programs: [&[u64]; 12] = [
        &[insn(0x00, 0, 0, 5), insn(0x04, 0, 0, 7)],
        &[insn(0x00, 0, 0, 5), insn(0x14, 0, 0, 3)],
        &[insn(0x00, 0, 0, 5), insn(0x24, 0, 0, 3)],
        &[insn(0x00, 0, 0, 50), insn(0x34, 0, 0, 7)],
        &[insn(0x00, 0, 0, 0xff), insn(0x54, 0, 0, 0x0c)],
        &[insn(0x00, 0, 0, 3), insn(0x64, 0, 0, 2)],
        &[insn(0x00, 0, 0, 48), insn(0x74, 0, 0, 2)],
        &[insn(0x00, 0, 0, 6), insn(0xa4, 0, 0, 3)],
        &[insn(0x00, 0, 0, u32::MAX - 6), insn(0x84, 0, 0, 0)],
        &[insn(0x00, 0, 0, 9), insn(0x07, 0, 0, 0), insn(0x00, 0, 0, 2), insn(0x0c, 0, 0, 0)],
        &[insn(0x81, 0, 0, 0), insn(0x87, 0, 0, 0)],
        &[insn(0x00, 0, 0, 4), insn(0x02, 0, 0, 7), insn(0x00, 0, 0, 0), insn(0x60, 0, 0, 7)],
    ];
    for (i, program) in programs.iter().enumerate() {
        let mut all = on(SYS_getppid, ALLOW);
        all.truncate(1);
        all.push(insn(0x15, 1, 0, SYS_getppid as u32));
        all.push(ret(ALLOW));
        all.extend_from_slice(program);
        all.extend_from_slice(&end);
        say!("{i}: {}", outcome(&all));
    }
}

fn arguments_and_architecture() {
    for (offset, value) in [(4, 0xc000_003e_u32), (16, 0x9abc_def0), (20, 0x1234_5678), (24, 0)] {
        let program = [
            insn(0x20, 0, 0, 0),
            insn(0x15, 0, 3, SYS_getppid as u32),
            insn(0x20, 0, 0, offset),
            insn(0x15, 0, 1, value),
            ret(ERRNO | 7),
            ret(ALLOW),
        ];
        say!("{offset}: {}", outcome(&program));
    }
}

fn comparisons() {
    for (code, k) in
        [(0x15, 5), (0x15, 6), (0x25, 4), (0x25, 5), (0x35, 5), (0x35, 6), (0x45, 4), (0x45, 2)]
    {
        let program = [
            insn(0x20, 0, 0, 0),
            insn(0x15, 1, 0, SYS_getppid as u32),
            ret(ALLOW),
            insn(0x00, 0, 0, 5),
            insn(code, 0, 1, k),
            ret(ERRNO | 1),
            ret(ERRNO | 2),
        ];
        say!("{code:#x} {k}: {}", outcome(&program));
    }
}

fn severest_action_wins() {
    for pair in [
        [ERRNO | 5, ERRNO | 6],
        [ALLOW, ERRNO | 7],
        [ERRNO | 8, ALLOW],
        [TRAP, ERRNO | 9],
        [ERRNO | 9, KILL_PROCESS],
        [LOG, ALLOW],
        [KILL_THREAD, TRAP],
    ] {
        let status = run(|| {
            bound();
            for value in pair {
                install(0, &on(SYS_getppid, value));
            }
            sc!(SYS_getppid).errno()
        });
        say!("{:#x} then {:#x}: {status}", pair[0], pair[1]);
    }
}

fn inherited() {
    p!(run(|| {
        bound();
        install(0, &on(SYS_getppid, ERRNO | 33));
        p!(run(|| sc!(SYS_getppid).errno()));
        let status = get(c"/proc/self/status").text();
        for line in status.lines().filter(|l| l.starts_with("Seccomp") || l.starts_with("NoNew")) {
            say!("{line}");
        }
        p!(exec_helper(&["ids"]));
        0
    }));
}

fn trap_carries_the_call() {
    p!(run(|| {
        bound();
        catch(SIGSYS, SA_SIGINFO);
        install(0, &on(SYS_getppid, TRAP | 77));
        let ret = sc!(SYS_getppid);
        p!(ret.0 == SYS_getppid, count());
        0
    }));
}

fn one_thread_dies() {
    p!(run(|| {
        bound();
        std::thread::spawn(|| {
            install(0, &on(SYS_getppid, KILL_THREAD));
            sc!(SYS_getppid);
        });
        until(|| list(c"/proc/self/task").split_whitespace().count() == 1);
        say!("the others live");
        4
    }));
    p!(run(|| {
        bound();
        std::thread::spawn(|| {
            install(0, &on(SYS_getppid, KILL_PROCESS));
            sc!(SYS_getppid);
        });
        until(|| list(c"/proc/self/task").split_whitespace().count() == 1);
        4
    }));
}

fn thread_synchronisation() {
    p!(run(|| {
        bound();
        let [r, w] = pipe(0);
        let [r2, w2] = pipe(0);
        let thread = std::thread::spawn(move || {
            wr(w, "x");
            rd(r2, 1);
            p!(sc!(SYS_getppid).errno());
        });
        rd(r, 1);
        p!(install(TSYNC, &on(SYS_getppid, ERRNO | 21)));
        wr(w2, "x");
        let _ = thread.join();
        0
    }));
    p!(run(|| {
        bound();
        let [r, w] = pipe(0);
        let [r2, w2] = pipe(0);
        let thread = std::thread::spawn(move || {
            install(0, &on(SYS_getppid, ERRNO | 1));
            wr(w, "x");
            rd(r2, 1);
        });
        rd(r, 1);
        let own = on(SYS_getppid, ERRNO | 21);
        p!(
            install(TSYNC, &own).0 > 1,
            install(TSYNC | TSYNC_ESRCH, &own),
            prctl(PR_GET_SECCOMP, 0)
        );
        wr(w2, "x");
        let _ = thread.join();
        0
    }));
}

fn ioctl_of(fd: i32, cmd: u64, buf: &mut [u64]) -> Ret {
    sc!(SYS_ioctl, fd, cmd, at_mut(buf))
}
const RECV: u64 = 0xc050_2100;
const SEND: u64 = 0xc018_2101;
const ID_VALID: u64 = 0x4008_2102;
const ADDFD: u64 = 0x4018_2103;

/// A child with a filter that asks about getppid and open; its listener, taken through a pidfd.
fn supervised(f: impl FnOnce() -> i32) -> (i32, i32) {
    let [r, w] = pipe(0);
    let [r2, w2] = pipe(0);
    let pid = child(|| {
        bound();
        let fd = install(NEW_LISTENER, &on(SYS_getppid, NOTIFY)).fd();
        wr(w, [fd as u8]);
        rd(r2, 1);
        f()
    });
    let fd = i32::from(rd(r, 1).bytes().first().copied().unwrap_or(255));
    let pidfd = sc!(SYS_pidfd_open, pid, 0);
    let listener = sc!(SYS_pidfd_getfd, pidfd, fd, 0).fd();
    wr(w2, "x");
    (pid, listener)
}

fn a_supervisor_answers() {
    let (pid, listener) = supervised(|| {
        let answers = [(); 3].map(|()| sc!(SYS_getppid, 11, 22, 33));
        let [first, second, third] = answers;
        i32::from(first.0 == 4711)
            + 2 * second.errno()
            + 64 * i32::from(third.0 > 0 && third.0 != 4711)
    });
    for (value, error, flags) in [(4711u64, 0i32, 0u32), (0, -EPERM, 0), (0, 0, 1)] {
        let mut notif = [0u64; 10];
        p!(ioctl_of(listener, RECV, &mut notif));
        p!(
            notif[1] as i32 == pid,
            notif[2] as u32 as i64 == SYS_getppid,
            notif[2] >> 32 == 0xc000_003e
        );
        p!(notif[4], notif[5], notif[6], ioctl_of(listener, ID_VALID, &mut [notif[0]]));
        let reply = u64::from(error as u32) | u64::from(flags) << 32;
        p!(ioctl_of(listener, SEND, &mut [notif[0] + 100, value, reply]));
        p!(ioctl_of(listener, SEND, &mut [notif[0], 5, 1 << 32]));
        p!(ioctl_of(listener, SEND, &mut [notif[0], value, reply]));
        p!(ioctl_of(listener, SEND, &mut [notif[0], value, reply]).ok());
    }
    p!(wait(pid));
}

fn supervisor_polls_and_hangs_up() {
    let (pid, listener) = supervised(|| {
        sc!(SYS_getppid);
        0
    });
    let mut events = [pollfd { fd: listener, events: POLLIN | POLLOUT, revents: 0 }];
    p!(sc!(SYS_poll, at_mut(&mut events), 1, 5000), events[0].revents);
    let mut notif = [0u64; 10];
    let mut dirty = [1u64; 10];
    p!(ioctl_of(listener, RECV, &mut dirty), ioctl_of(listener, RECV, &mut notif));
    p!(sc!(SYS_poll, at_mut(&mut events), 1, 5000), events[0].revents);
    p!(ioctl_of(listener, SEND, &mut [notif[0], 0, 0]), wait(pid));
    p!(sc!(SYS_poll, at_mut(&mut events), 1, 5000), events[0].revents);
    p!(ioctl_of(listener, ID_VALID, &mut [notif[0]]), ioctl_of(listener, 0xc050_21ff, &mut notif));
}

fn supervisor_gives_a_descriptor() {
    let (pid, listener) = supervised(|| {
        let fd = sc!(SYS_getppid);
        i32::from(rd(fd, 20).text() == "from the supervisor")
    });
    put(c"given", "from the supervisor");
    let file = open(c"given", O_RDONLY, 0);
    let mut notif = [0u64; 10];
    ioctl_of(listener, RECV, &mut notif);
    let source = file.fd() as u64;
    p!(ioctl_of(listener, ADDFD, &mut [notif[0], 8 | source << 32, 0]));
    p!(ioctl_of(listener, ADDFD, &mut [notif[0], 999 << 32, 0]));
    let fd = ioctl_of(listener, ADDFD, &mut [notif[0], source << 32, 0]);
    p!(fd.ok(), ioctl_of(listener, SEND, &mut [notif[0], fd.0 as u64, 0]), wait(pid));
}

fn supervisor_goes_away() {
    let (pid, listener) = supervised(|| sc!(SYS_getppid).errno());
    let mut notif = [0u64; 10];
    ioctl_of(listener, RECV, &mut notif);
    close(listener);
    kill(pid, SIGKILL);
    p!(wait(pid));
    p!(run(|| {
        bound();
        let fd = install(NEW_LISTENER, &on(SYS_getppid, NOTIFY));
        p!(fd.ok(), install(NEW_LISTENER, &on(SYS_getppid, NOTIFY)), close(fd));
        p!(sc!(SYS_getppid));
        0
    }));
}

fn signal_interrupts_a_supervised_call() {
    let (pid, listener) = supervised(|| {
        catch(SIGUSR1, 0);
        sc!(SYS_getppid).errno() * 10 + count() as i32
    });
    let mut notif = [0u64; 10];
    ioctl_of(listener, RECV, &mut notif);
    p!(kill(pid, SIGUSR1), wait(pid), ioctl_of(listener, SEND, &mut [notif[0], 0, 0]));
}

cases![
    strict_mode,
    arguments,
    needs_no_new_privs,
    every_action,
    what_the_verifier_refuses,
    length_limits,
    arithmetic,
    arguments_and_architecture,
    comparisons,
    severest_action_wins,
    inherited,
    trap_carries_the_call,
    one_thread_dies,
    thread_synchronisation,
    a_supervisor_answers,
    supervisor_polls_and_hangs_up,
    supervisor_gives_a_descriptor,
    supervisor_goes_away,
    signal_interrupts_a_supervised_call,
];
