//! Threads: creation, ids, thread-local bases, exit and what threads share.

use crate::prelude::*;
use std::sync::atomic::{AtomicI32, AtomicU32};
use std::thread;

fn threads_share_memory_and_pid() {
    let pid = getpid();
    let value = AtomicU32::new(0);
    thread::scope(|s| {
        for i in 0..4u32 {
            let value = &value;
            s.spawn(move || {
                value.fetch_add(1 << (8 * i), SeqCst);
                if getpid() != pid || gettid() == pid {
                    value.store(0, SeqCst);
                }
            });
        }
    });
    p!(value.load(SeqCst) == 0x0101_0101);
}

fn many_threads_come_and_go() {
    let sum: u32 = (0..200u32)
        .collect::<Vec<_>>()
        .chunks(20)
        .map(|chunk| {
            let all: Vec<_> = chunk.iter().map(|&i| thread::spawn(move || i)).collect();
            all.into_iter().map(|t| t.join().unwrap_or(0)).sum::<u32>()
        })
        .sum();
    p!(sum);
}

fn threads_share_descriptors_and_directory() {
    mkdir(c"d", 0o755);
    put(c"d/inside", "x");
    let fd = thread::spawn(|| {
        chdir(c"d");
        dup2(1, 20)
    })
    .join()
    .unwrap_or(Ret(-1));
    p!(fd, fcntl(20, F_GETFD, 0), access(c"inside", F_OK));
}

fn threads_share_credentials_only_through_the_library() {
    // Plain setresuid changes one thread only, unlike the C library's wrapper.
    let inner = thread::spawn(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        sc!(SYS_getuid)
    })
    .join()
    .unwrap_or(Ret(-1));
    p!(inner, sc!(SYS_getuid));
}

fn thread_local_variables() {
    thread_local!(static LOCAL: std::cell::Cell<u32> = const { std::cell::Cell::new(7) });
    LOCAL.set(1);
    let others: Vec<u32> = (2..6)
        .map(|i| {
            thread::spawn(move || {
                let before = LOCAL.get();
                LOCAL.set(i);
                thread::yield_now();
                before * 10 + LOCAL.get()
            })
            .join()
            .unwrap_or(0)
        })
        .collect();
    say!("{others:?} {}", LOCAL.get());
}

fn arch_prctl_bases() {
    const SET_GS: i32 = 0x1001;
    const SET_FS: i32 = 0x1002;
    const GET_FS: i32 = 0x1003;
    const GET_GS: i32 = 0x1004;
    let mut base = 0u64;
    p!(sc!(SYS_arch_prctl, GET_FS, at_mut(&mut base)), base != 0);
    p!(sc!(SYS_arch_prctl, SET_FS, base), sc!(SYS_arch_prctl, SET_FS, 1u64 << 63));
    let page = anon(1);
    p!(sc!(SYS_arch_prctl, SET_GS, page), sc!(SYS_arch_prctl, GET_GS, at_mut(&mut base)));
    p!(base == page, sc!(SYS_arch_prctl, GET_GS, 8u64), sc!(SYS_arch_prctl, 0x9999, 0));
    p!(sc!(SYS_arch_prctl, SET_GS, 1u64 << 48));
    let copied = run(|| {
        sc!(SYS_arch_prctl, GET_GS, at_mut(&mut base));
        i32::from(base != page)
    });
    p!(copied);
}

fn set_tid_address_returns_the_thread_id() {
    let page = anon(1);
    p!(sc!(SYS_set_tid_address, page).fd() == gettid());
    let fds = pipe(0);
    p!(run(|| {
        // Shared memory shows that the word is cleared when the thread ends.
        let shared = shared(1);
        word(shared).store(5, SeqCst);
        let inner = child(|| {
            sc!(SYS_set_tid_address, shared);
            0
        });
        p!(wait(inner), word(shared).load(SeqCst));
        wr(fds[1], "x");
        0
    }));
}

