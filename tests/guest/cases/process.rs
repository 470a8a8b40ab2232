//! fork, vfork, clone, exit and waiting.

use crate::prelude::*;

fn exit_codes() {
    for code in [0, 1, 127, 255, 256, -1] {
        p!(code, run(|| code));
    }
}

fn exit_of_one_thread_ends_a_single_threaded_process() {
    p!(run(|| sc!(SYS_exit, 7).fd()), run(|| sc!(SYS_exit_group, 8).fd()));
}

fn death_by_signal() {
    for sig in [SIGTERM, SIGKILL, SIGUSR1, SIGABRT, SIGSEGV, SIGRTMIN()] {
        p!(run(|| {
            raise(sig);
            0
        }));
    }
}

fn fork_returns_ids() {
    let me = getpid();
    let fds = pipe(0);
    let pid = child(|| {
        p!(getppid() == me, getpid() != me, gettid() == getpid());
        wr(fds[1], getpid().to_le_bytes());
        0
    });
    p!(rd(fds[0], 4).bytes() == pid.to_le_bytes(), wait(pid));
}

fn wait_errors() {
    p!(wait(-1), wait(getpid()), wait(0x7fff_fff0), wait_opt(-1, 0x100));
    p!(wait_opt(-1, WNOHANG), wait(i32::MIN), wait(-0x7fff_fff0));
}

fn wnohang_while_running() {
    let fds = pipe(0);
    let pid = child(|| {
        rd(fds[0], 1);
        5
    });
    p!(wait_opt(pid, WNOHANG), wr(fds[1], "x"), wait(pid), wait(pid));
}

fn wait_reports_the_right_child() {
    let fds = pipe(0);
    let (a, b) = (child(|| i32::from(rd(fds[0], 1).bytes() != b"x")), child(|| 2));
    p!(wait(-1).0.fd() == b, wr(fds[1], "x"), wait(-1).0.fd() == a, wait(-1));
}

fn wait_by_process_group() {
    let pid = child(|| {
        sc!(SYS_setpgid, 0, 0);
        3
    });
    sc!(SYS_setpgid, pid, pid);
    let other = child(|| 4);
    p!(wait(-pid), wait(0), wait(-pid));
    p!(other != pid);
}

fn wait_fills_rusage() {
    let pid = child(|| {
        std::hint::black_box((0..200_000u64).fold(0, |a, b| a ^ (b * 3)));
        0
    });
    let mut usage = [0u64; 18];
    let mut status = 0i32;
    p!(sc!(SYS_wait4, pid, at_mut(&mut status), 0, at_mut(&mut usage)).fd() == pid);
    p!(usage[1] < 1_000_000, usage[3] < 1_000_000);
    let bad = child(|| 0);
    p!(sc!(SYS_wait4, bad, 8u64, 0, 0u64), wait(bad));
}

fn stop_and_continue() {
    let fds = pipe(0);
    let pid = child(|| {
        raise(SIGSTOP);
        rd(fds[0], 1);
        9
    });
    p!(wait_opt(pid, WUNTRACED), wait_opt(pid, WUNTRACED | WNOHANG));
    p!(kill(pid, SIGCONT), wait_opt(pid, WCONTINUED), wr(fds[1], "x"), wait(pid));
}

fn stop_is_invisible_without_wuntraced() {
    let fds = pipe(0);
    let pid = child(|| {
        raise(SIGSTOP);
        rd(fds[0], 1);
        9
    });
    p!(waitid(P_PID, pid, WSTOPPED | WNOWAIT).code, wait_opt(pid, WNOHANG));
    p!(kill(pid, SIGCONT), wr(fds[1], "x"), wait(pid));
}

fn kill_of_a_stopped_process() {
    let pid = child(|| {
        raise(SIGSTOP);
        9
    });
    p!(wait_opt(pid, WUNTRACED), kill(pid, SIGTERM), wait_opt(pid, WNOHANG));
    p!(kill(pid, SIGKILL), wait(pid));
}

