use super::*;
use crate::io::{BufSink, BufSource};

fn pair_of(flags: OpenFlags) -> (Arc<File>, Arc<File>) {
    pair(&Credentials::default(), flags)
}

fn write(f: &File, n: usize) -> Result<usize> {
    f.ops().write(f, &mut BufSource::new(&vec![b'x'; n]), 0)
}

fn read(f: &File, n: usize) -> Result<usize> {
    f.ops().read(f, &mut BufSink::new(&mut vec![0; n]), 0)
}

#[test]
fn a_pipe_fills_and_drains() {
    let (r, w) = pair_of(OpenFlags::NONBLOCK);
    assert_eq!(read(&r, 1), Err(Errno::EAGAIN));
    assert_eq!(r.poll(), EventMask::empty());
    assert_eq!(w.poll(), EventMask::WRITABLE);
    assert_eq!(write(&w, 100_000), Ok(65536));
    assert_eq!(write(&w, 1), Err(Errno::EAGAIN));
    assert_eq!(w.poll(), EventMask::empty());
    assert_eq!(read(&r, 4095), Ok(4095));
    assert_eq!(w.poll(), EventMask::empty());
    assert_eq!(read(&r, 1), Ok(1));
    assert_eq!(w.poll(), EventMask::WRITABLE);
    assert_eq!(write(&w, 5000), Ok(4096));
}

#[test]
fn ends_that_go_away() {
    let (r, w) = pair_of(OpenFlags::empty());
    write(&w, 3).unwrap();
    drop(w);
    assert_eq!(r.poll(), EventMask::READABLE | EventMask::HUP);
    assert_eq!(read(&r, 10), Ok(3));
    assert_eq!(read(&r, 10), Ok(0));
    let (r, w) = pair_of(OpenFlags::empty());
    drop(r);
    assert_eq!(w.poll(), EventMask::WRITABLE | EventMask::ERR);
    assert_eq!(write(&w, 1), Err(Errno::EPIPE));
}

#[test]
fn capacity_changes() {
    let (r, w) = pair_of(OpenFlags::empty());
    let pipe = of(&r).unwrap();
    assert_eq!(pipe.set_capacity(5000, false), Ok(8192));
    assert_eq!(write(&w, 9000), Ok(8192));
    assert_eq!(pipe.set_capacity(1, false), Err(Errno::EBUSY));
    assert_eq!(pipe.set_capacity(2 << 20, false), Err(Errno::EPERM));
    assert_eq!(pipe.set_capacity(2 << 20, true), Ok(2 << 20));
    assert_eq!(pipe.set_capacity(u64::MAX, true), Err(Errno::EINVAL));
}

#[test]
fn pages_move_between_pipes() {
    let ((r1, w1), (r2, w2)) = (pair_of(OpenFlags::empty()), pair_of(OpenFlags::empty()));
    write(&w1, 10_000).unwrap();
    let (a, b) = (of(&r1).unwrap(), of(&w2).unwrap());
    assert_eq!(tee_pipes(a, b, 5000), Ok(5000));
    assert_eq!(splice_pipes(a, b, 9000), Ok(9000));
    assert_eq!(read(&r2, 20_000), Ok(14_000));
    assert_eq!(read(&r1, 20_000), Ok(1000));
    assert_eq!(splice_pipes(a, b, 1), Err(Errno::EAGAIN));
    assert_eq!(splice_pipes(a, a, 1), Err(Errno::EINVAL));
    drop(w1);
    assert_eq!(splice_pipes(a, b, 1), Ok(0));
}

#[test]
fn held_bytes_are_put_back() {
    let (r, w) = pair_of(OpenFlags::empty());
    write(&w, 5000).unwrap();
    let mut held = Held::take(of(&r).unwrap(), 4500).unwrap().unwrap();
    assert_eq!(read(&r, 1), Err(Errno::EAGAIN));
    held.consume(4100);
    drop(held);
    assert_eq!(read(&r, 5000), Ok(900));
}
