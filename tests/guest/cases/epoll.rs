//! epoll, poll and select.

use crate::prelude::*;
use std::thread;

const ADD: i32 = EPOLL_CTL_ADD;
const MOD: i32 = EPOLL_CTL_MOD;
const DEL: i32 = EPOLL_CTL_DEL;

fn level_triggered() {
    let (ep, fds) = (epoll(0), pipe(0));
    p!(epoll_ctl(ep, ADD, fds[0], EPOLLIN, 7), epoll_wait(ep, 4, 0), wr(fds[1], "ab"));
    p!(epoll_wait(ep, 4, 0));
    p!(epoll_wait(ep, 4, 0), rd(fds[0], 1), epoll_wait(ep, 4, 0), rd(fds[0], 1));
    p!(epoll_wait(ep, 4, 0));
}

fn edge_triggered() {
    let (ep, fds) = (epoll(0), pipe(0));
    p!(epoll_ctl(ep, ADD, fds[0], EPOLLIN | EPOLLET, 1), wr(fds[1], "a"), epoll_wait(ep, 4, 0));
    p!(epoll_wait(ep, 4, 0));
    p!(wr(fds[1], "b"), epoll_wait(ep, 4, 0), epoll_wait(ep, 4, 0), rd(fds[0], 1));
    p!(epoll_wait(ep, 4, 0));
    p!(epoll_ctl(ep, MOD, fds[0], EPOLLIN | EPOLLET, 2), epoll_wait(ep, 4, 0));
    p!(epoll_wait(ep, 4, 0));
}

fn one_shot() {
    let (ep, fds) = (epoll(0), pipe(0));
    wr(fds[1], "a");
    p!(epoll_ctl(ep, ADD, fds[0], EPOLLIN | EPOLLONESHOT, 1), epoll_wait(ep, 4, 0));
    p!(epoll_wait(ep, 4, 0));
    p!(wr(fds[1], "b"), epoll_wait(ep, 4, 0));
    p!(epoll_ctl(ep, MOD, fds[0], EPOLLIN | EPOLLONESHOT, 2), epoll_wait(ep, 4, 0));
}

fn add_of_a_ready_descriptor() {
    let (ep, fds) = (epoll(0), pipe(0));
    wr(fds[1], "a");
    p!(epoll_ctl(ep, ADD, fds[0], EPOLLIN | EPOLLET, 1));
    p!(epoll_ctl(ep, ADD, fds[1], EPOLLOUT | EPOLLET, 2), epoll_wait(ep, 4, 0));
    p!(epoll_wait(ep, 4, 0));
}

fn modify_and_delete() {
    let (ep, fds) = (epoll(0), pipe(0));
    wr(fds[1], "a");
    p!(epoll_ctl(ep, ADD, fds[0], 0, 1), epoll_wait(ep, 4, 0));
    p!(epoll_ctl(ep, MOD, fds[0], EPOLLIN, 9), epoll_wait(ep, 4, 0));
    p!(epoll_ctl(ep, DEL, fds[0], 0, 0), epoll_wait(ep, 4, 0), epoll_ctl(ep, DEL, fds[0], 0, 0));
    p!(epoll_ctl(ep, MOD, fds[0], EPOLLIN, 0));
    p!(sc!(SYS_epoll_ctl, ep, ADD, fds[0], 8u64), sc!(SYS_epoll_ctl, ep, DEL, fds[0], 8u64));
}

fn control_errors() {
    let (ep, fds) = (epoll(0), pipe(0));
    put(c"f", "");
    let file = open(c"f", O_RDONLY, 0).fd();
    p!(epoll_ctl(ep, ADD, file, EPOLLIN, 0), epoll_ctl(ep, ADD, 999, EPOLLIN, 0));
    p!(epoll_ctl(999, ADD, fds[0], EPOLLIN, 0));
    p!(epoll_ctl(fds[0], ADD, fds[1], EPOLLIN, 0), epoll_ctl(ep, ADD, ep, EPOLLIN, 0));
    p!(epoll_ctl(ep, 9, fds[0], EPOLLIN, 0));
    p!(epoll_ctl(ep, ADD, fds[0], EPOLLIN, 0), epoll_ctl(ep, ADD, fds[0], EPOLLIN, 0));
    p!(epoll_ctl(ep, ADD, open(c".", O_RDONLY, 0).fd(), EPOLLIN, 0));
}

