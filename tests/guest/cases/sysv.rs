//! System V semaphores and message queues, and calls on other processes' memory.

use crate::prelude::*;

const CREAT: i32 = 0o1000;
const EXCL: i32 = 0o2000;
const NOWAIT: u16 = 0o4000;
const UNDO: u16 = 0x1000;

fn key() -> i32 {
    0x5a00_0000 | getpid() & 0xff_ffff
}

fn set(count: i32) -> i32 {
    sc!(SYS_semget, 0, count, CREAT | 0o600).fd()
}

fn op(id: i32, num: u16, by: i16, flags: u16) -> Ret {
    sc!(SYS_semop, id, at(&[num, by as u16, flags]), 1)
}

fn ops(id: i32, list: &[[i32; 3]]) -> Ret {
    let list: Vec<u16> = list.iter().flatten().map(|n| *n as u16).collect();
    sc!(SYS_semop, id, at(&*list), list.len() / 3)
}

fn value(id: i32, num: i32) -> Ret {
    sc!(SYS_semctl, id, num, GETVAL, 0)
}

fn remove_set(id: i32) -> Ret {
    sc!(SYS_semctl, id, 0, IPC_RMID, 0)
}

fn waits_on(id: i32, num: i32, cmd: i32) -> bool {
    until(|| sc!(SYS_semctl, id, num, cmd, 0).fd() == 1)
}

fn semaphore_keys() {
    let id = sc!(SYS_semget, key(), 3, CREAT | EXCL | 0o600);
    p!(id.ok(), sc!(SYS_semget, key(), 3, CREAT | EXCL | 0o600));
    p!(sc!(SYS_semget, key(), 0, 0) == id, sc!(SYS_semget, key(), 2, 0) == id);
    p!(sc!(SYS_semget, key(), 4, 0), sc!(SYS_semget, key(), -1, 0));
    p!(sc!(SYS_semget, key(), 32_001, CREAT | 0o600), sc!(SYS_semget, 0, 0, CREAT | 0o600));
    p!(remove_set(id.fd()), sc!(SYS_semget, key(), 1, 0), remove_set(id.fd()));
    p!(remove_set(-1), sc!(SYS_semget, key(), 0, CREAT | 0o600));
}

fn semaphore_values() {
    let id = set(3);
    let all = |cmd: i32, values: &mut [u16; 3]| sc!(SYS_semctl, id, 0, cmd, at_mut(values));
    let mut values = [7u16, 8, 9];
    p!(all(SETALL, &mut values), value(id, 0), value(id, 2), value(id, 3), value(id, -1));
    p!(sc!(SYS_semctl, id, 1, SETVAL, 100), all(GETALL, &mut values), values[1]);
    p!(sc!(SYS_semctl, id, 1, SETVAL, -1), sc!(SYS_semctl, id, 1, SETVAL, 32_768));
    p!(sc!(SYS_semctl, id, 9, SETVAL, 1), sc!(SYS_semctl, id, 0, GETPID, 0).fd() == getpid());
    p!(all(SETALL, &mut [1, 2, 32_768]), value(id, 0));
    p!(sc!(SYS_semctl, id, 0, SETALL, 8u64), sc!(SYS_semctl, id, 0, GETALL, 8u64));
    p!(sc!(SYS_semctl, id, 0, 99, 0), sc!(SYS_semctl, -1, 0, GETVAL, 0), remove_set(id));
}

fn semaphore_operations_are_atomic() {
    let id = set(2);
    p!(ops(id, &[[0, 5, 0], [1, 1, 0]]), value(id, 0), value(id, 1));
    p!(ops(id, &[[0, -5, 0], [1, -2, NOWAIT.into()]]), value(id, 0), value(id, 1));
    p!(ops(id, &[[0, -5, 0], [0, 0, NOWAIT.into()], [0, 2, 0]]), value(id, 0));
    p!(ops(id, &[[0, 0, NOWAIT.into()]]), ops(id, &[[0, 1, 0], [0, 32_767, 0]]), value(id, 0));
    p!(ops(id, &[[2, 1, 0]]), op(id, 0, 32_767, 0), op(-1, 0, 1, 0), op(0x7fff_fff0, 0, 1, 0));
    p!(sc!(SYS_semop, id, 8u64, 1), sc!(SYS_semop, id, at(&[0u16; 3]), 0));
    p!(sc!(SYS_semop, id, at(&[0u16; 3]), 501), sc!(SYS_semop, id, 0u64, 501), remove_set(id));
}

