//! Memory maps against a simple model, on a platform that only keeps books.

mod ahead;
pub(crate) mod fake;
mod model;

use super::vma::{Vma, VmaFlags, VmaName, VmaTree};
use super::*;
use crate::errno::Errno;
use fake::{Machine, Random};
use platform::Prot;

const P: u64 = PAGE_SIZE;
const RW: Prot = Prot::READ.union(Prot::WRITE);

fn vma(start: u64, end: u64, prot: Prot) -> Vma {
    Vma {
        start,
        end,
        prot,
        max_prot: Prot::all(),
        flags: VmaFlags::empty(),
        backing: None,
        name: VmaName::None,
        userfault: None,
        key: 0,
        policy: crate::kernel::mempolicy::MemPolicy::default(),
    }
}

#[test]
fn the_tree_against_an_array() {
    const N: u64 = 64;
    let (mut tree, mut model) = (VmaTree::default(), [None; N as usize]);
    let mut random = Random::new(7);
    for _ in 0..20_000 {
        let start = random.below(N);
        let end = start + 1 + random.below(N - start);
        let prot = Prot::from_bits_truncate(random.below(8) as u32);
        let pages = start as usize..end as usize;
        match random.below(3) {
            0 => {
                tree.remove(start * P, end * P);
                tree.insert(vma(start * P, end * P, prot));
                model[pages].fill(Some(prot));
            }
            1 => {
                let removed: u64 = tree.remove(start * P, end * P).iter().map(Vma::len).sum();
                let expected = model[pages.clone()].iter().flatten().count() as u64;
                assert_eq!(removed, expected * P);
                model[pages].fill(None);
            }
            _ => {
                tree.update(start * P, end * P, |v| v.prot = prot);
                model[pages].iter_mut().flatten().for_each(|p| *p = prot);
            }
        }
        for page in 0..N {
            assert_eq!(tree.find(page * P + 5).map(|v| v.prot), model[page as usize]);
        }
        let all: Vec<&Vma> = tree.iter().collect();
        for pair in all.windows(2) {
            assert!(pair[0].end <= pair[1].start);
            assert!(pair[0].end < pair[1].start || pair[0].prot != pair[1].prot, "not joined");
        }
        assert_eq!(tree.totals().total, model.iter().flatten().count() as u64 * P);
        let covers = model[start as usize..end as usize].iter().all(Option::is_some);
        assert_eq!(tree.covers(start * P, end * P), covers);
    }
}

#[test]
fn copy_on_write_copies_only_what_is_shared() {
    let mut m = Machine::new();
    let addr = m.mm.mmap(MapRequest::anonymous(0, 64 * P, RW, MapFlags::empty())).unwrap();
    for page in 0..64 {
        m.store(addr.0 + page * P, page as u8 + 1).unwrap();
    }
    let held = m.committed();
    let child = m.fork();
    assert_eq!(m.committed(), held);
    m.store(addr.0, 100).unwrap();
    let after = m.committed();
    assert!(after > held && after <= held + 16 * P, "{held} {after}");
    assert_eq!(child.load(addr.0), Ok(1));
    assert_eq!(m.load(addr.0), Ok(100));
    assert_eq!(m.load(addr.0 + 40 * P), Ok(41));
    drop(child);
    // Nobody shares them any more: writing takes no new memory.
    let before = m.committed();
    for page in 0..64 {
        m.store(addr.0 + page * P, 7).unwrap();
    }
    assert_eq!(m.committed(), before);
    m.mm.munmap(addr, 64 * P).unwrap();
    assert_eq!(m.committed(), 0);
    assert_eq!(m.load(addr.0).unwrap_err().code, 1);
}

#[test]
fn the_kernel_breaks_copy_on_write_too() {
    let m = Machine::new();
    let addr = m.mm.mmap(MapRequest::anonymous(0, P, RW, MapFlags::empty())).unwrap();
    m.mm.write(addr, b"parent").unwrap();
    let mut m = m;
    let child = m.fork();
    child.mm.write(addr, b"child!").unwrap();
    let mut text = [0; 6];
    m.mm.read(addr, &mut text).unwrap();
    assert_eq!(&text, b"parent");
    child.mm.read(addr, &mut text).unwrap();
    assert_eq!(&text, b"child!");
    assert_eq!(
        m.mm.cmpxchg_u32(addr, u32::from_le_bytes(*b"pare"), 5),
        Ok(u32::from_le_bytes(*b"pare"))
    );
    assert_eq!(m.load(addr.0), Ok(5));
    assert_eq!(child.load(addr.0), Ok(b'c'));
}

