//! The kernel's log (`syslog(2)`): what this kernel has said since its boot, which is who it is.

use super::version::UTS;
use crate::sync::{Mutex, rank};
use std::sync::atomic::{AtomicI32, Ordering};

/// Size that the log's buffer is said to have, in bytes (`CONFIG_LOG_BUF_SHIFT` of 17).
pub const BUFFER_SIZE: u64 = 1 << 17;

/// `kernel.printk`: which messages would go to a console, of which there is none.
#[derive(Debug)]
pub struct Levels([AtomicI32; 4]);

/// Level of the console in [`Levels`].
const CONSOLE: usize = 0;
/// The least level that the console can be given.
const MINIMUM: usize = 2;
/// The level's value while the console has not been switched off.
const NOT_SAVED: i32 = -1;

impl Levels {
    /// Console, default of messages, minimum and default of the console.
    pub fn all(&self) -> [i32; 4] {
        self.0.each_ref().map(|level| level.load(Ordering::Relaxed))
    }

    /// Sets the first ones.
    pub fn set(&self, new: &[i32]) {
        for (place, level) in self.0.iter().zip(new) {
            place.store(*level, Ordering::Relaxed);
        }
    }
}

/// Places in the text.
#[derive(Debug, Default)]
struct Places {
    /// Up to where `SYSLOG_ACTION_READ` has taken it.
    read: usize,
    /// Up to where it has been cleared.
    cleared: usize,
}

/// The log.
#[derive(Debug)]
pub struct Log {
    text: String,
    places: Mutex<Places, { rank::LEAF }>,
    /// `kernel.printk`.
    pub levels: Levels,
    /// The console's level from before it was switched off.
    saved: AtomicI32,
}

impl Default for Log {
    fn default() -> Self {
        let text = format!(
            "<5>[    0.000000] {} version {} ({}) {}\n<6>[    0.000000] Command line: runsc\n",
            UTS.sysname, UTS.release, "runsc", UTS.version
        );
        let levels = Levels([4, 4, 1, 7].map(AtomicI32::new));
        Log { text, places: Mutex::default(), levels, saved: AtomicI32::new(NOT_SAVED) }
    }
}

impl Log {
    /// The next bytes that have not been read, at most `len`; `None` if there are none.
    pub fn read(&self, len: usize) -> Option<&[u8]> {
        let mut places = self.places.lock();
        let rest = self.text.as_bytes().get(places.read..).filter(|rest| !rest.is_empty())?;
        let part = rest.get(..len).unwrap_or(rest);
        places.read += part.len();
        Some(part)
    }

    /// How many bytes have not been read.
    pub fn unread(&self) -> usize {
        self.text.len().saturating_sub(self.places.lock().read)
    }

    /// The last whole messages that have not been cleared and fit into `len` bytes. `clear`: they are then.
    pub fn read_all(&self, len: usize, clear: bool) -> &[u8] {
        let mut places = self.places.lock();
        let mut rest = self.text.get(places.cleared..).unwrap_or_default();
        while rest.len() > len {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
        if clear {
            places.cleared = self.text.len();
        }
        rest.as_bytes()
    }

    /// Forgets the messages for [`Log::read_all`].
    pub fn clear(&self) {
        self.places.lock().cleared = self.text.len();
    }

    /// Switches the console off, or on again.
    pub fn switch_console(&self, on: bool) {
        let [level, _, minimum, _] = self.levels.all();
        if on {
            let saved = self.saved.swap(NOT_SAVED, Ordering::Relaxed);
            if saved != NOT_SAVED {
                self.levels.set(&[saved]);
            }
        } else {
            let _ =
                self.saved.compare_exchange(NOT_SAVED, level, Ordering::Relaxed, Ordering::Relaxed);
            self.levels.set(&[minimum]);
        }
    }

    /// Sets the console's level.
    pub fn set_console(&self, level: i32) {
        let least = self.levels.0.get(MINIMUM).map_or(1, |level| level.load(Ordering::Relaxed));
        if let Some(place) = self.levels.0.get(CONSOLE) {
            place.store(level.max(least), Ordering::Relaxed);
        }
        self.saved.store(NOT_SAVED, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_messages_are_read_and_cleared() {
        let log = Log::default();
        let all = log.read_all(4096, false);
        assert_eq!(all.iter().filter(|b| **b == b'\n').count(), 2);
        let last = log.read_all(all.len() - 1, false);
        assert!(all.ends_with(last) && last.starts_with(b"<6>"));
        assert_eq!(log.read_all(1, true), b"");
        assert_eq!(log.read_all(4096, false), b"");
        assert_eq!(log.unread(), all.len());
        assert_eq!(log.read(4), Some(&b"<5>["[..]));
        assert_eq!(log.unread(), all.len() - 4);
    }

    #[test]
    fn the_console_is_switched_off_and_on() {
        let log = Log::default();
        log.switch_console(false);
        assert_eq!(log.levels.all(), [1, 4, 1, 7]);
        log.switch_console(true);
        assert_eq!(log.levels.all(), [4, 4, 1, 7]);
        log.set_console(0);
        assert_eq!(log.levels.all()[0], 1);
    }
}
