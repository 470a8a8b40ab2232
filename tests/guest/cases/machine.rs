//! The kernel's log and the machine's end; pidfds of threads and what pidfds tell; questions about the memory map;
//! clocks of time namespaces.

use crate::prelude::*;
use crate::sys::Ret;
use std::fmt::Debug;

const RW: i32 = PROT_READ | PROT_WRITE;
const CLONE_NEWTIME: i32 = 0x80;

/// Several values as text.
fn show(values: impl Debug) -> String {
    format!("{values:?}")
}

fn syslog(action: i32, buf: u64, len: i32) -> Ret {
    sc!(SYS_syslog, action, buf, len)
}

fn reboot(magic: u32, magic2: u32, command: u32) -> Ret {
    sc!(SYS_reboot, magic, magic2, command, 0u64)
}

fn as_nobody(f: impl FnOnce()) {
    p!(run(|| {
        sc!(SYS_setresuid, 65534, 65534, 65534);
        f();
        0
    }));
}

fn syslog_checks_its_arguments() {
    let buf = anon(1);
    p!(syslog(0, 0, 0), syslog(1, 0, 0), syslog(2, 0, 0), syslog(2, 0, 8), syslog(2, buf, -1));
    p!(syslog(3, 0, 8), syslog(3, buf, -1), syslog(3, buf, 0), syslog(4, 0, 8), syslog(2, buf, 0));
    p!(syslog(8, 0, 0), syslog(8, 0, 9), syslog(8, 0, -1), syslog(11, 0, 0), syslog(-1, 0, 0));
    p!(syslog(10, 0, 0).0 > 4096, syslog(9, 0, 0).ok());
    p!(syslog(3, u64::MAX - 4096, 8), syslog(100, buf, 0));
    as_nobody(|| {
        p!(syslog(2, 0, 0), syslog(5, 0, 0), syslog(9, 0, 0), syslog(100, 0, 0));
    });
}

fn reboot_checks_its_arguments() {
    let magic = 0xfee1_dead;
    // Nothing here has the right magic numbers and a command that does anything.
    p!(reboot(magic, 1, 0x1234_5678), reboot(1, 672_274_793, 0x1234_5678));
    p!(reboot(magic, 672_274_793, 0x1234_5678), reboot(magic, 85_072_278, 0x1234_5678));
    as_nobody(|| {
        p!(reboot(magic, 672_274_793, 0x1234_5678), reboot(1, 1, 1));
    });
}

fn reboot_ends_a_pid_namespace() {
    for command in [0x0123_4567, 0x4321_fedc, 0xcdef_0123, 0x89ab_cdef_u32] {
        p!(run(|| {
            if !sc!(SYS_unshare, CLONE_NEWPID).ok() {
                return 1;
            }
            p!(run(|| {
                // Only where it is surely a namespace of its own.
                if getpid() != 1 || getppid() != 0 {
                    return 2;
                }
                p!(reboot(0xfee1_dead, 672_274_793, command));
                3
            }));
            0
        }));
    }
}

fn sysinfo_agrees_with_proc() {
    let mut info = [0_i64; 16];
    let before = get(c"/proc/uptime").text();
    p!(sc!(SYS_sysinfo, at_mut(&mut info)));
    let uptime: i64 = before.split('.').next().and_then(|s| s.parse().ok()).unwrap_or(-9);
    let boot = clock(CLOCK_BOOTTIME) / 1_000_000_000;
    p!((0..=2).contains(&(info[0] - uptime)), (-2..=2).contains(&(info[0] - boot)));
}

const PIDFD_THREAD: i32 = O_EXCL;

extern "C" fn waits(word: *mut c_void) -> i32 {
    await_change(word as u64, 0);
    0
}

fn a_pidfd_of_a_thread() {
    let words = anon(1);
    let tid = spawn(THREAD | CLONE_CHILD_CLEARTID, waits, words, 0, words + 64).fd();
    let fd = sc!(SYS_pidfd_open, tid, PIDFD_THREAD).fd();
    p!(fd >= 0, poll(&[(fd, POLLIN)], 0), waitid(P_PIDFD, fd, WEXITED | WNOHANG));
    p!(sc!(SYS_pidfd_send_signal, fd, 0, 0u64, 0), sc!(SYS_pidfd_getfd, fd, 999, 0));
    let leader = sc!(SYS_pidfd_open, getpid(), PIDFD_THREAD).fd();
    p!(leader >= 0, poll(&[(leader, POLLIN)], 0));
    publish(words, 1);
    p!(poll(&[(fd, POLLIN)], 5000), poll(&[(leader, POLLIN)], 0));
    p!(sc!(SYS_pidfd_send_signal, fd, 0, 0u64, 0), sc!(SYS_pidfd_open, tid, PIDFD_THREAD));
    p!(sc!(SYS_pidfd_getfd, fd, 0, 0));
}

