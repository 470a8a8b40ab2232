//! Calls that wait: what ends them when a handler runs, when it asks for restarts, and when the process was
//! stopped meanwhile.

use crate::prelude::*;

/// Waits until the process has been asleep for a moment.
fn await_sleep(pid: i32) {
    let path = CString::new(format!("/proc/{pid}/stat")).unwrap_or_default();
    let asleep = || get(&path).text().rsplit(')').next().is_some_and(|t| t.starts_with(" S"));
    until(asleep);
    nap(20);
    until(asleep);
}

/// Calls `f`, which waits, three times: a handler without `SA_RESTART` runs while it waits; one with it does,
/// and then `end` ends the wait from another process; the process is stopped and continued, and then as before.
fn three(label: &str, f: impl Fn() -> Ret, end: impl Fn()) {
    let me = getpid();
    catch(SIGALRM, 0);
    setitimer(ITIMER_REAL, 20, 20);
    let ret = f();
    setitimer(ITIMER_REAL, 0, 0);
    say!("{label}: {ret}");
    catch(SIGALRM, SA_RESTART);
    let pid = child(|| {
        await_sleep(me);
        nap(60);
        end();
        0
    });
    setitimer(ITIMER_REAL, 20, 20);
    let ret = f();
    setitimer(ITIMER_REAL, 0, 0);
    say!("{label} with SA_RESTART: {ret}");
    end();
    wait(pid);
    reset();
    let pid = child(|| {
        await_sleep(me);
        kill(me, SIGSTOP);
        nap(10);
        kill(me, SIGCONT);
        await_sleep(me);
        end();
        0
    });
    say!("{label} stopped: {}", f());
    end();
    wait(pid);
    reset();
}

/// Takes what a superfluous `end` has left.
fn reset() {
    hits();
    for fd in 3..16 {
        let flags = fcntl(fd, F_GETFL, 0);
        if flags.ok() && flags.0 as i32 & O_ACCMODE != O_WRONLY {
            fcntl(fd, F_SETFL, flags.0 as i32 | O_NONBLOCK);
            rd(fd, 65536);
            fcntl(fd, F_SETFL, flags);
        }
    }
}

fn fill_up(fd: i32) {
    let flags = fcntl(fd, F_GETFL, 0);
    fcntl(fd, F_SETFL, flags.0 as i32 | O_NONBLOCK);
    for size in [65536, 4096, 1] {
        while wr(fd, vec![0u8; size]).ok() {}
    }
    fcntl(fd, F_SETFL, flags);
}

fn reading_a_pipe() {
    let [r, w] = pipe(0);
    let byte = anon(1);
    let send = || {
        wr(w, "x");
    };
    three("read", || sc!(SYS_read, r, byte, 1), send);
    three("readv", || sc!(SYS_readv, r, at(&*iov(&[(byte, 1)])), 1), send);
    three("preadv2", || sc!(SYS_preadv2, r, at(&*iov(&[(byte, 1)])), 1, -1, -1, 0), send);
}

fn writing_a_pipe() {
    let [r, w] = pipe(0);
    let byte = anon(1);
    let make_room = || {
        rd(r, 65536);
    };
    let write = |call: &dyn Fn() -> Ret| {
        fill_up(w);
        call()
    };
    let vector = iov(&[(byte, 1)]);
    three("write", || write(&|| sc!(SYS_write, w, byte, 1)), make_room);
    three("writev", || write(&|| sc!(SYS_writev, w, at(&*vector), 1)), make_room);
    three("vmsplice", || write(&|| sc!(SYS_vmsplice, w, at(&*vector), 1, 0)), make_room);
}

