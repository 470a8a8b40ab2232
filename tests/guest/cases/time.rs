//! Clocks, sleeping, interval timers, POSIX timers and timerfd.

use crate::prelude::*;
use std::time::{Duration, Instant, SystemTime};

const CLOCKS: [i32; 8] = [
    CLOCK_REALTIME,
    CLOCK_MONOTONIC,
    CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_THREAD_CPUTIME_ID,
    CLOCK_MONOTONIC_RAW,
    CLOCK_REALTIME_COARSE,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_BOOTTIME,
];

fn clocks_never_go_back() {
    for id in CLOCKS {
        let steps: Vec<i64> = (0..50).map(|_| clock(id)).collect();
        say!("clock {id}: {} {}", steps[0] > 0, steps.windows(2).all(|w| w[0] <= w[1]));
    }
}

fn library_and_system_call_agree() {
    for _ in 0..3 {
        let before = clock(CLOCK_REALTIME);
        let library =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let after = clock(CLOCK_REALTIME);
        p!(before <= library as i64, library as i64 <= after);
    }
    let a = Instant::now();
    let (x, y) = (clock(CLOCK_MONOTONIC), clock(CLOCK_MONOTONIC));
    p!(y >= x, a.elapsed() >= Duration::from_nanos((y - x) as u64));
}

fn clock_errors() {
    let mut ts = [0i64; 2];
    p!(sc!(SYS_clock_gettime, 99, at_mut(&mut ts)), sc!(SYS_clock_gettime, 0, 8u64));
    p!(sc!(SYS_clock_getres, 99, at_mut(&mut ts)), sc!(SYS_clock_getres, 0, 0u64));
    p!(sc!(SYS_clock_settime, CLOCK_MONOTONIC, at(&ts)), sc!(SYS_clock_settime, 99, at(&ts)));
    p!(sc!(SYS_clock_settime, CLOCK_REALTIME, at(&[0i64, 1_000_000_000])));
}

fn clock_resolution() {
    let mut ts = [0i64; 2];
    for id in [CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_BOOTTIME] {
        p!(sc!(SYS_clock_getres, id, at_mut(&mut ts)), ts[0], ts[1]);
    }
}

fn gettimeofday_and_time() {
    let mut tv = [0i64; 2];
    p!(sc!(SYS_gettimeofday, at_mut(&mut tv), 0u64), tv[1] < 1_000_000);
    let mut t = 0i64;
    let now = sc!(SYS_time, at_mut(&mut t)).0;
    p!(now == t, (now - tv[0]).abs() <= 1, sc!(SYS_time, 8u64), sc!(SYS_gettimeofday, 8u64, 0u64));
}

fn process_cpu_clock_counts_work_not_sleep() {
    let a = clock(CLOCK_PROCESS_CPUTIME_ID);
    nap(60);
    let slept = clock(CLOCK_PROCESS_CPUTIME_ID) - a;
    let mut n = 0u64;
    let start = Instant::now();
    while clock(CLOCK_PROCESS_CPUTIME_ID) - a - slept < 30_000_000 {
        n = std::hint::black_box(n + 1);
        if start.elapsed() > Duration::from_secs(10) {
            break;
        }
    }
    p!(slept < 40_000_000, start.elapsed() < Duration::from_secs(10));
}

fn cpu_clock_of_another_process() {
    // Clock ids of processes: the complement of the id, shifted, with the clock's kind.
    let of = |pid: i32, kind: i32| !pid << 3 | kind;
    let mut ts = [0i64; 2];
    p!(sc!(SYS_clock_gettime, of(getpid(), 2), at_mut(&mut ts)), ts[0] < 1000);
    p!(sc!(SYS_clock_gettime, of(0x0fff_fff0, 2), at_mut(&mut ts)));
    p!(sc!(SYS_clock_gettime, of(gettid(), 6), at_mut(&mut ts)));
}

fn nanosleep_sleeps() {
    p!(took(30, || nap(30)).1, nap(0));
    p!(sc!(SYS_nanosleep, at(&[0i64, 1_000_000_000]), 0u64));
    p!(sc!(SYS_nanosleep, at(&[-1i64, 0]), 0u64));
    p!(sc!(SYS_nanosleep, 8u64, 0u64));
}

