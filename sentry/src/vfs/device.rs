//! Character devices: which driver opens which device number.

use super::{FileOps, OpenFlags, Path};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::sync::{RwLock, rank};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Opens a device. The task is the one that opens it; there is none while the kernel boots.
pub type OpenDevice =
    fn(Option<&CurrentTask>, &Path, OpenFlags, Device) -> Result<Arc<dyn FileOps>>;

/// A device number, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Driver.
    pub major: u32,
    /// Device of that driver.
    pub minor: u32,
}

impl Device {
    /// From `st_rdev` as user space sees it.
    pub fn from_rdev(rdev: u64) -> Self {
        Self {
            major: ((rdev >> 8 & 0xfff) | (rdev >> 32 & 0xffff_f000)) as u32,
            minor: (rdev & 0xff | rdev >> 12 & 0xffff_ff00) as u32,
        }
    }

    /// `makedev(3)`.
    pub const fn rdev(self) -> u64 {
        let (major, minor) = (self.major as u64, self.minor as u64);
        (major & 0xfff) << 8 | (major & 0xffff_f000) << 32 | minor & 0xff | (minor & !0xff) << 12
    }
}

struct Driver {
    major: u32,
    minors: RangeInclusive<u32>,
    name: &'static str,
    open: OpenDevice,
}

static DRIVERS: RwLock<Vec<Driver>, { rank::LEAF }> = RwLock::new(Vec::new());

/// Registers who opens the character devices `minors` of `major`. `name` is what `/proc/devices`
/// shows. A second registration of the same range is ignored.
pub fn register(major: u32, minors: RangeInclusive<u32>, name: &'static str, open: OpenDevice) {
    let mut drivers = DRIVERS.write();
    if !drivers.iter().any(|d| d.major == major && d.minors == minors) {
        drivers.push(Driver { major, minors, name, open });
    }
}

/// Opens the character device at `path`. `ENXIO` if no one drives it.
pub(crate) fn open(
    t: Option<&CurrentTask>,
    path: &Path,
    flags: OpenFlags,
) -> Result<Arc<dyn FileOps>> {
    let device = Device::from_rdev(path.inode().attr()?.rdev);
    let open = {
        let drivers = DRIVERS.read();
        let driver = drivers
            .iter()
            .find(|d| d.major == device.major && d.minors.contains(&device.minor))
            .ok_or(Errno::ENXIO)?;
        driver.open
    };
    open(t, path, flags, device)
}

/// Drivers by major number, for `/proc/devices`.
pub fn drivers() -> Vec<(u32, &'static str)> {
    let mut all: Vec<_> = DRIVERS.read().iter().map(|d| (d.major, d.name)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(Device { major: 1, minor: 3 }.rdev(), 0x103);
        for (major, minor) in [(5, 2), (136, 1000), (0xfff_fff, 0xfff_fff)] {
            let device = Device { major, minor };
            assert_eq!(Device::from_rdev(device.rdev()), device);
        }
    }
}
