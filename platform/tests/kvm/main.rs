#![expect(clippy::unwrap_used, reason = "a failure of a test's helper fails the test")]
//! Guest machine code on the kvm back end: only where there is hardware virtualisation, or
//! `tests/kvm-machine` emulates it, which runs this.

#[path = "../guests/accesses.rs"]
mod accesses;
mod ahead;
#[path = "../guests/answers.rs"]
mod answers;
#[path = "../guests/events.rs"]
mod events;
#[path = "../guests/file_accesses.rs"]
mod file_accesses;
#[path = "../guests/guest.rs"]
mod guest;
#[path = "../guests/hostile.rs"]
mod hostile;
#[path = "../guests/privileged.rs"]
mod privileged;
#[path = "../guests/processes.rs"]
mod processes;
#[path = "../guests/random.rs"]
mod random;

use platform::{MemoryFile, Platform, Result, kvm};
use std::fs::File;
use std::sync::Arc;

/// Whether the back end is one that runs guest code untraced from the start.
const UNTRACED: bool = true;

/// Whether the CPU is an emulated one, without alignment checks and vector exceptions.
const EMULATED: bool = true;

/// The back end that is tested.
fn new_platform(memory: Arc<MemoryFile>) -> Result<Arc<dyn Platform>> {
    let device = File::options().read(true).write(true).open(kvm::PATH).unwrap();
    Ok(kvm::KvmPlatform::new(memory, device.into(), kvm::Wanted::Explicit)?)
}
