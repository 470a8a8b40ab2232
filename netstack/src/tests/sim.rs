//! A simulated network: stacks joined by links with delay, bandwidth, a queue, loss, reordering and
//! duplication, all from one seed and one clock. A run is the same every time.

use super::bench::{TestClock, TestRandom};
use crate::wire::ethernet::MacAddr;
use crate::*;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// What a direction of a link does to frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub delay: Duration,
    /// Bits per second; zero: unlimited.
    pub rate: u64,
    /// Bytes that wait at the bottleneck.
    pub queue: usize,
    /// In millionths.
    pub loss: u64,
    pub duplicate: u64,
    /// Frames that are late, in millionths, and by how much.
    pub reorder: u64,
    pub reorder_by: Duration,
    /// Queues longer than this are marked instead of dropped, when frames can be.
    pub mark_at: Option<usize>,
}

impl Path {
    pub(crate) const CLEAN: Self = Self {
        delay: Duration::from_millis(10),
        rate: 100_000_000,
        queue: 250_000,
        loss: 0,
        duplicate: 0,
        reorder: 0,
        reorder_by: Duration::from_millis(5),
        mark_at: None,
    };
}

/// Frames that one end has sent.
struct Port {
    caps: Capabilities,
    sent: Mutex<Vec<Vec<u8>>>,
}

impl Link for Port {
    fn capabilities(&self) -> Capabilities {
        self.caps
    }

    fn transmit(&self, frames: &[Frame]) -> usize {
        self.sent.lock().extend(frames.iter().map(|f| f.bytes().to_vec()));
        frames.len()
    }
}

/// Two stacks and the network between them.
pub(crate) struct Sim {
    pub stacks: [Arc<Stack>; 2],
    pub clock: Arc<TestClock>,
    ports: [Arc<Port>; 2],
    ifaces: [IfaceId; 2],
    /// From 0 to 1, and back.
    pub paths: [Path; 2],
    /// When each direction's bottleneck is free.
    free_at: [Instant; 2],
    flying: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    serial: u64,
    random: TestRandom,
    /// Frames dropped at random, at the queue; marked.
    pub dropped: [u64; 3],
}

pub(crate) const ADDR: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 2)];

impl Sim {
    pub(crate) fn new(seed: u64, paths: [Path; 2], config: [Config; 2]) -> Self {
        let clock = Arc::new(TestClock::default());
        clock.set(Instant::from_millis(1_000_000));
        let mac = |n| MacAddr([2, 0, 0, 0, 9, n as u8 + 1]);
        let port = |n| {
            let caps = Capabilities {
                mac: Some(mac(n)),
                mtu: 1500,
                tx_checksum: false,
                gso_max: 0,
                gather: false,
            };
            Arc::new(Port { caps, sent: Mutex::default() })
        };
        let ports = [port(0), port(1)];
        let [c0, c1] = config;
        let make = |n: usize, config| {
            let random = Arc::new(TestRandom::new(seed * 2 + n as u64));
            let stack = Stack::new(config, clock.clone(), random);
            let iface = stack.add_interface("eth0", ports[n].clone()).unwrap();
            stack.add_address(iface, Cidr::new(ADDR[n].into(), 24).unwrap()).unwrap();
            stack.set_neighbor(iface, ADDR[1 - n].into(), mac(1 - n)).unwrap();
            (stack, iface)
        };
        let ((s0, i0), (s1, i1)) = (make(0, c0), make(1, c1));
        Self {
            stacks: [s0, s1],
            ports,
            ifaces: [i0, i1],
            paths,
            free_at: [clock.now(); 2],
            clock,
            flying: BTreeMap::new(),
            serial: 0,
            random: TestRandom::new(seed ^ 0xabcdef),
            dropped: [0; 3],
        }
    }

    fn chance(&self, millionths: u64) -> bool {
        millionths > 0 && self.random.next_u64() % 1_000_000 < millionths
    }

