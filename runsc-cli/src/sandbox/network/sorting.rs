//! How packets are sorted among the sockets of an interface: a classic BPF program, which the host runs for each.

use Line::{At, Jump, Op, Test};

/// Sockets for flows, as a power of two.
const FLOW_BITS: u32 = 4;
/// Sockets for flows; one more, the first, is for the rest.
pub const FLOWS: usize = 1 << FLOW_BITS;

/// Loads of a byte, half a word and a word; the same with X added to the offset.
const BYTE: u16 = 0x30;
const HALF: u16 = 0x28;
const WORD: u16 = 0x20;
const BYTE_X: u16 = 0x50;
const WORD_X: u16 = 0x40;
/// To X: a constant; four times the low half of a byte, which is the length of an IPv4 header; A.
const X_CONSTANT: u16 = 0x01;
const X_LENGTH: u16 = 0xb1;
const X_FROM_A: u16 = 0x07;
/// A word of memory.
const STORE: u16 = 0x02;
const RECALL: u16 = 0x60;
/// Arithmetic with constants, and with X.
const ADD: u16 = 0x04;
const ADD_X: u16 = 0x0c;
const MULTIPLY: u16 = 0x24;
const SHIFT: u16 = 0x74;
/// Jumps: always, if equal, if any of the bits is set, if not less.
const ALWAYS: u16 = 0x05;
const EQUAL: u16 = 0x15;
const BITS: u16 = 0x45;
const NOT_LESS: u16 = 0x35;
/// The end: a constant, A.
const RETURN: u16 = 0x06;
const RETURN_A: u16 = 0x16;

/// Offsets from the network header on (`SKF_NET_OFF`), and the protocol of the packet (`SKF_AD_PROTOCOL`).
const NET: u32 = -0x10_0000i32 as u32;
const PROTOCOL: u32 = -0x1000i32 as u32;

