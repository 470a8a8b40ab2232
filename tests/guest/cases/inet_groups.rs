//! Multicast groups on the loopback interface: membership, filters by source, and who hears what.

use crate::prelude::*;

const GROUP: [u8; 4] = [239, 1, 2, 3];
const LO: [u8; 4] = [127, 0, 0, 1];

fn ip(fd: i32, name: i32, parts: &[&[u8]]) -> Ret {
    set_bytes(fd, IPPROTO_IP, name, &parts.concat())
}

/// A `struct group_req`, and with a source a `struct group_source_req`.
fn group_req(index: u8, group: &str, source: Option<&str>) -> Vec<u8> {
    let storage = |ip: &str| {
        let mut a = addr(ip, 0);
        a.resize(128, 0);
        a
    };
    let mut out = vec![index, 0, 0, 0, 0, 0, 0, 0];
    out.extend(storage(group));
    if let Some(source) = source {
        out.extend(storage(source));
    }
    out
}

fn joining_and_leaving() {
    let a = socket4(SOCK_DGRAM);
    p!(ip(a, 35, &[&GROUP, &LO]), ip(a, 35, &[&GROUP, &LO]), ip(a, 35, &[&GROUP, &[9, 9, 9, 9]]));
    p!(ip(a, 35, &[&GROUP, &[0; 4], &[99, 0, 0, 0]]), ip(a, 35, &[&[10, 0, 0, 1], &LO]));
    p!(ip(a, 36, &[&GROUP, &LO]), ip(a, 36, &[&GROUP, &LO]), ip(a, 36, &[&[10, 0, 0, 1], &LO]));
    p!(ip(a, 35, &[&GROUP]), ip(a, 36, &[&GROUP]));
    let joined = (0..30).take_while(|n| ip(a, 35, &[&[239, 9, 9, *n], &LO]).ok()).count();
    p!(joined, ip(a, 35, &[&[239, 9, 8, 0], &LO]));
}

fn sources_of_ipv4() {
    let a = socket4(SOCK_DGRAM);
    let of = |name, source: [u8; 4]| ip(a, name, &[&GROUP, &LO, &source]);
    p!(of(38, LO), of(39, LO), of(39, LO), of(39, [127, 0, 0, 9]), ip(a, 35, &[&GROUP, &LO]));
    p!(of(38, LO), of(40, LO), of(40, LO), of(40, [127, 0, 0, 9]), of(40, LO));
    p!(ip(a, 35, &[&GROUP, &LO]), of(37, LO), of(38, LO), of(38, LO), of(37, LO), of(37, LO));
    p!(of(39, LO), of(40, LO), ip(a, 36, &[&GROUP, &LO]), ip(a, 39, &[&GROUP, &LO]));
    let filled = (0..20).take_while(|n| of(39, [127, 0, 1, *n]).ok()).count();
    p!(filled, of(39, [127, 0, 2, 0]));
}

fn requests_for_any_family() {
    let a = socket4(SOCK_DGRAM);
    let of = |name, r: Vec<u8>| set_bytes(a, IPPROTO_IP, name, &r);
    let group = || group_req(1, "239.1.2.3", None);
    let source = |s| group_req(1, "239.1.2.3", Some(s));
    p!(of(42, group()), of(42, group()), of(42, group()[..100].to_vec()), of(45, group()));
    p!(
        of(45, group()),
        of(42, group_req(99, "239.1.2.3", None)),
        of(42, group_req(1, "ff05::1", None))
    );
    p!(of(46, source("127.0.0.1")), of(46, source("127.0.0.1")), of(46, source("127.0.0.9")));
    p!(of(47, source("127.0.0.1")), of(47, source("127.0.0.1")), of(47, source("127.0.0.9")));
    p!(of(43, source("127.0.0.1")), of(42, group()), of(43, source("127.0.0.1")));
    p!(of(43, source("127.0.0.1")), of(44, source("127.0.0.1")), of(44, source("127.0.0.1")));
    p!(of(46, source("127.0.0.1")), of(46, source("::1")), of(46, group()), of(45, group()));
    let six = socket6(SOCK_DGRAM);
    let of = |name, r: Vec<u8>| set_bytes(six, IPPROTO_IPV6, name, &r);
    let group = || group_req(1, "ff05::7", None);
    let source = |s| group_req(1, "ff05::7", Some(s));
    p!(
        of(42, group()),
        of(42, group()),
        of(45, group()),
        of(45, group()),
        of(42, group_req(1, "239.1.2.3", None))
    );
    p!(
        of(46, source("::1")),
        of(46, source("::1")),
        of(46, source("127.0.0.1")),
        of(47, source("::1"))
    );
    p!(
        of(47, source("::1")),
        of(42, group_req(1, "::1", None)),
        of(42, group_req(99, "ff05::7", None))
    );
}

