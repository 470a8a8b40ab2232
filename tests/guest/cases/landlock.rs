//! Landlock: programs that restrict themselves.

use crate::prelude::*;

const DANGLING: u64 = 0x10;
const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_SYM: u64 = 1 << 12;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
const EVERY: u64 = 0xffff;
const BIND: u64 = 1;
const CONNECT: u64 = 2;
const ABSTRACT: u64 = 1;
const SIGNAL: u64 = 2;

fn ruleset(fs: u64, net: u64, scope: u64) -> Ret {
    sc!(SYS_landlock_create_ruleset, at(&[fs, net, scope]), 24, 0)
}
fn path_rule(set: i32, fd: i32, allowed: u64) -> Ret {
    let mut rule = allowed.to_le_bytes().to_vec();
    rule.extend_from_slice(&fd.to_le_bytes());
    sc!(SYS_landlock_add_rule, set, 1, rule.as_slice(), 0)
}
fn beneath(set: i32, path: &CStr, allowed: u64) -> Ret {
    let fd = open(path, O_PATH | O_CLOEXEC, 0).fd();
    let ret = path_rule(set, fd, allowed);
    close(fd);
    ret
}
fn port_rule(set: i32, port: u64, allowed: u64) -> Ret {
    sc!(SYS_landlock_add_rule, set, 2, at(&[allowed, port]), 0)
}
fn restrict(set: i32) -> Ret {
    sc!(SYS_landlock_restrict_self, set, 0)
}
/// Restricts the calling task: `handled` rights are left only where a rule allows some.
fn confine(handled: u64, rules: &[(&CStr, u64)]) {
    let set = ruleset(handled, 0, 0).fd();
    for (path, allowed) in rules {
        let added = beneath(set, path, *allowed);
        if !added.ok() {
            say!("{}: {added}", path.to_string_lossy());
        }
    }
    let done = restrict(set);
    if !done.ok() {
        say!("restrict_self: {done}");
    }
    close(set);
}
fn outcome(ret: Ret) -> String {
    if ret.ok() {
        close(ret);
        return "opened".into();
    }
    ret.to_string()
}
fn opened(path: &CStr, flags: i32) -> String {
    outcome(open(path, flags, 0o644))
}
fn fd_link(fd: i32) -> CString {
    CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default()
}
fn tree() {
    for dir in [c"a", c"a/in", c"b", c"b/in"] {
        mkdir(dir, 0o755);
    }
    for file in [c"a/f", c"a/in/f", c"b/f", c"b/in/f", c"f"] {
        put(file, "contents");
    }
}

fn making_rule_sets() {
    let create =
        |attr: u64, size: u64, flags: u32| sc!(SYS_landlock_create_ruleset, attr, size, flags);
    p!(create(0, 0, 1).0 >= 6, create(1, 0, 1), create(0, 8, 1), create(0, 0, 1 << 20));
    let attr = [1u64, 0, 0, 0, 0, 0];
    p!(create(0, 8, 0), create(at(&attr), 7, 0), create(at(&attr), 0, 0));
    p!(create(at(&attr), 4097, 0));
    p!(create(at(&attr), 8, 0).ok(), create(at(&attr), 12, 0).ok(), create(at(&attr), 48, 0).ok());
    p!(create(at(&[1u64, 0, 0, 0, 0, 1]), 48, 0), create(DANGLING, 24, 0));
    p!(ruleset(0, 0, 0), ruleset(1 << 40, 0, 0), ruleset(0, 1 << 40, 0), ruleset(0, 0, 1 << 40));
    p!(ruleset(0, BIND, 0).ok(), ruleset(0, 0, SIGNAL).ok(), ruleset(EVERY, 3, 3).ok());
    let set = ruleset(READ_FILE, 0, 0);
    p!(fcntl(set, F_GETFD, 0), fcntl(set, F_GETFL, 0).0 & 3, rd(set, 8), wr(set, "x"));
    p!(sc!(SYS_lseek, set, 0, 0), sc!(SYS_fsync, set), ioctl(set, 0x5401, 0u64));
    p!(readlink(&fd_link(set.fd()), 64).text());
}

