//! File locks: POSIX records, open-file-description locks, flock and leases.

use crate::prelude::*;

/// struct flock as words: type and whence, start, len, pid.
fn lock(fd: i32, cmd: i32, kind: i32, start: i64, len: i64) -> Ret {
    sc!(SYS_fcntl, fd, cmd, at(&[kind as u64 & 0xffff, start as u64, len as u64, 0]))
}
fn query(fd: i32, cmd: i32, kind: i32, start: i64, len: i64) -> String {
    let mut words = [kind as u64 & 0xffff, start as u64, len as u64, 0];
    let ret = sc!(SYS_fcntl, fd, cmd, at_mut(&mut words));
    let held = ["read", "write", "none"].get(words[0] as usize & 0xffff).copied().unwrap_or("?");
    if ret.ok() {
        format!("{held} {} {} {}", words[1], words[2], words[3] as i32 == getppid())
    } else {
        ret.to_string()
    }
}
fn file() -> i32 {
    put(c"f", "0123456789");
    open(c"f", O_RDWR, 0).fd()
}

fn write_lock_excludes_other_processes() {
    let fd = file();
    p!(lock(fd, F_SETLK, F_WRLCK, 0, 5));
    p!(run(|| {
        p!(lock(fd, F_SETLK, F_RDLCK, 0, 1), lock(fd, F_SETLK, F_WRLCK, 4, 10));
        p!(lock(fd, F_SETLK, F_WRLCK, 5, 5));
        p!(query(fd, F_GETLK, F_RDLCK, 0, 0), query(fd, F_GETLK, F_WRLCK, 6, 1));
        0
    }));
    p!(query(fd, F_GETLK, F_WRLCK, 0, 0));
}

fn read_locks_are_shared() {
    let fd = file();
    p!(lock(fd, F_SETLK, F_RDLCK, 0, 0));
    p!(run(|| {
        p!(lock(fd, F_SETLK, F_RDLCK, 3, 3), lock(fd, F_SETLK, F_WRLCK, 3, 3));
        p!(query(fd, F_GETLK, F_WRLCK, 2, 9));
        0
    }));
}

fn locks_split_and_merge() {
    let fd = file();
    p!(lock(fd, F_SETLK, F_WRLCK, 0, 10), lock(fd, F_SETLK, F_UNLCK, 3, 2));
    p!(lock(fd, F_SETLK, F_RDLCK, 6, 2));
    p!(run(|| {
        for at in 0..11 {
            p!(at, query(fd, F_GETLK, F_WRLCK, at, 1));
        }
        0
    }));
    p!(lock(fd, F_SETLK, F_WRLCK, 0, 0));
    p!(run(|| i32::from(query(fd, F_GETLK, F_WRLCK, 3, 1) != "write 0 0 true")));
}

fn negative_length_and_whence() {
    let fd = file();
    lseek(fd, 4, SEEK_SET);
    let whence = |w: i32| F_WRLCK as u64 | (w as u64) << 16;
    p!(sc!(SYS_fcntl, fd, F_SETLK, at(&[whence(SEEK_CUR), 1, 2, 0])));
    p!(lock(fd, F_SETLK, F_WRLCK, 20, -3));
    p!(sc!(SYS_fcntl, fd, F_SETLK, at(&[whence(SEEK_END), -1i64 as u64, 1, 0])));
    p!(run(|| {
        p!(query(fd, F_GETLK, F_WRLCK, 0, 0), query(fd, F_GETLK, F_WRLCK, 8, 2));
        p!(query(fd, F_GETLK, F_WRLCK, 12, 0));
        0
    }));
}

fn lock_errors() {
    let fd = file();
    p!(lock(fd, F_SETLK, 9, 0, 1), lock(fd, F_SETLK, F_WRLCK, -1, 1));
    p!(lock(fd, F_SETLK, F_WRLCK, 0, -1), lock(999, F_SETLK, F_WRLCK, 0, 1));
    p!(lock(open(c"f", O_RDONLY, 0).fd(), F_SETLK, F_WRLCK, 0, 1));
    p!(lock(open(c"f", O_WRONLY, 0).fd(), F_SETLK, F_RDLCK, 0, 1));
    p!(fcntl(fd, F_SETLK, 8u64), fcntl(fd, F_GETLK, 8u64), lock(fd, F_GETLK, F_UNLCK, 0, 0));
    p!(lock(fd, F_SETLK, F_WRLCK, i64::MAX, 2));
    p!(lock(pipe(0)[0], F_SETLK, F_RDLCK, 0, 0));
}