fn waitid_kinds() {
    let pid = child(|| 11);
    p!(waitid(P_PID, pid, WEXITED | WNOWAIT), waitid(P_PID, pid, WEXITED));
    p!(waitid(P_PID, pid, WEXITED));
    let pid = child(|| 12);
    let w = waitid(P_ALL, 0, WEXITED);
    p!(w, w.pid == pid);
    let pid = child(|| {
        raise(SIGKILL);
        0
    });
    p!(waitid(P_PGID, 0, WEXITED), wait(pid));
}

fn waitid_stop_and_continue() {
    let pid = child(|| {
        raise(SIGSTOP);
        raise(SIGKILL);
        0
    });
    p!(waitid(P_PID, pid, WSTOPPED), waitid(P_PID, pid, WSTOPPED | WNOHANG));
    kill(pid, SIGCONT);
    p!(waitid(P_PID, pid, WEXITED));
}

fn waitid_errors() {
    p!(waitid(P_PID, 1, 0), waitid(P_ALL, 0, WNOHANG), waitid(9, 0, WEXITED));
    p!(waitid(P_PID, 0, WEXITED), waitid(P_PID, -1, WEXITED), waitid(P_ALL, 0, WEXITED));
    p!(waitid(P_PIDFD, 1000, WEXITED), waitid(P_PIDFD, 1, WEXITED), waitid(P_ALL, 0, 0x4000_0000));
    let pid = child(|| 1);
    p!(sc!(SYS_waitid, P_PID, pid, 0u64, WEXITED, 0u64), wait(pid));
}

fn waitid_nohang_clears_info() {
    let fds = pipe(0);
    let pid = child(|| i32::from(!rd(fds[0], 1).bytes().is_empty()));
    let w = waitid(P_PID, pid, WEXITED | WNOHANG);
    p!(w.ret, w.pid, w.code, kill(pid, SIGKILL), waitid(P_PID, pid, WEXITED));
}

fn pidfd_of_a_child() {
    let pid = child(|| {
        sc!(SYS_pause);
        0
    });
    let fd = sc!(SYS_pidfd_open, pid, 0).fd();
    p!(fd >= 0, poll(&[(fd, POLLIN)], 0), fcntl(fd, F_GETFD, 0));
    p!(sc!(SYS_pidfd_send_signal, fd, 0, 0u64, 0), sc!(SYS_pidfd_send_signal, fd, 99, 0u64, 0));
    p!(sc!(SYS_pidfd_send_signal, fd, SIGTERM, 0u64, 0), poll(&[(fd, POLLIN)], 5000));
    p!(waitid(P_PIDFD, fd, WEXITED), sc!(SYS_pidfd_send_signal, fd, 0, 0u64, 0));
    p!(rd(fd, 1), sc!(SYS_pidfd_open, 0x7fff_fff0, 0), sc!(SYS_pidfd_open, getpid(), 0x1));
    p!(sc!(SYS_pidfd_open, -1, 0), sc!(SYS_pidfd_open, 0, 0));
}

fn pidfd_getfd_copies_a_descriptor() {
    let fds = pipe(0);
    let pid = child(|| {
        rd(fds[0], 1);
        0
    });
    let own = sc!(SYS_pidfd_open, pid, 0).fd();
    let copy = sc!(SYS_pidfd_getfd, own, fds[1], 0).fd();
    p!(sc!(SYS_pidfd_getfd, own, 999, 0), sc!(SYS_pidfd_getfd, own, 1, 1));
    p!(fcntl(copy, F_GETFD, 0), wr(copy, "x"), wait(pid), sc!(SYS_pidfd_getfd, 1, 1, 0));
}

fn orphans_go_to_the_subreaper() {
    p!(prctl(PR_SET_CHILD_SUBREAPER, 1));
    let fds = pipe(0);
    let middle = child(|| {
        child(|| {
            rd(fds[0], 1);
            42
        });
        0
    });
    p!(wait(middle), wr(fds[1], "x"), wait(-1), wait(-1));
    let mut flag = 9i32;
    p!(prctl(PR_GET_CHILD_SUBREAPER, at_mut(&mut flag)), flag);
}

