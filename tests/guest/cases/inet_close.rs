//! TCP over the loopback interface: how connections end, and what is left of them.

use crate::prelude::*;

const TCP_DIRS: [&CStr; 2] = [c"/proc/net/tcp", c"/proc/net/tcp6"];

/// The states in which `/proc/net/tcp` and `tcp6` list sockets with these ports: own one's place, peer's, state, whether it
/// has an inode.
fn states(ports: &[u16]) -> String {
    let mut out = Vec::new();
    for file in TCP_DIRS {
        let text = get(file).0.unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let port = |word: &str| {
                let hex = word.rsplit(':').next().unwrap_or_default();
                u16::from_str_radix(hex, 16).unwrap_or(0)
            };
            if words.len() < 10 {
                continue;
            }
            let (own, peer) = (port(words[1]), port(words[2]));
            let place = |p: u16| ports.iter().position(|known| *known == p);
            // What is left of another program's connection may have one of the ports.
            let ours = peer == 0 || place(peer).is_some();
            if let Some(own) = place(own).filter(|_| ours) {
                let owner = if words[9] == "0" { "nobody" } else { "owned" };
                let peer = place(peer).map_or("-".into(), |i| i.to_string());
                out.push(format!("{own}>{peer} {} {owner}", words[3]));
            }
        }
    }
    out.sort();
    out.join(", ")
}

/// The same, once it is as `wanted` or time is up. (Linux may list a connection twice while others come and go.)
fn becomes(ports: &[u16], wanted: &str) -> String {
    let mut seen = String::new();
    until(|| {
        seen = states(ports);
        seen == wanted
    });
    seen
}

/// A client, the server's end and both ports; nobody listens any more.
fn connection() -> (i32, i32, [u16; 2]) {
    let [c, s] = tcp_pair();
    (c, s, [port_of(c), port_of(s)])
}

fn bound(reuse: bool, ip: &str, port: u16) -> Ret {
    let fd = socket4(SOCK_STREAM);
    setopt(fd, SO_REUSEADDR, reuse.into());
    let ret = bind_to(fd, ip, port);
    close(fd);
    ret
}

fn the_first_to_close_waits() {
    let (c, s, ports) = connection();
    close(c);
    p!(becomes(&ports, "0>1 05 nobody, 1>0 08 owned"));
    close(s);
    p!(becomes(&ports, "0>1 06 nobody"));
    p!(bound(false, "127.0.0.1", ports[0]), bound(true, "127.0.0.1", ports[0]));
    p!(bound(false, "127.0.0.2", ports[0]), bound(false, "127.0.0.1", ports[1]));
}

fn a_server_that_closes_first_keeps_its_port() {
    for reuse in [0, 1] {
        let l = socket4(SOCK_STREAM);
        setopt(l, SO_REUSEADDR, reuse);
        bind_to(l, "127.0.0.1", 0);
        listen(l, 5);
        let port = port_of(l);
        let c = dial(port);
        let s = accept(l, 0).fd();
        let ports = [port_of(c), port];
        close(s);
        p!(becomes(&ports, "0>1 08 owned, 1>- 0A owned, 1>0 05 nobody"));
        close(c);
        close(l);
        p!(becomes(&ports, "1>0 06 nobody"));
        p!(bound(false, "127.0.0.1", port), bound(true, "127.0.0.1", port));
        let again = socket4(SOCK_STREAM);
        setopt(again, SO_REUSEADDR, 1);
        p!(bind_to(again, "127.0.0.1", port), bind_to(again, "127.0.0.1", port));
        if reuse == 1 {
            p!(listen(again, 1), dial(port) > 0, accept(again, 0).ok());
        }
    }
}

fn a_new_connection_takes_the_place_of_the_old() {
    let l = socket4(SOCK_STREAM);
    bind_to(l, "127.0.0.1", 0);
    listen(l, 5);
    let c = dial(port_of(l));
    let ports = [port_of(c), port_of(l)];
    close(accept(l, 0).fd());
    poll(&[(c, POLLIN)], 10_000);
    close(c);
    p!(becomes(&ports, "1>- 0A owned, 1>0 06 nobody"));
    let again = socket4(SOCK_STREAM);
    p!(bind_to(again, "127.0.0.1", ports[0]), connect_to(again, "127.0.0.1", ports[1]));
    p!(becomes(&ports, "0>1 01 owned, 1>- 0A owned, 1>0 01 nobody"), accept(l, 0).ok());
}

fn nothing_waits_after_a_reset() {
    let (c, s, ports) = connection();
    set_bytes(c, SOL_SOCKET, SO_LINGER, &[1, 0, 0, 0, 0, 0, 0, 0]);
    p!(close(c), becomes(&ports, ""), poll(&[(s, POLLIN)], 10_000), rd(s, 1));
    p!(bound(false, "127.0.0.1", ports[0]), close(s));
    let (c, s, ports) = connection();
    wr(s, "unread");
    poll(&[(c, POLLIN)], 10_000);
    p!(
        close(c),
        becomes(&ports, ""),
        getopt(s, SO_ERROR),
        wr(s, "x"),
        bound(false, "127.0.0.1", ports[0])
    );
}

