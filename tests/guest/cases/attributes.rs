//! File attributes: modes, owners, times, statx and extended attributes, and access checks.

use crate::prelude::*;

fn fchmodat2(path: &CStr, mode: u32, flags: i32) -> Ret {
    syscall(452, &[CWD as u64, path.as_ptr() as u64, u64::from(mode), flags as u64])
}

fn chmod_and_fchmod() {
    put(c"f", "");
    p!(chmod(c"f", 0o7777), stat(c"f"), chmod(c"f", 0o100_644), stat(c"f"), chmod(c"f", 0));
    p!(stat(c"f"));
    let fd = open(c"f", O_RDONLY, 0);
    p!(sc!(SYS_fchmod, fd, 0o751), stat(c"f"), sc!(SYS_fchmod, 999, 0), chmod(c"none", 0o644));
    p!(chmod(8u64, 0));
    p!(sc!(SYS_fchmodat, CWD, c"f", 0o600), stat(c"f"), sc!(SYS_fchmodat, 999, c"f", 0o600));
}

fn chmod_follows_symlinks() {
    put(c"f", "");
    symlink(c"f", c"l");
    p!(chmod(c"l", 0o640), stat(c"f"), lstat(c"l"), fchmodat2(c"l", 0o600, AT_SYMLINK_NOFOLLOW));
    p!(fchmodat2(c"f", 0o611, 0), stat(c"f"), fchmodat2(c"f", 0o611, 0x10));
}

fn chown_and_lchown() {
    put(c"f", "");
    symlink(c"f", c"l");
    p!(chown(c"f", 12, 34), stat(c"f"), chown(c"f", u32::MAX, 56), stat(c"f"));
    p!(chown(c"f", 78, u32::MAX), stat(c"f"));
    p!(sc!(SYS_lchown, c"l", 1, 2), lstat(c"l"), chown(c"l", 3, 4), stat(c"f"));
    p!(chown(c"none", 0, 0));
    p!(sc!(SYS_fchown, open(c"f", O_RDONLY, 0), 5, 6), stat(c"f"));
    p!(sc!(SYS_fchownat, CWD, c"l", 7, 8, AT_SYMLINK_NOFOLLOW));
    p!(lstat(c"l"), sc!(SYS_fchownat, CWD, c"f", 7, 8, 1), sc!(SYS_fchownat, 999, c"f", 7, 8, 0));
}

fn chown_clears_set_id_bits() {
    for mode in [0o6755, 0o2644, 0o6777, 0o4644] {
        put(c"f", "");
        chmod(c"f", mode);
        p!(chown(c"f", 1, 1), stat(c"f"), unlink(c"f"));
    }
    mkdir(c"d", 0o755);
    p!(chmod(c"d", 0o6755), chown(c"d", 1, 1), stat(c"d"));
}

fn writing_clears_set_id_bits_for_users() {
    put(c"f", "data");
    chown(c"f", 1000, 1000);
    chmod(c"f", 0o6777);
    p!(run(|| {
        sc!(SYS_setresgid, 1000, 1000, 1000);
        sc!(SYS_setresuid, 1000, 1000, 1000);
        let fd = open(c"f", O_WRONLY, 0);
        p!(wr(fd, "x"), fstat(fd), sc!(SYS_fchmod, fd, 0o6777), ftruncate(fd, 0), fstat(fd));
        0
    }));
}

fn chmod_by_others_and_group_rules() {
    put(c"f", "");
    put(c"g", "");
    chown(c"f", 1000, 2000);
    chmod(c".", 0o777);
    p!(run(|| {
        sc!(SYS_setgroups, 0, 0u64);
        sc!(SYS_setresgid, 1000, 1000, 1000);
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(chmod(c"f", 0o2755), stat(c"f"), chmod(c"g", 0o777), chown(c"f", 0, u32::MAX));
        p!(chown(c"f", u32::MAX, 3));
        p!(chown(c"f", 1000, 1000), stat(c"f"), chown(c"g", 1000, 1000));
        p!(chown(c"f", u32::MAX, u32::MAX));
        0
    }));
}

