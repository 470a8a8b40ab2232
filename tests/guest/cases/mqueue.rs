//! POSIX message queues.

use crate::prelude::*;

/// A name that no other process uses.
fn name() -> CString {
    CString::new(format!("conformance-{}", getpid())).unwrap_or_default()
}

fn open_queue(name: &CStr, flags: i32, mode: u32, attr: Option<[i64; 2]>) -> Ret {
    let attr = attr.map(|[max, size]| [0, max, size, 0, 0, 0, 0, 0i64]);
    sc!(SYS_mq_open, name, flags, mode, attr.as_ref().map_or(0, at))
}

/// A queue without a name.
fn queue_of(max: i64, size: i64, flags: i32) -> i32 {
    let name = name();
    let fd = open_queue(&name, flags | O_RDWR | O_CREAT | O_EXCL, 0o600, Some([max, size]));
    remove(&name);
    fd.fd()
}

fn remove(name: &CStr) -> Ret {
    sc!(SYS_mq_unlink, name)
}

fn say_to(fd: i32, text: &str, priority: u32) -> Ret {
    sc!(SYS_mq_timedsend, fd, text.as_bytes(), text.len(), priority, 0)
}

fn hear_until(fd: i32, room: usize, until: u64) -> String {
    let (mut text, mut priority) = (vec![0u8; room], 77u32);
    let ret = sc!(SYS_mq_timedreceive, fd, &mut *text, room, at_mut(&mut priority), until);
    if !ret.ok() {
        return ret.to_string();
    }
    text.truncate(ret.fd() as usize);
    format!("{priority} {}", String::from_utf8_lossy(&text))
}

fn hear(fd: i32) -> String {
    hear_until(fd, 64, 0)
}

fn attributes(fd: i32) -> String {
    let mut attr = [9i64; 8];
    let ret = sc!(SYS_mq_getsetattr, fd, 0, at_mut(&mut attr));
    format!("{ret} {:o} {:?}", attr[0], &attr[1..4])
}

fn queue_names() {
    let name = name();
    p!(open_queue(&name, O_RDWR, 0, None), remove(&name));
    let fd = open_queue(&name, O_RDWR | O_CREAT, 0o640, None);
    p!(fd.ok(), fcntl(fd, F_GETFD, 0), fcntl(fd, F_GETFL, 0), attributes(fd.fd()));
    p!(open_queue(&name, O_RDWR | O_CREAT | O_EXCL, 0o600, None));
    p!(open_queue(&name, O_WRONLY | O_RDWR, 0, None), open_queue(&name, O_RDONLY, 0, None).ok());
    p!(open_queue(&name, O_RDWR | O_CREAT, 0o600, Some([1, 1])).ok());
    p!(remove(&name), remove(&name), attributes(fd.fd()), open_queue(&name, O_RDWR, 0, None));
    for bad in [c"", c".", c"..", c"/", c"a/b", c"/conformance"] {
        p!(open_queue(bad, O_RDWR, 0, None), open_queue(bad, O_RDWR | O_CREAT, 0o600, None));
        p!(remove(bad));
    }
    let long = CString::new("x".repeat(256)).unwrap_or_default();
    p!(open_queue(&long, O_RDWR | O_CREAT, 0o600, None), remove(&long));
    p!(sc!(SYS_mq_open, 8u64, O_RDWR, 0, 0), sc!(SYS_mq_unlink, 8u64));
    p!(sc!(SYS_mq_open, &name, O_RDWR | O_CREAT, 0o600, 8u64));
}

fn queue_limits() {
    run(|| {
        let uid = fresh_uid();
        p!(sc!(SYS_setresuid, uid, uid, uid));
        let name = name();
        let try_size = |max: i64, size: i64| {
            let ret = open_queue(&name, O_RDWR | O_CREAT, 0o600, Some([max, size]));
            remove(&name);
            close(ret);
            ret.errno()
        };
        p!(try_size(0, 1), try_size(1, 0), try_size(-1, 1), try_size(1, -1), try_size(10, 8192));
        p!(try_size(11, 1), try_size(1, 8193), try_size(i64::MAX, i64::MAX));
        p!(sc!(SYS_setrlimit, RLIMIT_MSGQUEUE, at(&[2000u64, 2000])));
        p!(try_size(10, 103), try_size(10, 104), try_size(10, 105));
        let held = open_queue(&name, O_RDWR | O_CREAT, 0o600, Some([5, 100]));
        p!(held.ok(), remove(&name), try_size(5, 105));
        p!(close(held), try_size(5, 105));
        0
    });
    for limit in ["msg_default", "msg_max", "msgsize_default", "msgsize_max", "queues_max"] {
        let path = CString::new(format!("/proc/sys/fs/mqueue/{limit}")).unwrap_or_default();
        p!(get(&*path).text(), format!("{:o}", stat(&*path).st.st_mode));
    }
}

