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
    for (index, pure) in PureCall::ALL.into_iter().enumerate() {
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
