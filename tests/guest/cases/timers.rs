//! Timers of every kind at their edges: what is left, what is missed, what changes them.

use crate::prelude::*;

const SECOND: i64 = 1_000_000_000;

fn timer(clock_id: i32, notify: i32, sig: i32) -> i32 {
    let mut id = -1i32;
    let event = [5u64, sig as u64 | (notify as u64) << 32, 0, 0, 0, 0, 0, 0];
    sc!(SYS_timer_create, clock_id, at(&event), at_mut(&mut id));
    id
}
/// Sets a timer in milliseconds; the old setting.
fn arm(id: i32, flags: i32, value: i64, interval: i64) -> (Ret, [i64; 4]) {
    let mut old = [-1i64; 4];
    (sc!(SYS_timer_settime, id, flags, at(&itimerspec(value, interval)), at_mut(&mut old)), old)
}
fn left(id: i32) -> [i64; 4] {
    let mut now = [-1i64; 4];
    sc!(SYS_timer_gettime, id, at_mut(&mut now));
    now
}
fn fd_timer(clock_id: i32, flags: i32) -> i32 {
    sc!(SYS_timerfd_create, clock_id, flags).fd()
}
fn arm_fd(fd: i32, flags: i32, setting: [i64; 4]) -> Ret {
    sc!(SYS_timerfd_settime, fd, flags, at(&setting), 0u64)
}
fn left_fd(fd: i32) -> [i64; 4] {
    let mut now = [-1i64; 4];
    sc!(SYS_timerfd_gettime, fd, at_mut(&mut now));
    now
}
/// How long until a timer, in whole seconds rounded up.
fn seconds(setting: [i64; 4]) -> i64 {
    setting[2] + i64::from(setting[3] > 0)
}
fn expirations(fd: i32) -> u64 {
    rd(fd, 8).bytes().iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

fn clocks_that_timers_take() {
    // 8 and 9 need a clock that wakes the machine.
    for clock_id in (-4..12).filter(|id| ![8, 9].contains(id)) {
        let mut id = -1i32;
        let ret = sc!(SYS_timer_create, clock_id, 0u64, at_mut(&mut id));
        say!("{clock_id}: {} {}", Ret(ret.0.min(0)), failure(sc!(SYS_timerfd_create, clock_id, 0)));
    }
}
fn failure(ret: Ret) -> Ret {
    Ret(ret.0.min(0))
}

fn what_was_set_before() {
    let id = timer(CLOCK_MONOTONIC, SIGEV_NONE, 0);
    let (ret, old) = arm(id, 0, 5000, 300);
    p!(ret, format!("{old:?}"));
    let (_, old) = arm(id, 0, 9000, 0);
    p!(seconds(old), old[0], old[1], seconds(left(id)), left(id)[0]);
    let (_, old) = arm(id, 0, 0, 700);
    p!(seconds(old), old[1]);
}

fn timers_without_a_signal_run() {
    let id = timer(CLOCK_MONOTONIC, SIGEV_NONE, 0);
    arm(id, 0, 20, 0);
    p!(until(|| left(id) == [0; 4]), sc!(SYS_timer_getoverrun, id));
    arm(id, 0, 20, 50);
    nap(60);
    let now = left(id);
    p!(now[1], now[2] == 0 && now[3] > 0 && now[3] <= 50_000_000);
}

fn overruns_are_counted() {
    block(&[SIGUSR1]);
    let id = timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1);
    arm(id, 0, 10, 10);
    nap(200);
    let mut info = [0i32; 32];
    sc!(SYS_rt_sigtimedwait, at(&set(&[SIGUSR1])), at_mut(&mut info), at(&span(5000)), 8);
    // The timer's number, how often it was missed, and the value.
    let same = sc!(SYS_timer_getoverrun, id).0 == i64::from(info[5]);
    p!(info[0], info[2], info[4] == id, info[5] >= 10, info[6], same);
    // Disarmed, the signal that waits goes.
    nap(30);
    p!(pending(), arm(id, 0, 0, 0).0, pending(), sc!(SYS_timer_delete, id), pending());
}

fn deleting_takes_the_signal_away() {
    block(&[SIGUSR1]);
    let id = timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1);
    arm(id, 0, 5, 0);
    p!(until(|| pending() != "none"), sc!(SYS_timer_delete, id), sigwait(&[SIGUSR1], 0));
}

fn a_timer_in_the_past() {
    block(&[SIGUSR1]);
    for clock_id in [CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME] {
        let id = timer(clock_id, SIGEV_SIGNAL, SIGUSR1);
        let past = [0i64, 0, 1, 0];
        p!(sc!(SYS_timer_settime, id, TIMER_ABSTIME, at(&past), 0u64), sigwait(&[SIGUSR1], 5000));
        p!(format!("{:?}", left(id)), sc!(SYS_timer_delete, id));
        let fd = fd_timer(clock_id, 0);
        p!(arm_fd(fd, 1, past), expirations(fd), format!("{:?}", left_fd(fd)));
    }
}