#[test]
fn stacks_grow_to_their_limit() {
    let m = Machine::new();
    let top = m.mm.layout().stack_top;
    m.mm.map_stack(top, 3 * P, false).unwrap();
    m.store(top - 1, 1).unwrap();
    m.store(top - (1 << 20), 2).unwrap();
    assert_eq!(m.load(top - 1), Ok(1));
    m.store(top - (8 << 20), 3).unwrap();
    let fault = m.store(top - (8 << 20) - 1, 4).unwrap_err();
    assert_eq!((fault.signo, fault.code), (libc::SIGSEGV, 1));
    // A copy by the kernel grows it, too.
    let m = Machine::new();
    let top = m.mm.layout().stack_top;
    m.mm.map_stack(top, P, false).unwrap();
    m.mm.write(UserAddr(top - 300_000), b"x").unwrap();
    assert_eq!(m.mm.write(UserAddr(top - (9 << 20)), b"x"), Err(Errno::EFAULT));
}

#[test]
fn the_heap() {
    let m = Machine::new();
    let start = 0x5000_0000;
    m.mm.set_brk_start(UserAddr(start));
    assert_eq!(m.mm.brk(UserAddr(0)), UserAddr(start));
    assert_eq!(m.mm.brk(UserAddr(start + 5)), UserAddr(start + 5));
    m.store(start + P - 1, 9).unwrap();
    m.mm.brk(UserAddr(start + 10 * P));
    m.store(start + 9 * P, 9).unwrap();
    assert_eq!(m.mm.map_count(), 1);
    assert_eq!(m.space_runs(), 1, "the heap is one mapping of neighbouring frames");
    m.mm.brk(UserAddr(start + P));
    assert!(m.load(start + 9 * P).is_err());
    m.mm.brk(UserAddr(start + 10 * P));
    assert_eq!(m.load(start + 9 * P), Ok(0));
    // Something in the way, and a limit.
    m.mm.mmap(MapRequest::anonymous(start + 20 * P, P, RW, MapFlags::FIXED)).unwrap();
    assert_eq!(m.mm.brk(UserAddr(start + 21 * P)), UserAddr(start + 10 * P));
    m.mm.limits().set_data(12 * P);
    assert_eq!(m.mm.brk(UserAddr(start + 14 * P)), UserAddr(start + 10 * P));
}

#[test]
fn faults_end() {
    let m = Machine::new();
    let addr = m.mm.mmap(MapRequest::anonymous(0, 2 * P, Prot::READ, MapFlags::empty())).unwrap();
    assert_eq!(m.load(addr.0), Ok(0));
    let fault = m.store(addr.0, 1).unwrap_err();
    assert_eq!((fault.signo, fault.code, fault.addr), (libc::SIGSEGV, 2, addr.0));
    assert_eq!(m.load(0).unwrap_err().code, 1);
    m.mm.mprotect(addr, P, Prot::empty(), protect::Grows::No).unwrap();
    assert_eq!(m.load(addr.0).unwrap_err().code, 2);
    assert_eq!(m.mm.read(addr, &mut [0]), Err(Errno::EFAULT));
}

#[test]
fn reservations_are_free() {
    let m = Machine::new();
    let none = MapRequest::anonymous(0, 8 << 40, Prot::empty(), MapFlags::NORESERVE);
    let addr = m.mm.mmap(none).unwrap();
    m.mm.mprotect(UserAddr(addr.0 + (1 << 40)), 4 * P, RW, protect::Grows::No).unwrap();
    m.store(addr.0 + (1 << 40), 3).unwrap();
    assert_eq!(m.committed(), P);
    // More than there are frames: given as it is touched.
    let huge = MapRequest::anonymous(0, 40 << 40, RW, MapFlags::NORESERVE);
    let addr = m.mm.mmap(huge).unwrap();
    m.store(addr.0 + (39 << 40) + 77, 5).unwrap();
    assert_eq!(m.load(addr.0 + (39 << 40) + 77), Ok(5));
    assert_eq!(m.load(addr.0), Ok(0));
}

