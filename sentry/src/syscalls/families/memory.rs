//! Memory: `mmap(2)` and its kin.