fn set_group_id_directories_hand_down_the_group() {
    mkdir(c"d", 0o755);
    chown(c"d", 0, 4000);
    chmod(c"d", 0o2777);
    p!(put(c"d/f", ""), stat(c"d/f"), mkdir(c"d/sub", 0o755), stat(c"d/sub"));
}

fn sticky_directories() {
    mkdir(c"d", 0o777);
    chmod(c"d", 0o1777);
    put(c"d/roots", "");
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(unlink(c"d/roots"), rename(c"d/roots", c"d/x"), put(c"d/mine", ""), unlink(c"d/mine"));
        0
    }));
    p!(unlink(c"d/roots"));
}

fn permission_bits_for_users() {
    for mode in [0o400, 0o200, 0o100, 0o040, 0o020, 0o010, 0o004, 0o002, 0o001, 0o700, 0o070, 0o007]
    {
        put(c"f", "");
        chown(c"f", 1000, 2000);
        chmod(c"f", mode);
        for (uid, gid) in [(1000, 3000), (1001, 2000), (1001, 3000)] {
            let status = run(|| {
                sc!(SYS_setgroups, 0, 0u64);
                sc!(SYS_setresgid, gid, gid, gid);
                sc!(SYS_setresuid, uid, uid, uid);
                let can = |m: i32| i32::from(access(c"f", m).ok());
                can(R_OK) * 4
                    + can(W_OK) * 2
                    + can(X_OK)
                    + 8 * i32::from(open(c"f", O_RDONLY, 0).ok())
            });
            say!("{mode:03o} {uid}:{gid} {}", status.code());
        }
        unlink(c"f");
    }
}

fn search_permission() {
    mkdir(c"d", 0o755);
    put(c"d/f", "x");
    chmod(c"d/f", 0o666);
    for mode in [0o711, 0o744, 0o700, 0o722, 0o733] {
        chmod(c"d", mode);
        p!(
            mode,
            run(|| {
                sc!(SYS_setresuid, 1000, 1000, 1000);
                p!(stat(c"d/f").ret, open(c"d", O_RDONLY, 0).ok(), put(c"d/new", ""), chdir(c"d"));
                p!(unlink(c"d/new"));
                0
            })
        );
    }
}

fn supplementary_groups_count() {
    put(c"f", "");
    chown(c"f", 1, 2000);
    chmod(c"f", 0o060);
    p!(run(|| {
        p!(sc!(SYS_setgroups, 2, at(&[5u32, 2000])));
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(access(c"f", R_OK), access(c"f", X_OK), open(c"f", O_RDWR, 0).ok());
        0
    }));
}

fn access_uses_real_ids() {
    put(c"f", "");
    chmod(c"f", 0o600);
    chmod(c".", 0o755);
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 0, 0);
        p!(access(c"f", R_OK), open(c"f", O_RDONLY, 0).ok());
        p!(sc!(SYS_faccessat2, CWD, c"f", R_OK, AT_EACCESS));
        0
    }));
    p!(access(c"f", 8), access(c"f", X_OK), access(c"none", F_OK));
    p!(sc!(SYS_faccessat2, CWD, c"f", 0, 1));
    p!(sc!(SYS_faccessat2, open(c"f", O_PATH, 0), c"", R_OK, AT_EMPTY_PATH), access(8u64, 0));
}

fn root_may_execute_only_what_somebody_may() {
    put(c"f", "");
    for mode in [0o000, 0o001, 0o600] {
        chmod(c"f", mode);
        p!(mode, access(c"f", R_OK | W_OK), access(c"f", X_OK));
    }
}

fn utimensat(path: &CStr, times: [i64; 4], flags: i32) -> Ret {
    sc!(SYS_utimensat, CWD, path, at(&times), flags)
}
fn times(path: &CStr) -> String {
    let s = lstat(path).st;
    format!("{}.{:09} {}.{:09}", s.st_atime, s.st_atime_nsec, s.st_mtime, s.st_mtime_nsec)
}

