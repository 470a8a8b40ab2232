//! System calls that the back end answers itself and that access memory of the guest.

use crate::guest::*;
use platform::answers::HELD;
use platform::{Event, Frames, MapSource, PAGE_SIZE, Prot, PureCall, Registers, SignalMask};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A number that nothing answers: where the guest comes back to us.
pub const PASSED_ON: u64 = 500;
pub const RW: Prot = Prot::READ.union(Prot::WRITE);
/// Another page.
pub const OTHER: u64 = 0x1000_0000;

/// A system call's number and its arguments in the order of their registers.
pub type Call = (u64, [u64; 6]);

/// `syscall; mov rbx, rax; mov eax, PASSED_ON; syscall`.
pub fn code() -> Vec<u8> {
    [SYSCALL, &[0x48, 0x89, 0xc3], &mov_eax(PASSED_ON as u32), SYSCALL].concat()
}

pub fn registers((number, args): Call) -> Registers {
    let mut r = Registers::at_entry(CODE, DATA + PAGE_SIZE);
    r.rax = number;
    [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] = args;
    // A stack that nothing can be pushed on.
    (r.rbx, r.rbp, r.rsp, r.r12, r.r13, r.r14, r.r15) = (77, 78, 1, 12, 13, 14, 15);
    r
}

/// What a call is answered with; `None` if it is passed on. Either way no register is another one.
pub fn answer(guest: &mut Guest, call: Call) -> Option<i64> {
    let before = registers(call);
    guest.regs = before;
    assert_eq!(guest.step(), Event::Syscall);
    let r = &guest.regs;
    let kept = |r: &Registers| {
        let args = [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9];
        (args, [r.rbp, r.rsp, r.r12, r.r13, r.r14, r.r15, r.fs_base, r.gs_base, r.ss, r.cs])
    };
    assert_eq!(kept(r), kept(&before));
    // As SYSCALL leaves them.
    let passed = r.orig_rax == before.rax;
    let next = CODE + if passed { 2 } else { code().len() as u64 };
    assert_eq!((r.rip, r.rcx, r.r11), (next, next, r.eflags));
    if passed {
        assert_eq!(r.rbx, 77);
        None
    } else {
        assert_eq!(r.orig_rax, PASSED_ON);
        Some(r.rbx as i64)
    }
}

pub fn map(guest: &Guest, address: u64, prot: Prot) -> Frames {
    let frames = guest.memory.allocate(PAGE_SIZE).unwrap();
    guest.space.map(address, PAGE_SIZE, prot, MapSource::Frames(frames.clone()), vec![]);
    frames
}

/// Has the guest read a word, so that it is in its page tables.
pub fn touch(guest: &mut Guest, address: u64) {
    guest.load(&[&load(address)[..], SYSCALL].concat());
    assert_eq!(guest.step(), Event::Syscall);
    guest.code.write(0, &code()).unwrap();
}

const WAIT: u64 = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as u64;
const WAIT_BITS: u64 = (libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG) as u64;
const EAGAIN: Option<i64> = Some(-libc::EAGAIN as i64);

fn wait(address: u64, operation: u64, value: u64) -> Call {
    (202, [address, operation, value, 0, 8, 9])
}