fn wait_errors_and_create_flags() {
    let ep = epoll(EPOLL_CLOEXEC);
    p!(fcntl(ep, F_GETFD, 0), sc!(SYS_epoll_create1, 1), sc!(SYS_epoll_create, 0));
    p!(sc!(SYS_epoll_create, 5).ok());
    p!(epoll_wait(ep, 0, 0), sc!(SYS_epoll_wait, ep, 8u64, -1, 0));
    p!(sc!(SYS_epoll_wait, 1, at(&[0u64; 8]), 1, 0));
    let fds = pipe(0);
    epoll_ctl(ep, ADD, fds[1], EPOLLOUT, 1);
    p!(sc!(SYS_epoll_wait, ep, 8u64, 1, 0), epoll_wait(999, 1, 0), rd(ep, 1), wr(ep, "x"));
    p!(sc!(SYS_epoll_wait, ep, at_mut(&mut [0u64; 8]), i32::MAX, 0));
}

fn hang_up_and_error_are_always_reported() {
    let (ep, a, b) = (epoll(0), pipe(0), pipe(0));
    epoll_ctl(ep, ADD, a[0], 0, 1);
    epoll_ctl(ep, ADD, b[1], 0, 2);
    p!(close(a[1]), close(b[0]), epoll_wait(ep, 4, 0));
}

fn hang_up_of_a_socket() {
    let (ep, s) = (epoll(0), pair(SOCK_STREAM));
    epoll_ctl(ep, ADD, s[0], EPOLLIN | EPOLLRDHUP | EPOLLOUT, 1);
    p!(epoll_wait(ep, 4, 0), shutdown(s[1], SHUT_WR), epoll_wait(ep, 4, 0), close(s[1]));
    p!(epoll_wait(ep, 4, 0));
}

fn timeout() {
    let ep = epoll(0);
    let (text, in_time) = took(30, || epoll_wait(ep, 4, 30));
    p!(text, in_time);
}

fn wake_up_of_a_waiter() {
    let (ep, fds) = (epoll(0), pipe(0));
    epoll_ctl(ep, ADD, fds[0], EPOLLIN, 3);
    let waiter = thread::spawn(move || epoll_wait(ep, 4, 10000));
    p!(wr(fds[1], "x"), waiter.join().unwrap_or_default());
}

fn add_while_another_thread_waits() {
    let (ep, fds) = (epoll(0), pipe(0));
    wr(fds[1], "x");
    let waiter = thread::spawn(move || epoll_wait(ep, 4, 10000));
    p!(epoll_ctl(ep, ADD, fds[0], EPOLLIN, 3), waiter.join().unwrap_or_default());
}

fn nested() {
    let (outer, inner, fds) = (epoll(0), epoll(0), pipe(0));
    epoll_ctl(outer, ADD, inner, EPOLLIN, 1);
    epoll_ctl(inner, ADD, fds[0], EPOLLIN, 2);
    p!(epoll_wait(outer, 4, 0), poll(&[(inner, POLLIN)], 0), wr(fds[1], "x"));
    p!(epoll_wait(outer, 4, 0));
    p!(epoll_wait(inner, 4, 0), poll(&[(outer, POLLIN)], 0), rd(fds[0], 1));
    p!(epoll_wait(outer, 4, 0));
    p!(epoll_ctl(inner, ADD, outer, EPOLLIN, 3));
}

fn nesting_depth() {
    let all: Vec<i32> = (0..7).map(|_| epoll(0)).collect();
    for pair in all.windows(2) {
        p!(epoll_ctl(pair[0], ADD, pair[1], EPOLLIN, 0));
    }
}

fn exclusive() {
    let (ep, fds) = (epoll(0), pipe(0));
    p!(epoll_ctl(ep, ADD, fds[0], EPOLLIN | EPOLLEXCLUSIVE, 1), wr(fds[1], "x"));
    p!(epoll_wait(ep, 4, 0));
    p!(epoll_ctl(ep, MOD, fds[0], EPOLLIN, 1));
    p!(epoll_ctl(ep, MOD, fds[0], EPOLLIN | EPOLLEXCLUSIVE, 1));
    p!(epoll_ctl(ep, ADD, fds[1], EPOLLOUT | EPOLLEXCLUSIVE | EPOLLONESHOT, 1));
    p!(epoll_ctl(ep, ADD, epoll(0), EPOLLIN | EPOLLEXCLUSIVE, 1));
}

