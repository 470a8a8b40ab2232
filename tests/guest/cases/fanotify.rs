//! Watching files, mounts and file systems, and being asked: `fanotify(7)`.

use crate::prelude::*;

const ACCESS: u64 = 0x1;
const MODIFY: u64 = 0x2;
const CLOSE_WRITE: u64 = 0x8;
const CLOSE_NOWRITE: u64 = 0x10;
const OPEN: u64 = 0x20;
const OPEN_EXEC: u64 = 0x1000;
const OPEN_PERM: u64 = 0x1_0000;
const ACCESS_PERM: u64 = 0x2_0000;
const ON_CHILD: u64 = 0x0800_0000;
const ONDIR: u64 = 0x4000_0000;
const ALL: u64 = ACCESS | MODIFY | CLOSE_WRITE | CLOSE_NOWRITE | OPEN;
const NONBLOCK: u32 = 2;
const CONTENT: u32 = 4;
const ADD: u32 = 1;
const REMOVE: u32 = 2;
const DONT_FOLLOW: u32 = 4;
const ONLYDIR: u32 = 8;
const MOUNT: u32 = 0x10;
const IGNORED: u32 = 0x20;
const SURVIVES: u32 = 0x40;
const FLUSH: u32 = 0x80;
const FILESYSTEM: u32 = 0x100;

fn init(flags: u32) -> i32 {
    sc!(SYS_fanotify_init, flags | NONBLOCK, O_RDONLY | O_CLOEXEC).fd()
}
fn mark(group: i32, flags: u32, mask: u64, path: &CStr) -> Ret {
    sc!(SYS_fanotify_mark, group, flags, mask, CWD, path)
}
/// Reads what has happened: events, each with whether it is this process's, and what its file is.
fn events(group: i32) -> String {
    let got = rd(group, 24 * 32);
    let Ok(bytes) = &got.0 else { return got.to_string() };
    let event = |e: &[u8]| {
        let number = |at: usize| i32::from_ne_bytes(e[at..at + 4].try_into().unwrap_or_default());
        let (mask, fd, pid) = (number(8) as u32, number(16), number(20));
        let link = CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        let path = readlink(&link, 200).text();
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        close(fd);
        let whose = if pid == getpid() { "" } else { " of another" };
        let sizes = if number(0) == 24 && e[4] == 3 && e[6] == 24 { "" } else { " sizes" };
        format!("{mask:#x} {name}{whose}{sizes}")
    };
    bytes.chunks(24).map(event).collect::<Vec<_>>().join(", ")
}
pub(super) fn touch(path: &CStr) {
    let fd = open(path, O_RDWR | O_CREAT, 0o644);
    wr(fd, "data");
    close(fd);
}
pub(super) fn look(path: &CStr) {
    let fd = open(path, O_RDONLY, 0);
    rd(fd, 4);
    close(fd);
}

fn groups() {
    let new = |flags: u32, file: i32| sc!(SYS_fanotify_init, flags, file);
    let fd = new(0, O_RDONLY);
    p!(fcntl(fd, F_GETFD, 0), fcntl(fd, F_GETFL, 0).0 & 0xfff, fcntl(new(3, O_RDONLY), F_GETFD, 0));
    p!(fcntl(new(2, O_RDONLY), F_GETFL, 0).0 & 0xfff, new(12, O_RDONLY), new(1 << 30, O_RDONLY));
    p!(new(0, 3), new(0, O_CREAT), new(0, O_DIRECTORY), new(0, O_RDWR | O_APPEND | O_NOATIME).ok());
    p!(readlink(&CString::new(format!("/proc/self/fd/{}", fd.fd())).unwrap_or_default(), 64));
    p!(
        sc!(SYS_lseek, fd, 0, 0),
        wr(fd, [0; 8]),
        wr(new(CONTENT, 0), [0; 4]),
        wr(new(CONTENT, 0), [9; 8])
    );
    let unread = init(0);
    p!(rd(unread, 24), rd(unread, 4), poll(&[(unread, POLLIN)], 0));
    p!(run(|| {
        let uid = fresh_uid();
        p!(sc!(SYS_setresuid, uid, uid, uid), new(0, O_RDONLY), new(CONTENT, O_RDONLY));
        0
    }));
}

