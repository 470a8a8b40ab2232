//! Unix sockets: every call in every state, flags of messages, and control messages at their edges.

use crate::prelude::*;

const KINDS: [i32; 3] = [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET];

/// One socket of a kind in each state.
fn states(kind: i32) -> Vec<(&'static str, i32)> {
    ignore(SIGPIPE);
    let kind = kind | SOCK_NONBLOCK;
    let mut all = vec![("fresh", socket(kind).fd())];
    let bound = socket(kind).fd();
    bind(bound, "@bound");
    all.push(("bound", bound));
    let listening = socket(kind).fd();
    bind(listening, "listening");
    listen(listening, 2);
    all.push(("listening", listening));
    let [a, _b] = pair(kind);
    all.push(("connected", a));
    let [a, b] = pair(kind);
    close(b);
    all.push(("abandoned", a));
    let [a, _b] = pair(kind);
    shutdown(a, SHUT_WR);
    all.push(("shut for writing", a));
    let [a, _b] = pair(kind);
    shutdown(a, SHUT_RD);
    all.push(("shut for reading", a));
    all
}
/// Says what `f` returns for every state of every kind.
fn each(f: impl Fn(i32) -> String) {
    for (kind, kind_name) in KINDS.into_iter().zip(["stream", "datagram", "packet"]) {
        for (name, fd) in states(kind) {
            say!("{kind_name} {name}: {}", f(fd));
            close(fd);
        }
        unlink(c"listening");
    }
}

fn sending() {
    each(|fd| format!("{} {}", send(fd, "x", 0), send(fd, "", 0)));
}

fn receiving() {
    each(|fd| format!("{} {}", recv(fd, 5, 0), recv(fd, 0, 0)));
}

fn binding_again() {
    each(|fd| format!("{} {}", bind(fd, "@again"), bind(fd, "@again")));
}

fn disconnecting() {
    // Connecting to no family: datagram sockets forget their peer.
    let none = [0u8; 2];
    each(|fd| format!("{} {}", sc!(SYS_connect, fd, &none, 2), name_of(SYS_getpeername, fd)));
}

fn listening_and_accepting() {
    each(|fd| format!("{} {}", listen(fd, 3), accept(fd, SOCK_NONBLOCK)));
}

fn shutting_down() {
    each(|fd| {
        let [a, b, c] = [SHUT_RD, SHUT_WR, SHUT_RDWR].map(|how| shutdown(fd, how));
        format!("{a} {b} {c} {}", shutdown(fd, 3))
    });
}

fn names() {
    each(|fd| format!("{} {}", name_of(SYS_getsockname, fd), name_of(SYS_getpeername, fd)));
}

fn pending_bytes() {
    each(|fd| {
        let (mut n, mut out) = (-1i32, -1i32);
        let (a, b) = (ioctl(fd, FIONREAD, at_mut(&mut n)), ioctl(fd, TIOCOUTQ, at_mut(&mut out)));
        format!("{a} {n} {b} {out}")
    });
}

fn readiness_of_all() {
    each(|fd| poll(&[(fd, POLLIN | POLLOUT | POLLRDHUP)], 0));
}

fn options_of_all() {
    each(|fd| {
        let names =
            [SO_TYPE, SO_ACCEPTCONN, SO_ERROR, SO_DOMAIN, SO_PROTOCOL, SO_PASSCRED, SO_PEEK_OFF];
        names.map(|n| getopt(fd, n).to_string()).join(" ")
    });
}

fn peers_of_all() {
    each(|fd| {
        let (mut peer, mut len) = ([-1i32; 3], 12u32);
        let ret =
            sc!(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, at_mut(&mut peer), at_mut(&mut len));
        format!(
            "{ret} {} {} {}",
            if peer[0] == getpid() { "me".into() } else { peer[0].to_string() },
            peer[1],
            peer[2]
        )
    });
}