fn splicing() {
    let ([r, w], [r2, w2]) = (pipe(0), pipe(0));
    put(c"f", "0123456789");
    let send = || {
        wr(w, "x");
    };
    three("splice", || sc!(SYS_splice, r, 0u64, w2, 0u64, 1, 0), send);
    three("tee", || sc!(SYS_tee, r, w2, 1, 0), send);
    let f = open(c"f", O_RDONLY, 0).fd();
    let make_room = || {
        rd(r2, 65536);
    };
    let full = || {
        fill_up(w2);
        lseek(f, 0, SEEK_SET);
    };
    let sent = || {
        full();
        sc!(SYS_sendfile, w2, f, 0u64, 3)
    };
    three("sendfile", sent, make_room);
    let spliced = || {
        full();
        sc!(SYS_splice, f, 0u64, w2, 0u64, 3, 0)
    };
    three("splice of a file", spliced, make_room);
}

fn counters() {
    let fd = sc!(SYS_eventfd2, 0, 0).fd();
    let word = anon(1);
    let add = || {
        wr(fd, 1u64.to_ne_bytes());
    };
    three("read", || sc!(SYS_read, fd, word, 8), add);
    let write = || {
        fcntl(fd, F_SETFL, O_NONBLOCK);
        wr(fd, (u64::MAX - 1).to_ne_bytes());
        fcntl(fd, F_SETFL, 0);
        wr(fd, 5u64.to_ne_bytes())
    };
    three("write", write, || {
        rd(fd, 8);
    });
}

fn timers() {
    let fd = sc!(SYS_timerfd_create, CLOCK_MONOTONIC, 0).fd();
    let word = anon(1);
    let read = || {
        sc!(SYS_timerfd_settime, fd, 0, at(&itimerspec(0, 0)), 0u64);
        sc!(SYS_read, fd, word, 8)
    };
    three("read", read, || {
        sc!(SYS_timerfd_settime, fd, 0, at(&itimerspec(1, 0)), 0u64);
    });
}

fn signal_descriptors() {
    block(&[SIGUSR1]);
    let fd = sc!(SYS_signalfd4, -1, at(&set(&[SIGUSR1])), 8, 0).fd();
    let buffer = anon(1);
    let me = getpid();
    three(
        "read",
        || sc!(SYS_read, fd, buffer, 128),
        || {
            kill(me, SIGUSR1);
        },
    );
}

fn watches() {
    mkdir(c"d", 0o755);
    let fd = sc!(SYS_inotify_init1, 0).fd();
    sc!(SYS_inotify_add_watch, fd, c"d", IN_CREATE);
    let buffer = anon(1);
    three(
        "read",
        || sc!(SYS_read, fd, buffer, 4096),
        || {
            mkdir(c"d/x", 0o755);
            rmdir(c"d/x");
        },
    );
}

fn terminals() {
    let master = open(c"/dev/ptmx", O_RDWR | O_NOCTTY, 0).fd();
    let (mut number, buffer) = (0i32, anon(1));
    ioctl(master, TIOCSPTLCK, at(&0i32));
    ioctl(master, TIOCGPTN, at_mut(&mut number));
    let path = CString::new(format!("/dev/pts/{number}")).unwrap_or_default();
    let slave = open(&path, O_RDWR | O_NOCTTY, 0).fd();
    three(
        "read of the slave",
        || sc!(SYS_read, slave, buffer, 10),
        || {
            wr(master, "x\n");
        },
    );
    sc!(SYS_ioctl, master, TCFLSH, 2);
    three(
        "read of the master",
        || sc!(SYS_read, master, buffer, 10),
        || {
            wr(slave, "y");
        },
    );
}

fn first_in_first_out() {
    sc!(SYS_mknod, c"fifo", S_IFIFO | 0o644, 0);
    three(
        "open",
        || {
            let fd = open(c"fifo", O_RDONLY, 0);
            close(fd);
            if fd.ok() { Ret(0) } else { fd }
        },
        || {
            // A restart may be just under way.
            let mut fd = open(c"fifo", O_WRONLY | O_NONBLOCK, 0);
            for _ in 0..50 {
                if fd.ok() {
                    break;
                }
                nap(1);
                fd = open(c"fifo", O_WRONLY | O_NONBLOCK, 0);
            }
            close(fd);
        },
    );
}

