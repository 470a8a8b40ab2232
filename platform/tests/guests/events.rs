//! Why guest code stops, and what it leaves in the registers.

use crate::guest::*;
use platform::{Access, Event, Fault, MapSource, PAGE_SIZE, PlatformError, Prot, Registers};

fn fault(event: Event) -> Fault {
    match event {
        Event::Fault(fault) => fault,
        other => panic!("not a fault: {other:?}"),
    }
}

/// What a back end that can tell says about an access.
fn access(access: Access) -> Option<Access> {
    crate::UNTRACED.then_some(access)
}

#[test]
fn system_call_and_result() {
    let code = [&mov_eax(39)[..], SYSCALL, &[0x89, 0xc3], SYSCALL].concat(); // mov ebx, eax
    let mut guest = Guest::new(&code);
    (guest.regs.rdi, guest.regs.rsi, guest.regs.r9) = (1, 2, 6);
    assert_eq!(guest.step(), Event::Syscall);
    let regs = guest.regs;
    assert_eq!(regs.orig_rax, 39);
    assert_eq!(regs.rax as i64, -i64::from(libc::ENOSYS));
    assert_eq!(regs.rip, CODE + 7);
    assert_eq!(regs.rcx, CODE + 7);
    assert_eq!(regs.r11, regs.eflags);
    assert_eq!(regs.syscall_args(), [1, 2, 0, 0, 0, 6]);
    guest.regs.rax = 1234;
    assert_eq!(guest.step(), Event::Syscall);
    assert_eq!(guest.regs.rbx, 1234);
    assert_eq!(guest.regs.orig_rax, 1234);
}

#[test]
fn all_registers_survive() {
    let mut guest = Guest::new(SYSCALL);
    let r = &mut guest.regs;
    (r.rbx, r.rbp, r.rdi, r.rsi, r.rdx, r.rsp) = (1, 2, 3, 4, 5, 0x7000);
    (r.r8, r.r9, r.r10, r.r12, r.r13, r.r14, r.r15) = (8, 9, 10, 12, 13, 14, 15);
    (r.fs_base, r.gs_base, r.rax) = (0x7eee_0000_1000, 0x1234_5000, 20);
    let before = *r;
    assert_eq!(guest.step(), Event::Syscall);
    let mut expected = before;
    expected.rip = CODE + 2;
    expected.orig_rax = 20;
    (expected.rax, expected.rcx, expected.r11) = (guest.regs.rax, CODE + 2, guest.regs.r11);
    assert_eq!(guest.regs, expected);
}

#[test]
fn faults() {
    let mut guest = Guest::new(&load(0x1000_0000));
    let f = fault(guest.step());
    assert_eq!((f.signal, f.code, f.addr), (libc::SIGSEGV, 1, 0x1000_0000));
    assert_eq!((f.trap, f.access, guest.regs.rip), (14, access(Access::Read), CODE));

    guest.load(&store(CODE, 1));
    let f = fault(guest.step());
    assert_eq!((f.signal, f.code, f.addr), (libc::SIGSEGV, 2, CODE));

    guest.load(&[]);
    guest.regs.rip = DATA;
    let f = fault(guest.step());
    assert_eq!((f.code, f.addr, f.access), (2, DATA, Some(Access::Execute)));

    guest.load(&[0x0f, 0x0b]); // ud2
    let f = fault(guest.step());
    assert_eq!((f.signal, f.addr, f.trap), (libc::SIGILL, CODE, 6));

    guest.load(&[0x31, 0xc9, 0xf7, 0xf1]); // xor ecx, ecx; div ecx
    let f = fault(guest.step());
    assert_eq!((f.signal, f.code, f.trap), (libc::SIGFPE, 1, 0));

    guest.load(&[0xf4]); // hlt
    let f = fault(guest.step());
    assert_eq!((f.signal, f.code, f.trap), (libc::SIGSEGV, 0x80, 13));

    // A non-canonical address.
    guest.load(&[]);
    guest.regs.rip = 0x8000_0000_0000_0000;
    assert_eq!(fault(guest.step()).signal, libc::SIGSEGV);
}

