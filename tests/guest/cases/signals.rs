//! Signal delivery: handlers, masks, queues, siginfo, alternate stacks and restarts.

use crate::prelude::*;

fn handler_runs_and_returns() {
    catch(SIGUSR1, 0);
    p!(raise(SIGUSR1), caught(), kill(getpid(), SIGUSR1), caught());
}

fn dispositions() {
    p!(action(SIGUSR1));
    ignore(SIGUSR1);
    p!(action(SIGUSR1), raise(SIGUSR1));
    catch_with(SIGUSR1, SA_RESTART | SA_NODEFER, set(&[SIGHUP, SIGINT]), Extra::None);
    p!(action(SIGUSR1));
    default(SIGUSR1);
    p!(action(SIGUSR1));
}

fn sigaction_errors() {
    let act = [0u64; 4];
    p!(sc!(SYS_rt_sigaction, 0, at(&act), 0u64, 8), sc!(SYS_rt_sigaction, 65, at(&act), 0u64, 8));
    p!(sc!(SYS_rt_sigaction, SIGKILL, at(&act), 0u64, 8));
    p!(sc!(SYS_rt_sigaction, SIGSTOP, at(&act), 0u64, 8));
    p!(sc!(SYS_rt_sigaction, SIGKILL, 0u64, 0u64, 8));
    p!(sc!(SYS_rt_sigaction, SIGUSR1, 8u64, 0u64, 8));
    p!(sc!(SYS_rt_sigaction, SIGUSR1, 0u64, 8u64, 8));
    p!(sc!(SYS_rt_sigaction, SIGUSR1, at(&act), 0u64, 4));
}

fn unknown_flags_are_dropped() {
    catch(SIGUSR1, 0x0000_0400 | 0x0100_0000 | SA_RESTART);
    p!(action(SIGUSR1));
}

fn default_actions() {
    for sig in [SIGURG, SIGWINCH, SIGCHLD, SIGCONT] {
        say!("{} {}", signame(sig), run(|| raise(sig).errno()));
    }
    for sig in [SIGHUP, SIGINT, SIGPIPE, SIGALRM, SIGIO, SIGPROF, SIGVTALRM, SIGSTKFLT, SIGPWR] {
        say!("{} {}", signame(sig), run(|| raise(sig).errno()));
    }
    for sig in [SIGQUIT, SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSYS, SIGXCPU, SIGXFSZ] {
        say!("{} {}", signame(sig), run(|| raise(sig).errno()));
    }
}

fn stop_signals_in_an_orphaned_group_are_dropped() {
    // The case is the leader of a session, so its group is orphaned.
    for sig in [SIGTSTP, SIGTTIN, SIGTTOU] {
        say!("{} {}", signame(sig), run(|| raise(sig).errno()));
    }
}

fn blocked_signal_waits() {
    catch(SIGUSR1, 0);
    block(&[SIGUSR1]);
    raise(SIGUSR1);
    raise(SIGUSR1);
    p!(pending(), caught());
    unblock(&[SIGUSR1]);
    p!(pending(), caught());
}

fn ignored_while_blocked_is_discarded_or_kept() {
    block(&[SIGUSR1, SIGCHLD]);
    ignore(SIGUSR1);
    raise(SIGUSR1);
    raise(SIGCHLD);
    p!(pending());
    catch(SIGUSR1, 0);
    raise(SIGUSR1);
    p!(pending());
    ignore(SIGUSR1);
    p!(pending());
    default(SIGCHLD);
    p!(pending());
}

fn kill_and_stop_cannot_be_blocked() {
    p!(names(sigmask(SIG_SETMASK, u64::MAX)) == "none");
    p!(names(!sigmask(SIG_BLOCK, 0)));
}

fn sigprocmask_errors() {
    let mask = 0u64;
    p!(sc!(SYS_rt_sigprocmask, 9, at(&mask), 0u64, 8), sc!(SYS_rt_sigprocmask, 9, 0u64, 0u64, 8));
    p!(sc!(SYS_rt_sigprocmask, SIG_BLOCK, 8u64, 0u64, 8));
    p!(sc!(SYS_rt_sigprocmask, SIG_BLOCK, 0u64, 8u64, 8));
    p!(sc!(SYS_rt_sigprocmask, SIG_BLOCK, at(&mask), 0u64, 16), sc!(SYS_rt_sigpending, 8u64, 8));
}

