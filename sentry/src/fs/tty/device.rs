//! The terminal devices: `/dev/tty`, `/dev/console`, `/dev/ptmx` and the slaves of `/dev/pts`.

use super::job;
use super::slave::SlaveFile;
use super::{PTS_MAJOR, Tty};
use crate::errno::{Errno, Result};
use crate::fs::devpts;
use crate::kernel::CurrentTask;
use crate::sync::{Mutex, rank};
use crate::vfs::device::{self, Device};
use crate::vfs::{FileOps, OpenFlags, Path};
use std::sync::{Arc, Weak};

/// Major number of `/dev/tty`, `/dev/console` and `/dev/ptmx`.
pub const TTY_MAJOR: u32 = 5;

/// What `/dev/console` is.
static CONSOLE: Mutex<Weak<Tty>, { rank::LEAF }> = Mutex::new(Weak::new());

/// Registers the drivers.
pub fn register() {
    device::register(TTY_MAJOR, 0..=2, "tty", open);
    device::register(PTS_MAJOR, 0..=devpts::MAX_INDEX, "pts", open_slave);
}

/// Makes a terminal the one that `/dev/console` opens.
pub fn set_console(tty: &Arc<Tty>) {
    *CONSOLE.lock() = Arc::downgrade(tty);
}

fn open(
    t: Option<&CurrentTask>,
    path: &Path,
    flags: OpenFlags,
    device: Device,
) -> Result<Arc<dyn FileOps>> {
    let t = t.ok_or(Errno::ENXIO)?;
    match device.minor {
        0 => {
            let tty = job::controlling(t).ok_or(Errno::ENXIO)?;
            Ok(SlaveFile::open(&tty, None, flags)?)
        }
        1 => {
            let tty = CONSOLE.lock().upgrade().ok_or(Errno::ENXIO)?;
            Ok(SlaveFile::open(&tty, Some(t), flags)?)
        }
        _ => devpts::open_master(t, path),
    }
}

fn open_slave(
    t: Option<&CurrentTask>,
    path: &Path,
    flags: OpenFlags,
    device: Device,
) -> Result<Arc<dyn FileOps>> {
    let tty = devpts::slave_at(path, device.minor)?;
    Ok(SlaveFile::open(&tty, t, flags)?)
}