fn utimensat_sets_times() {
    put(c"f", "");
    symlink(c"f", c"l");
    p!(utimensat(c"f", [1000, 5, 2000, 999_999_999], 0), times(c"f"));
    p!(utimensat(c"l", [1, 0, 2, 0], AT_SYMLINK_NOFOLLOW));
    p!(times(c"l"), times(c"f"), utimensat(c"f", [-5, 0, -1, 0], 0), times(c"f"));
    p!(utimensat(c"f", [0, UTIME_OMIT, 77, 0], 0), times(c"f"));
    p!(utimensat(c"f", [0, UTIME_OMIT, 0, UTIME_OMIT], 0));
    let before = clock(CLOCK_REALTIME_COARSE) / 1_000_000_000;
    p!(utimensat(c"f", [0, UTIME_NOW, 9, 0], 0), stat(c"f").st.st_atime >= before);
    p!(stat(c"f").st.st_mtime);
    p!(sc!(SYS_utimensat, CWD, c"f", 0u64, 0), stat(c"f").st.st_mtime >= before);
}

fn utimensat_errors() {
    put(c"f", "");
    p!(utimensat(c"none", [0; 4], 0), utimensat(c"f", [0, 1_000_000_000, 0, 0], 0));
    p!(utimensat(c"f", [0, -1, 0, 0], 0));
    p!(utimensat(c"f", [0; 4], 1), sc!(SYS_utimensat, CWD, c"f", 8u64, 0));
    p!(sc!(SYS_utimensat, 999, c"f", 0u64, 0));
    let fd = open(c"f", O_RDONLY, 0);
    p!(sc!(SYS_utimensat, fd, 0u64, at(&[3i64, 0, 4, 0]), 0), times(c"f"));
    p!(sc!(SYS_utimensat, CWD, 0u64, 0u64, 0));
}

fn older_time_calls() {
    put(c"f", "");
    p!(sc!(SYS_utime, c"f", at(&[11i64, 22])), times(c"f"));
    p!(sc!(SYS_utimes, c"f", at(&[1i64, 500_000, 2, 3])), times(c"f"));
    p!(sc!(SYS_futimesat, CWD, c"f", at(&[4i64, 0, 5, 1_000_000])), sc!(SYS_utimes, c"none", 0u64));
}

fn utimensat_permissions() {
    put(c"f", "");
    chmod(c"f", 0o666);
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(utimensat(c"f", [1, 0, 2, 0], 0), sc!(SYS_utimensat, CWD, c"f", 0u64, 0));
        p!(chmod(c"f", 0));
        p!(utimensat(c"f", [0, UTIME_NOW, 0, UTIME_OMIT], 0));
        0
    }));
}

fn what_changes_times() {
    put(c"f", "data");
    let old = [1000i64, 0, 1000, 0];
    let changed = |what: &str| {
        let s = stat(c"f").st;
        say!("{what}: mtime {} ctime {}", s.st_mtime != 1000, s.st_ctime != 1000);
        utimensat(c"f", old, 0);
    };
    utimensat(c"f", old, 0);
    changed("nothing");
    chmod(c"f", 0o600);
    changed("chmod");
    pwrite(open(c"f", O_WRONLY, 0), "x", 0);
    changed("write");
    ftruncate(open(c"f", O_WRONLY, 0), 2);
    changed("truncate");
    wr(open(c"f", O_WRONLY, 0), "");
    changed("empty write");
    mkdir(c"d", 0o755);
    utimensat(c"d", old, 0);
    put(c"d/new", "");
    p!(stat(c"d").st.st_mtime != 1000);
    utimensat(c"d", old, 0);
    unlink(c"d/new");
    p!(stat(c"d").st.st_mtime != 1000);
}

fn statx(path: &CStr, flags: i32, mask: u32) -> (Ret, Vec<u64>) {
    let mut buf = [0u64; 32];
    let ret = sc!(SYS_statx, CWD, path, flags, mask, at_mut(&mut buf));
    (ret, buf.to_vec())
}

