//! Opening, reading and writing files, and descriptor operations.

use crate::prelude::*;

const CREATE: i32 = O_CREAT | O_RDWR;

fn create(name: &CStr) -> i32 {
    open(name, CREATE, 0o644).fd()
}

fn open_modes() {
    put(c"f", "content");
    let (r, w) = (open(c"f", O_RDONLY, 0), open(c"f", O_WRONLY, 0));
    p!(r, w, rd(r, 3), wr(r, "x"), rd(w, 3), wr(w, "XY"), get(c"f"));
    p!(open(c"f", 3, 0).ok(), open(c"none", O_RDONLY, 0), open(c"", O_RDONLY, 0));
}

fn create_exclusive_and_truncate() {
    p!(open(c"f", O_CREAT | O_EXCL | O_WRONLY, 0o600).ok(), stat(c"f"));
    p!(open(c"f", O_CREAT | O_EXCL | O_WRONLY, 0o600), put(c"f", "12345"));
    p!(open(c"f", O_WRONLY | O_TRUNC, 0).ok(), stat(c"f"));
    p!(open(c"f", O_RDONLY | O_CREAT, 0o777).ok(), stat(c"f"));
}

fn creation_mode_and_umask() {
    for (mask, mode) in [(0o022, 0o777), (0o077, 0o666), (0, 0o7777), (0o777, 0o777)] {
        sc!(SYS_umask, mask);
        let fd = open(c"f", O_CREAT | O_WRONLY, mode);
        p!(fd.ok(), stat(c"f"), unlink(c"f"));
        close(fd);
    }
}

fn open_errors() {
    put(c"f", "");
    mkdir(c"d", 0o755);
    p!(open(c"d", O_WRONLY, 0), open(c"d", O_RDWR, 0), open(c"d", O_RDONLY | O_CREAT, 0));
    p!(open(c"f", O_RDONLY | O_DIRECTORY, 0), open(c"f/x", O_RDONLY, 0), open(c"f/", O_RDONLY, 0));
    p!(open(8u64, O_RDONLY, 0), open(c"new/", O_CREAT | O_WRONLY, 0o644));
    p!(open(c"d/", O_RDONLY, 0).ok());
    p!(open(c"missing/x", O_CREAT | O_WRONLY, 0o644), open(c"d", O_RDONLY | O_TRUNC, 0));
    p!(open(c"d", O_CREAT | O_DIRECTORY, 0o755));
    p!(open(c"x", O_CREAT | O_DIRECTORY | O_RDONLY, 0o755));
}

fn read_and_write_positions() {
    let fd = create(c"f");
    p!(wr(fd, "hello world"), rd(fd, 5), lseek(fd, 0, SEEK_SET), rd(fd, 5), rd(fd, 100), rd(fd, 1));
    p!(lseek(fd, -5, SEEK_END), rd(fd, 5), lseek(fd, 2, SEEK_SET), lseek(fd, 3, SEEK_CUR));
    p!(lseek(fd, 100, SEEK_SET), rd(fd, 1), wr(fd, "!"), stat(c"f"), pread(fd, 5, 98));
}

fn lseek_errors() {
    let fd = create(c"f");
    p!(lseek(fd, -1, SEEK_SET), lseek(fd, -1, SEEK_CUR), lseek(fd, 0, 9), lseek(fd, 7, SEEK_SET));
    p!(lseek(fd, 1, SEEK_CUR), lseek(pipe(0)[0], 0, SEEK_SET), lseek(999, 0, SEEK_SET));
    p!(lseek(fd, 0, SEEK_DATA), lseek(fd, 0, SEEK_HOLE), lseek(fd, -1, SEEK_HOLE));
}

fn positional_io() {
    let fd = create(c"f");
    p!(pwrite(fd, "abc", 10), pread(fd, 20, 0), pread(fd, 1, 13), lseek(fd, 0, SEEK_CUR));
    p!(pread(fd, 1, -1), pwrite(fd, "x", -1), pwrite(fd, "x", i64::MAX), pread(fd, 1, i64::MAX));
    let fds = pipe(0);
    p!(pread(fds[0], 1, 0), pwrite(fds[1], "x", 0));
}