fn closing_any_descriptor_drops_the_locks() {
    let fd = file();
    lock(fd, F_SETLK, F_WRLCK, 0, 0);
    let other = open(c"f", O_RDONLY, 0);
    p!(run(|| query(fd, F_GETLK, F_WRLCK, 0, 0).starts_with("none").into()), close(other));
    p!(run(|| query(fd, F_GETLK, F_WRLCK, 0, 0).starts_with("none").into()));
}

fn locks_are_not_inherited_and_end_with_the_process() {
    let fd = file();
    let fds = pipe(0);
    let back = pipe(0);
    let pid = child(|| {
        lock(fd, F_SETLK, F_WRLCK, 0, 0);
        wr(fds[1], "x");
        rd(back[0], 1);
        0
    });
    rd(fds[0], 1);
    p!(lock(fd, F_SETLK, F_WRLCK, 0, 0), wr(back[1], "x"), wait(pid));
    p!(lock(fd, F_SETLK, F_WRLCK, 0, 0));
    p!(run(|| lock(fd, F_SETLK, F_RDLCK, 0, 1).errno()));
}

fn waiting_lock_is_granted() {
    let fd = file();
    lock(fd, F_SETLK, F_WRLCK, 0, 0);
    let pid = child(|| lock(fd, F_SETLKW, F_WRLCK, 0, 0).errno());
    nap(20);
    p!(wait_opt(pid, WNOHANG), lock(fd, F_SETLK, F_UNLCK, 0, 0), wait(pid));
}

fn waiting_lock_is_interrupted() {
    let fd = file();
    lock(fd, F_SETLK, F_WRLCK, 0, 0);
    p!(run(|| {
        catch(SIGALRM, 0);
        setitimer(ITIMER_REAL, 10, 10);
        lock(fd, F_SETLKW, F_RDLCK, 0, 0).errno()
    }));
}

fn deadlock_is_detected() {
    let fd = file();
    let ready = pipe(0);
    lock(fd, F_SETLK, F_WRLCK, 0, 1);
    let pid = child(|| {
        lock(fd, F_SETLK, F_WRLCK, 1, 1);
        wr(ready[1], "x");
        lock(fd, F_SETLKW, F_WRLCK, 0, 1).errno()
    });
    rd(ready[0], 1);
    // Whoever asks second is refused; which one that is depends on the scheduler.
    let ours = lock(fd, F_SETLKW, F_WRLCK, 1, 1).errno() == EDEADLK;
    let unlocked = lock(fd, F_SETLK, F_UNLCK, 0, 1);
    p!(unlocked, ours != (wait(pid).code() == EDEADLK));
}

fn contention_is_no_deadlock() {
    let fd = file();
    let users = [(); 4].map(|()| {
        child(|| {
            let refused = (0..800).filter(|_| {
                let refused = !lock(fd, F_SETLKW, F_WRLCK, 0, 0).ok();
                wr(fd, "x");
                sc!(SYS_lseek, fd, 0, SEEK_SET);
                lock(fd, F_SETLK, F_UNLCK, 0, 0);
                refused
            });
            i32::from(refused.count() > 0)
        })
    });
    for user in users {
        p!(wait(user));
    }
}

fn description_locks() {
    let fd = file();
    let other = open(c"f", O_RDWR, 0).fd();
    p!(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 0), lock(other, F_OFD_SETLK, F_WRLCK, 0, 0));
    p!(lock(dup(fd).fd(), F_OFD_SETLK, F_RDLCK, 0, 5));
    p!(lock(other, F_OFD_SETLK, F_RDLCK, 0, 5), query(other, F_OFD_GETLK, F_WRLCK, 6, 1));
    p!(lock(fd, F_SETLK, F_WRLCK, 7, 1));
    p!(run(|| lock(fd, F_OFD_SETLK, F_WRLCK, 8, 1).errno()), close(fd));
    p!(lock(other, F_OFD_SETLK, F_WRLCK, 7, 0));
    p!(sc!(SYS_fcntl, other, F_OFD_SETLK, at(&[1u64, 0, 0, 77])));
}

