//! The `kvm` back end: guest code runs in ring 3 of a virtual machine.
//!
//! All guest processes of a sandbox share one machine ([`machine`]), which has no devices, no firmware and
//! no kernel, only a page of code ([`shim`]) that runs in ring 0 when guest code makes a system call or
//! faults. It saves the registers and halts; that ends `KVM_RUN`, the sentry handles the event and
//! runs the vCPU on. A system call thus costs one exit and no process switch; a thread can run on any vCPU.
//!
//! * Guest-physical memory is the memory file and windows on host files ([`slots`], [`window`]).
//! * A guest process is a set of areas ([`areas`]) and page tables ([`tables`]) that are filled when they
//!   are used, with the neighbours ([`space`]). There is no host process behind it, and a fork copies the list
//!   of areas.
//! * Interrupts are a signal that ends `KVM_RUN`, after which an interrupt is injected: the shim saves
//!   the registers as for any other event ([`vcpu`]). The same stops vCPUs that may have cached mappings which
//!   are gone.
//!
//! # What a hostile guest can do
//!
//! Ring 3 of this machine is ring 3 of the CPU: privileged instructions fault, no port is open, model-specific
//! registers are out of reach. All of the machine's memory that is mapped in the user half was put there for
//! this guest process. The kernel half holds the shim, one page for each vCPU, with registers of threads
//! of this sandbox, the words that calls are answered with ([`boards`]),
//! counters of who waits at futexes ([`waiters`]), signal masks ([`masks`]), tables of descriptors ([`descriptors`]) and positions of
//! open files ([`positions`]) and bytes in pipes ([`pipes`]); user code cannot access it (on CPUs that leak such pages, Meltdown, it could read registers
//! of the same sandbox's other processes, and nothing else: page tables and other guests' memory are
//! not mapped there). `vmcall` and `vmmcall` return an error where the host's KVM answers them itself.
//! Ring 0 accesses memory of programs at five instructions, with addresses of the user half and the rights that the page tables
//! give to the program; a fault there is an exit (`calls.s`).
//! Whatever makes the machine stop in an unexpected way ends the guest process that ran.

mod areas;
mod arena;
mod boards;
mod context;
mod cpuid;
mod descriptors;
mod device;
mod fault;
mod machine;
mod masks;
mod pipes;
mod pool;
mod positions;
mod probe;
mod shim;
mod slots;
mod space;
mod tables;
mod vcpu;
mod waiters;
mod window;

pub use device::PATH;
pub use vcpu::{KVM_INTERRUPT, KVM_PRE_FAULT_MEMORY, KVM_SET_DEVICE_ATTR, KVM_SET_SIGNAL_MASK};

use crate::stub::layout;
use crate::{
    AddressSpace, Descriptors, FutexWaiters, MemoryFile, PendingContext, Platform, PlatformError,
    Result, SignalMask, XState,
};
use context::KvmPending;
use descriptors::Table;
use machine::Machine;
use masks::Mask;
use space::KvmSpace;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use waiters::Waiters;

/// What the probe may take where another platform stands ready.
const AUTO_LIMIT: Duration = Duration::from_millis(250);

/// What it may take where this platform was asked for: emulated hosts are slow.
const EXPLICIT_LIMIT: Duration = Duration::from_secs(5);

/// A system call that takes longer than this, in nanoseconds, is no gain.
const SLOW: u64 = 5000;

/// The `kvm` platform.
#[derive(Debug)]
pub struct KvmPlatform {
    machine: Arc<Machine>,
}

/// Who wants the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The fastest one is looked for: this one, if it is fast.
    Auto,
    /// It was asked for by name.
    Explicit,
}

impl KvmPlatform {
    /// Sets the platform up on an open `/dev/kvm` and runs a small guest in it. Fails with
    /// [`PlatformError::Unsupported`] when that does not work as it should, within a quarter of a second.
    pub fn new(memory: Arc<MemoryFile>, device: OwnedFd, wanted: Wanted) -> Result<Arc<Self>> {
        device::check_cpu()?;
        let limit = if wanted == Wanted::Auto { AUTO_LIMIT } else { EXPLICIT_LIMIT };
        Self::probed(memory, device, wanted, limit)
    }

    fn probed(
        memory: Arc<MemoryFile>,
        device: OwnedFd,
        wanted: Wanted,
        limit: Duration,
    ) -> Result<Arc<Self>> {
        let machine = Machine::new(&device::open(device), memory).map_err(|error| match error {
            PlatformError::Host { what, source } => {
                PlatformError::Unsupported(format!("cannot {what}: {source}"))
            }
            other => other,
        })?;
        let platform = Arc::new(Self { machine });
        let call = probe::run(&platform, limit)?;
        if wanted == Wanted::Auto && call > SLOW {
            return Err(PlatformError::Unsupported(format!(
                "the kvm platform is slow on this host: a system call takes {call} ns"
            )));
        }
        tracing::debug!("kvm: a system call takes {call} ns");
        Ok(platform)
    }

    /// How often a vCPU has been run so far: each is one exit to the sentry.
    pub fn runs(&self) -> u64 {
        self.machine.runs.load(Ordering::Relaxed)
    }
}

impl Platform for KvmPlatform {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn user_addresses(&self) -> Range<u64> {
        layout::GUEST
    }

    fn futex_waiters(&self) -> Option<Arc<dyn FutexWaiters>> {
        Some(Waiters::new(&self.machine))
    }

    fn signal_mask(&self, mask: u64) -> Option<Arc<dyn SignalMask>> {
        let mask = Mask::new(&self.machine, mask);
        Some(mask.inspect_err(|error| tracing::debug!("no place for a mask: {error}")).ok()?)
    }

    fn descriptors(&self) -> Option<Arc<dyn Descriptors>> {
        Some(Arc::new(Table::new(&self.machine)?))
    }

    fn new_address_space(&self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)> {
        let space = KvmSpace::new(self.machine.clone())?;
        Ok((space.clone(), Box::new(KvmPending::new(space, XState::initial()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A device that is not what it seems is refused in time, also without a look at the CPU.
    #[test]
    fn what_is_no_kvm_is_refused_soon() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let memory = MemoryFile::new().unwrap();
        let result = KvmPlatform::probed(memory.clone(), file.into(), Wanted::Auto, AUTO_LIMIT);
        assert!(matches!(result, Err(PlatformError::Unsupported(_))));
        let Ok(file) = std::fs::File::options().read(true).write(true).open(PATH) else { return };
        let start = Instant::now();
        let cpu = device::check_cpu();
        let result = KvmPlatform::probed(memory, file.into(), Wanted::Auto, AUTO_LIMIT);
        if cpu.is_err() {
            eprintln!("{:?}: {:?}", start.elapsed(), result.as_ref().map(drop));
            assert!(start.elapsed() < Duration::from_millis(300));
            assert!(matches!(result, Err(PlatformError::Unsupported(_))));
        }
    }
}
