//! The memory file: one memfd that holds all guest memory.
//!
//! The file is sparse and practically endless; a range costs nothing until its pages are touched.
//! The sentry maps all of it once, so reading guest memory is a copy, not a host call.