fn receiving() {
    let [a, b] = pair(SOCK_STREAM);
    let buffer = anon(1);
    let send_it = || {
        send(b, "x", 0);
    };
    three("recvfrom", || sc!(SYS_recvfrom, a, buffer, 1, 0, 0u64, 0u64), send_it);
    let vector = iov(&[(buffer, 1)]);
    let message = [0, 0, at(&*vector), 1, 0, 0, 0, 0u64];
    three("recvmsg", || sc!(SYS_recvmsg, a, at(&message), 0), send_it);
    three("recvmmsg", || sc!(SYS_recvmmsg, a, at(&message), 1, 0, 0u64), send_it);
    three("read", || sc!(SYS_read, a, buffer, 1), send_it);
}

fn sending() {
    let [a, b] = pair(SOCK_STREAM);
    let take = || {
        for _ in 0..400 {
            if recv(b, 65536, MSG_DONTWAIT).bytes().is_empty() {
                break;
            }
        }
    };
    three(
        "send",
        || {
            fill_up(a);
            send(a, "x", 0)
        },
        take,
    );
    let [a, b] = pair(SOCK_DGRAM);
    let take = || {
        while recv(b, 65536, MSG_DONTWAIT).0.is_ok() {}
    };
    let datagram = || {
        while send(a, "1", MSG_DONTWAIT).ok() {}
        send(a, "x", 0)
    };
    three("send of a datagram", datagram, take);
}

fn accepting_and_connecting() {
    let l = server(SOCK_STREAM, "s");
    let take = || {
        close(client(SOCK_STREAM, "s"));
    };
    let accepted = || {
        let fd = accept(l, 0);
        close(fd);
        if fd.ok() { Ret(0) } else { fd }
    };
    three("accept", accepted, take);
    fcntl(l, F_SETFL, O_NONBLOCK);
    while accept(l, 0).ok() {}
    listen(l, 0);
    let connected = || {
        // The first fills the queue.
        let first = socket(SOCK_STREAM | SOCK_NONBLOCK);
        connect(first, "s");
        let fd = socket(SOCK_STREAM);
        let ret = connect(fd, "s");
        close(fd);
        close(first);
        ret
    };
    // Two processes do this at once, so that neither may wait for a connection that the other has taken.
    three("connect", connected, || while accept(l, 0).ok() {});
}

fn over_tcp() {
    let (l, port) = listener("127.0.0.1", 5);
    let accepted = || {
        let fd = accept(l, 0);
        close(fd);
        if fd.ok() { Ret(0) } else { fd }
    };
    three("accept", accepted, || {
        close(dial(port));
    });
    let [c, s] = tcp_pair();
    let buffer = anon(1);
    three(
        "recv",
        || sc!(SYS_recvfrom, s, buffer, 1, 0, 0u64, 0u64),
        || {
            send(c, "x", 0);
        },
    );
    let (u, to) = udp("127.0.0.1");
    let from = udp("127.0.0.1").0;
    three(
        "recv of UDP",
        || sc!(SYS_recvfrom, u, buffer, 1, 0, 0u64, 0u64),
        || {
            send_to(from, "x", "127.0.0.1", to);
        },
    );
}

fn receiving_with_a_timeout() {
    let [a, b] = pair(SOCK_STREAM);
    let buffer = anon(1);
    sc!(SYS_setsockopt, a, SOL_SOCKET, SO_RCVTIMEO, at(&[20i64, 0]), 16);
    three(
        "recv",
        || sc!(SYS_recvfrom, a, buffer, 1, 0, 0u64, 0u64),
        || {
            send(b, "x", 0);
        },
    );
}

