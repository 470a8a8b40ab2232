use super::*;
use crate::Client;
use crate::protocol::Program;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// A proxy in a thread, for which the gateway is this machine's loopback interface.
fn start(published: Vec<Published>) -> Client {
    start_with(published, Vec::new(), Policy::default())
}

fn start_with(published: Vec<Published>, name_servers: Vec<SocketAddr>, policy: Policy) -> Client {
    start_as(false, published, name_servers, policy)
}

fn start_as(
    names_only: bool,
    published: Vec<Published>,
    name_servers: Vec<SocketAddr>,
    policy: Policy,
) -> Client {
    let (ours, control) = messages::seqpacket_pair().unwrap();
    let (our_packets, packets) = messages::seqpacket_pair().unwrap();
    let options = Options {
        control,
        packets,
        name_servers,
        names_only,
        host_loopback: true,
        published,
        policy,
        report: |_| {},
    };
    let server = Server::new(options).unwrap();
    std::thread::spawn(move || server.run());
    Client::new(ours, our_packets)
}

#[test]
fn name_servers_and_nobody_else() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = server.local_addr().unwrap();
    let client = start_as(true, Vec::new(), vec![at], Policy::default());
    assert_eq!(connect(&client, 1, "10.0.2.3:53").0, Event::Connected { id: 1, sent: 0 });
    for to in [format!("10.0.2.2:{}", at.port()), "192.0.2.1:53".into(), "10.0.2.9:1".into()] {
        let refused = Event::Failed { id: 2, errno: libc::EACCES };
        assert_eq!(connect(&client, 2, &to).0, refused, "{to}");
    }
}

fn connect(client: &Client, id: u64, to: &str) -> (Event, Option<OwnedFd>) {
    let (to, program) = (to.parse().unwrap(), Program::default());
    client.request(&Request::Connect { id, to, program }).unwrap();
    client.event().unwrap()
}

#[test]
fn connections() {
    let client = start(Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (event, fd) = connect(&client, 7, &format!("10.0.2.2:{port}"));
    assert_eq!(event, Event::Connected { id: 7, sent: 0 });
    let mut ours = TcpStream::from(fd.unwrap());
    ours.write_all(b"hi").unwrap();
    let mut got = [0; 2];
    listener.accept().unwrap().0.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hi");
    drop(listener);
    let refused = Event::Failed { id: 8, errno: libc::ECONNREFUSED };
    assert_eq!(connect(&client, 8, &format!("10.0.2.2:{port}")).0, refused);
}

#[test]
fn refusals() {
    let client = start(Vec::new());
    for (to, errno) in [
        ("169.254.169.254:80", libc::EACCES),
        ("127.0.0.1:80", libc::EACCES),
        ("10.0.2.77:80", libc::EHOSTUNREACH),
    ] {
        assert_eq!(connect(&client, 1, to).0, Event::Failed { id: 1, errno }, "{to}");
        let (to, program) = (to.parse().unwrap(), Program::default());
        let check = Request::Check { id: 2, protocol: Protocol::Udp, port: 9, to, program };
        client.request(&check).unwrap();
        assert_eq!(client.event().unwrap().0, Event::Checked { id: 2, errno }, "{to}");
    }
}

fn data<'a>(id: u64, port: u16, peer: SocketAddr, data: &'a [u8]) -> Packet<'a> {
    Packet::Data { id, protocol: Protocol::Udp, port, peer, ttl: 64, tos: 0, data }
}

#[test]
fn a_name_server_that_is_not_there() {
    let client = start(Vec::new());
    let refused = Event::Failed { id: 1, errno: libc::ECONNREFUSED };
    assert_eq!(connect(&client, 1, "10.0.2.3:53").0, refused);
    let to = "10.0.2.3:53".parse().unwrap();
    let program = Program::default();
    client
        .request(&Request::Check { id: 2, protocol: Protocol::Udp, port: 9, to, program })
        .unwrap();
    assert_eq!(client.event().unwrap().0, Event::Checked { id: 2, errno: 0 });
    client.send(&data(3, 9, to, b"who?")).unwrap();
    let mut buffer = Vec::new();
    assert!(client.packet(&mut buffer, |packet| {
        let expected = libc::ECONNREFUSED;
        assert!(matches!(packet, Packet::Error { id: 3, errno, .. } if errno == expected));
    }));
}

