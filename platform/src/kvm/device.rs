#![expect(unsafe_code, reason = "takes a descriptor over")]
//! `/dev/kvm`.

use crate::{PlatformError, Result};
use kvm_ioctls::Kvm;
use std::arch::x86_64::__cpuid;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

/// Path of the device.
pub const PATH: &str = "/dev/kvm";

/// Takes over an open `/dev/kvm`.
pub fn open(device: OwnedFd) -> Kvm {
    // SAFETY: the descriptor is open and nobody else's. That it is another file's, its first request shows.
    unsafe { Kvm::from_raw_fd(device.into_raw_fd()) }
}

/// Whether the CPU can virtualise at all: some hosts have a `/dev/kvm` that emulates ring 0 in software.
pub fn check_cpu() -> Result<()> {
    let vmx = __cpuid(1).ecx >> 5 & 1 != 0;
    let svm = __cpuid(0x8000_0000).eax > 0x8000_0000 && __cpuid(0x8000_0001).ecx >> 2 & 1 != 0;
    if vmx || svm {
        return Ok(());
    }
    Err(PlatformError::Unsupported(
        "the kvm platform needs a CPU with VMX or SVM, which this one does not have or does not show; \
         /dev/kvm may be there nevertheless"
            .to_owned(),
    ))
}
