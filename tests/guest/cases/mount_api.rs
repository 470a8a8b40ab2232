//! The mount calls that work step by step: contexts, detached mounts, attributes, and lists of mounts.

use crate::prelude::*;

const FSMOUNT: i64 = 432;
const FSOPEN: i64 = 430;
const FSCONFIG: i64 = 431;
const FSPICK: i64 = 433;
const MOVE_MOUNT: i64 = 429;
const OPEN_TREE: i64 = 428;
const SETATTR: i64 = 442;
const STATMOUNT: i64 = 457;
const LISTMOUNT: i64 = 458;

const CLONE: u64 = 1;
const RECURSIVE: u64 = 0x8000;
const EMPTY: u64 = 0x1000;
const HERE: u64 = AT_FDCWD as i64 as u64;

/// Runs `f` in a mount namespace of its own.
fn own(f: impl FnOnce()) {
    p!(run(|| {
        sc!(SYS_unshare, CLONE_NEWNS);
        sc!(SYS_mount, c"none", c"/", 0u64, MS_REC | MS_PRIVATE, 0u64);
        f();
        0
    }));
}

fn fsopen(name: &CStr) -> Ret {
    syscall(FSOPEN, &[name.as_ptr() as u64, 1])
}

fn config(fd: i32, cmd: u64, key: Option<&CStr>, value: Option<&CStr>, aux: i32) -> Ret {
    let text = |s: Option<&CStr>| s.map_or(0, |s| s.as_ptr() as u64);
    syscall(FSCONFIG, &[fd as i64 as u64, cmd, text(key), text(value), aux as i64 as u64])
}

/// A new tmpfs, attached nowhere.
fn detached() -> i32 {
    let fd = fsopen(c"tmpfs").fd();
    config(fd, 6, None, None, 0);
    syscall(FSMOUNT, &[fd as u64, 1, 0]).fd()
}

fn attach(fd: i32, at: &CStr) -> Ret {
    syscall(MOVE_MOUNT, &[fd as i64 as u64, c"".as_ptr() as u64, HERE, at.as_ptr() as u64, 4])
}

fn open_tree(path: &CStr, flags: u64) -> Ret {
    syscall(OPEN_TREE, &[HERE, path.as_ptr() as u64, flags])
}

fn setattr(path: &CStr, flags: u64, attr: [u64; 4]) -> Ret {
    syscall(SETATTR, &[HERE, path.as_ptr() as u64, flags, at(&attr), 32])
}

/// Flags of the mount at a path (`f_flag`), but for those that say nothing.
fn flags(path: &CStr) -> String {
    let mut buf = [0u64; 16];
    let ret = sc!(SYS_statfs, path, at_mut(&mut buf));
    format!("{ret} {:#x}", buf[10] & !0x20)
}

fn a_file_system_step_by_step() {
    own(|| {
        mkdir(c"m", 0o755);
        let fd = fsopen(c"tmpfs").fd();
        p!(fd >= 0, config(fd, 1, Some(c"source"), Some(c"here"), 0));
        p!(
            config(fd, 1, Some(c"source"), Some(c"again"), 0),
            config(fd, 1, Some(c"size"), Some(c"1m"), 0)
        );
        p!(
            config(fd, 1, Some(c"mode"), Some(c"0700"), 0),
            config(fd, 0, Some(c"noswapnosuch"), None, 0)
        );
        p!(config(fd, 1, Some(c"nosuch"), Some(c"x"), 0), syscall(FSMOUNT, &[fd as u64, 0, 0]));
        p!(config(fd, 6, None, None, 0), config(fd, 6, None, None, 0));
        p!(config(fd, 1, Some(c"size"), Some(c"2m"), 0));
        let mount = syscall(FSMOUNT, &[fd as u64, 1, 2 | 4]).fd();
        p!(mount >= 0, syscall(FSMOUNT, &[fd as u64, 1, 0]), fcntl(mount, F_GETFD, 0));
        p!(put(c"m/hidden", "x"), attach(mount, c"m"), lstat(c"m/hidden"), put(c"m/f", "y"));
        p!(stat(c"m").st.st_mode & 0o7777, flags(c"m"), openat(mount, c"f", O_RDONLY, 0).ok());
        p!(close(mount), get(c"m/f"), sc!(SYS_umount2, c"m", 0), get(c"m/hidden"));
    });
}