fn children() {
    let [r, w] = pipe(0);
    let start = || {
        child(|| {
            rd(r, 1);
            0
        })
    };
    let done = |ret: Ret| if ret.ok() { Ret(0) } else { ret };
    let let_go = || {
        wr(w, "x");
    };
    let pid = start();
    three(
        "wait4",
        || {
            let ret = done(sc!(SYS_wait4, pid, 0u64, 0, 0u64));
            if ret.errno() == ECHILD { Ret(0) } else { ret }
        },
        let_go,
    );
    let pid = start();
    three("waitid", || done(sc!(SYS_waitid, P_PID, pid, 0u64, WEXITED | WNOWAIT, 0u64)), let_go);
}

fn locks() {
    let held = open(c"f", O_CREAT | O_RDWR, 0o644).fd();
    let other = open(c"f", O_RDWR, 0).fd();
    three(
        "flock",
        || {
            sc!(SYS_flock, held, LOCK_EX);
            let ret = sc!(SYS_flock, other, LOCK_EX);
            sc!(SYS_flock, other, LOCK_UN);
            ret
        },
        || {
            sc!(SYS_flock, held, LOCK_UN);
        },
    );
    let lock = |kind: i32| {
        let mut lock: flock = zeroed();
        lock.l_type = kind as i16;
        lock
    };
    three(
        "F_OFD_SETLKW",
        || {
            fcntl(held, F_OFD_SETLK, at(&lock(F_WRLCK)));
            let ret = fcntl(other, F_OFD_SETLKW, at(&lock(F_WRLCK)));
            fcntl(other, F_OFD_SETLK, at(&lock(F_UNLCK)));
            ret
        },
        || {
            fcntl(held, F_OFD_SETLK, at(&lock(F_UNLCK)));
        },
    );
}

fn futexes() {
    let place = shared(1);
    // A handler may be running just then: nobody waits, and the wake-up would be lost.
    let wake = || {
        for _ in 0..20 {
            if futex_wake(place, 1).0 == 1 {
                break;
            }
            nap(5);
        }
    };
    three("FUTEX_WAIT", || futex(place, FUTEX_WAIT, 0, 0u64, 0, 0), wake);
    three("with a timeout", || futex_wait(place, 0, 20_000), wake);
    three("FUTEX_WAIT_BITSET", || futex(place, FUTEX_WAIT_BITSET, 0, 0u64, 0, 1), wake);
    let waiter = [0u64, place, 2];
    three("futex_waitv", || sc!(SYS_futex_waitv, at(&waiter), 1, 0, 0u64, 0), wake);
}

fn polling() {
    let [r, w] = pipe(0);
    let set = [r as u64 | (POLLIN as u64) << 32];
    let send = || {
        wr(w, "x");
    };
    let counted = |ret: Ret| {
        rd(r, usize::from(ret.0 > 0));
        ret
    };
    three("poll", || counted(sc!(SYS_poll, at(&set), 1, -1)), send);
    three("poll with a timeout", || counted(sc!(SYS_poll, at(&set), 1, 20_000)), send);
    three("ppoll", || counted(sc!(SYS_ppoll, at(&set), 1, 0u64, 0u64, 8)), send);
    three(
        "select",
        || {
            let mut reading = [1u64 << r];
            counted(sc!(SYS_select, r + 1, at_mut(&mut reading), 0u64, 0u64, 0u64))
        },
        send,
    );
    three(
        "pselect6",
        || {
            let mut reading = [1u64 << r];
            counted(sc!(SYS_pselect6, r + 1, at_mut(&mut reading), 0u64, 0u64, 0u64, 0u64))
        },
        send,
    );
}

fn event_polls() {
    let [r, w] = pipe(0);
    let ep = epoll(0);
    epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN, 0);
    let send = || {
        wr(w, "x");
    };
    let counted = |ret: Ret| {
        rd(r, usize::from(ret.0 > 0));
        ret
    };
    let mut buffer = [0u8; 12];
    let events = at_mut(&mut buffer);
    three("epoll_wait", || counted(sc!(SYS_epoll_wait, ep, events, 1, -1)), send);
    three("epoll_pwait", || counted(sc!(SYS_epoll_pwait, ep, events, 1, 20_000, 0u64, 8)), send);
    let limit = span(20_000);
    three(
        "epoll_pwait2",
        || counted(sc!(SYS_epoll_pwait2, ep, events, 1, at(&limit), 0u64, 8)),
        send,
    );
}

