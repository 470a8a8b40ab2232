//! FUSE: what a guest's daemon serves, and what becomes of its errors.

use crate::fused::{Manner, with};
use crate::prelude::*;

const PLAIN: Manner =
    Manner { timeout: 0, default_permissions: false, allow_other: false, unknown: &[] };
const BELIEVED: Manner = Manner { timeout: 1000, ..PLAIN };
const CHECKED: Manner = Manner { default_permissions: true, allow_other: true, ..PLAIN };

fn text(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().escape_ascii().to_string()
}

fn sizes(path: &CStr) -> String {
    let s = stat(path);
    format!("{s} size {} nlink {}", s.st.st_size, s.st.st_nlink)
}

/// How often the daemon was asked for an operation.
fn seen(op: u32) -> u64 {
    let path = CString::new(format!("m/seen-{op}")).unwrap_or_default();
    get(&path).text().parse().unwrap_or(u64::MAX)
}

fn files() {
    for manner in [PLAIN, BELIEVED] {
        with(manner, |_| {
            p!(put(c"m/f", "hello"), get(c"m/f"), sizes(c"m/f"), get(c"m/none"));
            let fd = open(c"m/f", O_RDWR | O_APPEND, 0);
            p!(wr(fd, " world"), pread(fd, 50, 0), pread(fd, 3, 100), lseek(fd, 0, SEEK_END));
            p!(ftruncate(fd, 4), pread(fd, 50, 0), sizes(c"m/f"), close(fd));
            p!(open(c"m/f", O_CREAT | O_EXCL | O_RDWR, 0o600), put(c"m/f", "x"), get(c"m/f"));
            let big: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
            p!(put(c"m/big", &big), get(c"m/big").bytes() == big.as_slice(), sizes(c"m/big"));
            let fd = open(c"m/big", O_RDWR, 0);
            p!(
                pwrite(fd, "mark", 100_000),
                pread(fd, 6, 99_999),
                rd(fd, 2),
                lseek(fd, 0, SEEK_CUR)
            );
            p!(lseek(fd, 5, SEEK_DATA), lseek(fd, 5, SEEK_HOLE), lseek(fd, 300_000, SEEK_DATA));
            p!(sc!(SYS_fallocate, fd, 0, 0, 10), sc!(SYS_fsync, fd), sc!(SYS_fdatasync, fd));
            p!(ioctl(fd, 0x1234, 0), close(fd));
            let fd = open(c"m/f", O_WRONLY | O_TRUNC, 0);
            p!(sizes(c"m/f"), rd(fd, 1), close(fd));
        });
    }
}

fn names() {
    for manner in [PLAIN, BELIEVED] {
        with(manner, |_| {
            p!(
                mkdir(c"m/d", 0o755),
                mkdir(c"m/d", 0o755),
                put(c"m/d/a", "a"),
                list(c"m"),
                list(c"m/d")
            );
            p!(link(c"m/d/a", c"m/d/b"), sizes(c"m/d/a"), symlink(c"d/a", c"m/s"), get(c"m/s"));
            p!(readlink(c"m/s", 99), lstat(c"m/s"), rename(c"m/d/a", c"m/d/c"), list(c"m/d"));
            p!(get(c"m/s"), rename(c"m/d/c", c"m/c"), list(c"m"), sizes(c"m/c"));
            p!(
                rename(c"m/d", c"m/d/e"),
                rmdir(c"m/d"),
                unlink(c"m/d"),
                unlink(c"m/d/b"),
                rmdir(c"m/d")
            );
            p!(list(c"m"), stat(c"m/d").ret, unlink(c"m/c"), unlink(c"m/c"), stat(c"m/c").ret);
            p!(sc!(SYS_mknod, c"m/fifo", S_IFIFO | 0o644, 0), lstat(c"m/fifo"));
            p!(sc!(SYS_mknod, c"m/null", S_IFCHR | 0o644, 0x103), lstat(c"m/null"));
            put(c"m/x", "x");
            put(c"m/y", "y");
            p!(sc!(SYS_renameat2, CWD, c"m/x", CWD, c"m/y", 1), get(c"m/y"));
            p!(sc!(SYS_renameat2, CWD, c"m/x", CWD, c"m/y", 2), get(c"m/x"), get(c"m/y"));
            p!(rename(c"m/x", c"m/y"), get(c"m/y"), list(c"m"), rename(c"m/y", c"y"));
            let fd = open(c"m/y", O_RDONLY, 0);
            p!(unlink(c"m/y"), rd(fd, 9), fstat(fd), close(fd));
        });
    }
}