#[test]
fn a_fault_is_repaired_by_a_mapping() {
    let mut guest = Guest::new(&[&store(0x1000_0000, 77)[..], SYSCALL].concat());
    assert_eq!(fault(guest.step()).addr, 0x1000_0000);
    let frames = guest.memory.allocate(PAGE_SIZE).unwrap();
    let rw = Prot::READ | Prot::WRITE;
    guest.space.map(0x1000_0000, PAGE_SIZE, rw, MapSource::Frames(frames.clone()), Vec::new());
    assert_eq!(guest.step(), Event::Syscall);
    assert_eq!(frames.load32(0), Ok(77));
    // And taken away again.
    guest.space.unmap(0x1000_0000, PAGE_SIZE, vec![frames]);
    guest.load(&load(0x1000_0000));
    assert_eq!(fault(guest.step()).code, 1);
}

#[test]
fn foreign_system_calls_are_refused() {
    let mut guest = Guest::new(&[&mov_eax(20)[..], &[0xcd, 0x80]].concat()); // int 0x80
    let f = fault(guest.step());
    assert_eq!((f.signal, f.code, f.addr, f.trap, f.error), (libc::SIGSEGV, 0x80, 0, 13, 0x402));
    assert_eq!((guest.regs.rip, guest.regs.rax), (CODE + 5, 20));

    guest.load(&[&mov_eax(20)[..], &[0x0f, 0x34]].concat()); // sysenter
    // Some CPUs do not have the instruction in 64-bit mode.
    assert!(matches!(fault(guest.step()).signal, libc::SIGSEGV | libc::SIGILL));

    // Into 32-bit code by a far return, then int 0x80 there.
    let code = [
        &[0x6a, 0x23][..], // push 0x23
        &[0x68],
        &(CODE as u32 + 16).to_le_bytes(), // push address
        &[0x48, 0xcb],                     // retfq
        &[0x90; 7],
        &mov_eax(20),
        &[0xcd, 0x80],
    ]
    .concat();
    guest.load(&code);
    assert_eq!(fault(guest.step()).signal, libc::SIGSEGV);
    assert_eq!(guest.regs.cs, 0x23);
    // And the context still works for 64-bit code.
    guest.load(SYSCALL);
    assert_eq!(guest.step(), Event::Syscall);
}

#[test]
fn vsyscall_page() {
    // mov rax, 0xffffffffff600400; call rax; syscall
    let code = [&[0x48, 0xc7, 0xc0][..], &0xff60_0400_u32.to_le_bytes(), &[0xff, 0xd0], SYSCALL];
    let mut guest = Guest::new(&code.concat());
    assert_eq!(guest.step(), Event::Syscall);
    assert_eq!(guest.regs.orig_rax, libc::SYS_time as u64);
    assert_eq!((guest.regs.rip, guest.regs.rsp), (CODE + 9, DATA + PAGE_SIZE));
}

#[test]
fn breakpoint_and_single_step() {
    let mut guest = Guest::new(INT3);
    let f = fault(guest.step());
    assert_eq!((f.signal, f.code, f.trap), (libc::SIGTRAP, 0x80, 3));
    assert_eq!(guest.regs.rip, CODE + 1);

    guest.load(&[&[0x90, 0x90][..], SYSCALL, &[0x90]].concat());
    guest.regs.single_step = true;
    let f = fault(guest.step());
    assert_eq!((f.signal, f.code, f.trap), (libc::SIGTRAP, 2, 1));
    assert_eq!(guest.regs.rip, CODE + 1);
    assert_eq!(guest.regs.eflags & 0x100, 0);
    fault(guest.step());
    assert_eq!(guest.step(), Event::Syscall);
    fault(guest.step());
    assert_eq!(guest.regs.rip, CODE + 5);
}

