# SYSCALL in 64-bit code, and what is answered without leaving the machine; a part of the code in shim.rs, whose AREA and
# labels it uses. The return address is in rcx, the flags are in r11, the stack is the program's.
.balign 16, 0xcc
.hidden kvm_shim_syscall
.globl kvm_shim_syscall
kvm_shim_syscall:
    mov [rip + AREA + 0x60], rcx
    mov [rip + AREA + 0x68], rdx
    # A call that the sentry has written an answer for: its word has the highest bit set. What is no number of the table
    # becomes 0, without a branch that the CPU could guess, and has the word 0, as most of the table.
    mov ecx, eax
    cmp ecx, 256
    sbb edx, edx
    and ecx, edx
    lea rdx, [rip + kvm_shim_start + 0xf00]
    movzx ecx, byte ptr [rdx + rcx]
    mov rdx, [rip + AREA + 0x58]
    mov rdx, [rdx + 8 * rcx]
    test rdx, rdx
    jns 21f
    # Who single-steps sees every call.
    test r11d, 0x100
    jnz 21f
    cmp ecx, 9
    je 22f
    mov eax, edx
23:
    mov rdx, [rip + AREA + 0x68]
    mov rcx, [rip + AREA + 0x60]
    sysretq

# Memory of programs is only touched between KVM_LIFT and KVM_LOWER, at addresses of the lower half, with the stack in the area:
# where its fault is pushed. The sentry's side of it is in vcpu.rs (fix_up). Anything but a page fault at the very
# instructions that have names ends the process as before.
#
# The one sets the flag that lifts SMAP, the other clears it, in a way that CPUs without SMAP know, too. No other flag of ring 0
# is of importance.
.macro KVM_LIFT
    lea rsp, [rip + AREA + 0x208 + 152]
    push 0x40002
    popfq
.endm
.macro KVM_LOWER
    push 2
    popfq
.endm

# futex(2) on a private word. Checks come in the order of Linux, and what fails in them leaves.
22:
    cmp esi, 0x81
    je 24f
    # Waits, all without a timeout, whose checks would come before: FUTEX_WAIT, and FUTEX_WAIT_BITSET for some bit and on
    # either clock.
    test r10, r10
    jnz 21f
    cmp esi, 0x80
    je 24f
    mov ecx, esi
    and ecx, -0x101
    cmp ecx, 0x89
    jne 21f
    test r9d, r9d
    jz 21f
24:
    # The address: aligned, and one that programs can have.
    test dil, 3
    jnz 21f
    lea rdx, [rdi + 0x1000]
    or rdx, rdi
    shr rdx, 47
    jnz 21f
    # The program's writes come first, as on Linux.
    lock or dword ptr [rip + AREA + 0x60], 0
    cmp esi, 0x81
    jne 25f
    # A wake-up where nobody waits.
    mov rdx, rdi
    shr rdx, 8
    xor rdx, rdi
    shr rdx, 2
    and edx, 511
    movabs rcx, 0xffff800080000000
    cmp qword ptr [rcx + 8 * rdx], 0
    jne 21f
    xor eax, eax
    jmp 23b
25:
    # A wait where the word has another value. One that has the value leaves, and is compared anew.
    mov [rip + AREA + 0x70], rax
    mov [rip + AREA + 0x208 + 152], rsp
    # The address as such, so that the CPU guesses no other.
    mov rdx, rdi
    shl rdx, 17
    shr rdx, 17
    KVM_LIFT
    .hidden kvm_shim_word
    .globl kvm_shim_word
kvm_shim_word:
    mov ecx, [rdx]
    KVM_LOWER
    mov rsp, [rip + AREA + 0x208 + 152]
    cmp ecx, [rip + AREA + 0x68]
    je 21f
    mov rax, -11
    jmp 23b

# Where calls go on whose access to memory has failed: they leave as if it had not been tried.
    .hidden kvm_shim_fix_up
    .globl kvm_shim_fix_up
kvm_shim_fix_up:
29:
    lea rsp, [rip + AREA + 0x208 + 152]
    KVM_LOWER
    mov rax, [rip + AREA + 0x70]
    jmp 28f

21:
    mov [rip + AREA + 0x208 + 152], rsp