fn flock_basics() {
    let fd = file();
    let other = open(c"f", O_RDONLY, 0).fd();
    let flock = |fd: i32, op: i32| sc!(SYS_flock, fd, op);
    p!(flock(fd, LOCK_SH), flock(other, LOCK_SH), flock(fd, LOCK_EX | LOCK_NB));
    p!(flock(other, LOCK_UN), flock(fd, LOCK_EX | LOCK_NB));
    p!(flock(other, LOCK_SH | LOCK_NB), flock(dup(fd).fd(), LOCK_SH));
    p!(flock(other, LOCK_SH | LOCK_NB));
    p!(flock(fd, 0), flock(fd, LOCK_SH | LOCK_EX), flock(999, LOCK_SH), flock(fd, LOCK_UN));
    p!(flock(fd, LOCK_UN));
    p!(flock(pipe(0)[0], LOCK_EX | LOCK_NB), flock(open(c"f", O_PATH, 0).fd(), LOCK_SH));
}

fn flock_is_inherited_and_ends_with_the_last_descriptor() {
    let fd = file();
    sc!(SYS_flock, fd, LOCK_EX);
    let fds = pipe(0);
    let pid = child(|| {
        rd(fds[0], 1);
        0
    });
    close(fd);
    let other = open(c"f", O_RDWR, 0);
    p!(sc!(SYS_flock, other, LOCK_EX | LOCK_NB), wr(fds[1], "x"), wait(pid));
    p!(sc!(SYS_flock, other, LOCK_EX | LOCK_NB));
}

fn flock_waits() {
    let fd = file();
    sc!(SYS_flock, fd, LOCK_EX);
    let pid = child(|| sc!(SYS_flock, open(c"f", O_RDWR, 0), LOCK_EX).errno());
    nap(20);
    p!(wait_opt(pid, WNOHANG), sc!(SYS_flock, fd, LOCK_UN), wait(pid));
    sc!(SYS_flock, fd, LOCK_EX);
    p!(run(|| {
        catch(SIGALRM, 0);
        setitimer(ITIMER_REAL, 10, 10);
        sc!(SYS_flock, open(c"f", O_RDWR, 0), LOCK_SH).errno()
    }));
}

fn flock_and_records_do_not_interact() {
    let fd = file();
    p!(sc!(SYS_flock, fd, LOCK_EX));
    p!(run(|| lock(open(c"f", O_RDWR, 0).fd(), F_SETLK, F_WRLCK, 0, 0).errno()));
}

fn what_has_no_path_can_be_locked() {
    // Each end of a pair is a file of its own. (Counters and clocks share one with all of the machine.)
    for fds in [pair(SOCK_STREAM), pipe(0)] {
        p!(sc!(SYS_flock, fds[0], LOCK_EX), sc!(SYS_flock, fds[1], LOCK_SH | LOCK_NB));
        p!(sc!(SYS_flock, fds[0], LOCK_UN), sc!(SYS_flock, fds[1], LOCK_UN));
        p!(lock(fds[0], F_SETLK, F_RDLCK, 0, 0), lock(fds[1], F_SETLKW, F_WRLCK, 0, 4));
        p!(run(|| {
            p!(query(fds[0], F_GETLK, F_WRLCK, 0, 0), query(fds[1], F_GETLK, F_RDLCK, 2, 1));
            p!(lock(fds[1], F_SETLK, F_WRLCK, 1, 1), lock(fds[1], F_SETLK, F_WRLCK, 4, 1));
            0
        }));
        p!(lock(fds[1], F_SETLK, F_UNLCK, 0, 0), lock(fds[0], F_SETLK, F_UNLCK, 0, 0));
    }
}

cases![
    what_has_no_path_can_be_locked,
    write_lock_excludes_other_processes,
    read_locks_are_shared,
    locks_split_and_merge,
    negative_length_and_whence,
    lock_errors,
    closing_any_descriptor_drops_the_locks,
    locks_are_not_inherited_and_end_with_the_process,
    waiting_lock_is_granted,
    waiting_lock_is_interrupted,
    deadlock_is_detected,
    contention_is_no_deadlock,
    description_locks,
    flock_basics,
    flock_is_inherited_and_ends_with_the_last_descriptor,
    flock_waits,
    flock_and_records_do_not_interact,
];
