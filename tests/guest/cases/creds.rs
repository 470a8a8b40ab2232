//! User and group ids, capabilities, and what ordinary users may not do.

use crate::helper::{caps, ids};
use crate::prelude::*;

fn become_user(uid: u32) {
    sc!(SYS_setgroups, 0, 0u64);
    sc!(SYS_setresgid, uid, uid, uid);
    sc!(SYS_setresuid, uid, uid, uid);
}
fn as_user(uid: u32, f: impl FnOnce()) {
    p!(run(|| {
        become_user(uid);
        f();
        0
    }));
}

fn root_ids() {
    sc!(SYS_setgroups, 0, 0u64);
    ids();
    p!(sc!(SYS_getuid), sc!(SYS_geteuid), sc!(SYS_getgid), sc!(SYS_getegid));
}

fn setuid_as_root_sets_all() {
    p!(run(|| {
        p!(sc!(SYS_setuid, 1000), sc!(SYS_setuid, 0));
        ids();
        0
    }));
    p!(run(|| {
        p!(sc!(SYS_setgid, 1000), sc!(SYS_setgid, 0));
        ids();
        0
    }));
}

fn setuid_as_a_user() {
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1001, 1002);
        p!(sc!(SYS_setuid, 1003), sc!(SYS_setuid, 1002));
        ids();
        p!(sc!(SYS_setuid, 1000), sc!(SYS_setuid, 1001));
        ids();
        0
    }));
}

fn setreuid_rules() {
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1001, 1002);
        p!(sc!(SYS_setreuid, u32::MAX, 1000), sc!(SYS_setreuid, 1000, 1002));
        p!(sc!(SYS_setreuid, 5, u32::MAX));
        ids();
        0
    }));
    p!(run(|| {
        p!(sc!(SYS_setreuid, 7, 8));
        ids();
        p!(sc!(SYS_setregid, 7, 8));
        ids();
        0
    }));
}

fn setresuid_rules() {
    p!(run(|| {
        p!(sc!(SYS_setresuid, 10, 11, 12), sc!(SYS_setresuid, 12, u32::MAX, 10));
        p!(sc!(SYS_setresuid, 13, u32::MAX, u32::MAX));
        ids();
        p!(sc!(SYS_getresuid, 8u64, 8u64, 8u64), sc!(SYS_setresgid, 5, 5, 5));
        0
    }));
}

fn groups() {
    p!(sc!(SYS_setgroups, 3, at(&[30u32, 10, 20])));
    ids();
    let mut buf = [0u32; 2];
    p!(sc!(SYS_getgroups, 0, 0u64), sc!(SYS_getgroups, 2, at_mut(&mut buf)));
    p!(sc!(SYS_getgroups, -1, 0u64), sc!(SYS_getgroups, 3, 8u64));
    p!(sc!(SYS_setgroups, 65_537, at(&buf)), sc!(SYS_setgroups, 1, 8u64));
    as_user(1000, || {
        p!(sc!(SYS_setgroups, 0, 0u64));
    });
}

fn setfsuid_returns_the_old_one() {
    p!(sc!(SYS_setfsuid, 1000), sc!(SYS_setfsuid, u32::MAX), sc!(SYS_setfsgid, 1000));
    p!(sc!(SYS_setfsgid, u32::MAX));
    put(c"f", "");
    chmod(c"f", 0o600);
    chmod(c".", 0o755);
    chown(c"f", 1, 1);
    p!(open(c"f", O_RDONLY, 0), sc!(SYS_setfsuid, 0), open(c"f", O_RDONLY, 0).ok());
}

fn new_files_belong_to_the_file_system_ids() {
    chmod(c".", 0o777);
    p!(run(|| {
        sc!(SYS_setresgid, 0, 2000, 0);
        sc!(SYS_setresuid, 0, 1000, 0);
        p!(put(c"f", ""), stat(c"f"), mkdir(c"d", 0o755), stat(c"d"));
        0
    }));
}

fn capabilities_of_root() {
    let header = [0x2008_0522u32, 0];
    let mut data = [0u32; 6];
    p!(sc!(SYS_capget, at(&header), at_mut(&mut data)), data[0] == data[1], data[2]);
    p!(data[0] & 0xff);
}

fn capabilities_after_dropping_root() {
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        caps();
        0
    }));
    p!(run(|| {
        sc!(SYS_setresuid, u32::MAX, 1000, u32::MAX);
        caps();
        sc!(SYS_setresuid, u32::MAX, 0, u32::MAX);
        caps();
        0
    }));
}

fn keep_capabilities() {
    p!(run(|| {
        p!(prctl(PR_GET_KEEPCAPS, 0), prctl(PR_SET_KEEPCAPS, 1), prctl(PR_SET_KEEPCAPS, 2));
        sc!(SYS_setresuid, 1000, 1000, 1000);
        caps();
        p!(exec_helper(&["caps"]));
        0
    }));
}

