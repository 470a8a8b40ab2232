//! Connections within the stack.

use super::bench::*;
use crate::*;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

fn pair(b: &Bench, family: Family, addr: SocketAddr) -> (TcpSocket, TcpSocket) {
    let l = b.stack.tcp(family).unwrap();
    l.set_options(TcpOptions { reuse_addr: true, ..l.options() });
    l.bind(addr).unwrap();
    l.listen(5).unwrap();
    let c = b.stack.tcp(family).unwrap();
    assert_eq!(c.connect(addr), Err(Error::InProgress));
    let (s, peer) = l.accept().unwrap();
    assert_eq!(peer, c.local_addr());
    assert_eq!(c.state(), TcpStateName::Established);
    (c, s)
}

#[test]
fn over_every_own_address() {
    let b = Bench::new();
    for addr in ["127.0.0.1:80", "127.1.2.3:80", "10.0.0.1:80"] {
        let (c, s) = pair(&b, Family::V4, addr.parse().unwrap());
        assert_eq!(c.send(b"hello"), Ok(5));
        assert_eq!(s.recv(&mut [0; 10]), Ok(5));
    }
    for addr in ["[::1]:80", "[2001:db8::1]:80"] {
        let (c, s) = pair(&b, Family::V6, addr.parse().unwrap());
        assert_eq!(s.send(b"hello"), Ok(5));
        assert_eq!(c.recv(&mut [0; 10]), Ok(5));
    }
    assert!(b.packets().is_empty());
}

#[test]
fn refused_at_once() {
    let b = Bench::new();
    let c = b.stack.tcp(Family::V4).unwrap();
    assert_eq!(c.connect((Ipv4Addr::LOCALHOST, 1).into()), Err(Error::InProgress));
    assert_eq!(c.take_error(), Some(Error::ConnectionRefused));
    assert_eq!(
        c.connect((Ipv4Addr::LOCALHOST, 1).into()),
        Err(Error::InProgress),
        "and may try again"
    );
}

#[test]
fn any_address_means_this_host() {
    let b = Bench::new();
    let l = b.stack.tcp(Family::V4).unwrap();
    l.bind((Ipv4Addr::LOCALHOST, 80).into()).unwrap();
    l.listen(1).unwrap();
    let c = b.stack.tcp(Family::V4).unwrap();
    let _ = c.connect((Ipv4Addr::UNSPECIFIED, 80).into());
    assert_eq!(c.state(), TcpStateName::Established);
}

#[test]
fn to_oneself() {
    // A simultaneous open with one endpoint.
    let b = Bench::new();
    let c = b.stack.tcp(Family::V4).unwrap();
    c.bind((Ipv4Addr::LOCALHOST, 5000).into()).unwrap();
    let _ = c.connect((Ipv4Addr::LOCALHOST, 5000).into());
    b.advance(5);
    assert_eq!(c.state(), TcpStateName::Established);
    assert_eq!(c.send(b"me"), Ok(2));
    assert_eq!(c.recv(&mut [0; 5]), Ok(2));
}

#[test]
fn large_transfers() {
    let b = Bench::new();
    let (c, s) = pair(&b, Family::V4, "127.0.0.1:80".parse().unwrap());
    let data: Vec<u8> = (0..1_000_003u32).map(|n| (n % 253) as u8).collect();
    let (mut at, mut got) = (0, Vec::new());
    let mut buf = vec![0; 100_000];
    while got.len() < data.len() {
        if let Ok(n) = c.send(&data[at..]) {
            at += n;
        }
        match s.recv(&mut buf) {
            Ok(n) => got.extend_from_slice(&buf[..n]),
            Err(_) => b.advance(1),
        }
    }
    assert_eq!(got, data);
}

#[test]
fn many_connections_cost_little_and_leave_nothing() {
    let b = Bench::new();
    let addr: SocketAddr = (Ipv6Addr::LOCALHOST, 80).into();
    let l = b.stack.tcp(Family::V6).unwrap();
    l.bind(addr).unwrap();
    l.listen(4096).unwrap();
    let mut all = Vec::new();
    for _ in 0..10_000 {
        let c = b.stack.tcp(Family::V6).unwrap();
        let _ = c.connect(addr);
        all.push((c, l.accept().unwrap().0));
    }
    assert_eq!(b.stack.memory_used(), 0, "idle connections have no buffers");
    assert_eq!(b.stack.tcp_connections().len(), 20_001);
    all.clear();
    drop(l);
    b.advance(130_000);
    assert_eq!(b.stack.endpoint_count(), 0);
    assert_eq!(b.stack.tcp_connections().len(), 0);
}

#[test]
fn wakers_may_call_back() {
    struct Echo(parking_lot::Mutex<Option<TcpSocket>>);
    impl Waker for Echo {
        fn wake(&self, _: Readiness) {
            let guard = self.0.lock();
            if let Some(s) = &*guard {
                let mut buf = [0; 100];
                if let Ok(n) = s.recv(&mut buf) {
                    s.send(&buf[..n]).unwrap();
                }
            }
        }
    }
    let b = Bench::new();
    let (c, s) = pair(&b, Family::V4, "127.0.0.1:80".parse().unwrap());
    let echo = std::sync::Arc::new(Echo(parking_lot::Mutex::default()));
    s.set_waker(Some(echo.clone()));
    *echo.0.lock() = Some(s);
    c.send(b"abc").unwrap();
    assert_eq!(c.recv(&mut [0; 10]), Ok(3));
}

#[test]
fn threads_share_a_stack() {
    let b = Bench::new();
    let wait = || {
        b.clock.tick(50_000);
        b.stack.poll();
        std::thread::yield_now();
    };
    let work = |port: u16| {
        let addr: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
        let l = b.stack.tcp(Family::V4).unwrap();
        l.bind(addr).unwrap();
        l.listen(5).unwrap();
        for _ in 0..200 {
            let c = b.stack.tcp(Family::V4).unwrap();
            let _ = c.connect(addr);
            let s = loop {
                match l.accept() {
                    Ok((s, _)) => break s,
                    Err(_) => wait(),
                }
            };
            while c.send(b"ping") != Ok(4) {
                wait();
            }
            let mut buf = [0; 8];
            while s.recv(&mut buf) != Ok(4) {
                wait();
            }
        }
    };
    std::thread::scope(|scope| {
        for n in 0..4u16 {
            let work = &work;
            scope.spawn(move || work(100 + n));
        }
    });
}