fn mask_in_handler() {
    catch_with(SIGUSR1, 0, set(&[SIGHUP]), Extra::None);
    raise(SIGUSR1);
    catch_with(SIGUSR2, SA_NODEFER, set(&[SIGINT]), Extra::None);
    block(&[SIGTERM]);
    raise(SIGUSR2);
    p!(hits().iter().map(|h| names(h.mask)).collect::<Vec<_>>().join("; "));
    p!(names(sigmask(SIG_BLOCK, 0)));
}

fn mask_set_by_the_handlers_context_stays() {
    catch_with(SIGUSR1, 0, 0, Extra::Block(SIGHUP));
    raise(SIGUSR1);
    p!(names(sigmask(SIG_BLOCK, 0)));
}

fn nested_delivery() {
    catch_with(SIGUSR1, 0, 0, Extra::Raise(SIGUSR2));
    catch(SIGUSR2, 0);
    raise(SIGUSR1);
    p!(caught());
    catch_with(SIGUSR1, 0, set(&[SIGUSR2]), Extra::Raise(SIGUSR2));
    raise(SIGUSR1);
    p!(caught());
}

fn nodefer_recursion() {
    catch(SIGUSR2, 0);
    catch_with(SIGUSR1, SA_NODEFER | SA_RESETHAND, 0, Extra::Raise(SIGUSR2));
    raise(SIGUSR1);
    p!(caught(), action(SIGUSR1));
}

fn resethand() {
    catch(SIGUSR1, SA_RESETHAND);
    raise(SIGUSR1);
    p!(caught(), action(SIGUSR1), run(|| raise(SIGUSR1).errno()));
}

fn delivery_order() {
    let rt = SIGRTMIN();
    let all = [SIGTERM, rt + 3, SIGUSR1, rt, SIGHUP];
    for sig in all {
        catch_with(sig, 0, u64::MAX, Extra::None);
    }
    block(&all);
    for sig in all {
        raise(sig);
    }
    p!(pending());
    unblock(&all);
    p!(caught());
}

fn faults_are_delivered_before_other_signals() {
    catch_with(SIGSEGV, 0, u64::MAX, Extra::Skip(2));
    catch_with(SIGHUP, 0, u64::MAX, Extra::None);
    block(&[SIGHUP]);
    raise(SIGHUP);
    fault(Fault::Null);
    unblock(&[SIGHUP]);
    p!(caught());
}

fn real_time_signals_queue() {
    let rt = SIGRTMIN() + 1;
    catch(rt, 0);
    block(&[rt]);
    for value in [5, 6, 7] {
        p!(queue(getpid(), 0, rt, SI_QUEUE, value));
    }
    raise(rt);
    unblock(&[rt]);
    p!(caught());
}

fn standard_signals_do_not_queue() {
    catch(SIGUSR1, 0);
    block(&[SIGUSR1]);
    queue(getpid(), 0, SIGUSR1, SI_QUEUE, 1);
    queue(getpid(), 0, SIGUSR1, SI_QUEUE, 2);
    unblock(&[SIGUSR1]);
    p!(caught());
}

fn thread_and_process_queues() {
    let rt = SIGRTMIN() + 2;
    catch(rt, 0);
    block(&[rt]);
    queue(getpid(), 0, rt, SI_QUEUE, 1);
    queue(getpid(), gettid(), rt, SI_QUEUE, 2);
    unblock(&[rt]);
    p!(caught());
}

fn queue_limit() {
    let rt = SIGRTMIN() + 1;
    p!(run(|| {
        block(&[rt]);
        sc!(SYS_prlimit64, 0, RLIMIT_SIGPENDING, at(&[3u64, 3]), 0u64);
        let uid = fresh_uid();
        sc!(SYS_setresuid, uid, uid, uid);
        let sent = (0..6).filter(|&v| queue(getpid(), 0, rt, SI_QUEUE, v).ok()).count();
        p!(sent, queue(getpid(), 0, rt, SI_QUEUE, 9), kill(getpid(), rt));
        0
    }));
}

