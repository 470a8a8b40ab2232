//! Namespaces: user, pid, uts, ipc, time, cgroup, net; `unshare`, `setns`, `clone3`, `/proc/PID/ns`.

use crate::helper::{caps, ids};
use crate::prelude::*;
use crate::sys::Ret;

const NS_GET_USERNS: u64 = 0xb701;
const NS_GET_PARENT: u64 = 0xb702;
const NS_GET_NSTYPE: u64 = 0xb703;
const NS_GET_OWNER_UID: u64 = 0xb704;
const CLONE_NEWTIME: i32 = 0x80;

fn unshare(flags: i32) -> Ret {
    sc!(SYS_unshare, flags)
}

fn write_to(path: &CStr, text: &str) -> Ret {
    let fd = open(path, O_WRONLY, 0);
    if !fd.ok() {
        return fd;
    }
    let ret = wr(fd, text);
    close(fd);
    ret
}

/// Becomes an ordinary user, who is not traceable for a reason of its own.
fn user(uid: u32) {
    sc!(SYS_setgroups, 0, 0u64);
    sc!(SYS_setresgid, uid, uid, uid);
    sc!(SYS_setresuid, uid, uid, uid);
    prctl(PR_SET_DUMPABLE, 1);
}

fn ns(name: &str) -> String {
    let path = CString::new(format!("/proc/self/ns/{name}")).unwrap_or_default();
    readlink(&path, 64).text()
}