fn statx_fields() {
    put(c"f", "12345");
    utimensat(c"f", [7, 8, 9, 10], 0);
    let (ret, b) = statx(c"f", 0, STATX_BASIC_STATS);
    // mask and blksize; attributes; nlink and uid; gid and mode; ino; size; blocks; then times.
    p!(ret, b[0] as u32 & STATX_BASIC_STATS == STATX_BASIC_STATS, b[2] as u32, b[3] >> 32 & 0xffff);
    p!(b[5]);
    p!(b[4] == stat(c"f").st.st_ino, b[8], b[9] as u32, b[14], b[15] as u32);
    p!(statx(c"none", 0, 0).0, statx(c"f", 1, 0).0, statx(c"f", 0, 0x8000_0000).0);
    p!(statx(c"", AT_EMPTY_PATH, 0).0);
    p!(statx(c"f", AT_STATX_FORCE_SYNC, 0).0, statx(c"f", AT_STATX_DONT_SYNC, 0).0);
    p!(statx(c"f", 0x6000, 0).0);
    p!(sc!(SYS_statx, CWD, c"f", 0, 0, 8u64));
    p!(sc!(SYS_statx, 999, c"f", 0, 0, at_mut(&mut [0u64; 32])));
}

fn stat_fields_agree() {
    put(c"f", vec![1; 5000]);
    let (a, b) = (stat(c"f").st, fstat(open(c"f", O_RDONLY, 0)).st);
    p!(a.st_ino == b.st_ino, a.st_dev == b.st_dev, a.st_size == b.st_size, a.st_blocks);
    p!(a.st_blksize);
    p!(stat(c".").st.st_dev == a.st_dev, a.st_rdev, sc!(SYS_stat, 8u64, 8u64));
    p!(sc!(SYS_stat, c"f", 8u64));
    p!(stat(c"").ret, stat(0u64).ret, fstat(999).ret, fstat(-1).ret, sc!(SYS_fstat, 1, 8u64));
}

fn setx(path: &CStr, name: &CStr, value: &[u8], flags: i32) -> Ret {
    sc!(SYS_setxattr, path, name, value, value.len(), flags)
}
fn getx(path: &CStr, name: &CStr, len: usize) -> Got {
    let mut buf = vec![0; len];
    let ret = sc!(SYS_getxattr, path, name, buf.as_mut_slice(), len);
    crate::sys::fs::got(buf, ret)
}

fn user_attributes() {
    put(c"f", "");
    p!(setx(c"f", c"user.one", b"value", 0), getx(c"f", c"user.one", 100));
    p!(getx(c"f", c"user.one", 3));
    p!(sc!(SYS_getxattr, c"f", c"user.one", 0u64, 0), setx(c"f", c"user.one", b"", 0));
    p!(getx(c"f", c"user.one", 9));
    p!(setx(c"f", c"user.one", b"x", XATTR_CREATE), setx(c"f", c"user.two", b"x", XATTR_REPLACE));
    p!(setx(c"f", c"user.two", b"2", 3));
    p!(sc!(SYS_removexattr, c"f", c"user.one"), sc!(SYS_removexattr, c"f", c"user.one"));
    p!(getx(c"f", c"user.one", 9));
}

fn attribute_errors() {
    put(c"f", "");
    p!(setx(c"f", c"nonsense", b"x", 0), setx(c"f", c"user.", b"x", 0), setx(c"f", c"", b"x", 0));
    p!(setx(c"none", c"user.a", b"x", 0));
    let long = CString::new(format!("user.{}", "n".repeat(251))).unwrap_or_default();
    p!(setx(c"f", &long, b"x", 0), getx(c"f", c"user.none", 10));
    p!(sc!(SYS_setxattr, c"f", c"user.a", 8u64, 10, 0));
    p!(sc!(SYS_setxattr, c"f", c"user.a", 8u64, 65537, 0));
    p!(sc!(SYS_setxattr, c"f", 8u64, 8u64, 1, 0));
    symlink(c"f", c"l");
    p!(sc!(SYS_lsetxattr, c"l", c"user.a", b"x", 1, 0));
    p!(sc!(SYS_fgetxattr, 999, c"user.a", 0u64, 0));
}

fn attribute_listing() {
    put(c"f", "");
    setx(c"f", c"user.b", b"1", 0);
    setx(c"f", c"user.a", b"2", 0);
    let mut buf = [0u8; 100];
    let n = sc!(SYS_listxattr, c"f", &mut buf, 100);
    let mut names: Vec<&[u8]> =
        buf[..n.0.max(0) as usize].split(|&b| b == 0).filter(|s| s.starts_with(b"user.")).collect();
    names.sort();
    p!(n, names.join(&b' ').escape_ascii().to_string(), sc!(SYS_listxattr, c"f", 0u64, 0));
    p!(sc!(SYS_listxattr, c"f", &mut buf, 3));
    p!(sc!(SYS_llistxattr, c"none", 0u64, 0));
}

