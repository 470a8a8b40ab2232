//! The file protocol.