fn append_mode() {
    put(c"f", "one");
    let fd = open(c"f", O_RDWR | O_APPEND, 0).fd();
    p!(wr(fd, "two"), lseek(fd, 0, SEEK_SET), wr(fd, "three"), lseek(fd, 0, SEEK_CUR), get(c"f"));
    p!(pwrite(fd, "P", 0), get(c"f"), fcntl(fd, F_SETFL, 0), pwrite(fd, "Q", 0), get(c"f"));
}

fn two_appenders() {
    let (a, b) = (open(c"f", CREATE | O_APPEND, 0o644), open(c"f", O_WRONLY | O_APPEND, 0));
    p!(wr(a, "1"), wr(b, "2"), wr(a, "3"), get(c"f"));
}

fn sharing_of_positions() {
    put(c"f", "abcdefgh");
    let fd = open(c"f", O_RDONLY, 0).fd();
    let copy = dup(fd).fd();
    let other = open(c"f", O_RDONLY, 0).fd();
    p!(rd(fd, 2), rd(copy, 2), rd(other, 2));
    p!(run(|| i32::from(rd(fd, 2).bytes() != b"ef")), rd(fd, 2));
}

fn vectored_io() {
    let fd = create(c"f");
    p!(writev(fd, &[b"one", b"", b"twothree"]), get(c"f"));
    let (mut a, mut b) = ([0u8; 4], [0u8; 10]);
    let vec = iov(&[(at_mut(&mut a), 4), (at_mut(&mut b), 10)]);
    p!(sc!(SYS_preadv, fd, at(&*vec), 2, 0, 0), a.escape_ascii().to_string());
    p!(b.escape_ascii().to_string());
    p!(sc!(SYS_pwritev, fd, at(&*vec), 2, 20, 0), sc!(SYS_readv, fd, at(&*vec), 2), stat(c"f"));
    p!(sc!(SYS_preadv, fd, at(&*vec), 2, -1i64, 0), sc!(SYS_readv, fd, at(&*vec), 0));
}

fn vectored_io_errors() {
    let fd = create(c"f");
    wr(fd, "data");
    let one = iov(&[(8, 4)]);
    p!(sc!(SYS_writev, fd, at(&*one), 1), sc!(SYS_writev, fd, 8u64, 1));
    p!(sc!(SYS_writev, fd, at(&*one), -1));
    p!(sc!(SYS_writev, fd, at(&*one), 1025), sc!(SYS_readv, 999, at(&*one), 1));
    let negative = iov(&[(at(b"xx"), usize::MAX)]);
    p!(sc!(SYS_writev, fd, at(&*negative), 1));
    let many = iov(&vec![(at(b"y"), 1); 1024]);
    p!(sc!(SYS_writev, fd, at(&*many), 1024), stat(c"f"));
    let half = iov(&[(at(b"good"), 4), (8, 4)]);
    p!(sc!(SYS_pwritev, fd, at(&*half), 2, 5000, 0), fstat(fd).st.st_size);
}

fn preadv2_flags() {
    let fd = create(c"f");
    wr(fd, "abcdef");
    let mut buf = [0u8; 3];
    let vec = iov(&[(at_mut(&mut buf), 3)]);
    let preadv2 = |offset: i64, flags: i32| sc!(SYS_preadv2, fd, at(&*vec), 1, offset, 0, flags);
    p!(preadv2(2, 0), preadv2(-1, 0), preadv2(0, 0x4000), preadv2(0, RWF_HIPRI));
    let write = iov(&[(at(b"ZZ"), 2)]);
    let pwritev2 =
        |offset: i64, flags: i32| sc!(SYS_pwritev2, fd, at(&*write), 1, offset, 0, flags);
    p!(pwritev2(0, RWF_APPEND), pwritev2(-1, RWF_APPEND), pwritev2(0, RWF_SYNC), get(c"f"));
}

fn bad_buffers() {
    let fd = create(c"f");
    wr(fd, "0123456789");
    p!(sc!(SYS_pread64, fd, 8u64, 4, 0), sc!(SYS_write, fd, 8u64, 4));
    p!(sc!(SYS_pread64, fd, 8u64, 4, 100));
    p!(sc!(SYS_pread64, fd, 8u64, 0, 0), sc!(SYS_write, fd, 0u64, 0));
    p!(sc!(SYS_pread64, fd, u64::MAX - 10, 4, 0), sc!(SYS_read, fd, at(&0u64), -1i64));
    p!(sc!(SYS_write, 999, 8u64, 1), sc!(SYS_read, -1, 8u64, 1));
}

