//! Where in guest code calls come from that came through slots.

use super::site::SLOT;
use super::slots::Slots;

/// Entries; a power of two.
const ENTRIES: usize = 8;

/// The slots that a thread used last.
#[derive(Debug, Default)]
pub struct Origins {
    /// Address of the slot's `syscall`, and what comes behind that of the site.
    known: [(u64, u64); ENTRIES],
}

impl Origins {
    /// Behind the system call of the site whose slot has its own `syscall` at this address. Such an address comes from guest
    /// memory: one that is in no slot is where the guest then goes on.
    pub fn find(&mut self, slots: &Slots, syscall: u64) -> u64 {
        let Some(entry) = self.known.get_mut((syscall / SLOT) as usize % ENTRIES) else {
            return syscall;
        };
        if entry.0 != syscall || syscall == 0 {
            let site = slots.find(syscall).filter(|(site, at)| *at == site.real_call());
            let Some((site, _)) = site else { return syscall };
            *entry = (syscall, site.after_call());
        }
        entry.1
    }
}
