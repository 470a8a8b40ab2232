#![expect(clippy::unwrap_used, reason = "a failure of a test's helper fails the test")]
//! Guest machine code on the ptrace back end.

mod events;
mod guest;
mod hostile;
mod processes;