fn nanosleep_remaining_time() {
    catch(SIGALRM, 0);
    setitimer(ITIMER_REAL, 20, 20);
    let mut left = [0i64; 2];
    p!(sc!(SYS_nanosleep, at(&[100i64, 0]), at_mut(&mut left)), left[0] <= 99, left[0] > 80);
    p!(sc!(SYS_nanosleep, at(&[100i64, 0]), 8u64));
    setitimer(ITIMER_REAL, 0, 0);
}

fn clock_nanosleep_absolute() {
    let target = clock(CLOCK_MONOTONIC) + 30_000_000;
    let ts = [target / 1_000_000_000, target % 1_000_000_000];
    p!(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, at(&ts), 0u64));
    p!(clock(CLOCK_MONOTONIC) >= target);
    p!(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, at(&[1i64, 0]), 0u64));
    p!(clock_nanosleep(CLOCK_BOOTTIME, 0, at(&span(1)), 0u64));
}

fn clock_nanosleep_errors() {
    let ts = [0i64, 1000];
    p!(clock_nanosleep(99, 0, at(&ts), 0u64));
    p!(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, at(&ts), 0u64));
    p!(clock_nanosleep(CLOCK_MONOTONIC_RAW, 0, at(&ts), 0u64));
    p!(clock_nanosleep(CLOCK_MONOTONIC, 0, at(&[0i64, -1]), 0u64));
    p!(clock_nanosleep(CLOCK_MONOTONIC, 0, 8u64, 0u64));
}

fn absolute_sleep_interrupted_leaves_remain_alone() {
    catch(SIGALRM, 0);
    setitimer(ITIMER_REAL, 20, 20);
    let mut left = [-7i64; 2];
    let target = clock(CLOCK_MONOTONIC) / 1_000_000_000 + 100;
    p!(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, at(&[target, 0]), at_mut(&mut left)));
    p!(left[0]);
    setitimer(ITIMER_REAL, 0, 0);
}

fn alarm_and_its_remainder() {
    catch(SIGALRM, 0);
    p!(sc!(SYS_alarm, 100), sc!(SYS_alarm, 1), until(|| count() > 0), caught(), sc!(SYS_alarm, 0));
}

fn itimer_real_repeats() {
    catch(SIGALRM, SA_RESTART);
    p!(setitimer(ITIMER_REAL, 5, 5), until(|| count() >= 4));
    let mut now = [0i64; 4];
    p!(sc!(SYS_getitimer, ITIMER_REAL, at_mut(&mut now)), now[0], now[1], now[2]);
    p!(setitimer(ITIMER_REAL, 0, 0), sc!(SYS_getitimer, ITIMER_REAL, at_mut(&mut now)), now[3]);
    p!(hits().iter().all(|h| h.code == SI_KERNEL));
}

fn itimer_one_shot_and_old_value() {
    catch(SIGALRM, 0);
    p!(setitimer(ITIMER_REAL, 100_000, 0));
    let mut old = [0i64; 4];
    p!(sc!(SYS_setitimer, ITIMER_REAL, at(&itimerval(10, 0)), at_mut(&mut old)), old[2] > 90);
    p!(old[0]);
    p!(until(|| count() == 1));
    nap(30);
    p!(count());
}

fn itimer_virtual_and_prof() {
    catch(SIGVTALRM, 0);
    catch(SIGPROF, 0);
    setitimer(ITIMER_VIRTUAL, 10, 0);
    setitimer(ITIMER_PROF, 10, 0);
    let mut n = 0u64;
    p!(until(|| {
        for _ in 0..100_000 {
            n = std::hint::black_box(n + 1);
        }
        count() == 2
    }));
    let mut all: Vec<String> = hits().iter().map(|h| h.to_string()).collect();
    all.sort();
    p!(all.join(", "));
}