fn parent_id_changes_when_orphaned() {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    let reaper = getpid();
    let middle = child(|| {
        let middle = getpid();
        child(|| i32::from(!until(|| getppid() != middle) || getppid() != reaper));
        0
    });
    p!(wait(middle), wait(-1));
}

fn parent_death_signal() {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    let fds = pipe(0);
    let middle = child(|| {
        child(|| {
            p!(prctl(PR_SET_PDEATHSIG, SIGUSR1), prctl(PR_SET_PDEATHSIG, 99));
            let mut sig = 0i32;
            p!(prctl(PR_GET_PDEATHSIG, at_mut(&mut sig)), sig);
            block(&[SIGUSR1]);
            wr(fds[1], "x");
            p!(sigwait(&[SIGUSR1], 10000));
            0
        });
        rd(fds[0], 1);
        0
    });
    // The orphan writes meanwhile.
    let (first, second) = (wait(middle), wait(-1));
    p!(first, second);
}

fn sigchld_ignored_reaps_children() {
    ignore(SIGCHLD);
    let pid = child(|| 3);
    p!(wait(pid), wait(-1));
    default(SIGCHLD);
    let pid = child(|| 4);
    p!(wait(pid));
}

fn sa_nocldwait_reaps_children() {
    catch(SIGCHLD, SA_NOCLDWAIT);
    let pid = child(|| 3);
    p!(until(|| wait_opt(pid, WNOHANG).0.errno() == ECHILD));
    p!(caught());
}

fn children_of_a_child_are_not_ours() {
    let pid = child(|| {
        let inner = child(|| 6);
        p!(wait(inner));
        0
    });
    p!(wait(pid), wait(-1));
}

fn zombie_can_be_signalled_and_has_a_group() {
    let pid = child(|| 0);
    p!(waitid(P_PID, pid, WEXITED | WNOWAIT), kill(pid, 0), kill(pid, SIGKILL));
    p!(sc!(SYS_getpgid, pid).fd() == sc!(SYS_getpgid, 0).fd(), wait(pid), kill(pid, 0));
}

fn clone_with_exit_signal() {
    catch(SIGUSR1, 0);
    let pid = sc!(SYS_clone, SIGUSR1, 0u64, 0u64, 0u64, 0u64);
    if pid.0 == 0 {
        exit(5);
    }
    p!(wait(pid.fd()), wait_opt(pid.fd(), __WALL), caught());
    let pid = sc!(SYS_clone, 0, 0u64, 0u64, 0u64, 0u64);
    if pid.0 == 0 {
        exit(6);
    }
    p!(wait(-1), wait_opt(-1, __WCLONE), wait_opt(-1, __WALL));
}

fn clone_tid_words() {
    let page = shared(1);
    let flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD;
    let pid = sc!(SYS_clone, flags, 0u64, page, page + 8, 0u64);
    if pid.0 == 0 {
        exit(i32::from(word(page + 8).load(SeqCst) as i32 != getpid()));
    }
    p!(wait(pid.fd()), word(page).load(SeqCst) == pid.fd() as u32);
    p!(word(page + 8).load(SeqCst) == pid.fd() as u32);
}

fn clone_flag_combinations_refused() {
    for flags in [
        CLONE_SIGHAND,
        CLONE_THREAD,
        CLONE_THREAD | CLONE_SIGHAND,
        CLONE_FS | CLONE_NEWNS,
        CLONE_NEWUSER | CLONE_FS,
        CLONE_PIDFD | CLONE_PARENT_SETTID,
    ] {
        say!("{flags:#x} {}", sc!(SYS_clone, flags, 0u64, 0u64, 0u64, 0u64));
    }
}

fn clone_files_shares_descriptors() {
    extern "C" fn entry(_: *mut c_void) -> i32 {
        exit(i32::from(!close(10).ok()))
    }
    for flags in [CLONE_FILES, 0] {
        dup2(1, 10);
        let pid = spawn(CLONE_VM | flags | SIGCHLD, entry, 0, 0, 0);
        p!(wait(pid.fd()), fcntl(10, F_GETFD, 0));
    }
}

