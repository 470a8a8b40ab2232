//! The io controller: what tasks read from and write to the directories of the host (`io.stat`), and how much of it a second
//! allows (`io.max`).
//!
//! There are no block devices in a sandbox. What stands for one is a device that the gofer has files of: the number that
//! `stat(2)` gives as `st_dev`, also where the file is the lower one of an overlay. Reads and writes are counted when they
//! reach the host's descriptor. What goes through mappings is between the program and the host's page cache, and not
//! seen.
//!
//! A task that has moved more than its groups allow pays with time, on its way back to guest code: no lock is held
//! there, and the call itself is over.

use super::{Cgroup, Controllers};
use crate::errno::{Errno, Result};
use crate::kernel::task::work;
use crate::kernel::{CurrentTask, current};
use crate::sync::{Mutex, rank};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Numbers of one device: bytes read, bytes written, reads, writes.
type Four = [u64; 4];

/// No limits.
const UNLIMITED: Four = [u64::MAX; 4];

/// How `io.max` names its limits, in the order of [`Four`].
const KEYS: [&str; 4] = ["rbps", "wbps", "riops", "wiops"];

/// Devices that the gofer has files of.
static DEVICES: Mutex<BTreeSet<u64>, { rank::LEAF }> = Mutex::new(BTreeSet::new());

/// Limits of all groups together: while there is none, nobody looks for one.
static LIMITS: AtomicUsize = AtomicUsize::new(0);

/// There are files of this device (`st_dev`).
pub fn add_device(dev: u64) {
    DEVICES.lock().insert(dev);
}

/// What a group's files of the controller say.
#[derive(Debug, Default)]
pub struct Io {
    devices: Mutex<BTreeMap<u64, Device>, { rank::LEAF }>,
}

#[derive(Debug)]
struct Device {
    /// By tasks of the group itself, and of groups below that have been removed.
    done: Four,
    most: Four,
    /// When everything so far is paid, for each limit: nanoseconds of `CLOCK_MONOTONIC`.
    due: Four,
}

impl Default for Device {
    fn default() -> Self {
        Self { done: [0; 4], most: UNLIMITED, due: [0; 4] }
    }
}

impl Device {
    /// Adds to what is to be paid, and tells when it is.
    fn owe(&mut self, amounts: Four, now: u64) -> u64 {
        let each = self.due.iter_mut().zip(self.most).zip(amounts);
        let due = each.filter(|((_, most), amount)| *most != u64::MAX && *amount != 0).map(
            |((due, most), amount)| {
                let cost = u128::from(amount) * 1_000_000_000 / u128::from(most.max(1));
                *due = (*due).max(now).saturating_add(u64::try_from(cost).unwrap_or(u64::MAX));
                *due
            },
        );
        due.max().unwrap_or(0)
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        let limited = self.devices.lock().values().filter(|d| d.most != UNLIMITED).count();
        LIMITS.fetch_sub(limited, Ordering::Relaxed);
    }
}

/// The calling thread's task has read or written so many bytes of a file on `dev`.
pub fn count(dev: u64, write: bool, bytes: usize) {
    let Some(task) = current() else { return };
    let group = task.group().cgroup();
    let bytes = bytes as u64;
    let amounts = if write { [0, bytes, 0, 1] } else { [bytes, 0, 1, 0] };
    {
        let mut devices = group.io.devices.lock();
        let done = &mut devices.entry(dev).or_default().done;
        *done = sum(*done, amounts);
    }
    if LIMITS.load(Ordering::Relaxed) == 0 {
        return;
    }
    let now = task.kernel().time.monotonic();
    let limited = group.path_up().filter(|g| g.controllers().contains(Controllers::IO));
    let due =
        limited.filter_map(|g| Some(g.io.devices.lock().get_mut(&dev)?.owe(amounts, now))).max();
    if let Some(due) = due.filter(|due| *due > now) {
        task.io_due.fetch_max(due, Ordering::Relaxed);
        task.add_work(work::PAY);
    }
}

/// Sleeps until a task has paid for what it moved. Only the end of the process is a reason to go on earlier.
pub fn pay(t: &mut CurrentTask) {
    t.task().clear_work(work::PAY);
    let due = t.task().io_due.swap(0, Ordering::Relaxed);
    t.sleep_through(due);
}

fn sum(a: Four, b: Four) -> Four {
    std::array::from_fn(|i| a[i].saturating_add(b[i]))
}

/// `MAJOR:MINOR`
fn name(dev: u64) -> String {
    format!("{}:{}", libc::major(dev), libc::minor(dev))
}

impl Io {
    /// Adds what a group below that is being removed has moved.
    pub(super) fn take_over(&self, other: &Io) {
        let gone: Vec<(u64, Four)> =
            other.devices.lock().iter().map(|(dev, d)| (*dev, d.done)).collect();
        let mut devices = self.devices.lock();
        for (dev, done) in gone {
            let own = &mut devices.entry(dev).or_default().done;
            *own = sum(*own, done);
        }
    }
}