fn whole_filters() {
    let a = socket4(SOCK_DGRAM);
    let filter = |mode: u8, sources: &[[u8; 4]]| {
        let count = [mode, 0, 0, 0, sources.len() as u8, 0, 0, 0];
        ip(a, 41, &[&GROUP, &LO, &count, &sources.concat()])
    };
    p!(filter(1, &[LO]), ip(a, 35, &[&GROUP, &LO]), filter(1, &[LO, [127, 0, 0, 5]]));
    p!(filter(0, &[LO]), filter(2, &[]), filter(0, &[[1; 4]; 11]), filter(1, &[]), filter(0, &[]));
    p!(
        ip(a, 41, &[&GROUP, &LO, &[0; 4]]),
        ip(a, 41, &[&GROUP, &LO, &[0, 0, 0, 0, 2, 0, 0, 0], &LO])
    );
}

fn on_streams() {
    let s = socket4(SOCK_STREAM);
    p!(ip(s, 35, &[&GROUP, &LO]), ip(s, 36, &[&GROUP, &LO]), ip(s, 32, &[&LO]), ip(s, 33, &[&[1]]));
    p!(ip(s, 34, &[&[1]]), ip(s, 39, &[&GROUP, &LO, &LO]), ip(s, 40, &[&GROUP, &LO, &LO]));
    p!(ip(s, 38, &[&GROUP, &LO, &LO]), set_bytes(s, IPPROTO_IP, 42, &[0; 12]));
    let six = socket6(SOCK_STREAM);
    let mut request = vec![0u8; 20];
    (request[0], request[1], request[15], request[16]) = (0xff, 5, 9, 1);
    p!(set_bytes(six, IPPROTO_IPV6, 20, &request), set_bytes(six, IPPROTO_IPV6, 21, &request));
    p!(
        set_int(six, IPPROTO_IPV6, 17, 1),
        set_int(six, IPPROTO_IPV6, 18, 1),
        set_int(six, IPPROTO_IPV6, 20, 1)
    );
    // What a listener has joined is not what it accepts has joined.
    let (l, port) = listener("127.0.0.1", 1);
    let group = group_req(1, "239.1.2.3", None);
    p!(set_bytes(l, IPPROTO_IP, 42, &group));
    let _c = dial(port);
    let s = accept(l, 0).fd();
    p!(set_bytes(s, IPPROTO_IP, 45, &group), set_bytes(l, IPPROTO_IP, 45, &group));
}

/// A socket on the port of `first` (or any), with `IP_MULTICAST_ALL` as given.
fn member(first: Option<i32>, ip: &str, all: i32) -> i32 {
    let fd = socket4(SOCK_DGRAM);
    setopt(fd, SO_REUSEADDR, 1);
    set_int(fd, IPPROTO_IP, 49, all);
    bind_to(fd, ip, first.map_or(0, port_of));
    fd
}

/// A sender on the loopback interface, from that address.
fn sender(from: &str) -> i32 {
    let fd = socket4(SOCK_DGRAM);
    bind_to(fd, from, 0);
    ip(fd, 32, &[&LO]);
    fd
}

