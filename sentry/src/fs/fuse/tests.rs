//! Replies of hostile daemons.

use super::abi::{Body, Opcode};
use super::connection::{Connection, Expect, Request, Sender};
use crate::errno::Errno;
use std::sync::Arc;

fn started() -> Connection {
    let connection = Connection::default();
    assert_eq!(connection.next_message(8192).unwrap_err(), Errno::EPERM);
    connection.connect(u32::MAX).unwrap();
    connection
}

fn reply(unique: u64, error: i32, body: &[u8]) -> Vec<u8> {
    let len = 16 + body.len() as u32;
    Body::default().u32(len).u32(error as u32).u64(unique).bytes(body).0
}

/// Number of the request that is read next.
fn next(connection: &Connection) -> u64 {
    connection.next_message(1 << 21).unwrap().1.unwrap()
}

fn init(connection: &Connection, minor: u32, flags: u32) {
    let body = Body::default().u32(7).u32(minor).u32(0).u32(flags).u32(0).u32(u32::MAX);
    let unique = next(connection);
    connection.received(&reply(unique, 0, &body.0)).unwrap();
}

fn ask(connection: &Connection, expect: Expect) -> Arc<Request> {
    let sender = Sender::default();
    let request = Request::new(Opcode::GetAttr, 1, sender, Body::default(), expect, None);
    connection.queue(request.clone()).unwrap();
    request
}

#[test]
fn terms() {
    let connection = started();
    init(&connection, 31, u32::MAX);
    let terms = connection.terms().unwrap();
    // The daemon did not say how many pages, so that it is 32.
    assert_eq!((terms.max_write, terms.max_read), (128 << 10, 128 << 10));
    let connection = started();
    let unique = next(&connection);
    let body = Body::default().u32(6).u32(0).0;
    connection.received(&reply(unique, 0, &body)).unwrap();
    assert!(connection.is_refused());
}

#[test]
fn replies() {
    let connection = started();
    init(&connection, 31, 0);
    for (error, body, result, told) in [
        (0, &[1, 2][..], Ok(()), Ok(vec![1, 2])),
        (0, &[1][..], Err(Errno::EINVAL), Err(Errno::EIO)),
        (-2, &[][..], Ok(()), Err(Errno::ENOENT)),
        (-2, &[1, 2][..], Err(Errno::EINVAL), Err(Errno::EIO)),
    ] {
        let request = ask(&connection, Expect::Exactly(2));
        let unique = next(&connection);
        assert_eq!(connection.received(&reply(unique, error, body)), result);
        assert_eq!(request.take_reply(), told);
        assert_eq!(connection.received(&reply(unique, 0, &[1, 2])), Err(Errno::ENOENT));
    }
    assert_eq!(connection.received(&reply(99, 0, &[])), Err(Errno::ENOENT));
    assert_eq!(connection.received(&reply(2, 5, &[])), Err(Errno::EINVAL));
    assert_eq!(connection.received(&reply(2, -512, &[])), Err(Errno::EINVAL));
    assert_eq!(connection.received(&[1, 2, 3]), Err(Errno::EINVAL));
    let mut long = reply(2, 0, &[]);
    long[0] = 200;
    assert_eq!(connection.received(&long), Err(Errno::EINVAL));
}

#[test]
fn the_end() {
    let connection = started();
    init(&connection, 31, 0);
    let (read, unread) = (ask(&connection, Expect::UpTo(0)), ask(&connection, Expect::UpTo(0)));
    next(&connection);
    connection.forget(7, 1);
    connection.end();
    assert_eq!(read.take_reply(), Err(Errno::ECONNABORTED));
    assert_eq!(unread.take_reply(), Err(Errno::ECONNABORTED));
    assert_eq!(connection.next_message(8192).unwrap_err(), Errno::ENODEV);
    let late =
        Request::new(Opcode::GetAttr, 1, Sender::default(), Body::default(), Expect::UpTo(0), None);
    assert_eq!(connection.queue(late), Err(Errno::ENOTCONN));
}

/// Whatever a daemon writes, it is an error or a reply.
#[test]
fn noise() {
    let connection = started();
    init(&connection, 31, 0);
    let mut state = 1_u64;
    let mut random = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    for _ in 0..20_000 {
        if random() % 4 == 0 {
            ask(&connection, Expect::UpTo(64));
        }
        let _ = connection.next_message(8192);
        let mut bytes: Vec<u8> = (0..random() % 200).map(|_| random() as u8).collect();
        let len = bytes.len() as u32;
        if let Some(head) = bytes.get_mut(..4) {
            head.copy_from_slice(&len.to_ne_bytes());
        }
        if let Some(unique) = bytes.get_mut(8..16) {
            unique.copy_from_slice(&(random() % 64).to_ne_bytes());
        }
        if let Some(error) = bytes.get_mut(4..8) {
            error.copy_from_slice(&(-(random() as i32 % 50)).to_ne_bytes());
        }
        let _ = connection.received(&bytes);
    }
}