fn system_v_messages() {
    let queue = sc!(SYS_msgget, IPC_PRIVATE, 0o600).fd();
    let mut message = [1u64, 0];
    let buffer = at_mut(&mut message);
    let post = || {
        sc!(SYS_msgsnd, queue, at(&[1u64, 7]), 8, IPC_NOWAIT);
    };
    let take =
        || while sc!(SYS_msgrcv, queue, at_mut(&mut [0u64; 1024]), 8000, 0, IPC_NOWAIT).ok() {};
    three(
        "msgrcv",
        || {
            take();
            sc!(SYS_msgrcv, queue, buffer, 8, 0, 0)
        },
        post,
    );
    three(
        "msgsnd",
        || {
            while sc!(SYS_msgsnd, queue, at(&[1u64; 513]), 4096, IPC_NOWAIT).ok() {}
            sc!(SYS_msgsnd, queue, at(&[1u64; 513]), 4096, 0)
        },
        take,
    );
    p!(sc!(SYS_msgctl, queue, IPC_RMID, 0));
}

fn system_v_semaphores() {
    let id = sc!(SYS_semget, IPC_PRIVATE, 1, 0o600).fd();
    let (down, up) = ([0u16, 0xffff, 0], [0u16, 1, 0]);
    let zero = || {
        sc!(SYS_semctl, id, 0, SETVAL, 0);
    };
    let raise = || {
        sc!(SYS_semop, id, at(&up), 1);
    };
    three(
        "semop",
        || {
            zero();
            sc!(SYS_semop, id, at(&down), 1)
        },
        raise,
    );
    three(
        "semtimedop",
        || {
            zero();
            sc!(SYS_semtimedop, id, at(&down), 1, at(&span(20_000)))
        },
        raise,
    );
    p!(sc!(SYS_semctl, id, 0, IPC_RMID, 0));
}

fn message_queues() {
    let name = CString::new(format!("conformance-interrupts-{}", getpid())).unwrap_or_default();
    let limits = [0i64, 1, 8, 0, 0, 0, 0, 0];
    let queue = sc!(SYS_mq_open, &name, O_RDWR | O_CREAT, 0o600, at(&limits)).fd();
    let mut buffer = [0u8; 8];
    let buffer = at_mut(&mut buffer);
    let now = [0i64, 1];
    let post = || {
        sc!(SYS_mq_timedsend, queue, b"x", 1, 0, at(&now));
    };
    let take = || {
        sc!(SYS_mq_timedreceive, queue, at_mut(&mut [0u8; 8]), 8, 0u64, at(&now));
    };
    three(
        "mq_timedreceive",
        || {
            take();
            sc!(SYS_mq_timedreceive, queue, buffer, 8, 0u64, 0u64)
        },
        post,
    );
    three(
        "mq_timedsend",
        || {
            post();
            sc!(SYS_mq_timedsend, queue, b"y", 1, 0, 0u64)
        },
        take,
    );
    p!(sc!(SYS_mq_unlink, &name));
}

fn sleeping() {
    for flags in [0, SA_RESTART] {
        catch(SIGALRM, flags);
        setitimer(ITIMER_REAL, 20, 20);
        p!(flags == 0, sc!(SYS_nanosleep, at(&span(20_000)), 0u64));
        p!(sc!(SYS_clock_nanosleep, CLOCK_REALTIME, 0, at(&span(20_000)), 0u64));
        let later = [clock(CLOCK_MONOTONIC) / 1_000_000_000 + 20, 0];
        p!(sc!(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, at(&later), 0u64));
        setitimer(ITIMER_REAL, 0, 0);
    }
    // A stop does not end them, and counts as time.
    let me = getpid();
    let pid = child(|| {
        await_sleep(me);
        kill(me, SIGSTOP);
        nap(10);
        kill(me, SIGCONT).errno()
    });
    p!(took(300, || nap(300)).1, wait(pid));
}