fn adding_rules() {
    tree();
    let set = ruleset(READ_FILE | READ_DIR | TRUNCATE, BIND, 0).fd();
    let (dir, file) = (open(c"a", O_PATH, 0).fd(), open(c"f", O_RDONLY, 0).fd());
    p!(path_rule(set, dir, 0), path_rule(set, dir, WRITE_FILE), path_rule(set, dir, 1 << 40));
    p!(
        path_rule(set, dir, READ_DIR),
        path_rule(set, dir, READ_FILE),
        path_rule(set, file, READ_DIR)
    );
    p!(path_rule(set, file, READ_FILE | TRUNCATE), path_rule(set, 999, READ_FILE));
    p!(path_rule(set, -100, READ_FILE), path_rule(set, set, READ_FILE));
    p!(path_rule(set, pipe(0)[0], READ_FILE), path_rule(set, pair(SOCK_STREAM)[0], READ_FILE));
    let memory = sc!(SYS_memfd_create, c"m", 0).fd();
    let namespace = open(c"/proc/self/ns/uts", O_RDONLY, 0).fd();
    p!(path_rule(set, memory, READ_FILE), path_rule(set, namespace, READ_FILE));
    p!(path_rule(999, dir, READ_FILE), path_rule(dir, dir, READ_FILE), path_rule(file, dir, 1));
    let add = |kind: u32, attr: u64, flags: u32| sc!(SYS_landlock_add_rule, set, kind, attr, flags);
    p!(add(1, 0, 0), add(1, DANGLING, 0), add(2, 0, 0), add(0, 0, 0), add(3, 0, 0), add(1, 0, 1));
    p!(port_rule(set, 80, BIND), port_rule(set, 80, CONNECT), port_rule(set, 80, 0));
    p!(port_rule(set, 65535, BIND), port_rule(set, 65536, BIND), port_rule(set, 0, BIND));
}

fn restricting_oneself() {
    let set = ruleset(READ_FILE, 0, 0).fd();
    p!(sc!(SYS_landlock_restrict_self, 999, 0), sc!(SYS_landlock_restrict_self, 0, 0).ok());
    p!(sc!(SYS_landlock_restrict_self, set, 1u32 << 31), sc!(SYS_landlock_restrict_self, -1, 0));
    p!(run(|| {
        let uid = fresh_uid();
        p!(sc!(SYS_setresuid, uid, uid, uid));
        p!(restrict(set), restrict(999), sc!(SYS_landlock_restrict_self, set, 1u32 << 31));
        p!(prctl(PR_SET_NO_NEW_PRIVS, 1), restrict(set), restrict(999));
        0
    }));
    p!(run(|| {
        let mut layers = 0;
        let last = loop {
            let done = restrict(set);
            if !done.ok() {
                break done;
            }
            layers += 1;
        };
        p!(layers, last);
        0
    }));
}

fn opening_files() {
    tree();
    p!(run(|| {
        confine(
            READ_FILE | WRITE_FILE | READ_DIR,
            &[(c"a", READ_FILE), (c"b", READ_FILE | READ_DIR)],
        );
        p!(opened(c"a/f", O_RDONLY), opened(c"a/in/f", O_RDONLY), opened(c"a/f", O_WRONLY));
        p!(opened(c"a/f", O_RDWR), opened(c"a/f", O_PATH), opened(c"a", O_RDONLY));
        p!(opened(c"b", O_RDONLY | O_DIRECTORY), opened(c"b/in", O_RDONLY), opened(c".", O_RDONLY));
        p!(opened(c"f", O_RDONLY), opened(c"none", O_RDONLY), opened(c"a/none", O_RDONLY));
        p!(opened(c"f", O_PATH), stat(c"f").ret, access(c"f", R_OK | W_OK), chmod(c"f", 0o600));
        p!(
            chdir(c"a"),
            opened(c"f", O_RDONLY),
            opened(c"../f", O_RDONLY),
            opened(c"../b/f", O_RDONLY)
        );
        p!(opened(c"new", O_CREAT | O_WRONLY), stat(c"new").ret);
        0
    }));
    p!(stat(c"a/new").ret);
}