#[test]
fn a_wait_for_another_value_is_answered() {
    let mut guest = Guest::new(&code());
    guest.data.store32(0, 5).unwrap();
    guest.data.store32(PAGE_SIZE - 4, 6).unwrap();
    touch(&mut guest, DATA);
    assert_eq!(answer(&mut guest, wait(DATA, WAIT, 4)), None);
    guest.context.answers().unwrap().set(PureCall::Futex, Some(0));
    // The upper halves of the operation and the value do not count.
    let high = 0xdead_beef_0000_0000;
    for operation in [WAIT, WAIT_BITS, WAIT_BITS | 256, high | WAIT] {
        for value in [4, 6, 0, u32::MAX.into(), high | 4] {
            assert_eq!(answer(&mut guest, wait(DATA, operation, value)), EAGAIN, "{operation:#x}");
        }
        assert_eq!(answer(&mut guest, wait(DATA, operation, 5)), None);
        assert_eq!(answer(&mut guest, wait(DATA, operation, high | 5)), None);
        assert_eq!(answer(&mut guest, wait(DATA + PAGE_SIZE - 4, operation, 5)), EAGAIN);
        assert_eq!(answer(&mut guest, wait(DATA + PAGE_SIZE - 4, operation, 6)), None);
    }
    // Words that others see, times, no bits, other operations.
    for operation in [0, 9, 256, WAIT | 256, WAIT | 512, 130, 131, 134, 137 | 512, 139, 140] {
        assert_eq!(answer(&mut guest, wait(DATA, operation, 4)), None, "{operation:#x}");
    }
    for operation in [WAIT, WAIT_BITS] {
        let (number, mut args) = wait(DATA, operation, 4);
        args[3] = DATA;
        assert_eq!(answer(&mut guest, (number, args)), None);
    }
    let (number, mut args) = wait(DATA, WAIT_BITS, 4);
    args[5] = high;
    assert_eq!(answer(&mut guest, (number, args)), None);
    // Addresses that are none of a program's, or of nothing.
    let bad = [1, 2, 3, DATA + 1, DATA + 2, 0, OTHER, 0x7fff_ffff_f000, 0x7fff_ffff_effc, 1 << 47];
    let kernel =
        [0xffff_8000_0000_0000, 0xffff_8000_4000_0000, 0xffff_8000_8000_0000, u64::MAX - 3];
    for address in bad.into_iter().chain(kernel) {
        assert_eq!(answer(&mut guest, wait(address, WAIT, 4)), None, "{address:#x}");
    }
}

#[test]
fn what_ring_0_cannot_read_is_passed_on() {
    let mut guest = Guest::new(&code());
    guest.context.answers().unwrap().set(PureCall::Futex, Some(0));
    // Memory that guest code has not used is in no page table yet.
    let _frames = map(&guest, OTHER, RW);
    assert_eq!(answer(&mut guest, wait(OTHER, WAIT, 4)), None);
    touch(&mut guest, OTHER);
    assert_eq!(answer(&mut guest, wait(OTHER, WAIT, 4)), EAGAIN);
    // Read-only is enough.
    guest.space.protect(OTHER, PAGE_SIZE, Prot::READ);
    touch(&mut guest, OTHER);
    assert_eq!(answer(&mut guest, wait(OTHER, WAIT, 4)), EAGAIN);
    guest.space.protect(OTHER, PAGE_SIZE, Prot::empty());
    assert_eq!(answer(&mut guest, wait(OTHER, WAIT, 4)), None);
    guest.space.unmap(OTHER, PAGE_SIZE, vec![]);
    assert_eq!(answer(&mut guest, wait(OTHER, WAIT, 4)), None);
    // What a host file had and has no more: the page tables do not know that.
    let file = nix::sys::memfd::memfd_create("file", nix::sys::memfd::MFdFlags::empty()).unwrap();
    nix::unistd::ftruncate(&file, 2 * PAGE_SIZE as i64).unwrap();
    let file = Arc::new(file);
    let source = MapSource::HostFd(file.clone(), 0);
    guest.space.map(OTHER, 2 * PAGE_SIZE, RW, source, vec![]);
    touch(&mut guest, OTHER + PAGE_SIZE);
    for _ in 0..3 {
        assert_eq!(answer(&mut guest, wait(OTHER + PAGE_SIZE, WAIT, 4)), EAGAIN);
        nix::unistd::ftruncate(&file, PAGE_SIZE as i64).unwrap();
        assert_eq!(answer(&mut guest, wait(OTHER + PAGE_SIZE, WAIT, 4)), None);
        assert_eq!(answer(&mut guest, wait(OTHER, WAIT, 4)), EAGAIN);
        nix::unistd::ftruncate(&file, 2 * PAGE_SIZE as i64).unwrap();
    }
}

