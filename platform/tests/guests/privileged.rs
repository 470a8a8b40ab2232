//! Instructions that a program must not execute: each becomes the signal that Linux gives for it, and the guest
//! can go on. Where guest code runs on the host's kernel, that is the oracle.

use crate::guest::*;
use platform::{Event, MapSource, PAGE_SIZE, Prot};

const SI_KERNEL: i32 = 0x80;
/// A general protection fault.
const DENIED: (i32, i32, u64) = (libc::SIGSEGV, SI_KERNEL, 13);
/// An undefined instruction.
const UNDEFINED: (i32, i32, u64) = (libc::SIGILL, 2, 6);

/// What the code raises, with `rax` and `rbx` as given; the instruction may be `at` bytes into it.
fn raises(code: &[u8], rax: u64, rbx: u64) -> (i32, i32, u64) {
    let mut guest = Guest::new(code);
    (guest.regs.rax, guest.regs.rbx) = (rax, rbx);
    let event = guest.step();
    let Event::Fault(fault) = event else { panic!("{code:x?} ended with {event:?}") };
    // Its thread and its process are as good as before.
    guest.load(SYSCALL);
    assert_eq!(guest.step(), Event::Syscall, "after {code:x?}");
    // Under ptrace the vector is a guess.
    (fault.signal, fault.code, if crate::UNTRACED { fault.trap } else { 0 })
}

/// A fault that hosts name differently: kernels that run in ring 3 themselves guess, and emulated CPUs do
/// not tell a stack from other memory.
#[track_caller]
fn expect_some_fault(code: &[u8], (rax, rbx): (u64, u64)) {
    let (signal, ..) = raises(code, rax, rbx);
    assert!(matches!(signal, libc::SIGSEGV | libc::SIGBUS), "{code:x?}: {signal}");
}

#[track_caller]
fn expect(code: &[u8], (rax, rbx): (u64, u64), (signal, number, trap): (i32, i32, u64)) {
    let trap = if crate::UNTRACED { trap } else { 0 };
    assert_eq!(raises(code, rax, rbx), (signal, number, trap), "{code:x?}");
}

#[test]
fn privileged_instructions() {
    let codes: &[&[u8]] = &[
        &[0xf4],                   // hlt
        &[0xfa],                   // cli
        &[0xfb],                   // sti
        &[0x0f, 0x06],             // clts
        &[0x0f, 0x08],             // invd
        &[0x0f, 0x09],             // wbinvd
        &[0x0f, 0x07],             // sysret
        &[0x0f, 0x01, 0xf8],       // swapgs
        &[0x0f, 0x01, 0xd1],       // xsetbv
        &[0x0f, 0x20, 0xc0],       // mov rax, cr0
        &[0x0f, 0x22, 0xd8],       // mov cr3, rax
        &[0x0f, 0x22, 0xe0],       // mov cr4, rax
        &[0x0f, 0x23, 0xc0],       // mov dr0, rax
        &[0x0f, 0x01, 0x14, 0x24], // lgdt [rsp]
        &[0x0f, 0x01, 0x1c, 0x24], // lidt [rsp]
        &[0x0f, 0x00, 0xd0],       // lldt ax
        &[0x0f, 0x00, 0xd8],       // ltr ax
        &[0x0f, 0x01, 0x38],       // invlpg [rax]
        &[0x0f, 0x33],             // rdpmc
    ];
    for code in codes {
        expect(code, (0, 0), DENIED);
    }
}

#[test]
fn ports_and_registers_of_the_model() {
    for code in [&[0xe4, 0x60][..], &[0xe6, 0x80], &[0xec], &[0xef], &[0x6c], &[0x6e]] {
        expect(code, (0, 0), DENIED);
    }
    // rdmsr and wrmsr of EFER.
    for tail in [[0x0f, 0x32], [0x0f, 0x30]] {
        expect(&[&[0xb9, 0x80, 0x00, 0x00, 0xc0][..], &tail].concat(), (0, 0), DENIED);
    }
}