fn set(effective: u32, permitted: u32, inheritable: u32) -> Ret {
    let header = [0x2008_0522u32, 0];
    sc!(SYS_capset, at(&header), at(&[effective, permitted, inheritable, 0u32, 0, 0]))
}

fn capset_rules() {
    p!(run(|| {
        p!(set(1, 1, 1));
        caps();
        p!(set(3, 1, 0), set(0, 3, 0), set(0, 1, 2), set(0, 1, 0));
        caps();
        p!(set(1, 1, 0), set(0, 0, 0), set(1, 1, 0));
        0
    }));
}

fn capability_header_versions() {
    let mut data = [0u32; 6];
    let mut header = [0u32, 0];
    p!(sc!(SYS_capget, at_mut(&mut header), at_mut(&mut data)), header[0] == 0x2008_0522);
    header = [0, 0];
    p!(sc!(SYS_capget, at_mut(&mut header), 0u64), sc!(SYS_capget, 8u64, 0u64));
    header = [0x1998_0330, 0];
    p!(sc!(SYS_capget, at_mut(&mut header), at_mut(&mut data)));
    p!(sc!(SYS_capget, at(&[0x2008_0522u32, 0]), 8u64));
    p!(sc!(SYS_capget, at(&[0x2008_0522u32, 0x7fff_fff0]), at_mut(&mut data)));
    p!(sc!(SYS_capget, at(&[0x2008_0522u32, u32::MAX]), at_mut(&mut data)));
    p!(sc!(SYS_capset, at(&[0x2008_0522u32, 1]), at(&[0u32; 6])));
    p!(sc!(SYS_capset, at(&[0x2008_0522u32, 0]), 8u64));
}

fn bounding_set() {
    p!(run(|| {
        p!(prctl(PR_CAPBSET_READ, 0), prctl(PR_CAPBSET_DROP, 0), prctl(PR_CAPBSET_READ, 0));
        p!(prctl(PR_CAPBSET_READ, 99));
        p!(exec_helper(&["caps"]));
        0
    }));
    as_user(1000, || {
        p!(prctl(PR_CAPBSET_DROP, 1));
    });
}

fn ambient_set() {
    const AMBIENT: i32 = PR_CAP_AMBIENT;
    let ambient = |op: i32, cap: i32| sc!(SYS_prctl, AMBIENT, op, cap, 0, 0);
    p!(run(|| {
        p!(ambient(PR_CAP_AMBIENT_RAISE, 0), set(1, 1, 1));
        p!(ambient(PR_CAP_AMBIENT_RAISE, 0));
        p!(ambient(PR_CAP_AMBIENT_IS_SET, 0), prctl(PR_SET_KEEPCAPS, 1));
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(ambient(PR_CAP_AMBIENT_IS_SET, 0), exec_helper(&["caps"]));
        0
    }));
    p!(ambient(99, 0), ambient(PR_CAP_AMBIENT_IS_SET, 99), ambient(PR_CAP_AMBIENT_CLEAR_ALL, 0));
    p!(ambient(PR_CAP_AMBIENT_CLEAR_ALL, 1));
}

fn exec_as_a_user_has_no_capabilities() {
    p!(run(|| {
        become_user(1000);
        exec_helper(&["caps"]).errno()
    }));
    p!(helper(&["ids"]));
}

fn secure_bits() {
    p!(run(|| {
        p!(prctl(PR_GET_SECUREBITS, 0), prctl(PR_SET_SECUREBITS, 1), prctl(PR_GET_SECUREBITS, 0));
        p!(prctl(PR_SET_SECUREBITS, 1 << 20));
        p!(exec_helper(&["caps"]));
        0
    }));
    as_user(1000, || {
        p!(prctl(PR_SET_SECUREBITS, 1));
    });
}

fn copy_of_me(mode: u32, uid: u32, gid: u32) {
    let from = open(&me(), O_RDONLY, 0);
    let to = open(c"copy", O_CREAT | O_WRONLY, 0o755);
    while sc!(SYS_sendfile, to, from, 0u64, 1 << 24).0 > 0 {}
    close(to);
    chown(c"copy", uid, gid);
    chmod(c"copy", mode);
    chmod(c".", 0o755);
}

fn set_user_id_programs() {
    copy_of_me(0o4755, 2000, 0);
    p!(run(|| {
        become_user(1000);
        exec(c"copy", &["x", "helper", "ids"], &[]).errno()
    }));
    chown(c"copy", 0, 3000);
    chmod(c"copy", 0o6755);
    p!(run(|| {
        become_user(1000);
        exec(c"copy", &["x", "helper", "ids"], &[]).errno()
    }));
    p!(run(|| {
        become_user(1000);
        exec(c"copy", &["x", "helper", "caps"], &[]).errno()
    }));
}

