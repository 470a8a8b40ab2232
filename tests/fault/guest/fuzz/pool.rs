//! What random calls work on: descriptors of every kind, memory of every kind, paths.

use crate::random::Random;
use crate::sys::mem::{self, PAGE};
use crate::sys::{at, at_mut, sc};
use libc::{
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, O_CREAT,
    O_PATH, O_RDONLY, O_RDWR, PROT_READ, PROT_WRITE, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_SEQPACKET,
    SOCK_STREAM,
};
use std::ffi::CString;

/// Paths that calls are given: of the current directory, and of the pseudo file systems.
const PATHS: &[&str] = &[
    "a",
    "b",
    "c",
    "d",
    "d/e",
    "d/e/f",
    "link",
    "loop1",
    "loop2",
    "fifo",
    "sock",
    "",
    ".",
    "..",
    "/",
    "../../..",
    "a/b",
    "d/../d/./e",
    "new",
    "d/new",
    "/proc/self/fd/3",
    "/proc/self/fd/5",
    "/proc/self/maps",
    "/proc/self/mem",
    "/proc/self/exe",
    "/proc/self/root/proc/self",
    "/proc/self/ns/mnt",
    "/proc/1/ns/pid",
    "/proc/self/oom_score_adj",
    "/proc/self/task",
    "/proc/sys/kernel/hostname",
    "/proc/mounts",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts/0",
    "/dev/shm/x",
    "/dev/fd/4",
    "/tmp",
    "/sys/class/net",
    "/bin/true",
    "tmpfs",
    "proc",
    "overlay",
    "sysfs",
    "devpts",
    "mqueue",
    "ramfs",
    "lowerdir=.,upperdir=d,workdir=e",
    "size=1m",
    "user.x",
    "trusted.y",
    "security.capability",
];

/// Pages of the writable region.
const REGION: u64 = 64;

/// Everything a round has.
pub struct Pool {
    /// Descriptors.
    pub fds: Vec<i32>,
    /// A writable region; other threads may unmap and protect it.
    pub region: u64,
    /// A shared region.
    pub shared: u64,
    /// Addresses that are no good: beside a mapping, without rights, of the kernel.
    bad: Vec<u64>,
    paths: Vec<CString>,
}

impl Pool {
    /// Makes everything, in the current directory.
    pub fn new(random: &mut Random) -> Self {
        let region = mem::anon(REGION + 2);
        mem::mprotect(region, PAGE, 0);
        mem::mprotect(region + (REGION + 1) * PAGE, PAGE, 0);
        let region = region + PAGE;
        let shared = mem::shared(8);
        let read_only = mem::mmap(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0).addr();
        let bad = vec![
            0,
            8,
            0xfff,
            region - PAGE,
            region - 3,
            region + REGION * PAGE - 1,
            region + REGION * PAGE,
            read_only,
            read_only + 4090,
            0x7fff_ffff_f000 - 1,
            0x7fff_ffff_0000,
            0x7fff_0000_0000,
            0x8000_0000_0000,
            0xffff_8000_0000_0000,
            0xffff_ffff_ff60_0000,
            u64::MAX,
            u64::MAX - 4095,
        ];
        let mut paths: Vec<CString> = PATHS.iter().filter_map(|p| CString::new(*p).ok()).collect();
        for long in [
            "x".repeat(255),
            "y".repeat(256),
            "d/".repeat(2047),
            "z/".repeat(2048),
            "../".repeat(1360),
        ] {
            paths.extend(CString::new(long).ok());
        }
        let mut pool = Self { fds: Vec::new(), region, shared, bad, paths };
        pool.files();
        pool.descriptors(random);
        pool
    }

    fn files(&self) {
        let name = |i: usize| self.paths.get(i);
        for i in [3, 4, 5] {
            name(i).map(|path| sc!(SYS_mkdir, path, 0o777));
        }
        for (file, target) in [(0, 6), (8, 7), (7, 8)] {
            if let (Some(to), Some(link)) = (name(file), name(target)) {
                sc!(SYS_symlink, to, link);
            }
        }
        name(9).map(|path| sc!(SYS_mknod, path, libc::S_IFIFO | 0o666, 0));
    }

