use super::*;
use crate::io::{BufSink, BufSource};
use crate::socket::{RecvMsg, SendMsg, flags};
use crate::wait::EventMask;

const ME: Ucred = Ucred { pid: 7, uid: 1, gid: 2 };

fn creds() -> PeerCreds {
    PeerCreds { ucred: ME, groups: vec![3] }
}

fn options() -> [Options; 2] {
    [0; 2].map(|_| Options::with_creator(ME))
}

fn files(a: Arc<dyn Socket>, b: Arc<dyn Socket>) -> (Arc<File>, Arc<File>) {
    let creds = Default::default();
    (SocketFile::open(a, &creds, false), SocketFile::open(b, &creds, false))
}

fn stream() -> (Arc<File>, Arc<File>) {
    let (a, b) = ConnSocket::pair(Kind::Stream, options(), creds());
    files(a, b)
}

fn packets() -> (Arc<File>, Arc<File>) {
    let (a, b) = ConnSocket::pair(Kind::SeqPacket, options(), creds());
    files(a, b)
}

fn dgrams() -> (Arc<File>, Arc<File>) {
    let (a, b) = DgramSocket::pair(options(), creds());
    files(a, b)
}

fn write(f: &File, data: &[u8]) -> Result<usize> {
    f.ops().write(f, &mut BufSource::new(data), 0)
}

fn read(f: &File, n: usize) -> Result<Vec<u8>> {
    let mut buf = vec![0; n];
    let n = f.ops().read(f, &mut BufSink::new(&mut buf), 0)?;
    buf.truncate(n);
    Ok(buf)
}

fn send_files(f: &File, files: Vec<Arc<File>>) {
    let mut msg = SendMsg { rights: Some(Rights::for_test(files)), ..SendMsg::default() };
    let socket = crate::socket::of(f).unwrap();
    socket.send(&mut BufSource::new(b"f"), &mut msg).unwrap();
}

/// Files in flight are counted for the whole process: tests that look at the count take turns.
static TURN: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

#[test]
fn a_stream_has_no_records() {
    let (a, b) = stream();
    assert_eq!(read(&b, 1), Err(Errno::EAGAIN));
    write(&a, b"hello ").unwrap();
    write(&a, b"world").unwrap();
    assert_eq!(read(&b, 8).unwrap(), b"hello wo");
    assert_eq!(read(&b, 8).unwrap(), b"rld");
    drop(a);
    assert_eq!(read(&b, 8).unwrap(), b"");
    assert_eq!(write(&b, b"x"), Err(Errno::EPIPE));
    let all = EventMask::READABLE | message::WRITABLE | EventMask::RDHUP | EventMask::HUP;
    assert_eq!(b.poll(), all);
}

#[test]
fn unread_bytes_reset_the_connection() {
    let (a, b) = stream();
    write(&a, b"x").unwrap();
    write(&b, b"y").unwrap();
    drop(b);
    assert_eq!(read(&a, 1).unwrap(), b"y");
    assert_eq!(read(&a, 1), Err(Errno::ECONNRESET));
    assert_eq!(read(&a, 1).unwrap(), b"");
}

#[test]
fn records_keep_their_bounds() {
    for (a, b) in [packets(), dgrams()] {
        write(&a, b"hello").unwrap();
        write(&a, b"").unwrap();
        write(&a, b"x").unwrap();
        assert_eq!(read(&b, 3).unwrap(), b"hel");
        assert_eq!(read(&b, 3).unwrap(), b"");
        assert_eq!(read(&b, 3).unwrap(), b"x");
        assert_eq!(write(&a, &vec![0; 300_000]), Err(Errno::EMSGSIZE));
    }
}

#[test]
fn buffers_fill_as_on_linux() {
    for ((a, b), n) in [(stream(), 44), (packets(), 26), (dgrams(), 26)] {
        let mut count = 0;
        while write(&a, &[0; 4096]).is_ok() {
            count += 1;
        }
        assert_eq!(count, n);
        assert!(!a.poll().contains(EventMask::OUT));
        while read(&b, 4096).is_ok() {}
        assert!(a.poll().contains(EventMask::OUT));
    }
}

#[test]
fn peeking_takes_nothing() {
    for (a, b) in [stream(), packets(), dgrams()] {
        write(&a, b"abc").unwrap();
        let socket = crate::socket::of(&b).unwrap();
        let mut buf = [0; 2];
        let mut msg = RecvMsg { flags: flags::PEEK, ..RecvMsg::default() };
        assert_eq!(socket.receive(&mut BufSink::new(&mut buf), &mut msg), Ok(2));
        assert_eq!(&buf, b"ab");
        assert_eq!(read(&b, 9).unwrap(), b"abc");
    }
}

#[test]
fn shutdown_reaches_the_other_side() {
    let (a, b) = stream();
    write(&a, b"x").unwrap();
    crate::socket::of(&a).unwrap().shutdown(1).unwrap();
    assert_eq!(write(&a, b"y"), Err(Errno::EPIPE));
    assert_eq!(read(&b, 2).unwrap(), b"x");
    assert_eq!(read(&b, 2).unwrap(), b"");
    assert_eq!(write(&b, b"z"), Ok(1));
    crate::socket::of(&a).unwrap().shutdown(0).unwrap();
    assert_eq!(write(&b, b"z"), Err(Errno::EPIPE));
}

#[test]
fn files_travel() {
    let _turn = TURN.lock();
    let (a, b) = stream();
    let (r, w) = crate::fs::pipe::pair(&Default::default(), crate::vfs::OpenFlags::empty());
    send_files(&a, vec![w]);
    assert_eq!(rights::in_flight(), 1);
    write(&a, b"later").unwrap();
    let mut buf = [0; 9];
    let mut msg = RecvMsg::default();
    let socket = crate::socket::of(&b).unwrap();
    assert_eq!(socket.receive(&mut BufSink::new(&mut buf), &mut msg), Ok(1));
    let files = msg.rights.unwrap().into_files();
    assert_eq!(files.len(), 1);
    assert_eq!(rights::in_flight(), 0);
    write(&files[0], b"p").unwrap();
    assert_eq!(read(&r, 1).unwrap(), b"p");
}

#[test]
fn cycles_are_collected() {
    let _turn = TURN.lock();
    let (r, w) = crate::fs::pipe::pair(&Default::default(), crate::vfs::OpenFlags::empty());
    let (a, b) = stream();
    let (c, d) = dgrams();
    // Through itself, and two through each other; the pipe goes with them.
    send_files(&a, vec![b.clone(), w]);
    send_files(&c, vec![d.clone()]);
    let (e, f) = stream();
    let (g, h) = packets();
    send_files(&e, vec![h.clone()]);
    send_files(&g, vec![f.clone()]);
    let (x, y) = stream();
    send_files(&x, vec![e.clone()]);
    // The search comes with the closing of a socket, so the last one is closed last.
    drop((b, a, d, c));
    assert_eq!(rights::in_flight(), 3);
    drop((h, f, e, g));
    // What an open socket still holds is alive.
    assert_eq!(rights::in_flight(), 1);
    assert_eq!(read(&r, 1).unwrap(), b"");
    drop((x, y));
    assert_eq!(rights::in_flight(), 0);
}

#[test]
fn deep_nesting_unwinds_flatly() {
    let _turn = TURN.lock();
    let (mut a, mut b) = stream();
    for _ in 0..20_000 {
        let (c, d) = stream();
        send_files(&c, vec![a, b]);
        (a, b) = (c, d);
    }
    drop((a, b));
    assert_eq!(rights::in_flight(), 0);
}