fn sigqueue_errors() {
    let me = getpid();
    p!(queue(me, 0, 65, SI_QUEUE, 0), queue(me, 0, 0, SI_QUEUE, 0));
    p!(queue(0x7fff_fff0, 0, SIGUSR1, SI_QUEUE, 0));
    ignore(SIGUSR1);
    let pid = child(|| {
        sc!(SYS_pause);
        0
    });
    p!(queue(pid, 0, SIGUSR1, SI_USER, 0), queue(pid, 0, SIGUSR1, SI_TKILL, 0));
    p!(queue(pid, 0, SIGUSR1, -60, 0), queue(me, 0, SIGUSR1, SI_USER, 0));
    p!(sc!(SYS_rt_sigqueueinfo, me, SIGUSR1, 8u64), kill(pid, SIGKILL), wait(pid));
}

fn siginfo_of_kill_and_tgkill() {
    catch(SIGUSR1, SA_RESTART);
    kill(getpid(), SIGUSR1);
    raise(SIGUSR1);
    let me = getpid();
    for h in hits() {
        say!("{h} {} {}", h.pid == me, h.uid);
    }
    p!(run(|| kill(getppid(), SIGUSR1).errno()));
    p!(until(|| count() == 1), hits().iter().all(|h| h.pid != me && h.code == 0));
}

fn siginfo_of_sigchld() {
    catch(SIGCHLD, SA_RESTART);
    let show = |what: &str, status: Status| {
        until(|| count() > 0);
        for h in hits() {
            say!("{what}: {status}, {h} status {}", h.value);
        }
    };
    show("exit", run(|| 9));
    show("kill", run(|| raise(SIGKILL).errno()));
    let pid = child(|| raise(SIGSTOP).errno());
    show("stop", wait_opt(pid, WUNTRACED));
    block(&[SIGCHLD]);
    kill(pid, SIGCONT);
    // Continuing and exiting both notify; the second is merged into the first.
    p!(wait(pid), pending());
}

fn nocldstop() {
    catch(SIGCHLD, SA_NOCLDSTOP);
    let pid = child(|| {
        raise(SIGSTOP);
        0
    });
    p!(wait_opt(pid, WUNTRACED), caught(), kill(pid, SIGCONT), wait(pid), until(|| count() > 0));
    p!(caught());
}

fn alternate_stack() {
    let mut old = [0u64; 3];
    p!(sc!(SYS_sigaltstack, 0u64, at_mut(&mut old)), old[1] as i32 == SS_DISABLE);
    p!(altstack(16384, 0));
    catch(SIGUSR1, SA_ONSTACK);
    catch(SIGUSR2, 0);
    raise(SIGUSR1);
    raise(SIGUSR2);
    p!(caught(), sc!(SYS_sigaltstack, 0u64, at_mut(&mut old)), old[1], old[2]);
}

fn alternate_stack_errors() {
    let base = anon(8);
    p!(altstack(1024, 0), altstack(16384, 5), sc!(SYS_sigaltstack, 8u64, 0u64));
    p!(sc!(SYS_sigaltstack, 0u64, 8u64));
    p!(sc!(SYS_sigaltstack, at(&[base, SS_DISABLE as u64, 0]), 0u64));
}

fn nested_handlers_share_the_alternate_stack() {
    altstack(32768, 0);
    catch_with(SIGUSR1, SA_ONSTACK, 0, Extra::Raise(SIGUSR2));
    catch(SIGUSR2, SA_ONSTACK);
    raise(SIGUSR1);
    p!(caught());
}

fn stack_overflow_on_the_alternate_stack() {
    extern "C" fn overflow() {
        fn forever(n: u64) -> u64 {
            let block = [n; 512];
            if std::hint::black_box(n) == u64::MAX { 0 } else { forever(n + 1) + block[7] }
        }
        forever(0);
    }
    sc!(SYS_prlimit64, 0, RLIMIT_STACK, at(&[1u64 << 20, 1 << 23]), 0u64);
    altstack(65536, 0);
    catch_with(SIGSEGV, SA_ONSTACK, 0, Extra::Throw);
    p!(attempt(overflow), caught());
}

fn alternate_stack_after_fork() {
    altstack(16384, 0);
    catch(SIGUSR1, SA_ONSTACK);
    p!(run(|| {
        raise(SIGUSR1);
        p!(caught());
        0
    }));
}