/// What each of them has received after `to` was sent `text`, and then itself something.
fn heard(from: i32, text: &str, port: u16, all: &[i32]) -> String {
    let sent = send_to(from, text, "239.1.2.3", port);
    // What goes over the loopback interface is there when the call returns.
    let got: Vec<String> = all.iter().map(|fd| recv(*fd, 20, MSG_DONTWAIT).to_string()).collect();
    format!("{sent}: {}", got.join(", "))
}

fn who_hears() {
    let a = member(None, "0.0.0.0", 1);
    let port = port_of(a);
    let others = [
        a,
        member(Some(a), "0.0.0.0", 1),
        member(Some(a), "0.0.0.0", 0),
        member(Some(a), "239.1.2.3", 1),
    ];
    let s = sender("127.0.0.1");
    p!(
        heard(s, "nobody", port, &others),
        ip(a, 35, &[&GROUP, &LO]),
        heard(s, "some", port, &others)
    );
    p!(set_int(s, IPPROTO_IP, IP_MULTICAST_LOOP, 0), heard(s, "not looped", port, &others));
    p!(set_int(s, IPPROTO_IP, IP_MULTICAST_LOOP, 1), set_int(s, IPPROTO_IP, IP_MULTICAST_TTL, 0));
    p!(
        heard(s, "not far", port, &others),
        ip(a, 36, &[&GROUP, &LO]),
        heard(s, "left", port, &others)
    );
}

fn sources_are_heard_or_not() {
    let a = member(None, "0.0.0.0", 0);
    let port = port_of(a);
    let (one, five) = (sender("127.0.0.1"), sender("127.0.0.5"));
    p!(
        ip(a, 39, &[&GROUP, &LO, &[127, 0, 0, 5]]),
        heard(one, "one", port, &[a]),
        heard(five, "five", port, &[a])
    );
    p!(ip(a, 40, &[&GROUP, &LO, &[127, 0, 0, 5]]), ip(a, 35, &[&GROUP, &LO]));
    p!(
        ip(a, 38, &[&GROUP, &LO, &[127, 0, 0, 5]]),
        heard(one, "one", port, &[a]),
        heard(five, "five", port, &[a])
    );
    p!(ip(a, 37, &[&GROUP, &LO, &[127, 0, 0, 5]]), heard(five, "five", port, &[a]));
}

fn interface_to_send_on() {
    let s = socket4(SOCK_DGRAM);
    let read = || get_bytes(s, IPPROTO_IP, 32);
    p!(ip(s, 32, &[&LO]), read(), ip(s, 32, &[&[0; 4], &LO, &[0; 4]]), read());
    p!(ip(s, 32, &[&[0; 4], &[0; 4], &[1, 0, 0, 0]]), read(), ip(s, 32, &[&[0; 4], &LO]), read());
    p!(
        ip(s, 32, &[&[0; 4], &[0; 4], &[99, 0, 0, 0]]),
        ip(s, 32, &[&[9, 9, 9, 9]]),
        ip(s, 32, &[&[1, 2]])
    );
    p!(
        ip(s, 32, &[&[0; 4]]),
        read(),
        ip(s, 32, &[&LO]),
        connect_to(s, "239.1.2.3", 9),
        own_name(s, &[port_of(s)])
    );
}

fn groups_are_listed() {
    let lines = || {
        let text = get(c"/proc/net/igmp").0.unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let of_lo = text.lines().skip_while(|l| !l.starts_with("1\tlo")).skip(1);
        let of_lo: Vec<String> =
            of_lo.take_while(|l| l.starts_with('\t')).map(str::to_owned).collect();
        of_lo.join("|").replace('\t', " ")
    };
    p!(lines());
    let a = socket4(SOCK_DGRAM);
    p!(ip(a, 35, &[&GROUP, &LO]), lines().contains("030201EF     1 0:"), close(a), lines());
}

cases![
    joining_and_leaving,
    sources_of_ipv4,
    requests_for_any_family,
    whole_filters,
    on_streams,
    who_hears,
    sources_are_heard_or_not,
    interface_to_send_on,
    groups_are_listed,
];
