//! TCP options: MSS, window scale, SACK, time stamps (RFC 9293, RFC 7323, RFC 2018).

use super::{be16, be32, byte, put};
use crate::tcp::Seq;

/// Largest window shift (RFC 7323, section 2.3).
pub(crate) const MAX_SHIFT: u8 = 14;

/// A range of sequence numbers: from, to.
pub(crate) type Block = (Seq, Seq);

/// The options of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub mss: Option<u16>,
    pub window_shift: Option<u8>,
    pub sack_permitted: bool,
    /// Value and echo reply.
    pub timestamps: Option<(u32, u32)>,
    pub(crate) sack: [Block; 4],
    pub(crate) sack_len: u8,
}

impl Options {
    /// Decodes what it knows and skips the rest. `syn`: MSS, window scale and SACK-permitted count only
    /// there.
    pub(crate) fn parse(b: &[u8], syn: bool) -> Self {
        let mut out = Self::default();
        let mut at = 0;
        while let Some(kind) = byte(b, at) {
            match kind {
                0 => break,
                1 => {
                    at += 1;
                    continue;
                }
                _ => {}
            }
            let Some(len) = byte(b, at + 1).map(usize::from) else { break };
            let Some(body) = b.get(at..at + len).and_then(|o| o.get(2..)) else { break };
            match (kind, len) {
                // An MSS of zero is no MSS, as in Linux.
                (2, 4) if syn => out.mss = be16(body, 0).filter(|&mss| mss > 0),
                (3, 3) if syn => out.window_shift = byte(body, 0).map(|s| s.min(MAX_SHIFT)),
                (4, 2) if syn => out.sack_permitted = true,
                (5, 10 | 18 | 26 | 34) if !syn => {
                    for pair in body.chunks_exact(8) {
                        if let (Some(from), Some(to)) = (be32(pair, 0), be32(pair, 4)) {
                            out.push_sack((Seq(from), Seq(to)));
                        }
                    }
                }
                (8, 10) => out.timestamps = be32(body, 0).zip(be32(body, 4)),
                _ => {}
            }
            at += len;
        }
        out
    }

    /// The SACK blocks.
    pub(crate) fn sack(&self) -> &[Block] {
        self.sack.get(..usize::from(self.sack_len)).unwrap_or_default()
    }

    /// Adds a SACK block; false when there are four.
    pub(crate) fn push_sack(&mut self, block: Block) -> bool {
        match self.sack.get_mut(usize::from(self.sack_len)) {
            Some(slot) => {
                *slot = block;
                self.sack_len += 1;
                true
            }
            None => false,
        }
    }

    /// Length when written, padded to four bytes.
    pub(crate) fn len(&self) -> usize {
        let mut len = 0;
        len += if self.mss.is_some() { 4 } else { 0 };
        len += if self.timestamps.is_some() { 12 } else { 0 };
        len += if self.sack_permitted && self.timestamps.is_none() { 4 } else { 0 };
        len += if self.window_shift.is_some() { 4 } else { 0 };
        len += if self.sack_len > 0 { 4 + 8 * usize::from(self.sack_len) } else { 0 };
        len
    }

    /// Writes the options, laid out as Linux does: MSS, then SACK-permitted sharing the padding of the time
    /// stamps, then window scale, then SACK.
    pub(crate) fn emit(&self, b: &mut [u8]) {
        let mut at = 0;
        let mut push = |bytes: &[u8]| {
            put(b, at, bytes);
            at += bytes.len();
        };
        if let Some(mss) = self.mss {
            push(&[2, 4]);
            push(&mss.to_be_bytes());
        }
        match self.timestamps {
            Some((value, echo)) => {
                push(if self.sack_permitted { &[4, 2] } else { &[1, 1] });
                push(&[8, 10]);
                push(&value.to_be_bytes());
                push(&echo.to_be_bytes());
            }
            None if self.sack_permitted => push(&[1, 1, 4, 2]),
            None => {}
        }
        if let Some(shift) = self.window_shift {
            push(&[1, 3, 3, shift]);
        }
        if self.sack_len > 0 {
            push(&[1, 1, 5, 2 + 8 * self.sack_len]);
            for (from, to) in self.sack() {
                push(&from.0.to_be_bytes());
                push(&to.0.to_be_bytes());
            }
        }
    }
}