extern "C" fn leave(arg: *mut c_void) -> i32 {
    let page = arg as u64;
    word(page).store(1, SeqCst);
    sc!(SYS_exit, 0).fd()
}

fn child_cleartid_wakes_a_joiner() {
    let page = anon(1);
    let tid = page + 8;
    word(tid).store(1, SeqCst);
    let ret =
        spawn(THREAD | CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID, leave, page, page + 16, tid);
    await_change(tid, 1);
    p!(word(tid).load(SeqCst), word(page).load(SeqCst));
    p!(word(page + 16).load(SeqCst) as i32 == ret.fd());
    p!(until(|| sc!(SYS_tgkill, getpid(), ret.fd(), 0).errno() == ESRCH));
}

fn thread_is_not_a_child() {
    let page = anon(1);
    let tid = page + 8;
    word(tid).store(1, SeqCst);
    let ret = spawn(THREAD | CLONE_CHILD_CLEARTID, leave, page, 0, tid);
    await_change(tid, 1);
    p!(wait(ret.fd()), wait_opt(-1, __WALL));
}

fn leader_exits_first() {
    p!(run(|| {
        thread::spawn(|| {
            nap(30);
            exit(31)
        });
        sc!(SYS_exit, 1).fd()
    }));
}

fn last_thread_decides_nothing_about_the_code() {
    p!(run(|| {
        thread::spawn(|| {
            nap(30);
            sc!(SYS_exit, 5)
        });
        sc!(SYS_exit, 6).fd()
    }));
}

fn zombie_leader_is_not_waitable_while_threads_run() {
    let fds = pipe(0);
    let pid = child(|| {
        thread::spawn(move || {
            rd(fds[0], 1);
            sc!(SYS_exit, 0)
        });
        sc!(SYS_exit, 9).fd()
    });
    nap(20);
    p!(wait_opt(pid, WNOHANG), kill(pid, 0), wr(fds[1], "x"), wait(pid));
}

fn exit_group_ends_blocked_threads() {
    p!(run(|| {
        for _ in 0..5 {
            thread::spawn(|| {
                let fds = pipe(0);
                rd(fds[0], 1)
            });
        }
        nap(10);
        exit(12)
    }));
}

fn exit_group_from_a_thread() {
    p!(run(|| {
        thread::spawn(|| exit(13));
        loop {
            sc!(SYS_pause);
        }
    }));
}

fn fatal_signal_ends_all_threads() {
    p!(run(|| {
        thread::spawn(|| fault(Fault::Null));
        loop {
            sc!(SYS_pause);
        }
    }));
}

fn busy_threads_end_too() {
    p!(run(|| {
        for _ in 0..3 {
            thread::spawn(|| {
                let mut n = 0u64;
                loop {
                    n = std::hint::black_box(n + 1);
                }
            });
        }
        nap(20);
        exit(14)
    }));
}

fn fork_from_a_thread_copies_one_thread() {
    let status = thread::spawn(|| {
        run(|| {
            let tasks = list(c"/proc/self/task");
            p!(gettid() == getpid(), tasks.split(' ').filter(|t| !t.starts_with('.')).count());
            0
        })
    })
    .join();
    p!(status.map_or(-1, |s| s.code()));
}

fn child_of_a_thread_is_a_child_of_the_process() {
    let pid = thread::spawn(|| child(|| 15)).join().unwrap_or(-1);
    p!(wait(pid));
    let pid = child(|| 16);
    let other = thread::spawn(move || wait_opt(pid, __WNOTHREAD).0.errno()).join().unwrap_or(-1);
    p!(other == ECHILD, wait(pid));
}

static SEEN: AtomicI32 = AtomicI32::new(0);