fn attributes_without_a_file() {
    let [pipe, _] = pipe(0);
    let [event, epoll] = [sc!(SYS_eventfd2, 0, 0).fd(), sc!(SYS_epoll_create1, 0).fd()];
    let sockets = [(AF_INET, SOCK_STREAM), (AF_UNIX, SOCK_DGRAM)];
    let [tcp, unix] = sockets.map(|(family, kind)| sc!(SYS_socket, family, kind, 0).fd());
    for fd in [pipe, event, epoll, tcp, unix] {
        let link = CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        for name in [c"user.a", c"trusted.a", c"security.a", c"system.a", c"system.sockprotoname"] {
            say!("{name:?}");
            p!(sc!(SYS_fsetxattr, fd, name, b"x", 1, 0), setx(&link, name, b"x", 0));
            let mut buf = [0u8; 32];
            p!(
                sc!(SYS_fgetxattr, fd, name, &mut buf, 32),
                getx(&link, name, 32),
                getx(&link, name, 2)
            );
            p!(sc!(SYS_fremovexattr, fd, name), sc!(SYS_removexattr, &link, name));
        }
        let capability = c"security.capability";
        p!(setx(&link, capability, b"x", 0), setx(&link, capability, &[0, 0, 0, 2], 0));
        let mut buf = [0u8; 64];
        p!(sc!(SYS_flistxattr, fd, &mut buf, 64), sc!(SYS_listxattr, &link, &mut buf, 64));
    }
    put(c"f", "");
    p!(setx(c"f", c"security.capability", b"junk", 0));
}

fn protocols_have_names() {
    for (family, kind, protocol) in [
        (AF_INET, SOCK_DGRAM, 0),
        (AF_INET6, SOCK_STREAM, 0),
        (AF_INET6, SOCK_DGRAM, 0),
        (AF_UNIX, SOCK_STREAM, 0),
        (AF_UNIX, SOCK_SEQPACKET, 0),
        (AF_NETLINK, SOCK_RAW, 0),
        (AF_PACKET, SOCK_RAW, 0),
        (AF_INET, SOCK_RAW, 1),
        (AF_INET6, SOCK_RAW, 58),
    ] {
        let fd = sc!(SYS_socket, family, kind, protocol).fd();
        let link = CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        p!(family, kind, getx(&link, c"system.sockprotoname", 32));
    }
}

/// Gets or, with some to set and to clear, changes the flags of an inode.
fn flags(path: &CStr, set: u32, clear: u32) -> String {
    let fd = open(path, O_RDONLY | O_NONBLOCK, 0);
    let mut flags = 0u32;
    let got = ioctl(fd, 0x8008_6601, at_mut(&mut flags));
    let changed = flags & !clear | set;
    let ret = if changed == flags { got } else { ioctl(fd, 0x4008_6602, at(&changed)) };
    close(fd);
    format!("{ret} {:#x}", flags & 0x30)
}