fn errors_of_marks() {
    mkdir(c"d", 0o755);
    put(c"f", "x");
    symlink(c"f", c"l");
    let group = init(0);
    let m = |flags: u32, mask: u64, path: &CStr| mark(group, flags, mask, path);
    p!(
        m(0, OPEN, c"f"),
        m(3, OPEN, c"f"),
        m(ADD, 0, c"f"),
        m(REMOVE, 0, c"f"),
        m(ADD | 1 << 20, OPEN, c"f")
    );
    p!(
        m(ADD, 1 << 33, c"f"),
        m(ADD, 1 << 29, c"f"),
        m(FLUSH | ONLYDIR, 0, c"f"),
        m(ADD | MOUNT | FILESYSTEM, OPEN, c"f")
    );
    p!(
        m(ADD, OPEN_PERM, c"f"),
        m(ADD, OPEN, c"none"),
        m(ADD | ONLYDIR, OPEN, c"f"),
        m(REMOVE, OPEN, c"f")
    );
    p!(
        m(ADD, 0x100, c"d"),
        m(ADD, 0x4, c"d"),
        m(ADD | DONT_FOLLOW, OPEN, c"l"),
        m(REMOVE | DONT_FOLLOW, OPEN, c"l")
    );
    p!(mark(999, ADD, OPEN, c"f"), mark(open(c"f", O_RDONLY, 0).fd(), ADD, OPEN, c"f"));
    p!(
        sc!(SYS_fanotify_mark, group, ADD, OPEN, CWD, 8u64),
        sc!(SYS_fanotify_mark, group, ADD, OPEN, 999, 0u64)
    );
    let dir = open(c"d", O_RDONLY, 0).fd();
    p!(
        sc!(SYS_fanotify_mark, group, ADD, OPEN, dir, 0u64),
        sc!(SYS_fanotify_mark, group, ADD, OPEN, 999, c"f")
    );
    p!(sc!(SYS_fanotify_mark, group, REMOVE, OPEN, dir, 0u64), m(REMOVE, OPEN, c"d"));
}

fn a_file() {
    put(c"f", "contents");
    let group = init(0);
    p!(mark(group, ADD, ALL, c"f"), events(group));
    look(c"f");
    p!(poll(&[(group, POLLIN)], 0), events(group), events(group));
    touch(c"f");
    p!(events(group), mark(group, REMOVE, OPEN | ACCESS, c"f"));
    look(c"f");
    p!(events(group), mark(group, REMOVE, ALL, c"f"));
    look(c"f");
    p!(events(group), mark(group, REMOVE, ALL, c"f"));
}

fn a_directory() {
    mkdir(c"d", 0o755);
    mkdir(c"d/e", 0o755);
    put(c"d/f", "contents");
    let group = init(0);
    p!(mark(group, ADD, OPEN | CLOSE_NOWRITE | CLOSE_WRITE, c"d"));
    look(c"d/f");
    close(open(c"d", O_RDONLY, 0));
    p!(events(group), mark(group, ADD, ON_CHILD, c"d"));
    look(c"d/f");
    p!(events(group));
    close(open(c"d/e", O_RDONLY, 0));
    p!(events(group), mark(group, ADD, ONDIR, c"d"));
    close(open(c"d/e", O_RDONLY, 0));
    p!(events(group));
    close(open(c"d", O_RDONLY, 0));
    p!(events(group));
    touch(c"d/new");
    p!(events(group), mark(group, REMOVE, ON_CHILD, c"d"));
    look(c"d/f");
    p!(events(group));
}

fn mounts_and_file_systems() {
    mkdir(c"m", 0o755);
    p!(run(|| {
        p!(
            sc!(SYS_unshare, CLONE_NEWNS),
            sc!(SYS_mount, c"x", c"/", 0u64, MS_REC | MS_PRIVATE, 0u64)
        );
        p!(
            sc!(SYS_mount, c"none", c"m", c"tmpfs", 0, 0u64),
            mkdir(c"m/a", 0o755),
            mkdir(c"b", 0o755)
        );
        put(c"m/a/f", "contents");
        p!(sc!(SYS_mount, c"m", c"b", 0u64, MS_BIND, 0u64));
        let group = init(0);
        p!(mark(group, ADD | MOUNT, OPEN, c"m/a"));
        look(c"m/a/f");
        p!(events(group));
        look(c"b/a/f");
        p!(events(group), mark(group, ADD | FILESYSTEM, CLOSE_NOWRITE, c"m"));
        look(c"b/a/f");
        p!(events(group), mark(group, FLUSH | MOUNT, 0, c"m"));
        look(c"m/a/f");
        p!(events(group), mark(group, FLUSH | FILESYSTEM, 0, c"m"));
        look(c"m/a/f");
        p!(events(group));
        0
    }));
}

