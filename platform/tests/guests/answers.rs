//! System calls that the back end answers itself.

use crate::guest::*;
use platform::{Event, PureCall};

/// A number that nothing answers: where the guest comes back to us.
const PASSED_ON: u32 = 500;

/// Makes a call; the result goes to `ebx`.
fn call(number: u32) -> Vec<u8> {
    [&mov_eax(number)[..], SYSCALL, &[0x89, 0xc3]].concat() // mov ebx, eax
}

#[test]
fn what_is_written_down_is_answered() {
    let plain = PureCall::ALL.into_iter().filter(|call| call.slot() < PureCall::Futex.slot());
    for (index, pure) in plain.enumerate() {
        let number = pure.number() as u32;
        let code = [call(number), call(PASSED_ON)].concat();
        let mut guest = Guest::new(&code);
        let answers = guest.context.answers().unwrap();
        let value = 0x8000_0000 + index as u32;
        answers.set(pure, Some(value));
        assert_eq!(guest.step(), Event::Syscall);
        assert_eq!((guest.regs.orig_rax, guest.regs.rbx), (PASSED_ON.into(), value.into()));
        // And no more.
        answers.set(pure, None);
        guest.load(&code);
        assert_eq!(guest.step(), Event::Syscall);
        assert_eq!(guest.regs.orig_rax, number.into());
    }
}

#[test]
fn registers_are_as_after_any_call() {
    // rbx = rcx, rbp = r11, r12 = rax, r13 = rdx behind the call.
    let code = [
        SYSCALL,
        &[0x48, 0x89, 0xcb, 0x4c, 0x89, 0xdd, 0x49, 0x89, 0xc4, 0x49, 0x89, 0xd5],
        &mov_eax(PASSED_ON),
        SYSCALL,
    ];
    let mut guest = Guest::new(&code.concat());
    guest.context.answers().unwrap().set(PureCall::Gettid, Some(77));
    let r = &mut guest.regs;
    (r.rdi, r.rsi, r.rdx, r.r8, r.r9, r.r10, r.r14, r.r15) = (1, 2, 3, 8, 9, 10, 14, 15);
    (r.fs_base, r.gs_base) = (0x7eee_0000_1000, 0x1234_5000);
    // The upper half of the number does not count.
    r.rax = 0xdead_beef_0000_0000 | PureCall::Gettid.number();
    let before = *r;
    assert_eq!(guest.step(), Event::Syscall);
    let r = guest.regs;
    assert_eq!((r.rbx, r.rbp, r.r12, r.r13), (CODE + 2, r.r11, 77, 3));
    let kept = |r: &platform::Registers| {
        [
            r.rdi, r.rsi, r.rdx, r.r8, r.r9, r.r10, r.r14, r.r15, r.rsp, r.fs_base, r.gs_base,
            r.ss, r.cs,
        ]
    };
    assert_eq!(kept(&r), kept(&before));
}

#[test]
fn other_calls_are_passed_on() {
    let pure = PureCall::Getpid;
    // Numbers that look like it, and ones far beyond the table.
    for number in [0, 255, 256, 256 + pure.number() as u32, 0x4000_0027, 0x8000_0027, u32::MAX] {
        let mut guest = Guest::new(&call(number));
        guest.context.answers().unwrap().set(pure, Some(1));
        assert_eq!(guest.step(), Event::Syscall);
        assert_eq!(guest.regs.orig_rax, number.into());
    }
}

#[test]
fn who_steps_sees_every_call() {
    let mut guest = Guest::new(&[call(39), call(PASSED_ON)].concat());
    guest.context.answers().unwrap().set(PureCall::Getpid, Some(1));
    guest.regs.single_step = true;
    assert!(matches!(guest.step(), Event::Fault(fault) if fault.signal == libc::SIGTRAP));
    assert_eq!(guest.step(), Event::Syscall);
    assert_eq!(guest.regs.orig_rax, 39);
}

#[test]
fn a_change_is_seen_while_guest_code_runs() {
    // Asks until the answer is 2, and counts in rbp how often.
    let code = [
        &[0x48, 0xff, 0xc5][..],
        &mov_eax(110),
        SYSCALL,
        &[0x83, 0xf8, 0x02, 0x75, 0xf1],
        &mov_eax(PASSED_ON),
        SYSCALL,
    ];
    let mut guest = Guest::new(&code.concat());
    guest.regs.rbp = 0;
    let answers = guest.context.answers().unwrap();
    answers.set(PureCall::Getppid, Some(1));
    let setter = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        answers.set(PureCall::Getppid, Some(2));
    });
    assert_eq!(guest.step(), Event::Syscall);
    assert_eq!(guest.regs.orig_rax, PASSED_ON.into());
    assert!(guest.regs.rbp > 100);
    setter.join().unwrap();
}