fn duplicates_are_separate_and_outlive_the_original() {
    let (ep, fds) = (epoll(0), pipe(0));
    let copy = dup(fds[0]).fd();
    epoll_ctl(ep, ADD, fds[0], EPOLLIN, 1);
    epoll_ctl(ep, ADD, copy, EPOLLIN, 2);
    wr(fds[1], "x");
    p!(epoll_wait(ep, 4, 0), close(fds[0]), epoll_wait(ep, 4, 0), close(copy));
    p!(epoll_wait(ep, 4, 0));
}

fn max_events_rotates() {
    let ep = epoll(0);
    for i in 0..4 {
        let fds = pipe(0);
        wr(fds[1], "x");
        epoll_ctl(ep, ADD, fds[0], EPOLLIN, i);
    }
    let mut all: Vec<String> = (0..4).map(|_| epoll_wait(ep, 1, 0)).collect();
    all.sort();
    p!(all.join(" "), epoll_wait(ep, 3, 0).split(',').count(), epoll_wait(ep, 100, 0));
}

fn shared_after_fork() {
    let (ep, fds) = (epoll(0), pipe(0));
    epoll_ctl(ep, ADD, fds[0], EPOLLIN, 1);
    p!(run(|| {
        wr(fds[1], "x");
        epoll_ctl(ep, MOD, fds[0], EPOLLIN, 2).errno()
    }));
    p!(epoll_wait(ep, 4, 0));
}

fn pwait_masks_signals() {
    let ep = epoll(0);
    catch(SIGUSR1, 0);
    block(&[SIGUSR1]);
    raise(SIGUSR1);
    let empty = 0u64;
    let mut buf = [0u8; 12];
    p!(sc!(SYS_epoll_pwait, ep, &mut buf, 1, 10000, at(&empty), 8), caught());
    p!(names(sigmask(SIG_BLOCK, 0)));
    p!(sc!(SYS_epoll_pwait, ep, &mut buf, 1, 0, at(&empty), 4));
    p!(sc!(SYS_epoll_pwait, ep, &mut buf, 1, 0, 8u64, 8));
    p!(sc!(SYS_epoll_pwait2, ep, &mut buf, 1, at(&span(5)), 0u64, 8));
    p!(sc!(SYS_epoll_pwait2, ep, &mut buf, 1, at(&[0i64, -1]), 0u64, 8));
}

fn poll_basics() {
    let fds = pipe(0);
    p!(poll(&[(fds[0], POLLIN), (fds[1], POLLOUT)], 0), wr(fds[1], "x"));
    p!(poll(&[(fds[0], POLLIN | POLLRDNORM), (fds[1], 0)], 0));
    p!(poll(&[(999, POLLIN), (-1, POLLIN), (fds[0], POLLOUT)], 0), poll(&[], 0));
    p!(took(20, || poll(&[], 20)).1);
    p!(close(fds[1]), poll(&[(fds[0], POLLIN)], 0), rd(fds[0], 1), poll(&[(fds[0], POLLIN)], 0));
}

fn poll_errors() {
    p!(sc!(SYS_poll, 8u64, 1, 0), sc!(SYS_poll, 0u64, 1u64 << 32, 0));
    p!(sc!(SYS_poll, 8u64, 100_000_000, 0));
    p!(sc!(SYS_ppoll, 0u64, 0, at(&[0i64, 1_000_000_000]), 0u64, 8));
    p!(sc!(SYS_ppoll, 0u64, 0, at(&[-1i64, 0]), 0u64, 8));
    p!(sc!(SYS_ppoll, 0u64, 0, 8u64, 0u64, 8), sc!(SYS_ppoll, 0u64, 0, at(&span(0)), at(&0u64), 4));
}

fn poll_of_files_and_odd_descriptors() {
    put(c"f", "");
    let f = open(c"f", O_RDWR, 0).fd();
    p!(poll(&[(f, POLLIN | POLLOUT), (open(c".", O_RDONLY, 0).fd(), POLLIN)], 0));
    p!(poll(&[(open(c"/dev/null", O_RDWR, 0).fd(), POLLIN | POLLOUT)], 0));
    p!(poll(&[(open(c"f", O_PATH, 0).fd(), POLLIN)], 0));
    p!(poll(&[(sc!(SYS_memfd_create, c"m", 0).fd(), POLLIN | POLLOUT)], 0));
}