fn context_errors() {
    own(|| {
        p!(
            fsopen(c"nosuchfs"),
            syscall(FSOPEN, &[8, 0]),
            syscall(FSOPEN, &[c"tmpfs".as_ptr() as u64, 2])
        );
        let fd = fsopen(c"tmpfs").fd();
        p!(
            config(-1, 6, None, None, 0),
            config(999, 6, None, None, 0),
            config(1, 6, None, None, 0)
        );
        p!(
            config(fd, 99, None, None, 0),
            config(fd, 0, None, None, 0),
            config(fd, 0, Some(c"ro"), Some(c"x"), 0)
        );
        p!(config(fd, 0, Some(c"ro"), None, 1), config(fd, 1, Some(c"size"), None, 0));
        p!(config(fd, 2, Some(c"size"), Some(c"x"), 0), config(fd, 5, Some(c"size"), None, -1));
        p!(
            config(fd, 6, Some(c"x"), None, 0),
            config(fd, 7, None, None, 0),
            config(fd, 0, Some(c"ro"), None, 0)
        );
        p!(syscall(FSMOUNT, &[999, 0, 0]), syscall(FSMOUNT, &[1, 0, 0]));
        p!(syscall(FSMOUNT, &[fd as u64, 2, 0]), syscall(FSMOUNT, &[fd as u64, 0, 0x30]));
        p!(syscall(FSMOUNT, &[fd as u64, 0, 1 << 30]), rd(fd, 10));
        let bad = fsopen(c"tmpfs").fd();
        p!(config(bad, 1, Some(c"size"), Some(c"nonsense"), 0));
        let uid = fresh_uid();
        p!(run(|| {
            sc!(SYS_setresuid, uid, uid, uid);
            p!(fsopen(c"tmpfs"), open_tree(c".", CLONE), open_tree(c".", 0).ok(), attach(1, c"."));
            p!(syscall(FSPICK, &[HERE, c"/".as_ptr() as u64, 0]), setattr(c"/", 0, [1, 0, 0, 0]));
            0
        }));
    });
}

fn read_only_from_the_start() {
    own(|| {
        mkdir(c"m", 0o755);
        let fd = fsopen(c"tmpfs").fd();
        p!(config(fd, 0, Some(c"ro"), None, 0), config(fd, 6, None, None, 0));
        let mount = syscall(FSMOUNT, &[fd as u64, 1, 0]).fd();
        p!(attach(mount, c"m"), put(c"m/f", "x"));
    });
}

fn closing_ends_a_detached_mount() {
    own(|| {
        let mount = detached();
        p!(openat(mount, c"f", O_CREAT | O_WRONLY, 0o600).ok());
        let file = openat(mount, c"f", O_RDONLY, 0).fd();
        p!(close(mount), fstat(file).st.st_size, attach(mount, c"."));
    });
}

fn copies_of_trees() {
    own(|| {
        mkdir(c"a", 0o755);
        mkdir(c"b", 0o755);
        attach(detached(), c"a");
        mkdir(c"a/sub", 0o755);
        attach(detached(), c"a/sub");
        put(c"a/sub/f", "deep");
        p!(open_tree(c"a", RECURSIVE), open_tree(c"a", 2), open_tree(c"nosuch", CLONE));
        let plain = open_tree(c"a", 0x80000).fd();
        p!(plain >= 0, fcntl(plain, F_GETFL, 0).fd() & O_PATH != 0, fcntl(plain, F_GETFD, 0));
        let one = open_tree(c"a", CLONE).fd();
        p!(attach(one, c"b"), lstat(c"b/sub/f"), sc!(SYS_umount2, c"b", 0));
        let all = open_tree(c"a", CLONE | RECURSIVE).fd();
        p!(attach(all, c"b"), get(c"b/sub/f"), attach(all, c"nosuch"));
        p!(sc!(SYS_umount2, c"b", 0), sc!(SYS_umount2, c"b", MNT_DETACH));
    });
}

fn moving() {
    own(|| {
        for dir in [c"a", c"b", c"c"] {
            mkdir(dir, 0o755);
        }
        put(c"file", "x");
        let mount = detached();
        p!(
            attach(mount, c"file"),
            attach(mount, c"nosuch"),
            attach(mount, c"a"),
            attach(mount, c"b")
        );
        let path = |s: &CStr| s.as_ptr() as u64;
        p!(syscall(MOVE_MOUNT, &[HERE, path(c"b"), HERE, path(c"c"), 0]));
        p!(syscall(MOVE_MOUNT, &[HERE, path(c"a"), HERE, path(c"b"), 0]));
        p!(syscall(MOVE_MOUNT, &[HERE, path(c"c"), HERE, path(c"b"), 0x1000]));
        p!(syscall(MOVE_MOUNT, &[999, path(c""), HERE, path(c"b"), 4]));
        mkdir(c"c/in", 0o755);
        p!(syscall(MOVE_MOUNT, &[HERE, path(c"c"), HERE, path(c"c/in"), 0]));
    });
}