fn attributes() {
    for manner in [PLAIN, BELIEVED] {
        with(manner, |_| {
            put(c"m/f", "hello");
            p!(chmod(c"m/f", 0o640), chown(c"m/f", 5, 6), stat(c"m/f"));
            let times = [[7i64, 8], [9, 10]];
            p!(sc!(SYS_utimensat, CWD, c"m/f", at(&times), 0));
            let s = stat(c"m/f").st;
            p!(s.st_atime, s.st_atime_nsec, s.st_mtime, s.st_mtime_nsec, s.st_blksize, s.st_blocks);
            p!(sc!(SYS_utimensat, CWD, c"m/f", 0, 0), stat(c"m/f").st.st_mtime);
            p!(sc!(SYS_truncate, c"m/f", 2), get(c"m/f"));
            let mut fs: statfs = zeroed();
            p!(
                sc!(SYS_statfs, c"m", at_mut(&mut fs)),
                fs.f_type,
                fs.f_blocks,
                fs.f_bfree,
                fs.f_bavail
            );
            p!(fs.f_files, fs.f_ffree, fs.f_bsize, fs.f_frsize, fs.f_namelen);
            let mut buf = [0u8; 64];
            let set = |name: &CStr, flags: i32| sc!(SYS_setxattr, c"m/f", name, c"value", 5, flags);
            p!(set(c"user.a", 0), set(c"user.a", XATTR_CREATE), set(c"user.b", XATTR_REPLACE));
            p!(sc!(SYS_getxattr, c"m/f", c"user.a", &mut buf, 64), text(&buf[..5]));
            p!(
                sc!(SYS_getxattr, c"m/f", c"user.a", 0, 0),
                sc!(SYS_getxattr, c"m/f", c"user.a", &mut buf, 2)
            );
            p!(sc!(SYS_getxattr, c"m/f", c"user.c", &mut buf, 64));
            p!(sc!(SYS_listxattr, c"m/f", &mut buf, 64), text(&buf[..7]));
            p!(sc!(SYS_removexattr, c"m/f", c"user.a"), sc!(SYS_removexattr, c"m/f", c"user.a"));
            p!(sc!(SYS_listxattr, c"m/f", &mut buf, 64));
        });
    }
}

fn names_are_believed() {
    with(BELIEVED, |_| {
        put(c"m/f", "x");
        for _ in 0..5 {
            stat(c"m/f");
            stat(c"m/none");
        }
        p!(seen(3) < 3);
        p!(put(c"m/none", "now"), get(c"m/none"), unlink(c"m/none"), get(c"m/none"));
    });
    with(PLAIN, |_| {
        put(c"m/f", "x");
        for _ in 0..5 {
            stat(c"m/f");
        }
        p!(seen(1) > 5, seen(3) >= 5);
    });
}

fn wrong_replies() {
    for manner in [PLAIN, BELIEVED] {
        with(manner, |_| {
            for name in
                [c"m/short", c"m/long", c"m/untyped", c"m/root", c"m/error", c"m/unknown-id"]
            {
                p!(stat(name).ret);
                let fd = open(name, O_CREAT | O_RDWR, 0o600);
                p!(fd.ok());
                close(fd);
            }
            p!(mkdir(c"m/d", 0o755), mkdir(c"m/d/slash", 0o755), list(c"m/d"), rmdir(c"m/d/slash"));
            p!(mkdir(c"m/d/nameless", 0o755), list(c"m/d"), rmdir(c"m/d/nameless"), list(c"m/d"));
        });
    }
}

fn a_daemon_dies() {
    with(PLAIN, |_| {
        put(c"m/f", "hello");
        let fd = open(c"m/f", O_RDWR, 0);
        p!(stat(c"m/die").ret, stat(c"m/f").ret, rd(fd, 5), wr(fd, "x"), fstat(fd).ret);
        p!(list(c"m"), mkdir(c"m/d", 0o755), close(fd), stat(c"m").ret, access(c"m", R_OK));
        let mut fs: statfs = zeroed();
        p!(sc!(SYS_statfs, c"m", at_mut(&mut fs)), sc!(SYS_umount2, c"m", 0), stat(c"m"));
    });
    // While others wait.
    with(PLAIN, |daemon| {
        let waits = child(|| stat(c"m/silent").ret.errno());
        until(|| seen(0) == 1);
        kill(daemon, SIGKILL);
        p!(wait(waits), stat(c"m").ret);
    });
}

fn waiting_is_interrupted() {
    with(PLAIN, |_| {
        put(c"m/f", "f");
        let waits = child(|| stat(c"m/silent").ret.errno());
        until(|| seen(0) == 1);
        catch(SIGUSR1, 0);
        let interrupted = child(|| stat(c"m/silent2").ret.errno());
        until(|| seen(0) == 2);
        kill(interrupted, SIGUSR1);
        p!(wait(interrupted), seen(36) >= 1);
        // Others go on.
        p!(stat(c"m/other").ret, get(c"m/f"));
        kill(waits, SIGKILL);
        p!(wait(waits));
    });
}