#[test]
fn memory_comes_and_goes_while_it_is_read() {
    let mut guest = Guest::new(&code());
    guest.context.answers().unwrap().set(PureCall::Futex, Some(0));
    let frames = guest.memory.allocate(PAGE_SIZE).unwrap();
    let (done, space) = (Arc::new(AtomicBool::new(false)), guest.space.clone());
    let stop = done.clone();
    let other = on_thread(guest.context.new_thread().unwrap(), move |mut context| {
        while !stop.load(Ordering::Relaxed) {
            space.map(OTHER, PAGE_SIZE, RW, MapSource::Frames(frames.clone()), vec![]);
            context.flush().unwrap();
            space.protect(OTHER, PAGE_SIZE, Prot::empty());
            context.flush().unwrap();
            space.unmap(OTHER, PAGE_SIZE, vec![]);
            context.flush().unwrap();
        }
    });
    // `mov eax, [OTHER]; mov eax, 202; syscall; jmp to the start`, and on where the load fails.
    let code = [&load(OTHER)[..], &mov_eax(202), SYSCALL, &[0xeb, 0xf0]].concat();
    guest.code.write(0, &code).unwrap();
    let (mut passed, mut failed) = (0, 0);
    for round in 0..600 {
        guest.regs = registers(wait(OTHER, WAIT, 4));
        match guest.step() {
            Event::Fault(fault) => {
                assert_eq!((fault.signal, fault.addr), (libc::SIGSEGV, OTHER));
                failed += 1;
            }
            Event::Syscall => {
                let r = &guest.regs;
                assert_eq!((r.orig_rax, r.rdi, r.rsi, r.rdx, r.rsp), (202, OTHER, WAIT, 4, 1));
                assert_eq!(r.rip, CODE + code.len() as u64 - 2, "{round}");
                passed += 1;
            }
            Event::Interrupted => {}
        }
    }
    done.store(true, Ordering::Relaxed);
    other.join().unwrap();
    assert!(failed > 0 && passed + failed == 600, "{passed} {failed}");
}

const MASK: u64 = libc::SYS_rt_sigprocmask as u64;
const NEW: u64 = DATA;
const OLD: u64 = DATA + 8;

fn change(how: u64, new: u64, old: u64) -> Call {
    (MASK, [how, new, old, 8, 8, 9])
}

/// A guest whose mask is not held.
fn masked(mask: u64) -> (Guest, Arc<dyn SignalMask>) {
    let mut guest = Guest::new(&code());
    touch(&mut guest, DATA);
    let place = guest.platform.signal_mask(mask).unwrap();
    assert_eq!(place.load(), mask | HELD);
    place.store(mask);
    guest.context.answers().unwrap().set(PureCall::Sigprocmask, Some(place.number()));
    (guest, place)
}

#[test]
fn a_mask_is_changed_while_it_is_not_held() {
    let (mut guest, place) = masked(0);
    let fixed = HELD | 1 << (libc::SIGSTOP - 1);
    let sets = [0, 1, 0xff00, u64::MAX, 1 << 63 | 1 << 31, fixed];
    for start in sets.map(|set| set & !fixed) {
        for new in sets {
            let after = [start | new, start & !new, new];
            for (how, after) in after.into_iter().enumerate() {
                // The upper half of what is to be done does not count.
                let how = how as u64 | 0xdead_beef_0000_0000;
                for old in [0, OLD] {
                    place.store(start);
                    guest.data.store64(0, new).unwrap();
                    guest.data.store64(8, 99).unwrap();
                    assert_eq!(answer(&mut guest, change(how, NEW, old)), Some(0));
                    assert_eq!(place.load(), after & !fixed);
                    let expected = if old == 0 { 99 } else { start };
                    assert_eq!(guest.data.load64(8).unwrap(), expected);
                }
                // Held, it is not.
                place.store(start);
                place.hold();
                guest.data.store64(8, 99).unwrap();
                assert_eq!(answer(&mut guest, change(how, NEW, OLD)), None);
                assert_eq!((place.load(), guest.data.load64(8).unwrap()), (start | HELD, 99));
                // But it can be asked for.
                assert_eq!(answer(&mut guest, change(how, 0, OLD)), Some(0));
                assert_eq!((place.load(), guest.data.load64(8).unwrap()), (start | HELD, start));
            }
        }
    }
    // Another size, another operation, sets that overlap.
    place.store(5);
    for size in [0, 4, 7, 9, 16, 1 << 32 | 8] {
        assert_eq!(answer(&mut guest, (MASK, [2, NEW, OLD, size, 8, 9])), None, "{size}");
    }
    for how in [3, 4, u64::MAX, 1 << 31] {
        assert_eq!(answer(&mut guest, change(how, NEW, OLD)), None);
    }
    for old in DATA + 24 - 7..DATA + 24 + 8 {
        assert_eq!(answer(&mut guest, change(2, DATA + 24, old)), None);
    }
    assert_eq!(place.load(), 5);
    guest.context.answers().unwrap().set(PureCall::Sigprocmask, None);
    assert_eq!(answer(&mut guest, change(2, 0, OLD)), None);
}