fn semaphore_timeouts() {
    let id = set(1);
    let wait_for = |time: [i64; 2]| sc!(SYS_semtimedop, id, at(&[0u16, 0xffff, 0]), 1, at(&time));
    p!(
        wait_for([0, 20_000_000]),
        wait_for([0, 0]),
        wait_for([0, 1_000_000_000]),
        wait_for([-1, 0])
    );
    p!(sc!(SYS_semtimedop, id, at(&[0u16, 0xffff, 0]), 1, 8u64));
    catch(SIGALRM, SA_RESTART);
    setitimer(ITIMER_REAL, 20, 0);
    p!(op(id, 0, -1, 0), count() > 0, remove_set(id));
}

fn semaphore_sleepers() {
    let id = set(2);
    let one = child(|| op(id, 0, -2, 0).errno());
    p!(waits_on(id, 0, GETNCNT), op(id, 0, 1, 0), value(id, 0));
    p!(sc!(SYS_semctl, id, 0, GETZCNT, 0), op(id, 0, 1, 0), value(id, 0), wait(one));
    p!(op(id, 1, 1, 0));
    let zero = child(|| op(id, 1, 0, 0).errno());
    p!(waits_on(id, 1, GETZCNT), sc!(SYS_semctl, id, 1, SETVAL, 0), wait(zero));
    let gone = child(|| op(id, 1, -1, 0).errno());
    p!(waits_on(id, 1, GETNCNT), remove_set(id), wait(gone), op(id, 0, 1, 0));
}

fn semaphore_undo() {
    let id = set(2);
    p!(op(id, 0, 5, 0));
    p!(run(|| op(id, 0, -3, UNDO).errno()), value(id, 0));
    p!(run(|| {
        op(id, 0, -3, UNDO);
        op(id, 1, 4, UNDO);
        p!(value(id, 0), value(id, 1), sc!(SYS_semctl, id, 0, SETVAL, 1), value(id, 0));
        0
    }));
    p!(value(id, 0), value(id, 1));
    let waits = child(|| op(id, 1, -1, 0).errno());
    waits_on(id, 1, GETNCNT);
    p!(run(|| op(id, 1, 1, UNDO).errno()), wait(waits), value(id, 1), remove_set(id));
}

fn semaphore_permissions() {
    let id = set(1);
    let mut ds = [0u8; 104];
    p!(sc!(SYS_semctl, id, 0, IPC_STAT, at_mut(&mut ds)));
    p!(word(&ds, 4), word(&ds, 20), word(&ds, 80), sc!(SYS_semctl, id, 0, IPC_STAT, 8u64));
    as_other(|| {
        p!(value(id, 0), op(id, 0, 1, 0), op(id, 0, 0, 0), remove_set(id));
        p!(sc!(SYS_semctl, id, 0, IPC_STAT, at(&[0u8; 104])));
    });
    ds[20..24].copy_from_slice(&0o644u32.to_ne_bytes());
    p!(sc!(SYS_semctl, id, 0, IPC_SET, at(&ds)), sc!(SYS_semctl, id, 0, IPC_SET, 8u64));
    as_other(|| {
        p!(value(id, 0), op(id, 0, 1, 0), op(id, 0, 0, 0));
    });
    p!(remove_set(id), sc!(SYS_semctl, id, 0, IPC_STAT, at_mut(&mut ds)));
}

fn semaphore_limits() {
    let mut info = [0i32; 10];
    p!(sc!(SYS_semctl, 0, 0, IPC_INFO, at_mut(&mut info)).ok());
    say!("{info:?}");
    p!(sc!(SYS_semctl, 0, 0, 19, at_mut(&mut info)).ok(), info[1], info[5]);
    p!(get(c"/proc/sys/kernel/sem"));
}

/// The `u32` at an offset of a structure.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b))
}

