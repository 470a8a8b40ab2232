//! Memory that comes before it is used.

use crate::guest::*;
use platform::{Event, Frames, MapSource, PAGE_SIZE, Prot};

const AREA: u64 = 0x1000_0000;

/// Maps new frames at [`AREA`] in place of others.
fn map(guest: &Guest, len: u64, replaced: Vec<Frames>) -> Frames {
    let frames = guest.memory.allocate(len).unwrap();
    let source = MapSource::Frames(frames.clone());
    guest.space.map(AREA, len, Prot::READ | Prot::WRITE, source, replaced);
    frames
}

fn touch(guest: &mut Guest, address: u64) {
    guest.load(&[store(address, 7), SYSCALL.to_vec()].concat());
    assert_eq!(guest.step(), Event::Syscall);
}

/// Where the host can map ahead, and the machine's does unless it shadows page tables.
#[test]
fn only_what_may_come_comes_ahead() {
    let mut guest = Guest::new(&[]);
    let Some(part) = guest.space.least_part() else { return };
    let len = 2 * part;
    let first = map(&guest, len, vec![]);
    touch(&mut guest, AREA);
    assert_eq!(first.committed(0..len), PAGE_SIZE);
    // Not before it is used, and then no more than that part.
    let second = map(&guest, len, vec![first]);
    guest.space.huge(AREA + part, part);
    assert_eq!(second.committed(0..len), 0);
    touch(&mut guest, AREA + part + PAGE_SIZE);
    assert_eq!((second.committed(0..part), second.committed(part..len)), (0, part));
    assert_eq!(second.load32(part + PAGE_SIZE), Ok(7));
    // What is mapped instead has not been allowed to.
    let third = map(&guest, len, vec![second]);
    guest.space.huge(AREA, len);
    let fourth = map(&guest, len, vec![third]);
    touch(&mut guest, AREA);
    assert_eq!(fourth.committed(0..len), PAGE_SIZE);
    guest.space.unmap(AREA, len, vec![fourth]);
    guest.context.flush().unwrap();
}