#[test]
fn a_mask_stays_where_ring_0_cannot_reach_a_set() {
    let (mut guest, place) = masked(5);
    let frames = map(&guest, OTHER, RW);
    guest.data.store64(0, 6).unwrap();
    // In no page table yet; a load of the guest's puts it there, for writing, too.
    assert_eq!(answer(&mut guest, change(2, OTHER, 0)), None);
    assert_eq!(answer(&mut guest, change(2, NEW, OTHER)), None);
    touch(&mut guest, OTHER);
    assert_eq!(place.load(), 5);
    assert_eq!(answer(&mut guest, change(2, NEW, OTHER)), Some(0));
    assert_eq!((place.load(), frames.load64(0).unwrap()), (6, 5));
    // Read-only.
    guest.space.protect(OTHER, PAGE_SIZE, Prot::READ);
    touch(&mut guest, OTHER);
    assert_eq!(answer(&mut guest, change(0, NEW, OTHER)), None);
    assert_eq!((place.load(), frames.load64(0).unwrap()), (6, 5));
    assert_eq!(answer(&mut guest, change(2, OTHER, OLD)), Some(0));
    assert_eq!((place.load(), guest.data.load64(8).unwrap()), (5, 6));
    // Across the end of what there is, and addresses that are none of a program's.
    let end = OTHER + PAGE_SIZE - 4;
    let bad = [1, end, 0x7fff_ffff_eff8, 0x7fff_ffff_f000, 1 << 47, 0xffff_8000_c000_0000];
    for address in bad.into_iter().chain([u64::MAX, u64::MAX - 7, 0xffff_8000_4000_0000]) {
        for call in [change(2, address, OLD), change(2, NEW, address), change(2, 0, address)] {
            assert_eq!(answer(&mut guest, call), None, "{address:#x}");
        }
    }
    assert_eq!(place.load(), 5);
    // Ring 3 has no access to masks.
    guest.load(
        &[&[0x48, 0xb8][..], &0xffff_8000_c000_0000_u64.to_le_bytes(), &[0x48, 0x89, 0x18]]
            .concat(),
    );
    assert!(matches!(guest.step(), Event::Fault(fault) if fault.signal == libc::SIGSEGV));
}

#[test]
fn who_holds_a_mask_has_it_for_himself() {
    let (mut guest, place) = masked(0);
    // Sets the mask from rbp, which it counts up, for ever: `inc rbp; mov [NEW], rbp; mov eax, 14; syscall; jmp`.
    let number = (MASK as u32).to_le_bytes();
    let code = [
        &[0x48, 0xff, 0xc5, 0x48, 0x89, 0x2c, 0x25][..],
        &(NEW as u32).to_le_bytes(),
        &[0xb8],
        &number,
        SYSCALL,
        &[0xeb, 0xec],
    ];
    guest.code.write(0, &code.concat()).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let (stop, held) = (done.clone(), place.clone());
    let interrupter = guest.context.interrupter();
    let holder = std::thread::spawn(move || {
        let mut changes = 0;
        let mut last = 0;
        for _ in 0..2000 {
            held.hold();
            let mask = held.load();
            for _ in 0..200 {
                assert_eq!(held.load(), mask);
                std::hint::spin_loop();
            }
            changes += u32::from(mask != last);
            last = mask;
            held.store(mask & !HELD);
            std::thread::yield_now();
        }
        stop.store(true, Ordering::SeqCst);
        interrupter.interrupt();
        changes
    });
    guest.regs = registers(change(2, NEW, OLD));
    let mut passed = 0;
    while !done.load(Ordering::SeqCst) {
        match guest.context.switch(&mut guest.regs).unwrap() {
            Event::Syscall => {
                // As the sentry would not: the call is left out.
                assert_eq!(guest.regs.orig_rax, MASK);
                passed += 1;
            }
            Event::Interrupted => {}
            Event::Fault(fault) => panic!("{fault:?}"),
        }
    }
    assert!(holder.join().unwrap() > 10);
    println!("{passed} calls have been passed on");
    assert_eq!(place.load() & HELD, 0);
}