fn immutable_and_append_only() {
    const IMMUTABLE: u32 = 0x10;
    const APPEND: u32 = 0x20;
    put(c"f", "text");
    mkdir(c"d", 0o755);
    put(c"d/in", "");
    p!(flags(c"f", IMMUTABLE, 0), flags(c"f", 0, 0));
    let set = || sc!(SYS_setxattr, c"f", c"user.a", c"v", 1, 0);
    let attempts = || {
        p!(open(c"f", O_RDWR, 0).ok(), access(c"f", W_OK), access(c"f", R_OK), get(c"f"));
        p!(
            unlink(c"f"),
            rename(c"f", c"g"),
            link(c"f", c"g"),
            chmod(c"f", 0o600),
            chown(c"f", 1, 1)
        );
        p!(sc!(SYS_truncate, c"f", 0), set(), open(c"f", O_RDONLY | O_TRUNC, 0).ok());
        let times = [[7i64, 8], [9, 10]];
        p!(sc!(SYS_utimensat, CWD, c"f", at(&times), 0), sc!(SYS_utimensat, CWD, c"f", 0, 0));
        let mut s: statx = zeroed();
        p!(sc!(SYS_statx, CWD, c"f", 0, 0x7ff, at_mut(&mut s)), s.stx_attributes & 0x30);
        p!(s.stx_attributes_mask & 0x30);
    };
    attempts();
    p!(flags(c"f", APPEND, IMMUTABLE));
    attempts();
    let fd = open(c"f", O_WRONLY | O_APPEND, 0);
    p!(wr(fd, " more"), ftruncate(fd, 0), get(c"f"), close(fd));
    p!(flags(c"f", 0, APPEND), unlink(c"f"));
    p!(flags(c"d", IMMUTABLE, 0), put(c"d/new", ""), unlink(c"d/in"), rename(c"d/in", c"in"));
    p!(put(c"d/in", "x"), rename(c"d", c"e"), rmdir(c"d"), flags(c"d", APPEND, IMMUTABLE));
    p!(put(c"d/new", ""), unlink(c"d/in"), rename(c"d/in", c"in"), flags(c"d", 0, APPEND));
    symlink(c"d", c"s");
    p!(flags(c"/dev/null", 0, 0), flags(c"/proc/self/stat", 0, 0));
    p!(run(|| {
        put(c"own", "");
        chown(c"own", 5, 5);
        sc!(SYS_setresuid, 5, 5, 5);
        p!(flags(c"own", IMMUTABLE, 0), flags(c"own", 0x40, 0), flags(c"d", 0x40, 0));
        0
    }));
    extended_flags();
}

/// `FS_IOC_FSGETXATTR` and, with something to set, `FS_IOC_FSSETXATTR`.
fn extended(path: &CStr, set: Option<[u32; 7]>) -> String {
    let fd = open(path, O_RDONLY | O_NONBLOCK, 0);
    let set = set.map_or(Ret(0), |words| ioctl(fd, 0x401c_5820, at(&words)));
    let mut words = [9u32; 7];
    let got = ioctl(fd, 0x801c_581f, at_mut(&mut words));
    close(fd);
    format!("{set} {got} {:#x} {:?}", words[0] & 0xd8, &words[3..])
}

/// The same flags by their newer calls.
fn extended_flags() {
    put(c"f", "text");
    mkdir(c"d", 0o755);
    let flags_of = |bits: u32| Some([bits, 0, 0, 0, 0, 0, 0]);
    for path in [c"f", c"d"] {
        p!(extended(path, None), extended(path, flags_of(0x8)), flags(path, 0, 0));
        p!(extended(path, flags_of(0x10)), flags(path, 0, 0), extended(path, flags_of(0)));
        p!(extended(path, flags_of(0x40)), flags(path, 0x10, 0), extended(path, None));
        p!(extended(path, flags_of(0)), flags(path, 0, 0));
    }
    let fd = open(c"f", O_RDONLY, 0);
    p!(ioctl(fd, 0x801c_581f, 8u64), ioctl(fd, 0x401c_5820, 8u64), close(fd));
    p!(extended(c"/proc/self/stat", None), extended(c"/proc/self/stat", flags_of(0)));
    p!(extended(c"/dev/null", None));
    p!(run(|| {
        put(c"own", "");
        chown(c"own", 5, 5);
        sc!(SYS_setresuid, 5, 5, 5);
        p!(extended(c"own", flags_of(0x8)), extended(c"own", flags_of(0x40)));
        p!(extended(c"d", flags_of(0x40)));
        0
    }));
}

cases![
    immutable_and_append_only,
    chmod_and_fchmod,
    chmod_follows_symlinks,
    chown_and_lchown,
    chown_clears_set_id_bits,
    writing_clears_set_id_bits_for_users,
    chmod_by_others_and_group_rules,
    set_group_id_directories_hand_down_the_group,
    sticky_directories,
    permission_bits_for_users,
    search_permission,
    supplementary_groups_count,
    access_uses_real_ids,
    root_may_execute_only_what_somebody_may,
    utimensat_sets_times,
    utimensat_errors,
    older_time_calls,
    utimensat_permissions,
    what_changes_times,
    statx_fields,
    stat_fields_agree,
    user_attributes,
    attribute_errors,
    attribute_listing,
    attributes_without_a_file,
    protocols_have_names,
];