fn itimer_errors_and_fork() {
    p!(setitimer(7, 1, 1), sc!(SYS_setitimer, 0, 8u64, 0u64), sc!(SYS_getitimer, 0, 8u64));
    p!(sc!(SYS_setitimer, 0, at(&[0i64, 0, 0, 1_000_000]), 0u64));
    p!(sc!(SYS_getitimer, 9, at(&[0i64; 4])));
    p!(sc!(SYS_setitimer, 0, at(&[0i64, 0, -1, 0]), 0u64));
    setitimer(ITIMER_REAL, 100_000, 0);
    p!(run(|| {
        let mut now = [1i64; 4];
        sc!(SYS_getitimer, ITIMER_REAL, at_mut(&mut now));
        i32::from(now[2] != 0 || now[3] != 0)
    }));
}

/// timer_create with a signal: struct sigevent has value, signo, notify, tid.
fn timer(clock_id: i32, sig: i32, notify: i32, tid: i32, value: u64) -> (Ret, i32) {
    let mut event = [0u64; 8];
    event[0] = value;
    event[1] = sig as u32 as u64 | (notify as u64) << 32;
    event[2] = tid as u64;
    let mut id = -1i32;
    (sc!(SYS_timer_create, clock_id, at(&event), at_mut(&mut id)), id)
}
fn settime(id: i32, flags: i32, value_ms: i64, interval_ms: i64) -> Ret {
    sc!(SYS_timer_settime, id, flags, at(&itimerspec(value_ms, interval_ms)), 0u64)
}

fn posix_timer_signals() {
    catch(SIGUSR1, SA_RESTART);
    let (ret, id) = timer(CLOCK_MONOTONIC, SIGUSR1, SIGEV_SIGNAL, 0, 55);
    p!(ret, settime(id, 0, 10, 0), until(|| count() > 0));
    // In a timer's siginfo the value lies where pid and uid lie in others.
    let all = hits();
    p!(all.len(), all[0], sc!(SYS_timer_delete, id), sc!(SYS_timer_delete, id));
}

fn posix_timer_repeats_and_disarms() {
    catch(SIGRTMIN(), SA_RESTART);
    let (_, id) = timer(CLOCK_REALTIME, SIGRTMIN(), SIGEV_SIGNAL, 0, 0);
    p!(settime(id, 0, 5, 5), until(|| count() >= 3), settime(id, 0, 0, 0));
    let mut now = [9i64; 4];
    p!(sc!(SYS_timer_gettime, id, at_mut(&mut now)), now[2], now[3]);
}

fn posix_timer_default_event_and_overrun() {
    let mut id = -1i32;
    block(&[SIGALRM]);
    p!(sc!(SYS_timer_create, CLOCK_MONOTONIC, 0u64, at_mut(&mut id)), settime(id, 0, 2, 2));
    nap(50);
    p!(pending(), sigwait(&[SIGALRM], 0), sc!(SYS_timer_getoverrun, id) > Ret(0));
    p!(settime(id, 0, 0, 0));
}

fn posix_timer_to_a_thread_and_none() {
    catch(SIGUSR2, SA_RESTART);
    let (ret, id) = timer(CLOCK_MONOTONIC, SIGUSR2, SIGEV_THREAD_ID, gettid(), 1);
    p!(ret, settime(id, 0, 5, 0), until(|| count() > 0), hits().iter().all(|h| h.tid == gettid()));
    let (ret, id) = timer(CLOCK_MONOTONIC, 0, SIGEV_NONE, 0, 0);
    let mut now = [0i64; 4];
    p!(ret, settime(id, 0, 100_000, 0), sc!(SYS_timer_gettime, id, at_mut(&mut now)), now[2] > 90);
}

