//! The `ptrace` back end: guest code runs in stub processes under `PTRACE_SYSEMU`.
//!
//! Works on every host that allows `ptrace(2)` of one's own children. A system call costs four host
//! calls and two context switches (see [`crate::placement`] for why both sides share a CPU). Mapping
//! work is injected: the stopped stub thread is made to execute `mmap(2)` and its like from our code
//! page, several calls per stop ([`crate::stub`]).
//!
//! The sentry's end kills all traced stubs (`PTRACE_O_EXITKILL`); those that nobody traces at that
//! moment end when the pipe they wait on is closed.

pub(crate) mod context;
pub(crate) mod execute;
pub(crate) mod fault;
pub(crate) mod inject;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod tracee;

use crate::stub::layout;
use crate::stub::process::StubProcess;
use crate::stub::space::Shared;
use crate::{AddressSpace, MemoryFile, PendingContext, Platform, Result};
use context::PtracePending;
use execute::{Injector, Space};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// The `ptrace` platform.
#[derive(Debug)]
pub struct PtracePlatform {
    shared: Arc<Shared>,
    zygote: Mutex<Arc<StubProcess>>,
}

impl PtracePlatform {
    /// Sets the platform up: forks the process that all guest processes descend from.
    ///
    /// To be called when the sentry has its final credentials and namespaces, and best while it has
    /// one thread and little memory. Fails when the host does not allow tracing or lacks a feature.
    pub fn new(memory: Arc<MemoryFile>) -> Result<Arc<Self>> {
        let (shared, zygote) = setup::start(memory)?;
        Ok(Arc::new(Self { shared, zygote: Mutex::new(zygote) }))
    }
}

impl Platform for PtracePlatform {
    fn name(&self) -> &'static str {
        "ptrace"
    }

    fn user_addresses(&self) -> Range<u64> {
        layout::GUEST
    }

    fn has_protection_keys(&self) -> bool {
        self.shared.keys
    }

    fn new_address_space(&self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)> {
        let pid = setup::new_stub(&self.zygote.lock())?;
        let process = Arc::new(StubProcess::new(pid));
        let space = Space::new(self.shared.clone(), process, Injector::default());
        let pending = PtracePending::new(pid, space.clone());
        Ok((space, Box::new(pending)))
    }
}