    fn open(&mut self, path: &str, flags: i32) {
        if let Ok(path) = CString::new(path) {
            self.add(sc!(SYS_openat, libc::AT_FDCWD, &path, flags, 0o666).fd());
        }
    }

    fn add(&mut self, fd: i32) {
        if fd >= 0 {
            self.fds.push(fd);
        }
    }

    /// Pairs, of which some hold a little data.
    fn pairs(&mut self) {
        let mut two = [0i32; 2];
        sc!(SYS_pipe2, at_mut(&mut two), libc::O_NONBLOCK);
        self.fds.extend(two);
        sc!(SYS_write, two[1], b"some data\n", 10);
        sc!(SYS_pipe2, at_mut(&mut two), 0);
        self.fds.extend(two);
        for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
            sc!(SYS_socketpair, AF_UNIX, kind, 0, at_mut(&mut two));
            self.fds.extend(two);
            sc!(SYS_write, two[0], b"some data\n", 10);
        }
    }

    fn descriptors(&mut self, random: &mut Random) {
        self.open("a", O_CREAT | O_RDWR);
        self.open("b", O_CREAT | O_RDWR | libc::O_APPEND);
        self.open(".", O_RDONLY | libc::O_DIRECTORY);
        self.open("d", O_PATH);
        self.pairs();
        for path in ["fifo", "/dev/ptmx", "/dev/zero", "/dev/tty", "/proc/self/mem"] {
            self.open(path, O_RDWR | libc::O_NONBLOCK | libc::O_NOCTTY);
        }
        for path in [
            "/proc/self/maps",
            "/proc/self/ns/user",
            "/proc/self/ns/mnt",
            "/proc",
            "/bin/true",
            "/sys",
        ] {
            self.open(path, O_RDONLY);
        }
        for (family, kind) in [
            (AF_UNIX, SOCK_STREAM),
            (AF_UNIX, SOCK_DGRAM),
            (AF_INET, SOCK_STREAM),
            (AF_INET, SOCK_DGRAM),
            (AF_INET6, SOCK_STREAM),
            (AF_INET6, SOCK_DGRAM),
            (AF_NETLINK, libc::SOCK_RAW),
        ] {
            self.add(
                sc!(SYS_socket, family, kind | random.pick(&[0, SOCK_NONBLOCK]).unwrap_or(0), 0)
                    .fd(),
            );
        }
        let first = self.fds.first().copied().unwrap_or(0);
        let listener = sc!(SYS_socket, AF_INET, SOCK_STREAM, 0).fd();
        sc!(SYS_listen, listener, 4);
        self.add(listener);
        self.add(sc!(SYS_eventfd2, 3, 0).fd());
        self.add(sc!(SYS_eventfd2, 0, libc::EFD_NONBLOCK | libc::EFD_SEMAPHORE).fd());
        self.add(sc!(SYS_timerfd_create, libc::CLOCK_MONOTONIC, 0).fd());
        self.add(sc!(SYS_signalfd4, -1, at(&u64::MAX), 8, libc::SFD_NONBLOCK).fd());
        self.add(sc!(SYS_inotify_init1, libc::IN_NONBLOCK).fd());
        let (outer, inner) = (sc!(SYS_epoll_create1, 0).fd(), sc!(SYS_epoll_create1, 0).fd());
        let event = [libc::EPOLLIN as u32, 1, 0];
        sc!(SYS_epoll_ctl, outer, libc::EPOLL_CTL_ADD, inner, at(&event));
        sc!(SYS_epoll_ctl, inner, libc::EPOLL_CTL_ADD, first, at(&event));
        self.fds.extend([outer, inner]);
        self.add(sc!(SYS_memfd_create, b"memfd\0", libc::MFD_ALLOW_SEALING).fd());
        self.add(sc!(SYS_pidfd_open, sc!(SYS_getpid), 0).fd());
        self.add(sc!(SYS_open_tree, libc::AT_FDCWD, b".\0", 1).fd());
        self.add(sc!(SYS_fsopen, b"tmpfs\0", 0).fd());
        let file = self.fds.first().copied().unwrap_or(-1);
        sc!(SYS_ftruncate, file, 3 * PAGE);
        mem::mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }

    /// A descriptor, mostly one that is open.
    pub fn fd(&self, random: &mut Random) -> u64 {
        match random.below(24) {
            0 => random.pick(&[-1i64, libc::AT_FDCWD.into(), 1 << 20, i64::MIN, 999]).unwrap_or(-1)
                as u64,
            1 => random.below(64),
            _ => random.pick(&self.fds).unwrap_or(-1) as i64 as u64,
        }
    }

    /// Pointer to a path.
    pub fn path(&self, random: &mut Random) -> u64 {
        match random.below(16) {
            0 => self.bad(random),
            // Not terminated before the end of the mapping, or random.
            1 => self.region + random.below(REGION * PAGE),
            _ => self
                .paths
                .get(random.below(self.paths.len() as u64) as usize)
                .map_or(0, |p| p.as_ptr() as u64),
        }
    }

    /// An address that is of no use, or only just.
    pub fn bad(&self, random: &mut Random) -> u64 {
        random.pick(&self.bad).unwrap_or(0).wrapping_add(random.pick(&[0, 0, 0, 1, 7]).unwrap_or(0))
    }

    /// Address of a buffer.
    pub fn buffer(&self, random: &mut Random) -> u64 {
        match random.below(16) {
            0 | 1 => self.bad(random),
            2 => 0,
            3 => self.shared + random.below(8 * PAGE),
            4 => self.region + REGION * PAGE - random.below(64),
            5 => self.region + random.below(REGION) * PAGE,
            _ => self.region + random.below(REGION * PAGE / 64) * 64,
        }
    }

    /// Address of a mapping.
    pub fn mapping(&self, random: &mut Random) -> u64 {
        match random.below(12) {
            0 => self.bad(random),
            1 => 0,
            2 => self.shared + random.below(8) * PAGE,
            // Where this program is, sometimes.
            3 if random.one_in(16) => (Self::mapping as *const () as u64) & !(PAGE - 1),
            4 => 0x2000_0000_0000 + random.below(1 << 20) * PAGE,
            _ => self.region + random.below(REGION) * PAGE,
        }
    }

    /// Writes plausible words to a buffer: pointers, lengths, descriptors, flags.
    pub fn fill(&self, address: u64, random: &mut Random) {
        let inside = |base: u64, pages: u64| (base..base + pages * PAGE - 512).contains(&address);
        if !inside(self.region, REGION) && !inside(self.shared, 8) {
            return;
        }
        let words = random.below(24) + 1;
        for i in 0..words {
            let value = match random.below(10) {
                0 | 1 => self.buffer(random),
                2 | 3 => length(random),
                4 => self.fd(random),
                5 => self.fd(random) << 32 | random.below(32),
                6 => self.path(random),
                7 => random.below(64) | random.below(64) << 32,
                8 => 1 << random.below(64),
                _ => random.next(),
            };
            // By the kernel: a thread may just have unmapped it.
            sc!(SYS_getcpu, 0u64, 0u64, 0u64);
            copy(&value.to_le_bytes(), address + 8 * i);
        }
    }
}

/// Copies bytes to an address that may be unmapped at any time.
fn copy(bytes: &[u8; 8], to: u64) {
    let (local, remote) = ([bytes.as_ptr() as u64, 8], [to, 8]);
    sc!(SYS_process_vm_writev, sc!(SYS_getpid), at(&local), 1, at(&remote), 1, 0);
}

/// A number of bytes or elements.
pub fn length(random: &mut Random) -> u64 {
    match random.below(12) {
        0 => 0,
        1 => PAGE,
        2 => PAGE * random.below(64),
        3 => random
            .pick(&[u64::MAX, i64::MAX as u64, 1 << 31, u32::MAX.into(), 1 << 47, 1 << 20])
            .unwrap_or(0),
        4 => random.below(1 << 20),
        5 => 1024 + random.below(3),
        6 => (PAGE - 1) | random.below(2) << 12,
        _ => random.below(128),
    }
}
