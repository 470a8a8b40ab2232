//! How many keys a user may have (`/proc/sys/kernel/keys`).

use super::Keys;
use crate::errno::{Errno, Result};

/// What a user has.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Usage {
    pub keys: u64,
    pub bytes: u64,
}

/// The limits, as in `/proc/sys/kernel/keys`.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    maxkeys: u32,
    maxbytes: u32,
    root_maxkeys: u32,
    root_maxbytes: u32,
    gc_delay: u32,
}

/// Names one of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `maxkeys`
    Keys,
    /// `maxbytes`
    Bytes,
    /// `root_maxkeys`
    RootKeys,
    /// `root_maxbytes`
    RootBytes,
    /// `gc_delay`: kept; keys that nothing holds go at once.
    GcDelay,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            maxkeys: 200,
            maxbytes: 20_000,
            root_maxkeys: 1_000_000,
            root_maxbytes: 25_000_000,
            gc_delay: 300,
        }
    }
}

impl Limits {
    fn place(&mut self, which: Limit) -> &mut u32 {
        match which {
            Limit::Keys => &mut self.maxkeys,
            Limit::Bytes => &mut self.maxbytes,
            Limit::RootKeys => &mut self.root_maxkeys,
            Limit::RootBytes => &mut self.root_maxbytes,
            Limit::GcDelay => &mut self.gc_delay,
        }
    }
}

impl Keys {
    /// A limit.
    pub fn limit(&mut self, which: Limit) -> u32 {
        *self.limits.place(which)
    }

    /// Changes a limit. What is there already stays.
    pub fn set_limit(&mut self, which: Limit, value: u32) {
        // Root's are the bound of what the sentry keeps: not beyond what they are at first.
        let most = match which {
            Limit::Keys | Limit::RootKeys => 1_000_000,
            Limit::Bytes | Limit::RootBytes => 25_000_000,
            Limit::GcDelay => i32::MAX as u32,
        };
        *self.limits.place(which) = value.min(most);
    }

    /// Keys and bytes that a user may have.
    pub(super) fn limits_of(&self, uid: u32) -> (u64, u64) {
        let l = &self.limits;
        let (keys, bytes) = match uid {
            0 => (l.root_maxkeys, l.root_maxbytes),
            _ => (l.maxkeys, l.maxbytes),
        };
        (keys.into(), bytes.into())
    }

    /// Counts keys and bytes for a user. `EDQUOT` beyond the limits, unless the quota may be overrun.
    pub(super) fn charge(&mut self, uid: u32, keys: u64, bytes: u64, overrun: bool) -> Result<()> {
        let (max_keys, max_bytes) = self.limits_of(uid);
        let usage = self.usage.entry(uid).or_default();
        if !overrun && (usage.keys + keys > max_keys || usage.bytes + bytes > max_bytes) {
            return Err(Errno::EDQUOT);
        }
        usage.keys += keys;
        usage.bytes += bytes;
        Ok(())
    }

    /// Takes back what was counted.
    pub(super) fn refund(&mut self, uid: u32, keys: u64, bytes: u64) {
        if let Some(usage) = self.usage.get_mut(&uid) {
            usage.keys = usage.keys.saturating_sub(keys);
            usage.bytes = usage.bytes.saturating_sub(bytes);
            if usage.keys == 0 && usage.bytes == 0 {
                self.usage.remove(&uid);
            }
        }
    }
}
