//! Areas that the stub gets in parts: what is mapped when, and that nothing else is different.

use super::fake::Machine;
use super::{P, RW};
use crate::mm::{MapFlags, MapRequest, UserAddr};

/// An area of 64 pages at a multiple of 4 pages, which is the size of a part here.
fn area(m: &Machine) -> u64 {
    let request = MapRequest::anonymous(0x10_0000_0000, 64 * P, RW, MapFlags::FIXED);
    m.mm.mmap(request).unwrap().0
}

fn touch(m: &Machine, addr: u64, pages: std::ops::Range<u64>) {
    pages.for_each(|page| m.store(addr + page * P, page as u8 + 1).unwrap());
}

#[test]
fn who_uses_all_gets_twice_as_much() {
    let m = Machine::new();
    let addr = area(&m);
    assert_eq!(m.mapped_pages(), 4);
    touch(&m, addr, 0..5);
    assert_eq!(m.mapped_pages(), 8);
    touch(&m, addr, 5..9);
    assert_eq!(m.mapped_pages(), 16);
    touch(&m, addr, 9..17);
    assert_eq!(m.mapped_pages(), 32);
    touch(&m, addr, 17..64);
    assert_eq!((m.mapped_pages(), m.space_runs()), (64, 1));
    assert_eq!(m.committed(), 64 * P);
    assert!((0..64).all(|page| m.load(addr + page * P) == Ok(page as u8 + 1)));
    m.mm.munmap(UserAddr(addr), 64 * P).unwrap();
    assert_eq!((m.mapped_pages(), m.committed()), (0, 0));
}

#[test]
fn who_leaves_some_out_gets_what_he_touches() {
    let m = Machine::new();
    let addr = area(&m);
    touch(&m, addr, 0..3);
    touch(&m, addr, 4..5);
    assert_eq!(m.mapped_pages(), 8);
    touch(&m, addr, 9..10);
    assert_eq!(m.mapped_pages(), 12);
    // In the middle, then backwards.
    touch(&m, addr, 33..34);
    assert_eq!(m.mapped_pages(), 16);
    touch(&m, addr, 31..32);
    assert_eq!(m.mapped_pages(), 20);
    assert_eq!(m.committed(), 7 * P);
}

#[test]
fn the_kernel_is_a_user_too() {
    let m = Machine::new();
    let addr = area(&m);
    m.mm.write(UserAddr(addr), &[7; 20 * P as usize]).unwrap();
    assert_eq!(m.mapped_pages(), 32);
    let mut bytes = vec![0; 64 * P as usize];
    m.mm.read(UserAddr(addr), &mut bytes).unwrap();
    assert!(bytes[..20 * P as usize].iter().all(|b| *b == 7));
    assert!(bytes[20 * P as usize..].iter().all(|b| *b == 0));
}

#[test]
fn stacks_and_populated_areas_are_mapped_at_once() {
    let m = Machine::new();
    m.mm.mmap(MapRequest::anonymous(0, 64 * P, RW, MapFlags::STACK)).unwrap();
    assert_eq!(m.mapped_pages(), 64);
    m.mm.mmap(MapRequest::anonymous(0, 64 * P, RW, MapFlags::POPULATE)).unwrap();
    assert_eq!((m.mapped_pages(), m.space_runs()), (128, 2));
    assert_eq!(m.committed(), 64 * P);
}

#[test]
fn a_child_goes_on_where_its_parent_was() {
    let mut m = Machine::new();
    let addr = area(&m);
    touch(&m, addr, 0..4);
    let child = m.fork();
    touch(&child, addr, 4..9);
    touch(&m, addr, 4..5);
    assert_eq!(child.load(addr + 8 * P), Ok(9));
    assert_eq!(m.load(addr + 8 * P), Ok(0));
    assert_eq!(m.load(addr + 3 * P), Ok(4));
}