    fn launch(&mut self) {
        for n in 0..2 {
            let frames = std::mem::take(&mut *self.ports[n].sent.lock());
            for mut frame in frames {
                let path = self.paths[n];
                let now = self.clock.now();
                if self.chance(path.loss) {
                    self.dropped[0] += 1;
                    continue;
                }
                let mut leaves = self.free_at[n].max(now);
                if path.rate > 0 {
                    let bits = frame.len() as u64 * 8;
                    let waiting = leaves.since(now).as_nanos() as u64;
                    let backlog = (waiting * path.rate / 8_000_000_000) as usize;
                    if backlog + frame.len() > path.queue {
                        self.dropped[1] += 1;
                        continue;
                    }
                    if path.mark_at.is_some_and(|at| backlog > at) && mark(&mut frame) {
                        self.dropped[2] += 1;
                    }
                    leaves = leaves + Duration::from_nanos(bits * 1_000_000_000 / path.rate);
                    self.free_at[n] = leaves;
                }
                let mut at = leaves + path.delay;
                if self.chance(path.reorder) {
                    at = at + path.reorder_by;
                }
                if self.chance(path.duplicate) {
                    self.serial += 1;
                    self.flying.insert((at, self.serial), (1 - n, frame.clone()));
                }
                self.serial += 1;
                self.flying.insert((at, self.serial), (1 - n, frame));
            }
        }
    }

    /// Goes on to the next thing that happens, at most to `end`. False: nothing happens before.
    pub(crate) fn step(&mut self, end: Instant) -> bool {
        self.launch();
        let timers = self.stacks.each_ref().map(|s| s.poll());
        self.launch();
        let next = [self.flying.keys().next().map(|k| k.0), timers[0], timers[1]];
        let Some(at) = next.into_iter().flatten().min().filter(|at| *at <= end) else {
            self.clock.set(end);
            return false;
        };
        self.clock.set(at.max(self.clock.now()));
        while let Some((&(at, serial), _)) = self.flying.first_key_value() {
            if at > self.clock.now() {
                break;
            }
            let (to, frame) = self.flying.remove(&(at, serial)).unwrap();
            self.stacks[to].input(self.ifaces[to], &[RxFrame::new(&frame)]);
        }
        true
    }

    /// A connection from 0 to 1.
    pub(crate) fn connect(&mut self) -> (TcpSocket, TcpSocket) {
        let l = self.stacks[1].tcp(Family::V4).unwrap();
        l.bind((ADDR[1], 80).into()).unwrap();
        l.listen(10).unwrap();
        let c = self.stacks[0].tcp(Family::V4).unwrap();
        assert_eq!(c.connect((ADDR[1], 80).into()), Err(Error::InProgress));
        let end = self.clock.now() + Duration::from_secs(120);
        loop {
            assert!(self.step(end), "connects");
            if let Ok((s, _)) = l.accept() {
                return (c, s);
            }
        }
    }

    /// Sends `bytes` from `from` to `to`, which reads at once; the time it took. The data is checked.
    pub(crate) fn transfer(&mut self, from: &TcpSocket, to: &TcpSocket, bytes: usize) -> Duration {
        let start = self.clock.now();
        let end = start + Duration::from_secs(3600);
        let (mut written, mut read) = (0, 0);
        let pattern: Vec<u8> = (0..251 * 300).map(|n| (n % 251) as u8).collect();
        let mut buf = vec![0; 65536];
        while read < bytes {
            while written < bytes {
                let at = written % 251;
                let n = (bytes - written).min(pattern.len() - at);
                match from.send(&pattern[at..at + n]) {
                    Ok(n) => written += n,
                    Err(Error::WouldBlock) => break,
                    Err(e) => panic!("send: {e}"),
                }
            }
            loop {
                match to.recv(&mut buf) {
                    Ok(n) => {
                        assert!(n > 0, "the end at {read}");
                        let at = read % 251;
                        assert_eq!(buf[..n], pattern[at..at + n], "contents at {read}");
                        read += n;
                    }
                    Err(Error::WouldBlock) => break,
                    Err(e) => panic!("recv: {e}"),
                }
            }
            assert!(read >= bytes || self.step(end), "stalled at {read} of {bytes}");
        }
        self.clock.now().since(start)
    }
}

/// Congestion experienced, if the packet can say so.
fn mark(frame: &mut [u8]) -> bool {
    let tos = frame[15];
    if tos & 3 == 0 {
        return false;
    }
    frame[15] |= 3;
    frame[24] = 0;
    frame[25] = 0;
    let sum = wire::checksum::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    true
}