fn as_other(f: impl FnOnce()) {
    run(|| {
        sc!(SYS_setgroups, 0, 0u64);
        sc!(SYS_setresgid, 1000, 1000, 1000);
        sc!(SYS_setresuid, 1000, 1000, 1000);
        f();
        0
    });
}

fn queue_of_messages() -> i32 {
    sc!(SYS_msgget, 0, CREAT | 0o600).fd()
}

fn say_to(id: i32, kind: i64, text: &str, flags: i32) -> Ret {
    let mut buf = kind.to_ne_bytes().to_vec();
    buf.extend_from_slice(text.as_bytes());
    sc!(SYS_msgsnd, id, at(&*buf), text.len(), flags)
}

fn hear(id: i32, len: usize, kind: i64, flags: i32) -> String {
    let mut buf = vec![0u8; len + 8];
    let ret = sc!(SYS_msgrcv, id, at_mut(&mut *buf), len, kind, flags);
    match usize::try_from(ret.0) {
        Ok(n) => {
            let text = String::from_utf8_lossy(buf.get(8..8 + n).unwrap_or_default()).into_owned();
            format!("{} {text}", word(&buf, 0))
        }
        Err(_) => ret.to_string(),
    }
}

fn remove_queue(id: i32) -> Ret {
    sc!(SYS_msgctl, id, IPC_RMID, 0u64)
}

const NOW: i32 = 0o4000;

fn message_keys() {
    let id = sc!(SYS_msgget, key(), CREAT | EXCL | 0o600);
    p!(id.ok(), sc!(SYS_msgget, key(), CREAT | EXCL | 0o600), sc!(SYS_msgget, key(), 0) == id);
    p!(remove_queue(id.fd()), sc!(SYS_msgget, key(), 0), remove_queue(id.fd()), remove_queue(-1));
}

fn message_types() {
    let id = queue_of_messages();
    for (kind, text) in [(5, "five"), (2, "two"), (9, "nine"), (2, "deux"), (5, "cinq")] {
        say_to(id, kind, text, 0);
    }
    p!(hear(id, 10, -4, NOW), hear(id, 10, 5, NOW), hear(id, 10, 2, NOW | 0o20000));
    p!(
        hear(id, 10, 7, NOW),
        hear(id, 10, 0, NOW),
        hear(id, 10, i64::MIN, NOW),
        hear(id, 10, 0, NOW)
    );
    p!(remove_queue(id));
}

fn message_sizes() {
    let id = queue_of_messages();
    p!(say_to(id, 1, "long text", 0), hear(id, 4, 0, NOW), hear(id, 4, 0, NOW | 0o10000));
    p!(say_to(id, 1, "", 0), hear(id, 0, 0, NOW), say_to(id, 0, "x", 0), say_to(id, -1, "x", 0));
    p!(say_to(id, 1, &"x".repeat(8193), 0), say_to(id, 1, &"x".repeat(8192), 0));
    p!(say_to(id, 1, &"x".repeat(8192), 0), say_to(id, 1, "x", NOW), say_to(id, 1, "", NOW));
    p!(sc!(SYS_msgsnd, id, 8u64, 1, 0), sc!(SYS_msgsnd, id, at(&1i64), -1i64, 0));
    p!(sc!(SYS_msgrcv, id, 8u64, 8192, 0, 0), sc!(SYS_msgrcv, id, 8u64, -1i64, 0, 0));
    p!(sc!(SYS_msgsnd, -1, at(&[1i64, 0]), 1, 0), remove_queue(id), say_to(id, 1, "x", 0));
}

fn message_copies() {
    let id = queue_of_messages();
    p!(say_to(id, 1, "first", 0), say_to(id, 2, "second", 0));
    p!(
        hear(id, 10, 1, NOW | 0o40000),
        hear(id, 10, 2, NOW | 0o40000),
        hear(id, 2, 0, NOW | 0o40000)
    );
    p!(hear(id, 10, 0, 0o40000), hear(id, 10, 0, NOW | 0o60000), hear(id, 10, 0, 0));
    p!(remove_queue(id));
}