fn sigsuspend() {
    catch(SIGUSR1, 0);
    block(&[SIGUSR1, SIGUSR2]);
    raise(SIGUSR1);
    let mask = bit(SIGUSR2);
    p!(sc!(SYS_rt_sigsuspend, at(&mask), 8), caught(), names(sigmask(SIG_BLOCK, 0)));
    p!(sc!(SYS_rt_sigsuspend, 8u64, 8), sc!(SYS_rt_sigsuspend, at(&mask), 4));
}

fn pause_is_interrupted() {
    catch(SIGALRM, SA_RESTART);
    setitimer(ITIMER_REAL, 10, 10);
    p!(sc!(SYS_pause));
    setitimer(ITIMER_REAL, 0, 0);
    p!(count() > 0);
}

fn sigtimedwait() {
    let rt = SIGRTMIN() + 1;
    block(&[SIGUSR1, SIGUSR2, rt]);
    p!(sigwait(&[SIGUSR1], 0), sigwait(&[SIGUSR1], 20));
    raise(SIGUSR2);
    kill(getpid(), SIGUSR1);
    queue(getpid(), 0, rt, SI_QUEUE, 42);
    p!(sigwait(&[SIGUSR1, SIGUSR2, rt], 0), sigwait(&[SIGUSR1, SIGUSR2, rt], 0), sigwait(&[rt], 0));
    p!(pending());
}

fn sigtimedwait_errors() {
    let mask = bit(SIGUSR1);
    p!(sc!(SYS_rt_sigtimedwait, at(&mask), 0u64, at(&[0i64, 1_000_000_000]), 8));
    p!(sc!(SYS_rt_sigtimedwait, at(&mask), 0u64, at(&[-1i64, 0]), 8));
    p!(sc!(SYS_rt_sigtimedwait, 8u64, 0u64, 0u64, 8));
    p!(sc!(SYS_rt_sigtimedwait, at(&mask), 0u64, 8u64, 8));
    p!(sc!(SYS_rt_sigtimedwait, at(&mask), 0u64, 0u64, 4));
}

fn sigtimedwait_interrupted_by_another_signal() {
    catch(SIGALRM, SA_RESTART);
    setitimer(ITIMER_REAL, 10, 10);
    p!(sigwait(&[SIGUSR1], 10000));
    setitimer(ITIMER_REAL, 0, 0);
}

fn sigwait_takes_sigkillable_set() {
    block(&[SIGCHLD]);
    let pid = child(|| 5);
    p!(sigwait(&[SIGCHLD], 10000), wait(pid), pending());
}

fn restart_of_a_read() {
    let fds = pipe(0);
    catch_with(SIGALRM, SA_RESTART, 0, Extra::Write(fds[1]));
    setitimer(ITIMER_REAL, 20, 0);
    p!(rd(fds[0], 4), caught());
}

fn interruption_of_a_read() {
    let fds = pipe(0);
    catch(SIGALRM, 0);
    setitimer(ITIMER_REAL, 10, 10);
    p!(rd(fds[0], 4));
    setitimer(ITIMER_REAL, 0, 0);
}

fn restart_of_wait_and_flock() {
    let fds = pipe(0);
    catch_with(SIGALRM, SA_RESTART, 0, Extra::Write(fds[1]));
    let pid = child(|| i32::from(rd(fds[0], 1).bytes() != b"!"));
    setitimer(ITIMER_REAL, 20, 0);
    p!(wait(pid), count());
}

fn never_restarted() {
    catch(SIGALRM, SA_RESTART);
    setitimer(ITIMER_REAL, 10, 10);
    let fds = pipe(0);
    p!(poll(&[(fds[0], POLLIN)], 10000), epoll_wait(epoll(0), 4, 10000), nap(10000));
    let ten = timeval(10000);
    p!(select(0, [&[], &[], &[]], at(&ten)), sc!(SYS_rt_sigsuspend, at(&0u64), 8));
    setitimer(ITIMER_REAL, 0, 0);
}

fn socket_timeout_prevents_restart() {
    catch(SIGALRM, SA_RESTART);
    let s = pair(SOCK_STREAM);
    sc!(SYS_setsockopt, s[0], SOL_SOCKET, SO_RCVTIMEO, at(&timeval(10000)), 16);
    setitimer(ITIMER_REAL, 10, 10);
    p!(recv(s[0], 4, 0));
    setitimer(ITIMER_REAL, 0, 0);
}

