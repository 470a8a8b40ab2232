//! What signals carry: the source, the fields and the code of each kind, by every way to receive them.

use crate::prelude::*;

/// Takes a blocked signal: all words of its information that do not depend on who and when.
fn take(sig: i32) -> [i32; 32] {
    let mut info = [0i32; 32];
    sc!(SYS_rt_sigtimedwait, at(&set(&[sig])), at_mut(&mut info), at(&span(5000)), 8);
    info
}
fn brief(info: [i32; 32]) -> String {
    let who = if info[4] == getpid() { "me".into() } else { info[4].to_string() };
    format!(
        "{} errno {} code {} from {who} uid {} value {}",
        info[0], info[1], info[2], info[5], info[6]
    )
}

fn by_every_sender() {
    block(&[SIGUSR1]);
    let (pid, tid) = (getpid(), gettid());
    p!(
        kill(pid, SIGUSR1),
        brief(take(SIGUSR1)),
        sc!(SYS_tkill, tid, SIGUSR1),
        brief(take(SIGUSR1))
    );
    p!(
        sc!(SYS_tgkill, pid, tid, SIGUSR1),
        brief(take(SIGUSR1)),
        queue(pid, 0, SIGUSR1, -1, 7),
        brief(take(SIGUSR1))
    );
    p!(queue(pid, tid, SIGUSR1, -1, 8), brief(take(SIGUSR1)), kill(0, 0), kill(pid, 0));
    let fd = sc!(SYS_pidfd_open, pid, 0);
    p!(sc!(SYS_pidfd_send_signal, fd, SIGUSR1, 0u64, 0), brief(take(SIGUSR1)));
}

fn codes_that_are_made_up() {
    // To oneself any code may be sent, to others none that the kernel uses.
    block(&[SIGUSR1]);
    let other = child(|| {
        nap(10_000);
        0
    });
    for code in [-1, -2, -6, -7, -60, 0, 1, 0x80] {
        say!(
            "{code}: {} to another {}",
            queue(getpid(), 0, SIGUSR1, code, 3),
            queue(other, 0, 0, code, 3)
        );
        say!("{}", sigwait(&[SIGUSR1], 0));
    }
    p!(kill(other, SIGKILL), wait(other));
}

fn number_in_the_information_is_replaced() {
    block(&[SIGUSR1]);
    let mut info = [0i32; 32];
    info[0] = SIGUSR2;
    info[2] = -1;
    info[6] = 4;
    p!(sc!(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, at(&info)), brief(take(SIGUSR1)));
    let fd = sc!(SYS_pidfd_open, getpid(), 0);
    p!(
        sc!(SYS_pidfd_send_signal, fd, SIGUSR1, at(&info), 0),
        sc!(SYS_pidfd_send_signal, fd, SIGUSR1, at(&info), 99)
    );
    p!(
        sc!(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, 8u64),
        sc!(SYS_rt_sigqueueinfo, getpid(), 65, at(&info))
    );
    p!(
        sc!(SYS_rt_sigqueueinfo, getpid(), 0, at(&info)),
        sc!(SYS_rt_sigqueueinfo, 0x7fff_fff0, SIGUSR1, at(&info))
    );
}

fn all_words_of_a_queued_signal() {
    block(&[SIGUSR1]);
    let mut info: [i32; 32] = std::array::from_fn(|i| i as i32 * 3 + 1);
    info[0] = SIGUSR1;
    info[2] = -7;
    p!(sc!(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, at(&info)));
    let got = take(SIGUSR1);
    p!(format!("{:?} {:?}", &got[..3], &got[4..12]));
}

fn through_a_descriptor() {
    block(&[SIGUSR1, SIGCHLD, SIGALRM]);
    let fd = sc!(SYS_signalfd4, -1, at(&set(&[SIGUSR1, SIGCHLD, SIGALRM])), 8, O_NONBLOCK).fd();
    let fields = || {
        let got = rd(fd, 128);
        let b = got.bytes();
        let word =
            |i: usize| b.get(i..i + 4).map_or(-1, |b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let pid =
            if word(12) == getpid() { "me".into() } else { i32::from(word(12) > 0).to_string() };
        format!(
            "{} errno {} code {} pid {pid} uid {} status {} int {}",
            word(0),
            word(4),
            word(8),
            word(16),
            word(40),
            word(44)
        )
    };
    p!(kill(getpid(), SIGUSR1), fields(), queue(getpid(), 0, SIGUSR1, -1, 77), fields());
    let pid = child(|| 5);
    waitid(P_PID, pid, WEXITED | WNOWAIT);
    p!(fields(), wait(pid), setitimer(ITIMER_REAL, 1, 0), poll(&[(fd, POLLIN)], 5000), fields());
}

fn memory_faults() {
    let a = anon(3);
    mprotect(a + PAGE, PAGE, PROT_NONE);
    munmap(a + 2 * PAGE, PAGE);
    p!(
        peek(a + PAGE),
        poke(a + PAGE, 1),
        peek(a + 2 * PAGE),
        call(a),
        call(a + PAGE),
        call(a + 2 * PAGE)
    );
    put(c"f", "x");
    let fd = open(c"f", O_RDWR, 0).fd();
    let f = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0).addr();
    p!(peek(f), peek(f + PAGE), poke(f + PAGE + 7, 1), ftruncate(fd, 0), peek(f));
    p!(mprotect(f, 2 * PAGE, PROT_READ), peek(f + PAGE));
}