#[test]
fn selectors_of_others() {
    for selector in [0x08, 0x10, 0x18, 0x40, 0x48, 0xfff0, 0xffff] {
        for load in [[0x8e, 0xd8], [0x8e, 0xc0], [0x8e, 0xe0], [0x8e, 0xe8]] {
            expect(&load, (selector, 0), DENIED); // mov ds/es/fs/gs, eax
        }
    }
    expect(&[0x8e, 0xd0], (0, 0), DENIED); // mov ss, eax
    expect(&[0x8e, 0xd0], (0x18, 0), DENIED);
    // A far return into the kernel's code segment: push 0x10; push address; retfq
    let code = [0x6a, 0x10, 0x68, 0x00, 0x00, 0x40, 0x00, 0x48, 0xcb];
    expect_some_fault(&code, (0, 0));
    // And what programs may load they keep: mov ds, eax; syscall
    let mut guest = Guest::new(&[&[0x8e, 0xd8][..], SYSCALL].concat());
    guest.regs.rax = 0x2b;
    assert_eq!(guest.step(), Event::Syscall);
}

#[test]
fn interrupts_of_software() {
    for vector in [0x00, 0x0e, 0x20, 0x21, 0xfb, 0xff] {
        expect(&[0xcd, vector], (0, 0), DENIED);
    }
    expect(&[0xce], (0, 0), UNDEFINED); // into
    expect(&[0x0f, 0x0b], (0, 0), UNDEFINED); // ud2
    expect(&[0x0f, 0xff, 0xc0], (0, 0), UNDEFINED); // ud0
}

/// Hosts that run in a machine themselves pass hypercalls on, which refuses those of programs with -1; others have
/// no such instruction.
#[test]
fn calls_of_a_machines_host() {
    for code in [[0x0f, 0x01, 0xc1], [0x0f, 0x01, 0xd9]] {
        let mut guest = Guest::new(&[&code[..], SYSCALL].concat());
        (guest.regs.rax, guest.regs.rbx, guest.regs.rcx) = (5, 6, 7);
        match guest.step() {
            Event::Syscall => assert_eq!(guest.regs.orig_rax as u32, u32::MAX),
            Event::Fault(fault) => assert!(matches!(fault.signal, libc::SIGILL | libc::SIGSEGV)),
            other => panic!("{other:?}"),
        }
        guest.load(SYSCALL);
        assert_eq!(guest.step(), Event::Syscall);
    }
    // vmrun, vmload, vmsave, stgi, clgi, skinit, invlpga.
    for last in 0xd8..=0xdf_u8 {
        if last != 0xd9 {
            let (signal, ..) = raises(&[0x0f, 0x01, last], 0, 0);
            assert!(matches!(signal, libc::SIGILL | libc::SIGSEGV), "{last:x}: {signal}");
        }
    }
}

#[test]
fn every_leaf_of_cpuid_can_be_asked_for() {
    let code = [&[0x0f, 0xa2][..], SYSCALL].concat();
    let mut guest = Guest::new(&code);
    let ranges = [0..0x40, 0x4000_0000..0x4000_0010, 0x8000_0000..0x8000_0030, 0xfff0..0x10010];
    for leaf in ranges.into_iter().flatten().chain([u64::from(u32::MAX), 0xc000_0000]) {
        for part in [0, 1, 2, 63, u64::from(u32::MAX)] {
            guest.load(&code);
            (guest.regs.rax, guest.regs.rcx) = (leaf, part);
            assert_eq!(guest.step(), Event::Syscall, "leaf {leaf:#x}, {part:#x}");
        }
    }
}

