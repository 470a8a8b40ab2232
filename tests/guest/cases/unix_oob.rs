//! Out-of-band bytes of local streams.

use crate::prelude::*;

/// SIOCATMARK.
fn mark(fd: i32) -> String {
    let mut at = 9i32;
    let ret = ioctl(fd, 0x8905, at_mut(&mut at));
    format!("{ret} {at}")
}

fn ready(fd: i32) -> String {
    poll(&[(fd, POLLIN | POLLPRI | POLLRDBAND)], 0).to_string()
}

fn byte_is_taken_from_the_middle() {
    let s = pair(SOCK_STREAM);
    p!(send(s[0], "ab!", MSG_OOB), send(s[0], "cd", 0), ready(s[1]), mark(s[1]));
    p!(recv(s[1], 1, MSG_OOB), ready(s[1]), recv(s[1], 1, MSG_OOB));
    p!(recv(s[1], 10, 0), mark(s[1]), recv(s[1], 10, 0), mark(s[1]), ready(s[1]));
}

fn read_stops_at_the_byte_and_skips_it() {
    let s = pair(SOCK_STREAM | SOCK_NONBLOCK);
    send(s[0], "ab!", MSG_OOB);
    send(s[0], "cd", 0);
    p!(recv(s[1], 10, 0), mark(s[1]), ready(s[1]), recv(s[1], 10, 0), ready(s[1]));
    p!(recv(s[1], 1, MSG_OOB), mark(s[1]), recv(s[1], 1, 0));
}

fn alone() {
    let s = pair(SOCK_STREAM | SOCK_NONBLOCK);
    p!(send(s[0], "!", MSG_OOB), mark(s[1]), ready(s[1]), recv(s[1], 4, 0), mark(s[1]));
    p!(send(s[0], "?", MSG_OOB), recv(s[1], 4, MSG_OOB), ready(s[1]), mark(s[1]));
    p!(recv(s[1], 4, 0), ready(s[1]), mark(s[1]));
}

fn second_one_makes_the_first_ordinary() {
    let s = pair(SOCK_STREAM | SOCK_NONBLOCK);
    send(s[0], "a1", MSG_OOB);
    send(s[0], "b2", MSG_OOB);
    p!(recv(s[1], 1, MSG_OOB), recv(s[1], 10, 0), mark(s[1]), recv(s[1], 10, 0));
    send(s[0], "a1", MSG_OOB);
    p!(recv(s[1], 1, MSG_OOB), send(s[0], "b2", MSG_OOB), recv(s[1], 10, 0));
    p!(recv(s[1], 10, 0), mark(s[1]), recv(s[1], 1, MSG_OOB), recv(s[1], 10, 0));
}

fn inline() {
    let s = pair(SOCK_STREAM | SOCK_NONBLOCK);
    p!(setopt(s[1], SO_OOBINLINE, 1), send(s[0], "ab!", MSG_OOB), send(s[0], "cd", 0));
    p!(recv(s[1], 1, MSG_OOB), ready(s[1]), recv(s[1], 10, 0), mark(s[1]));
    p!(recv(s[1], 10, MSG_PEEK), mark(s[1]), recv(s[1], 10, 0), mark(s[1]), ready(s[1]));
}

fn peeking() {
    let s = pair(SOCK_STREAM | SOCK_NONBLOCK);
    send(s[0], "ab!", MSG_OOB);
    send(s[0], "cd", 0);
    p!(recv(s[1], 1, MSG_OOB | MSG_PEEK), recv(s[1], 1, MSG_OOB | MSG_PEEK));
    p!(recv(s[1], 10, MSG_PEEK), recv(s[1], 2, 0), recv(s[1], 10, MSG_PEEK), mark(s[1]));
    p!(recv(s[1], 1, MSG_OOB), recv(s[1], 10, MSG_PEEK), mark(s[1]), recv(s[1], 10, 0));
}

fn message_flags() {
    let s = pair(SOCK_STREAM | SOCK_NONBLOCK);
    send(s[0], "ab!", MSG_OOB);
    let mut buf = [0u8; 8];
    let parts = iov(&[(at_mut(&mut buf), 8)]);
    let mut head = [0u64, 0, at(&*parts), 1, 0, 0, 0];
    p!(sc!(SYS_recvmsg, s[1], at_mut(&mut head), MSG_OOB), head[6]);
    p!(sc!(SYS_recvmsg, s[1], at_mut(&mut head), 0), head[6]);
}

fn refused() {
    for kind in [SOCK_DGRAM, SOCK_SEQPACKET] {
        let s = pair(kind | SOCK_NONBLOCK);
        p!(send(s[0], "!", MSG_OOB), recv(s[1], 1, MSG_OOB));
    }
    let s = pair(SOCK_STREAM | SOCK_NONBLOCK);
    p!(send(s[0], "", MSG_OOB), recv(s[1], 1, MSG_OOB));
    let alone = socket(SOCK_STREAM).fd();
    p!(send(alone, "!", MSG_OOB), recv(alone, 1, MSG_OOB), mark(alone));
    p!(shutdown(s[1], SHUT_RD), send(s[0], "!", MSG_OOB | MSG_NOSIGNAL));
    let s = pair(SOCK_STREAM | SOCK_NONBLOCK);
    send(s[0], "!", MSG_OOB);
    p!(sc!(SYS_recvfrom, s[1], 8u64, 1, MSG_OOB, 0u64, 0u64), recv(s[1], 1, MSG_OOB));
    p!(ioctl(s[1], 0x8905, 8u64));
}

fn waiting_reader_sees_it() {
    let s = pair(SOCK_STREAM);
    let reader = child(|| {
        p!(poll(&[(s[1], POLLPRI)], 5000), recv(s[1], 1, MSG_OOB));
        0
    });
    nap(10);
    send(s[0], "!", MSG_OOB);
    p!(wait(reader));
}

fn end_of_the_stream_behind_it() {
    let s = pair(SOCK_STREAM);
    send(s[0], "a!", MSG_OOB);
    p!(close(s[0]), recv(s[1], 10, 0), recv(s[1], 10, 0), recv(s[1], 1, MSG_OOB));
}

cases![
    byte_is_taken_from_the_middle,
    read_stops_at_the_byte_and_skips_it,
    alone,
    second_one_makes_the_first_ordinary,
    inline,
    peeking,
    message_flags,
    refused,
    waiting_reader_sees_it,
    end_of_the_stream_behind_it,
];