/// A line of the program.
enum Line {
    /// The place that has a name.
    At(&'static str),
    Op(u16, u32),
    Jump(&'static str),
    /// Where to go on if a test holds, and if not; no name: with the next line.
    Test(u16, u32, &'static str, &'static str),
}

/// The program. It returns 0 for what may belong to no flow: what begins one, fragments, what is neither TCP nor UDP; for
/// everything else a number from 1 to [`FLOWS`], which is the same for all packets of a flow. ARP and the discovery of
/// neighbours are sorted by who sends them.
///
/// Senders choose addresses and ports: which of them meet in one queue is a secret.
pub fn program(secret: [u8; 8]) -> Vec<libc::sock_filter> {
    // Odd factors lose nothing.
    let [a, b, c, d, e, f, g, h] = secret;
    let factors = [u32::from_ne_bytes([a, b, c, d]) | 1, u32::from_ne_bytes([e, f, g, h]) | 1];
    assemble(&lines(factors))
}

fn lines([by_address, by_ports]: [u32; 2]) -> Vec<Line> {
    vec![
        Op(WORD, PROTOCOL),
        Test(EQUAL, libc::ETH_P_IP as u32, "IPv4", ""),
        Test(EQUAL, libc::ETH_P_IPV6 as u32, "IPv6", ""),
        Test(EQUAL, libc::ETH_P_ARP as u32, "", "rest"),
        Op(WORD, NET + 14),
        Jump("address"),
        At("IPv4"),
        // Where the fragment is, and whether more follow.
        Op(HALF, NET + 6),
        Test(BITS, 0x3fff, "rest", ""),
        Op(WORD, NET + 12),
        Op(STORE, 0),
        Op(X_LENGTH, NET),
        Op(BYTE, NET + 9),
        Jump("transport"),
        At("IPv6"),
        Op(WORD, NET + 20),
        Op(STORE, 0),
        Op(X_CONSTANT, 40),
        Op(BYTE, NET + 6),
        // Here, the protocol is in A, where its header begins in X, the sender in memory.
        At("transport"),
        Test(EQUAL, libc::IPPROTO_UDP as u32, "ports", ""),
        Test(EQUAL, libc::IPPROTO_TCP as u32, "TCP", ""),
        Test(EQUAL, libc::IPPROTO_ICMPV6 as u32, "", "rest"),
        Op(BYTE_X, NET),
        Test(NOT_LESS, 133, "", "rest"),
        Test(NOT_LESS, 138, "rest", ""),
        Op(RECALL, 0),
        Jump("address"),
        At("TCP"),
        // SYN
        Op(BYTE_X, NET + 13),
        Test(BITS, 2, "rest", ""),
        At("ports"),
        Op(WORD_X, NET),
        Op(MULTIPLY, by_ports),
        Op(X_FROM_A, 0),
        Op(RECALL, 0),
        Jump("sum"),
        At("address"),
        Op(X_CONSTANT, 0),
        At("sum"),
        Op(MULTIPLY, by_address),
        Op(ADD_X, 0),
        Op(SHIFT, 32 - FLOW_BITS),
        Op(ADD, 1),
        Op(RETURN_A, 0),
        At("rest"),
        Op(RETURN, 0),
    ]
}

/// The instructions. All jumps go forward.
fn assemble(lines: &[Line]) -> Vec<libc::sock_filter> {
    // How many instructions lie between a line and a place.
    let distance = |from: usize, to: &str| {
        let rest = lines.iter().skip(from + 1);
        let between = rest.take_while(|line| !matches!(line, At(name) if *name == to));
        between.filter(|line| !matches!(line, At(_))).count()
    };
    let short = |from, to: &str| if to.is_empty() { 0 } else { distance(from, to) as u8 };
    let instruction = |(at, line): (usize, &Line)| match *line {
        At(_) => None,
        Op(code, k) => Some(libc::sock_filter { code, jt: 0, jf: 0, k }),
        Jump(to) => {
            Some(libc::sock_filter { code: ALWAYS, jt: 0, jf: 0, k: distance(at, to) as u32 })
        }
        Test(code, k, yes, no) => {
            Some(libc::sock_filter { code, jt: short(at, yes), jf: short(at, no), k })
        }
    };
    lines.iter().enumerate().filter_map(instruction).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program on a packet from its network header on.
    fn sorted(protocol: i32, packet: &[u8]) -> u32 {
        let program = program([0x9d, 1, 0x2f, 0x71, 0x43, 0xee, 0x60, 0xa9]);
        let (mut at, mut a, mut x, mut memory) = (0, 0u32, 0u32, 0u32);
        loop {
            let libc::sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let load = |offset: u32, len: usize| {
                let offset = offset.wrapping_sub(NET) as usize;
                let bytes = packet.get(offset..offset + len);
                bytes.map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
            };
            let jump = |holds| usize::from(if holds { jt } else { jf });
            // What is not there ends the program with 0.
            let mut loaded = Some(a);
            match code {
                WORD if k == PROTOCOL => loaded = Some(protocol as u32),
                BYTE => loaded = load(k, 1),
                HALF => loaded = load(k, 2),
                WORD => loaded = load(k, 4),
                BYTE_X => loaded = load(k.wrapping_add(x), 1),
                WORD_X => loaded = load(k.wrapping_add(x), 4),
                X_CONSTANT => x = k,
                X_LENGTH => x = load(k, 1).map_or(0, |byte| 4 * (byte & 15)),
                X_FROM_A => x = a,
                STORE => memory = a,
                RECALL => loaded = Some(memory),
                ADD => loaded = Some(a.wrapping_add(k)),
                ADD_X => loaded = Some(a.wrapping_add(x)),
                MULTIPLY => loaded = Some(a.wrapping_mul(k)),
                SHIFT => loaded = Some(a >> k),
                ALWAYS => at += k as usize,
                EQUAL => at += jump(a == k),
                BITS => at += jump(a & k != 0),
                NOT_LESS => at += jump(a >= k),
                RETURN => return k,
                RETURN_A => return a,
                _ => panic!("{code:#x}"),
            }
            match loaded {
                Some(value) => a = value,
                None => return 0,
            }
        }
    }

    /// An IPv4 packet with an option.
    fn v4(protocol: i32, from: u8, fragment: u16, transport: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x46, 0, 0, 0, 0, 0];
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol as u8, 0, 0, 10, 0, 0, from, 10, 0, 0, 1, 1, 1, 1, 0]);
        packet.extend(transport);
        packet
    }

    fn v6(protocol: i32, from: u8, transport: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, protocol as u8, 64];
        packet.extend([[0; 15].as_slice(), &[from], &[0; 16]].concat());
        packet.extend(transport);
        packet
    }

    fn tcp(port: u8, flags: u8) -> [u8; 20] {
        let mut header = [0; 20];
        (header[1], header[3], header[13]) = (port, 80, flags);
        header
    }

    #[test]
    fn flows_stay_together_and_spread() {
        const DONT_FRAGMENT: u16 = 0x4000;
        let mut seen = [[0; FLOWS + 1]; 2];
        for port in 0..200 {
            let ack = v4(libc::IPPROTO_TCP, 5, DONT_FRAGMENT, &tcp(port, 0x10));
            let queue = sorted(libc::ETH_P_IP, &ack);
            for flags in [0x11, 0x18, 4] {
                let other = v4(libc::IPPROTO_TCP, 5, 0, &tcp(port, flags));
                assert_eq!(sorted(libc::ETH_P_IP, &other), queue);
            }
            seen[0][queue as usize] += 1;
            let datagram = v6(libc::IPPROTO_UDP, port, &[0, 53, 0, 53, 0, 8, 0, 0]);
            seen[1][sorted(libc::ETH_P_IPV6, &datagram) as usize] += 1;
        }
        for seen in seen {
            assert_eq!(seen[0], 0);
            assert!(seen[1..].iter().all(|count| (3..30).contains(count)), "{seen:?}");
        }
    }

    #[test]
    fn what_is_no_flow_is_the_rest() {
        let rest = |protocol, packet: &[u8]| assert_eq!(sorted(protocol, packet), 0, "{packet:?}");
        for flags in [2, 0x12, 255] {
            rest(libc::ETH_P_IP, &v4(libc::IPPROTO_TCP, 5, 0, &tcp(1, flags)));
            rest(libc::ETH_P_IPV6, &v6(libc::IPPROTO_TCP, 5, &tcp(1, flags)));
        }
        for fragment in [1, 0x2000, 0x3fff] {
            rest(libc::ETH_P_IP, &v4(libc::IPPROTO_UDP, 5, fragment, &[0; 8]));
        }
        rest(libc::ETH_P_IP, &v4(libc::IPPROTO_ICMP, 5, 0, &[8, 0, 0, 0, 0, 0, 0, 0]));
        rest(libc::ETH_P_IP, &v4(libc::IPPROTO_TCP, 5, 0, &[0; 13]));
        rest(libc::ETH_P_IP, &[0x45]);
        rest(libc::ETH_P_8021Q, &[0; 64]);
        for (kind, flow) in [(128, false), (132, false), (133, true), (137, true), (138, false)] {
            let packet = v6(libc::IPPROTO_ICMPV6, 5, &[kind, 0, 0, 0]);
            assert_eq!(sorted(libc::ETH_P_IPV6, &packet) != 0, flow, "{kind}");
        }
        assert_ne!(sorted(libc::ETH_P_ARP, &[1; 28]), 0);
    }
}
