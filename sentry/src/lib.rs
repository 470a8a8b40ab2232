//! Linux, in user space.