fn partial_write_from_a_half_mapped_buffer() {
    let fd = create(c"f");
    let a = anon(2);
    munmap(a + PAGE, PAGE);
    fill(a + PAGE - 10, b"0123456789");
    p!(sc!(SYS_pwrite64, fd, a + PAGE - 10, 20, 0).0 <= 10);
    p!(sc!(SYS_pread64, fd, a + PAGE - 5, 5, 0).ok());
}

fn huge_lengths_are_clamped() {
    let fd = create(c"f");
    wr(fd, "abc");
    // At a low address, so that no length reaches the end of the address space by accident.
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT;
    let a = mmap(0, PAGE, PROT_READ | PROT_WRITE, flags, -1, 0).addr();
    p!(sc!(SYS_pread64, fd, a, 0x7fff_ffff_ffff_ffffu64, 0));
    p!(sc!(SYS_pread64, fd, a, 1u64 << 40, 0));
    p!(sc!(SYS_write, open(c"/dev/null", O_WRONLY, 0), a, 1u64 << 46));
}

fn truncation() {
    let fd = create(c"f");
    wr(fd, "0123456789");
    p!(ftruncate(fd, 4), get(c"f"), ftruncate(fd, 8), get(c"f"), lseek(fd, 0, SEEK_CUR));
    p!(sc!(SYS_truncate, c"f", 2), get(c"f"), sc!(SYS_truncate, c"none", 2));
    p!(sc!(SYS_truncate, c".", 2));
    p!(ftruncate(fd, -1), sc!(SYS_truncate, c"f", -1), ftruncate(open(c"f", O_RDONLY, 0), 1));
    p!(ftruncate(pipe(0)[1], 1), ftruncate(999, 1));
}

fn holes_read_as_zero() {
    let fd = create(c"f");
    p!(pwrite(fd, "end", 1 << 30), pread(fd, 4, 12345), fstat(fd).st.st_size);
    p!(fstat(fd).st.st_blocks < 1000, lseek(fd, 0, SEEK_DATA) >= Ret((1 << 30) - 4096));
    p!(lseek(fd, 1 << 30, SEEK_HOLE), lseek(fd, 0, SEEK_HOLE), lseek(fd, 2 << 30, SEEK_DATA));
}

fn fallocate() {
    let fd = create(c"f");
    let fallocate = |mode: i32, offset: i64, len: i64| sc!(SYS_fallocate, fd, mode, offset, len);
    p!(fallocate(0, 0, 10000), fstat(fd).st.st_size, fallocate(FALLOC_FL_KEEP_SIZE, 0, 50000));
    p!(fstat(fd).st.st_size, pwrite(fd, "data", 5000), pread(fd, 4, 5000));
    p!(fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096), pread(fd, 4, 5000));
    p!(fallocate(0, 0, 0), fallocate(0, -1, 5), fallocate(0, 5, -5));
    p!(fallocate(FALLOC_FL_PUNCH_HOLE, 0, 10));
    p!(fallocate(0x4000, 0, 10), fallocate(0, i64::MAX, 10));
    p!(sc!(SYS_fallocate, pipe(0)[1], 0, 0, 10));
    p!(sc!(SYS_fallocate, open(c"f", O_RDONLY, 0), 0, 0, 10), sc!(SYS_fallocate, 999, 0, 0, 10));
}

fn file_size_limit() {
    p!(run(|| {
        sc!(SYS_prlimit64, 0, RLIMIT_FSIZE, at(&[100u64, 100]), 0u64);
        let fd = create(c"f");
        ignore(SIGXFSZ);
        p!(wr(fd, vec![1; 90]), wr(fd, vec![1; 20]), wr(fd, "x"), ftruncate(fd, 101));
        p!(ftruncate(fd, 50));
        catch(SIGXFSZ, 0);
        p!(pwrite(fd, "x", 100), caught());
        0
    }));
}