fn what_is_ignored() {
    put(c"f", "contents");
    let group = init(0);
    p!(mark(group, ADD, OPEN | CLOSE_NOWRITE, c"f"), mark(group, ADD | IGNORED, OPEN, c"f"));
    look(c"f");
    p!(events(group));
    touch(c"f");
    look(c"f");
    p!(events(group), mark(group, ADD | IGNORED | SURVIVES, OPEN, c"f"));
    touch(c"f");
    look(c"f");
    p!(events(group), mark(group, REMOVE | IGNORED, OPEN, c"f"));
    look(c"f");
    p!(events(group));
}

fn others_are_told_of() {
    put(c"f", "contents");
    let group = init(0);
    p!(mark(group, ADD, OPEN, c"f"));
    run(|| {
        look(c"f");
        0
    });
    look(c"f");
    p!(events(group), mark(group, FLUSH, 0, c"."));
    look(c"f");
    p!(events(group));
}

fn programs() {
    let me = me();
    let group = init(0);
    p!(mark(group, ADD, OPEN | OPEN_EXEC, &me), helper(&["exit", "3"]));
    p!(events(group).contains("0x1020"));
    let ask = init(CONTENT);
    p!(mark(ask, ADD, 0x4_0000, &me));
    let child = child(|| exec_helper(&["exit", "4"]).errno());
    p!(answer(ask, 2), wait(child));
}

/// Waits for a question, and answers it.
fn answer(group: i32, response: u32) -> String {
    poll(&[(group, POLLIN)], 5000);
    let got = rd(group, 24);
    let Ok(e) = &got.0 else { return got.to_string() };
    let number = |at: usize| i32::from_ne_bytes(e[at..at + 4].try_into().unwrap_or_default());
    let fd = number(16);
    let mut bytes = fd.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&response.to_ne_bytes());
    let ret = wr(group, &bytes);
    close(fd);
    format!("{:#x} {ret}", number(8))
}

fn being_asked() {
    put(c"f", "contents");
    let group = init(CONTENT);
    p!(mark(group, ADD, OPEN_PERM | ACCESS_PERM, c"f"));
    for response in [1, 2] {
        let opener = child(|| {
            let fd = open(c"f", O_RDONLY, 0);
            if !fd.ok() {
                return fd.errno();
            }
            100 + rd(fd, 4).bytes().len() as i32
        });
        p!(answer(group, response));
        if response == 1 {
            p!(answer(group, 1));
        }
        p!(wait(opener));
    }
    let reader = child(|| {
        let fd = open(c"f", O_RDONLY, 0);
        rd(fd, 4).0.err().map_or(99, Ret::errno)
    });
    p!(answer(group, 1), answer(group, 2), wait(reader));
    p!(wr(group, [0; 8]), wr(group, [9, 0, 0, 0, 1, 0, 0, 0]));
    let unanswered = child(|| open(c"f", O_RDONLY, 0).errno());
    p!(
        poll(&[(group, POLLIN)], 5000),
        wait_opt(unanswered, WNOHANG),
        kill(unanswered, SIGKILL),
        wait(unanswered)
    );
    let left = child(|| {
        close(group);
        open(c"f", O_RDONLY, 0).errno()
    });
    p!(poll(&[(group, POLLIN)], 5000), close(group), wait(left));
}

fn small_buffers_and_waiting() {
    put(c"f", "contents");
    put(c"g", "contents");
    let group = init(0);
    p!(mark(group, ADD, OPEN, c"f"), mark(group, ADD, OPEN, c"g"));
    look(c"f");
    look(c"g");
    let mut pending = 0u32;
    p!(ioctl(group, 0x541b, at_mut(&mut pending)), pending, rd(group, 23));
    let first = rd(group, 47).bytes().len();
    p!(first, rd(group, 100).bytes().len(), rd(group, 24));
    fcntl(group, F_SETFL, 0);
    let opener = child(|| {
        nap(30);
        look(c"f");
        0
    });
    p!(rd(group, 24).bytes().len(), wait(opener));
}

cases![
    groups,
    errors_of_marks,
    a_file,
    a_directory,
    mounts_and_file_systems,
    what_is_ignored,
    others_are_told_of,
    programs,
    being_asked,
    small_buffers_and_waiting,
];