fn descriptors_from_before_stay() {
    tree();
    p!(run(|| {
        let (file, dir) = (open(c"f", O_RDWR, 0).fd(), open(c"a", O_RDONLY, 0).fd());
        confine(EVERY, &[]);
        p!(rd(file, 4).text(), wr(file, "x"), ftruncate(file, 2), opened(c"f", O_RDONLY));
        p!(outcome(openat(dir, c"f", O_RDONLY, 0)));
        let memory = sc!(SYS_memfd_create, c"m", 0).fd();
        p!(ftruncate(memory, 100), wr(memory, "x"));
        let again = fd_link(memory);
        p!(opened(&again, O_RDWR), opened(&again, O_RDWR | O_TRUNC));
        0
    }));
}

fn files_by_themselves() {
    tree();
    link(c"f", c"other");
    p!(run(|| {
        confine(READ_FILE | WRITE_FILE, &[(c"f", READ_FILE)]);
        p!(opened(c"f", O_RDONLY), opened(c"other", O_RDONLY), opened(c"a/f", O_RDONLY));
        p!(rename(c"f", c"moved"), opened(c"moved", O_RDONLY), opened(c"moved", O_WRONLY));
        0
    }));
}

fn layers_all_must_agree() {
    tree();
    p!(run(|| {
        confine(READ_FILE | WRITE_FILE, &[(c"a", READ_FILE | WRITE_FILE), (c"b", READ_FILE)]);
        p!(opened(c"a/f", O_RDWR), opened(c"b/f", O_RDONLY), opened(c"f", O_RDONLY));
        confine(READ_FILE, &[(c"a/in", READ_FILE), (c"f", READ_FILE)]);
        p!(opened(c"a/f", O_RDONLY), opened(c"a/in/f", O_RDWR), opened(c"a/f", O_WRONLY));
        p!(opened(c"b/f", O_RDONLY), opened(c"f", O_RDONLY));
        p!(run(|| i32::from(open(c"a/f", O_RDONLY, 0).ok())));
        0
    }));
    p!(opened(c"a/f", O_RDWR));
}

fn a_rule_set_can_grow_afterwards() {
    tree();
    p!(run(|| {
        let set = ruleset(READ_FILE, 0, 0).fd();
        p!(restrict(set), opened(c"f", O_RDONLY), beneath(set, c"f", READ_FILE));
        p!(opened(c"f", O_RDONLY), restrict(set), opened(c"f", O_RDONLY));
        0
    }));
}

fn making_and_removing() {
    tree();
    p!(run(|| {
        let make = MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM;
        confine(make | REMOVE_DIR | REMOVE_FILE, &[(c"a", make), (c"b", REMOVE_DIR | REMOVE_FILE)]);
        p!(
            mkdir(c"a/d", 0o755),
            mkdir(c"b/d", 0o755),
            mkdir(c"b/f", 0o755),
            mkdir(c"b/x/y", 0o755)
        );
        p!(symlink(c"t", c"a/l"), symlink(c"t", c"b/l"), symlink(c"t", c"b/f"));
        let node = |path: &CStr, mode: u32| sc!(SYS_mknod, path, mode | 0o644, 0);
        p!(node(c"a/fifo", S_IFIFO), node(c"b/fifo", S_IFIFO), node(c"a/reg", S_IFREG));
        p!(node(c"b/reg", S_IFREG));
        p!(opened(c"a/new", O_CREAT | O_RDWR), opened(c"b/new", O_CREAT | O_RDWR));
        p!(opened(c"b/f", O_CREAT | O_RDWR), opened(c"b/f", O_CREAT | O_EXCL | O_RDWR));
        p!(bind(socket(SOCK_STREAM), "a/sock"), bind(socket(SOCK_STREAM), "b/sock"));
        p!(opened(c"b", O_TMPFILE | O_RDWR), opened(c".", O_TMPFILE | O_RDWR));
        p!(unlink(c"a/f"), unlink(c"b/f"), unlink(c"b/in"), unlink(c"a/in"), unlink(c"a/none"));
        p!(rmdir(c"a/in"), rmdir(c"b/in"), rmdir(c"a/f"), rmdir(c"b/none"), unlink(c"b/in/f"));
        p!(rmdir(c"b/in"), rmdir(c"a/none"));
        0
    }));
    p!(list(c"a"), list(c"b"));
}