impl Cgroup {
    /// `io.stat`: a line for each device that tasks of the group or of those below have used.
    pub fn io_stat(self: &Arc<Self>) -> String {
        let mut all: BTreeMap<u64, Four> = BTreeMap::new();
        for group in self.subtree() {
            for (dev, device) in &*group.io.devices.lock() {
                let total = all.entry(*dev).or_default();
                *total = sum(*total, device.done);
            }
        }
        let used = all.into_iter().filter(|(_, done)| *done != [0; 4]);
        used.map(|(dev, [rbytes, wbytes, rios, wios])| {
            let name = name(dev);
            format!(
                "{name} rbytes={rbytes} wbytes={wbytes} rios={rios} wios={wios} dbytes=0 dios=0\n"
            )
        })
        .collect()
    }

    /// `io.max`: a line for each device with a limit.
    pub fn io_max(&self) -> String {
        let devices = self.io.devices.lock();
        let limited = devices.iter().filter(|(_, device)| device.most != UNLIMITED);
        let show = |n: u64| if n == u64::MAX { "max".into() } else { n.to_string() };
        let line = |(dev, device): (&u64, &Device)| {
            let limits = KEYS.iter().zip(device.most).map(|(key, n)| format!(" {key}={}", show(n)));
            format!("{}{}\n", name(*dev), limits.collect::<String>())
        };
        limited.map(line).collect()
    }

    /// Changes the limits of one device: `MAJOR:MINOR key=number…`, where `max` is none. `EINVAL`; `ENODEV` for a device that the
    /// gofer has no files of; `ERANGE` for 0.
    pub fn set_io_max(&self, text: &str) -> Result<()> {
        let mut words = text.split_ascii_whitespace();
        let (major, minor) = words.next().and_then(|w| w.split_once(':')).ok_or(Errno::EINVAL)?;
        let number = |text: &str| text.parse::<u32>().map_err(|_| Errno::EINVAL);
        let dev = libc::makedev(number(major)?, number(minor)?);
        if !DEVICES.lock().contains(&dev) {
            return Err(Errno::ENODEV);
        }
        let mut changes = Vec::new();
        for word in words {
            let (key, value) = word.split_once('=').ok_or(Errno::EINVAL)?;
            let at = KEYS.iter().position(|known| *known == key).ok_or(Errno::EINVAL)?;
            let value = match value {
                "max" => u64::MAX,
                n => n.parse().map_err(|_| Errno::EINVAL)?,
            };
            if value == 0 {
                return Err(Errno::ERANGE);
            }
            changes.push((at, value));
        }
        let mut devices = self.io.devices.lock();
        let device = devices.entry(dev).or_default();
        let before = device.most != UNLIMITED;
        for (at, value) in changes {
            if let Some(most) = device.most.get_mut(at) {
                *most = value;
            }
        }
        // What was owed under another limit is not asked for.
        device.due = [0; 4];
        match (before, device.most != UNLIMITED) {
            (false, true) => LIMITS.fetch_add(1, Ordering::Relaxed),
            (true, false) => LIMITS.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_adds_up() {
        let mut device = Device { most: [1000, u64::MAX, u64::MAX, 2], ..Device::default() };
        assert_eq!(device.owe([500, 0, 1, 0], 0), 500_000_000);
        assert_eq!(device.owe([500, 0, 1, 0], 0), 1_000_000_000);
        // Time that has passed is not saved up.
        assert_eq!(device.owe([1000, 0, 1, 0], 5_000_000_000), 6_000_000_000);
        assert_eq!(device.owe([0, 1 << 40, 0, 1], 0), 500_000_000);
    }

    #[test]
    fn lines() {
        let group = Cgroup::initial();
        let dev = libc::makedev(0, 1 << 19);
        assert_eq!(group.set_io_max("0:524288 rbps=1"), Err(Errno::ENODEV));
        add_device(dev);
        for (text, error) in [
            ("", Errno::EINVAL),
            ("0 rbps=1", Errno::EINVAL),
            ("0:524288 rbps=0", Errno::ERANGE),
            ("0:524288 rbps=-1", Errno::EINVAL),
            ("0:524288 bps=1", Errno::EINVAL),
            ("0:524288 rbps", Errno::EINVAL),
        ] {
            assert_eq!(group.set_io_max(text), Err(error), "{text}");
        }
        assert_eq!(group.set_io_max("0:524288 rbps=10 wiops=5"), Ok(()));
        assert_eq!(group.io_max(), "0:524288 rbps=10 wbps=max riops=max wiops=5\n");
        assert_eq!(group.set_io_max("0:524288 rbps=max wiops=max"), Ok(()));
        assert_eq!(group.io_max(), "");
    }
}
