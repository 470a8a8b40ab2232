//! Mounts: bind mounts, flags, propagation, moving, `pivot_root`, mount namespaces.

use crate::prelude::*;
use crate::sys::Ret;

fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> Ret {
    sc!(SYS_mount, source, target, kind, flags, data)
}
fn tmpfs(at: &CStr) -> Ret {
    mount(c"none", at, c"tmpfs", 0, c"")
}
fn bind(from: &CStr, to: &CStr) -> Ret {
    mount(from, to, c"", MS_BIND, c"")
}
fn umount(at: &CStr) -> Ret {
    sc!(SYS_umount2, at, 0)
}
fn propagate(at: &CStr, flags: u64) -> Ret {
    mount(c"", at, c"", flags, c"")
}

/// A mount namespace of its own, in which nothing propagates to the one outside, with a tmpfs `t` as the
/// working directory.
fn own(f: impl FnOnce()) {
    p!(run(|| {
        ok!(sc!(SYS_unshare, CLONE_NEWNS), propagate(c"/", MS_REC | MS_PRIVATE));
        ok!(mkdir(c"t", 0o755), tmpfs(c"t"), chdir(c"t"));
        f();
        0
    }));
}

fn dirs(names: &[&CStr]) {
    for name in names {
        mkdir(*name, 0o755);
    }
}

/// What `mountinfo` says of a mount below the working directory, with names for its peer groups.
fn info(name: &str) {
    let text = get(c"/proc/self/mountinfo").text();
    let here = getcwd(4096).text();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let at = fields.get(4).copied().unwrap_or("");
        if at.strip_prefix(&*here).is_some_and(|rest| rest == name) {
            let kind = line.split(" - ").nth(1).and_then(|r| r.split(' ').next()).unwrap_or("");
            let tags: Vec<String> = fields[6..]
                .iter()
                .take_while(|f| **f != "-")
                .map(|f| f.split(':').next().unwrap_or("").to_string())
                .collect();
            let root = fields[3].split('[').next().unwrap_or("");
            say!("{name}: root {root} options {} {tags:?} {kind}", fields[5]);
        }
    }
}

fn mount_and_unmount() {
    own(|| {
        dirs(&[c"a"]);
        p!(put(c"a/under", "u"), tmpfs(c"a"), stat(c"a/under").ret, put(c"a/over", "o"));
        info("/a");
        p!(rmdir(c"a"), umount(c"a"), get(c"a/under"), stat(c"a/over").ret, umount(c"a"));
    });
}

fn mount_errors() {
    own(|| {
        dirs(&[c"a"]);
        put(c"f", "");
        p!(mount(c"none", c"a", c"nosuchfs", 0, c""), mount(c"none", c"gone", c"tmpfs", 0, c""));
        p!(tmpfs(c"f"), bind(c"f", c"a"), bind(c"a", c"f"), bind(c"gone", c"a"));
        p!(
            mount(c"none", c"a", c"tmpfs", 0, c"size=x"),
            mount(c"none", c"a", c"tmpfs", 0, c"nope")
        );
        p!(umount(c"a"), umount(c"gone"), sc!(SYS_umount2, c"a", 0x100), sc!(SYS_umount2, c"a", 5));
        p!(propagate(c"a", MS_SHARED), propagate(c".", MS_SHARED | MS_PRIVATE));
        p!(propagate(c".", MS_SHARED | MS_RDONLY), mount(c"", c"a", c"", MS_REMOUNT, c""));
        p!(mount(c"a", c"a", c"", MS_MOVE, c""));
        p!(
            sc!(SYS_mount, 1u64, c"a", c"tmpfs", 0, 0u64),
            sc!(SYS_mount, c"x", 1u64, c"tmpfs", 0, 0u64)
        );
        p!(sc!(SYS_mount, c"x", c"a", 1u64, 0, 0u64));
    });
}

fn bind_files_and_directories() {
    own(|| {
        dirs(&[c"a", c"b", c"a/sub"]);
        put(c"a/f", "data");
        put(c"b/g", "target");
        p!(bind(c"a", c"b"), get(c"b/f"), stat(c"b/g").ret, put(c"b/new", "n"), get(c"a/new"));
        info("/b");
        p!(umount(c"b"), get(c"b/g"), bind(c"a/f", c"b/g"), get(c"b/g"));
        info("/b/g");
        p!(unlink(c"b/g"), rename(c"b/g", c"b/h"), umount(c"b/g"), unlink(c"b/g"));
        p!(bind(c"a/sub", c"b"), rmdir(c"a/sub"), list(c"b"), umount(c"b"));
    });
}