fn links_and_renames_within_a_directory() {
    tree();
    p!(run(|| {
        confine(MAKE_REG | REMOVE_FILE, &[(c"a", MAKE_REG | REMOVE_FILE), (c"b", MAKE_REG)]);
        p!(
            link(c"a/f", c"a/l"),
            rename(c"a/l", c"a/m"),
            rename(c"a/m", c"a/f"),
            rename(c"a/in", c"a/out")
        );
        p!(
            link(c"b/f", c"b/l"),
            rename(c"b/l", c"b/m"),
            link(c"b/in", c"b/d"),
            link(c"b/f", c"b/f")
        );
        p!(link(c"f", c"g"), rename(c"f", c"g"), rename(c"none", c"g"));
        0
    }));
    p!(list(c"a"), list(c"b"), list(c"."));
}

fn going_to_other_directories() {
    tree();
    p!(run(|| {
        // Without REFER among the handled rights nothing changes directories.
        confine(READ_FILE, &[(c".", READ_FILE)]);
        p!(
            link(c"a/f", c"b/l"),
            rename(c"a/f", c"b/m"),
            rename(c"a/f", c"a/g"),
            rename(c"a/g", c"a/f")
        );
        0
    }));
    p!(run(|| {
        let all = REFER | MAKE_REG | REMOVE_FILE | MAKE_DIR | REMOVE_DIR;
        confine(all | EXECUTE, &[(c"a", all), (c"b", all | EXECUTE)]);
        // What is beneath `b` may be executed: nothing may get there to gain that.
        p!(link(c"a/f", c"b/l"), rename(c"a/f", c"b/m"), rename(c"a/in", c"b/d"));
        p!(link(c"b/f", c"a/l"), rename(c"b/f", c"a/m"), rename(c"b/in", c"a/d"));
        p!(
            rename(c"a/f", c"f"),
            rename(c"f", c"a/n"),
            link(c"f", c"a/n"),
            rename(c"a/f", c"a/in/g")
        );
        0
    }));
    p!(list(c"a"), list(c"b"), list(c"."));
}

fn exchanging() {
    tree();
    let exchange = |a: &CStr, b: &CStr| sc!(SYS_renameat2, -100, a, -100, b, 2);
    p!(run(|| {
        let all = REFER | MAKE_REG | REMOVE_FILE | MAKE_DIR | REMOVE_DIR;
        confine(all | EXECUTE | READ_DIR, &[(c"a", all), (c"b", all), (c"b/in", EXECUTE)]);
        p!(exchange(c"a/f", c"b/f"), exchange(c"a/f", c"b/in/f"), exchange(c"a/in", c"b/in"));
        p!(exchange(c"a/f", c"a/in"), exchange(c"a/f", c"f"), exchange(c"a/f", c"none"));
        0
    }));
    p!(list(c"a"), list(c"b"));
}