fn clone_fs_shares_the_working_directory_and_umask() {
    extern "C" fn entry(_: *mut c_void) -> i32 {
        sc!(SYS_umask, 0o077);
        exit(i32::from(!chdir(c"d").ok()))
    }
    mkdir(c"d", 0o755);
    put(c"d/inside", "");
    for flags in [0, CLONE_FS] {
        let pid = spawn(CLONE_VM | flags | SIGCHLD, entry, 0, 0, 0);
        p!(wait(pid.fd()), access(c"inside", F_OK), sc!(SYS_umask, 0o022));
    }
}

fn clone_parent_makes_a_sibling() {
    let middle = child(|| {
        let sibling = sc!(SYS_clone, CLONE_PARENT | SIGCHLD, 0u64, 0u64, 0u64, 0u64);
        if sibling.0 == 0 {
            exit(21);
        }
        p!(wait(sibling.fd()));
        0
    });
    p!(wait(middle), wait(-1), wait(-1));
}

fn clone_vfork_suspends_the_parent() {
    extern "C" fn entry(arg: *mut c_void) -> i32 {
        let page = arg as u64;
        nap(30);
        word(page).store(1, SeqCst);
        exit(2)
    }
    let page = anon(1);
    let pid = spawn(CLONE_VM | CLONE_VFORK | SIGCHLD, entry, page, 0, 0);
    p!(word(page).load(SeqCst), wait(pid.fd()));
}

fn vfork_ends_at_exec() {
    extern "C" fn entry(_: *mut c_void) -> i32 {
        exit(exec_helper(&["exit", "17"]).errno())
    }
    let pid = spawn(CLONE_VM | CLONE_VFORK | SIGCHLD, entry, 0, 0, 0);
    p!(wait(pid.fd()));
}

fn clone_clear_sighand() {
    catch(SIGUSR1, 0);
    ignore(SIGUSR2);
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, …
    let args = [0x1_0000_0000u64, 0, 0, 0, SIGCHLD as u64, 0, 0, 0];
    let pid = sc!(SYS_clone3, at(&args), 64);
    if pid.0 == 0 {
        p!(action(SIGUSR1), action(SIGUSR2));
        exit(0);
    }
    p!(wait(pid.fd()));
}

fn clone3_with_pidfd() {
    let mut pidfd = -1i32;
    let args = [CLONE_PIDFD as u64, at_mut(&mut pidfd), 0, 0, SIGCHLD as u64, 0, 0, 0];
    let pid = sc!(SYS_clone3, at(&args), 64);
    if pid.0 == 0 {
        exit(33);
    }
    p!(pidfd >= 0, waitid(P_PIDFD, pidfd, WEXITED), wait(pid.fd()));
}

fn clone3_errors() {
    let clone3 = |args: &[u64], size: usize| sc!(SYS_clone3, at(args), size);
    p!(clone3(&[0; 11], 63), clone3(&[0; 11], 5000), sc!(SYS_clone3, 8u64, 64));
    p!(clone3(&[0, 0, 0, 0, 65, 0, 0, 0], 64), clone3(&[SIGCHLD as u64, 0, 0, 0, 0, 0, 0, 0], 64));
    p!(clone3(&[0, 0, 0, 0, 0, 4096, 0, 0], 64), clone3(&[0, 0, 0, 0, 0, 0, 4096, 0], 64));
    p!(clone3(&[1 << 40, 0, 0, 0, 0, 0, 0, 0], 64));
    p!(clone3(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], 96));
    p!(clone3(&[CLONE_DETACHED as u64, 0, 0, 0, 0, 0, 0, 0], 64));
}

fn unshare_files_and_fs() {
    p!(sc!(SYS_unshare, CLONE_FILES), sc!(SYS_unshare, CLONE_FS), sc!(SYS_unshare, 0));
    p!(sc!(SYS_unshare, 1), sc!(SYS_unshare, CLONE_VM), sc!(SYS_unshare, CLONE_SIGHAND));
}

fn exit_closes_descriptors() {
    let fds = pipe(0);
    let pid = child(|| 0);
    close(fds[1]);
    p!(rd(fds[0], 1), wait(pid));
}

