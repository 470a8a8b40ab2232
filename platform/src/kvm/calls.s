# SYSCALL in 64-bit code, and what is answered without leaving the machine; a part of the code in shim.rs, whose AREA and
# labels it uses. The return address is in rcx, the flags are in r11, the stack is the program's.
.balign 16, 0xcc
.hidden kvm_shim_syscall
.globl kvm_shim_syscall
kvm_shim_syscall:
    mov [rip + AREA + 0x60], rcx
    mov [rip + AREA + 0x68], rdx
    # A call that the sentry has written an answer for: its word has the highest bit set. What is no number of the table, which
    # begins with that of -1, becomes 0, without a branch that the CPU could guess, and has the word 0, as most of the table.
    lea ecx, [rax + 1]
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
    jae 31f
    mov eax, edx
23:
    mov rdx, [rip + AREA + 0x68]
    mov rcx, [rip + AREA + 0x60]
    sysretq
31:
    mov [rip + AREA + 0x70], rax
    mov [rip + AREA + 0x78], rbx
    mov [rip + AREA + 0x80], rdi
    mov [rip + AREA + 0x88], rsi
    mov [rip + AREA + 0x208 + 152], rsp
    je 22f
    cmp ecx, 11
    jb 60f
    je 70f
    cmp ecx, 13
    jb 80f
    je 90f
    jmp 21f

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

# The word of a descriptor, edi, in a table, edx: it goes to rdx. A descriptor that has none leaves, also where the CPU only guesses
# that it has one.
.macro KVM_DESCRIPTOR
    mov eax, edi
    cmp eax, 512
    sbb ebx, ebx
    and eax, ebx
    test ebx, ebx
    jz 79f
    mov edx, edx
    shl rdx, 12
    movabs rcx, 0xffff800100000000
    add rcx, rdx
    mov rdx, [rcx + 8 * rax]
.endm

# lseek(2): SEEK_SET and SEEK_CUR where that leads to a position that has room in its word (positions.rs). The word is compared with
# that of the descriptor by what is above the position: the generation of the record, and that nobody holds it.
70:
    KVM_DESCRIPTOR
    bt rdx, 32
    jnc 79f
    mov ecx, edx
    movabs rbx, 0xffff800140000000
    lea rcx, [rbx + 8 * rcx]
    mov rax, [rcx]
    xor rdx, rax
    shr rdx, 40
    jnz 79f
    mov rbx, rsi
    mov edx, [rip + AREA + 0x68]
    test edx, edx
    jz 71f
    cmp edx, 1
    jne 79f
    mov rdx, rax
    shl rdx, 24
    shr rdx, 24
    add rbx, rdx
71:
    mov rdx, rbx
    shr rdx, 40
    jnz 79f
    mov rdx, rax
    shr rdx, 40
    shl rdx, 40
    or rdx, rbx
    cmp rdx, rax
    je 72f
    lock cmpxchg [rcx], rdx
    jne 79f
72:
    mov rax, rbx
    mov rbx, [rip + AREA + 0x78]
    jmp 23b

# The record of a pipe, in rbx, by the word of a descriptor in rdx.
.macro KVM_PIPE
    mov ebx, edx
    shl rbx, 6
    movabs rcx, 0xffff800180000000
    add rbx, rcx
.endm

# Bytes of a program, rax of them from rsi on: the lower half of the address space has them all.
.macro KVM_BYTES
    lea rcx, [rsi + rax + 0x2000]
    or rcx, rsi
    shr rcx, 47
    jnz 79f
.endm

# read(2) of a pipe with bytes in it that the sentry does not hold (pipes.rs).
80:
    KVM_DESCRIPTOR
    bt rdx, 33
    jnc 79f
    mov rax, [rip + AREA + 0x68]
    test rax, rax
    jz 79f
    mov rcx, rax
    shr rcx, 30
    jnz 79f
    KVM_BYTES
    KVM_PIPE
    # The head comes first: if it is that of a later pipe, so is the generation.
    mov rcx, [rbx]
    test rcx, rcx
    js 79f
    mov rdi, [rbx + 24]
    xor rdi, rdx
    shr rdi, 40
    jnz 79f
    mov [rip + AREA + 0x90], rcx
    mov rdi, [rbx + 8]
    test rdi, rdi
    js 79f
    btr rdi, 62
    sub rdi, rcx
    jz 79f
    cmp rdi, 4096
    ja 79f
    cmp rdi, rax
    cmova rdi, rax
    mov [rip + AREA + 0x98], rdi
    mov rsi, [rbx + 32]
    mov eax, ecx
    and eax, 4095
    add rsi, rax
    mov ecx, edi
    lea rdi, [rip + AREA + 0x2000]
    rep movsb
    # What has been copied is this pipe's if nobody has taken it yet.
    lfence
    mov rcx, [rip + AREA + 0x90]
    cmp rcx, [rbx]
    jne 79f
    mov rdi, [rip + AREA + 0x88]
    shl rdi, 17
    shr rdi, 17
    lea rsi, [rip + AREA + 0x2000]
    mov ecx, [rip + AREA + 0x98]
    KVM_LIFT
    .hidden kvm_shim_give
    .globl kvm_shim_give