fn pidfd_signals_a_thread_or_the_process() {
    block(&[SIGUSR1, SIGUSR2]);
    let fd = sc!(SYS_pidfd_open, gettid(), PIDFD_THREAD).fd();
    p!(sc!(SYS_pidfd_send_signal, fd, SIGUSR1, 0u64, 0));
    p!(sc!(SYS_pidfd_send_signal, fd, SIGUSR2, 0u64, 2));
    p!(
        sc!(SYS_pidfd_send_signal, fd, SIGUSR2, 0u64, 3),
        sc!(SYS_pidfd_send_signal, fd, 0, 0u64, 8)
    );
    let mut info = zeroed::<siginfo_t>();
    for _ in 0..2 {
        let set = bit(SIGUSR1) | bit(SIGUSR2);
        p!(sc!(SYS_rt_sigtimedwait, at(&set), at_mut(&mut info), 0u64, 8));
        p!(info.si_signo, info.si_code);
    }
    let process = sc!(SYS_pidfd_open, getpid(), 0).fd();
    p!(sc!(SYS_pidfd_send_signal, process, SIGUSR1, 0u64, 1));
    p!(sc!(SYS_rt_sigtimedwait, at(&bit(SIGUSR1)), at_mut(&mut info), 0u64, 8), info.si_code);
}

fn clone_gives_a_pidfd_of_a_thread() {
    let words = anon(1);
    let fd_at = words + 128;
    poke(fd_at, 0xff);
    let flags = THREAD | CLONE_PIDFD | CLONE_CHILD_CLEARTID;
    let tid = spawn(flags, waits, words, fd_at, words + 64);
    let fd = word(fd_at).load(SeqCst) as i32;
    p!(tid.ok(), poll(&[(fd, POLLIN)], 0), fcntl(fd, F_GETFD, 0));
    publish(words, 1);
    p!(poll(&[(fd, POLLIN)], 5000));
    let bad = [CLONE_PIDFD as u64 | 0x40_0000, fd_at, 0, 0, 17, 0, 0, 0, 0, 0, 0];
    p!(sc!(SYS_clone3, at(&bad), 88));
}

/// `struct pidfd_info`, as it was first.
struct Info {
    mask: u32,
    pid: i32,
    tgid: i32,
    ppid: i32,
    ids: [u32; 8],
    code: u32,
}
const GET_INFO: u64 = 0xc040_ff0b;

fn pidfd_info(fd: i32, mask: u32) -> (Ret, Info) {
    let mut words = [0_u32; 16];
    words[0] = mask;
    let ret = ioctl(fd, GET_INFO, at_mut(&mut words));
    let [mask, _, _, _, pid, tgid, ppid, ids @ .., code] = words;
    (ret, Info { mask, pid: pid as i32, tgid: tgid as i32, ppid: ppid as i32, ids, code })
}

fn pidfd_tells_about_its_process() {
    let [r, w] = pipe(0);
    let pid = child(|| {
        sc!(SYS_setresgid, 5, 6, 7);
        sc!(SYS_setresuid, 1, 2, 3);
        wr(w, "x");
        sc!(SYS_pause);
        0
    });
    rd(r, 1);
    let fd = sc!(SYS_pidfd_open, pid, 0).fd();
    let (ret, info) = pidfd_info(fd, 0);
    p!(ret, info.mask & 7, info.pid == pid, info.tgid == pid);
    p!(info.ppid == getpid(), show(info.ids), info.code);
    let (ret, info) = pidfd_info(fd, 8);
    p!(ret, info.mask & 8);
    p!(ioctl(fd, GET_INFO, 0u64));
    p!(ioctl(fd, 0xff0f_u64, 0u64), ioctl(fd, 0xff01_u64, 1u64), ioctl(r, GET_INFO, 8u64));
    kill(pid, SIGTERM);
    p!(waitid(P_PID, pid, WEXITED | WNOWAIT));
    let (ret, info) = pidfd_info(fd, 8);
    p!(ret, info.mask & 8, info.pid == pid);
    p!(ioctl(fd, 0xff01_u64, 0u64), wait(pid));
    p!(pidfd_info(fd, 0).0);
    let (ret, info) = pidfd_info(fd, 8);
    p!(ret, info.mask & 0xf, info.pid, info.code, ioctl(fd, 0xff01_u64, 0u64));
}

