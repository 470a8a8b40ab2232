//! What `wait4` and `waitid` choose and report, and the signals about children.

use crate::prelude::*;

/// A child that ends when a byte comes.
fn waiting_child(code: i32) -> (i32, i32) {
    let [r, w] = pipe(0);
    let pid = child(|| {
        rd(r, 1);
        code
    });
    close(r);
    (pid, w)
}
/// Uses so many milliseconds of a CPU.
fn work(ms: i64) -> i32 {
    while clock(CLOCK_PROCESS_CPUTIME_ID) < ms * 1_000_000 {}
    0
}
/// All of what waitid(2) stores: number, error, code, pid, uid, status.
fn raw(kind: u32, id: i32, options: i32, pid: i32) -> String {
    let mut info = [-1i32; 32];
    let ret = sc!(SYS_waitid, kind, id, at_mut(&mut info), options, 0u64);
    let whose = if info[4] == pid { "it".into() } else { info[4].to_string() };
    format!("{ret} {} {} {} {whose} {} {}", info[0], info[1], info[2], info[5], info[6])
}

fn every_field_is_stored() {
    let pid = child(|| 5);
    p!(raw(P_PID, pid, WEXITED | WNOWAIT, pid), raw(P_PID, pid, WEXITED, pid));
    p!(raw(P_PID, pid, WEXITED, pid));
    let (pid, _w) = waiting_child(0);
    p!(raw(P_PID, pid, WEXITED | WNOHANG, pid));
    kill(pid, SIGSTOP);
    p!(raw(P_PID, pid, WSTOPPED, pid));
    kill(pid, SIGCONT);
    p!(raw(P_PID, pid, WCONTINUED, pid));
    kill(pid, SIGTERM);
    p!(raw(P_PID, pid, WEXITED, pid));
}

fn option_combinations() {
    let (pid, w) = waiting_child(3);
    for options in [0, WNOHANG, WNOWAIT, WEXITED | 0x100, 0x20, WSTOPPED | WNOHANG, i32::MIN] {
        p!(options, raw(P_PID, pid, options, pid));
    }
    for options in
        [WNOHANG | WUNTRACED | WCONTINUED, WEXITED | WNOHANG, WNOWAIT, __WNOTHREAD | WNOHANG]
    {
        p!(options, wait_opt(pid, options));
    }
    p!(wr(w, "x"), wait(pid));
}

fn kinds_of_ids() {
    let (pid, w) = waiting_child(3);
    p!(raw(9, pid, WEXITED | WNOHANG, pid), raw(P_PID, 0, WEXITED | WNOHANG, pid));
    p!(raw(P_PID, -1, WEXITED | WNOHANG, pid), raw(P_PGID, -1, WEXITED | WNOHANG, pid));
    p!(raw(P_PGID, 0, WEXITED | WNOHANG, pid), raw(P_PIDFD, -1, WEXITED | WNOHANG, pid));
    p!(raw(P_PIDFD, 900, WEXITED | WNOHANG, pid), raw(P_PIDFD, w, WEXITED | WNOHANG, pid));
    p!(raw(P_ALL, 77, WEXITED | WNOHANG, pid), wr(w, "x"), wait(pid));
}

fn nonblocking_process_descriptors() {
    let (pid, w) = waiting_child(3);
    let fd = sc!(SYS_pidfd_open, pid, O_NONBLOCK).fd();
    p!(raw(P_PIDFD, fd, WEXITED, pid), raw(P_PIDFD, fd, WEXITED | WNOHANG, pid));
    p!(wr(w, "x"), poll(&[(fd, POLLIN)], 5000), raw(P_PIDFD, fd, WEXITED, pid));
    p!(raw(P_PIDFD, fd, WEXITED, pid), sc!(SYS_pidfd_send_signal, fd, 0, 0u64, 0));
}

fn a_stop_is_told_once() {
    let (pid, w) = waiting_child(3);
    sc!(SYS_setpgid, pid, pid);
    kill(pid, SIGSTOP);
    p!(wait_opt(pid, WUNTRACED), wait_opt(pid, WUNTRACED | WNOHANG), kill(pid, SIGSTOP));
    p!(wait_opt(pid, WUNTRACED | WNOHANG), kill(pid, SIGCONT), wait_opt(pid, WCONTINUED));
    p!(
        wait_opt(pid, WCONTINUED | WNOHANG),
        kill(pid, SIGCONT),
        wait_opt(pid, WCONTINUED | WNOHANG)
    );
    kill(pid, SIGTSTP);
    // An orphaned group takes no stop of the keyboard; this one is not orphaned.
    p!(
        wait_opt(pid, WUNTRACED),
        kill(pid, SIGCONT),
        wait_opt(pid, WCONTINUED),
        wr(w, "x"),
        wait(pid)
    );
}