fn recursive_binds() {
    own(|| {
        dirs(&[c"a", c"b", c"c", c"a/m"]);
        tmpfs(c"a/m");
        put(c"a/m/deep", "d");
        p!(bind(c"a", c"b"), stat(c"b/m/deep").ret);
        p!(mount(c"a", c"c", c"", MS_BIND | MS_REC, c""), get(c"c/m/deep"));
        p!(umount(c"c"), sc!(SYS_umount2, c"c", MNT_DETACH), stat(c"c/m").ret, get(c"a/m/deep"));
    });
}

fn busy_mounts() {
    own(|| {
        dirs(&[c"a"]);
        tmpfs(c"a");
        let fd = open(c"a/f", O_CREAT | O_RDWR, 0o600);
        p!(umount(c"a"), sc!(SYS_umount2, c"a", MNT_DETACH), wr(fd, "still"), pread(fd, 9, 0));
        p!(stat(c"a/f").ret, close(fd));
        tmpfs(c"a");
        dirs(&[c"a/d"]);
        chdir(c"a/d");
        p!(umount(c"../../a"), chdir(c"../.."), umount(c"a"));
    });
}

fn stacked_mounts() {
    own(|| {
        dirs(&[c"a"]);
        for n in ["1", "2", "3"] {
            p!(tmpfs(c"a"));
            let name = CString::new(format!("a/{n}")).unwrap_or_default();
            put(&name, n);
        }
        p!(
            list(c"a"),
            umount(c"a"),
            list(c"a"),
            umount(c"a"),
            list(c"a"),
            umount(c"a"),
            list(c"a")
        );
    });
}