fn traps_and_their_codes() {
    for (name, kind, sig, skip) in [
        ("ud2", Fault::Undefined, SIGILL, 2),
        ("int3", Fault::Breakpoint, SIGTRAP, 0),
        ("div", Fault::Divide, SIGFPE, 2),
        ("hlt", Fault::Privileged, SIGSEGV, 1),
        ("noncanonical", Fault::NonCanonical, SIGSEGV, 2),
    ] {
        catch_with(sig, 0, 0, Extra::Skip(skip));
        fault(kind);
        let all = hits();
        say!(
            "{name}: {} {}",
            all.len(),
            all.first().map_or(String::new(), |h| format!("{h} at zero {}", h.addr == 0))
        );
    }
}

fn broken_pipes() {
    let [r, w] = pipe(0);
    close(r);
    block(&[SIGPIPE]);
    p!(wr(w, "x"), brief(take(SIGPIPE)));
    let [a, b] = pair(SOCK_STREAM);
    close(b);
    p!(send(a, "x", 0), brief(take(SIGPIPE)), send(a, "x", MSG_NOSIGNAL), pending());
    let [c, s] = tcp_pair();
    shutdown(c, SHUT_WR);
    p!(send(c, "x", 0), brief(take(SIGPIPE)), close(s));
    let [r, w] = pipe(0);
    p!(run(|| {
        close(r);
        ignore(SIGPIPE);
        close(w);
        0
    }));
}

fn limits_and_alarms() {
    block(&[SIGXFSZ, SIGALRM, SIGVTALRM, SIGPROF]);
    sc!(SYS_prlimit64, 0, RLIMIT_FSIZE, at(&[1u64, 1]), 0u64);
    p!(
        wr(open(c"f", O_CREAT | O_WRONLY, 0o644), "xyz"),
        wr(open(c"f", O_WRONLY | O_APPEND, 0), "z")
    );
    p!(brief(take(SIGXFSZ)), setitimer(ITIMER_REAL, 1, 0), brief(take(SIGALRM)));
    setitimer(ITIMER_PROF, 5, 0);
    while pending() == "none" {}
    p!(brief(take(SIGPROF)));
}

fn of_other_users() {
    // si_uid is the real user of the sender.
    block(&[SIGUSR1]);
    let me = getpid();
    p!(run(|| {
        sc!(SYS_setresuid, 1234, 0, 0);
        p!(kill(me, SIGUSR1));
        0
    }));
    let info = take(SIGUSR1);
    p!(info[2], info[5]);
}

fn of_keys_and_hang_ups() {
    let master = open(c"/dev/ptmx", O_RDWR | O_NOCTTY, 0).fd();
    let mut number = 0i32;
    ioctl(master, TIOCSPTLCK, at(&0i32));
    ioctl(master, TIOCGPTN, at_mut(&mut number));
    let path = CString::new(format!("/dev/pts/{number}")).unwrap_or_default();
    block(&[SIGINT, SIGQUIT, SIGTSTP, SIGHUP, SIGCONT, SIGWINCH]);
    // This process leads its session.
    let slave = open(&path, O_RDWR, 0).fd();
    p!(
        slave >= 0,
        wr(master, "\x03"),
        brief(take(SIGINT)),
        wr(master, "\x1c"),
        brief(take(SIGQUIT))
    );
    p!(
        wr(master, "\x1a"),
        brief(take(SIGTSTP)),
        ioctl(master, TIOCSWINSZ, at(&[9u16, 9, 0, 0])),
        brief(take(SIGWINCH))
    );
    p!(close(master), brief(take(SIGHUP)), brief(take(SIGCONT)));
}

fn order_of_many() {
    let (a, b) = (SIGRTMIN(), SIGRTMIN() + 3);
    block(&[SIGUSR1, SIGUSR2, a, b]);
    for (sig, value) in [(b, 1), (SIGUSR2, 2), (a, 3), (b, 4), (SIGUSR1, 5), (a, 6)] {
        queue(getpid(), 0, sig, -1, value);
    }
    // Those of the thread come before those of the process.
    queue(getpid(), gettid(), b, -1, 7);
    for _ in 0..8 {
        say!("{}", sigwait(&[SIGUSR1, SIGUSR2, a, b], 0));
    }
}

fn order_of_handlers() {
    let (a, b) = (SIGRTMIN(), SIGRTMIN() + 3);
    for sig in [SIGUSR1, a, b] {
        catch(sig, SA_RESTART);
    }
    block(&[SIGUSR1, a, b]);
    for (sig, value) in [(b, 1), (a, 3), (b, 4), (a, 6)] {
        queue(getpid(), 0, sig, -1, value);
    }
    kill(getpid(), SIGUSR1);
    // The last that is set up is the first that runs.
    p!(unblock(&[SIGUSR1, a, b]) != 0, caught());
}

fn masks_of_nested_handlers() {
    catch_with(SIGUSR1, 0, set(&[SIGUSR2]), Extra::Raise(SIGUSR2));
    catch_with(SIGUSR2, 0, 0, Extra::None);
    raise(SIGUSR1);
    let all: Vec<String> = hits().iter().map(|h| format!("{h} with {}", names(h.mask))).collect();
    p!(all.join("; "), names(sigmask(SIG_BLOCK, 0)));
    catch_with(SIGUSR1, SA_NODEFER, 0, Extra::Raise(SIGUSR2));
    raise(SIGUSR1);
    let all: Vec<String> = hits().iter().map(|h| format!("{h} with {}", names(h.mask))).collect();
    p!(all.join("; "));
}

cases![
    by_every_sender,
    codes_that_are_made_up,
    number_in_the_information_is_replaced,
    all_words_of_a_queued_signal,
    through_a_descriptor,
    memory_faults,
    traps_and_their_codes,
    broken_pipes,
    limits_and_alarms,
    of_other_users,
    of_keys_and_hang_ups,
    order_of_many,
    order_of_handlers,
    masks_of_nested_handlers,
];