fn a_stop_can_be_looked_at() {
    let (pid, w) = waiting_child(3);
    kill(pid, SIGSTOP);
    p!(waitid(P_PID, pid, WSTOPPED | WNOWAIT), waitid(P_PID, pid, WSTOPPED | WNOWAIT | WNOHANG));
    p!(waitid(P_PID, pid, WSTOPPED), waitid(P_PID, pid, WSTOPPED | WNOHANG), kill(pid, SIGCONT));
    p!(waitid(P_PID, pid, WCONTINUED | WNOWAIT), waitid(P_PID, pid, WCONTINUED));
    p!(waitid(P_PID, pid, WCONTINUED | WNOHANG), wr(w, "x"), wait(pid));
}

fn a_continuation_hides_the_stop() {
    let (pid, w) = waiting_child(3);
    kill(pid, SIGSTOP);
    waitid(P_PID, pid, WSTOPPED | WNOWAIT);
    kill(pid, SIGCONT);
    waitid(P_PID, pid, WCONTINUED | WNOWAIT);
    p!(wait_opt(pid, WUNTRACED | WNOHANG), wait_opt(pid, WUNTRACED | WCONTINUED | WNOHANG));
    p!(wait_opt(pid, WUNTRACED | WCONTINUED | WNOHANG), wr(w, "x"), wait(pid));
}

fn signals_about_children() {
    block(&[SIGCHLD]);
    catch(SIGUSR1, 0);
    let seen = || {
        let mut info = [0i32; 32];
        let ret =
            sc!(SYS_rt_sigtimedwait, at(&set(&[SIGCHLD])), at_mut(&mut info), at(&span(5000)), 8);
        format!("{ret} code {} uid {} status {}", info[2], info[5], info[6])
    };
    let (pid, w) = waiting_child(9);
    kill(pid, SIGSTOP);
    p!(seen(), kill(pid, SIGCONT), seen(), wr(w, "x"), seen(), wait(pid));
    let (pid, _w) = waiting_child(9);
    p!(kill(pid, SIGKILL), seen(), wait(pid));
}

fn resource_use_of_a_child() {
    let pid = child(|| work(60));
    let mut usage: rusage = zeroed();
    let mut status = 0i32;
    p!(sc!(SYS_wait4, pid, at_mut(&mut status), 0, at_mut(&mut usage)).fd() == pid, status);
    let micros = |t: timeval| t.tv_sec * 1_000_000 + t.tv_usec;
    let total = micros(usage.ru_utime) + micros(usage.ru_stime);
    p!(total >= 50_000, usage.ru_maxrss > 0);
    let mut all: rusage = zeroed();
    p!(sc!(SYS_getrusage, RUSAGE_CHILDREN, at_mut(&mut all)));
    p!(micros(all.ru_utime) + micros(all.ru_stime) == total, all.ru_maxrss == usage.ru_maxrss);
}

fn times_of_unwaited_children_do_not_count() {
    ignore(SIGCHLD);
    let pid = child(|| work(50));
    let mut all: rusage = zeroed();
    p!(wait(pid), sc!(SYS_getrusage, RUSAGE_CHILDREN, at_mut(&mut all)));
    p!(all.ru_utime.tv_sec, all.ru_utime.tv_usec + all.ru_stime.tv_usec, all.ru_maxrss);
}

fn bad_places_for_results() {
    let pid = child(|| 4);
    waitid(P_PID, pid, WEXITED | WNOWAIT);
    p!(sc!(SYS_wait4, pid, 8u64, 0, 0u64), wait(pid));
    let pid = child(|| 4);
    waitid(P_PID, pid, WEXITED | WNOWAIT);
    p!(sc!(SYS_waitid, P_PID, pid, 8u64, WEXITED, 0u64), wait(pid));
    let pid = child(|| 4);
    waitid(P_PID, pid, WEXITED | WNOWAIT);
    p!(sc!(SYS_wait4, pid, 0u64, 0, 8u64), wait(pid));
    let pid = child(|| 4);
    p!(sc!(SYS_waitid, P_PID, pid, 0u64, WEXITED, 0u64), wait(pid));
}

fn ignoring_makes_waiting_long() {
    // With SIGCHLD ignored, wait(-1) lasts until there is no child.
    ignore(SIGCHLD);
    let (a, wa) = waiting_child(1);
    let (_b, wb) = waiting_child(2);
    let pid = getpid();
    let helper_pid = child(|| {
        until(|| get(c"/proc/self/stat").0.is_ok() && kill(pid, 0).ok());
        nap(50);
        wr(wa, "x");
        nap(50);
        wr(wb, "x").errno()
    });
    p!(wait(-1), kill(a, 0), kill(helper_pid, 0));
}

fn ignored_after_the_end() {
    // A child that has ended already stays when SIGCHLD is ignored later.
    let pid = child(|| 6);
    waitid(P_PID, pid, WEXITED | WNOWAIT);
    ignore(SIGCHLD);
    p!(wait(pid));
    default(SIGCHLD);
    catch(SIGCHLD, SA_NOCLDWAIT);
    let pid = child(|| 7);
    p!(wait(pid), until(|| count() == 1), caught());
}

fn stopped_children_are_told_of_unless() {
    catch(SIGCHLD, SA_NOCLDSTOP);
    let (pid, w) = waiting_child(3);
    p!(kill(pid, SIGSTOP), wait_opt(pid, WUNTRACED), kill(pid, SIGCONT), wait_opt(pid, WCONTINUED));
    p!(caught(), wr(w, "x"), until(|| count() == 1), wait(pid), caught());
}