fn message_receivers_wait() {
    let id = queue_of_messages();
    let pid = child(|| i32::from(hear(id, 10, 3, 0) != "3 three"));
    nap(20);
    p!(say_to(id, 1, "one", 0), say_to(id, 3, "three", 0), wait(pid), hear(id, 10, 0, NOW));
    let pid = child(|| sc!(SYS_msgrcv, id, at(&[0i64; 2]), 8, 0, 0).errno());
    nap(20);
    p!(remove_queue(id), wait(pid));
}

fn message_senders_wait() {
    let id = queue_of_messages();
    let big = "x".repeat(8192);
    p!(say_to(id, 1, &big, 0), say_to(id, 1, &big, 0));
    let pid = child(|| say_to(id, 2, "late", 0).errno());
    nap(20);
    p!(hear(id, 8192, 1, 0).len(), wait(pid), hear(id, 10, 2, NOW));
    p!(say_to(id, 1, &big, 0));
    let pid = child(|| say_to(id, 2, "late", 0).errno());
    nap(20);
    p!(remove_queue(id), wait(pid));
}

fn message_waits_are_interrupted() {
    let id = queue_of_messages();
    catch(SIGALRM, SA_RESTART);
    setitimer(ITIMER_REAL, 20, 0);
    p!(hear(id, 10, 0, 0), count() > 0, remove_queue(id));
}

fn message_status() {
    let id = queue_of_messages();
    let mut ds = [0u64; 15];
    p!(say_to(id, 1, "four", 0), sc!(SYS_msgctl, id, IPC_STAT, at_mut(&mut ds)));
    p!(ds[9], ds[10], ds[11], ds[12] as i32 == getpid(), ds[6] != 0, ds[7], ds[8] != 0);
    ds[11] = 100;
    p!(sc!(SYS_msgctl, id, IPC_SET, at(&ds)), say_to(id, 1, &"x".repeat(97), NOW));
    p!(say_to(id, 1, &"x".repeat(96), NOW));
    as_other(|| {
        p!(say_to(id, 1, "x", NOW), hear(id, 1, 0, NOW), remove_queue(id));
    });
    p!(remove_queue(id), sc!(SYS_msgctl, id, IPC_STAT, at_mut(&mut ds)));
    let mut info = [0i32; 8];
    p!(sc!(SYS_msgctl, 0, IPC_INFO, at_mut(&mut info)).ok(), info[2], info[3]);
}

fn system_v_objects_in_proc() {
    let (sem, msg) = (set(2), queue_of_messages());
    for (name, id) in [("sem", sem), ("msg", msg)] {
        let path = CString::new(format!("/proc/sysvipc/{name}")).unwrap_or_default();
        let text = get(&*path).text();
        let mut lines = text.lines();
        say!("{}", lines.next().unwrap_or_default());
        let id = id.to_string();
        let line = lines.find(|line| line.split_whitespace().nth(1) == Some(&id));
        let fields: Vec<&str> =
            line.unwrap_or_default().split_whitespace().skip(2).take(2).collect();
        say!("{fields:?}");
    }
    p!(remove_set(sem), remove_queue(msg));
}

