//! Opcodes of classic BPF (`linux/bpf_common.h`), put together from class, size, mode and source.

/// Loads a word of the data.
pub const LOAD_WORD: u16 = 0x20;
/// Loads a half word, as bytes go over the network.
pub const LOAD_HALF: u16 = 0x28;
/// Loads a byte.
pub const LOAD_BYTE: u16 = 0x30;
/// Loads a word that lies X further.
pub const LOAD_WORD_INDEXED: u16 = 0x40;
/// The same with a half word.
pub const LOAD_HALF_INDEXED: u16 = 0x48;
/// The same with a byte.
pub const LOAD_BYTE_INDEXED: u16 = 0x50;
/// Loads the length of the data.
pub const LOAD_LENGTH: u16 = 0x80;
/// The same to X.
pub const LOAD_LENGTH_X: u16 = 0x81;
/// Loads four times the low half of a byte to X: the length of an IPv4 header.
pub const LOAD_HEADER_LENGTH_X: u16 = 0xb1;
/// Loads the operand.
pub const LOAD_IMMEDIATE: u16 = 0x00;
/// The same to X.
pub const LOAD_IMMEDIATE_X: u16 = 0x01;
/// Loads from scratch memory.
pub const LOAD_MEMORY: u16 = 0x60;
/// The same to X.
pub const LOAD_MEMORY_X: u16 = 0x61;
/// Stores to scratch memory.
pub const STORE: u16 = 0x02;
/// The same from X.
pub const STORE_X: u16 = 0x03;
/// Bit of arithmetic and jumps that compare: the operand is X.
pub const WITH_X: u16 = 0x08;
/// Arithmetic with the accumulator.
pub const ADD: u16 = 0x04;
/// See [`ADD`].
pub const SUBTRACT: u16 = 0x14;
/// See [`ADD`].
pub const MULTIPLY: u16 = 0x24;
/// See [`ADD`].
pub const DIVIDE: u16 = 0x34;
/// See [`ADD`].
pub const OR: u16 = 0x44;
/// See [`ADD`].
pub const AND: u16 = 0x54;
/// See [`ADD`].
pub const SHIFT_LEFT: u16 = 0x64;
/// See [`ADD`].
pub const SHIFT_RIGHT: u16 = 0x74;
/// Changes the accumulator's sign.
pub const NEGATE: u16 = 0x84;
/// See [`ADD`]: what division leaves.
pub const MODULO: u16 = 0x94;
/// See [`ADD`].
pub const XOR: u16 = 0xa4;
/// Jumps by the operand.
pub const JUMP: u16 = 0x05;
/// Jumps if the accumulator equals the operand.
pub const IF_EQUAL: u16 = 0x15;
/// If it is greater.
pub const IF_GREATER: u16 = 0x25;
/// If it is greater or equal.
pub const IF_GREATER_OR_EQUAL: u16 = 0x35;
/// If they have a bit in common.
pub const IF_SET: u16 = 0x45;
/// Ends with the operand.
pub const RETURN: u16 = 0x06;
/// Ends with the accumulator.
pub const RETURN_A: u16 = 0x16;
/// Copies the accumulator to X.
pub const TO_X: u16 = 0x07;
/// Copies X to the accumulator.
pub const FROM_X: u16 = 0x87;