fn posix_timer_errors() {
    p!(timer(99, SIGUSR1, SIGEV_SIGNAL, 0, 0).0, timer(CLOCK_MONOTONIC, 65, SIGEV_SIGNAL, 0, 0).0);
    p!(timer(CLOCK_MONOTONIC, 0, SIGEV_SIGNAL, 0, 0).0, timer(CLOCK_MONOTONIC, SIGUSR1, 9, 0, 0).0);
    p!(timer(CLOCK_MONOTONIC, SIGUSR1, SIGEV_THREAD_ID, 1, 0).0, settime(99, 0, 1, 1));
    p!(sc!(SYS_timer_create, CLOCK_MONOTONIC, 8u64, 8u64), sc!(SYS_timer_create, 1, 0u64, 8u64));
    let (_, id) = timer(CLOCK_MONOTONIC, SIGUSR1, SIGEV_SIGNAL, 0, 0);
    p!(sc!(SYS_timer_settime, id, 0, at(&[0i64, 0, 0, -1]), 0u64));
    p!(sc!(SYS_timer_settime, id, 0, 0u64, 0u64));
    p!(sc!(SYS_timer_gettime, id, 8u64), sc!(SYS_timer_getoverrun, 99));
    p!(sc!(SYS_timer_gettime, 99, 8u64));
}

fn posix_timers_are_not_inherited() {
    let (_, id) = timer(CLOCK_MONOTONIC, SIGUSR1, SIGEV_SIGNAL, 0, 0);
    p!(run(|| sc!(SYS_timer_delete, id).errno()), sc!(SYS_timer_delete, id));
}

fn posix_timer_absolute() {
    catch(SIGUSR1, SA_RESTART);
    let (_, id) = timer(CLOCK_MONOTONIC, SIGUSR1, SIGEV_SIGNAL, 0, 0);
    p!(sc!(SYS_timer_settime, id, TIMER_ABSTIME, at(&[0i64, 0, 0, 1]), 0u64));
    p!(until(|| count() == 1));
}

fn timerfd(clock_id: i32, flags: i32) -> i32 {
    sc!(SYS_timerfd_create, clock_id, flags).fd()
}
fn arm(fd: i32, flags: i32, value_ms: i64, interval_ms: i64) -> Ret {
    sc!(SYS_timerfd_settime, fd, flags, at(&itimerspec(value_ms, interval_ms)), 0u64)
}