fn truncating() {
    tree();
    p!(run(|| {
        let before = open(c"f", O_RDWR, 0).fd();
        confine(
            TRUNCATE | WRITE_FILE | READ_FILE,
            &[(c"a", WRITE_FILE | READ_FILE), (c"b", TRUNCATE | WRITE_FILE)],
        );
        let truncate = |path: &CStr| sc!(SYS_truncate, path, 3);
        p!(truncate(c"a/f"), truncate(c"b/f"), truncate(c"f"), truncate(c"a"), truncate(c"none"));
        p!(opened(c"a/f", O_WRONLY | O_TRUNC), opened(c"b/f", O_WRONLY | O_TRUNC));
        p!(opened(c"a/f", O_RDONLY | O_TRUNC), opened(c"b/f", O_RDONLY | O_TRUNC));
        p!(opened(c"a/new", O_CREAT | O_WRONLY | O_TRUNC), opened(c"a/new", O_CREAT | O_WRONLY));
        let (a, b) = (open(c"a/f", O_WRONLY, 0), open(c"b/f", O_WRONLY, 0));
        p!(
            ftruncate(a, 1),
            ftruncate(b, 1),
            ftruncate(before, 1),
            ftruncate(open(c"a/f", O_RDONLY, 0), 1)
        );
        p!(sc!(SYS_fallocate, a, 0, 0, 100), wr(a, "more"));
        0
    }));
    p!(get(c"a/f"), stat(c"b/f").st.st_size);
}

fn commands_to_devices() {
    p!(run(|| {
        let before = open(c"/dev/zero", O_RDWR, 0);
        confine(IOCTL_DEV, &[(c"/dev/full", IOCTL_DEV)]);
        let (null, full) = (open(c"/dev/zero", O_RDWR, 0), open(c"/dev/full", O_RDWR, 0));
        let terminal = 0x5401u64;
        p!(ioctl(before, terminal, 0u64), ioctl(null, terminal, 0u64), ioctl(full, terminal, 0u64));
        let mut off = 0u32;
        p!(
            ioctl(null, 0x5421, at_mut(&mut off)),
            ioctl(null, 0x5451, 0u64),
            ioctl(null, 0x5450, 0u64)
        );
        p!(ioctl(null, 0x541b, at_mut(&mut off)), ioctl(null, 0x5460, at_mut(&mut off)));
        put(c"file", "x");
        p!(ioctl(open(c"file", O_RDONLY, 0), 0x541b, at_mut(&mut off)), off);
        p!(ioctl(pipe(0)[0], 0x541b, at_mut(&mut off)));
        0
    }));
}

fn executing() {
    let me = me();
    p!(run(|| {
        confine(EXECUTE, &[(&me, EXECUTE)]);
        p!(helper(&["exit", "7"]), exec(c"/bin/true", &["true"], &[]));
        0
    }));
    p!(run(|| {
        confine(EXECUTE | READ_FILE, &[(&me, READ_FILE)]);
        p!(exec(&me, &["x"], &[]));
        0
    }));
    p!(run(|| {
        confine(EXECUTE | READ_FILE, &[(&me, EXECUTE)]);
        p!(exec(&me, &["x"], &[]));
        0
    }));
}

fn the_mount_tree_stays() {
    p!(run(|| {
        p!(sc!(SYS_unshare, CLONE_NEWNS), mkdir(c"m", 0o755));
        confine(READ_FILE, &[]);
        let mount = |flags: u64| sc!(SYS_mount, c"none", c"m", c"tmpfs", flags, 0u64);
        p!(mount(0), mount(MS_BIND), mount(MS_PRIVATE), mount(MS_REMOUNT));
        p!(sc!(SYS_mount, c"none", c"nowhere", c"tmpfs", 0, 0u64));
        p!(
            sc!(SYS_umount2, c"m", 0),
            sc!(SYS_umount2, c"/proc", 0),
            sc!(SYS_pivot_root, c"m", c"m")
        );
        p!(sc!(SYS_chroot, c"m"));
        0
    }));
    p!(run(|| {
        let set = ruleset(0, BIND, 0).fd();
        p!(sc!(SYS_unshare, CLONE_NEWNS), mkdir(c"n", 0o755), restrict(set));
        p!(sc!(SYS_mount, c"none", c"n", c"tmpfs", 0, 0u64), sc!(SYS_umount2, c"n", 0));
        0
    }));
}