const ALL: [&str; 10] = [
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

fn links_have_the_form_of_linux() {
    for name in ALL {
        let text = ns(name);
        let (kind, rest) = text.split_once(':').unwrap_or(("", ""));
        let digits = rest.trim_matches(['[', ']']);
        say!("{name}: {kind} {}", !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
    }
    p!(readlink(c"/proc/self/ns/nothing", 64));
    p!(sc!(SYS_unlink, c"/proc/self/ns/uts"));
}

fn link_and_file_agree() {
    for name in ["uts", "user", "pid"] {
        let path = CString::new(format!("/proc/self/ns/{name}")).unwrap_or_default();
        let st = stat(&path);
        p!(ns(name).contains(&st.st.st_ino.to_string()), st.st.st_mode & 0o7777, st.st.st_nlink);
        let fd = open(&path, O_RDONLY, 0);
        p!(fstat(fd).st.st_ino == st.st.st_ino);
        p!(rd(fd, 10), wr(fd, "x"), open(&path, O_RDWR, 0).errno() != 0);
        let link = CString::new(format!("/proc/self/fd/{}", fd.fd())).unwrap_or_default();
        p!(readlink(&link, 64).text() == ns(name));
    }
}

fn namespace_ioctls() {
    for name in ["uts", "ipc", "net", "mnt", "cgroup", "pid", "user", "time"] {
        let path = CString::new(format!("/proc/self/ns/{name}")).unwrap_or_default();
        let fd = open(&path, O_RDONLY, 0);
        say!("{name}: {:#x}", ioctl(fd, NS_GET_NSTYPE, 0).0);
        let owner = ioctl(fd, NS_GET_USERNS, 0);
        let link = CString::new(format!("/proc/self/fd/{}", owner.fd())).unwrap_or_default();
        say!("owner is ours: {}", readlink(&link, 64).text() == ns("user"));
        if name != "pid" && name != "user" {
            p!(ioctl(fd, NS_GET_PARENT, 0));
        }
        let mut uid = 7u32;
        p!(ioctl(fd, NS_GET_OWNER_UID, at_mut(&mut uid)), uid);
        p!(ioctl(fd, 0xb7ff, 0));
    }
}

fn user_namespace_parents() {
    p!(run(|| {
        p!(unshare(CLONE_NEWUSER));
        let fd = open(c"/proc/self/ns/user", O_RDONLY, 0);
        p!(ioctl(fd, NS_GET_PARENT, 0), ioctl(fd, NS_GET_USERNS, 0));
        let mut uid = 7u32;
        p!(ioctl(fd, NS_GET_OWNER_UID, at_mut(&mut uid)), uid);
        p!(unshare(CLONE_NEWUSER));
        p!(ioctl(fd, NS_GET_PARENT, 0));
        0
    }));
    p!(run(|| {
        p!(unshare(CLONE_NEWUSER), write_to(c"/proc/self/uid_map", "0 0 1"));
        let outer = ns("user");
        p!(unshare(CLONE_NEWUSER));
        let fd = open(c"/proc/self/ns/user", O_RDONLY, 0);
        let parent = ioctl(fd, NS_GET_PARENT, 0);
        p!(parent);
        let _ = outer;
        0
    }));
}

fn ids_without_a_map() {
    p!(run(|| {
        p!(unshare(CLONE_NEWUSER));
        ids();
        caps();
        p!(get(c"/proc/self/uid_map"), get(c"/proc/self/gid_map"));
        p!(sc!(SYS_setuid, 0), sc!(SYS_setgid, 0), sc!(SYS_setgroups, 0, 0u64));
        p!(stat(c"/proc"), get(c"/proc/self/setgroups"));
        0
    }));
}

fn root_maps_ranges() {
    p!(run(|| {
        let [r, w] = pipe(0);
        let [r2, w2] = pipe(0);
        let inner = child(|| {
            unshare(CLONE_NEWUSER);
            wr(w, "x");
            rd(r2, 1);
            ids();
            p!(get(c"/proc/self/uid_map"), get(c"/proc/self/gid_map"));
            p!(sc!(SYS_setresuid, 5, 6, 7), sc!(SYS_setresgid, 1, 2, 3));
            p!(sc!(SYS_setuid, 70000), sc!(SYS_setuid, 2000));
            ids();
            0
        });
        rd(r, 1);
        let uid = CString::new(format!("/proc/{inner}/uid_map")).unwrap_or_default();
        let gid = CString::new(format!("/proc/{inner}/gid_map")).unwrap_or_default();
        p!(write_to(&uid, "0 0 1000\n1000 50000 500\n"), write_to(&gid, "0 0 1000"));
        p!(write_to(&uid, "0 0 1"));
        p!(get(&uid));
        wr(w2, "x");
        p!(wait(inner));
        0
    }));
}

fn users_map_only_themselves() {
    p!(run(|| {
        user(1234);
        p!(unshare(CLONE_NEWUSER));
        ids();
        p!(write_to(c"/proc/self/uid_map", "0 0 1"), write_to(c"/proc/self/uid_map", "0 1234 2"));
        p!(write_to(c"/proc/self/gid_map", "0 1234 1"));
        p!(
            write_to(c"/proc/self/uid_map", "0 1234 1"),
            write_to(c"/proc/self/uid_map", "0 1234 1")
        );
        p!(write_to(c"/proc/self/setgroups", "deny"), get(c"/proc/self/setgroups"));
        p!(write_to(c"/proc/self/gid_map", "0 1234 1"), write_to(c"/proc/self/setgroups", "allow"));
        ids();
        p!(sc!(SYS_setgroups, 0, 0u64), sc!(SYS_setuid, 1), sc!(SYS_setuid, 0));
        p!(get(c"/proc/self/uid_map"), get(c"/proc/self/gid_map"));
        caps();
        0
    }));
}

fn malformed_maps() {
    p!(run(|| {
        user(1234);
        unshare(CLONE_NEWUSER);
        for text in [
            "",
            "\n",
            "0",
            "0 1234",
            "0 1234 0",
            "0 1234 1 1",
            "x 1234 1",
            "-1 1234 1",
            "0 4294967295 1",
            "4294967295 1234 1",
            "0 1234 4294967295",
            "0 1234 1\n0 1235 1",
            "0 1234 1\n1 1234 1",
            " 0 1234 1 ",
        ] {
            say!("{:?}: {}", text, write_to(c"/proc/self/uid_map", text));
        }
        0
    }));
}

fn malformed_setgroups() {
    p!(run(|| {
        unshare(CLONE_NEWUSER);
        for text in ["", "x", "allow\n", "deny ", "denyx", "deny\n", "deny", "allow"] {
            say!("{:?}: {}", text, write_to(c"/proc/self/setgroups", text));
        }
        0
    }));
}

fn files_of_other_users() {
    p!(put(c"root", "r"), chmod(c"root", 0o600), put(c"mine", "m"), chown(c"mine", 1234, 1234));
    p!(chmod(c".", 0o777), chmod(c"mine", 0o000));
    p!(run(|| {
        user(1234);
        unshare(CLONE_NEWUSER);
        write_to(c"/proc/self/uid_map", "0 1234 1");
        write_to(c"/proc/self/setgroups", "deny");
        write_to(c"/proc/self/gid_map", "0 1234 1");
        p!(stat(c"root"), stat(c"mine"));
        p!(get(c"root"), get(c"mine"), chmod(c"root", 0o666), chmod(c"mine", 0o600));
        p!(chown(c"mine", 1, 1), chown(c"root", 0, 0), chown(c"mine", 0, 0));
        p!(put(c"new", "n"), stat(c"new"), mkdir(c"dir", 0o755), stat(c"dir"));
        p!(sc!(SYS_mknod, c"dev", S_IFCHR | 0o600, 0x103));
        0
    }));
    p!(stat(c"new"), stat(c"dir"), stat(c"mine"));
}

fn no_power_outside() {
    p!(run(|| {
        user(1234);
        unshare(CLONE_NEWUSER);
        write_to(c"/proc/self/uid_map", "0 1234 1");
        caps();
        p!(sc!(SYS_sethostname, c"x", 1), sc!(SYS_mount, 0u64, c"/", 0u64, MS_PRIVATE, 0u64));
        p!(sc!(SYS_chroot, c"/"), kill(getppid(), 0), kill(1, 0));
        p!(sc!(SYS_setpriority, 0, 0, -5));
        p!(sc!(SYS_clock_settime, CLOCK_REALTIME, at(&[0u64, 0])));
        p!(unshare(CLONE_NEWUTS), sc!(SYS_sethostname, c"x", 1));
        0
    }));
}

fn capabilities_over_a_child_namespace() {
    p!(run(|| {
        let [r, w] = pipe(0);
        let [r2, w2] = pipe(0);
        let inner = child(|| {
            user(1234);
            unshare(CLONE_NEWUSER | CLONE_NEWUTS);
            wr(w, "x");
            rd(r2, 1);
            0
        });
        rd(r, 1);
        let uts = CString::new(format!("/proc/{inner}/ns/uts")).unwrap_or_default();
        let usr = CString::new(format!("/proc/{inner}/ns/user")).unwrap_or_default();
        let (uts, usr) = (open(&uts, O_RDONLY, 0), open(&usr, O_RDONLY, 0));
        p!(run(|| {
            p!(sc!(SYS_setns, uts, 0), sc!(SYS_sethostname, c"abc", 3));
            0
        }));
        p!(run(|| {
            p!(sc!(SYS_setns, usr, CLONE_NEWUTS), sc!(SYS_setns, usr, CLONE_NEWUSER));
            caps();
            p!(sc!(SYS_setns, uts, 0), sc!(SYS_setns, usr, 0));
            0
        }));
        p!(run(|| {
            user(1234);
            p!(sc!(SYS_setns, uts, 0), sc!(SYS_setns, usr, 0));
            caps();
            0
        }));
        p!(run(|| {
            user(4321);
            p!(sc!(SYS_setns, usr, 0));
            0
        }));
        wr(w2, "x");
        p!(wait(inner));
        0
    }));
}

fn unshare_errors() {
    p!(run(|| {
        p!(unshare(0), unshare(CLONE_NEWUSER | CLONE_PARENT), unshare(CLONE_VFORK));
        p!(unshare(CLONE_VM), unshare(CLONE_SIGHAND), unshare(CLONE_THREAD));
        user(1234);
        for flag in [
            CLONE_NEWNS,
            CLONE_NEWUTS,
            CLONE_NEWIPC,
            CLONE_NEWPID,
            CLONE_NEWNET,
            CLONE_NEWCGROUP,
            CLONE_NEWTIME,
        ] {
            p!(unshare(flag));
        }
        0
    }));
}

fn setns_errors() {
    p!(run(|| {
        let file = open(c"f", O_CREAT | O_RDWR, 0o600);
        let uts = open(c"/proc/self/ns/uts", O_RDONLY, 0);
        p!(sc!(SYS_setns, -1, 0), sc!(SYS_setns, file, 0), sc!(SYS_setns, uts, CLONE_NEWIPC));
        p!(sc!(SYS_setns, uts, CLONE_NEWUTS), sc!(SYS_setns, uts, 0));
        let user_ns = open(c"/proc/self/ns/user", O_RDONLY, 0);
        p!(sc!(SYS_setns, user_ns, 0));
        let pidfd = sc!(SYS_pidfd_open, getpid(), 0);
        p!(sc!(SYS_setns, pidfd, 0), sc!(SYS_setns, pidfd, CLONE_VM));
        p!(sc!(SYS_setns, pidfd, CLONE_NEWUTS | CLONE_NEWIPC));
        let pid_ns = open(c"/proc/self/ns/pid", O_RDONLY, 0);
        p!(sc!(SYS_setns, pid_ns, 0));
        user(1234);
        p!(sc!(SYS_setns, uts, 0));
        0
    }));
}

fn pidfd_enters_several() {
    p!(run(|| {
        let [r, w] = pipe(0);
        let [r2, w2] = pipe(0);
        let inner = child(|| {
            unshare(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET);
            sc!(SYS_sethostname, c"inner", 5);
            wr(w, "x");
            rd(r2, 1);
            0
        });
        rd(r, 1);
        let pidfd = sc!(SYS_pidfd_open, inner, 0);
        let before = ns("cgroup");
        p!(sc!(SYS_setns, pidfd, CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET));
        let mut name = zeroed::<utsname>();
        sc!(SYS_uname, at_mut(&mut name));
        p!(name.nodename[0] as u8 as char, name.nodename[5], ns("cgroup") == before);
        for kind in ["uts", "ipc", "net"] {
            let theirs = CString::new(format!("/proc/{inner}/ns/{kind}")).unwrap_or_default();
            p!(readlink(&theirs, 64).text() == ns(kind));
        }
        wr(w2, "x");
        p!(wait(inner));
        0
    }));
}

fn unshared_kinds_differ() {
    for (flag, name) in [
        (CLONE_NEWUTS, "uts"),
        (CLONE_NEWIPC, "ipc"),
        (CLONE_NEWNET, "net"),
        (CLONE_NEWCGROUP, "cgroup"),
        (CLONE_NEWNS, "mnt"),
        (CLONE_NEWUSER, "user"),
    ] {
        p!(run(|| {
            let before: Vec<String> = ALL.iter().map(|name| ns(name)).collect();
            p!(unshare(flag));
            let after: Vec<String> = ALL.iter().map(|name| ns(name)).collect();
            for ((name, a), b) in ALL.iter().zip(before).zip(after) {
                if a != b {
                    say!("changed: {name}");
                }
            }
            let _ = name;
            0
        }));
    }
}

fn host_name_is_ones_own() {
    let mut before = zeroed::<utsname>();
    sc!(SYS_uname, at_mut(&mut before));
    p!(run(|| {
        unshare(CLONE_NEWUTS);
        p!(sc!(SYS_sethostname, c"abcdef", 6), sc!(SYS_setdomainname, c"dom", 3));
        p!(get(c"/proc/sys/kernel/hostname"), get(c"/proc/sys/kernel/domainname"));
        p!(write_to(c"/proc/sys/kernel/hostname", "xyz\n"), get(c"/proc/sys/kernel/hostname"));
        p!(run(|| {
            p!(get(c"/proc/sys/kernel/hostname"));
            0
        }));
        0
    }));
    let mut after = zeroed::<utsname>();
    sc!(SYS_uname, at_mut(&mut after));
    p!(before.nodename == after.nodename);
}

fn first_process_of_a_pid_namespace() {
    p!(run(|| {
        p!(unshare(CLONE_NEWPID));
        p!(ns("pid") == ns("pid_for_children"));
        let first = child(|| {
            p!(getpid(), getppid(), gettid(), sc!(SYS_getpgid, 0), sc!(SYS_getsid, 0));
            p!(sc!(SYS_setsid), sc!(SYS_getpgid, 0));
            p!(run(|| {
                p!(getpid(), getppid(), sc!(SYS_getpgid, 0), kill(1, 0), kill(3, 0));
                0
            }));
            let second = child(|| 3);
            p!(wait(second), second);
            p!(sc!(SYS_clone, CLONE_PARENT | SIGCHLD, 0u64, 0u64, 0u64, 0u64));
            5
        });
        p!(wait(first), first > 1);
        // The namespace died with it.
        p!(sc!(SYS_fork));
        0
    }));
}

fn killed_first_process_takes_those_that_fork_with_it() {
    p!(run(|| {
        unshare(CLONE_NEWPID);
        let ([r, w], [alive, end]) = (pipe(0), pipe(0));
        let first = child(|| {
            close(alive);
            for _ in 0..4 {
                child(|| {
                    wr(w, "x");
                    loop {
                        // Each makes another one, and goes: four at a time, with as many orphans.
                        if sc!(SYS_fork).0 != 0 || child(|| 0) < 0 {
                            exit(0);
                        }
                    }
                });
            }
            loop {
                wait(-1);
            }
        });
        close(end);
        rd(r, 4);
        nap(20);
        p!(kill(first, SIGKILL), wait(first));
        // The last of them is gone before the first one is.
        p!(rd(alive, 1), sc!(SYS_fork));
        0
    }));
}

fn ids_of_children_inside_and_outside() {
    p!(run(|| {
        unshare(CLONE_NEWPID);
        let [r, w] = pipe(0);
        block(&[SIGUSR1]);
        let first = child(|| {
            rd(r, 1);
            let mut set = [0u8; 128];
            let ret = sc!(SYS_rt_sigtimedwait, at(&[bit(SIGUSR1)]), set.as_mut_slice(), 0u64, 8);
            p!(ret, i32::from_ne_bytes([set[16], set[17], set[18], set[19]]));
            0
        });
        block(&[SIGCHLD]);
        wr(w, "x");
        until(|| kill(first, SIGUSR1).ok());
        let mut info = [0u8; 128];
        let ret = sc!(SYS_rt_sigtimedwait, at(&[bit(SIGCHLD)]), info.as_mut_slice(), 0u64, 8);
        p!(ret, i32::from_ne_bytes([info[16], info[17], info[18], info[19]]) == first);
        let waited = waitid(P_PID, first, WEXITED);
        p!(waited.pid == first, waited);
        0
    }));
}

fn owners_of_locks_inside_and_outside() {
    p!(run(|| {
        put(c"f", "0123456789");
        let fd = open(c"f", O_RDWR, 0).fd();
        let lock = |cmd: i32, kind: i32, start: u64| {
            let mut words = [kind as u64, start, 1, 99];
            let ret = sc!(SYS_fcntl, fd, cmd, at_mut(&mut words));
            (ret, words[0] as u16, words[3] as i32)
        };
        let ([r, w], [done, end]) = (pipe(0), pipe(0));
        lock(F_SETLK, F_WRLCK, 0);
        unshare(CLONE_NEWPID);
        let first = child(|| {
            let (ret, kind, pid) = lock(F_GETLK, F_WRLCK, 0);
            p!(ret, kind, pid);
            lock(F_SETLK, F_WRLCK, 5);
            p!(run(|| {
                let (ret, kind, pid) = lock(F_GETLK, F_WRLCK, 5);
                p!(ret, kind, pid);
                0
            }));
            wr(w, "x");
            rd(done, 1);
            0
        });
        rd(r, 1);
        let (ret, kind, pid) = lock(F_GETLK, F_WRLCK, 5);
        p!(ret, kind, pid == first, wr(end, "x"), wait(first));
        0
    }));
}

fn the_first_process_is_immune_inside() {
    p!(run(|| {
        unshare(CLONE_NEWPID);
        let first = child(|| {
            p!(kill(1, SIGTERM), kill(1, SIGKILL), kill(1, SIGSTOP));
            p!(run(|| {
                p!(kill(1, SIGTERM), kill(1, SIGKILL));
                0
            }));
            say!("still there");
            4
        });
        p!(wait(first));
        0
    }));
    p!(run(|| {
        unshare(CLONE_NEWPID);
        let [r, w] = pipe(0);
        let first = child(|| {
            wr(w, "x");
            loop {
                sc!(SYS_pause);
            }
        });
        rd(r, 1);
        p!(kill(first, SIGTERM));
        nap(20);
        p!(wait_opt(first, WNOHANG), kill(first, SIGKILL), wait(first));
        0
    }));
}

fn everything_dies_with_the_first_process() {
    p!(run(|| {
        unshare(CLONE_NEWPID);
        let [r, w] = pipe(0);
        let first = child(|| {
            for _ in 0..3 {
                child(|| {
                    child(|| {
                        loop {
                            sc!(SYS_pause);
                        }
                    });
                    loop {
                        sc!(SYS_pause);
                    }
                });
            }
            0
        });
        close(w);
        p!(wait(first));
        // Every copy of the write end is closed by now.
        p!(rd(r, 1));
        0
    }));
}

fn orphans_go_to_the_first_process() {
    p!(run(|| {
        unshare(CLONE_NEWPID);
        let first = child(|| {
            let [r, w] = pipe(0);
            let [r2, w2] = pipe(0);
            let parent = child(|| {
                child(|| {
                    rd(r2, 1);
                    until(|| getppid() == 1);
                    p!(getppid());
                    wr(w, "x");
                    7
                });
                0
            });
            p!(wait(parent));
            wr(w2, "x");
            rd(r, 1);
            let orphan = wait_opt(-1, 0);
            p!(orphan);
            0
        });
        p!(wait(first));
        0
    }));
}

fn proc_shows_its_namespace() {
    p!(run(|| {
        unshare(CLONE_NEWPID | CLONE_NEWNS);
        p!(sc!(SYS_mount, 0u64, c"/", 0u64, MS_REC | MS_PRIVATE, 0u64), mkdir(c"p", 0o755));
        let first = child(|| {
            p!(sc!(SYS_mount, c"proc", c"p", c"proc", 0u64, 0u64));
            p!(readlink(c"p/self", 20), readlink(c"p/thread-self", 30));
            let sleeper = child(|| {
                loop {
                    sc!(SYS_pause);
                }
            });
            let names: Vec<String> = list(c"p")
                .split_whitespace()
                .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
                .map(String::from)
                .collect();
            say!("{names:?}");
            let status = get(c"p/2/status").text();
            for line in status.lines() {
                if ["Pid", "PPid", "NSpid", "NStgid"].iter().any(|n| line.starts_with(n)) {
                    say!("{line}");
                }
            }
            p!(stat(c"p/3").ret, kill(sleeper, SIGKILL), wait(sleeper));
            p!(stat(c"p/2").ret);
            p!(sc!(SYS_umount2, c"p", 0));
            0
        });
        p!(wait(first));
        0
    }));
}

fn nested_pid_namespaces() {
    p!(run(|| {
        unshare(CLONE_NEWPID);
        let outer = child(|| {
            unshare(CLONE_NEWPID);
            let inner = child(|| {
                p!(getpid(), getppid());
                unshare(CLONE_NEWPID);
                let third = child(|| {
                    p!(getpid(), getppid());
                    0
                });
                p!(wait(third), third);
                0
            });
            p!(wait(inner), inner);
            0
        });
        p!(wait(outer));
        0
    }));
}

fn set_tid_in_namespaces() {
    fn clone3(flags: u64, tids: &[i32]) -> Ret {
        let args = [flags, 0, 0, 0, SIGCHLD as u64, 0, 0, 0, at(tids), tids.len() as u64, 0];
        let ret = sc!(SYS_clone3, at(&args), 88);
        if ret.0 == 0 {
            p!(getpid());
            exit(0);
        }
        ret
    }
    p!(run(|| {
        p!(clone3(0, &[1, 2]).errno(), clone3(0, &[0]).errno(), clone3(0, &[getpid()]).errno());
        p!(clone3(CLONE_NEWPID as u64, &[5]).errno());
        let ret = clone3(CLONE_NEWPID as u64, &[1]);
        p!(wait(ret.fd()), ret.ok());
        unshare(CLONE_NEWPID);
        let first = child(|| {
            let ret = clone3(0, &[77]);
            p!(wait(77), ret);
            p!(clone3(0, &[1]));
            0
        });
        p!(wait(first));
        0
    }));
}

fn threads_and_pid_namespaces() {
    p!(run(|| {
        unshare(CLONE_NEWPID);
        // Threads stay; children would not be in this namespace.
        let flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
        p!(sc!(SYS_clone, flags, 0u64, 0u64, 0u64, 0u64));
        0
    }));
    p!(sc!(SYS_clone, CLONE_NEWPID | CLONE_THREAD | CLONE_VM | CLONE_SIGHAND, 0u64, 0u64, 0u64));
    p!(sc!(SYS_clone, CLONE_NEWUSER | CLONE_FS | SIGCHLD, 0u64, 0u64, 0u64));
    p!(sc!(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD, 0u64, 0u64, 0u64));
}

fn wait_sees_through_namespaces() {
    p!(run(|| {
        let pid = sc!(SYS_clone, CLONE_NEWPID | SIGCHLD, 0u64, 0u64, 0u64, 0u64);
        if pid.0 == 0 {
            p!(getpid());
            exit(9);
        }
        let status = wait_opt(-1, 0);
        p!(pid.0 > 1);
        p!(status.0 == pid, status.code());
        0
    }));
}

fn signals_by_group_in_a_namespace() {
    p!(run(|| {
        unshare(CLONE_NEWPID);
        let first = child(|| {
            catch(SIGUSR1, 0);
            sc!(SYS_setpgid, 0, 0);
            let other = child(|| {
                sc!(SYS_setpgid, 0, 0);
                loop {
                    sc!(SYS_pause);
                }
            });
            p!(sc!(SYS_setpgid, other, other), sc!(SYS_getpgid, other));
            p!(kill(-other, SIGUSR2), wait(other), kill(-other, 0));
            p!(kill(0, SIGUSR1), count(), kill(-1, SIGKILL));
            0
        });
        p!(wait(first));
        0
    }));
}

fn time_offsets() {
    p!(run(|| {
        p!(get(c"/proc/self/timens_offsets"), unshare(CLONE_NEWTIME));
        p!(ns("time") == ns("time_for_children"));
        p!(write_to(c"/proc/self/timens_offsets", "monotonic x 0"));
        p!(write_to(c"/proc/self/timens_offsets", "realtime 5 0"));
        p!(write_to(c"/proc/self/timens_offsets", "monotonic 5 1000000000"));
        p!(write_to(c"/proc/self/timens_offsets", "monotonic -99999999999 0"));
        p!(write_to(c"/proc/self/timens_offsets", "monotonic 100000 0\nboottime 7 5"));
        p!(get(c"/proc/self/timens_offsets"));
        p!(run(|| {
            p!(ns("time") == ns("time_for_children"));
            0
        }));
        p!(write_to(c"/proc/self/timens_offsets", "monotonic 5 0"));
        0
    }));
}

fn a_namespace_outlives_its_processes() {
    p!(run(|| {
        let [r, w] = pipe(0);
        let [r2, w2] = pipe(0);
        let inner = child(|| {
            unshare(CLONE_NEWUTS);
            sc!(SYS_sethostname, c"kept", 4);
            wr(w, "x");
            rd(r2, 1);
            0
        });
        rd(r, 1);
        let path = CString::new(format!("/proc/{inner}/ns/uts")).unwrap_or_default();
        let fd = open(&path, O_RDONLY, 0);
        wr(w2, "x");
        p!(wait(inner), open(&path, O_RDONLY, 0));
        p!(sc!(SYS_setns, fd, 0), get(c"/proc/sys/kernel/hostname"));
        0
    }));
}

fn nesting_is_limited() {
    p!(run(|| {
        let mut depth = 0;
        let error = loop {
            let ret = unshare(CLONE_NEWUSER);
            if !ret.ok() {
                break ret;
            }
            if !write_to(c"/proc/self/uid_map", "0 0 1").ok() {
                break Ret(-1000);
            }
            write_to(c"/proc/self/gid_map", "0 0 1");
            depth += 1;
            if depth > 100 {
                break Ret(0);
            }
        };
        p!(depth, error);
        0
    }));
}

fn user_namespace_needs_the_real_root() {
    p!(run(|| {
        mkdir(c"r", 0o755);
        p!(sc!(SYS_chroot, c"r"), unshare(CLONE_NEWUSER), unshare(CLONE_NEWUTS));
        0
    }));
}

fn shared_memory_by_namespace() {
    p!(run(|| {
        let key = 0x5eed_0001;
        let id = sc!(SYS_shmget, key, 4096, IPC_CREAT | 0o600);
        ok!(id);
        p!(run(|| {
            p!(unshare(CLONE_NEWIPC), sc!(SYS_shmget, key, 4096, 0).errno());
            let own = sc!(SYS_shmget, key, 4096, IPC_CREAT | IPC_EXCL | 0o600);
            p!(own.ok(), sc!(SYS_shmctl, own, IPC_RMID, 0u64));
            0
        }));
        p!(sc!(SYS_shmctl, id, IPC_RMID, 0u64));
        0
    }));
}

fn unix_credentials_in_namespaces() {
    p!(run(|| {
        user(1234);
        let [a, b] = pair(SOCK_STREAM);
        unshare(CLONE_NEWUSER);
        write_to(c"/proc/self/uid_map", "0 1234 1");
        let mut cred = [0u32; 3];
        let mut len = 12u32;
        p!(sc!(SYS_getsockopt, a, SOL_SOCKET, SO_PEERCRED, at_mut(&mut cred), at_mut(&mut len)));
        p!(cred[0] as i32 == getpid(), cred[1], cred[2]);
        close(b);
        0
    }));
}

cases![
    links_have_the_form_of_linux,
    link_and_file_agree,
    namespace_ioctls,
    user_namespace_parents,
    ids_without_a_map,
    root_maps_ranges,
    users_map_only_themselves,
    malformed_maps,
    malformed_setgroups,
    files_of_other_users,
    no_power_outside,
    capabilities_over_a_child_namespace,
    unshare_errors,
    setns_errors,
    pidfd_enters_several,
    unshared_kinds_differ,
    host_name_is_ones_own,
    first_process_of_a_pid_namespace,
    killed_first_process_takes_those_that_fork_with_it,
    ids_of_children_inside_and_outside,
    owners_of_locks_inside_and_outside,
    the_first_process_is_immune_inside,
    everything_dies_with_the_first_process,
    orphans_go_to_the_first_process,
    proc_shows_its_namespace,
    nested_pid_namespaces,
    set_tid_in_namespaces,
    threads_and_pid_namespaces,
    wait_sees_through_namespaces,
    signals_by_group_in_a_namespace,
    time_offsets,
    a_namespace_outlives_its_processes,
    nesting_is_limited,
    user_namespace_needs_the_real_root,
    shared_memory_by_namespace,
    unix_credentials_in_namespaces,
];