fn poll_wakes_on_close_of_the_peer() {
    let s = pair(SOCK_STREAM);
    let waiter = thread::spawn(move || poll(&[(s[0], POLLIN | POLLRDHUP)], 10000));
    p!(close(s[1]), waiter.join().unwrap_or_default());
}

fn ppoll_masks_signals() {
    let fds = pipe(0);
    catch(SIGUSR1, 0);
    block(&[SIGUSR1]);
    raise(SIGUSR1);
    p!(ppoll(fds[0], POLLIN, 0, None), ppoll(fds[0], POLLIN, -1, Some(0)), caught());
    p!(ppoll(fds[1], POLLOUT, -1, Some(0)));
}

fn select_basics() {
    let fds = pipe(0);
    let zero = timeval(0);
    let [r, w] = fds;
    p!(select(w + 1, [&[r], &[w], &[]], at(&zero)), wr(w, "x"));
    p!(select(w + 1, [&[r, w], &[r, w], &[r]], at(&zero)));
    p!(select(r, [&[r], &[], &[]], at(&zero)), select(-1, [&[], &[], &[]], at(&zero)));
    p!(select(50, [&[40], &[], &[]], at(&zero)));
    p!(select(w + 1, [&[r], &[], &[]], at(&[0i64, -1])), select(w + 1, [&[r], &[], &[]], 8u64));
    p!(select(2000, [&[r], &[], &[]], at(&zero)));
}

fn select_updates_the_timeout() {
    let mut left = timeval(10_000);
    let fds = pipe(0);
    wr(fds[1], "x");
    p!(select(fds[0] + 1, [&[fds[0]], &[], &[]], at_mut(&mut left)), left[0] > 0);
    p!(left != timeval(10_000) || left[0] == 10);
    let mut short = timeval(20);
    p!(took(20, || select(0, [&[], &[], &[]], at_mut(&mut short))).0, short[0], short[1]);
}

fn pselect_keeps_the_timeout_and_masks() {
    let span = span(10);
    p!(sc!(SYS_pselect6, 0, 0u64, 0u64, 0u64, at(&span), 0u64), span[1]);
    catch(SIGUSR1, 0);
    block(&[SIGUSR1]);
    raise(SIGUSR1);
    let mask = 0u64;
    let arg = [at(&mask), 8];
    p!(sc!(SYS_pselect6, 0, 0u64, 0u64, 0u64, 0u64, at(&arg)), caught());
    p!(sc!(SYS_pselect6, 0, 0u64, 0u64, 0u64, at(&span), 8u64));
    let bad = [at(&mask), 4];
    p!(sc!(SYS_pselect6, 0, 0u64, 0u64, 0u64, at(&span), at(&bad)));
}

fn select_with_bad_pointers() {
    p!(sc!(SYS_select, 1, 8u64, 0u64, 0u64, 0u64));
    p!(sc!(SYS_select, 0, 8u64, 0u64, 0u64, at(&timeval(0))));
}

fn writable_pipe_needs_room_for_a_page() {
    let fds = pipe(O_NONBLOCK);
    let ep = epoll(0);
    epoll_ctl(ep, ADD, fds[1], EPOLLOUT, 1);
    while wr(fds[1], vec![0; 4096]).ok() {}
    p!(epoll_wait(ep, 4, 0), rd(fds[0], 100).bytes().len(), epoll_wait(ep, 4, 0));
    p!(rd(fds[0], 4096).bytes().len(), epoll_wait(ep, 4, 0));
}

cases![
    level_triggered,
    edge_triggered,
    one_shot,
    add_of_a_ready_descriptor,
    modify_and_delete,
    control_errors,
    wait_errors_and_create_flags,
    hang_up_and_error_are_always_reported,
    hang_up_of_a_socket,
    timeout,
    wake_up_of_a_waiter,
    add_while_another_thread_waits,
    nested,
    nesting_depth,
    exclusive,
    duplicates_are_separate_and_outlive_the_original,
    max_events_rotates,
    shared_after_fork,
    pwait_masks_signals,
    poll_basics,
    poll_errors,
    poll_of_files_and_odd_descriptors,
    poll_wakes_on_close_of_the_peer,
    ppoll_masks_signals,
    select_basics,
    select_updates_the_timeout,
    pselect_keeps_the_timeout_and_masks,
    select_with_bad_pointers,
    writable_pipe_needs_room_for_a_page,
];
