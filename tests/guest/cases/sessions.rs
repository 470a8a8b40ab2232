//! Process groups, sessions and resource limits.

use crate::prelude::*;

fn getpgid(pid: i32) -> i32 {
    sc!(SYS_getpgid, pid).fd()
}
fn getsid(pid: i32) -> i32 {
    sc!(SYS_getsid, pid).fd()
}
fn setpgid(pid: i32, group: i32) -> Ret {
    sc!(SYS_setpgid, pid, group)
}
fn sleeper() -> i32 {
    child(|| {
        loop {
            sc!(SYS_pause);
        }
    })
}
fn end(pid: i32) {
    kill(pid, SIGKILL);
    wait(pid);
}

fn case_is_a_session_leader() {
    let me = getpid();
    p!(getpgid(0) == me, getsid(0) == me, sc!(SYS_getpgrp).fd() == me, sc!(SYS_setsid));
    p!(setpgid(0, 0));
}

fn children_inherit_group_and_session() {
    let me = getpid();
    p!(run(|| i32::from(getpgid(0) != me || getsid(0) != me || getsid(getpid()) != me)));
}

fn setpgid_makes_and_joins_groups() {
    let (a, b) = (sleeper(), sleeper());
    p!(setpgid(a, 0), getpgid(a) == a, setpgid(b, a), getpgid(b) == a, setpgid(b, getpid()));
    p!(getpgid(b) == getpid());
    end(a);
    end(b);
}

fn setpgid_errors() {
    let pid = sleeper();
    p!(setpgid(pid, -1), setpgid(-1, 0), setpgid(0x7fff_fff0, 0), setpgid(pid, 0x7fff_fff0));
    p!(setpgid(getppid(), 0));
    p!(sc!(SYS_getpgid, 0x7fff_fff0), sc!(SYS_getsid, 0x7fff_fff0), sc!(SYS_getpgid, -1));
    end(pid);
    let leader = child(|| {
        sc!(SYS_setsid);
        raise(SIGSTOP);
        0
    });
    p!(wait_opt(leader, WUNTRACED), setpgid(leader, 0), kill(leader, SIGKILL), wait(leader));
}

fn setsid_in_a_child() {
    p!(run(|| {
        let me = getpid();
        p!(sc!(SYS_setsid).fd() == me, getsid(0) == me, getpgid(0) == me, sc!(SYS_setsid));
        0
    }));
    p!(run(|| {
        setpgid(0, 0);
        sc!(SYS_setsid).errno()
    }));
}

fn getsid_of_another_session() {
    let pid = child(|| {
        sc!(SYS_setsid);
        raise(SIGSTOP);
        0
    });
    wait_opt(pid, WUNTRACED);
    p!(getsid(pid) == pid, setpgid(pid, getpid()));
    end(pid);
}

fn newly_orphaned_stopped_group_is_continued() {
    // The orphan's new parent is in another session, so its group is orphaned.
    let page = shared(1);
    let middle = child(|| {
        let inner = child(|| {
            catch(SIGHUP, 0);
            catch(SIGCONT, 0);
            raise(SIGSTOP);
            p!(until(|| count() == 2));
            publish(page, 1);
            0
        });
        setpgid(inner, inner);
        wait_opt(inner, WUNTRACED);
        0
    });
    let status = wait(middle);
    await_change(page, 0);
    p!(status);
}

fn rlimit(which: u32) -> [u64; 2] {
    let mut both = [7u64; 2];
    sc!(SYS_prlimit64, 0, which, 0u64, at_mut(&mut both));
    both
}
fn set_rlimit(which: u32, soft: u64, hard: u64) -> Ret {
    sc!(SYS_setrlimit, which, at(&[soft, hard]))
}

fn limits_get_and_set() {
    p!(set_rlimit(RLIMIT_NOFILE, 100, 200), rlimit(RLIMIT_NOFILE)[0], rlimit(RLIMIT_NOFILE)[1]);
    let mut old = [0u64; 2];
    p!(sc!(SYS_prlimit64, 0, RLIMIT_NOFILE, at(&[50u64, 150]), at_mut(&mut old)), old[0], old[1]);
    p!(sc!(SYS_getrlimit, RLIMIT_NOFILE, at_mut(&mut old)), old[0]);
    p!(run(|| rlimit(RLIMIT_NOFILE)[0] as i32));
}

fn limit_errors() {
    p!(set_rlimit(99, 1, 1), set_rlimit(RLIMIT_NOFILE, 10, 5), sc!(SYS_getrlimit, 99, 8u64));
    p!(sc!(SYS_getrlimit, 7, 8u64));
    p!(sc!(SYS_setrlimit, RLIMIT_NOFILE, 8u64), sc!(SYS_prlimit64, 0x7fff_fff0, 7, 0u64, 0u64));
    p!(sc!(SYS_prlimit64, 0, 99, 0u64, 0u64));
}

fn hard_limits_do_not_rise_for_users() {
    p!(run(|| {
        set_rlimit(RLIMIT_CORE, 0, 0);
        set_rlimit(RLIMIT_NOFILE, 64, 128);
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(set_rlimit(RLIMIT_NOFILE, 128, 128), set_rlimit(RLIMIT_NOFILE, 64, 129));
        p!(set_rlimit(RLIMIT_NOFILE, 10, 20), set_rlimit(RLIMIT_CORE, 1, 1));
        p!(sc!(SYS_prlimit64, getppid(), 7, 0u64, 0u64));
        0
    }));
}

fn limits_of_another_process() {
    let pid = sleeper();
    let mut old = [0u64; 2];
    p!(sc!(SYS_prlimit64, pid, RLIMIT_CORE, at(&[0u64, 0]), 0u64));
    p!(sc!(SYS_prlimit64, pid, RLIMIT_CORE, 0u64, at_mut(&mut old)), old[1]);
    end(pid);
}

fn limits_are_shared_by_threads() {
    let set = std::thread::spawn(|| set_rlimit(RLIMIT_NOFILE, 77, 100)).join();
    p!(set.unwrap_or(Ret(-1)), rlimit(RLIMIT_NOFILE)[0]);
}

fn every_limit_can_be_read() {
    for which in 0..16 {
        let [soft, hard] = rlimit(which);
        p!(which, soft <= hard);
    }
}

fn nice_limit_for_users() {
    p!(run(|| {
        set_rlimit(RLIMIT_NICE, 0, 0);
        sc!(SYS_setpriority, 0, 0, 10);
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(sc!(SYS_setpriority, 0, 0, 9), sc!(SYS_setpriority, 0, 0, 12));
        p!(sc!(SYS_getpriority, 0, 0));
        0
    }));
}

cases![
    case_is_a_session_leader,
    children_inherit_group_and_session,
    setpgid_makes_and_joins_groups,
    setpgid_errors,
    setsid_in_a_child,
    getsid_of_another_session,
    newly_orphaned_stopped_group_is_continued,
    limits_get_and_set,
    limit_errors,
    hard_limits_do_not_rise_for_users,
    limits_of_another_process,
    limits_are_shared_by_threads,
    every_limit_can_be_read,
    nice_limit_for_users,
];