fn attributes() {
    own(|| {
        mkdir(c"m", 0o755);
        attach(detached(), c"m");
        p!(flags(c"m"), setattr(c"m", 0, [1 | 8, 0, 0, 0]), flags(c"m"), put(c"m/f", "x"));
        p!(setattr(c"m", 0, [2, 1, 0, 0]), flags(c"m"), put(c"m/f", "x"));
        p!(setattr(c"m", 0, [0x10, 0, 0, 0]), setattr(c"m", 0, [0x10, 0x10, 0, 0]));
        p!(setattr(c"m", 0, [0x10, 0x70, 0, 0]), flags(c"m"), setattr(c"m", 0, [0x20, 0x70, 0, 0]));
        p!(
            flags(c"m"),
            setattr(c"m", 0, [0, 0x70, 0, 0]),
            flags(c"m"),
            setattr(c"m", 0, [0x30, 0x70, 0, 0])
        );
        p!(setattr(c"m", 0, [1 << 30, 0, 0, 0]), setattr(c"m", 0, [0, 1 << 30, 0, 0]));
        p!(setattr(c"m", 0, [0, 0, 1, 0]), setattr(c"m", 0, [0, 0, 0x4_0000 | 0x10_0000, 0]));
        p!(
            setattr(c"m", 0, [0; 4]),
            setattr(c"nosuch", 0, [0; 4]),
            setattr(c"nosuch", 0, [1, 0, 0, 0])
        );
        mkdir(c"m/d", 0o755);
        p!(setattr(c"m/d", 0, [1, 0, 0, 0]), setattr(c"m", 1, [1, 0, 0, 0]));
        let path = c"m".as_ptr() as u64;
        p!(syscall(SETATTR, &[HERE, path, 0, at(&[1u64; 4]), 31]));
        p!(syscall(SETATTR, &[HERE, path, 0, at(&[1u64, 0, 0, 0, 1]), 40]));
        p!(syscall(SETATTR, &[HERE, path, 0, at(&[1u64, 0, 0, 0, 0]), 40]), flags(c"m"));
        p!(syscall(SETATTR, &[HERE, path, 0, 8, 32]), syscall(SETATTR, &[HERE, path, 0, 8, 5000]));
    });
}

fn attributes_of_a_whole_tree() {
    own(|| {
        mkdir(c"m", 0o755);
        attach(detached(), c"m");
        mkdir(c"m/sub", 0o755);
        attach(detached(), c"m/sub");
        p!(setattr(c"m", 0, [8, 0, 0, 0]), flags(c"m/sub"), setattr(c"m", RECURSIVE, [1, 0, 0, 0]));
        p!(flags(c"m"), flags(c"m/sub"), put(c"m/sub/f", "x"));
        let loose = detached();
        let empty = c"".as_ptr() as u64;
        p!(syscall(SETATTR, &[loose as u64, empty, EMPTY, at(&[1u64, 0, 0, 0]), 32]));
        p!(openat(loose, c"f", O_CREAT | O_WRONLY, 0o600));
    });
}

fn picking_a_mounted_one() {
    own(|| {
        mkdir(c"m", 0o755);
        attach(detached(), c"m");
        mkdir(c"m/d", 0o755);
        let pick = |path: &CStr, flags: u64| syscall(FSPICK, &[HERE, path.as_ptr() as u64, flags]);
        p!(pick(c"m/d", 0), pick(c"nosuch", 0), pick(c"m", 0x10));
        let fd = pick(c"m", 1).fd();
        p!(fd >= 0, config(fd, 6, None, None, 0), config(fd, 0, Some(c"ro"), None, 0));
        p!(config(fd, 7, None, None, 0), put(c"m/f", "x"));
    });
}

/// The id that `statx(2)` tells of a mount.
fn unique(path: &CStr) -> u64 {
    let mut buf = [0u64; 32];
    sc!(SYS_statx, AT_FDCWD, path, 0, 0x4000, at_mut(&mut buf));
    buf[18]
}

fn statmount(id: u64, mask: u64) -> (Ret, Vec<u8>) {
    let mut buf = vec![0u8; 4096];
    let ret = syscall(STATMOUNT, &[at(&[24u64, id, mask]), at_mut(buf.as_mut_slice()), 4096, 0]);
    (ret, buf)
}