fn queue_priorities() {
    let fd = queue_of(8, 16, O_NONBLOCK);
    p!(
        say_to(fd, "low", 1),
        say_to(fd, "high", 5),
        say_to(fd, "low too", 1),
        say_to(fd, "", 32767)
    );
    p!(attributes(fd), hear(fd), hear(fd), hear(fd), hear(fd), hear(fd));
    p!(say_to(fd, "x", 32768), say_to(fd, "seventeen letters", 0), hear_until(fd, 15, 0));
    for n in 0..9 {
        p!(say_to(fd, &n.to_string(), n % 3));
    }
    p!((0..9).map(|_| hear(fd)).collect::<Vec<_>>().join(", "));
    p!(sc!(SYS_mq_timedsend, fd, 8u64, 4, 0, 0), attributes(fd));
    p!(say_to(fd, "gone", 0), sc!(SYS_mq_timedreceive, fd, 8u64, 16, 0, 0), hear(fd));
}

fn queue_descriptors() {
    let name = name();
    let both = open_queue(&name, O_RDWR | O_CREAT | O_NONBLOCK, 0o600, Some([2, 16])).fd();
    let reader = open_queue(&name, O_RDONLY | O_NONBLOCK, 0, None).fd();
    let writer = open_queue(&name, O_WRONLY, 0, None).fd();
    p!(remove(&name), say_to(reader, "x", 0), hear(writer), say_to(writer, "x", 0), hear(reader));
    p!(say_to(1, "x", 0), hear(1), attributes(1), say_to(999, "x", 0), hear(999), attributes(999));
    p!(sc!(SYS_mq_notify, 1, 0), sc!(SYS_mq_notify, 999, 0));
    let set_flags = |fd: i32, flags: i64| {
        let mut old = [0i64; 8];
        let ret = sc!(SYS_mq_getsetattr, fd, at(&[flags, 7, 7, 7, 0, 0, 0, 0]), at_mut(&mut old));
        format!("{ret} {:o} {:?}", old[0], &old[1..4])
    };
    p!(set_flags(both, 0), attributes(both), attributes(writer), set_flags(both, 1));
    p!(set_flags(both, i64::from(O_NONBLOCK)), attributes(both), fcntl(both, F_GETFL, 0));
    p!(sc!(SYS_mq_getsetattr, both, 8u64, 0), sc!(SYS_mq_getsetattr, both, 0, 8u64));
    p!(wr(both, b"x"), lseek(both, 0, SEEK_END), lseek(both, 5, SEEK_SET), ftruncate(both, 0));
    let status = fstat(both);
    p!(
        format!("{:o}", status.st.st_mode),
        status.st.st_size,
        status.st.st_nlink,
        mmap(0, PAGE, 1, 1, both, 0)
    );
}

fn queue_readiness() {
    let fd = queue_of(2, 16, 0);
    let (read, write) = (POLLIN | POLLRDNORM, POLLOUT | POLLWRNORM);
    let ready = || poll(&[(fd, read | write)], 0);
    let ep = epoll(0);
    p!(epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT, 1));
    p!(ready(), epoll_wait(ep, 4, 0), say_to(fd, "a", 0), ready(), epoll_wait(ep, 4, 0));
    p!(say_to(fd, "b", 0), ready(), epoll_wait(ep, 4, 0), hear(fd), hear(fd), ready());
    let pid = child(|| {
        nap(20);
        say_to(fd, "late", 0).errno()
    });
    p!(poll(&[(fd, read)], 10_000), hear(fd), wait(pid));
}

fn queue_timeouts() {
    let fd = queue_of(1, 16, 0);
    let soon = || {
        let at = clock(CLOCK_REALTIME) + 30_000_000;
        [at / 1_000_000_000, at % 1_000_000_000]
    };
    let send_until = |time: [i64; 2]| sc!(SYS_mq_timedsend, fd, b"x", 1, 0, at(&time));
    let (heard, late) = took(30, || hear_until(fd, 16, at(&soon())));
    p!(heard, late, hear_until(fd, 16, at(&[0i64, 0])));
    p!(hear_until(fd, 16, at(&[0i64, 1_000_000_000])), hear_until(fd, 16, at(&[-1i64, 0])));
    p!(hear_until(fd, 16, 8), send_until([0, -1]), send_until([0, 0]));
    let (sent, late) = took(30, || send_until(soon()));
    p!(sent, late, send_until([0, 0]), hear(fd));
}

