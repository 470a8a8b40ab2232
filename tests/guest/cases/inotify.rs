//! inotify.

use crate::prelude::*;

fn new() -> i32 {
    sc!(SYS_inotify_init1, IN_NONBLOCK | IN_CLOEXEC).fd()
}
fn watch(fd: i32, path: &CStr, mask: u32) -> Ret {
    sc!(SYS_inotify_add_watch, fd, path, mask)
}

const NAMES: [(u32, &str); 15] = [
    (IN_ACCESS, "ACCESS"),
    (IN_MODIFY, "MODIFY"),
    (IN_ATTRIB, "ATTRIB"),
    (IN_CLOSE_WRITE, "CLOSE_WRITE"),
    (IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"),
    (IN_OPEN, "OPEN"),
    (IN_MOVED_FROM, "MOVED_FROM"),
    (IN_MOVED_TO, "MOVED_TO"),
    (IN_CREATE, "CREATE"),
    (IN_DELETE, "DELETE"),
    (IN_DELETE_SELF, "DELETE_SELF"),
    (IN_MOVE_SELF, "MOVE_SELF"),
    (IN_IGNORED, "IGNORED"),
    (IN_ISDIR, "ISDIR"),
    (IN_Q_OVERFLOW, "Q_OVERFLOW"),
];

/// Everything that can be read, one event after the other.
fn events_of(fd: i32) -> String {
    let raw = rd(fd, 65_536);
    if raw.0.is_err() {
        return raw.to_string();
    }
    let mut rest = raw.bytes();
    let mut out = Vec::new();
    while rest.len() >= 16 {
        let word = |i: usize| u32::from_le_bytes([rest[i], rest[i + 1], rest[i + 2], rest[i + 3]]);
        let (wd, mask, cookie, len) = (word(0), word(4), word(8), word(12) as usize);
        let kinds: Vec<&str> =
            NAMES.iter().filter(|(b, _)| mask & b != 0).map(|(_, n)| *n).collect();
        let name = String::from_utf8_lossy(&rest[16..16 + len]).trim_end_matches('\0').to_string();
        let mark = if cookie == 0 { "" } else { " cookie" };
        out.push(format!("{}:{} {name}{mark}", wd as i32, kinds.join("|")));
        rest = &rest[16 + len..];
    }
    out.join(", ")
}

fn directory_events() {
    let fd = new();
    p!(watch(fd, c".", IN_ALL_EVENTS), put(c"f", "data"), events_of(fd), get(c"f"), events_of(fd));
    p!(chmod(c"f", 0o600), unlink(c"f"), events_of(fd), mkdir(c"d", 0o755), rmdir(c"d"));
    p!(events_of(fd));
}

fn renames_share_a_cookie() {
    let fd = new();
    mkdir(c"d", 0o755);
    watch(fd, c".", IN_MOVE);
    watch(fd, c"d", IN_MOVE);
    put(c"f", "");
    p!(rename(c"f", c"g"), events_of(fd), rename(c"g", c"d/h"), events_of(fd));
}

fn file_watch() {
    let fd = new();
    put(c"f", "x");
    watch(fd, c"f", IN_ALL_EVENTS);
    let file = open(c"f", O_RDWR, 0);
    p!(wr(file, "y"), rd(file, 1), ftruncate(file, 0), close(file), events_of(fd));
    p!(link(c"f", c"g"), events_of(fd));
    p!(rename(c"f", c"h"), events_of(fd), unlink(c"g"), events_of(fd), unlink(c"h"), events_of(fd));
}

fn watched_directory_goes_away() {
    let fd = new();
    mkdir(c"d", 0o755);
    watch(fd, c"d", IN_ALL_EVENTS);
    p!(rmdir(c"d"), events_of(fd), sc!(SYS_inotify_rm_watch, fd, 1));
}

fn watch_descriptors_count_up() {
    let fd = new();
    mkdir(c"a", 0o755);
    mkdir(c"b", 0o755);
    p!(watch(fd, c"a", IN_CREATE), watch(fd, c"b", IN_CREATE), watch(fd, c"a", IN_DELETE));
    p!(put(c"a/x", ""), unlink(c"a/x"));
    p!(events_of(fd), watch(fd, c"a", IN_CREATE | IN_MASK_ADD), put(c"a/x", ""), unlink(c"a/x"));
    p!(events_of(fd));
    p!(sc!(SYS_inotify_rm_watch, fd, 1), events_of(fd), watch(fd, c"a", IN_CREATE));
    p!(watch(fd, c"a", IN_CREATE | IN_MASK_CREATE));
}

fn one_shot_and_only_dir() {
    let fd = new();
    put(c"f", "");
    p!(watch(fd, c".", IN_CREATE | IN_ONESHOT), put(c"a", ""), put(c"b", ""), events_of(fd));
    p!(watch(fd, c"f", IN_CREATE | IN_ONLYDIR));
}

fn identical_events_are_merged() {
    let fd = new();
    put(c"f", "");
    watch(fd, c"f", IN_MODIFY);
    let file = open(c"f", O_WRONLY, 0);
    wr(file, "a");
    wr(file, "b");
    wr(file, "c");
    p!(events_of(fd));
}

fn errors() {
    let fd = new();
    put(c"f", "");
    p!(watch(fd, c"none", IN_CREATE), watch(fd, c"f", 0), watch(999, c"f", IN_CREATE));
    p!(watch(1, c"f", IN_CREATE));
    p!(sc!(SYS_inotify_add_watch, fd, 8u64, IN_CREATE), sc!(SYS_inotify_rm_watch, fd, 99));
    p!(sc!(SYS_inotify_rm_watch, 1, 1));
    p!(sc!(SYS_inotify_init1, 1), events_of(fd), wr(fd, "x"), fcntl(fd, F_GETFD, 0));
    p!(sc!(SYS_inotify_init).ok());
}

fn small_buffers() {
    let fd = new();
    watch(fd, c".", IN_CREATE);
    put(c"a", "");
    put(c"b", "");
    let mut n = 0i32;
    p!(rd(fd, 10), ioctl(fd, FIONREAD, at_mut(&mut n)), n, rd(fd, 32).bytes().len());
    p!(rd(fd, 40).bytes().len(), rd(fd, 32));
}

fn readiness() {
    let fd = new();
    watch(fd, c".", IN_CREATE);
    let ep = epoll(0);
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
    p!(poll(&[(fd, POLLIN)], 0), put(c"a", ""), poll(&[(fd, POLLIN)], 0), epoll_wait(ep, 2, 0));
    p!(events_of(fd), epoll_wait(ep, 2, 0));
}

fn blocked_reader_wakes() {
    let fd = sc!(SYS_inotify_init1, 0).fd();
    watch(fd, c".", IN_CREATE);
    let reader = std::thread::spawn(move || events_of(fd));
    p!(put(c"a", ""), reader.join().unwrap_or_default());
}

fn symlinks_and_dont_follow() {
    let fd = new();
    mkdir(c"d", 0o755);
    symlink(c"d", c"l");
    p!(watch(fd, c"l", IN_CREATE), watch(fd, c"d", IN_CREATE));
    p!(watch(fd, c"l", IN_CREATE | IN_DONT_FOLLOW), put(c"l/x", ""));
    p!(events_of(fd));
}

fn excl_unlink() {
    let fd = new();
    mkdir(c"d", 0o755);
    watch(fd, c"d", IN_MODIFY | IN_EXCL_UNLINK);
    let file = open(c"d/f", O_CREAT | O_WRONLY, 0o644);
    p!(wr(file, "a"), events_of(fd), unlink(c"d/f"), wr(file, "b"), events_of(fd));
}

fn unlinked_file_still_tells_its_directory() {
    let fd = new();
    mkdir(c"d", 0o755);
    watch(fd, c"d", IN_MODIFY | IN_CLOSE_WRITE);
    let file = open(c"d/f", O_CREAT | O_WRONLY, 0o644);
    p!(unlink(c"d/f"), wr(file, "b"), events_of(fd), close(file), events_of(fd));
}

/// `F_NOTIFY`: signals about a directory.
fn signals_about_directories() {
    const NOTIFY: i32 = 1026;
    const MULTISHOT: u32 = 0x8000_0000;
    p!(get(c"/proc/sys/fs/dir-notify-enable"));
    mkdir(c"d", 0o755);
    put(c"d/f", "text");
    let fd = open(c"d", O_RDONLY, 0);
    let watch = |mask: u32| fcntl(fd, NOTIFY, mask);
    p!(
        fcntl(open(c"d/f", O_RDONLY, 0), NOTIFY, 1),
        fcntl(pipe(0)[0], NOTIFY, 1),
        fcntl(99, NOTIFY, 1)
    );
    catch(SIGIO, 0);
    let before = |f: &dyn Fn()| {
        hits();
        f();
        hits().len()
    };
    let change = || {
        chmod(c"d/f", 0o600);
    };
    p!(watch(0x20), before(&change), before(&change));
    p!(watch(0x20 | MULTISHOT), before(&change), before(&change), watch(0), before(&change));
    p!(watch(0x4 | MULTISHOT), before(&|| _ = put(c"d/new", "")), before(&change));
    p!(watch(0), watch(0x8 | MULTISHOT), before(&|| _ = unlink(c"d/new")));
    p!(watch(0), watch(0x10 | MULTISHOT), before(&|| _ = rename(c"d/f", c"d/g")));
    mkdir(c"elsewhere", 0o755);
    p!(
        before(&|| _ = rename(c"d/g", c"elsewhere/g")),
        before(&|| _ = rename(c"elsewhere/g", c"d/g"))
    );
    p!(watch(0), watch(0x3 | MULTISHOT), before(&|| _ = get(c"d/g")) > 0);
    p!(close(dup(fd)), before(&|| _ = get(c"d/g")), close(fd), before(&|| _ = get(c"d/g")));
}

cases![
    signals_about_directories,
    unlinked_file_still_tells_its_directory,
    directory_events,
    renames_share_a_cookie,
    file_watch,
    watched_directory_goes_away,
    watch_descriptors_count_up,
    one_shot_and_only_dir,
    identical_events_are_merged,
    errors,
    small_buffers,
    readiness,
    blocked_reader_wakes,
    symlinks_and_dont_follow,
    excl_unlink,
];
