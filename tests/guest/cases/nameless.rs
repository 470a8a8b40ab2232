//! Modes, owners and times of pipes and sockets, which are in no directory.

use crate::prelude::*;

fn mode(fd: i32) -> String {
    format!("{:o}", fstat(fd).st.st_mode)
}
fn owner(fd: i32) -> String {
    let st = fstat(fd).st;
    format!("{} {}", st.st_uid, st.st_gid)
}
fn times(fd: i32) -> String {
    let st = fstat(fd).st;
    format!("{} {}", st.st_atime, st.st_mtime)
}
fn fds() -> [(&'static str, i32); 3] {
    [("pipe", pipe(0)[0]), ("pair", pair(SOCK_STREAM)[0]), ("tcp", socket4(SOCK_STREAM))]
}

fn modes_are_kept() {
    for (name, fd) in fds() {
        for bits in [0, 0o644, 0o7777] {
            say!("{name} {bits:o}: {} {}", sc!(SYS_fchmod, fd, bits), mode(fd));
        }
    }
}

fn owners_are_kept() {
    for (name, fd) in fds() {
        say!("{name}: {} {}", sc!(SYS_fchown, fd, 5, 6), owner(fd));
        say!("{name}: {} {}", sc!(SYS_fchown, fd, -1, 7), owner(fd));
        say!("{name}: {} {}", sc!(SYS_fchown, fd, 8, -1), owner(fd));
    }
}

fn times_are_kept() {
    for (name, fd) in fds() {
        say!("{name}: {} {}", sc!(SYS_utimensat, fd, 0u64, at(&[1i64, 0, 2, 0]), 0), times(fd));
        say!(
            "{name}: {} {}",
            sc!(SYS_utimensat, fd, 0u64, at(&[5i64, 0, 0, UTIME_OMIT]), 0),
            times(fd)
        );
        say!("{name}: {}", sc!(SYS_utimensat, fd, 0u64, at(&[5i64, 0, 0, -1]), 0));
        say!("{name}: {}", sc!(SYS_utimensat, fd, c"", at(&[7i64, 0, 8, 0]), AT_EMPTY_PATH));
    }
}

fn both_ends_are_one() {
    let [r, w] = pipe(0);
    p!(sc!(SYS_fchmod, r, 0o640), mode(w), sc!(SYS_fchown, w, 3, 4), owner(r));
    let [a, b] = pair(SOCK_STREAM);
    p!(sc!(SYS_fchmod, a, 0o640), mode(a), mode(b));
    let copy = dup(r).fd();
    p!(sc!(SYS_fchmod, copy, 0o600), mode(w));
}

fn by_an_empty_path() {
    let [r, _w] = pipe(0);
    p!(
        sc!(SYS_fchownat, r, c"", 9, 9, AT_EMPTY_PATH),
        owner(r),
        sc!(SYS_fchownat, r, c"", 9, 9, 0)
    );
    p!(sc!(SYS_fchmodat, r, c"", 0o600), sc!(SYS_fchownat, r, c"x", 9, 9, 0));
    p!(sc!(SYS_fchmodat2, r, c"", 0o604, AT_EMPTY_PATH), mode(r));
}

fn only_the_owner_changes_them() {
    let ([r, w], [a, _b]) = (pipe(0), pair(SOCK_STREAM));
    p!(run(|| {
        sc!(SYS_setresgid, 1000, 1000, 1000);
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(sc!(SYS_fchmod, r, 0o777), sc!(SYS_fchown, r, 1000, 1000), sc!(SYS_fchmod, a, 0o777));
        p!(sc!(SYS_utimensat, r, 0u64, at(&[1i64, 0, 2, 0]), 0), sc!(SYS_fchown, a, -1, -1));
        let own = pipe(0)[0];
        p!(
            owner(own),
            sc!(SYS_fchmod, own, 0o611),
            mode(own),
            sc!(SYS_fchown, own, 0, -1),
            sc!(SYS_fchown, own, -1, 1000)
        );
        0
    }));
    p!(
        sc!(SYS_fchown, r, 1000, 1000),
        run(|| {
            sc!(SYS_setresuid, 1000, 1000, 1000);
            p!(sc!(SYS_fchmod, w, 0o700), mode(r));
            0
        })
    );
}

fn changes_of_owners_take_bits_away() {
    let [r, _w] = pipe(0);
    p!(sc!(SYS_fchmod, r, 0o6755), mode(r), sc!(SYS_fchown, r, 1, 1), mode(r));
    p!(sc!(SYS_fchmod, r, 0o6745), sc!(SYS_fchown, r, 1, 1), mode(r));
}

fn modes_of_pipes_act_in_proc() {
    let [r, _w] = pipe(0);
    sc!(SYS_fchmod, r, 0o600);
    let path = CString::new(format!("/proc/self/fd/{r}")).unwrap_or_default();
    p!(open(&path, O_RDONLY | O_NONBLOCK, 0).ok(), open(&path, O_WRONLY | O_NONBLOCK, 0).ok());
    p!(stat(&path).st.st_mode & 0o777);
}

cases![
    modes_are_kept,
    owners_are_kept,
    times_are_kept,
    both_ends_are_one,
    by_an_empty_path,
    only_the_owner_changes_them,
    changes_of_owners_take_bits_away,
    modes_of_pipes_act_in_proc,
];