fn mount_points_are_seen_through() {
    tree();
    p!(run(|| {
        p!(
            sc!(SYS_unshare, CLONE_NEWNS),
            sc!(SYS_mount, c"x", c"/", 0u64, MS_REC | MS_PRIVATE, 0u64)
        );
        p!(sc!(SYS_mount, c"none", c"a/in", c"tmpfs", 0, 0u64));
        p!(sc!(SYS_mount, c"b", c"a/in", 0u64, MS_BIND, 0u64));
        put(c"b/g", "g");
        confine(READ_FILE, &[(c"a", READ_FILE)]);
        p!(opened(c"a/in/g", O_RDONLY), opened(c"b/g", O_RDONLY), opened(c"a/f", O_RDONLY));
        0
    }));
}

fn pseudo_file_systems() {
    p!(run(|| {
        confine(READ_FILE | READ_DIR, &[(c"/proc/self", READ_FILE), (c"/proc/sys", READ_DIR)]);
        p!(opened(c"/proc/self/status", O_RDONLY), opened(c"/proc/self/task", O_RDONLY));
        p!(opened(c"/proc/version", O_RDONLY), opened(c"/proc/sys", O_RDONLY));
        p!(opened(c"/proc/sys/kernel", O_RDONLY), opened(c"/proc/sys/kernel/ostype", O_RDONLY));
        p!(opened(c"/proc/self/ns/uts", O_RDONLY));
        0
    }));
}

fn ports() {
    let (_open, port) = listener("127.0.0.1", 4);
    let free = closed_port();
    p!(run(|| {
        let set = ruleset(0, BIND | CONNECT, 0).fd();
        p!(port_rule(set, u64::from(port), CONNECT), port_rule(set, u64::from(free), BIND));
        let bound_before = socket4(SOCK_STREAM);
        p!(restrict(set));
        let tcp = || socket4(SOCK_STREAM);
        p!(connect_to(tcp(), "127.0.0.1", port), connect_to(tcp(), "127.0.0.1", free));
        p!(connect_to(bound_before, "127.0.0.1", free));
        p!(
            bind_to(tcp(), "127.0.0.1", free),
            bind_to(tcp(), "127.0.0.1", port),
            bind_to(tcp(), "127.0.0.1", 0)
        );
        p!(bind_to(socket6(SOCK_STREAM), "::1", 0), connect_to(socket6(SOCK_STREAM), "::1", free));
        p!(
            bind_to(socket4(SOCK_DGRAM), "127.0.0.1", 0),
            connect_to(socket4(SOCK_DGRAM), "127.0.0.1", free)
        );
        let raw = |fd: i32, nr: i32, family: u16, len: usize, last: u8| {
            let mut addr = vec![0u8; 28];
            addr[..2].copy_from_slice(&family.to_le_bytes());
            addr[7] = last;
            if nr == 0 {
                sc!(SYS_bind, fd, addr.as_slice(), len)
            } else {
                sc!(SYS_connect, fd, addr.as_slice(), len)
            }
        };
        p!(
            raw(tcp(), 0, 0, 16, 0),
            raw(tcp(), 0, 0, 16, 1),
            raw(tcp(), 0, 0, 8, 0),
            raw(tcp(), 0, 2, 8, 0)
        );
        p!(
            raw(tcp(), 1, 0, 16, 0),
            raw(tcp(), 1, 2, 1, 0),
            raw(tcp(), 1, 2, 8, 0),
            raw(tcp(), 1, 1, 16, 0)
        );
        p!(
            raw(tcp(), 0, 10, 28, 0),
            raw(tcp(), 0, 10, 20, 0),
            raw(socket6(SOCK_STREAM), 0, 2, 16, 0)
        );
        p!(bind(socket(SOCK_STREAM), "@landlock-ports").ok());
        p!(run(|| connect_to(tcp(), "127.0.0.1", free).errno()));
        0
    }));
}

