#![expect(unsafe_code, reason = "reads XCR0")]
//! What the host CPU offers: size and layout of the extended state.

use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

/// CPUID leaf that describes the extended state.
const XSAVE_LEAF: u32 = 0xd;
/// Bit of the OSXSAVE flag in CPUID leaf 1, register ECX.
const OSXSAVE: u32 = 27;
/// Legacy area plus header: the size without extended components.
const MINIMUM: usize = 576;

/// Layout of the XSAVE area on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XsaveLayout {
    /// Bytes of the standard-format area with all components that the host kernel has enabled.
    pub size: usize,
    /// Components enabled (XCR0).
    pub features: u64,
    /// Where the PKRU component is, if enabled.
    pub pkru_offset: Option<usize>,
}

/// The layout on this host.
pub fn xsave_layout() -> XsaveLayout {
    static LAYOUT: OnceLock<XsaveLayout> = OnceLock::new();
    *LAYOUT.get_or_init(|| {
        if (cpuid(1, 0).ecx >> OSXSAVE) & 1 == 0 {
            return XsaveLayout { size: MINIMUM, features: 3, pkru_offset: None };
        }
        let features = xcr0();
        let pkru = (features & (1 << PKRU) != 0)
            .then(|| cpuid(XSAVE_LEAF, PKRU).ebx as usize)
            .filter(|offset| *offset >= MINIMUM);
        let size = (cpuid(XSAVE_LEAF, 0).ebx as usize).max(MINIMUM);
        XsaveLayout { size, features, pkru_offset: pkru.filter(|offset| offset + 8 <= size) }
    })
}

/// Number of the component that holds the protection-key rights.
pub const PKRU: u32 = 9;

fn cpuid(leaf: u32, sub_leaf: u32) -> std::arch::x86_64::CpuidResult {
    __cpuid_count(leaf, sub_leaf)
}

fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller has checked OSXSAVE, so the instruction exists; it only reads XCR0.
    unsafe {
        std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}
