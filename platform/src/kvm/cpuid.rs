//! What programs see of the CPU: the host's, without what ring 3 cannot use here.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// Leaves that describe what a program has no part in: monitor/mwait, power, counters, SGX, tracing, tiles,
/// virtualisation and memory encryption.
const HIDDEN: [u32; 10] = [0x5, 0x6, 0xa, 0x12, 0x14, 0x1c, 0x1d, 0x1e, 0x8000_000a, 0x8000_001f];

/// Leaves of hypervisors.
const HYPERVISOR: std::ops::Range<u32> = 0x4000_0000..0x5000_0000;

/// Debug store, monitor, VMX, SMX, speed steps, thermal control, performance capabilities, x2APIC, the APIC's
/// deadlines, and that there is a hypervisor.
const LEAF1_ECX: u32 = 0x7f << 2 & !(1 << 9) | 1 << 15 | 1 << 21 | 1 << 24 | 1 << 31;
/// Machine checks, APIC, MTRR, debug store, thermal.
const LEAF1_EDX: u32 = 1 << 7 | 1 << 9 | 1 << 12 | 1 << 14 | 1 << 21 | 1 << 22 | 1 << 29 | 1 << 31;
/// SGX, tracing.
const LEAF7_EBX: u32 = 1 << 2 | 1 << 25;
/// Protection keys, which page tables here do not have, waiting in user mode, 57-bit addresses, SGX.
const LEAF7_ECX: u32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 30;
/// Tiles.
const LEAF7_EDX: u32 = 1 << 22 | 1 << 24 | 1 << 25;
/// SVM, extended APIC, sampling, secure init, watchdog, counters, monitor.
const EXTENDED_ECX: u32 =
    1 << 2 | 1 << 3 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 23 | 1 << 24 | 1 << 28 | 1 << 29;

/// Supervisor state, which nobody has here.
const XSAVES: u32 = 1 << 3;

/// Bits of CR4 that stand for features of the CPU: (leaf 7 register, bit) → bit of CR4.
const CR4_FEATURES: [(fn(&kvm_cpuid_entry2) -> u32, u32, u32); 3] =
    [(|leaf| leaf.ebx, 7, 20), (|leaf| leaf.ebx, 20, 21), (|leaf| leaf.ecx, 2, 11)];

/// What KVM supports, reduced to what programs are to see.
pub fn masked(supported: &CpuId, xcr0: u64) -> Vec<kvm_cpuid_entry2> {
    let seen = supported.as_slice().iter().filter(|entry| {
        let hidden = HYPERVISOR.contains(&entry.function) || HIDDEN.contains(&entry.function);
        let component = entry.function == 0xd && (2..64).contains(&entry.index);
        let enabled = !component || xcr0 >> entry.index & 1 != 0;
        enabled && !hidden
    });
    let mut entries: Vec<_> = seen.copied().collect();
    for entry in &mut entries {
        match (entry.function, entry.index) {
            (1, _) => {
                entry.ebx &= 0x00ff_ffff;
                entry.ecx &= !LEAF1_ECX;
                entry.edx &= !LEAF1_EDX;
            }
            (7, 0) => {
                entry.ebx &= !LEAF7_EBX;
                entry.ecx &= !LEAF7_ECX;
                entry.edx &= !LEAF7_EDX;
            }
            (0xd, 0) => {
                entry.eax &= xcr0 as u32;
                entry.edx &= (xcr0 >> 32) as u32;
            }
            (0xd, 1) => {
                entry.eax &= !XSAVES;
                (entry.ecx, entry.edx) = (0, 0);
            }
            (0xb | 0x1f, _) => entry.edx = 0,
            (0x8000_0001, _) => entry.ecx &= !EXTENDED_ECX,
            _ => {}
        }
    }
    entries
}

/// Bits of CR4 for what the CPU has of supervisor protection.
pub fn cr4(entries: &[kvm_cpuid_entry2]) -> u64 {
    let Some(leaf) = entries.iter().find(|entry| (entry.function, entry.index) == (7, 0)) else {
        return 0;
    };
    let bits = CR4_FEATURES.iter().filter(|(register, bit, _)| register(leaf) >> bit & 1 != 0);
    bits.fold(0, |cr4, (.., bit)| cr4 | 1u64 << bit)
}

/// Whether user code may use `rdfsbase` and its like, as the shim does.
pub fn has_fsgsbase(entries: &[kvm_cpuid_entry2]) -> bool {
    entries.iter().any(|entry| (entry.function, entry.index) == (7, 0) && entry.ebx & 1 != 0)
}

/// Components of the extended state that KVM can keep.
pub fn xcr0(supported: &CpuId) -> u64 {
    let leaf = supported.as_slice().iter().find(|entry| (entry.function, entry.index) == (0xd, 0));
    leaf.map_or(0, |leaf| u64::from(leaf.edx) << 32 | u64::from(leaf.eax))
}

/// Width of a physical address.
pub fn physical_bits(supported: &CpuId) -> u32 {
    let leaf = supported.as_slice().iter().find(|entry| entry.function == 0x8000_0008);
    leaf.map_or(36, |leaf| leaf.eax & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_hypervisor_is_seen() {
        let all = |function, index| kvm_cpuid_entry2 {
            function,
            index,
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            ..kvm_cpuid_entry2::default()
        };
        let leaves = [(1, 0), (6, 0), (7, 0), (0xd, 0), (0xd, 1), (0xd, 2), (0xd, 18)];
        let more = [(0x4000_0000, 0), (0x4000_0001, 0), (0x8000_0001, 0), (0x8000_000a, 0)];
        let entries: Vec<_> = leaves.iter().chain(&more).map(|(f, i)| all(*f, *i)).collect();
        let entries = masked(&CpuId::from_entries(&entries).unwrap(), 7);
        let leaf = |function, index| {
            entries.iter().find(|entry| (entry.function, entry.index) == (function, index))
        };
        for (function, index) in [(6, 0), (0x4000_0000, 0), (0x8000_000a, 0), (0xd, 18)] {
            assert!(leaf(function, index).is_none(), "{function:x}");
        }
        // Hypervisor, x2APIC, deadline, VMX and monitor are gone; SSE3, SSE4.2 and AVX are not.
        let ecx = leaf(1, 0).unwrap().ecx;
        assert_eq!(ecx & (1 << 31 | 1 << 21 | 1 << 24 | 1 << 5 | 1 << 3), 0);
        assert_eq!(ecx & (1 | 1 << 20 | 1 << 28), 1 | 1 << 20 | 1 << 28);
        assert_eq!(leaf(0xd, 0).unwrap().eax, 7);
        assert!(leaf(0xd, 2).is_some());
        assert_eq!(leaf(0x8000_0001, 0).unwrap().ecx & 1 << 2, 0);
        assert_eq!(leaf(7, 0).unwrap().ecx & (1 << 3 | 1 << 4), 0);
        assert_eq!(cr4(&entries), 1 << 20 | 1 << 21 | 1 << 11);
    }
}