/// A string of the structure.
fn text(buf: &[u8], place: usize) -> String {
    let at =
        u32::from_ne_bytes([buf[place], buf[place + 1], buf[place + 2], buf[place + 3]]) as usize;
    let bytes: Vec<u8> = buf[512 + at..].iter().copied().take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn number(buf: &[u8], place: usize) -> u64 {
    u64::from_ne_bytes(std::array::from_fn(|i| buf[place + i]))
}

fn what_a_mount_is() {
    own(|| {
        mkdir(c"m", 0o755);
        attach(detached(), c"m");
        setattr(c"m", 0, [2 | 8, 0, 0, 0]);
        let id = unique(c"m");
        p!(id > 1 << 31, unique(c".") != id);
        let (ret, buf) = statmount(id, 0x2 | 0x20 | 0x10 | 0x8);
        p!(ret, format!("{:#x}", number(&buf, 8)), text(&buf, 36), text(&buf, 104));
        p!(
            text(&buf, 108).ends_with("/m"),
            number(&buf, 40) == id,
            number(&buf, 48) == unique(c".")
        );
        p!(
            format!("{:#x}", number(&buf, 64)),
            format!("{:#x}", number(&buf, 72)),
            number(&buf, 80)
        );
        let (ret, buf) = statmount(id, 1);
        p!(ret, format!("{:#x}", number(&buf, 24)), number(&buf, 8), number(&buf, 0) as u32);
        p!(statmount(1, 1).0, statmount(u64::MAX - 1, 1).0, statmount(id, 0).0);
        let request = [24u64, id, 0x20];
        let mut small = [0u8; 512];
        p!(syscall(STATMOUNT, &[at(&request), at_mut(&mut small), 512, 0]));
        p!(syscall(STATMOUNT, &[at(&request), at_mut(&mut small), 512, 1]));
        p!(syscall(STATMOUNT, &[8, at_mut(&mut small), 512, 0]));
        p!(syscall(STATMOUNT, &[at(&[23u64, id, 0x20]), at_mut(&mut small), 512, 0]));
        p!(syscall(STATMOUNT, &[at(&[24u64 | 1 << 32, id, 0x20]), at_mut(&mut small), 512, 0]));
    });
}

fn which_mounts_there_are() {
    own(|| {
        mkdir(c"m", 0o755);
        attach(detached(), c"m");
        mkdir(c"m/sub", 0o755);
        attach(detached(), c"m/sub");
        attach(detached(), c"m/sub");
        let list = |id: u64, last: u64, nr: u64, flags: u64| {
            let mut ids = [0u64; 64];
            let ret = syscall(LISTMOUNT, &[at(&[24u64, id, last]), at_mut(&mut ids), nr, flags]);
            (ret, ids)
        };
        let top = unique(c"m");
        let (ret, ids) = list(top, 0, 64, 0);
        p!(ret, ids[0] < ids[1], ids[1] == unique(c"m/sub"), list(top, ids[0], 64, 0).0);
        p!(list(top, 0, 1, 0).0, list(top, 0, 64, 1).1[0] == ids[1], list(ids[1], 0, 64, 0).0);
        p!(list(u64::MAX, 0, 64, 0).0.ok(), list(5, 0, 64, 0).0, list(top, 5, 64, 0).0);
        p!(list(top, 0, 64, 2).0, list(top, 0, 2_000_000, 0).0, list(top + (1 << 40), 0, 64, 0).0);
    });
}

fn mounts_go_beneath() {
    own(|| {
        const BENEATH: u32 = 0x200 | 4 | 0x40;
        mkdir(c"a", 0o755);
        mkdir(c"b", 0o755);
        mkdir(c"plain", 0o755);
        for (dir, file) in [(c"a", c"a/in-a"), (c"b", c"b/in-b")] {
            p!(sc!(SYS_mount, c"none", dir, c"tmpfs", 0, c""), put(file, ""));
        }
        let tree = sc!(SYS_open_tree, CWD, c"a", 1 | O_CLOEXEC);
        let to = |path: &CStr| open(path, O_PATH, 0);
        p!(sc!(SYS_move_mount, tree, c"", to(c"plain"), c"", BENEATH));
        p!(sc!(SYS_move_mount, tree, c"", to(c"b"), c"", BENEATH), list(c"b"));
        p!(sc!(SYS_move_mount, tree, c"", to(c"b"), c"", BENEATH));
        p!(
            sc!(SYS_umount2, c"b", MNT_DETACH),
            list(c"b"),
            sc!(SYS_umount2, c"b", MNT_DETACH),
            list(c"b")
        );
    });
}

cases![
    mounts_go_beneath,
    a_file_system_step_by_step,
    context_errors,
    read_only_from_the_start,
    closing_ends_a_detached_mount,
    copies_of_trees,
    moving,
    attributes,
    attributes_of_a_whole_tree,
    picking_a_mounted_one,
    what_a_mount_is,
    which_mounts_there_are,
];
