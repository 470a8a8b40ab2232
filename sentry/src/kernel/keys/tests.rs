use super::*;

fn ring(keys: &mut Keys, name: &str) -> i32 {
    let description = name.as_bytes();
    let new = New { kind: Kind::Keyring, description, payload: &[], perm: 0, overrun: false };
    keys.make(&Credentials::default(), new).unwrap()
}

#[test]
fn keys_go_with_their_last_holder_and_their_quota_with_them() {
    let mut keys = Keys::default();
    let (outer, inner) = (ring(&mut keys, "outer"), ring(&mut keys, "inner"));
    let anchor = keys.anchor(outer);
    keys.link(outer, inner, 0).unwrap();
    let new = New { kind: Kind::User, description: b"a", payload: b"xy", perm: 0, overrun: false };
    let user = keys.make(&Credentials::default(), new).unwrap();
    keys.link(inner, user, 0).unwrap();
    assert_eq!((keys.keys.len(), keys.usage[&0].keys), (3, 3));
    assert_eq!(keys.link(inner, outer, 0), Err(Errno::EDEADLK));
    assert_eq!(keys.link(user, inner, 0), Err(Errno::ENOTDIR));
    drop(anchor);
    keys.reap();
    assert!(keys.keys.is_empty() && keys.usage.is_empty());
}

#[test]
fn a_link_displaces_one_of_the_same_name() {
    let mut keys = Keys::default();
    let outer = ring(&mut keys, "outer");
    let _anchor = keys.anchor(outer);
    for _ in 0..3 {
        let again = ring(&mut keys, "same");
        keys.link(outer, again, 0).unwrap();
        assert_eq!(keys.get(outer).unwrap().links, [again]);
    }
    assert_eq!(keys.keys.len(), 2);
    keys.set_limit(Limit::RootKeys, 2);
    let new = New { kind: Kind::Keyring, description: b"x", payload: &[], perm: 0, overrun: false };
    assert_eq!(keys.make(&Credentials::default(), new), Err(Errno::EDQUOT));
}
