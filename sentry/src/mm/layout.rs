//! Where the parts of a process lie in its address space.

use super::PAGE_SIZE;
use std::ops::Range;

/// Lowest address that a mapping may have (`vm.mmap_min_addr`).
pub const MMAP_MIN_ADDR: u64 = 0x1_0000;
/// End of what `MAP_32BIT` chooses from: 2 GiB.
pub const LOW_END: u64 = 1 << 31;
/// Distance kept free below a stack that grows (`stack_guard_gap`).
pub const STACK_GUARD_GAP: u64 = 256 * PAGE_SIZE;

/// Page bits of randomness for mappings and position-independent programs (`mmap_rnd_bits`).
const MMAP_RANDOM_BITS: u32 = 28;
/// Largest random offset of the stack's top.
const STACK_RANDOM: u64 = 0x3f_ffff * PAGE_SIZE;

/// Randomised addresses of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Highest address for mappings, which go downwards from here.
    pub mmap_base: u64,
    /// One past the stack's highest byte.
    pub stack_top: u64,
    /// Where a position-independent program is loaded.
    pub pie_base: u64,
    /// Added to the end of the program's data to get the start of the heap.
    pub brk_offset: u64,
    /// Lowest and one past the highest usable address.
    pub low: u64,
    /// See `low`.
    pub high: u64,
}

impl Layout {
    /// Chooses addresses for a program. `stack` is the limit of its stack in bytes.
    pub fn new(addresses: Range<u64>, stack: u64, randomize: bool) -> Layout {
        let random = |mask: u64| if randomize { random_u64() & mask } else { 0 };
        let high = addresses.end & !(PAGE_SIZE - 1);
        let size = high.saturating_sub(addresses.start);
        // On an address space smaller than the usual 47 bits, randomise less.
        let bits = MMAP_RANDOM_BITS.min((size >> 20).checked_ilog2().unwrap_or(0));
        let page_random = |bits: u32| random((1 << bits) - 1) * PAGE_SIZE;
        let stack_random = STACK_RANDOM.min(size >> 10);
        let stack_top = high - (random(stack_random) & !(PAGE_SIZE - 1));
        let gap = stack
            .saturating_add(stack_random)
            .saturating_add(STACK_GUARD_GAP)
            .clamp(128 << 20, size / 6 * 5)
            .next_multiple_of(PAGE_SIZE);
        let mmap_base = (high - gap).saturating_sub(page_random(bits));
        let pie_base = ((size / 3 * 2) & !(PAGE_SIZE - 1)).saturating_add(page_random(bits));
        Layout {
            mmap_base: mmap_base & !(PAGE_SIZE - 1),
            stack_top,
            pie_base: pie_base.max(addresses.start),
            brk_offset: random(0x1fff) * PAGE_SIZE,
            low: addresses.start.max(MMAP_MIN_ADDR).next_multiple_of(PAGE_SIZE),
            high,
        }
    }
}

/// A random number; 0 if the host has none to give.
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    match platform::host::random::fill(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => 0,
    }
}