#[test]
fn a_guest_that_only_asks_can_be_interrupted() {
    let code = [&mov_eax(39)[..], SYSCALL, &[0xeb, 0xf7]].concat(); // jmp to the start
    let mut guest = Guest::new(&code);
    guest.context.answers().unwrap().set(PureCall::Getpid, Some(1));
    let interrupter = guest.context.interrupter();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        interrupter.interrupt();
    });
    while guest.context.switch(&mut guest.regs).unwrap() != Event::Interrupted {}
    assert!((CODE..CODE + code.len() as u64).contains(&guest.regs.rip));
    stopper.join().unwrap();
}

#[test]
fn threads_have_their_own_answers_and_start_without() {
    let code = [call(186), call(PASSED_ON)].concat();
    let mut guest = Guest::new(&code);
    let tid = |context: &dyn platform::Context, tid| {
        context.answers().unwrap().set(PureCall::Gettid, Some(tid));
    };
    tid(&*guest.context, 5);
    let pending = guest.context.new_thread().unwrap();
    let regs = guest.regs;
    let other = on_thread(pending, move |mut context| {
        let mut regs = regs;
        let start = regs;
        assert_eq!(step(&mut *context, &mut regs), Event::Syscall);
        let first = regs.orig_rax;
        tid(&*context, 6);
        regs = start;
        assert_eq!(step(&mut *context, &mut regs), Event::Syscall);
        (first, regs.rbx)
    });
    assert_eq!(other.join().unwrap(), (186, 6));
    assert_eq!(guest.step(), Event::Syscall);
    assert_eq!(guest.regs.rbx, 5);
}

#[test]
fn guest_code_cannot_reach_the_answers() {
    // mov rax, 0xffff800040000000; mov rbx, [rax] or mov [rax], rbx
    let address = 0xffff_8000_4000_0000_u64;
    for access in [[0x48, 0x8b, 0x18], [0x48, 0x89, 0x18]] {
        let code = [&[0x48, 0xb8][..], &address.to_le_bytes(), &access].concat();
        let mut guest = Guest::new(&code);
        guest.context.answers().unwrap().set(PureCall::Getpid, Some(1));
        assert!(matches!(guest.step(), Event::Fault(fault) if fault.signal == libc::SIGSEGV));
    }
}

/// Wakes at an address with an operation; what the guest comes back with, and the call's result.
fn futex(guest: &mut Guest, code: &[u8], operation: u64, address: u64) -> (u64, u64) {
    guest.load(code);
    let r = &mut guest.regs;
    (r.rbx, r.rdi, r.rsi, r.rdx) = (77, address, operation, 1);
    assert_eq!(guest.step(), Event::Syscall);
    (guest.regs.orig_rax, guest.regs.rbx)
}

#[test]
fn a_wake_up_for_nobody_is_answered() {
    const WAKE: u64 = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as u64;
    let code = [call(202), call(PASSED_ON)].concat();
    let (answered, passed) = ((PASSED_ON.into(), 0), (202, 77));
    let mut guest = Guest::new(&code);
    let waiters = guest.platform.futex_waiters().unwrap();
    let answers = guest.context.answers().unwrap();
    assert_eq!(futex(&mut guest, &code, WAKE, DATA), passed);
    answers.set(PureCall::Futex, Some(0));
    // The upper half of the operation does not count.
    for operation in [WAKE, 0xdead_beef_0000_0000 | WAKE] {
        assert_eq!(futex(&mut guest, &code, operation, DATA), answered);
    }
    for other in [0, 1, 9, 10, 128, 130, 138, WAKE | 256] {
        assert_eq!(futex(&mut guest, &code, other, DATA), passed, "{other}");
    }
    // Addresses that are aligned and user code's: what is mapped there does not matter, as on Linux.
    for good in [0, 8, 0x7fff_ffff_effc, 0x1234_5678_9abc] {
        assert_eq!(futex(&mut guest, &code, WAKE, good), answered, "{good:#x}");
    }
    let bad = [1, 2, 3, DATA + 2, 0x7fff_ffff_f000, 1 << 47, u64::MAX - 3, 0xffff_8000_8000_0000];
    for bad in bad {
        assert_eq!(futex(&mut guest, &code, WAKE, bad), passed, "{bad:#x}");
    }
    // Somebody waits, and another one.
    waiters.add(DATA);
    waiters.add(DATA);
    assert_eq!(futex(&mut guest, &code, WAKE, DATA), passed);
    assert_eq!(futex(&mut guest, &code, WAKE, DATA + 4), answered);
    waiters.remove(DATA);
    assert_eq!(futex(&mut guest, &code, WAKE, DATA), passed);
    waiters.remove(DATA);
    assert_eq!(futex(&mut guest, &code, WAKE, DATA), answered);
    // Every counter is that of the addresses that it is told of.
    for slot in 0..2048 {
        let address = DATA + 4 * 77 * slot;
        waiters.add(address);
        assert_eq!(futex(&mut guest, &code, WAKE, address), passed, "{address:#x}");
        waiters.remove(address);
        assert_eq!(futex(&mut guest, &code, WAKE, address), answered, "{address:#x}");
    }
    answers.set(PureCall::Futex, None);
    assert_eq!(futex(&mut guest, &code, WAKE, DATA), passed);
}