fn a_repeated_timer_in_the_past_counts() {
    let fd = fd_timer(CLOCK_MONOTONIC, TFD_NONBLOCK);
    let start = clock(CLOCK_MONOTONIC) - 10 * SECOND;
    p!(arm_fd(fd, 1, [1, 0, start / SECOND, start % SECOND]));
    // It expires by an interrupt, which slow machines make a moment later.
    p!(poll(&[(fd, POLLIN)], -1));
    let n = expirations(fd);
    p!(n >= 10, left_fd(fd)[0], left_fd(fd)[2] <= 1);
}

fn clocks_of_cpu_time() {
    block(&[SIGUSR1]);
    for clock_id in [CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID] {
        let id = timer(clock_id, SIGEV_SIGNAL, SIGUSR1);
        p!(arm(id, 0, 40, 0).0, sigwait(&[SIGUSR1], 0));
        let start = clock(clock_id);
        while pending() == "none" {}
        p!(clock(clock_id) - start < SECOND, sigwait(&[SIGUSR1], 0), format!("{:?}", left(id)));
        p!(sc!(SYS_timer_delete, id));
    }
}

fn signals_to_a_thread() {
    let mut id = -1i32;
    let event =
        [9u64, SIGUSR1 as u64 | (SIGEV_THREAD_ID as u64) << 32, gettid() as u64, 0, 0, 0, 0, 0];
    block(&[SIGUSR1]);
    p!(sc!(SYS_timer_create, CLOCK_MONOTONIC, at(&event), at_mut(&mut id)), arm(id, 0, 5, 0).0);
    p!(until(|| pending() != "none"), sigwait(&[SIGUSR1], 0));
    // To a thread of another process it may not be.
    let pid = child(|| {
        nap(5000);
        0
    });
    let event = [9u64, SIGUSR1 as u64 | (SIGEV_THREAD_ID as u64) << 32, pid as u64, 0, 0, 0, 0, 0];
    p!(
        sc!(SYS_timer_create, CLOCK_MONOTONIC, at(&event), at_mut(&mut id)),
        kill(pid, SIGKILL),
        wait(pid)
    );
}

fn numbers_of_timers() {
    let all: Vec<i32> = (0..4).map(|_| timer(CLOCK_MONOTONIC, SIGEV_NONE, 0)).collect();
    p!(
        format!("{all:?}"),
        sc!(SYS_timer_delete, all[1]),
        sc!(SYS_timer_gettime, all[1], at_mut(&mut [0u64; 4]))
    );
    p!(
        timer(CLOCK_MONOTONIC, SIGEV_NONE, 0),
        sc!(SYS_timer_delete, -1),
        sc!(SYS_timer_gettime, all[0], 8u64)
    );
    p!(run(|| sc!(SYS_timer_delete, all[0]).errno()), sc!(SYS_timer_getoverrun, all[0]));
}

fn timers_do_not_outlive_programs() {
    let id = timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1);
    arm(id, 0, 60_000, 0);
    p!(run(|| {
        let own = timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGKILL);
        arm(own, 0, 1, 0);
        nap(1000);
        0
    }));
    // An interval timer stays over a program.
    p!(run(|| {
        setitimer(ITIMER_REAL, 60, 0);
        exec_helper(&["pause"]).errno()
    }));
}

fn alarms_replace_each_other() {
    block(&[SIGALRM]);
    p!(sc!(SYS_alarm, 100), sc!(SYS_alarm, 50), setitimer(ITIMER_REAL, 7000, 0), sc!(SYS_alarm, 0));
    let mut now = [-1i64; 4];
    p!(sc!(SYS_getitimer, ITIMER_REAL, at_mut(&mut now)), format!("{now:?}"), sc!(SYS_alarm, 0));
    p!(
        setitimer(ITIMER_REAL, 1, 0),
        sigwait(&[SIGALRM], 5000),
        sc!(SYS_alarm, u32::MAX),
        sc!(SYS_alarm, 0).0 > 1 << 30
    );
}

fn interval_timers_say_what_is_left() {
    let mut old = [0i64; 4];
    for which in [ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF] {
        p!(setitimer(which, 50_000, 20));
        p!(sc!(SYS_setitimer, which, at(&[0i64; 4]), at_mut(&mut old)), old[1], old[2] >= 48);
        p!(sc!(SYS_getitimer, which, at_mut(&mut old)), format!("{old:?}"));
    }
    p!(sc!(SYS_setitimer, 3, at(&[0i64; 4]), 0u64), sc!(SYS_getitimer, 3, at_mut(&mut old)));
    p!(
        sc!(SYS_setitimer, 0, at(&[0i64, 0, 0, 1_000_000]), 0u64),
        sc!(SYS_setitimer, 0, at(&[0i64, -1, 0, 0]), 0u64)
    );
    p!(
        sc!(SYS_setitimer, 0, 8u64, 0u64),
        sc!(SYS_setitimer, 0, 0u64, at_mut(&mut old)),
        sc!(SYS_getitimer, 0, 8u64)
    );
}

