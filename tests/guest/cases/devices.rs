//! Device nodes, randomness, and facts about the system and the scheduler.

use crate::prelude::*;

fn null() {
    let fd = open(c"/dev/null", O_RDWR, 0).fd();
    p!(wr(fd, "gone"), rd(fd, 10), lseek(fd, 100, SEEK_SET), lseek(fd, 0, SEEK_END));
    p!(stat(c"/dev/null").st.st_rdev, fstat(fd).st.st_mode & S_IFMT == S_IFCHR);
    p!(ftruncate(fd, 0), open(c"/dev/null", O_WRONLY | O_TRUNC | O_CREAT, 0o644).ok());
    p!(pwrite(fd, "x", 500), mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
}

fn zero() {
    let fd = open(c"/dev/zero", O_RDWR, 0).fd();
    let mut buf = [7u8; 100];
    p!(sc!(SYS_read, fd, &mut buf, 100), buf == [0; 100], wr(fd, "gone"), pread(fd, 3, 1 << 40));
    p!(sc!(SYS_read, fd, 8u64, 4), stat(c"/dev/zero").st.st_rdev);
}

fn full() {
    let fd = open(c"/dev/full", O_RDWR, 0).fd();
    p!(wr(fd, "x"), rd(fd, 3), wr(fd, ""), stat(c"/dev/full").st.st_rdev);
}

fn random_devices() {
    for path in [c"/dev/random", c"/dev/urandom"] {
        let fd = open(path, O_RDWR, 0).fd();
        let (a, b) = (rd(fd, 32), rd(fd, 32));
        p!(a.bytes().len(), a != b, rd(fd, 1 << 16).bytes().len(), wr(fd, "entropy"));
        p!(poll(&[(fd, POLLIN | POLLOUT)], 0), stat(path).st.st_rdev);
    }
}

fn getrandom() {
    let mut buf = [0u8; 64];
    p!(sc!(SYS_getrandom, &mut buf, 64, 0), buf != [0; 64]);
    p!(sc!(SYS_getrandom, &mut buf, 5, GRND_NONBLOCK), sc!(SYS_getrandom, &mut buf, 0, 0));
    p!(sc!(SYS_getrandom, &mut buf, 64, 8), sc!(SYS_getrandom, &mut buf, 64, 6));
    p!(sc!(SYS_getrandom, 8u64, 4, 0), sc!(SYS_getrandom, &mut buf, 64, GRND_RANDOM));
}

fn standard_links() {
    for path in [c"/dev/fd", c"/dev/stdin", c"/dev/stdout", c"/dev/stderr"] {
        p!(readlink(path, 100));
    }
    put(c"f", "by number");
    open(c"f", O_RDONLY, 0);
    p!(get(c"/dev/fd/3"), access(c"/dev/fd/99", F_OK));
}

fn shared_memory_directory() {
    let name = CString::new(format!("/dev/shm/conformance-{}", getpid())).unwrap_or_default();
    p!(stat(c"/dev/shm").st.st_mode & 0o7777 == 0o1777, put(&name, "shared"), get(&name));
    p!(unlink(&name));
}

fn full_device_numbers_by_mknod() {
    p!(sc!(SYS_mknod, c"null", S_IFCHR | 0o666, 0x103u64), stat(c"null").st.st_rdev);
}

fn uname_is_linux() {
    let mut u: utsname = zeroed();
    p!(sc!(SYS_uname, at_mut(&mut u)));
    let part = |a: &[c_char]| {
        a.iter().take_while(|&&c| c != 0).map(|&c| c as u8 as char).collect::<String>()
    };
    p!(part(&u.sysname), part(&u.machine));
    p!(part(&u.release).split('.').next().is_some_and(|m| m.parse::<u32>().is_ok_and(|n| n >= 4)));
    p!(sc!(SYS_uname, 8u64));
}

fn host_and_domain_names() {
    p!(run(|| {
        p!(sc!(SYS_unshare, CLONE_NEWUTS), sc!(SYS_sethostname, c"new-name", 8));
        p!(sc!(SYS_setdomainname, c"dom", 3));
        let mut u: utsname = zeroed();
        sc!(SYS_uname, at_mut(&mut u));
        p!(u.nodename
            .iter()
            .take_while(|&&c| c != 0)
            .map(|&c| c as u8 as char)
            .collect::<String>());
        p!(sc!(SYS_sethostname, c"x", 65));
        p!(sc!(SYS_sethostname, 8u64, 3), get(c"/proc/sys/kernel/hostname"));
        0
    }));
}

fn sysinfo() {
    let mut info = [0u64; 14];
    p!(
        sc!(SYS_sysinfo, at_mut(&mut info)),
        info[0] < 1 << 40,
        info[4] > 1 << 20,
        info[5] <= info[4]
    );
    p!(sc!(SYS_sysinfo, 8u64), info[13] as u32);
}

fn affinity() {
    let mut mask = [0u64; 16];
    let n = sc!(SYS_sched_getaffinity, 0, 128, at_mut(&mut mask));
    p!(n.0 > 0 && n.0 % 8 == 0, mask.iter().map(|m| m.count_ones()).sum::<u32>() > 0);
    p!(sc!(SYS_sched_getaffinity, 0, 7, at_mut(&mut mask)));
    let first = 1u64 << mask[0].trailing_zeros();
    p!(sc!(SYS_sched_setaffinity, 0, 8, at(&first)));
    p!(sc!(SYS_sched_getaffinity, 0, 128, at_mut(&mut mask)).ok(), mask[0] == first);
    p!(run(|| {
        sc!(SYS_sched_getaffinity, 0, 128, at_mut(&mut mask));
        i32::from(mask[0] != first)
    }));
    p!(sc!(SYS_sched_setaffinity, 0, 8, at(&0u64)), sc!(SYS_sched_setaffinity, 0, 8, 8u64));
    p!(sc!(SYS_sched_getaffinity, 0x7fff_fff0, 128, at_mut(&mut mask)));
    p!(sc!(SYS_sched_setaffinity, 0x7fff_fff0, 8, at(&first)));
    p!(sc!(SYS_sched_getaffinity, 0, 128, 8u64));
}

fn getcpu_respects_affinity() {
    let mut mask = [0u64; 16];
    sc!(SYS_sched_getaffinity, 0, 128, at_mut(&mut mask));
    let cpu = mask[0].trailing_zeros();
    let mut now = u32::MAX;
    p!(sc!(SYS_sched_setaffinity, 0, 8, at(&(1u64 << cpu))));
    p!(sc!(SYS_getcpu, at_mut(&mut now), 0u64, 0u64), now == cpu);
}

fn scheduling_policies() {
    let mut param = 9i32;
    p!(sc!(SYS_sched_getscheduler, 0), sc!(SYS_sched_getparam, 0, at_mut(&mut param)), param);
    p!(sc!(SYS_sched_setscheduler, 0, SCHED_BATCH, at(&0i32)));
    p!(sc!(SYS_sched_getscheduler, 0), sc!(SYS_sched_setscheduler, 0, SCHED_OTHER, at(&1i32)));
    p!(sc!(SYS_sched_setscheduler, 0, 99, at(&0i32)));
    p!(sc!(SYS_sched_get_priority_max, SCHED_FIFO), sc!(SYS_sched_get_priority_min, SCHED_RR));
    p!(sc!(SYS_sched_get_priority_max, SCHED_OTHER), sc!(SYS_sched_get_priority_max, 99));
    p!(sc!(SYS_sched_getscheduler, 0x7fff_fff0), sc!(SYS_sched_getscheduler, -1));
    p!(sc!(SYS_sched_setparam, 0, at(&0i32)), sc!(SYS_sched_setparam, 0, at(&5i32)));
    p!(sc!(SYS_sched_getparam, 0, 0u64));
    let mut span = [9i64; 2];
    p!(sc!(SYS_sched_rr_get_interval, 0, at_mut(&mut span)));
    p!(sc!(SYS_sched_rr_get_interval, 0x7fff_fff0, at_mut(&mut span)));
}

fn scheduling_attributes() {
    let mut attr = [0u32; 14];
    p!(sc!(SYS_sched_getattr, 0, at_mut(&mut attr), 56, 0), attr[0], attr[1], attr[4] as i32);
    p!(attr[5]);
    p!(sc!(SYS_sched_getattr, 0, at_mut(&mut attr), 10, 0));
    p!(sc!(SYS_sched_getattr, 0, at_mut(&mut attr), 56, 1), sc!(SYS_sched_setattr, 0, 0u64, 0));
}

fn io_priorities() {
    p!(sc!(SYS_ioprio_get, 1, 0).ok(), sc!(SYS_ioprio_set, 1, 0, 2 << 13 | 5));
    p!(sc!(SYS_ioprio_get, 1, 0), sc!(SYS_ioprio_set, 1, 0, 7 << 13), sc!(SYS_ioprio_get, 9, 0));
    p!(
        sc!(SYS_ioprio_set, 1, 0, 0),
        sc!(SYS_ioprio_get, 1, 0),
        sc!(SYS_ioprio_get, 3, fresh_uid())
    );
}

fn personality_and_prctl_basics() {
    p!(sc!(SYS_personality, 0xffff_ffffu32), prctl(9999, 0), prctl(PR_GET_TIMERSLACK, 0));
    p!(prctl(PR_SET_TIMERSLACK, 1000), prctl(PR_GET_TIMERSLACK, 0));
    p!(run(|| {
        p!(prctl(PR_SET_TIMERSLACK, 7), prctl(PR_SET_TIMERSLACK, 0), prctl(PR_GET_TIMERSLACK, 0));
        0
    }));
    p!(prctl(PR_GET_TSC, 8u64), prctl(PR_SET_DUMPABLE, 9), prctl(PR_GET_SECCOMP, 0));
    p!(prctl(PR_GET_THP_DISABLE, 0), prctl(PR_SET_VMA, 99));
}

fn seccomp_strict_and_filter() {
    p!(run(|| {
        let ret = prctl(PR_SET_SECCOMP, 1);
        wr(1, if ret.ok() { "strict\n" } else { "refused\n" });
        sc!(SYS_getpid);
        0
    }));
    // Refuse getppid with EPERM, allow the rest: load nr; compare; two returns.
    let filter = |action: u32| {
        [
            0x20u64,
            0x15 | 1 << 24 | (SYS_getppid as u64) << 32,
            0x06 | u64::from(action) << 32,
            0x06 | 0x7fff_0000u64 << 32,
        ]
    };
    let install = |action: u32| {
        let code = filter(action);
        p!(prctl(PR_SET_NO_NEW_PRIVS, 1), sc!(SYS_prctl, PR_SET_SECCOMP, 2, at(&[4u64, at(&code)])))
    };
    p!(run(|| {
        install(0x0005_0001);
        p!(sc!(SYS_getppid), sc!(SYS_getpid).ok());
        0
    }));
    p!(run(|| {
        install(0x8000_0000);
        sc!(SYS_getppid).fd()
    }));
    p!(run(|| {
        install(0x0003_0007);
        catch(SIGSYS, 0);
        sc!(SYS_getppid);
        p!(caught());
        0
    }));
}

fn library_sees_processors_and_pages() {
    p!(std::thread::available_parallelism().is_ok_and(|n| n.get() >= 1));
    p!(std::process::id() as i32 == getpid());
}

fn key_and_message_queue_families_answer() {
    p!(sc!(SYS_add_key, 0u64, 0u64, 0u64, 0, 0).ok(), sc!(SYS_msgget, 0, 0x200 | 0o600).ok());
    p!(sc!(SYS_semget, 0, 1, 0x200 | 0o600).ok());
}

fn system_v_shared_memory() {
    let id = sc!(SYS_shmget, 0, 8192, 0x200 | 0o600);
    let a = sc!(SYS_shmat, id, 0u64, 0);
    p!(id.ok(), a.ok(), poke(a.addr() + 5000, 3));
    p!(run(|| {
        poke(a.addr(), 9);
        0
    }));
    p!(peek(a.addr()), sc!(SYS_shmctl, id, 0, 0u64), sc!(SYS_shmdt, a), peek(a.addr()));
    p!(sc!(SYS_shmat, id, 0u64, 0), sc!(SYS_shmdt, 4096u64));
}

fn system_v_semaphores() {
    let id = sc!(SYS_semget, 0, 2, 0x200 | 0o600);
    let op = |num: u16, by: i16, flags: u16| sc!(SYS_semop, id, at(&[num, by as u16, flags]), 1);
    p!(op(0, 3, 0), sc!(SYS_semctl, id, 0, 12, 0), op(0, -2, 0), op(0, -2, 0x800), op(1, 0, 0));
    p!(op(5, 1, 0));
    let pid = child(|| op(1, -1, 0).errno());
    p!(op(1, 1, 0), wait(pid), sc!(SYS_semctl, id, 0, 0, 0), op(0, 1, 0));
}

fn system_v_messages() {
    let id = sc!(SYS_msgget, 0, 0x200 | 0o600);
    let snd = |kind: u64, text: u64| sc!(SYS_msgsnd, id, at(&[kind, text]), 8, 0);
    let mut buf = [0u64; 2];
    p!(snd(5, 55), snd(3, 33), snd(5, 56), snd(0, 1));
    p!(sc!(SYS_msgrcv, id, at_mut(&mut buf), 8, 3, 0), buf[1]);
    p!(sc!(SYS_msgrcv, id, at_mut(&mut buf), 8, 0, 0), buf[1]);
    p!(sc!(SYS_msgrcv, id, at_mut(&mut buf), 4, -9, 0));
    p!(sc!(SYS_msgrcv, id, at_mut(&mut buf), 8, 7, 0x800));
    p!(sc!(SYS_msgctl, id, 0, 0u64), snd(1, 1));
}

cases![
    null,
    zero,
    full,
    random_devices,
    getrandom,
    standard_links,
    shared_memory_directory,
    full_device_numbers_by_mknod,
    uname_is_linux,
    host_and_domain_names,
    sysinfo,
    affinity,
    getcpu_respects_affinity,
    scheduling_policies,
    scheduling_attributes,
    io_priorities,
    personality_and_prctl_basics,
    seccomp_strict_and_filter,
    library_sees_processors_and_pages,
    key_and_message_queue_families_answer,
    system_v_shared_memory,
    system_v_semaphores,
    system_v_messages,
];