fn dup_family() {
    put(c"f", "");
    let fd = open(c"f", O_RDWR | O_CLOEXEC, 0).fd();
    p!(fd, dup(fd), fcntl(3, F_GETFD, 0), fcntl(4, F_GETFD, 0));
    p!(dup2(fd, 10), dup2(fd, fd), dup2(999, 10), dup2(999, 999), dup2(fd, -1), dup2(fd, 1 << 30));
    p!(sc!(SYS_dup3, fd, 11, O_CLOEXEC), fcntl(11, F_GETFD, 0), sc!(SYS_dup3, fd, fd, 0));
    p!(sc!(SYS_dup3, fd, 12, O_APPEND), fcntl(fd, F_DUPFD, 20), fcntl(fd, F_DUPFD_CLOEXEC, 20));
    p!(fcntl(20, F_GETFD, 0), fcntl(21, F_GETFD, 0), fcntl(fd, F_DUPFD, -1));
    p!(fcntl(fd, F_DUPFD, 1 << 30));
    p!(dup(999), close(999), close(fd), close(fd));
}

fn lowest_descriptor_is_used() {
    put(c"f", "");
    let fds: Vec<i32> = (0..5).map(|_| open(c"f", O_RDONLY, 0).fd()).collect();
    say!("{fds:?}");
    p!(close(fds[1]), close(fds[3]), open(c"f", O_RDONLY, 0), pipe(0)[0], pipe(0)[1]);
}

fn descriptor_limit() {
    p!(run(|| {
        sc!(SYS_prlimit64, 0, RLIMIT_NOFILE, at(&[8u64, 16]), 0u64);
        put(c"f", "");
        let fds: Vec<i32> = (0..7).map(|_| open(c"f", O_RDONLY, 0).errno()).collect();
        say!("{fds:?}");
        let mut two = [0i32; 2];
        p!(dup(1), sc!(SYS_pipe2, at_mut(&mut two), 0), dup2(1, 8), dup2(1, 7));
        p!(fcntl(1, F_DUPFD, 8));
        p!(close(7), sc!(SYS_pipe2, at_mut(&mut two), 0));
        p!(sc!(SYS_socketpair, 1, 1, 0, at_mut(&mut two)));
        p!(open(c"g", O_CREAT | O_RDWR, 0o644).fd());
        0
    }));
}

fn fcntl_flags() {
    let fd = open(c"f", O_CREAT | O_RDWR | O_APPEND, 0o644).fd();
    let flags = |fd: i32| fcntl(fd, F_GETFL, 0).0 & !i64::from(O_LARGEFILE) & !0o100_000;
    p!(flags(fd), fcntl(fd, F_SETFL, O_NONBLOCK), flags(fd));
    p!(fcntl(fd, F_SETFL, O_WRONLY | O_CREAT | O_TRUNC));
    p!(flags(fd), fcntl(fd, F_SETFD, 1), fcntl(fd, F_GETFD, 0), fcntl(fd, F_SETFD, 2));
    p!(fcntl(fd, F_GETFD, 0));
    p!(fcntl(fd, 9999, 0), fcntl(999, F_GETFD, 0), fcntl(fd, F_GETPIPE_SZ, 0));
    let path = open(c"f", O_PATH, 0).fd();
    p!(flags(path), fcntl(path, F_SETFL, O_NONBLOCK), fcntl(path, F_GETFD, 0));
}

fn close_range() {
    put(c"f", "");
    for _ in 0..6 {
        p!(open(c"f", O_RDONLY, 0));
    }
    p!(sc!(SYS_close_range, 4, 5, 0), fcntl(3, F_GETFD, 0), fcntl(4, F_GETFD, 0));
    p!(fcntl(6, F_GETFD, 0));
    p!(sc!(SYS_close_range, 6, 7, CLOSE_RANGE_CLOEXEC), fcntl(6, F_GETFD, 0), fcntl(8, F_GETFD, 0));
    p!(sc!(SYS_close_range, 9, 8, 0), sc!(SYS_close_range, 3, u32::MAX, 8));
    p!(sc!(SYS_close_range, 3, u32::MAX, 2));
    p!(fcntl(3, F_GETFD, 0), fcntl(1, F_GETFD, 0));
}

fn sync_calls() {
    let fd = create(c"f");
    p!(sc!(SYS_fsync, fd), sc!(SYS_fdatasync, fd), sc!(SYS_fsync, pipe(0)[0]), sc!(SYS_fsync, 999));
    p!(sc!(SYS_sync_file_range, fd, 0u64, 0u64, 2), sc!(SYS_sync_file_range, fd, 0u64, 0u64, 99));
    p!(sc!(SYS_syncfs, fd), sc!(SYS_syncfs, 999), sc!(SYS_sync));
}