fn queue_sleepers() {
    let fd = queue_of(1, 16, 0);
    let receiver = child(|| i32::from(hear(fd) != "3 hello"));
    nap(20);
    p!(say_to(fd, "hello", 3), wait(receiver));
    p!(say_to(fd, "first", 0));
    let sender = child(|| say_to(fd, "second", 9).errno());
    nap(20);
    p!(attributes(fd), hear(fd), wait(sender), hear(fd));
    catch(SIGALRM, 0);
    setitimer(ITIMER_REAL, 20, 0);
    p!(hear(fd), count());
    catch(SIGALRM, SA_RESTART);
    setitimer(ITIMER_REAL, 20, 0);
    let late = child(|| {
        nap(60);
        say_to(fd, "after", 0).errno()
    });
    p!(hear(fd), count(), wait(late));
}

fn notify(fd: i32, signal: i32, how: i32, value: u64) -> Ret {
    sc!(
        SYS_mq_notify,
        fd,
        at(&[value, u64::from(signal as u32) | (how as u64) << 32, 0, 0, 0, 0, 0, 0])
    )
}

fn queue_notification() {
    let fd = queue_of(4, 16, O_NONBLOCK);
    block(&[SIGUSR1]);
    p!(notify(fd, SIGUSR1, SIGEV_SIGNAL, 42), notify(fd, SIGUSR1, SIGEV_SIGNAL, 43));
    p!(say_to(fd, "a", 0), sigwait(&[SIGUSR1], 1000), say_to(fd, "b", 0), pending());
    p!(notify(fd, SIGUSR1, SIGEV_SIGNAL, 44), say_to(fd, "c", 0), pending());
    p!(hear(fd), hear(fd), hear(fd), say_to(fd, "d", 0), sigwait(&[SIGUSR1], 1000), hear(fd));
    p!(notify(fd, SIGUSR1, SIGEV_SIGNAL, 1), sc!(SYS_mq_notify, fd, 0), say_to(fd, "e", 0));
    p!(pending(), sc!(SYS_mq_notify, fd, 0), hear(fd));
    p!(notify(fd, 65, SIGEV_SIGNAL, 0), notify(fd, -1, SIGEV_SIGNAL, 0), notify(fd, 0, 9, 0));
    p!(sc!(SYS_mq_notify, fd, 8u64), notify(fd, SIGUSR1, SIGEV_NONE, 0));
    p!(notify(fd, SIGUSR1, SIGEV_SIGNAL, 0), say_to(fd, "f", 0), pending(), hear(fd));
    p!(notify(fd, 0, SIGEV_SIGNAL, 0), say_to(fd, "g", 0), pending(), hear(fd));
    // A descriptor of the process is closed: the registration goes with it.
    p!(
        notify(fd, SIGUSR1, SIGEV_SIGNAL, 0),
        close(dup(fd)),
        say_to(fd, "h", 0),
        pending(),
        hear(fd)
    );
    // Another process's registration is not this one's to take back.
    let mut line = [0u8; 128];
    block(&[SIGUSR2]);
    let other = child(|| {
        let ret = notify(fd, SIGUSR2, SIGEV_SIGNAL, 7);
        // Printed here, it would mix with the parent's lines.
        i32::from(!ret.ok() || !sigwait(&[SIGUSR2], 10_000).starts_with("SIGUSR2"))
    });
    p!(until(|| sc!(SYS_pread64, fd, &mut line, 128, 0).ok()
        && line.windows(8).any(|w| w == b"SIGNO:12")));
    p!(
        notify(fd, SIGUSR1, SIGEV_SIGNAL, 0),
        sc!(SYS_mq_notify, fd, 0),
        say_to(fd, "i", 0),
        wait(other)
    );
    // Whoever waits for the message gets it, and nobody is notified.
    p!(hear(fd), notify(fd, SIGUSR1, SIGEV_SIGNAL, 5), attributes(fd));
    p!(sc!(SYS_mq_getsetattr, fd, at(&[0i64; 8]), 0));
    let receiver = child(|| i32::from(hear(fd) != "0 j"));
    // It makes no other call in which it could sleep.
    until(|| {
        let stat = std::fs::read_to_string(format!("/proc/{receiver}/stat"));
        stat.is_ok_and(|stat| stat.contains(") S "))
    });
    p!(
        say_to(fd, "j", 0),
        wait(receiver),
        pending(),
        say_to(fd, "k", 0),
        sigwait(&[SIGUSR1], 1000)
    );
}