fn tgkill_reaches_one_thread() {
    catch(SIGUSR1, 0);
    let (pid, main) = (getpid(), gettid());
    let page = anon(1);
    let other = thread::spawn(move || {
        SEEN.store(gettid(), SeqCst);
        publish(page, 1);
        await_change(page + 4, 0);
    });
    await_change(page, 0);
    let tid = SEEN.load(SeqCst);
    p!(sc!(SYS_tgkill, pid, tid, SIGUSR1), until(|| count() == 1));
    publish(page + 4, 1);
    p!(other.join().is_ok());
    let all = hits();
    p!(all.len(), all.first().is_some_and(|h| h.tid == tid && h.tid != main && h.code == SI_TKILL));
    p!(sc!(SYS_tgkill, pid, 0x7fff_fff0, 0), sc!(SYS_tgkill, pid + 1, main, 0).ok());
    p!(sc!(SYS_tgkill, -1, main, 0), sc!(SYS_tgkill, pid, main, 99), sc!(SYS_tkill, main, 0));
    p!(sc!(SYS_tkill, 0, 0), sc!(SYS_tkill, 0x7fff_fff0, 0));
}

fn process_signal_goes_to_a_thread_that_accepts_it() {
    catch(SIGUSR1, 0);
    block(&[SIGUSR1]);
    let page = anon(1);
    let other = thread::spawn(move || {
        unblock(&[SIGUSR1]);
        SEEN.store(gettid(), SeqCst);
        publish(page, 1);
        until(|| count() == 1)
    });
    await_change(page, 0);
    p!(kill(getpid(), SIGUSR1), other.join().is_ok_and(|seen| seen));
    p!(hits().first().is_some_and(|h| h.tid == SEEN.load(SeqCst)), pending());
}

fn masks_and_pending_sets_are_per_thread() {
    block(&[SIGUSR2]);
    raise(SIGUSR2);
    let other = thread::spawn(|| {
        let inherited = names(sigmask(SIG_BLOCK, 0));
        block(&[SIGHUP]);
        raise(SIGHUP);
        format!("{inherited}; {}", pending())
    })
    .join();
    p!(other.unwrap_or_default(), names(sigmask(SIG_BLOCK, 0)), pending());
}

fn stop_and_continue_all_threads() {
    let page = shared(1);
    let pid = child(|| {
        thread::spawn(move || {
            loop {
                word(page).fetch_add(1, SeqCst);
            }
        });
        loop {
            sc!(SYS_pause);
        }
    });
    p!(until(|| word(page).load(SeqCst) > 0), kill(pid, SIGSTOP), wait_opt(pid, WUNTRACED));
    let before = word(page).load(SeqCst);
    nap(20);
    p!(word(page).load(SeqCst) == before, kill(pid, SIGCONT), wait_opt(pid, WCONTINUED));
    p!(until(|| word(page).load(SeqCst) != before), kill(pid, SIGKILL), wait(pid));
}

fn thread_names() {
    prctl(PR_SET_NAME, c"main name");
    let inherited = thread::spawn(|| {
        let first = comm();
        prctl(PR_SET_NAME, c"a very long thread name");
        format!("{first} / {} / {}", comm(), get(c"/proc/thread-self/comm").text().trim_end())
    })
    .join();
    p!(inherited.unwrap_or_default(), comm(), prctl(PR_SET_NAME, 8u64), prctl(PR_GET_NAME, 8u64));
}

fn comm() -> String {
    let mut name = [0u8; 16];
    prctl(PR_GET_NAME, &mut name);
    String::from_utf8_lossy(&name).trim_end_matches('\0').to_string()
}

fn blocking_reads_in_two_threads() {
    let (a, b) = (pipe(0), pipe(0));
    let one = thread::spawn(move || rd(a[0], 4).text());
    let two = thread::spawn(move || rd(b[0], 4).text());
    p!(wr(b[1], "two"), two.join().unwrap_or_default());
    p!(wr(a[1], "one"), one.join().unwrap_or_default());
}

