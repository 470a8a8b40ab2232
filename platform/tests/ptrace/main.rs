#![expect(clippy::unwrap_used, reason = "a failure of a test's helper fails the test")]
//! Guest machine code on the ptrace back end.

#[path = "../guests/events.rs"]
mod events;
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
#[path = "../guests/stubs.rs"]
mod stubs;

use platform::{MemoryFile, Platform, Result, ptrace};
use std::sync::Arc;

/// Whether the back end is one that runs guest code untraced from the start.
const UNTRACED: bool = false;

/// Whether the CPU is an emulated one, without alignment checks and vector exceptions.
const EMULATED: bool = false;

/// The back end that is tested.
fn new_platform(memory: Arc<MemoryFile>) -> Result<Arc<dyn Platform>> {
    Ok(ptrace::PtracePlatform::new(memory)?)
}