fn advice_and_readahead() {
    let fd = create(c"f");
    p!(sc!(SYS_fadvise64, fd, 0u64, 0u64, 4), sc!(SYS_fadvise64, fd, 0u64, 0u64, 99));
    p!(sc!(SYS_fadvise64, pipe(0)[0], 0u64, 0u64, 0), sc!(SYS_readahead, fd, 0u64, 100));
    p!(sc!(SYS_readahead, pipe(0)[0], 0u64, 100));
}

fn unlinked_file_lives_on() {
    let fd = create(c"f");
    p!(wr(fd, "still here"), unlink(c"f"), fstat(fd), pread(fd, 20, 0), stat(c"f"));
    p!(ftruncate(fd, 5));
    p!(fstat(fd), create(c"f") != fd, get(c"f"), pread(fd, 20, 0));
}

fn o_path_descriptors() {
    put(c"f", "data");
    symlink(c"f", c"l");
    let fd = open(c"f", O_PATH, 0).fd();
    p!(rd(fd, 1), wr(fd, "x"), fstat(fd), sc!(SYS_fchmod, fd, 0o600), ftruncate(fd, 0));
    p!(lseek(fd, 0, SEEK_SET));
    p!(ioctl(fd, FIONREAD, at(&0i32)), sc!(SYS_fsync, fd));
    p!(fstat(open(c"l", O_PATH | O_NOFOLLOW, 0)));
    p!(get(&CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default()), dup(fd).ok());
    let dir = open(c".", O_PATH | O_DIRECTORY, 0);
    p!(openat(dir, c"f", O_RDONLY, 0).ok(), sc!(SYS_getdents64, dir, at(&[0u8; 256]), 256));
    p!(sc!(SYS_fchdir, dir), sc!(SYS_fchown, fd, 1, 1));
}

fn tmpfile() {
    let fd = open(c".", O_TMPFILE | O_RDWR, 0o640).fd();
    p!(wr(fd, "secret"), fstat(fd), list(c"."));
    let path = CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    p!(sc!(SYS_linkat, CWD, &path, CWD, c"named", AT_SYMLINK_FOLLOW), get(c"named"), fstat(fd));
    p!(open(c".", O_TMPFILE | O_RDONLY, 0o600), open(c"named", O_TMPFILE | O_RDWR, 0o600));
    let only = open(c".", O_TMPFILE | O_RDWR | O_EXCL, 0o600).fd();
    let path = CString::new(format!("/proc/self/fd/{only}")).unwrap_or_default();
    p!(sc!(SYS_linkat, CWD, &path, CWD, c"other", AT_SYMLINK_FOLLOW));
}

fn reopen_through_proc() {
    put(c"f", "abcdef");
    let fd = open(c"f", O_RDONLY, 0).fd();
    rd(fd, 3);
    let path = CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    let again = open(&path, O_RDWR, 0);
    p!(again.ok(), rd(again, 3), wr(again, "X"), get(c"f"), unlink(c"f"));
    p!(open(&path, O_RDONLY, 0).ok());
}

fn directories_cannot_be_read() {
    let fd = open(c".", O_RDONLY, 0);
    p!(rd(fd, 10), wr(fd, "x"), pread(fd, 1, 0), ftruncate(fd, 0));
}

fn read_of_many_sizes() {
    let data: Vec<u8> = (0..20_000u32).map(|i| (i * 7 % 251) as u8).collect();
    put(c"f", &data);
    let fd = open(c"f", O_RDONLY, 0).fd();
    for (offset, len) in [(0, 1), (4095, 2), (4096, 4096), (8191, 8193), (19_999, 100), (3, 20_000)]
    {
        let part = pread(fd, len, offset);
        let want = &data[offset as usize..(offset as usize + len).min(data.len())];
        p!(part.bytes().len(), part.bytes() == want);
    }
}