#[test]
fn code_that_changes_itself() {
    const AREA: u64 = 0x1000_0000;
    // mov eax, 1; mov dword [AREA + 1], 2; inc ebx; cmp ebx, 2; jne AREA; syscall
    let code = [
        &mov_eax(1)[..],
        &store(AREA + 1, 2),
        &[0xff, 0xc3, 0x83, 0xfb, 0x02, 0x75, 0xe9],
        SYSCALL,
    ];
    let mut guest = Guest::new(&[]);
    let frames = guest.memory.allocate(PAGE_SIZE).unwrap();
    frames.write(0, &code.concat()).unwrap();
    let all = Prot::READ | Prot::WRITE | Prot::EXEC;
    guest.space.map(AREA, PAGE_SIZE, all, MapSource::Frames(frames.clone()), vec![]);
    (guest.regs.rip, guest.regs.rbx) = (AREA, 0);
    assert_eq!(guest.step(), Event::Syscall);
    assert_eq!((guest.regs.orig_rax, guest.regs.rbx), (2, 2));
    guest.space.unmap(AREA, PAGE_SIZE, vec![frames]);
}

/// No stack of the program's is used on the way out of it.
#[test]
fn faults_on_stacks_that_are_none() {
    for stack in [0, 1, 1 << 47, 0xffff_8000_0000_0000, u64::MAX] {
        // mov rsp, rbx; mov rax, [rax]
        let (signal, ..) = raises(&[0x48, 0x89, 0xdc, 0x48, 0x8b, 0x00], 0, stack);
        assert_eq!(signal, libc::SIGSEGV, "{stack:#x}");
        let (signal, ..) = raises(&[0x48, 0x89, 0xdc, 0x0f, 0x0b], 0, stack);
        assert_eq!(signal, libc::SIGILL, "{stack:#x}");
    }
}

#[test]
fn addresses_that_are_none() {
    let (hole, kernel) = (1 << 47, 0xffff_8000_0000_0000);
    for address in [hole, 1 << 63, 0x7fff << 48] {
        expect(&[0x48, 0x8b, 0x03], (0, address), DENIED); // mov rax, [rbx]
        expect(&[0x48, 0x89, 0x03], (0, address), DENIED); // mov [rbx], rax
        expect(&[0xff, 0xe3], (0, address), DENIED); // jmp rbx
        // lea rsp, [rbx + 64]; push rax
        expect_some_fault(&[0x48, 0x8d, 0x63, 0x40, 0x50], (0, address));
    }
    // Our own memory and what would be behind it.
    for page in 0..5 {
        let address = kernel + page * PAGE_SIZE;
        for code in [&[0x48, 0x8b, 0x03][..], &[0x48, 0x89, 0x03], &[0xff, 0xe3]] {
            let (signal, code, _) = raises(code, 0, address);
            assert_eq!((signal, code), (libc::SIGSEGV, 1), "{address:x}");
        }
    }
}

#[test]
fn alignment_and_arithmetic() {
    if crate::EMULATED {
        return; // such a CPU has neither
    }
    // pushfq; or dword [rsp], 1 << 18; popfq; mov eax, [rsp - 15]
    let code = [0x9c, 0x81, 0x0c, 0x24, 0x00, 0x00, 0x04, 0x00, 0x9d, 0x8b, 0x44, 0x24, 0xf1];
    expect(&code, (0, 0), (libc::SIGBUS, 1, 17));
    // mov dword [rsp - 8], 0x1d80; ldmxcsr [rsp - 8]; movd xmm1, eax; xorps xmm0, xmm0; divss xmm1, xmm0
    let code = [
        0xc7, 0x44, 0x24, 0xf8, 0x80, 0x1d, 0x00, 0x00, 0x0f, 0xae, 0x54, 0x24, 0xf8, 0x66, 0x0f,
        0x6e, 0xc8, 0x0f, 0x57, 0xc0, 0xf3, 0x0f, 0x5e, 0xc8,
    ];
    expect(&code, (0x3f80_0000, 0), (libc::SIGFPE, 3, 19));
}