fn both_halves_are_shut() {
    let (c, s, ports) = connection();
    shutdown(s, SHUT_WR);
    p!(becomes(&ports, "0>1 08 owned, 1>0 05 owned"));
    shutdown(c, SHUT_WR);
    p!(becomes(&ports, "1>0 06 nobody"), rd(c, 1), rd(s, 1), peer_name(s, &[]));
    close(c);
    close(s);
    p!(becomes(&ports, "1>0 06 nobody"));
}

fn a_socket_that_is_gone_refuses_data() {
    let (c, s, ports) = connection();
    close(c);
    p!(becomes(&ports, "0>1 05 nobody, 1>0 08 owned"), rd(s, 1), send(s, "x", MSG_NOSIGNAL));
    p!(becomes(&ports, ""), getopt(s, SO_ERROR), send(s, "x", MSG_NOSIGNAL));
}

fn patience_for_the_other_side() {
    let (c, s, ports) = connection();
    p!(set_int(c, IPPROTO_TCP, TCP_LINGER2, 1), close(c));
    p!(becomes(&ports, "0>1 05 nobody, 1>0 08 owned"), becomes(&ports, "1>0 08 owned"));
    p!(rd(s, 1), close(s), becomes(&ports, ""));
    let (c, s, ports) = connection();
    p!(set_int(c, IPPROTO_TCP, TCP_LINGER2, -1), close(c), becomes(&ports, ""));
    p!(rd(s, 1), send(s, "x", MSG_NOSIGNAL), close(s));
}

/// What a call says, and whether it took about that long.
fn timed(ms: u64, f: impl FnOnce() -> Ret) -> String {
    let (ret, right) = took(ms, f);
    format!("{ret} {right}")
}

fn linger(fd: i32, seconds: u8) {
    set_bytes(fd, SOL_SOCKET, SO_LINGER, &[1, 0, 0, 0, seconds, 0, 0, 0]);
}

fn a_lingering_close_waits() {
    let [c, s] = tcp_pair();
    let sent = stuff(c);
    linger(c, 1);
    p!(timed(900, || close(c)), drain(s, sent + 1, 7) == (sent, true));
    let [c, s] = tcp_pair();
    let sent = stuff(c);
    linger(c, 100);
    fcntl(c, F_SETFL, O_NONBLOCK);
    let reader = std::thread::spawn(move || {
        nap(50);
        drain(s, sent + 1, 7) == (sent, true)
    });
    p!(timed(30, || close(c)), reader.join().unwrap_or(false));
}

fn a_lingering_close_is_interrupted() {
    let [c, _s] = tcp_pair();
    stuff(c);
    linger(c, 100);
    catch(SIGALRM, 0);
    setitimer(ITIMER_REAL, 30, 0);
    p!(timed(25, || close(c)), close(c));
}

fn lingering_without_need() {
    let [c, s] = tcp_pair();
    linger(c, 100);
    p!(wr(c, "arrived"), timed(0, || close(c)), rd(s, 10), rd(s, 10));
    let [c, s] = tcp_pair();
    linger(c, 100);
    stuff(c);
    wr(s, "unread");
    poll(&[(c, POLLIN)], 10_000);
    p!(timed(0, || close(c)), getopt(s, SO_ERROR));
}

fn little_is_held_back() {
    let [c, s] = tcp_pair();
    p!(send(c, "head ", MSG_MORE), recv(s, 20, MSG_DONTWAIT), send(c, "tail", 0));
    p!(until(|| recv(s, 20, MSG_PEEK | MSG_DONTWAIT).to_string().contains("tail")), rd(s, 20));
    p!(set_int(c, IPPROTO_TCP, TCP_CORK, 1), wr(c, "one "), wr(c, "two"));
    p!(recv(s, 20, MSG_DONTWAIT), set_int(c, IPPROTO_TCP, TCP_CORK, 0), recv_soon(s, 20, 0));
    p!(send(c, "not for ever", MSG_MORE), recv_soon(s, 20, 0));
    p!(send(c, "the last", MSG_MORE), shutdown(c, SHUT_WR), rd(s, 20), rd(s, 20));
    let [c, s] = tcp_pair();
    p!(send(c, "closed", MSG_MORE), close(c), rd(s, 20), rd(s, 20));
}

fn what_is_left_is_told() {
    let [c, s] = tcp_pair();
    p!(set_int(s, IPPROTO_TCP, 36, 1), get_int(s, IPPROTO_TCP, 36), set_int(s, IPPROTO_TCP, 36, 2));
    let told = |len| format!("{:?}", recv_message(s, len, 0, &[]).control);
    wr(c, "12345");
    poll(&[(s, POLLIN)], 10_000);
    p!(told(2), told(9));
    shutdown(c, SHUT_WR);
    p!(told(9));
}

cases![
    the_first_to_close_waits,
    a_server_that_closes_first_keeps_its_port,
    a_new_connection_takes_the_place_of_the_old,
    nothing_waits_after_a_reset,
    both_halves_are_shut,
    a_socket_that_is_gone_refuses_data,
    patience_for_the_other_side,
    a_lingering_close_waits,
    a_lingering_close_is_interrupted,
    lingering_without_need,
    little_is_held_back,
    what_is_left_is_told,
];
