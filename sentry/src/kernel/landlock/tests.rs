use super::*;

fn ruleset(fs: u64, net: u64, scope: u64) -> Ruleset {
    Ruleset::new(Handled::new(fs, net, scope).unwrap())
}

#[test]
fn words_are_checked() {
    assert_eq!(Handled::new(0, 0, 0), Err(Errno::ENOMSG));
    assert_eq!(Handled::new(1 << 16, 0, 0), Err(Errno::EINVAL));
    assert_eq!(Handled::new(1, 4, 0), Err(Errno::EINVAL));
    assert_eq!(Handled::new(1, 0, 4), Err(Errno::EINVAL));
    let set = ruleset(1, 1, 0);
    assert_eq!(set.allow_port(80, 0), Err(Errno::ENOMSG));
    assert_eq!(set.allow_port(80, 2), Err(Errno::EINVAL));
    assert_eq!(set.allow_port(65536, 1), Err(Errno::EINVAL));
    assert_eq!(set.allow_port(80, 1), Ok(()));
    assert_eq!(set.check_path_rights(2), Err(Errno::EINVAL));
}

#[test]
fn sixteen_layers() {
    let set = ruleset(1, 0, 0);
    let mut domain = Domain::stack(None, &set).unwrap();
    for _ in 1..16 {
        domain = Domain::stack(Some(&domain), &set).unwrap();
    }
    assert_eq!(Domain::stack(Some(&domain), &set), Err(Errno::E2BIG));
}

#[test]
fn a_layer_keeps_its_rules() {
    let set = ruleset(0, 1, 0);
    let domain = Domain::stack(None, &set).unwrap();
    set.allow_port(80, 1).unwrap();
    assert!(domain.layers[0].rules.ports.is_empty());
    let later = Domain::stack(Some(&domain), &set).unwrap();
    assert_eq!(later.layers[1].rules.ports.get(&80), Some(&1));
}
