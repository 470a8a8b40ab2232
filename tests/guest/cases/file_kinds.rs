//! The same call on every kind of file: flags of opening, `fcntl`, `ioctl` and whatever a kind lacks.

use crate::prelude::*;

/// Commands and flags that the C library's bindings lack.
const F_GET_RW_HINT: i32 = 1035;
const F_SET_RW_HINT: i32 = 1036;
const F_SETSIG: i32 = 10;

/// One descriptor of every kind.
fn kinds() -> Vec<(&'static str, i32)> {
    ignore(SIGPIPE);
    put(c"file", "0123456789");
    let mut all = vec![
        ("file", open(c"file", O_RDWR, 0).fd()),
        ("directory", open(c".", O_RDONLY, 0).fd()),
        ("path", open(c"file", O_PATH, 0).fd()),
    ];
    let ([r, w], [a, _b]) = (pipe(O_NONBLOCK), pair(SOCK_STREAM | SOCK_NONBLOCK));
    all.extend([("read end", r), ("write end", w), ("pair", a)]);
    all.push(("tcp", socket4(SOCK_STREAM | SOCK_NONBLOCK)));
    all.push(("udp", socket4(SOCK_DGRAM | SOCK_NONBLOCK)));
    all.push(("counter", sc!(SYS_eventfd2, 0, O_NONBLOCK).fd()));
    all.push(("timer", sc!(SYS_timerfd_create, CLOCK_MONOTONIC, O_NONBLOCK).fd()));
    all.push(("signals", sc!(SYS_signalfd4, -1, at(&0u64), 8, O_NONBLOCK).fd()));
    all.push(("epoll", epoll(0)));
    all.push(("inotify", sc!(SYS_inotify_init1, O_NONBLOCK).fd()));
    all.push(("memory file", sc!(SYS_memfd_create, c"m", MFD_ALLOW_SEALING).fd()));
    all.push(("null", open(c"/dev/null", O_RDWR, 0).fd()));
    all.push(("zero", open(c"/dev/zero", O_RDWR, 0).fd()));
    all.push(("proc", open(c"/proc/self/stat", O_RDONLY, 0).fd()));
    all.push(("terminal", open(c"/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK, 0).fd()));
    all
}
/// Those that are not the whole machine's.
fn own_kinds() -> Vec<(&'static str, i32)> {
    let common = ["null", "zero", "terminal", "proc"];
    kinds().into_iter().filter(|(name, _)| !common.contains(name)).collect()
}
/// Those with an inode on a file system.
fn named_kinds() -> Vec<(&'static str, i32)> {
    let names = ["file", "directory", "path", "memory file"];
    kinds().into_iter().filter(|(name, _)| names.contains(name)).collect()
}
/// All but epoll, which has commands of its own in newer versions of Linux.
fn but_epoll(f: impl Fn(i32) -> Ret) {
    for (name, fd) in kinds().into_iter().filter(|(name, _)| *name != "epoll") {
        say!("{name}: {}", f(fd));
    }
}
/// Only whether it failed: numbers of descriptors are no matter.
fn failure(ret: Ret) -> Ret {
    Ret(ret.0.min(0))
}
/// Says what `f` returns for each.
fn each(f: impl Fn(i32) -> Ret) {
    for (name, fd) in kinds() {
        say!("{name}: {}", f(fd));
    }
}

fn status_flags() {
    each(|fd| Ret(fcntl(fd, F_GETFL, 0).0 & !i64::from(O_LARGEFILE)));
}

fn flags_that_can_be_set() {
    let flags = O_APPEND | O_ASYNC | O_NONBLOCK | O_NOATIME;
    for (name, fd) in kinds() {
        let ret = fcntl(fd, F_SETFL, flags);
        say!("{name}: {ret} {:#x}", fcntl(fd, F_GETFL, 0).0 & i64::from(flags));
    }
}

fn direct_io_is_asked_for() {
    // Which file systems have it differs, but not which kinds that have none.
    for (name, fd) in
        kinds().into_iter().filter(|(name, _)| !["file", "memory file"].contains(name))
    {
        say!("{name}: {}", fcntl(fd, F_SETFL, O_DIRECT));
    }
}

fn direct_io_when_opened() {
    p!(sc!(SYS_mknodat, AT_FDCWD, c"fifo", S_IFIFO | 0o644, 0));
    let names = [c"fifo", c"/dev/null", c"/dev/zero", c".", c"/proc/self/stat", c"/proc/self"];
    for name in names {
        p!(open(name, O_RDONLY | O_NONBLOCK | O_DIRECT, 0));
    }
}

fn modes_and_types() {
    for (name, fd) in kinds() {
        let st = fstat(fd).st;
        say!("{name}: {:o} {}", st.st_mode & S_IFMT, st.st_mode & 0o777);
    }
}

fn seeking() {
    each(|fd| lseek(fd, 0, SEEK_CUR));
    each(|fd| lseek(fd, 5, SEEK_SET));
    each(|fd| lseek(fd, 0, 77));
}

fn reading_at_a_position() {
    each(|fd| sc!(SYS_pread64, fd, &mut [0u8; 8], 0, 0));
    each(|fd| sc!(SYS_pwrite64, fd, &[0u8; 8], 0, 0));
    each(|fd| sc!(SYS_pread64, fd, &mut [0u8; 8], 8, -1i64));
}

fn reading_nothing() {
    each(|fd| sc!(SYS_read, fd, 0u64, 0));
    each(|fd| sc!(SYS_write, fd, 0u64, 0));
}

fn reading_to_nowhere() {
    but_epoll(|fd| sc!(SYS_read, fd, 8u64, 8));
    but_epoll(|fd| sc!(SYS_write, fd, 8u64, 8));
    but_epoll(|fd| sc!(SYS_readv, fd, 8u64, 1));
    each(|fd| sc!(SYS_writev, fd, at(&[0u64, 0]), -1));
}

fn truncating() {
    each(|fd| ftruncate(fd, 3));
    each(|fd| ftruncate(fd, -1));
}

fn allocating() {
    each(|fd| sc!(SYS_fallocate, fd, 0, 0, 100));
    each(|fd| sc!(SYS_fallocate, fd, 0, 0, 0));
    each(|fd| sc!(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
}

fn synchronising() {
    each(|fd| sc!(SYS_fsync, fd));
    each(|fd| sc!(SYS_fdatasync, fd));
    each(|fd| sc!(SYS_sync_file_range, fd, 0, 0, 0));
    each(|fd| sc!(SYS_syncfs, fd));
}

fn advising() {
    each(|fd| sc!(SYS_fadvise64, fd, 0, 0, POSIX_FADV_NORMAL));
    each(|fd| sc!(SYS_fadvise64, fd, 0, 0, 99));
    each(|fd| sc!(SYS_readahead, fd, 0, 10));
}

fn mapping() {
    // Whether TCP sockets can be mapped is a matter of configuration.
    for (name, fd) in kinds().into_iter().filter(|(name, _)| *name != "tcp") {
        let shared = mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0);
        let private = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
        say!("{name}: {} {}", Ret(shared.0.min(0)), Ret(private.0.min(0)));
    }
}

fn locking() {
    let lock = |kind: i32| {
        let mut lock: flock = zeroed();
        lock.l_type = kind as i16;
        lock
    };
    for (name, fd) in own_kinds() {
        say!("{name}: {}", sc!(SYS_flock, fd, LOCK_SH | LOCK_NB));
        say!(
            "{name}: {} {}",
            fcntl(fd, F_SETLK, at(&lock(F_RDLCK))),
            fcntl(fd, F_SETLK, at(&lock(F_WRLCK)))
        );
        say!(
            "{name}: {} {}",
            fcntl(fd, F_OFD_SETLK, at(&lock(F_RDLCK))),
            fcntl(fd, F_GETLK, at_mut(&mut lock(F_WRLCK)))
        );
    }
}

fn leasing() {
    each(|fd| fcntl(fd, F_SETLEASE, F_RDLCK));
    each(|fd| fcntl(fd, F_GETLEASE, 0));
    each(|fd| fcntl(fd, F_NOTIFY, 4));
}

fn sealing() {
    // A file may be one in memory.
    for (name, fd) in kinds().into_iter().skip(1) {
        say!("{name}: {} {}", fcntl(fd, F_GET_SEALS, 0), fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    }
}

fn pipe_sizes() {
    each(|fd| fcntl(fd, F_GETPIPE_SZ, 0));
    each(|fd| fcntl(fd, F_SETPIPE_SZ, 8192));
}

fn write_hints() {
    let mut hint = 0u64;
    let place = at_mut(&mut hint);
    each(|fd| sc!(SYS_fcntl, fd, F_GET_RW_HINT, place));
    each(|fd| sc!(SYS_fcntl, fd, F_SET_RW_HINT, at(&99u64)));
    for (name, fd) in kinds() {
        let set = sc!(SYS_fcntl, fd, F_SET_RW_HINT, at(&3u64));
        hint = 77;
        let get = sc!(SYS_fcntl, fd, F_GET_RW_HINT, at_mut(&mut hint));
        say!("{name}: {set} {get} {hint}");
    }
}

fn unknown_commands() {
    each(|fd| fcntl(fd, 9999, 0));
    but_epoll(|fd| ioctl(fd, 0x1234_5678, 0u64));
    but_epoll(|fd| ioctl(fd, TCGETS, 8u64));
}

fn bytes_that_wait() {
    for (name, fd) in kinds().into_iter().filter(|(name, _)| *name != "epoll") {
        let mut n = -7i32;
        let ret = ioctl(fd, FIONREAD, at_mut(&mut n));
        say!("{name}: {ret} {n}");
    }
    but_epoll(|fd| ioctl(fd, FIONREAD, 8u64));
}

fn switches_of_all_kinds() {
    each(|fd| ioctl(fd, FIONBIO, at(&1i32)));
    each(|fd| ioctl(fd, FIOASYNC, at(&1i32)));
    each(|fd| ioctl(fd, FIOCLEX, 0u64));
    for (name, fd) in kinds() {
        say!("{name}: {}", ioctl(fd, FIOCLEX, 0u64).0 + fcntl(fd, F_GETFD, 0).0);
    }
    each(|fd| ioctl(fd, FIONBIO, 8u64));
    each(|fd| ioctl(fd, FIOQSIZE, 8u64));
}

fn owners_and_signals() {
    each(|fd| fcntl(fd, F_SETOWN, getpid()));
    each(|fd| fcntl(fd, F_SETOWN, 0x7fff_fff0));
    each(|fd| fcntl(fd, F_SETSIG, SIGUSR1));
    each(|fd| fcntl(fd, F_SETSIG, 65));
}

fn listing() {
    each(|fd| sc!(SYS_getdents64, fd, &mut [0u8; 10], 10));
    each(|fd| sc!(SYS_fchdir, fd));
    each(|fd| failure(openat(fd, c"file", O_RDONLY, 0)));
}

fn changing_modes_and_owners() {
    // Of objects without a name Linux has kept them, refused them or not, in different versions.
    for (name, fd) in named_kinds() {
        let modes = sc!(SYS_fchmod, fd, 0o600);
        say!("{name}: {modes} {}", sc!(SYS_fchown, fd, 0, 0));
    }
}

fn setting_times() {
    let times = [1i64, 0, 2, 0];
    for (name, fd) in named_kinds() {
        say!("{name}: {}", sc!(SYS_utimensat, fd, 0u64, at(&times), 0));
    }
}

fn attributes() {
    for (name, fd) in kinds() {
        let set = sc!(SYS_fsetxattr, fd, c"user.x", b"1", 1, 0);
        say!("{name}: {set} {}", sc!(SYS_fgetxattr, fd, c"user.x", &mut [0u8; 8], 8));
    }
}

fn polled_by_epoll() {
    let ep = epoll(0);
    each(|fd| epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 0));
}

fn as_sockets() {
    each(|fd| sc!(SYS_getsockname, fd, at_mut(&mut [0u8; 16]), at_mut(&mut 16u32)));
    each(|fd| listen(fd, 1));
    each(|fd| shutdown(fd, 99));
    each(|fd| sc!(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, at_mut(&mut 0i32), at_mut(&mut 4u32)));
    each(|fd| sc!(SYS_recvfrom, fd, 0u64, 0, MSG_DONTWAIT, 0u64, 0u64));
}

fn as_timers_and_counters() {
    each(|fd| sc!(SYS_timerfd_gettime, fd, at_mut(&mut [0u64; 4])));
    each(|fd| sc!(SYS_epoll_wait, fd, at_mut(&mut [0u8; 12]), 1, 0));
    each(|fd| sc!(SYS_inotify_rm_watch, fd, 1));
    each(|fd| failure(sc!(SYS_signalfd4, fd, at(&0u64), 8, 0)));
    each(|fd| sc!(SYS_pidfd_send_signal, fd, 0, 0u64, 0));
    each(|fd| sc!(SYS_setns, fd, CLONE_NEWNET));
}

fn opened_again_through_proc() {
    for (name, fd) in kinds() {
        let path = CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        let reading = open(&path, O_RDONLY | O_NONBLOCK, 0).0.min(0);
        say!("{name}: {}", Ret(reading));
    }
}

fn found_through_proc() {
    for (name, fd) in kinds() {
        let path = CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        let (there, here) = (stat(&path), fstat(fd));
        let same = there.st.st_ino == here.st.st_ino && there.st.st_mode == here.st.st_mode;
        let place = open(&path, O_PATH, 0);
        say!("{name}: {} {same} {} {}", there.ret, place.ok(), access(&path, R_OK));
        say!("    {:o}", fstat(place).st.st_mode & S_IFMT);
    }
}

fn names_in_proc() {
    // The terminal's is a link on some machines.
    for (name, fd) in kinds().into_iter().filter(|(name, _)| *name != "terminal") {
        let path = CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        let link = readlink(&path, 200).text();
        let link = link.split(|c: char| c.is_ascii_digit()).next().unwrap_or("").to_string();
        let own = link.starts_with('/')
            && !["/dev/pt", "/dev/nu", "/dev/ze", "/memfd"].iter().any(|p| link.starts_with(p));
        let link = if own { "a path".into() } else { link };
        say!("{name}: {link}");
    }
}

fn what_fdinfo_tells() {
    for (name, fd) in kinds().into_iter().filter(|(name, _)| !["pair", "terminal"].contains(name)) {
        let path = CString::new(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let text = get(&path).text();
        let keys: Vec<&str> = text.lines().filter_map(|l| l.split(':').next()).collect();
        say!("{name}: {}", keys.join(" "));
    }
}

fn opening_with_every_flag() {
    put(c"f", "text");
    mkdir(c"d", 0o755);
    symlink(c"f", c"l");
    sc!(SYS_mknod, c"fifo", S_IFIFO | 0o644, 0);
    bind(socket(SOCK_STREAM), "s");
    let flags = [
        ("NOFOLLOW", O_NOFOLLOW),
        ("DIRECTORY", O_DIRECTORY),
        ("PATH", O_PATH),
        ("PATH|NOFOLLOW", O_PATH | O_NOFOLLOW),
        ("PATH|DIRECTORY", O_PATH | O_DIRECTORY),
        ("PATH|CREAT", O_PATH | O_CREAT | O_EXCL),
        ("reading", O_RDONLY),
        ("writing", O_WRONLY),
        ("TRUNC", O_TRUNC),
        ("CREAT", O_CREAT),
        ("CREAT|EXCL", O_CREAT | O_EXCL),
        ("TMPFILE", O_TMPFILE | O_RDWR),
        ("TMPFILE reading", O_TMPFILE),
        ("NOATIME", O_NOATIME),
        ("all of them", -1),
    ];
    for (name, flag) in flags {
        let mut line = String::new();
        for path in [c"f", c"d", c"l", c"fifo", c"s", c"f/", c"d/", c"l/", c"new/"] {
            let fd = open(path, flag | O_NONBLOCK, 0o644);
            line += &format!(" {}", Ret(fd.0.min(0)));
            close(fd);
        }
        say!("{name}:{line}");
    }
}

fn what_a_path_descriptor_does() {
    put(c"f", "text");
    symlink(c"f", c"l");
    let fd = open(c"l", O_PATH | O_NOFOLLOW, 0).fd();
    p!(fstat(fd), sc!(SYS_readlinkat, fd, c"", &mut [0u8; 9], 9), rd(fd, 1), wr(fd, "x"));
    p!(fcntl(fd, F_DUPFD, 50), fcntl(fd, F_GETFD, 0), fcntl(fd, F_SETFD, 1), fcntl(fd, F_GETFL, 0));
    p!(fcntl(fd, F_SETFL, 0), sc!(SYS_fchmod, fd, 0o600), sc!(SYS_fchown, fd, 0, 0));
    p!(sc!(SYS_fchownat, fd, c"", 1, 2, AT_EMPTY_PATH), lstat(c"l"));
    p!(sc!(SYS_linkat, fd, c"", CWD, c"again", AT_EMPTY_PATH), lstat(c"again"));
    let file = open(c"f", O_PATH, 0).fd();
    p!(sc!(SYS_linkat, file, c"", CWD, c"other", AT_EMPTY_PATH), stat(c"other"));
    p!(
        sc!(SYS_execveat, file, c"", 0u64, 0u64, AT_EMPTY_PATH),
        sc!(SYS_fgetxattr, file, c"user.x", 0u64, 0)
    );
    p!(sc!(SYS_flock, file, LOCK_SH), ioctl(file, FIONREAD, 8u64), sc!(SYS_fsync, file));
}

cases![
    status_flags,
    flags_that_can_be_set,
    direct_io_is_asked_for,
    direct_io_when_opened,
    modes_and_types,
    seeking,
    reading_at_a_position,
    reading_nothing,
    reading_to_nowhere,
    truncating,
    allocating,
    synchronising,
    advising,
    mapping,
    locking,
    leasing,
    sealing,
    pipe_sizes,
    write_hints,
    unknown_commands,
    bytes_that_wait,
    switches_of_all_kinds,
    owners_and_signals,
    listing,
    changing_modes_and_owners,
    setting_times,
    attributes,
    polled_by_epoll,
    as_sockets,
    as_timers_and_counters,
    opened_again_through_proc,
    found_through_proc,
    names_in_proc,
    what_fdinfo_tells,
    opening_with_every_flag,
    what_a_path_descriptor_does,
];