fn cpu_interval_timers_signal() {
    for (which, sig) in [(ITIMER_VIRTUAL, SIGVTALRM), (ITIMER_PROF, SIGPROF)] {
        catch(sig, SA_RESTART);
        setitimer(which, 30, 0);
        nap(60);
        p!(caught());
        while count() == 0 {
            getppid();
        }
        p!(caught());
    }
}

fn timer_descriptors_are_shared() {
    let fd = fd_timer(CLOCK_MONOTONIC, TFD_NONBLOCK);
    arm_fd(fd, 0, itimerspec(1, 0));
    poll(&[(fd, POLLIN)], 5000);
    p!(
        run(|| expirations(fd) as i32),
        rd(fd, 8),
        run(|| arm_fd(fd, 0, itimerspec(9000, 0)).errno())
    );
    p!(seconds(left_fd(fd)));
}

fn reading_timer_descriptors_wrongly() {
    let fd = fd_timer(CLOCK_MONOTONIC, TFD_NONBLOCK);
    p!(rd(fd, 8), rd(fd, 7), rd(fd, 0), wr(fd, "12345678"), pread(fd, 8, 0));
    arm_fd(fd, 0, itimerspec(1, 0));
    poll(&[(fd, POLLIN)], 5000);
    // A bad place loses the expirations; too short a one does not.
    p!(rd(fd, 7), sc!(SYS_read, fd, 8u64, 8), rd(fd, 8), rd(fd, 100));
    arm_fd(fd, 0, itimerspec(1, 0));
    poll(&[(fd, POLLIN)], 5000);
    p!(rd(fd, 100), sc!(SYS_readv, fd, at(&*iov(&[(at_mut(&mut [0u8; 8]), 8)])), 1));
}

fn clock_changes_can_cancel() {
    let (a, b) = (fd_timer(CLOCK_REALTIME, TFD_NONBLOCK), fd_timer(CLOCK_MONOTONIC, TFD_NONBLOCK));
    // TFD_TIMER_CANCEL_ON_SET is for absolute times of the clock that can be set.
    let later = [0, 0, clock(CLOCK_REALTIME) / SECOND + 1000, 0];
    p!(
        arm_fd(a, 3, later),
        arm_fd(b, 3, [0, 0, 1 << 20, 0]),
        arm_fd(a, 2, [0, 0, 5, 0]),
        arm_fd(a, 4, later)
    );
    p!(rd(a, 8), poll(&[(a, POLLIN)], 0));
}

fn sleeping_until_now() {
    for clock_id in [CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI] {
        let past = [1i64, 0];
        p!(
            clock_id,
            clock_nanosleep(clock_id, TIMER_ABSTIME, at(&past), 0u64),
            clock_nanosleep(clock_id, 0, at(&[0i64, 0]), 0u64)
        );
        p!(
            clock_nanosleep(clock_id, 0, at(&[0i64, -1]), 0u64),
            clock_nanosleep(clock_id, 2, at(&[0i64, 1]), 0u64)
        );
    }
    for clock_id in [
        CLOCK_THREAD_CPUTIME_ID,
        CLOCK_MONOTONIC_RAW,
        CLOCK_REALTIME_COARSE,
        CLOCK_MONOTONIC_COARSE,
        12,
        -1,
    ] {
        p!(clock_id, clock_nanosleep(clock_id, 0, at(&[0i64, 1]), 0u64));
    }
}

fn sleeping_on_cpu_time() {
    // Nothing else runs in this process, so that its clock stands while it sleeps: a thread must work.
    let flag = anon(1);
    extern "C" fn entry(arg: *mut c_void) -> i32 {
        while word(arg as u64).load(SeqCst) == 0 {}
        sc!(SYS_exit, 0);
        0
    }
    spawn(THREAD, entry, flag, 0, 0);
    let before = clock(CLOCK_PROCESS_CPUTIME_ID);
    p!(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, at(&span(50)), 0u64));
    p!(clock(CLOCK_PROCESS_CPUTIME_ID) - before >= 50_000_000);
    word(flag).store(1, SeqCst);
}

fn resolutions_and_places() {
    for clock_id in (0..12).filter(|id| ![8, 9].contains(id)) {
        let mut resolution = [-1i64; 2];
        p!(
            clock_id,
            sc!(SYS_clock_getres, clock_id, at_mut(&mut resolution)),
            resolution[0],
            resolution[1]
        );
        p!(sc!(SYS_clock_getres, clock_id, 0u64), sc!(SYS_clock_gettime, clock_id, 8u64));
    }
}

cases![
    clocks_that_timers_take,
    what_was_set_before,
    timers_without_a_signal_run,
    overruns_are_counted,
    deleting_takes_the_signal_away,
    a_timer_in_the_past,
    a_repeated_timer_in_the_past_counts,
    clocks_of_cpu_time,
    signals_to_a_thread,
    numbers_of_timers,
    timers_do_not_outlive_programs,
    alarms_replace_each_other,
    interval_timers_say_what_is_left,
    cpu_interval_timers_signal,
    timer_descriptors_are_shared,
    reading_timer_descriptors_wrongly,
    clock_changes_can_cancel,
    sleeping_until_now,
    sleeping_on_cpu_time,
    resolutions_and_places,
];
