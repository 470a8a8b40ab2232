//! What a stub is told to do with its mappings.

use crate::{Frames, MapSource, Prot};
use std::ops::Range;

/// One thing to do in the stub.
#[derive(Debug)]
pub enum Operation {
    /// `mmap(2)`, shared and fixed.
    Map {
        /// Where, in bytes.
        range: Range<u64>,
        /// Access.
        prot: Prot,
        /// What.
        source: MapSource,
    },
    /// `munmap(2)`.
    Unmap(Range<u64>),
    /// `mprotect(2)` of a range without holes.
    Protect(Range<u64>, Prot),
    /// `madvise(MADV_POPULATE_WRITE)` of a range without holes.
    Populate(Range<u64>),
    /// `madvise(MADV_HUGEPAGE)` of a range without holes.
    Huge(Range<u64>),
}

impl Operation {
    /// Whether it concerns a range.
    pub fn touches(&self, other: &Range<u64>) -> bool {
        let (Self::Map { range, .. }
        | Self::Unmap(range)
        | Self::Protect(range, _)
        | Self::Populate(range)
        | Self::Huge(range)) = self;
        range.start < other.end && other.start < range.end
    }

    /// The frames it maps.
    pub fn frames(self) -> Option<Frames> {
        match self {
            Self::Map { source: MapSource::Frames(frames), .. } => Some(frames),
            _ => None,
        }
    }

    /// Splits a mapping at an address into what lies before and what behind; anything else stays whole.
    pub fn split_at(self, at: u64) -> (Option<Self>, Option<Self>) {
        let Self::Map { range, prot, source } = self else { return (Some(self), None) };
        if at <= range.start {
            return (None, Some(Self::Map { range, prot, source }));
        }
        if at >= range.end {
            return (Some(Self::Map { range, prot, source }), None);
        }
        let len = at - range.start;
        let (before, behind) = match source {
            MapSource::Frames(frames) => {
                let (before, behind) = frames.split_at(len);
                (MapSource::Frames(before), MapSource::Frames(behind))
            }
            MapSource::HostFd(fd, offset) => {
                (MapSource::HostFd(fd.clone(), offset), MapSource::HostFd(fd, offset + len))
            }
        };
        let before = Self::Map { range: range.start..at, prot, source: before };
        (Some(before), Some(Self::Map { range: at..range.end, prot, source: behind }))
    }

    /// A mapping with other access; anything else as it is.
    pub fn with_prot(self, prot: Prot) -> Self {
        match self {
            Self::Map { range, source, .. } => Self::Map { range, prot, source },
            other => other,
        }
    }
}
