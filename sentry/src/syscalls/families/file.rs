//! Calls that take a file descriptor.