#[test]
fn limits_and_errors() {
    let m = Machine::new();
    let map = |len, flags| m.mm.mmap(MapRequest::anonymous(0, len, RW, flags));
    assert_eq!(map(0, MapFlags::empty()), Err(Errno::EINVAL));
    assert_eq!(map(u64::MAX, MapFlags::empty()), Err(Errno::ENOMEM));
    assert_eq!(map(1 << 47, MapFlags::empty()), Err(Errno::ENOMEM));
    let fixed = |addr| m.mm.mmap(MapRequest::anonymous(addr, P, RW, MapFlags::FIXED));
    assert_eq!(fixed(0), Err(Errno::EPERM));
    assert_eq!(fixed(0x20001), Err(Errno::EINVAL));
    assert_eq!(fixed(u64::MAX - (P - 1)), Err(Errno::ENOMEM));
    let addr = map(4 * P, MapFlags::empty()).unwrap();
    let no_replace = MapRequest::anonymous(addr.0, P, RW, MapFlags::FIXED_NOREPLACE);
    assert_eq!(m.mm.mmap(no_replace), Err(Errno::EEXIST));
    assert_eq!(m.mm.munmap(UserAddr(addr.0 + 1), P), Err(Errno::EINVAL));
    assert_eq!(m.mm.munmap(addr, 0), Err(Errno::EINVAL));
    assert_eq!(m.mm.mprotect(addr, 5 * P, Prot::READ, protect::Grows::No), Err(Errno::ENOMEM));
    m.mm.mseal(addr, P).unwrap();
    assert_eq!(m.mm.munmap(addr, 4 * P), Err(Errno::EPERM));
    m.mm.limits().set_address_space(4 * P);
    assert_eq!(map(P, MapFlags::empty()), Err(Errno::ENOMEM));
}

#[test]
fn strings_and_vectors() {
    let m = Machine::new();
    let addr = m.mm.mmap(MapRequest::anonymous(0, 2 * P, RW, MapFlags::empty())).unwrap();
    m.mm.munmap(addr.offset(P), P).unwrap();
    let end = addr.offset(P);
    m.mm.write(UserAddr(end.0 - 4), b"abc\0").unwrap();
    assert_eq!(m.mm.read_cstr(UserAddr(end.0 - 4), 3).unwrap(), b"abc");
    assert_eq!(m.mm.read_cstr(UserAddr(end.0 - 4), 2), Err(Errno::ENAMETOOLONG));
    m.mm.write(UserAddr(end.0 - 1), b"x").unwrap();
    assert_eq!(m.mm.read_cstr(UserAddr(end.0 - 4), 100), Err(Errno::EFAULT));
    assert_eq!(m.mm.read_iovecs(addr, 1025), Err(Errno::EINVAL));
    for (i, word) in [addr.0, 10, addr.0 + 100, i64::MAX as u64].iter().enumerate() {
        m.mm.write_obj(addr.offset(i as u64 * 8), word).unwrap();
    }
    assert_eq!(m.mm.read_iovecs(addr, 2), Err(Errno::EFAULT));
    m.mm.write_obj(addr.offset(24), &(1u64 << 32)).unwrap();
    let list = m.mm.read_iovecs(addr, 2).unwrap();
    assert_eq!(list.iter().map(|v| v.len).sum::<u64>(), sink::MAX_RW_COUNT);
    m.mm.write_obj(addr.offset(24), &u64::MAX).unwrap();
    assert_eq!(m.mm.read_iovecs(addr, 2), Err(Errno::EINVAL));
}

#[test]
fn sinks_and_sources() {
    use crate::io::{Sink, Source};
    let m = Machine::new();
    let addr = m.mm.mmap(MapRequest::anonymous(0, 4 * P, RW, MapFlags::empty())).unwrap();
    let vectors = |list: &[(u64, u64)]| {
        list.iter()
            .map(|&(at, len)| sink::IoVec { base: UserAddr(addr.0 + at), len })
            .collect::<Vec<_>>()
    };
    let mut sink = UserSink::new(&m.mm, vectors(&[(0, 3), (P - 1, 0), (P - 2, 4)]));
    assert_eq!(sink.remaining(), 7);
    assert_eq!(sink.put(b"abcdefghij"), Ok(7));
    let mut source = UserSource::new(&m.mm, vectors(&[(P - 2, 4), (0, 3)]));
    let mut buf = [0; 7];
    assert_eq!(source.take(&mut buf), Ok(7));
    assert_eq!(&buf, b"defgabc");
    source.rewind(5);
    assert_eq!(source.remaining(), 5);
    assert_eq!(source.take(&mut buf[..2]), Ok(2));
    assert_eq!(&buf[..2], b"fg");
    // Half of it cannot be written: what fits counts, then EFAULT.
    m.mm.munmap(addr.offset(2 * P), 2 * P).unwrap();
    let mut sink = UserSink::single(&m.mm, addr.offset(2 * P - 3), 100).unwrap();
    assert_eq!(sink.put(&[1; 100]), Ok(3));
    assert_eq!(sink.put(&[1; 100]), Err(Errno::EFAULT));
    assert!(UserSink::single(&m.mm, UserAddr(u64::MAX - 5), 3).is_err());
}