fn pidfd_opens_namespaces() {
    let fd = sc!(SYS_pidfd_open, getpid(), 0).fd();
    let names = [
        "cgroup",
        "ipc",
        "mnt",
        "net",
        "pid",
        "pid_for_children",
        "time",
        "time_for_children",
        "user",
        "uts",
    ];
    for (name, number) in names.into_iter().zip(0xff01_u64..) {
        let ns = ioctl(fd, number, 0u64).fd();
        let path = CString::new(format!("/proc/self/ns/{name}")).unwrap_or_default();
        let theirs = stat(&path).st;
        let ours = fstat(ns).st;
        p!(name, ours.st_ino == theirs.st_ino, fcntl(ns, F_GETFD, 0));
        close(ns);
    }
}

fn kcmp_finds_a_watched_file() {
    let fds = pipe(0);
    let ep = epoll(0);
    epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN, 1);
    let me = getpid();
    let slot = |fd: i32, skip: u32| [ep as u32, fd as u32, skip];
    let kcmp = |fd: i32, slot: &[u32; 3]| sc!(SYS_kcmp, me, me, 7, fd, at(slot));
    p!(kcmp(fds[0], &slot(fds[0], 0)), kcmp(fds[1], &slot(fds[0], 0)).0 > 0);
    p!(kcmp(fds[0], &slot(fds[0], 1)), kcmp(fds[0], &slot(fds[1], 0)), kcmp(999, &slot(fds[0], 0)));
    p!(kcmp(fds[0], &[fds[0] as u32, fds[0] as u32, 0]), kcmp(fds[0], &[999, 0, 0]));
    p!(sc!(SYS_kcmp, me, me, 7, fds[0], 0u64), sc!(SYS_kcmp, me, me, 8, 0, 0u64));
}

/// `struct procmap_query`.
type Query = [u64; 13];
const PROCMAP_QUERY: u64 = 0xc068_6611;

fn query(fd: i32, flags: u64, addr: u64) -> (Ret, Query) {
    let mut query: Query = [0; 13];
    (query[0], query[1], query[2]) = (104, flags, addr);
    (ioctl(fd, PROCMAP_QUERY, at_mut(&mut query)), query)
}