#[test]
fn bad_registers_are_replaced_not_fatal() {
    let mut guest = Guest::new(SYSCALL);
    let r = &mut guest.regs;
    (r.cs, r.ss, r.ds, r.fs, r.gs) = (0x10, 0, 1, 0xffff_ffff, 8);
    (r.fs_base, r.gs_base, r.eflags) = (u64::MAX, 1 << 63, !0x100);
    assert_eq!(guest.step(), Event::Syscall);
    assert_eq!((guest.regs.cs, guest.regs.fs_base), (0x33, 0));
    assert_eq!(guest.regs.eflags & 0x3000, 0, "no I/O privilege");
}

#[test]
fn fp_state_round_trip() {
    let mut guest = Guest::new(&[&[0xc5, 0xfc, 0x58, 0xc9][..], SYSCALL].concat()); // vaddps ymm1,ymm0,ymm1
    let initial = guest.context.xstate().unwrap();
    assert_eq!(initial.bytes[..28], platform::XState::initial().bytes[..28]);
    if platform::XState::features() & 4 == 0 {
        return; // no AVX on this host
    }
    let mut state = platform::XState::initial();
    let high = 576; // the AVX component's fixed place
    state.bytes[512] |= 0b110;
    for register in 0..2 {
        for lane in 0..4 {
            let at = 160 + register * 16 + lane * 4;
            state.bytes[at..at + 4].copy_from_slice(&1.5f32.to_le_bytes());
            let at = high + register * 16 + lane * 4;
            state.bytes[at..at + 4].copy_from_slice(&2.5f32.to_le_bytes());
        }
    }
    guest.context.set_xstate(&state).unwrap();
    assert_eq!(guest.step(), Event::Syscall);
    let after = guest.context.xstate().unwrap();
    let float = |at: usize| f32::from_le_bytes(after.bytes[at..at + 4].try_into().unwrap());
    assert_eq!((float(160), float(176), float(high), float(high + 16)), (1.5, 3.0, 2.5, 5.0));
    // Nonsense is refused and changes nothing.
    let mut bad = after.clone();
    bad.bytes[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(guest.context.set_xstate(&bad).is_err());
    bad.bytes.fill(0xff);
    assert!(guest.context.set_xstate(&bad).is_err());
    bad.bytes = Box::new([0; 7]);
    assert!(guest.context.set_xstate(&bad).is_err());
    assert_eq!(guest.context.xstate().unwrap().bytes[160..256], after.bytes[160..256]);
}

#[test]
fn the_time_stamp_counter_can_be_forbidden() {
    // A call, rdtsc, another call.
    let code = [SYSCALL, &[0x0f, 0x31], SYSCALL].concat();
    let mut guest = Guest::new(&code);
    guest.regs.rbx = 0x1234;
    assert_eq!(guest.context.switch(&mut guest.regs).unwrap(), Event::Syscall);
    let mut state = guest.context.xstate().unwrap();
    state.bytes[512] |= 3;
    state.bytes[160..168].copy_from_slice(b"fp state");
    guest.context.set_xstate(&state).unwrap();
    match guest.context.set_tsc(false) {
        Ok(()) => {}
        Err(PlatformError::Host { source: nix::errno::Errno::EOPNOTSUPP, .. }) => return,
        Err(error) => panic!("{error}"),
    }
    for _ in 0..3 {
        assert!(matches!(guest.step(), Event::Fault(f) if f.signal == libc::SIGSEGV));
        assert_eq!((guest.regs.rip, guest.regs.rbx), (CODE + 2, 0x1234));
    }
    guest.context.set_tsc(true).unwrap();
    assert_eq!(guest.step(), Event::Syscall);
    assert_eq!((guest.regs.rip, guest.regs.rbx), (CODE + 6, 0x1234));
    assert_eq!(&guest.context.xstate().unwrap().bytes[160..168], b"fp state");
    // A thread that has not run yet.
    let mut regs = Registers::at_entry(CODE + 2, 0);
    let pending = guest.context.new_thread().unwrap();
    on_thread(pending, move |mut context| {
        context.set_tsc(false).unwrap();
        assert!(matches!(step(&mut *context, &mut regs), Event::Fault(f) if f.code > 0));
        assert_eq!(&context.xstate().unwrap().bytes[160..168], b"fp state");
    })
    .join()
    .unwrap();
}