kvm_shim_give:
    rep movsb
    KVM_LOWER
    mov rsp, [rip + AREA + 0x208 + 152]
    mov rax, [rip + AREA + 0x90]
    mov rdx, [rip + AREA + 0x98]
    add rdx, rax
    lock cmpxchg [rbx], rdx
    jne 79f
    mov rax, [rip + AREA + 0x98]
78:
    mov rdi, [rip + AREA + 0x80]
    mov rsi, [rip + AREA + 0x88]
    mov rbx, [rip + AREA + 0x78]
    jmp 23b

# write(2) to a pipe that has room behind its bytes and that the sentry does not hold.
90:
    KVM_DESCRIPTOR
    bt rdx, 34
    jnc 79f
    mov rax, [rip + AREA + 0x68]
    lea rcx, [rax - 1]
    cmp rcx, 4096
    jae 79f
    KVM_BYTES
    KVM_PIPE
    mov rcx, [rbx + 8]
    shr rcx, 62
    jnz 79f
    mov [rip + AREA + 0x90], rdx
    mov ecx, eax
    lea rdi, [rip + AREA + 0x2000]
    shl rsi, 17
    shr rsi, 17
    KVM_LIFT
    .hidden kvm_shim_take
    .globl kvm_shim_take
kvm_shim_take:
    rep movsb
    KVM_LOWER
    mov rsp, [rip + AREA + 0x208 + 152]
    mov rax, [rbx + 8]
    mov rcx, rax
    shr rcx, 62
    jnz 79f
    mov rcx, rax
    bts rcx, 62
    lock cmpxchg [rbx + 8], rcx
    .hidden kvm_shim_writing
    .globl kvm_shim_writing
    jne 79f
kvm_shim_writing:
    # Nobody else writes now, and the sentry waits.
    mov rcx, [rip + AREA + 0x90]
    xor rcx, [rbx + 24]
    shr rcx, 40
    jnz 91f
    mov rcx, [rbx]
    btr rcx, 63
    cmp rcx, rax
    jne 92f
    mov [rbx + 16], rax
92:
    mov ecx, [rip + AREA + 0x68]
    lea rdi, [rax + rcx]
    sub rdi, [rbx + 16]
    cmp rdi, 4096
    ja 91f
    mov rdi, [rbx + 32]
    and eax, 4095
    add rdi, rax
    lea rsi, [rip + AREA + 0x2000]
    rep movsb
    mov eax, [rip + AREA + 0x68]
    movabs rcx, 0x4000000000000000
    mov rdx, rax
    sub rdx, rcx
    lock add [rbx + 8], rdx
    .hidden kvm_shim_written
    .globl kvm_shim_written
kvm_shim_written:
    jmp 78b
91:
    movabs rcx, 0x4000000000000000
    lock sub [rbx + 8], rcx

# What cannot be answered leaves.
79:
    mov rax, [rip + AREA + 0x70]
    mov rbx, [rip + AREA + 0x78]
    mov rdi, [rip + AREA + 0x80]
    mov rsi, [rip + AREA + 0x88]
    jmp 28f

# Where calls go on that have begun and cannot be answered, also those whose access to memory has failed: they leave.
    .hidden kvm_shim_fix_up
    .globl kvm_shim_fix_up
kvm_shim_fix_up:
29:
    lea rsp, [rip + AREA + 0x208 + 152]
    KVM_LOWER
    mov rax, [rip + AREA + 0x70]
    mov rbx, [rip + AREA + 0x78]
    mov rdi, [rip + AREA + 0x80]
    mov rsi, [rip + AREA + 0x88]
    jmp 28f

21:
    mov [rip + AREA + 0x208 + 152], rsp