fn abstract_names() {
    let name = format!("@landlock-{}", getpid());
    let outside = server(SOCK_STREAM, &name);
    let outside_dgram = socket(SOCK_DGRAM);
    let dgram_name = format!("{name}-d");
    p!(outside >= 0, bind(outside_dgram, &dgram_name));
    let by_path = server(SOCK_STREAM, "path");
    let connected = socket(SOCK_DGRAM);
    p!(by_path >= 0, connect(connected, &dgram_name));
    p!(run(|| {
        let set = ruleset(0, 0, ABSTRACT).fd();
        p!(
            restrict(set),
            connect(socket(SOCK_STREAM), &name),
            connect(socket(SOCK_STREAM), "path")
        );
        p!(
            connect(socket(SOCK_DGRAM), &dgram_name),
            sendto(socket(SOCK_DGRAM), "x", 0, &dgram_name)
        );
        p!(send(connected, "x", 0), sendto(connected, "x", 0, &dgram_name));
        let own = format!("{name}-own");
        let own_fd = server(SOCK_STREAM, &own);
        p!(own_fd >= 0, connect(socket(SOCK_STREAM), &own));
        // A further layer without the scope does not matter; one with it shuts this layer out.
        p!(run(|| {
            p!(restrict(ruleset(READ_FILE, 0, 0).fd()), connect(socket(SOCK_STREAM), &own));
            p!(restrict(set), connect(socket(SOCK_STREAM), &own));
            0
        }));
        0
    }));
}

fn signals_stay_inside() {
    let outside = child(|| {
        sc!(SYS_pause);
        0
    });
    let parent = getpid();
    p!(run(|| {
        let set = ruleset(0, 0, SIGNAL).fd();
        let sibling = child(|| {
            sc!(SYS_pause);
            0
        });
        p!(
            restrict(set),
            kill(outside, 0),
            kill(outside, SIGKILL),
            kill(parent, 0),
            kill(getpid(), 0)
        );
        p!(kill(sibling, 0), sc!(SYS_tgkill, outside, outside, SIGUSR1), kill(999_999, 0));
        let inside = child(|| {
            sc!(SYS_pause);
            0
        });
        p!(kill(inside, SIGTERM), wait(inside));
        let inner = child(|| {
            restrict(set);
            sc!(SYS_pause);
            0
        });
        p!(kill(inner, SIGKILL), wait(inner));
        p!(run(|| {
            restrict(ruleset(READ_FILE, 0, 0).fd());
            i32::from(kill(getppid(), 0).ok())
        }));
        p!(run(|| {
            restrict(set);
            kill(getppid(), 0).errno()
        }));
        0
    }));
    p!(kill(outside, SIGKILL), wait(outside));
}

fn tracing() {
    let outside = child(|| {
        sc!(SYS_pause);
        0
    });
    let look = |pid: i32| {
        let (mut word, mut local) = (0u64, 0u64);
        let (to, from) = ([at_mut(&mut local), 8], [at_mut(&mut word), 8]);
        sc!(SYS_process_vm_readv, pid, at(&to), 1, at(&from), 1, 0)
    };
    p!(run(|| {
        let set = ruleset(READ_FILE, 0, 0).fd();
        p!(look(outside), restrict(set), look(outside), look(getpid()));
        p!(sc!(SYS_ptrace, PTRACE_ATTACH, outside, 0, 0));
        let inside = child(|| {
            sc!(SYS_pause);
            0
        });
        p!(look(inside), kill(inside, SIGKILL), wait(inside));
        p!(run(|| {
            restrict(set);
            p!(look(getppid()), sc!(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0));
            0
        }));
        0
    }));
    // Who is not restricted may trace whom he likes, and be asked to.
    p!(run(|| {
        p!(restrict(ruleset(READ_FILE, 0, 0).fd()), sc!(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0));
        0
    }));
    p!(kill(outside, SIGKILL), wait(outside));
}

cases![
    making_rule_sets,
    adding_rules,
    restricting_oneself,
    opening_files,
    descriptors_from_before_stay,
    files_by_themselves,
    layers_all_must_agree,
    a_rule_set_can_grow_afterwards,
    making_and_removing,
    links_and_renames_within_a_directory,
    going_to_other_directories,
    exchanging,
    truncating,
    commands_to_devices,
    executing,
    the_mount_tree_stays,
    mount_points_are_seen_through,
    pseudo_file_systems,
    ports,
    abstract_names,
    signals_stay_inside,
    tracing,
];