fn limits_of_a_namespace() {
    let host = get(c"/proc/sys/kernel/sem").text();
    run(|| {
        p!(sc!(SYS_unshare, CLONE_NEWIPC));
        let set_to = |name: &str, value: &str| {
            let path = CString::new(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
            let fd = open(&*path, O_WRONLY, 0);
            let ret = wr(fd, value);
            close(fd);
            say!("{name}: {ret:?} {:?}", get(&*path).text());
        };
        set_to("sem", "3 5 2 2");
        p!(sc!(SYS_semget, 0, 4, CREAT | 0o600));
        let a = set(3);
        p!(ops(a, &[[0, 1, 0], [1, 1, 0]]), ops(a, &[[0, 1, 0], [1, 1, 0], [2, 1, 0]]));
        p!(sc!(SYS_semget, 0, 3, CREAT | 0o600));
        let b = set(2);
        p!(sc!(SYS_semget, 0, 1, CREAT | 0o600), remove_set(b));
        p!(sc!(SYS_semget, 0, 2, CREAT | 0o600).ok(), remove_set(a));
        set_to("msgmax", "10");
        set_to("msgmnb", "15");
        let queue = queue_of_messages();
        p!(say_to(queue, 1, "eleven char", NOW), say_to(queue, 1, "ten chars.", NOW));
        p!(say_to(queue, 1, "six ch", NOW), say_to(queue, 1, "five.", NOW), remove_queue(queue));
        set_to("shmall", "3");
        let segment = |pages: u64| sc!(SYS_shmget, 0, pages * PAGE, CREAT | 0o600);
        let (one, two) = (segment(1), segment(2));
        p!(one.ok(), two.ok(), segment(1), sc!(SYS_shmctl, one, IPC_RMID, 0), segment(1).ok());
        set_to("shm_rmid_forced", "1");
        set_to("shm_rmid_forced", "2");
        set_to("msgmax", "-1");
        set_to("sem", "x");
        let mut ds = [0u64; 14];
        p!(sc!(SYS_shmctl, two, IPC_STAT, at_mut(&mut ds)));
        let mapped = sc!(SYS_shmat, two, 0, 0);
        p!(mapped.ok(), sc!(SYS_shmdt, mapped), sc!(SYS_shmctl, two, IPC_STAT, at_mut(&mut ds)));
        0
    });
    p!(get(c"/proc/sys/kernel/sem").text() == host);
}

fn process_madvise_errors() {
    let fd = sc!(SYS_pidfd_open, getpid(), 0).fd();
    let a = anon(2);
    let advise = |fd: i32, advice: i32, flags: i32| {
        sc!(SYS_process_madvise, fd, at(&[a, 2 * PAGE]), 1, advice, flags)
    };
    p!(advise(fd, MADV_COLD, 0), advise(fd, MADV_WILLNEED, 0), advise(fd, MADV_COLD, 1));
    p!(advise(1, MADV_COLD, 0), advise(fd, 99, 0), sc!(SYS_process_madvise, fd, 8u64, 1, 20, 0));
    p!(sc!(SYS_process_madvise, fd, at(&[a + 1, PAGE]), 1, MADV_COLD, 0));
    p!(sc!(SYS_process_madvise, fd, 0u64, 2000, MADV_COLD, 0));
}

fn process_mrelease_errors() {
    let fd = sc!(SYS_pidfd_open, getpid(), 0).fd();
    p!(sc!(SYS_process_mrelease, fd, 0), sc!(SYS_process_mrelease, fd, 1));
    p!(sc!(SYS_process_mrelease, 1, 0), sc!(SYS_process_mrelease, 999, 0));
}

/// `cachestat(2)`, which the C library's bindings lack.
fn cachestat(fd: i32, range: u64, stat: u64, flags: u64) -> Ret {
    syscall(451, &[fd as u64, range, stat, flags])
}

fn cachestat_of_a_file() {
    put(c"f", vec![1; 3 * PAGE as usize + 1]);
    let fd = open(c"f", O_RDWR, 0).fd();
    let mut stat = [9u64; 5];
    let mut ask = |fd: i32, start: u64, len: u64, flags: u64| {
        let ret = cachestat(fd, at(&[start, len]), at_mut(&mut stat), flags);
        format!("{ret} {} {}", stat[0], stat[2])
    };
    p!(ask(fd, 0, 0, 0), ask(fd, 0, 1, 0), ask(fd, PAGE, PAGE, 0), ask(fd, 10 * PAGE, 1, 0));
    p!(ask(fd, 0, 0, 1), ask(999, 0, 0, 0));
    p!(cachestat(fd, 8, at_mut(&mut stat), 0));
    p!(cachestat(fd, at(&[0u64, 0]), 8, 0));
}

cases![
    semaphore_keys,
    semaphore_values,
    semaphore_operations_are_atomic,
    semaphore_timeouts,
    semaphore_sleepers,
    semaphore_undo,
    semaphore_permissions,
    semaphore_limits,
    message_keys,
    message_types,
    message_sizes,
    message_copies,
    message_receivers_wait,
    message_senders_wait,
    message_waits_are_interrupted,
    message_status,
    system_v_objects_in_proc,
    limits_of_a_namespace,
    process_madvise_errors,
    process_mrelease_errors,
    cachestat_of_a_file,
];
