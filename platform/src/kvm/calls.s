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
    cmp ecx, 10
    je 60f
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
    mov [rip + AREA + 0x78], rbx
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

# rt_sigprocmask(2) while no signal waits for the thread, nor is about to be sent to it: until then nothing follows from a
# change of its mask. The word of the mask (masks.rs) has the bit of SIGKILL set from before a signal is sent until the sentry
# has seen that none waits. It is looked at twice, and the second time the mask is changed with it, in one step: who sends a
# signal either finds the new mask, or makes the call leave.
#
# A call that leaves is made again from its start. It may have written the old mask by then, which is written again, for only
# the thread itself changes its mask; and is not to have changed the new one, so two sets that overlap leave at once. (A
# program that names a set by the addresses of two mappings, and gets a signal in between, keeps its old mask.)
60:
    cmp r10, 8
    jne 21f
    mov [rip + AREA + 0x70], rax
    mov [rip + AREA + 0x78], rbx
    mov [rip + AREA + 0x208 + 152], rsp
    mov edx, edx
    shl rdx, 6
    movabs rcx, 0xffff8000c0000000
    add rcx, rdx
    mov rax, [rcx]
    KVM_LIFT
    test rsi, rsi
    jnz 61f
    # The mask as it is.
    and rax, -0x101
    mov rbx, rax
    jmp 65f
61:
    test eax, 0x100
    jnz 29f
    mov rdx, [rip + AREA + 0x68]
    sub rdx, rsi
    add rdx, 7
    cmp rdx, 14
    jbe 29f
    lea rdx, [rsi + 0x1000]
    or rdx, rsi
    shr rdx, 47
    jnz 29f
    mov rdx, rsi
    shl rdx, 17
    shr rdx, 17
    .hidden kvm_shim_set
    .globl kvm_shim_set
kvm_shim_set:
    mov rbx, [rdx]
    cmp edi, 1
    jb 62f
    je 63f
    cmp edi, 2
    je 64f
    jmp 29f
62:
    or rbx, rax
    jmp 64f
63:
    not rbx
    and rbx, rax
64:
    # SIGKILL and SIGSTOP.
    and rbx, -0x40101
65:
    mov rdx, [rip + AREA + 0x68]
    test rdx, rdx
    jz 66f
    add rdx, 0x1000
    or rdx, [rip + AREA + 0x68]
    shr rdx, 47
    jnz 29f
    mov rdx, [rip + AREA + 0x68]
    shl rdx, 17
    shr rdx, 17
    .hidden kvm_shim_old_set
    .globl kvm_shim_old_set
kvm_shim_old_set:
    mov [rdx], rax
66:
    KVM_LOWER
    mov rsp, [rip + AREA + 0x208 + 152]
    cmp rbx, rax
    je 67f
    lock cmpxchg [rcx], rbx
    jne 29f
67:
    xor eax, eax
    mov rbx, [rip + AREA + 0x78]
    jmp 23b

# Where calls go on that have begun and cannot be answered, also those whose access to memory has failed: they leave.
    .hidden kvm_shim_fix_up
    .globl kvm_shim_fix_up
kvm_shim_fix_up:
29:
    lea rsp, [rip + AREA + 0x208 + 152]
    KVM_LOWER
    mov rax, [rip + AREA + 0x70]
    mov rbx, [rip + AREA + 0x78]
    jmp 28f

21:
    mov [rip + AREA + 0x208 + 152], rsp