fn timerfd_one_shot() {
    let fd = timerfd(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    p!(rd(fd, 8), arm(fd, 0, 20, 0), poll(&[(fd, POLLIN)], 0), poll(&[(fd, POLLIN)], 5000));
    p!(rd(fd, 7), rd(fd, 8), rd(fd, 8), fcntl(fd, F_GETFD, 0), wr(fd, "12345678"));
}

fn timerfd_counts_expirations() {
    let fd = timerfd(CLOCK_REALTIME, 0);
    arm(fd, 0, 5, 5);
    nap(40);
    let n = rd(fd, 8).bytes()[0];
    let mut now = [0i64; 4];
    p!(n >= 3, sc!(SYS_timerfd_gettime, fd, at_mut(&mut now)), now[1], arm(fd, 0, 0, 0));
    p!(sc!(SYS_timerfd_gettime, fd, at_mut(&mut now)), now[1], now[3]);
}

fn timerfd_blocking_read_and_absolute() {
    let fd = timerfd(CLOCK_MONOTONIC, 0);
    arm(fd, 0, 30, 0);
    let (got, in_time) = took(20, || rd(fd, 8));
    p!(got, in_time, arm(fd, TFD_TIMER_ABSTIME, 1, 0), rd(fd, 8));
}

fn timerfd_errors() {
    let fd = timerfd(CLOCK_BOOTTIME, TFD_NONBLOCK);
    p!(fd >= 0, sc!(SYS_timerfd_create, 99, 0), sc!(SYS_timerfd_create, 1, 1), arm(1, 0, 1, 1));
    p!(arm(fd, 64, 1, 1), sc!(SYS_timerfd_settime, fd, 0, 8u64, 0u64), arm(999, 0, 1, 1));
    p!(sc!(SYS_timerfd_settime, fd, 0, at(&[0i64, 0, 0, 1_000_000_000]), 0u64));
    p!(sc!(SYS_timerfd_gettime, fd, 8u64), lseek(fd, 0, SEEK_SET));
}

fn timerfd_rearm_clears_expirations() {
    let fd = timerfd(CLOCK_MONOTONIC, TFD_NONBLOCK);
    arm(fd, 0, 1, 0);
    p!(poll(&[(fd, POLLIN)], 5000), arm(fd, 0, 100_000, 0), rd(fd, 8), poll(&[(fd, POLLIN)], 0));
}

fn cpu_time_limit() {
    catch(SIGXCPU, 0);
    p!(run(|| {
        sc!(SYS_prlimit64, 0, RLIMIT_CPU, at(&[1u64, 2]), 0u64);
        let mut n = 0u64;
        loop {
            n = std::hint::black_box(n + 1);
        }
    }));
}

fn setting_clocks_wrongly() {
    let ts = [5i64, 0];
    p!(
        sc!(SYS_clock_settime, CLOCK_PROCESS_CPUTIME_ID, at(&ts)),
        sc!(SYS_clock_settime, -2, at(&ts))
    );
    p!(
        sc!(SYS_clock_settime, CLOCK_BOOTTIME, at(&ts)),
        sc!(SYS_clock_settime, CLOCK_REALTIME, 8u64)
    );
    p!(sc!(SYS_clock_settime, CLOCK_REALTIME, at(&[-1i64, 0])));
    // Before the machine was started.
    p!(sc!(SYS_clock_settime, CLOCK_REALTIME, at(&[1i64, 0])));
    p!(sc!(SYS_settimeofday, at(&[0i64, 1_000_001]), 0u64), sc!(SYS_settimeofday, 8u64, 0u64));
    p!(sc!(SYS_settimeofday, 0u64, at(&[901i32, 0])), sc!(SYS_settimeofday, 0u64, 0u64));
    let modes = |modes: u32, at_word: usize, value: i64| {
        let mut tx = [0i64; 26];
        tx[0] = i64::from(modes);
        tx[at_word] = value;
        sc!(SYS_adjtimex, at(&tx))
    };
    // ADJ_TICK, ADJ_ADJTIME without its companion, ADJ_SETOFFSET with bad fractions.
    p!(modes(0x4000, 11, 8_999), modes(0x4000, 11, 11_001), modes(0x8000, 1, 0));
    p!(modes(0x100, 10, -1), modes(0x100, 10, 1_000_000), modes(0x2100, 10, 1_000_000_000));
    p!(modes(0x2, 2, i64::MAX));
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(
            modes(0x4000, 11, 10_000),
            modes(0x8001, 1, 0),
            modes(0xa001, 1, 0).ok(),
            modes(0x100, 9, 1)
        );
        p!(sc!(SYS_settimeofday, at(&ts), 0u64), sc!(SYS_settimeofday, 0u64, at(&[0i32, 0])));
        0
    }));
}

fn adjtimex_reads() {
    let mut tx = [0u8; 208];
    p!(sc!(SYS_adjtimex, &mut tx).ok(), sc!(SYS_adjtimex, 8u64));
    p!(sc!(SYS_clock_adjtime, 99, &mut tx));
}

cases![
    clocks_never_go_back,
    library_and_system_call_agree,
    clock_errors,
    clock_resolution,
    gettimeofday_and_time,
    process_cpu_clock_counts_work_not_sleep,
    cpu_clock_of_another_process,
    nanosleep_sleeps,
    nanosleep_remaining_time,
    clock_nanosleep_absolute,
    clock_nanosleep_errors,
    absolute_sleep_interrupted_leaves_remain_alone,
    alarm_and_its_remainder,
    itimer_real_repeats,
    itimer_one_shot_and_old_value,
    itimer_virtual_and_prof,
    itimer_errors_and_fork,
    posix_timer_signals,
    posix_timer_repeats_and_disarms,
    posix_timer_default_event_and_overrun,
    posix_timer_to_a_thread_and_none,
    posix_timer_errors,
    posix_timers_are_not_inherited,
    posix_timer_absolute,
    timerfd_one_shot,
    timerfd_counts_expirations,
    timerfd_blocking_read_and_absolute,
    timerfd_errors,
    timerfd_rearm_clears_expirations,
    cpu_time_limit,
    adjtimex_reads,
    setting_clocks_wrongly,
];
