use super::*;
use crate::fs::eventfd::EventFd;
use crate::io::{BufSink, BufSource};

const IN: u32 = 1;

fn ep(file: &Arc<File>) -> &Epoll {
    file.ops_as().unwrap()
}

fn signal(f: &File) {
    f.ops().write(f, &mut BufSource::new(&1u64.to_ne_bytes()), 0).unwrap();
}

fn drain(f: &File) {
    f.ops().read(f, &mut BufSink::new(&mut [0; 8]), 0).unwrap();
}

fn wait(e: &Arc<File>) -> Vec<u64> {
    let mut out = Vec::new();
    ep(e)
        .collect(10, |_, event| {
            out.push(event.data);
            Ok(())
        })
        .unwrap();
    out
}

fn event(events: u32, data: u64) -> Event {
    Event { events, data }
}

#[test]
fn level_edge_and_oneshot() {
    let e = Epoll::open();
    let [l, t, o] = [0; 3].map(|_| EventFd::open(0, false, true));
    ep(&e).add(&e, 0, &l, event(IN, 10)).unwrap();
    ep(&e).add(&e, 1, &t, event(IN | EPOLLET, 11)).unwrap();
    ep(&e).add(&e, 2, &o, event(IN | EPOLLONESHOT, 12)).unwrap();
    assert_eq!(ep(&e).add(&e, 2, &o, event(IN, 12)), Err(Errno::EEXIST));
    assert!(wait(&e).is_empty());
    assert_eq!(e.poll(), EventMask::empty());
    for f in [&l, &t, &o] {
        signal(f);
    }
    assert_eq!(e.poll(), EventMask::READABLE);
    assert_eq!(wait(&e), [10, 11, 12]);
    assert_eq!(wait(&e), [10]);
    signal(&t);
    signal(&o);
    assert_eq!(wait(&e), [10, 11]);
    drain(&l);
    assert!(wait(&e).is_empty());
    ep(&e).modify(2, &o, event(IN, 13)).unwrap();
    assert_eq!(wait(&e), [13]);
    ep(&e).delete(&e, 2, &o).unwrap();
    assert!(wait(&e).is_empty());
    assert_eq!(ep(&e).delete(&e, 2, &o), Err(Errno::ENOENT));
}

#[test]
fn watches_end_with_the_file() {
    let e = Epoll::open();
    let (r, w) = crate::fs::pipe::pair(&Default::default(), OpenFlags::empty());
    ep(&e).add(&e, 0, &r, event(IN, 1)).unwrap();
    w.ops().write(&w, &mut BufSource::new(b"x"), 0).unwrap();
    assert_eq!(wait(&e), [1]);
    drop(r);
    assert!(wait(&e).is_empty());
    assert!(ep(&e).interest.lock().is_empty());
    assert!(w.ops().wait_queue().unwrap().is_empty());
    let f = EventFd::open(0, false, true);
    ep(&e).add(&e, 0, &f, event(IN, 1)).unwrap();
    drop(e);
    assert!(f.ops().wait_queue().unwrap().is_empty());
    assert!(f.epoll_links.instances().is_empty());
}

#[test]
fn nesting() {
    let chain: Vec<_> = (0..6).map(|_| Epoll::open()).collect();
    for (i, pair) in chain.windows(2).enumerate() {
        let result = ep(&pair[0]).add(&pair[0], 0, &pair[1], event(IN, 0));
        assert_eq!(result, if i < 4 { Ok(()) } else { Err(Errno::ELOOP) });
    }
    assert_eq!(ep(&chain[3]).add(&chain[3], 9, &chain[0], event(IN, 0)), Err(Errno::ELOOP));
    let f = EventFd::open(0, false, true);
    ep(&chain[4]).add(&chain[4], 1, &f, event(IN, 0)).unwrap();
    assert_eq!(chain[0].poll(), EventMask::empty());
    signal(&f);
    assert_eq!(chain[0].poll(), EventMask::READABLE);
    assert_eq!(wait(&chain[0]).len(), 1);
}