fn the_device() {
    let fd = open(c"/dev/fuse", O_RDWR | O_NONBLOCK, 0);
    p!(rd(fd, 100_000), wr(fd, [0; 16]), poll(&[(fd.fd(), POLLIN)], 0), lseek(fd, 0, SEEK_SET));
    p!(ioctl(fd, 0x8004_e500, at(&fd.fd())), ioctl(fd, 1, 0));
    p!(run(|| {
        ok!(sc!(SYS_unshare, CLONE_NEWNS));
        ok!(sc!(SYS_mount, c"", c"/", c"", MS_REC | MS_PRIVATE, c""), mkdir(c"m", 0o755));
        let mount = |options: String| {
            let options = CString::new(options).unwrap_or_default();
            sc!(SYS_mount, c"x", c"m", c"fuse", 0, &options)
        };
        let n = fd.fd();
        p!(mount(String::new()), mount(format!("fd={n}")));
        p!(mount(format!("fd={n},rootmode=40000,user_id=0")));
        p!(mount(format!("fd={n},rootmode=99,user_id=0,group_id=0")));
        p!(mount(format!("fd={n},rootmode=40000,user_id=0,group_id=0,nope")));
        p!(mount("fd=77,rootmode=40000,user_id=0,group_id=0".into()));
        let other = open(c"/dev/null", O_RDWR, 0).fd();
        p!(mount(format!("fd={other},rootmode=40000,user_id=0,group_id=0")));
        let good = format!("fd={n},rootmode=40000,user_id=0,group_id=0,max_read=8192");
        p!(mount(good));
        p!(rd(fd, 100), rd(fd, 100_000).bytes().len(), rd(fd, 100_000), wr(fd, [0; 16]));
        let line = get(c"/proc/self/mountinfo").text();
        let line = line.lines().find(|l| l.contains("/m ")).unwrap_or("").to_string();
        p!(line.split(" - ").nth(1).unwrap_or(""));
        p!(sc!(SYS_umount2, c"m", 0), rd(fd, 100_000), poll(&[(n, POLLIN)], 0));
        0
    }));
    close(fd);
}

fn permissions() {
    fn as_user(f: impl FnOnce()) {
        p!(run(|| {
            ok!(sc!(SYS_setgroups, 0, 0), sc!(SYS_setresgid, 5, 5, 5), sc!(SYS_setresuid, 5, 5, 5));
            f();
            0
        }));
    }
    for manner in [PLAIN, CHECKED, Manner { allow_other: true, ..PLAIN }] {
        with(manner, |_| {
            put(c"m/f", "hello");
            chmod(c"m/f", 0o400);
            mkdir(c"m/d", 0o755);
            p!(access(c"m/f", R_OK), access(c"m/f", W_OK), access(c"m/f", X_OK));
            let looks = || {
                p!(stat(c"m").ret, stat(c"m/f").ret, get(c"m/f"), access(c"m/f", W_OK), list(c"m"));
                p!(mkdir(c"m/e", 0o755), put(c"m/d/x", ""), unlink(c"m/f"));
            };
            as_user(looks);
            chmod(c"m", 0o777);
            as_user(|| {
                p!(mkdir(c"m/own", 0o700), stat(c"m/own"), put(c"m/own/f", "x"));
            });
            p!(sc!(SYS_execve, c"m/d", 0, 0), sc!(SYS_execve, c"m/f", 0, 0));
        });
    }
}

fn mapped() {
    with(BELIEVED, |_| {
        put(c"m/f", vec![b'a'; 5000]);
        let fd = open(c"m/f", O_RDWR, 0);
        let private = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd.fd(), 0).addr();
        p!(text(copy(private + 4990, 20)), pwrite(fd, "bbb", 0), text(copy(private, 5)));
        p!(poke(private, b'z'), text(copy(private, 3)), pread(fd, 3, 0));
        let shared = mmap(0, 4096, PROT_READ, MAP_SHARED, fd.fd(), 0).addr();
        p!(text(copy(shared, 5)), close(fd), munmap(private, 8192), munmap(shared, 4096));
        put(c"m/run", b"#!/proc/self/exe helper exit 7\n");
        chmod(c"m/run", 0o755);
        p!(access(c"m/run", X_OK));
    });
}

fn unknown_operations() {
    with(Manner { unknown: &[35, 25, 34, 20, 21, 22, 23, 24, 45, 17], ..PLAIN }, |_| {
        p!(put(c"m/f", "made by mknod"), get(c"m/f"), access(c"m/f", R_OK));
        let fd = open(c"m/f", O_RDWR, 0);
        p!(sc!(SYS_fsync, fd), close(fd));
        p!(sc!(SYS_setxattr, c"m/f", c"user.a", c"v", 1, 0));
        p!(sc!(SYS_getxattr, c"m/f", c"user.a", 0, 0), sc!(SYS_removexattr, c"m/f", c"user.a"));
        p!(sc!(SYS_renameat2, CWD, c"m/f", CWD, c"m/g", 1), rename(c"m/f", c"m/g"));
        let mut fs: statfs = zeroed();
        p!(sc!(SYS_statfs, c"m", at_mut(&mut fs)));
    });
}

cases![
    files,
    names,
    attributes,
    names_are_believed,
    wrong_replies,
    a_daemon_dies,
    waiting_is_interrupted,
    the_device,
    permissions,
    mapped,
    unknown_operations,
];