fn queue_notification_by_thread() {
    let fd = queue_of(4, 16, O_NONBLOCK);
    let link = sc!(SYS_socket, AF_NETLINK, SOCK_RAW, 0).fd();
    let cookie: [u8; 32] = std::array::from_fn(|i| i as u8);
    let mut got = [0u8; 64];
    let mut told = || {
        let ret = sc!(SYS_recvfrom, link, &mut got, 64, MSG_DONTWAIT, 0, 0);
        format!("{ret} {} {}", got[30], got[31])
    };
    p!(notify(fd, link, SIGEV_THREAD, at(&cookie)), told(), say_to(fd, "a", 0), told(), told());
    p!(notify(fd, link, SIGEV_THREAD, at(&cookie)), sc!(SYS_mq_notify, fd, 0), told());
    p!(notify(fd, 1, SIGEV_THREAD, at(&cookie)), notify(fd, 999, SIGEV_THREAD, at(&cookie)));
    p!(notify(fd, link, SIGEV_THREAD, 8), notify(999, link, SIGEV_THREAD, at(&cookie)));
    let other = socket(SOCK_STREAM);
    p!(notify(fd, other.fd(), SIGEV_THREAD, at(&cookie)));
}

fn queue_permissions() {
    let name = name();
    let fd = open_queue(&name, O_RDWR | O_CREAT, 0o604, None);
    p!(fd.ok(), sc!(SYS_fchmod, fd, 0o604));
    run(|| {
        let uid = fresh_uid();
        p!(sc!(SYS_setgroups, 0, 0), sc!(SYS_setresgid, uid, uid, uid));
        p!(sc!(SYS_setresuid, uid, uid, uid));
        p!(open_queue(&name, O_RDONLY, 0, None).ok(), open_queue(&name, O_WRONLY, 0, None));
        p!(open_queue(&name, O_RDWR, 0, None), remove(&name));
        0
    });
    p!(remove(&name));
}

fn queue_file_system() {
    run(|| {
        p!(sc!(SYS_unshare, CLONE_NEWNS | CLONE_NEWIPC), mkdir(c"mq", 0o755));
        p!(sc!(SYS_mount, 0, c"/", 0, MS_REC | MS_PRIVATE, 0));
        p!(sc!(SYS_mount, c"none", c"mq", c"mqueue", 0, 0));
        let root = stat(c"mq");
        p!(format!("{:o}", root.st.st_mode), root.st.st_nlink, root.st.st_size, list(c"mq"));
        let fd = open_queue(c"one", O_RDWR | O_CREAT, 0o600, None).fd();
        p!(list(c"mq"), stat(c"mq").st.st_size, stat(c"mq/one").st.st_size, say_to(fd, "four", 0));
        p!(get(c"mq/one").text(), open(c"mq/two", O_RDWR | O_CREAT, 0o600).ok());
        p!(attributes(open_queue(c"two", O_RDWR, 0, None).fd()), list(c"mq"));
        let opened = open(c"mq/one", O_RDWR, 0).fd();
        p!(hear(opened), unlink(c"mq/one"), list(c"mq"), open_queue(c"one", O_RDWR, 0, None));
        p!(mkdir(c"mq/d", 0o755), symlink(c"x", c"mq/l"), link(c"mq/two", c"mq/three"));
        p!(rename(c"mq/two", c"mq/three"), sc!(SYS_mknod, c"mq/f", S_IFIFO | 0o600, 0));
        p!(remove(c"two"), list(c"mq"), fstat(fd).st.st_nlink);
        p!(
            sc!(SYS_unshare, CLONE_NEWIPC),
            open_queue(c"three", O_RDWR | O_CREAT, 0o600, None).ok()
        );
        p!(list(c"mq"), sc!(SYS_umount2, c"mq", MNT_DETACH));
        0
    });
}

cases![
    queue_names,
    queue_limits,
    queue_priorities,
    queue_descriptors,
    queue_readiness,
    queue_timeouts,
    queue_sleepers,
    queue_notification,
    queue_notification_by_thread,
    queue_permissions,
    queue_file_system,
];