fn flags_of_sending() {
    for flag in [
        MSG_OOB,
        MSG_DONTROUTE,
        MSG_EOR,
        MSG_MORE,
        MSG_CONFIRM,
        MSG_ERRQUEUE,
        MSG_FASTOPEN,
        MSG_TRUNC,
    ] {
        for kind in KINDS {
            let [a, b] = pair(kind | SOCK_NONBLOCK);
            let ret = send(a, "x", flag);
            say!("{kind} {flag:#x}: {ret} {}", recvmsg(b, 9, 0, 0));
        }
    }
}

fn malformed_control_messages() {
    let [a, b] = pair(SOCK_STREAM | SOCK_NONBLOCK);
    let whole = rights(&[a]);
    let mut long = whole.clone();
    long[..8].copy_from_slice(&100u64.to_le_bytes());
    let mut short = whole.clone();
    short[..8].copy_from_slice(&15u64.to_le_bytes());
    p!(
        sendmsg(a, b"x", &long, None, 0),
        sendmsg(a, b"x", &short, None, 0),
        sendmsg(a, b"x", &whole[..12], None, 0)
    );
    p!(
        sendmsg(a, b"x", &cmsg(SOL_SOCKET, 99, &[0; 4]), None, 0),
        sendmsg(a, b"x", &cmsg(IPPROTO_IP, 1, &[0; 4]), None, 0)
    );
    p!(
        sendmsg(a, b"x", &cmsg(SOL_SOCKET, SCM_RIGHTS, &[1, 0]), None, 0),
        sendmsg(a, b"x", &rights(&[]), None, 0)
    );
    p!(
        sendmsg(a, b"x", &cmsg(SOL_SOCKET, SCM_CREDENTIALS, &[0; 8]), None, 0),
        sendmsg(a, b"", &whole, None, 0)
    );
    p!(recvmsg(b, 99, 100, 0), recvmsg(b, 99, 100, 0));
}

fn several_control_messages() {
    let [a, b] = pair(SOCK_STREAM | SOCK_NONBLOCK);
    setopt(b, SO_PASSCRED, 1);
    let two = [rights(&[a]), rights(&[b, b])].concat();
    p!(sendmsg(a, b"x", &two, None, 0), recvmsg(b, 9, 100, 0));
    let both = [creds(getpid(), 0, 0), rights(&[b])].concat();
    p!(
        sendmsg(a, b"y", &both, None, 0),
        recvmsg(b, 9, 200, 0),
        sendmsg(a, b"z", &both, None, 0),
        recvmsg(b, 9, 40, 0)
    );
    p!(
        sendmsg(a, b"z", &both, None, 0),
        recvmsg(b, 9, 20, 0),
        sendmsg(a, b"z", &both, None, 0),
        recvmsg(b, 9, 0, 0)
    );
}

fn credentials_that_are_lies() {
    let [a, b] = pair(SOCK_DGRAM | SOCK_NONBLOCK);
    setopt(b, SO_PASSCRED, 1);
    p!(
        sendmsg(a, b"x", &creds(getpid(), 77, 88), None, 0),
        format!("{:?}", recvmsg(b, 9, 100, 0).creds().map(|c| [c[1], c[2]]))
    );
    p!(
        sendmsg(a, b"x", &creds(0x7fff_fff0, 0, 0), None, 0),
        sendmsg(a, b"x", &creds(getpid(), 0, 0), None, 0)
    );
    p!(run(|| {
        sc!(SYS_setresgid, 1000, 1000, 1000);
        sc!(SYS_setresuid, 1000, 1001, 1002);
        for uid in [0, 1000, 1001, 1002] {
            p!(uid, sendmsg(a, b"x", &creds(getpid(), uid, 1000), None, 0));
        }
        p!(
            sendmsg(a, b"x", &creds(getpid(), 1000, 0), None, 0),
            sendmsg(a, b"x", &creds(getppid(), 1000, 1000), None, 0)
        );
        0
    }));
}

fn credentials_without_asking() {
    // Data sent before the option was set comes with those of nobody.
    let [a, b] = pair(SOCK_STREAM | SOCK_NONBLOCK);
    send(a, "early", 0);
    setopt(b, SO_PASSCRED, 1);
    send(a, "late", 0);
    for _ in 0..2 {
        let got = recvmsg(b, 99, 100, 0);
        let pid = got.creds().map(|c| (c[0] == 0, c[1], c[2]));
        p!(got, format!("{pid:?}"));
    }
}