fn close_does_not_wake_a_reader() {
    let fds = pipe(0);
    let (tell, told) = std::sync::mpsc::channel();
    let reader = thread::spawn(move || {
        let _ = tell.send(gettid());
        rd(fds[0], 4).text()
    });
    let waits_in = format!("/proc/self/task/{}/syscall", told.recv().unwrap_or_default());
    let reads = || std::fs::read_to_string(&waits_in).is_ok_and(|call| call.starts_with("0 "));
    p!(until(reads));
    p!(close(fds[0]), wr(fds[1], "late"), reader.join().unwrap_or_default());
}

fn thread_stack_guard_faults() {
    p!(run(|| {
        let t = thread::spawn(|| {
            fn forever(n: u64) -> u64 {
                let block = [n; 64];
                if std::hint::black_box(n) == u64::MAX { 0 } else { forever(n + 1) + block[3] }
            }
            forever(1)
        });
        t.join().map_or(1, |n| n as i32)
    }));
}

fn thread_limit() {
    p!(run(|| {
        let uid = fresh_uid();
        sc!(SYS_setresuid, uid, uid, uid);
        sc!(SYS_prlimit64, 0, RLIMIT_NPROC, at(&[3u64, 3]), 0u64);
        let fds = pipe(0);
        let made = (0..5).take_while(|_| {
            let pid = sc!(SYS_clone, SIGCHLD, 0u64, 0u64, 0u64, 0u64);
            if pid.0 == 0 {
                rd(fds[0], 1);
                exit(0);
            }
            pid.ok()
        });
        p!(made.count(), sc!(SYS_clone, SIGCHLD, 0u64, 0u64, 0u64, 0u64));
        0
    }));
}

fn clone_thread_needs_a_stack_of_its_own_only_by_convention() {
    // A thread without CLONE_SIGHAND is refused before anything else happens.
    p!(spawn(CLONE_VM | CLONE_THREAD, leave, anon(1), 0, 0));
}

fn sched_yield_and_getcpu() {
    let mut cpu = u32::MAX;
    let mut node = u32::MAX;
    p!(sc!(SYS_sched_yield), sc!(SYS_getcpu, at_mut(&mut cpu), at_mut(&mut node), 0u64));
    p!(cpu < 4096, node, sc!(SYS_getcpu, 0u64, 0u64, 0u64), sc!(SYS_getcpu, 8u64, 0u64, 0u64));
}

fn rseq_registration() {
    // The C library has registered this thread already.
    let area = anon(1);
    p!(sc!(SYS_rseq, area, 31, 0, 0), sc!(SYS_rseq, area + 4, 32, 0, 0).ok());
}

cases![
    threads_share_memory_and_pid,
    many_threads_come_and_go,
    threads_share_descriptors_and_directory,
    threads_share_credentials_only_through_the_library,
    thread_local_variables,
    arch_prctl_bases,
    set_tid_address_returns_the_thread_id,
    child_cleartid_wakes_a_joiner,
    thread_is_not_a_child,
    leader_exits_first,
    last_thread_decides_nothing_about_the_code,
    zombie_leader_is_not_waitable_while_threads_run,
    exit_group_ends_blocked_threads,
    exit_group_from_a_thread,
    fatal_signal_ends_all_threads,
    busy_threads_end_too,
    fork_from_a_thread_copies_one_thread,
    child_of_a_thread_is_a_child_of_the_process,
    tgkill_reaches_one_thread,
    process_signal_goes_to_a_thread_that_accepts_it,
    masks_and_pending_sets_are_per_thread,
    stop_and_continue_all_threads,
    thread_names,
    blocking_reads_in_two_threads,
    close_does_not_wake_a_reader,
    thread_stack_guard_faults,
    thread_limit,
    clone_thread_needs_a_stack_of_its_own_only_by_convention,
    sched_yield_and_getcpu,
    rseq_registration,
];
