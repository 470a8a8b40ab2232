#![expect(unsafe_code, reason = "reads XCR0, the auxiliary vector and an FP image")]
//! What the host CPU offers: size and layout of the extended state.

use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

/// CPUID leaf that describes the extended state.
const XSAVE_LEAF: u32 = 0xd;
/// Bit of the OSXSAVE flag in CPUID leaf 1, register ECX.
const OSXSAVE: u32 = 27;
/// Legacy area plus header: the size without extended components.
const MINIMUM: usize = 576;

/// Components that a process must ask for: the tiles of AMX.
const ON_REQUEST: u64 = 1 << 18;

/// Layout of the XSAVE area on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XsaveLayout {
    /// Bytes of the standard-format area with all of `features`: what signal frames hold.
    pub size: usize,
    /// Bytes with all components that the host kernel has enabled: what `PTRACE_SETREGSET` wants.
    pub full_size: usize,
    /// Components that programs may use: those enabled (XCR0) but the ones that Linux lets a process use only
    /// on request (`ARCH_REQ_XCOMP_PERM`), which no stub has.
    pub features: u64,
    /// Where the PKRU component is, if enabled.
    pub pkru_offset: Option<usize>,
}

/// The layout on this host.
pub fn xsave_layout() -> XsaveLayout {
    static LAYOUT: OnceLock<XsaveLayout> = OnceLock::new();
    *LAYOUT.get_or_init(|| {
        if (cpuid(1, 0).ecx >> OSXSAVE) & 1 == 0 {
            let (size, full_size) = (MINIMUM, MINIMUM);
            return XsaveLayout { size, full_size, features: 3, pkru_offset: None };
        }
        let features = xcr0() & !ON_REQUEST;
        let pkru = (features & (1 << PKRU) != 0)
            .then(|| cpuid(XSAVE_LEAF, PKRU).ebx as usize)
            .filter(|offset| *offset >= MINIMUM);
        let full_size = (cpuid(XSAVE_LEAF, 0).ebx as usize).max(MINIMUM);
        let ends = (2..u64::BITS).filter(|number| features >> number & 1 != 0).map(|number| {
            let component = cpuid(XSAVE_LEAF, number);
            component.ebx as usize + component.eax as usize
        });
        let size = ends.max().unwrap_or(MINIMUM).clamp(MINIMUM, full_size);
        let pkru_offset = pkru.filter(|offset| offset + 8 <= size);
        XsaveLayout { size, full_size, features, pkru_offset }
    })
}

/// Whether user code may use `rdfsbase` and its like: the kernel says so in `AT_HWCAP2`.
pub fn has_fsgsbase() -> bool {
    const HWCAP2_FSGSBASE: u64 = 1 << 1;
    // SAFETY: reads a value the kernel gave at start.
    unsafe { libc::getauxval(libc::AT_HWCAP2) & HWCAP2_FSGSBASE != 0 }
}

/// Bits of MXCSR that this CPU allows to be set.
pub fn mxcsr_mask() -> u32 {
    #[repr(align(16))]
    struct Image([u8; 512]);
    static MASK: OnceLock<u32> = OnceLock::new();
    *MASK.get_or_init(|| {
        let mut image = Image([0; 512]);
        // SAFETY: `fxsave64` exists on every x86-64 CPU, and writes 512 aligned bytes.
        unsafe { std::arch::x86_64::_fxsave64(image.0.as_mut_ptr()) };
        let mask = image.0.get(28..).and_then(|rest| rest.first_chunk::<4>());
        match mask.map_or(0, |bytes| u32::from_le_bytes(*bytes)) {
            // Processors without the field have this value.
            0 => 0xffbf,
            mask => mask,
        }
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