fn children_that_signal_otherwise() {
    // A child whose end is told by another signal, or by none, needs __WCLONE or __WALL.
    block(&[SIGUSR1]);
    for sig in [SIGUSR1, 0] {
        let pid = sc!(SYS_clone, sig, 0u64, 0u64, 0u64, 0u64);
        if pid.0 == 0 {
            exit(4);
        }
        p!(wait_opt(pid.fd(), WNOHANG), wait_opt(pid.fd(), __WCLONE), pending());
        let pid = sc!(SYS_clone, sig, 0u64, 0u64, 0u64, 0u64);
        if pid.0 == 0 {
            exit(5);
        }
        p!(wait_opt(pid.fd(), __WALL));
    }
    let pid = child(|| 6);
    p!(wait_opt(pid, __WCLONE), wait_opt(pid, __WALL));
}

fn groups_are_told_apart() {
    let (a, wa) = waiting_child(1);
    let (b, wb) = waiting_child(2);
    sc!(SYS_setpgid, a, a);
    sc!(SYS_setpgid, b, a);
    p!(wait_opt(0, WNOHANG), wait_opt(-a, WNOHANG), wr(wb, "x"), wait(-a).0.fd() == b);
    p!(wr(wa, "x"), wait(0), wait(-a).0.fd() == a, wait(-a));
}

fn a_thread_waits_for_the_others_children() {
    extern "C" fn entry(arg: *mut c_void) -> i32 {
        let shared = arg as u64;
        let pid = word(shared).load(SeqCst) as i32;
        let other = sc!(SYS_wait4, pid, 0u64, __WNOTHREAD, 0u64);
        word(shared + 4).store(other.errno() as u32, SeqCst);
        let ret = sc!(SYS_wait4, pid, 0u64, 0, 0u64);
        word(shared + 8).store(u32::from(ret.fd() == pid), SeqCst);
        publish(shared + 12, 1);
        sc!(SYS_exit, 0);
        0
    }
    let shared = anon(1);
    let pid = child(|| 3);
    word(shared).store(pid as u32, SeqCst);
    spawn(THREAD, entry, shared, 0, 0);
    await_change(shared + 12, 0);
    p!(word(shared + 4).load(SeqCst), word(shared + 8).load(SeqCst), wait(pid));
}

fn orphans_are_not_ours() {
    let [r, w] = pipe(0);
    p!(run(|| {
        let inner = child(|| {
            rd(r, 1);
            0
        });
        wr(w, inner.to_le_bytes());
        0
    }));
    wr(w, "x");
    p!(wait(-1), wait_opt(-1, WNOHANG));
}

fn reaped_by_a_subreaper() {
    p!(prctl(PR_SET_CHILD_SUBREAPER, 1));
    let [r, w] = pipe(0);
    p!(run(|| {
        child(|| {
            rd(r, 1);
            8
        });
        0
    }));
    p!(wr(w, "x"), wait(-1), wait(-1), prctl(PR_SET_CHILD_SUBREAPER, 0));
}

fn codes_have_eight_bits() {
    for code in [0x100, 0x1ff, -1, 0x80] {
        let pid = child(|| syscall(SYS_exit_group, &[code as u64]).errno());
        p!(code, raw(P_PID, pid, WEXITED | WNOWAIT, pid), wait(pid));
    }
}

fn a_zombie_keeps_its_names() {
    let (pid, w) = waiting_child(3);
    let path = |name: &str| CString::new(format!("/proc/{pid}/{name}")).unwrap_or_default();
    p!(sc!(SYS_setpgid, pid, pid), wr(w, "x"), waitid(P_PID, pid, WEXITED | WNOWAIT));
    p!(
        kill(pid, 0),
        kill(pid, SIGKILL),
        sc!(SYS_getpgid, pid).fd() == pid,
        sc!(SYS_getsid, pid).ok()
    );
    p!(get(&path("cmdline")), get(&path("maps")), readlink(&path("exe"), 99));
    p!(readlink(&path("cwd"), 99), list(&path("fd")));
    p!(get(&path("stat")).text().contains(") Z "), get(&path("statm")), sc!(SYS_setpgid, pid, 0));
    p!(sc!(SYS_pidfd_open, pid, 0).ok(), wait(pid));
    p!(kill(pid, 0), get(&path("stat")));
}

cases![
    every_field_is_stored,
    option_combinations,
    kinds_of_ids,
    nonblocking_process_descriptors,
    a_stop_is_told_once,
    a_stop_can_be_looked_at,
    a_continuation_hides_the_stop,
    signals_about_children,
    resource_use_of_a_child,
    times_of_unwaited_children_do_not_count,
    bad_places_for_results,
    ignoring_makes_waiting_long,
    ignored_after_the_end,
    stopped_children_are_told_of_unless,
    children_that_signal_otherwise,
    groups_are_told_apart,
    a_thread_waits_for_the_others_children,
    orphans_are_not_ours,
    reaped_by_a_subreaper,
    codes_have_eight_bits,
    a_zombie_keeps_its_names,
];
