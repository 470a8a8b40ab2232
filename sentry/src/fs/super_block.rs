//! What instances of file systems have in common.

use std::sync::atomic::{AtomicU64, Ordering};

/// Device numbers below are those of pseudo file systems.
static NEXT_DEV: AtomicU64 = AtomicU64::new(0x20);

/// A device number for a file system without a device (major 0).
pub fn next_dev() -> u64 {
    let minor = NEXT_DEV.fetch_add(1, Ordering::Relaxed);
    minor & 0xff | (minor & !0xff) << 12
}

/// The wall clock for time stamps, in nanoseconds since the epoch.
pub fn now() -> i64 {
    super::anon::now()
}
