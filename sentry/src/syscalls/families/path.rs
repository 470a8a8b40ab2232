//! Calls that take a path.
