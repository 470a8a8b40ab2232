//! Connections without system calls.

use super::*;
use crate::io::{BufSink, BufSource};
use crate::socket::inet::addr::AF_INET;
use crate::socket::{RecvMsg, SendMsg, Socket, Ucred};
use crate::wait::EventMask;

fn net() -> Arc<Net> {
    Net::new(true)
}

fn socket(net: &Arc<Net>) -> Arc<StreamSocket> {
    StreamSocket::new(AF_INET, net, Options::with_creator(Ucred::NOBODY))
}

fn listener(net: &Arc<Net>, backlog: i32) -> (Arc<StreamSocket>, Vec<u8>) {
    let l = socket(net);
    l.do_listen(backlog).unwrap();
    let mut address = l.local_address().unwrap();
    address[4..8].copy_from_slice(&[127, 0, 0, 1]);
    (l, address)
}

fn pair() -> (Arc<StreamSocket>, Arc<StreamSocket>) {
    let net = net();
    let (l, address) = listener(&net, 5);
    let c = socket(&net);
    c.start(&address).unwrap();
    let a = l.do_accept().unwrap();
    l.release();
    (c, a)
}

fn send(s: &StreamSocket, data: &[u8]) -> Result<usize> {
    s.send(&mut BufSource::new(data), &mut SendMsg::default())
}

fn receive(s: &StreamSocket, n: usize) -> Result<Vec<u8>> {
    let mut buf = vec![0; n];
    let n = s.receive(&mut BufSink::new(&mut buf), &mut RecvMsg::default())?;
    buf.truncate(n);
    Ok(buf)
}

#[test]
fn data_and_ends() {
    let (c, a) = pair();
    assert_eq!(send(&c, b"hello"), Ok(5));
    assert_eq!(receive(&a, 3), Ok(b"hel".to_vec()));
    c.do_shutdown(1).unwrap();
    assert_eq!(receive(&a, 9), Ok(b"lo".to_vec()));
    assert_eq!(receive(&a, 9), Ok(vec![]));
    assert_eq!(send(&c, b"x"), Err(Errno::EPIPE));
    assert_eq!((c.state_number(), a.state_number()), (TCP_FIN_WAIT2, TCP_CLOSE_WAIT));
    assert_eq!(send(&a, b"back"), Ok(4));
    assert_eq!(receive(&c, 9), Ok(b"back".to_vec()));
    assert_eq!(receive(&c, 9), Err(Errno::EAGAIN));
}

#[test]
fn a_close_with_unread_data_resets() {
    let (c, a) = pair();
    send(&c, b"lost").unwrap();
    a.release();
    assert!(c.poll().contains(EventMask::ERR | EventMask::HUP));
    assert_eq!(send(&c, b"x"), Err(Errno::ECONNRESET));
    assert_eq!(send(&c, b"x"), Err(Errno::EPIPE));
}

#[test]
fn a_send_after_the_peer_closed_gets_a_reset() {
    let (c, a) = pair();
    a.release();
    assert_eq!(receive(&c, 1), Ok(vec![]));
    assert_eq!(send(&c, b"x"), Ok(1));
    assert_eq!(send(&c, b"x"), Err(Errno::EPIPE));
}

#[test]
fn a_full_backlog_admits_later() {
    let net = net();
    let (l, address) = listener(&net, 0);
    let clients: Vec<_> = (0..3).map(|_| socket(&net)).collect();
    for c in &clients {
        c.start(&address).unwrap();
    }
    let states = || clients.iter().map(|c| c.state_number()).collect::<Vec<_>>();
    assert_eq!(states(), [TCP_ESTABLISHED, TCP_SYN_SENT, TCP_SYN_SENT]);
    l.do_accept().unwrap();
    assert_eq!(states(), [TCP_ESTABLISHED, TCP_ESTABLISHED, TCP_SYN_SENT]);
    l.release();
    assert_eq!(states(), [TCP_ESTABLISHED, TCP_CLOSE, TCP_CLOSE]);
    assert_eq!(clients[2].take_error(), Some(Errno::ECONNREFUSED));
}

#[test]
fn nothing_stays_in_the_tables() {
    let net = net();
    let (l, address) = listener(&net, 5);
    let c = socket(&net);
    c.start(&address).unwrap();
    let a = l.do_accept().unwrap();
    assert_eq!(net.connections.all().len(), 2);
    for s in [&c, &a, &l] {
        s.release();
    }
    assert_eq!(net.connections.all().len(), 0);
    // The side that closed first waits (TIME-WAIT), and its port with it.
    assert_eq!(net.tcp.all().len(), 1);
}