fn many_children() {
    let pids: Vec<i32> = (0..50).map(|i| child(|| i)).collect();
    let sum: i32 = pids.iter().map(|&p| wait(p).code()).sum();
    p!(sum, wait(-1));
}

fn deep_fork_chain() {
    fn nest(n: i32) -> i32 {
        if n == 0 { 0 } else { run(|| nest(n - 1)).code() + 1 }
    }
    p!(nest(12));
}

fn process_times_move_forward() {
    let mut times = [0i64; 4];
    let a = sc!(SYS_times, at_mut(&mut times));
    p!(a.ok(), times.iter().all(|&t| t >= 0), sc!(SYS_times, 8u64));
    let mut usage = [0u64; 18];
    p!(sc!(SYS_getrusage, RUSAGE_SELF, at_mut(&mut usage)), usage[4] > 0);
    p!(sc!(SYS_getrusage, RUSAGE_CHILDREN, at_mut(&mut usage)));
    p!(sc!(SYS_getrusage, RUSAGE_THREAD, at_mut(&mut usage)));
    p!(sc!(SYS_getrusage, 5, at_mut(&mut usage)), sc!(SYS_getrusage, RUSAGE_SELF, 8u64));
    p!(sc!(SYS_getrusage, -2, at_mut(&mut usage)));
}

/// A descriptor of `/proc/PID` is as good as a pidfd to send a signal.
fn signals_through_proc() {
    let pid = child(|| sc!(SYS_pause).errno());
    let directory = |path: String| {
        let path = CString::new(path).unwrap_or_default();
        open(&*path, O_RDONLY, 0).fd()
    };
    let send = |fd: i32, signal: i32| sc!(SYS_pidfd_send_signal, fd, signal, 0u64, 0);
    let of_child = directory(format!("/proc/{pid}"));
    p!(send(directory(format!("/proc/{pid}/task/{pid}")), 0), send(directory("/proc".into()), 0));
    p!(send(directory(format!("/proc/{pid}/stat")), 0), send(of_child, 0), send(of_child, 99));
    p!(send(of_child, SIGTERM), wait(pid), send(of_child, 0));
}

/// A child that never asks for its usage has a resident set all the same.
fn resident_sets_of_children() {
    p!(run(|| {
        run(|| {
            std::mem::forget(std::hint::black_box(vec![1u8; 16 << 20]));
            0
        });
        let mut usage = [0u64; 18];
        sc!(SYS_getrusage, RUSAGE_CHILDREN, at_mut(&mut usage));
        p!(usage[4] >= 16 << 10, usage[4] < 64 << 10);
        0
    }));
}

cases![
    signals_through_proc,
    resident_sets_of_children,
    exit_codes,
    exit_of_one_thread_ends_a_single_threaded_process,
    death_by_signal,
    fork_returns_ids,
    wait_errors,
    wnohang_while_running,
    wait_reports_the_right_child,
    wait_by_process_group,
    wait_fills_rusage,
    stop_and_continue,
    stop_is_invisible_without_wuntraced,
    kill_of_a_stopped_process,
    waitid_kinds,
    waitid_stop_and_continue,
    waitid_errors,
    waitid_nohang_clears_info,
    pidfd_of_a_child,
    pidfd_getfd_copies_a_descriptor,
    orphans_go_to_the_subreaper,
    parent_id_changes_when_orphaned,
    parent_death_signal,
    sigchld_ignored_reaps_children,
    sa_nocldwait_reaps_children,
    children_of_a_child_are_not_ours,
    zombie_can_be_signalled_and_has_a_group,
    clone_with_exit_signal,
    clone_tid_words,
    clone_flag_combinations_refused,
    clone_files_shares_descriptors,
    clone_fs_shares_the_working_directory_and_umask,
    clone_parent_makes_a_sibling,
    clone_vfork_suspends_the_parent,
    vfork_ends_at_exec,
    clone_clear_sighand,
    clone3_with_pidfd,
    clone3_errors,
    unshare_files_and_fs,
    exit_closes_descriptors,
    many_children,
    deep_fork_chain,
    process_times_move_forward,
];