fn no_new_privileges() {
    copy_of_me(0o6755, 0, 0);
    p!(run(|| {
        become_user(1000);
        p!(prctl(PR_GET_NO_NEW_PRIVS, 0), prctl(PR_SET_NO_NEW_PRIVS, 1));
        p!(prctl(PR_GET_NO_NEW_PRIVS, 0), prctl(PR_SET_NO_NEW_PRIVS, 0));
        exec(c"copy", &["x", "helper", "ids"], &[]).errno()
    }));
}

fn set_id_bits_without_execute_permission_for_the_group() {
    copy_of_me(0o2745, 0, 3000);
    p!(run(|| {
        become_user(1000);
        exec(c"copy", &["x", "helper", "ids"], &[]).errno()
    }));
}

fn dumpable_flag() {
    p!(prctl(PR_GET_DUMPABLE, 0), prctl(PR_SET_DUMPABLE, 0), prctl(PR_GET_DUMPABLE, 0));
    p!(prctl(PR_SET_DUMPABLE, 2), prctl(PR_SET_DUMPABLE, 1));
    as_user(1000, || {
        p!(prctl(PR_GET_DUMPABLE, 0) != Ret(1));
    });
}

fn what_users_may_not_do() {
    put(c"f", "");
    mkdir(c"d", 0o755);
    as_user(1000, || {
        p!(sc!(SYS_chroot, c"d"), sc!(SYS_mount, c"none", c"d", c"tmpfs", 0u64, 0u64));
        p!(sc!(SYS_umount2, c"/", 0));
        p!(sc!(SYS_sethostname, c"x", 1), sc!(SYS_setdomainname, c"x", 1));
        p!(sc!(SYS_reboot, 0, 0, 0, 0u64));
        p!(sc!(SYS_mknod, c"/tmp/conformance-node", S_IFCHR | 0o600, 0x103u64));
        p!(sc!(SYS_unshare, CLONE_NEWNS), sc!(SYS_swapoff, c"x"));
        p!(sc!(SYS_clock_settime, CLOCK_REALTIME, at(&[0i64, 0])), sc!(SYS_setpriority, 0, 0, -5));
        p!(sc!(SYS_setresuid, 0, 0, 0));
        p!(sc!(SYS_init_module, 0u64, 0, 0u64), sc!(SYS_pivot_root, c"d", c"d"), sc!(SYS_iopl, 3));
        p!(sc!(SYS_ioperm, 0, 1, 1));
    });
}

fn priorities() {
    let nice = |pid: i32| sc!(SYS_getpriority, PRIO_PROCESS, pid);
    p!(sc!(SYS_setpriority, PRIO_PROCESS, 0, 5), nice(0));
    p!(sc!(SYS_setpriority, PRIO_PROCESS, 0, 100), nice(0));
    p!(sc!(SYS_setpriority, PRIO_PROCESS, 0, 0), nice(0), sc!(SYS_getpriority, 9, 0));
    p!(nice(0x7fff_fff0), sc!(SYS_setpriority, 0, 0x7fff_fff0, 1));
    as_user(fresh_uid(), || {
        p!(sc!(SYS_setpriority, PRIO_PROCESS, 0, 3), sc!(SYS_setpriority, PRIO_PROCESS, 0, 1));
        p!(nice(0));
        p!(sc!(SYS_setpriority, PRIO_PROCESS, getppid(), 3), sc!(SYS_getpriority, PRIO_USER, 0));
    });
}

fn umask_is_per_process() {
    p!(sc!(SYS_umask, 0o1777), sc!(SYS_umask, 0o027));
    p!(run(|| {
        p!(sc!(SYS_umask, 0));
        0
    }));
    p!(sc!(SYS_umask, 0o022));
}

fn ownership_in_proc_follows_the_user() {
    p!(run(|| {
        become_user(1000);
        p!(get(c"/proc/self/comm").0.is_ok(), stat(c"/proc/self/status").st.st_uid);
        0
    }));
}

cases![
    root_ids,
    setuid_as_root_sets_all,
    setuid_as_a_user,
    setreuid_rules,
    setresuid_rules,
    groups,
    setfsuid_returns_the_old_one,
    new_files_belong_to_the_file_system_ids,
    capabilities_of_root,
    capabilities_after_dropping_root,
    keep_capabilities,
    capset_rules,
    capability_header_versions,
    bounding_set,
    ambient_set,
    exec_as_a_user_has_no_capabilities,
    secure_bits,
    set_user_id_programs,
    no_new_privileges,
    set_id_bits_without_execute_permission_for_the_group,
    dumpable_flag,
    what_users_may_not_do,
    priorities,
    umask_is_per_process,
    ownership_in_proc_follows_the_user,
];