fn streams_split_by_sender_credentials() {
    let [a, b] = pair(SOCK_STREAM | SOCK_NONBLOCK);
    setopt(b, SO_PASSCRED, 1);
    send(a, "mine", 0);
    run(|| {
        send(a, "child", 0);
        0
    });
    send(a, "again", 0);
    p!(
        recvmsg(b, 99, 100, 0),
        recvmsg(b, 99, 100, 0),
        recvmsg(b, 99, 100, 0),
        recvmsg(b, 99, 100, 0)
    );
}

fn descriptors_in_a_chain() {
    // A socket in flight holds another in flight; closing the last hold frees all.
    let [a, b] = pair(SOCK_STREAM | SOCK_NONBLOCK);
    let [c, d] = pair(SOCK_STREAM | SOCK_NONBLOCK);
    let [r, w] = pipe(O_NONBLOCK);
    p!(sendmsg(c, b"1", &rights(&[w]), None, 0), sendmsg(a, b"2", &rights(&[d, c]), None, 0));
    close(w);
    close(c);
    close(d);
    p!(rd(r, 1), close(b), rd(r, 1), send(a, "x", MSG_NOSIGNAL));
}

fn a_loop_of_descriptors_is_freed() {
    let [r, w] = pipe(O_NONBLOCK);
    let [a, b] = pair(SOCK_STREAM | SOCK_NONBLOCK);
    p!(sendmsg(a, b"1", &rights(&[a, b, w]), None, 0), sendmsg(b, b"2", &rights(&[a, b]), None, 0));
    close(a);
    close(b);
    close(w);
    // Linux collects what nobody can reach when other sockets are closed or sent.
    p!(until(|| {
        let [x, y] = pair(SOCK_STREAM);
        sendmsg(x, b"x", &rights(&[x]), None, 0);
        close(x);
        close(y);
        rd(r, 1).0.is_ok()
    }));
}

fn too_many_descriptors() {
    let [a, b] = pair(SOCK_STREAM | SOCK_NONBLOCK);
    let most = vec![a; 253];
    let more = vec![a; 254];
    p!(sendmsg(a, b"x", &rights(&more), None, 0), sendmsg(a, b"x", &rights(&most), None, 0));
    let got = recvmsg(b, 9, 2048, 0);
    p!(
        got.fds().len(),
        got.flags & MSG_CTRUNC,
        sendmsg(a, b"x", &rights(&[-1]), None, 0),
        sendmsg(a, b"x", &rights(&[5000]), None, 0)
    );
}

fn path_names_at_their_length() {
    for len in [107, 108, 109] {
        let name = "n".repeat(len);
        let mut raw = address(&name);
        raw.truncate(2 + len);
        let fd = socket(SOCK_STREAM);
        let ret = sc!(SYS_bind, fd, raw.as_slice(), raw.len());
        p!(len, ret, name_of(SYS_getsockname, fd).len());
        unlink(&CString::new(name).unwrap_or_default());
    }
    let fd = socket(SOCK_STREAM);
    p!(
        sc!(SYS_bind, fd, address("x").as_slice(), 1),
        sc!(SYS_bind, fd, address("x").as_slice(), 111),
        sc!(SYS_bind, fd, 8u64, 10)
    );
    p!(
        sc!(SYS_connect, fd, address("x").as_slice(), 2),
        sc!(SYS_connect, fd, 8u64, 10),
        sc!(SYS_connect, fd, address("x").as_slice(), 200)
    );
}

cases![
    sending,
    receiving,
    binding_again,
    disconnecting,
    listening_and_accepting,
    shutting_down,
    names,
    pending_bytes,
    readiness_of_all,
    options_of_all,
    peers_of_all,
    flags_of_sending,
    malformed_control_messages,
    several_control_messages,
    credentials_that_are_lies,
    credentials_without_asking,
    streams_split_by_sender_credentials,
    descriptors_in_a_chain,
    a_loop_of_descriptors_is_freed,
    too_many_descriptors,
    path_names_at_their_length,
];