fn waiting_for_signals() {
    block(&[SIGUSR2]);
    let me = getpid();
    three(
        "rt_sigtimedwait",
        || sc!(SYS_rt_sigtimedwait, at(&set(&[SIGUSR2])), 0u64, 0u64, 8),
        || {
            kill(me, SIGUSR2);
        },
    );
    sigwait(&[SIGUSR2], 0);
    let empty = 0u64;
    for flags in [0, SA_RESTART] {
        catch(SIGALRM, flags);
        setitimer(ITIMER_REAL, 20, 20);
        unblock(&[SIGUSR2]);
        p!(sc!(SYS_pause), sc!(SYS_rt_sigsuspend, at(&empty), 8));
        setitimer(ITIMER_REAL, 0, 0);
    }
}

fn asynchronous_events() {
    let mut context = 0u64;
    p!(sc!(SYS_io_setup, 4, at_mut(&mut context)));
    let mut events = [0u64; 4];
    for flags in [0, SA_RESTART] {
        catch(SIGALRM, flags);
        setitimer(ITIMER_REAL, 20, 20);
        p!(sc!(SYS_io_getevents, context, 1, 1, at_mut(&mut events), 0u64));
        p!(sc!(SYS_io_getevents, context, 1, 1, at_mut(&mut events), at(&span(20_000))));
        setitimer(ITIMER_REAL, 0, 0);
    }
    p!(sc!(SYS_io_destroy, context));
}

fn an_ignored_signal_ends_nothing() {
    let [r, w] = pipe(0);
    ignore(SIGUSR1);
    let me = getpid();
    let pid = child(|| {
        for _ in 0..5 {
            await_sleep(me);
            // Ignored, ignored by default, and blocked ones.
            kill(me, SIGUSR1);
            kill(me, SIGWINCH);
            kill(me, SIGUSR2);
        }
        wr(w, "x").errno()
    });
    block(&[SIGUSR2]);
    let set = [r as u64 | (POLLIN as u64) << 32];
    p!(sc!(SYS_poll, at(&set), 1, -1), rd(r, 1), wait(pid));
}

fn a_long_write_is_cut_short() {
    let [_r, w] = pipe(0);
    catch(SIGALRM, SA_RESTART);
    setitimer(ITIMER_REAL, 50, 50);
    p!(wr(w, vec![1u8; 100_000]));
    setitimer(ITIMER_REAL, 0, 0);
    let [a, _b] = pair(SOCK_STREAM);
    setitimer(ITIMER_REAL, 50, 50);
    let part = wr(a, vec![1u8; 4 << 20]).0;
    setitimer(ITIMER_REAL, 0, 0);
    p!(part > 0 && part < 4 << 20);
}

fn handlers_of_two_kinds() {
    // One of two pending handlers does not ask for a restart: the call ends.
    let [r, w] = pipe(0);
    let me = getpid();
    catch(SIGUSR1, SA_RESTART);
    catch(SIGUSR2, 0);
    let pid = child(|| {
        await_sleep(me);
        kill(me, SIGUSR1);
        await_sleep(me);
        kill(me, SIGUSR2).errno()
    });
    p!(rd(r, 1), caught(), wait(pid), wr(w, "x"), rd(r, 1));
}

cases![
    reading_a_pipe,
    writing_a_pipe,
    splicing,
    counters,
    timers,
    signal_descriptors,
    watches,
    terminals,
    first_in_first_out,
    receiving,
    sending,
    accepting_and_connecting,
    over_tcp,
    receiving_with_a_timeout,
    children,
    locks,
    futexes,
    polling,
    event_polls,
    system_v_messages,
    system_v_semaphores,
    message_queues,
    sleeping,
    waiting_for_signals,
    asynchronous_events,
    an_ignored_signal_ends_nothing,
    a_long_write_is_cut_short,
    handlers_of_two_kinds,
];