fn ioctl_basics() {
    let fd = create(c"f");
    wr(fd, "12345");
    let mut n = 0i32;
    p!(lseek(fd, 2, SEEK_SET), ioctl(fd, FIONREAD, at_mut(&mut n)), n);
    p!(ioctl(fd, TCGETS, at_mut(&mut n)));
    p!(ioctl(fd, FIONBIO, at(&1i32)), fcntl(fd, F_GETFL, 0).0 & i64::from(O_NONBLOCK) != 0);
    p!(ioctl(fd, FIOCLEX, 0), fcntl(fd, F_GETFD, 0), ioctl(fd, FIONCLEX, 0), fcntl(fd, F_GETFD, 0));
    p!(ioctl(fd, 0xdead_beef, 0), ioctl(999, FIONREAD, 0), ioctl(fd, FIONREAD, 8u64));
}

fn openat2_resolution() {
    put(c"f", "top");
    mkdir(c"d", 0o755);
    put(c"d/g", "inside");
    symlink(c"../f", c"d/up");
    symlink(c"/etc", c"d/abs");
    symlink(c"g", c"d/here");
    let dir = open(c"d", O_PATH, 0);
    let openat2 = |path: &CStr, flags: u64, mode: u64, resolve: u64| {
        let fd = sc!(SYS_openat2, dir, path, at(&[flags, mode, resolve]), 24);
        close(fd);
        if fd.ok() { Ret(0) } else { fd }
    };
    const BENEATH: u64 = 8;
    const IN_ROOT: u64 = 0x10;
    const NO_SYMLINKS: u64 = 4;
    p!(openat2(c"g", 0, 0, BENEATH), openat2(c"../f", 0, 0, BENEATH));
    p!(openat2(c"up", 0, 0, BENEATH));
    p!(openat2(c"/etc", 0, 0, BENEATH), openat2(c"abs", 0, 0, BENEATH));
    p!(openat2(c"here", 0, 0, BENEATH));
    p!(openat2(c"../g", 0, 0, IN_ROOT), openat2(c"/g", 0, 0, IN_ROOT));
    p!(openat2(c"abs", 0, 0, IN_ROOT));
    p!(openat2(c"here", 0, 0, NO_SYMLINKS), openat2(c"g", 0, 0, NO_SYMLINKS));
    p!(openat2(c"up", 0, 0, 2));
    p!(openat2(c"g", 0, 0, 0x1000), openat2(c"g", 1 << 40, 0, 0), openat2(c"g", 0, 0o644, 0));
    p!(sc!(SYS_openat2, dir, c"g", at(&[0u64; 3]), 23), sc!(SYS_openat2, dir, c"g", 8u64, 24));
    p!(sc!(SYS_openat2, dir, c"g", at(&[0u64, 0, 0, 1]), 32));
    p!(sc!(SYS_openat2, dir, c"g", at(&[0u64; 4]), 32).ok());
}

fn created_query() {
    const F_CREATED_QUERY: u32 = 1028;
    let new = open(c"f", O_CREAT | O_RDONLY, 0o600).fd();
    let old = open(c"f", O_CREAT | O_RDONLY, 0o600).fd();
    p!(sc!(SYS_fcntl, new, F_CREATED_QUERY, 0), sc!(SYS_fcntl, old, F_CREATED_QUERY, 0));
    p!(sc!(SYS_fcntl, dup(new).fd(), F_CREATED_QUERY, 0));
}

fn unknown_restrictions_of_openat2() {
    let mut how = [0u64, 0, u64::MAX];
    p!(sc!(SYS_openat2, AT_FDCWD, c"f", at(&how), 24));
    how[2] = 1 << 6 | 0x20;
    p!(sc!(SYS_openat2, AT_FDCWD, c"f", at(&how), 24));
}

cases![
    created_query,
    unknown_restrictions_of_openat2,
    open_modes,
    create_exclusive_and_truncate,
    creation_mode_and_umask,
    open_errors,
    read_and_write_positions,
    lseek_errors,
    positional_io,
    append_mode,
    two_appenders,
    sharing_of_positions,
    vectored_io,
    vectored_io_errors,
    preadv2_flags,
    bad_buffers,
    partial_write_from_a_half_mapped_buffer,
    huge_lengths_are_clamped,
    truncation,
    holes_read_as_zero,
    fallocate,
    file_size_limit,
    dup_family,
    lowest_descriptor_is_used,
    descriptor_limit,
    fcntl_flags,
    close_range,
    sync_calls,
    advice_and_readahead,
    unlinked_file_lives_on,
    o_path_descriptors,
    tmpfile,
    reopen_through_proc,
    directories_cannot_be_read,
    read_of_many_sizes,
    ioctl_basics,
    openat2_resolution,
];