fn procmap_query_finds_areas() {
    put(c"mapped", vec![b'x'; 3 * PAGE as usize]);
    let file = open(c"mapped", O_RDWR, 0).fd();
    let base = mmap(0, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0).addr();
    munmap(base + PAGE, 7 * PAGE);
    let a = mmap(base + 2 * PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED, file, PAGE as i64).addr();
    let b = mmap(base + 4 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    let fd = open(c"/proc/self/maps", O_RDONLY, 0).fd();
    let (ret, q) = query(fd, 0, a + 5);
    p!(ret, q[3] == a, q[4] == a + PAGE, q[5], q[6], q[7], q[8] == fstat(file).st.st_ino);
    p!(query(fd, 0, a + PAGE).0, query(fd, 0x10, a + PAGE).1[3] == b.addr());
    p!(query(fd, 0x12, a - 1).1[3] == a, query(fd, 2, b.addr()).0, query(fd, 1, b.addr()).0);
    p!(query(fd, 0x20, b.addr()).0, query(fd, 8, a).0, query(fd, 8, b.addr()).0);
    p!(query(fd, 0x40, a).0, query(fd, 0, 1 << 60).0, query(fd, 0x10, 1 << 60).0);
    let mut name = [0_u8; 300];
    let mut q: Query = [0; 13];
    (q[0], q[2], q[10]) = (104, a, 300);
    q[11] = at_mut(&mut name);
    p!(ioctl(fd, PROCMAP_QUERY, at_mut(&mut q)));
    let text = String::from_utf8_lossy(name.get(..q[10] as usize).unwrap_or_default()).into_owned();
    p!(text.ends_with("/mapped\0"));
    (q[0], q[10]) = (104, 3);
    p!(ioctl(fd, PROCMAP_QUERY, at_mut(&mut q)));
    q[10] = 0;
    p!(ioctl(fd, PROCMAP_QUERY, at_mut(&mut q)));
    q[0] = 16;
    p!(ioctl(fd, PROCMAP_QUERY, at_mut(&mut q)));
    q[0] = 1 << 20;
    p!(ioctl(fd, PROCMAP_QUERY, at_mut(&mut q)), ioctl(fd, 0x6612_u64, 0u64));
}

fn pagemap_shows_what_is_present() {
    let a = anon(4);
    poke(a + PAGE, 1);
    let fd = open(c"/proc/self/pagemap", O_RDONLY, 0).fd();
    let mut words = [0_u64; 4];
    let place = (a / PAGE * 8) as i64;
    p!(sc!(SYS_pread64, fd, at_mut(&mut words), 32, place), show(words.map(|w| w >> 63)));
    p!(
        sc!(SYS_pread64, fd, at_mut(&mut words), 12, place),
        sc!(SYS_pread64, fd, at_mut(&mut words), 8, 4)
    );
    munmap(a, 4 * PAGE);
    p!(sc!(SYS_pread64, fd, at_mut(&mut words), 32, place), show(words));
    p!(sc!(SYS_pread64, fd, at_mut(&mut words), 8, 1i64 << 60));
}

fn smaps_shows_locked_memory() {
    let a = anon(4);
    let line = |of: &str| {
        let text = get(c"/proc/self/smaps").text();
        let area = format!("{a:x}-");
        let from = text.find(&area).unwrap_or(0);
        let rest = text.get(from..).unwrap_or_default().to_string();
        let found = rest.lines().find(|l| l.starts_with(of)).unwrap_or("none").to_string();
        found.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    p!(line("Locked"), line("VmFlags").contains("lo"), sc!(SYS_mlock, a, 4 * PAGE));
    p!(line("Locked"), line("Rss"), line("VmFlags").contains("lo"), sc!(SYS_munlock, a, 4 * PAGE));
    sc!(SYS_madvise, a, 4 * PAGE, MADV_DONTFORK);
    sc!(SYS_madvise, a, 4 * PAGE, MADV_DONTDUMP);
    let flags = line("VmFlags");
    p!(line("Locked"), flags.contains("lo"), flags.contains("dc"), flags.contains("dd"));
    p!(flags.contains("mr mw me"), flags.contains("wf"));
}

fn shm_lock_is_shown() {
    let mode = |id: &Ret| {
        let mut ds = [0_u32; 28];
        sc!(SYS_shmctl, id.fd(), IPC_STAT, at_mut(&mut ds));
        ds[5]
    };
    let id = sc!(SYS_shmget, IPC_PRIVATE, 2048, 0o600);
    p!(sc!(SYS_shmctl, id.fd(), 11, 0u64), mode(&id) & 0o2000, sc!(SYS_shmctl, id.fd(), 12, 0u64));
    p!(mode(&id) & 0o2000);
    let mut ds = [0_u32; 28];
    p!(sc!(SYS_shmctl, id.fd(), 15, at_mut(&mut ds)).0 == id.0);
    as_nobody(|| {
        p!(sc!(SYS_shmctl, id.fd(), 11, 0u64), sc!(SYS_shmctl, id.fd(), 12, 0u64));
    });
    sc!(SYS_shmctl, id.fd(), IPC_RMID, 0u64);
}

fn the_privileged_lock_what_they_like() {
    p!(run(|| {
        sc!(SYS_setrlimit, RLIMIT_MEMLOCK, at(&[65536_u64, 65536]));
        p!(sc!(SYS_mlockall, MCL_FUTURE));
        let flags = MAP_PRIVATE | MAP_ANONYMOUS;
        let a = mmap(0, 64 * PAGE, RW, flags, -1, 0);
        p!(a.ok(), sc!(SYS_mremap, a, 64 * PAGE, 128 * PAGE, MREMAP_MAYMOVE, 0u64).ok());
        sc!(SYS_setresuid, 65534, 65534, 65534);
        p!(mmap(0, 64 * PAGE, RW, flags, -1, 0), mmap(0, 64 * PAGE, RW, flags | MAP_LOCKED, -1, 0));
        0
    }));
}

fn mincore_knows_pages_of_a_memory_file() {
    let fd = sc!(SYS_memfd_create, c"m", 0).fd();
    ftruncate(fd, 3 * PAGE as i64);
    pwrite(fd, "x", PAGE as i64);
    let a = mmap(0, 3 * PAGE, RW, MAP_SHARED, fd, 0).addr();
    let mut vec = [9_u8; 3];
    p!(sc!(SYS_mincore, a, 3 * PAGE, at_mut(&mut vec)), show(vec));
    sc!(SYS_mlock, a, PAGE);
    p!(sc!(SYS_mincore, a, 3 * PAGE, at_mut(&mut vec)), show(vec));
}

/// Fresh memory that lies in memory.
fn touched(pages: u64) -> u64 {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
    mmap(0, pages * PAGE, RW, flags, -1, 0).addr()
}

fn the_largest_resident_set_is_remembered() {
    p!(run(|| {
        let peak = |who: i32| {
            let mut usage = zeroed::<rusage>();
            sc!(SYS_getrusage, who, at_mut(&mut usage));
            usage.ru_maxrss
        };
        let before = peak(RUSAGE_SELF);
        let a = touched(8192);
        munmap(a, 8192 * PAGE);
        let after = peak(RUSAGE_SELF);
        p!(after - before > 20_000, after - before < 60_000);
        p!(run(|| {
            p!(peak(RUSAGE_CHILDREN));
            touched(16384);
            0
        }));
        p!(peak(RUSAGE_CHILDREN) > 60_000);
        0
    }));
}

fn a_timer_on_the_cpu_time_of_another() {
    let pid = child(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    block(&[SIGALRM]);
    let id = !(pid as i64) << 3 | 2;
    let mut timer = 0_i32;
    p!(sc!(SYS_timer_create, id, 0u64, at_mut(&mut timer)));
    let spec = [0_i64, 0, 0, 30_000_000];
    p!(sc!(SYS_timer_settime, timer, 0, at(&spec), 0u64));
    let limit = [20_i64, 0];
    p!(sc!(SYS_rt_sigtimedwait, at(&bit(SIGALRM)), 0u64, at(&limit), 8));
    kill(pid, SIGKILL);
    p!(wait(pid), sc!(SYS_timer_create, id, 0u64, at_mut(&mut timer)));
}

fn write_to(path: &CStr, text: &str) -> Ret {
    let fd = open(path, O_WRONLY, 0).fd();
    let ret = wr(fd, text);
    close(fd);
    ret
}

/// Seconds that a clock shows, by the C library (which asks the vDSO) and by the system call.
fn seconds(id: i32) -> [i64; 2] {
    [library_clock(id) / 1_000_000_000, clock(id) / 1_000_000_000]
}

const CLOCKS: [i32; 5] =
    [CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_REALTIME];

/// By how many tens of seconds the clocks are ahead of what they showed.
fn ahead(before: &[[i64; 2]; 5]) -> String {
    let now = CLOCKS.map(seconds);
    let difference = |(now, then): (&[i64; 2], &[i64; 2])| [now[0] - then[0], now[1] - then[1]];
    show(now.iter().zip(before).map(difference).map(|d| d.map(|s| s / 10)).collect::<Vec<_>>())
}

fn in_other_time(f: impl FnOnce(&[[i64; 2]; 5])) {
    p!(run(|| {
        p!(sc!(SYS_unshare, CLONE_NEWTIME));
        p!(write_to(c"/proc/self/timens_offsets", "monotonic 1000 0\nboottime 500 0"));
        let before = CLOCKS.map(seconds);
        p!(ahead(&before));
        p!(run(|| {
            f(&before);
            0
        }));
        0
    }));
}

fn time_namespace_shifts_the_clocks() {
    in_other_time(|before| {
        p!(ahead(before));
        // It is inherited.
        p!(run(|| {
            p!(ahead(before));
            0
        }));
        let uptime: i64 =
            get(c"/proc/uptime").text().split('.').next().and_then(|s| s.parse().ok()).unwrap_or(0);
        p!((uptime - before[3][0]) / 10);
        let mut info = [0_u64; 16];
        p!(sc!(SYS_sysinfo, at_mut(&mut info)), (info[0] as i64 - before[3][0]) / 10);
    });
}

fn time_namespace_shifts_absolute_times() {
    in_other_time(|_| {
        for id in [CLOCK_MONOTONIC, CLOCK_BOOTTIME] {
            let now = clock(id);
            let then = now + 50_000_000;
            let spec = [then / 1_000_000_000, then % 1_000_000_000];
            p!(clock_nanosleep(id, TIMER_ABSTIME, at(&spec), 0u64));
            let slept = clock(id) - now;
            p!(slept >= 50_000_000, slept < 5_000_000_000);
            let fd = sc!(SYS_timerfd_create, id, 0).fd();
            let then = clock(id) + 50_000_000;
            let spec = [0, 0, then / 1_000_000_000, then % 1_000_000_000];
            p!(sc!(SYS_timerfd_settime, fd, 1, at(&spec), 0u64), poll(&[(fd, POLLIN)], 5000));
            p!(clock(id) >= then);
            block(&[SIGALRM]);
            let mut timer = 0_i32;
            sc!(SYS_timer_create, id, 0u64, at_mut(&mut timer));
            p!(sc!(SYS_timer_settime, timer, TIMER_ABSTIME, at(&spec), 0u64));
            p!(sc!(SYS_rt_sigtimedwait, at(&bit(SIGALRM)), 0u64, at(&[5_i64, 0]), 8));
        }
        let now = clock(CLOCK_MONOTONIC);
        let then = now + 30_000_000;
        let spec = [then / 1_000_000_000, then % 1_000_000_000];
        let word = anon(1);
        p!(futex(word, FUTEX_WAIT_BITSET, 0, at(&spec), 0, u32::MAX));
        let slept = clock(CLOCK_MONOTONIC) - now;
        p!(slept >= 30_000_000, slept < 5_000_000_000);
        let span = [0_i64, 10_000_000];
        p!(
            sc!(SYS_nanosleep, at(&span), 0u64),
            clock_nanosleep(CLOCK_MONOTONIC, 0, at(&span), 0u64)
        );
    });
}

fn setns_enters_a_time_namespace() {
    p!(run(|| {
        let before = CLOCKS.map(seconds);
        sc!(SYS_unshare, CLONE_NEWTIME);
        write_to(c"/proc/self/timens_offsets", "monotonic 1000 0\nboottime 500 0");
        let fd = open(c"/proc/self/ns/time_for_children", O_RDONLY, 0).fd();
        let old = open(c"/proc/self/ns/time", O_RDONLY, 0).fd();
        p!(ahead(&before), sc!(SYS_setns, fd, CLONE_NEWTIME), ahead(&before));
        p!(sc!(SYS_setns, old, 0), ahead(&before));
        0
    }));
}

fn coredump_filter_is_inherited() {
    let path = c"/proc/self/coredump_filter";
    p!(get(path), write_to(path, "0x7f"), get(path), write_to(path, "020"), get(path));
    p!(
        write_to(path, "5\n"),
        get(path),
        write_to(path, "x"),
        write_to(path, "-1"),
        write_to(path, "")
    );
    p!(write_to(path, "4294967295"), get(path), write_to(path, "4294967296"));
    p!(run(|| {
        p!(get(path), write_to(path, "1"));
        0
    }));
    p!(get(path), write_to(path, "0x33"));
}

/// How a process ended, and whether it left a core dump.
fn died(status: Status) {
    p!(status, status.1 & 0x80);
}

fn no_core_without_a_limit_or_rights() {
    let limit = |n: u64| sc!(SYS_setrlimit, RLIMIT_CORE, at(&[n, u64::MAX]));
    died(run(|| {
        limit(0);
        raise(SIGABRT);
        0
    }));
    died(run(|| {
        limit(100);
        raise(SIGQUIT);
        0
    }));
    died(run(|| {
        limit(u64::MAX);
        prctl(PR_SET_DUMPABLE, 0);
        raise(SIGSEGV);
        0
    }));
    p!(access(c"core", F_OK));
}

cases![
    coredump_filter_is_inherited,
    no_core_without_a_limit_or_rights,
    syslog_checks_its_arguments,
    reboot_checks_its_arguments,
    reboot_ends_a_pid_namespace,
    sysinfo_agrees_with_proc,
    a_pidfd_of_a_thread,
    pidfd_signals_a_thread_or_the_process,
    clone_gives_a_pidfd_of_a_thread,
    pidfd_tells_about_its_process,
    pidfd_opens_namespaces,
    kcmp_finds_a_watched_file,
    procmap_query_finds_areas,
    pagemap_shows_what_is_present,
    smaps_shows_locked_memory,
    shm_lock_is_shown,
    the_privileged_lock_what_they_like,
    mincore_knows_pages_of_a_memory_file,
    the_largest_resident_set_is_remembered,
    a_timer_on_the_cpu_time_of_another,
    time_namespace_shifts_the_clocks,
    time_namespace_shifts_absolute_times,
    setns_enters_a_time_namespace,
];