#[test]
fn datagrams() {
    let client = start(Vec::new());
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let peer = SocketAddr::new("10.0.2.2".parse().unwrap(), server.local_addr().unwrap().port());
    client.send(&data(3, 1000, peer, b"ping")).unwrap();
    let mut buffer = [0; 16];
    let (n, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"ping");
    // A stranger is not heard.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"boo", from).unwrap();
    server.send_to(b"pong", from).unwrap();
    let mut buffer = Vec::new();
    assert!(client.packet(&mut buffer, |packet| {
        let Packet::Data { id: 3, peer: from, data: b"pong", .. } = packet else {
            panic!("{packet:?}")
        };
        assert_eq!(from, peer);
    }));
    drop(server);
    client.send(&data(3, 1000, peer, b"anybody?")).unwrap();
    assert!(client.packet(&mut buffer, |packet| {
        let Packet::Error { id: 3, peer: to, errno: libc::ECONNREFUSED, data, .. } = packet else {
            panic!("{packet:?}")
        };
        assert_eq!((to, data), (peer, &b"anybody?"[..]));
    }));
}

#[test]
fn published_ports() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (at, udp_at) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    let client = start(vec![
        Published { protocol: Protocol::Tcp, socket: tcp.into(), port: 80 },
        Published { protocol: Protocol::Udp, socket: udp.into(), port: 53 },
    ]);
    let outside = TcpStream::connect(at).unwrap();
    let (event, fd) = client.event().unwrap();
    let from = seen(outside.local_addr().unwrap());
    assert_eq!(event, Event::Incoming { port: 80, from });
    assert_eq!(TcpStream::from(fd.unwrap()).peer_addr().unwrap(), outside.local_addr().unwrap());
    let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
    outside.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    outside.send_to(b"ask", udp_at).unwrap();
    let from = seen(outside.local_addr().unwrap());
    let mut buffer = Vec::new();
    assert!(client.packet(&mut buffer, |packet| {
        let Packet::Data { id: 0, port: 53, peer, data: b"ask", .. } = packet else {
            panic!("{packet:?}")
        };
        assert_eq!(peer, from);
    }));
    client.send(&data(9, 53, from, b"answer")).unwrap();
    let mut answer = [0; 16];
    let (n, who) = outside.recv_from(&mut answer).unwrap();
    assert_eq!((&answer[..n], who), (&b"answer"[..], udp_at));
}

fn seen(at: SocketAddr) -> SocketAddr {
    crate::address::seen_from_guest(at)
}

#[test]
fn tokens() {
    for token in [
        Token::Control,
        Token::Packets,
        Token::Connecting(MAX_ID - 1),
        Token::Packet(5, true),
        Token::Packet(MAX_ID - 1, false),
        Token::Published(3),
        Token::Gated(MAX_ID - 1),
    ] {
        assert_eq!(Token::unpack(token.pack()), Some(token));
    }
}

/// An answer to any question of the kind that the tests ask: 127.0.0.1.
fn resolve(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    (answer[2], answer[7]) = (0x81, 1);
    answer.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01");
    answer
}

fn question(name: &[u8]) -> Vec<u8> {
    let mut query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split(|b| *b == b'.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label);
    }
    query.extend_from_slice(b"\0\0\x01\0\x01");
    query
}

/// The gateway is 127.0.0.1 to the host, and what a name server says of that is the only way to have one here.
#[test]
fn names_that_are_not_allowed_are_not_asked_for() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let name_servers = vec![server.local_addr().unwrap()];
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((n, from)) = server.recv_from(&mut buffer) {
            server.send_to(&resolve(&buffer[..n]), from).unwrap();
        }
    });
    let policy = Policy::new(vec![vec!["allow:good.test".parse().unwrap()]]);
    let client = start_with(Vec::new(), name_servers, policy);
    let to: SocketAddr = "10.0.2.3:53".parse().unwrap();
    let mut buffer = Vec::new();
    for (name, code) in [(&b"good.test"[..], 0), (b"leak.bad.test", 5)] {
        client.send(&data(3, 9, to, &question(name))).unwrap();
        assert!(client.packet(&mut buffer, |packet| {
            let Packet::Data { id: 3, peer, data, .. } = packet else { panic!("{packet:?}") };
            assert_eq!((peer, data[3] & 15), (to, code));
        }));
    }
    let refused = Event::Failed { id: 1, errno: libc::EACCES };
    assert_eq!(connect(&client, 1, "192.0.2.1:80").0, refused);
    let refused = Event::Failed { id: 2, errno: libc::ECONNREFUSED };
    assert_eq!(connect(&client, 2, "10.0.2.3:53").0, refused);
}
