//! Configuration.

use super::bench::*;
use crate::*;

fn cidr(text: &str, len: u8) -> Cidr {
    Cidr::new(text.parse().unwrap(), len).unwrap()
}

#[test]
fn a_new_stack_has_a_loopback_interface() {
    let b = Bench::bare(Config::default(), ETHERNET);
    let i = b.stack.interfaces();
    assert_eq!((i[0].name.as_str(), i[0].id.0, i[1].name.as_str()), ("lo", 1, "eth0"));
    assert!(b.stack.is_local("127.5.5.5".parse().unwrap()));
    assert!(b.stack.is_local("::1".parse().unwrap()));
    assert_eq!(b.stack.addresses(IfaceId(1)).unwrap().len(), 2);
}

#[test]
fn addresses_bring_their_routes_and_take_them_along() {
    let b = Bench::bare(Config::default(), ETHERNET);
    b.stack.add_address(b.iface, cidr("10.0.0.1", 24)).unwrap();
    assert_eq!(b.stack.routes().len(), 1);
    assert_eq!(b.stack.add_address(b.iface, cidr("10.0.0.1", 24)), Err(Error::AddressInUse));
    b.stack.add_address(b.iface, cidr("10.0.0.3", 24)).unwrap();
    b.stack.remove_address(b.iface, "10.0.0.1".parse().unwrap()).unwrap();
    assert_eq!(b.stack.routes().len(), 1, "the other address needs it");
    b.stack.remove_address(b.iface, "10.0.0.3".parse().unwrap()).unwrap();
    assert!(b.stack.routes().is_empty());
    assert_eq!(
        b.stack.remove_address(b.iface, "10.0.0.3".parse().unwrap()),
        Err(Error::AddressNotAvailable)
    );
}

#[test]
fn interfaces_go_with_all_that_is_theirs() {
    let b = Bench::bare(Config::default(), ETHERNET);
    b.stack.add_address(b.iface, cidr("10.0.0.1", 24)).unwrap();
    b.stack.set_up(b.iface, false).unwrap();
    assert_eq!(b.stack.inject(b.iface, &[0; 60], 7), Ok(false), "it is down");
    b.stack.remove_routes_of(b.iface);
    assert!(b.stack.routes().is_empty());
    b.stack.restore_routes_of(b.iface).unwrap();
    assert_eq!(b.stack.routes().len(), 1);
    b.stack.set_mtu(b.iface, 1000).unwrap();
    b.stack.set_mac(b.iface, MacAddr([2, 0, 0, 0, 0, 9])).unwrap();
    let info = b.stack.interfaces()[1].clone();
    assert_eq!(
        (info.capabilities.mtu, info.capabilities.mac),
        (1000, Some(MacAddr([2, 0, 0, 0, 0, 9])))
    );
    assert_eq!(b.stack.remove_interface(IfaceId(1)), Err(Error::Invalid));
    b.stack.remove_interface(b.iface).unwrap();
    assert!(b.stack.routes().is_empty() && !b.stack.is_local("10.0.0.1".parse().unwrap()));
    assert_eq!(b.stack.remove_interface(b.iface), Err(Error::NoDevice));
    assert_eq!(b.stack.interfaces().len(), 1);
}

#[test]
fn mistakes_are_refused() {
    let b = Bench::bare(Config::default(), ETHERNET);
    let nowhere = IfaceId(99);
    assert_eq!(b.stack.add_address(nowhere, cidr("10.0.0.1", 24)), Err(Error::NoDevice));
    let route = RouteEntry {
        dst: Cidr::any(false),
        via: Some("2001:db8::1".parse().unwrap()),
        iface: b.iface,
        source: None,
        metric: 0,
        mtu: None,
    };
    assert_eq!(b.stack.add_route(route), Err(Error::Family));
    assert_eq!(
        b.stack.add_route(RouteEntry { iface: nowhere, via: None, ..route }),
        Err(Error::NoDevice)
    );
    assert_eq!(b.stack.join_group(b.iface, PEER.into()), Err(Error::Invalid));
    b.stack.input(nowhere, &[RxFrame::new(&[0; 60])]);
}

#[test]
fn interfaces_are_bounded() {
    let b = Bench::bare(Config::default(), ETHERNET);
    let more = (0..100).filter(|_| b.stack.add_interface("x", b.link.clone()).is_ok()).count();
    assert_eq!(more, 62);
}

#[test]
fn neighbours_can_be_set_and_removed() {
    let b = Bench::bare(Config::default(), ETHERNET);
    b.stack.set_neighbor(b.iface, PEER.into(), PEER_MAC).unwrap();
    assert_eq!(
        b.stack.neighbors(b.iface).unwrap(),
        [(PEER.into(), Some(PEER_MAC), NeighborState::Permanent)]
    );
    assert_eq!(b.stack.remove_neighbor(b.iface, PEER.into()), Ok(true));
    assert_eq!(b.stack.remove_neighbor(b.iface, PEER.into()), Ok(false));
}

#[test]
fn counters_have_names() {
    let b = Bench::new();
    b.ipv4(17, &udp4(7, 9, b"abc"));
    let all = b.stack.stats().all();
    assert!(all.contains(&("udp_no_ports", 1)));
}

#[test]
fn a_route_with_an_mtu_limits_the_path() {
    let b = Bench::new();
    let route = RouteEntry {
        dst: cidr("10.0.0.2", 32),
        via: None,
        iface: b.iface,
        source: None,
        metric: 0,
        mtu: Some(800),
    };
    b.stack.add_route(route).unwrap();
    let s = b.udp(9);
    s.send(&[0; 1000], Some((PEER, 7).into())).unwrap();
    assert_eq!(b.packets().len(), 2);
}