fn handler_between_partial_write_and_end() {
    catch(SIGALRM, SA_RESTART);
    let fds = pipe(0);
    let size = fcntl(fds[1], F_GETPIPE_SZ, 0).0 as usize;
    setitimer(ITIMER_REAL, 20, 20);
    p!(wr(fds[1], vec![0; size + 4096]).0 == size as i64);
    setitimer(ITIMER_REAL, 0, 0);
}

fn signalfd_reads_siginfo() {
    let rt = SIGRTMIN() + 1;
    let mask = set(&[SIGUSR1, rt]);
    block(&[SIGUSR1, rt]);
    let fd = sc!(SYS_signalfd4, -1, at(&mask), 8, SFD_NONBLOCK | SFD_CLOEXEC).fd();
    p!(rd(fd, 128), poll(&[(fd, POLLIN)], 0), fcntl(fd, F_GETFD, 0));
    kill(getpid(), SIGUSR1);
    queue(getpid(), 0, rt, SI_QUEUE, 77);
    p!(poll(&[(fd, POLLIN)], 0));
    let both = rd(fd, 1000);
    let infos: Vec<&[u8]> = both.bytes().chunks(128).collect();
    for info in infos {
        let field =
            |i: usize| info[i..i + 4].iter().rev().fold(0i32, |n, &b| n << 8 | i32::from(b));
        say!(
            "{} code {} from me {} value {}",
            signame(field(0)),
            field(8),
            field(12) == getpid(),
            field(44)
        );
    }
    p!(pending(), rd(fd, 127), rd(fd, 128));
}

fn signalfd_errors_and_update() {
    let mask = set(&[SIGUSR1]);
    block(&[SIGUSR1, SIGUSR2]);
    p!(sc!(SYS_signalfd4, -1, at(&mask), 4, 0), sc!(SYS_signalfd4, -1, 8u64, 8, 0));
    p!(sc!(SYS_signalfd4, 1, at(&mask), 8, 0), sc!(SYS_signalfd4, -1, at(&mask), 8, 1));
    let fd = sc!(SYS_signalfd4, -1, at(&mask), 8, SFD_NONBLOCK).fd();
    raise(SIGUSR2);
    p!(poll(&[(fd, POLLIN)], 0));
    p!(sc!(SYS_signalfd4, fd, at(&set(&[SIGUSR2])), 8, 0).fd() == fd, poll(&[(fd, POLLIN)], 0));
    p!(wr(fd, "x"));
}

fn signalfd_wakes_a_blocked_reader() {
    let mask = set(&[SIGCHLD]);
    block(&[SIGCHLD]);
    let fd = sc!(SYS_signalfd4, -1, at(&mask), 8, 0).fd();
    let pid = child(|| 3);
    p!(rd(fd, 128).bytes().first().copied().unwrap_or(0), wait(pid));
}

cases![
    handler_runs_and_returns,
    dispositions,
    sigaction_errors,
    unknown_flags_are_dropped,
    default_actions,
    stop_signals_in_an_orphaned_group_are_dropped,
    blocked_signal_waits,
    ignored_while_blocked_is_discarded_or_kept,
    kill_and_stop_cannot_be_blocked,
    sigprocmask_errors,
    mask_in_handler,
    mask_set_by_the_handlers_context_stays,
    nested_delivery,
    nodefer_recursion,
    resethand,
    delivery_order,
    faults_are_delivered_before_other_signals,
    real_time_signals_queue,
    standard_signals_do_not_queue,
    thread_and_process_queues,
    queue_limit,
    sigqueue_errors,
    siginfo_of_kill_and_tgkill,
    siginfo_of_sigchld,
    nocldstop,
    alternate_stack,
    alternate_stack_errors,
    nested_handlers_share_the_alternate_stack,
    stack_overflow_on_the_alternate_stack,
    alternate_stack_after_fork,
    sigsuspend,
    pause_is_interrupted,
    sigtimedwait,
    sigtimedwait_errors,
    sigtimedwait_interrupted_by_another_signal,
    sigwait_takes_sigkillable_set,
    restart_of_a_read,
    interruption_of_a_read,
    restart_of_wait_and_flock,
    never_restarted,
    socket_timeout_prevents_restart,
    handler_between_partial_write_and_end,
    signalfd_reads_siginfo,
    signalfd_errors_and_update,
    signalfd_wakes_a_blocked_reader,
];
