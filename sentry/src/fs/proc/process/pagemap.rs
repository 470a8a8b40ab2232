//! `pagemap`: which pages lie in memory (`proc_pid_pagemap(5)`), as processes without `CAP_SYS_ADMIN` see it:
//! without frame numbers, for what frames the host uses is not known here.

use super::Subject;
use crate::errno::{Errno, Result};
use crate::fs::pseudo::{Rights, Text};
use crate::io::Sink;
use crate::mm::{PAGE_SIZE, PageState};

/// Bytes for a page.
const ENTRY: u64 = 8;
/// Bytes that one `read(2)` gives at most.
const READ_MAX: usize = 1 << 20;
const PRESENT: u64 = 1 << 63;
const OF_OBJECT: u64 = 1 << 61;
const EXCLUSIVE: u64 = 1 << 56;

/// The file.
pub struct Pagemap(pub Subject);

impl Text for Pagemap {
    fn read(&self) -> Result<Vec<u8>> {
        Err(Errno::EIO)
    }

    fn read_at(&self, dst: &mut dyn Sink, offset: u64) -> Option<Result<usize>> {
        Some(self.copy_out(dst, offset))
    }

    fn rights(&self) -> Rights {
        self.0.owned(0o400)
    }

    fn may_open(&self) -> Result<()> {
        self.0.may_inspect()
    }
}

fn entry(page: PageState) -> u64 {
    let bit = |set: bool, bit: u64| if set { bit } else { 0 };
    if !page.present {
        return 0;
    }
    PRESENT | bit(page.of_object, OF_OBJECT) | bit(page.exclusive, EXCLUSIVE)
}

impl Pagemap {
    fn copy_out(&self, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        let Some(mm) = self.0.mm() else { return Ok(0) };
        let len = dst.remaining();
        if !offset.is_multiple_of(ENTRY) || !(len as u64).is_multiple_of(ENTRY) {
            return Err(Errno::EINVAL);
        }
        let first = offset / ENTRY;
        let pages = (mm.task_size() / PAGE_SIZE).saturating_sub(first);
        let pages = pages.min(len.min(READ_MAX) as u64 / ENTRY);
        let mut done = 0;
        for page in first..first + pages {
            let word = entry(mm.page_state(page * PAGE_SIZE));
            done += dst.put(&word.to_ne_bytes())?;
        }
        Ok(done)
    }
}
