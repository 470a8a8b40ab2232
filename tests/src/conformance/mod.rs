//! The differential conformance suite: every case of the guest program runs on this machine's Linux
//! and in the sandbox, and the transcripts must be equal. Native Linux is the oracle.

pub mod exec;
pub mod gaps;
pub mod suite;
pub mod transcript;