fn flags_of_mounts() {
    own(|| {
        dirs(&[c"a", c"b"]);
        p!(mount(c"none", c"a", c"tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME, c""));
        info("/a");
        p!(bind(c"a", c"b"));
        info("/b");
        p!(mount(c"", c"b", c"", MS_REMOUNT | MS_BIND | MS_RDONLY, c""));
        info("/b");
        info("/a");
        p!(
            put(c"b/f", "x"),
            mkdir(c"b/d", 0o755),
            put(c"a/f", "x"),
            unlink(c"b/f"),
            chmod(c"b/f", 0)
        );
        p!(open(c"b/f", O_RDWR, 0), access(c"b/f", W_OK), get(c"b/f"));
        p!(mount(c"", c"b", c"", MS_REMOUNT | MS_BIND, c""), put(c"b/f", "y"));
        info("/b");
        p!(mount(c"none", c"b", c"tmpfs", MS_STRICTATIME, c""));
        info("/b");
        p!(mount(c"none", c"b", c"tmpfs", MS_NODIRATIME, c""));
        info("/b");
    });
}

fn noexec_and_nosymfollow() {
    own(|| {
        dirs(&[c"a"]);
        p!(mount(c"none", c"a", c"tmpfs", MS_NOEXEC, c""));
        put(c"a/run", "#!/bin/sh\nexit 3\n");
        chmod(c"a/run", 0o755);
        p!(run(|| {
            p!(sc!(SYS_execve, c"a/run", 0u64, 0u64));
            0
        }));
        p!(symlink(c"run", c"a/link"), get(c"a/link").bytes().len());
        p!(mount(c"", c"a", c"", MS_REMOUNT | MS_BIND | 256, c""), get(c"a/link"));
        p!(readlink(c"a/link", 10), lstat(c"a/link").ret);
    });
}

fn moving_mounts() {
    own(|| {
        dirs(&[c"a", c"b"]);
        tmpfs(c"a");
        dirs(&[c"a/in"]);
        put(c"a/f", "x");
        p!(mount(c"a", c"a/in", c"", MS_MOVE, c""), mount(c"a", c"b", c"", MS_MOVE, c""));
        p!(list(c"a"), get(c"b/f"), mount(c"b/in", c"a", c"", MS_MOVE, c""));
        put(c"file", "");
        p!(mount(c"b", c"file", c"", MS_MOVE, c""), umount(c"b"));
    });
}

fn shared_mounts_propagate() {
    own(|| {
        dirs(&[c"a", c"b", c"c"]);
        tmpfs(c"a");
        p!(propagate(c"a", MS_SHARED), bind(c"a", c"b"), mkdir(c"a/m", 0o755));
        info("/a");
        info("/b");
        p!(tmpfs(c"a/m"), put(c"a/m/f", "x"), get(c"b/m/f"));
        info("/a/m");
        info("/b/m");
        p!(umount(c"b/m"), stat(c"a/m/f").ret);
        p!(propagate(c"b", MS_SLAVE));
        info("/b");
        p!(tmpfs(c"a/m"), put(c"a/m/f", "y"), get(c"b/m/f"));
        info("/b/m");
        p!(mkdir(c"b/n", 0o755), tmpfs(c"b/n"), put(c"b/n/f", "z"), stat(c"a/n/f").ret);
        p!(umount(c"a/m"), stat(c"b/m/f").ret);
    });
}

fn slaves_that_share() {
    own(|| {
        dirs(&[c"a", c"b", c"c"]);
        tmpfs(c"a");
        dirs(&[c"a/m"]);
        p!(propagate(c"a", MS_SHARED), bind(c"a", c"b"), propagate(c"b", MS_SLAVE));
        p!(propagate(c"b", MS_SHARED), bind(c"b", c"c"));
        info("/b");
        info("/c");
        p!(tmpfs(c"a/m"), put(c"a/m/f", "x"), get(c"b/m/f"), get(c"c/m/f"));
        info("/b/m");
        info("/c/m");
        p!(propagate(c"a", MS_PRIVATE));
        info("/b");
        p!(umount(c"b/m"), stat(c"c/m/f").ret, get(c"a/m/f"));
    });
}

fn private_and_unbindable() {
    own(|| {
        dirs(&[c"a", c"b", c"c"]);
        tmpfs(c"a");
        p!(propagate(c"a", MS_UNBINDABLE));
        info("/a");
        p!(bind(c"a", c"b"), dirs_in_a(), mount(c".", c"b", c"", MS_BIND | MS_REC, c""));
        p!(list(c"b"), list(c"b/a"), sc!(SYS_umount2, c"b", MNT_DETACH));
        p!(propagate(c"a", MS_PRIVATE), bind(c"a", c"b"), list(c"b"));
        p!(propagate(c"a", MS_SLAVE));
        info("/a");
    });
}

fn dirs_in_a() -> Ret {
    mkdir(c"a/x", 0o755)
}

fn recursive_propagation_types() {
    own(|| {
        dirs(&[c"a"]);
        tmpfs(c"a");
        dirs(&[c"a/b"]);
        tmpfs(c"a/b");
        p!(propagate(c"a", MS_REC | MS_SHARED));
        info("/a");
        info("/a/b");
        p!(propagate(c"a", MS_PRIVATE));
        info("/a");
        info("/a/b");
        p!(mount(c"a/b", c"a", c"", MS_MOVE, c""));
    });
}

fn moving_out_of_shared_mounts() {
    own(|| {
        dirs(&[c"a", c"b"]);
        tmpfs(c"a");
        dirs(&[c"a/m"]);
        propagate(c"a", MS_SHARED);
        tmpfs(c"a/m");
        p!(mount(c"a/m", c"b", c"", MS_MOVE, c""), propagate(c"a", MS_PRIVATE));
        p!(mount(c"a/m", c"b", c"", MS_MOVE, c""));
    });
}

fn namespaces_are_copies() {
    own(|| {
        dirs(&[c"a", c"b"]);
        tmpfs(c"a");
        put(c"a/f", "x");
        p!(run(|| {
            p!(sc!(SYS_unshare, CLONE_NEWNS), get(c"a/f"), umount(c"a"), tmpfs(c"b"));
            put(c"b/g", "");
            0
        }));
        p!(get(c"a/f"), stat(c"b/g").ret);
        propagate(c"a", MS_SHARED);
        dirs(&[c"a/m"]);
        let [r, w] = pipe(0);
        let [r2, w2] = pipe(0);
        let other = child(|| {
            sc!(SYS_unshare, CLONE_NEWNS);
            wr(w, "x");
            rd(r2, 1);
            p!(stat(c"a/m/from-outside").ret);
            0
        });
        rd(r, 1);
        tmpfs(c"a/m");
        put(c"a/m/from-outside", "");
        wr(w2, "x");
        p!(wait(other));
    });
}

fn entering_a_mount_namespace() {
    own(|| {
        dirs(&[c"a"]);
        let [r, w] = pipe(0);
        let [r2, w2] = pipe(0);
        let other = child(|| {
            sc!(SYS_unshare, CLONE_NEWNS);
            tmpfs(c"a");
            put(c"a/inside", "i");
            wr(w, "x");
            rd(r2, 1);
            0
        });
        rd(r, 1);
        let here = getcwd(4096).text();
        let path = CString::new(format!("/proc/{other}/ns/mnt")).unwrap_or_default();
        let fd = open(&path, O_RDONLY, 0);
        p!(stat(c"a/inside").ret, sc!(SYS_setns, fd, CLONE_NEWNS), getcwd(4096));
        let inside = CString::new(format!("{here}/a/inside")).unwrap_or_default();
        p!(get(&inside));
        wr(w2, "x");
        p!(wait(other));
    });
}

fn pivoting_the_root() {
    own(|| {
        dirs(&[c"new"]);
        tmpfs(c"new");
        dirs(&[c"new/old", c"plain"]);
        put(c"new/file", "in the new root");
        p!(sc!(SYS_pivot_root, c"plain", c"plain"), sc!(SYS_pivot_root, c"new", c"plain"));
        p!(sc!(SYS_pivot_root, c"new", c"new/file"), sc!(SYS_pivot_root, c"gone", c"new/old"));
        p!(run(|| {
            propagate(c"new", MS_SHARED);
            p!(sc!(SYS_pivot_root, c"new", c"new/old"));
            propagate(c"new", MS_PRIVATE);
            0
        }));
        p!(chdir(c"new"), sc!(SYS_pivot_root, c".", c"old"), chdir(c"/"), get(c"/file"));
        p!(
            stat(c"/old/proc").ret,
            sc!(SYS_umount2, c"/old", MNT_DETACH),
            list(c"/old"),
            list(c"/")
        );
    });
}

fn pivoting_onto_oneself() {
    own(|| {
        dirs(&[c"new"]);
        tmpfs(c"new");
        put(c"new/file", "x");
        p!(chdir(c"new"), sc!(SYS_pivot_root, c".", c"."), sc!(SYS_umount2, c".", MNT_DETACH));
        p!(chdir(c"/"), list(c"/"));
    });
}

fn chroot_and_mountinfo() {
    own(|| {
        dirs(&[c"r", c"r/m", c"r/p", c"other"]);
        tmpfs(c"r/m");
        tmpfs(c"other");
        p!(mount(c"proc", c"r/p", c"proc", 0, c""), sc!(SYS_chroot, c"r"), chdir(c"/"));
        let text = get(c"/p/self/mountinfo").text();
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            say!("{} {}", fields[3], fields[4]);
        }
        p!(getcwd(100));
    });
}

fn unprivileged_mounts() {
    p!(chmod(c".", 0o777));
    p!(run(|| {
        sc!(SYS_setresgid, 1234, 1234, 1234);
        sc!(SYS_setresuid, 1234, 1234, 1234);
        prctl(PR_SET_DUMPABLE, 1);
        dirs(&[c"a", c"b"]);
        p!(tmpfs(c"a"), bind(c"a", c"b"), umount(c"a"), sc!(SYS_pivot_root, c"a", c"b"));
        p!(sc!(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS), put_map());
        p!(tmpfs(c"a"), bind(c"a", c"b"), stat(c"a"), put(c"a/f", ""), stat(c"a/f"));
        p!(mount(c"none", c"b", c"devtmpfs", 0, c""), mount(c"none", c"b", c"proc", 0, c""));
        p!(
            mount(c"none", c"b", c"tmpfs", 0, c"uid=5"),
            mount(c"none", c"b", c"tmpfs", 0, c"uid=0")
        );
        p!(umount(c"/proc"), sc!(SYS_umount2, c"/proc", MNT_DETACH));
        p!(mount(c"", c"/proc", c"", MS_REMOUNT, c""));
        0
    }));
}

fn put_map() -> Ret {
    let fd = open(c"/proc/self/uid_map", O_WRONLY, 0);
    wr(fd, "0 1234 1")
}

fn locked_flags() {
    own(|| {
        dirs(&[c"a", c"b"]);
        p!(mount(c"none", c"a", c"tmpfs", MS_NODEV | MS_NOSUID | MS_RDONLY, c""));
        p!(run(|| {
            p!(sc!(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS));
            p!(mount(c"", c"a", c"", MS_REMOUNT | MS_BIND, c""));
            p!(mount(c"", c"a", c"", MS_REMOUNT | MS_BIND | MS_NODEV | MS_NOSUID, c""));
            p!(mount(c"", c"a", c"", MS_REMOUNT | MS_BIND | MS_NODEV | MS_NOSUID | MS_RDONLY, c""));
            p!(mount(
                c"",
                c"a",
                c"",
                MS_REMOUNT | MS_BIND | MS_NODEV | MS_NOSUID | MS_RDONLY | MS_NOATIME,
                c""
            ));
            p!(mount(
                c"",
                c"a",
                c"",
                MS_REMOUNT | MS_BIND | MS_NODEV | MS_NOSUID | MS_RDONLY | MS_NOEXEC,
                c""
            ));
            p!(bind(c"a", c"b"), mount(c"", c"b", c"", MS_REMOUNT | MS_BIND, c""), umount(c"b"));
            p!(bind(c".", c"b"), mount(c".", c"b", c"", MS_BIND | MS_REC, c""));
            p!(umount(c"b/a"), sc!(SYS_umount2, c"b", MNT_DETACH));
            0
        }));
    });
}

/// What hides a lower file in an overlay is no device that one needs a privilege for.
fn whiteouts_of_users() {
    own(|| {
        ok!(chmod(c".", 0o777), sc!(SYS_setresgid, 5, 5, 5), sc!(SYS_setresuid, 5, 5, 5));
        let node = |name: &CStr, mode: u32, dev: u64| sc!(SYS_mknod, name, mode | 0o644, dev);
        p!(node(c"w", S_IFCHR, 0), node(c"b", S_IFBLK, 0), node(c"n", S_IFCHR, 0x103));
        p!(stat(c"w"), stat(c"w").st.st_rdev, open(c"w", O_RDONLY, 0), unlink(c"w"));
        let re = |flags: u32| sc!(SYS_renameat2, CWD, c"f", CWD, c"g", flags);
        p!(put(c"f", "x"), re(6), re(4), get(c"g"), stat(c"f"), stat(c"f").st.st_rdev);
    });
}

fn namespace_files_can_be_bound() {
    own(|| {
        put(c"ns", "");
        p!(run(|| {
            p!(sc!(SYS_unshare, CLONE_NEWUTS), sc!(SYS_sethostname, c"bound", 5));
            p!(bind(c"/proc/self/ns/uts", c"ns"));
            0
        }));
        info("/ns");
        let fd = open(c"ns", O_RDONLY, 0);
        p!(sc!(SYS_setns, fd, CLONE_NEWUTS), get(c"/proc/sys/kernel/hostname"), close(fd));
        p!(bind(c"/proc/self/ns/mnt", c"ns"), umount(c"ns"), umount(c"ns"));
    });
}

fn mounts_hide_from_parents() {
    own(|| {
        dirs(&[c"a", c"a/b"]);
        tmpfs(c"a/b");
        p!(rmdir(c"a/b"), rename(c"a/b", c"a/c"), rename(c"a", c"z"), list(c"z/b"));
        p!(stat(c"z/b/..").st.st_ino == stat(c"z").st.st_ino);
        p!(stat(c"z/b").st.st_dev == stat(c"z").st.st_dev);
        put(c"z/f", "");
        p!(link(c"z/f", c"z/b/f"), rename(c"z/f", c"z/b/f"));
    });
}

cases![
    mount_and_unmount,
    mount_errors,
    bind_files_and_directories,
    recursive_binds,
    busy_mounts,
    stacked_mounts,
    flags_of_mounts,
    noexec_and_nosymfollow,
    moving_mounts,
    shared_mounts_propagate,
    slaves_that_share,
    private_and_unbindable,
    recursive_propagation_types,
    moving_out_of_shared_mounts,
    namespaces_are_copies,
    entering_a_mount_namespace,
    pivoting_the_root,
    pivoting_onto_oneself,
    chroot_and_mountinfo,
    unprivileged_mounts,
    locked_flags,
    whiteouts_of_users,
    namespace_files_can_be_bound,
    mounts_hide_from_parents,
];
