//! The loopback interface of a network namespace that the sandbox takes over: it stays with the host's kernel, but
//! connections to any port of 127.0.0.1 come to one listening socket, by a program of the type `BPF_PROG_TYPE_SK_LOOKUP`
//! (`Documentation/bpf/prog_sk_lookup.rst`). Container managers enter the namespace and connect to 127.0.0.1 for
//! `port-forward`.
#![expect(unsafe_code, reason = "bpf(2) is not in nix or rustix")]

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, socket,
};
use sentry::boot::LoopbackSpec;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Commands of `bpf(2)`, and what they are given (`linux/bpf.h`).
const MAP_CREATE: i32 = 0;
const MAP_UPDATE_ELEM: i32 = 2;
const PROG_LOAD: i32 = 5;
const LINK_CREATE: i32 = 28;
const MAP_TYPE_SOCKMAP: u32 = 15;
const PROG_TYPE_SK_LOOKUP: u32 = 30;
const ATTACH_SK_LOOKUP: u32 = 36;

/// Helper functions of programs.
const MAP_LOOKUP_ELEM: i32 = 1;
const SK_RELEASE: i32 = 86;
const SK_ASSIGN: i32 = 124;

/// Offsets in `struct bpf_sk_lookup`.
const FAMILY: i16 = 8;
const PROTOCOL: i16 = 12;
const LOCAL_IP4: i16 = 40;

/// 127.0.0.1 in the order of the network, as a number of this machine.
const LOCALHOST: i32 = i32::from_ne_bytes([127, 0, 0, 1]);

/// `struct bpf_insn`
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// An instruction. Jumps go to the end of the program.
fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

/// Load 32 bits, compare and jump, copy, call.
const LOAD: u8 = 0x61;
const JUMP_UNEQUAL: u8 = 0x55;
const JUMP_EQUAL: u8 = 0x15;
const COPY: u8 = 0xbf;
const CALL: u8 = 0x85;

/// Gives a TCP connection to 127.0.0.1 to the socket in the map, and leaves others alone.
fn program(map: &OwnedFd) -> Vec<Instruction> {
    let mut list = vec![
        op(COPY, 6, 1, 0, 0),
        op(LOAD, 0, 6, PROTOCOL, 0),
        op(JUMP_UNEQUAL, 0, 0, 0, libc::IPPROTO_TCP),
        op(LOAD, 0, 6, FAMILY, 0),
        op(JUMP_UNEQUAL, 0, 0, 0, libc::AF_INET),
        op(LOAD, 0, 6, LOCAL_IP4, 0),
        op(JUMP_UNEQUAL, 0, 0, 0, LOCALHOST),
        // The key, 0, on the stack; the map (two instructions); the key's address.
        op(0x62, 10, 0, -4, 0),
        op(0x18, 1, 1, 0, map.as_raw_fd()),
        op(0, 0, 0, 0, 0),
        op(COPY, 2, 10, 0, 0),
        op(0x07, 2, 0, 0, -4),
        op(CALL, 0, 0, 0, MAP_LOOKUP_ELEM),
        op(JUMP_EQUAL, 0, 0, 0, 0),
        op(COPY, 7, 0, 0, 0),
        op(COPY, 1, 6, 0, 0),
        op(COPY, 2, 7, 0, 0),
        op(0xb7, 3, 0, 0, 0),
        op(CALL, 0, 0, 0, SK_ASSIGN),
        op(COPY, 1, 7, 0, 0),
        op(CALL, 0, 0, 0, SK_RELEASE),
    ];
    let end = list.len();
    for (at, one) in list.iter_mut().enumerate() {
        if matches!(one.code, JUMP_UNEQUAL | JUMP_EQUAL) {
            one.offset = (end - at - 1) as i16;
        }
    }
    // SK_PASS
    list.extend([op(0xb7, 0, 0, 0, 1), op(0x95, 0, 0, 0, 0)]);
    list
}

/// The part of `union bpf_attr` that is used here, as words of 32 bits.
type Attributes = [u32; 32];

/// Puts a pointer into two words.
fn pointer<T>(words: &mut Attributes, at: usize, value: *const T) {
    let address = value as u64;
    for (word, half) in words.iter_mut().skip(at).zip([address as u32, (address >> 32) as u32]) {
        *word = half;
    }
}

/// `bpf(2)`. What the attributes point to has to live through the call.
fn bpf(command: i32, attributes: &Attributes) -> Result<i32, Errno> {
    // SAFETY: `attributes` is at least as large as what the commands used here read, zero where it is not used; what it
    // points to is memory of the callers' that they keep, of the type that the command reads and does not write.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of::<Attributes>())
    };
    Errno::result(result).map(|value| value as i32)
}

/// The same for commands that make a descriptor.
fn bpf_open(command: i32, attributes: &Attributes) -> Result<OwnedFd, Errno> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the command has just made it; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Redirects the loopback interface of the network namespace that this process is in. `EPERM` or `EINVAL` where the host
/// does not let us, or cannot.
pub fn open() -> Result<LoopbackSpec, Errno> {
    let listener = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
    listen(&listener, Backlog::new(BACKLOG)?)?;
    let map = {
        let mut create: Attributes = [0; 32];
        // map_type, key_size, value_size, max_entries
        for (word, value) in create.iter_mut().zip([MAP_TYPE_SOCKMAP, 4, 8, 1]) {
            *word = value;
        }
        bpf_open(MAP_CREATE, &create)?
    };
    let (key, value) = (0u32, listener.as_raw_fd() as u64);
    let mut update: Attributes = [0; 32];
    // map_fd, padding, key, value
    update[0] = map.as_raw_fd() as u32;
    pointer(&mut update, 2, &raw const key);
    pointer(&mut update, 4, &raw const value);
    bpf(MAP_UPDATE_ELEM, &update)?;
    let instructions = program(&map);
    let mut load: Attributes = [0; 32];
    // prog_type, insn_cnt, insns, license, …, expected_attach_type
    (load[0], load[1]) = (PROG_TYPE_SK_LOOKUP, instructions.len() as u32);
    pointer(&mut load, 2, instructions.as_ptr());
    pointer(&mut load, 4, c"GPL".as_ptr());
    load[17] = ATTACH_SK_LOOKUP;
    let program = bpf_open(PROG_LOAD, &load)?;
    // Of this thread: `self` is followed to the namespace that it is in now.
    let namespace = File::open("/proc/self/ns/net").map_err(|_| Errno::ENOENT)?;
    let mut link: Attributes = [0; 32];
    // prog_fd, target_fd, attach_type
    (link[0], link[1]) = (program.as_raw_fd() as u32, namespace.as_raw_fd() as u32);
    link[2] = ATTACH_SK_LOOKUP;
    let steering = bpf_open(LINK_CREATE, &link)?;
    Ok(LoopbackSpec { listener, steering })
}
