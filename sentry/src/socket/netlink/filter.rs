//! Socket filters (`SO_ATTACH_FILTER` of `socket(7)`) on sockets of device events.
//!
//! udev's listeners attach one before they listen. Nothing is ever announced here, so that a filter has no
//! message to judge: what is left of it is that bad programs are refused.

use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;

/// Attaches a filter.
pub const SO_ATTACH_FILTER: i32 = 26;
/// Takes it away.
pub const SO_DETACH_FILTER: i32 = 27;

/// `BPF_MAXINSNS`
const MAX_INSTRUCTIONS: u16 = 4096;
/// Size of a `struct sock_filter`.
const INSTRUCTION: usize = 8;
const CLASS: u8 = 7;
const CLASS_JUMP: u8 = 5;
const CLASS_RETURN: u8 = 6;
/// `BPF_JA`: its distance is the operand.
const JUMP_ALWAYS: u8 = 5;

/// Checks a `struct sock_fprog`: its size, and that the program of classic BPF stays within itself and
/// ends. `EINVAL`, `EFAULT`.
pub fn check(t: &CurrentTask, value: &[u8]) -> Result<()> {
    let (len, at) = value.split_first_chunk::<8>().ok_or(Errno::EINVAL)?;
    let at: [u8; 8] = at.try_into().map_err(|_| Errno::EINVAL)?;
    let len = u16::from_le_bytes([len[0], len[1]]);
    if len == 0 || len > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0; usize::from(len) * INSTRUCTION];
    t.mm().read(UserAddr(u64::from_le_bytes(at)), &mut bytes)?;
    if is_closed(&bytes) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// True if every jump of the program leads to one of its instructions, and the last one returns.
fn is_closed(program: &[u8]) -> bool {
    let (instructions, _) = program.as_chunks::<INSTRUCTION>();
    let count = instructions.len();
    let jumps_stay = instructions.iter().enumerate().all(|(at, i)| {
        let left = count - at - 1;
        let inside = |distance: usize| distance < left;
        match i[0] & CLASS {
            CLASS_JUMP if i[0] == JUMP_ALWAYS => {
                inside(u32::from_le_bytes([i[4], i[5], i[6], i[7]]) as usize)
            }
            CLASS_JUMP => inside(usize::from(i[2])) && inside(usize::from(i[3])),
            _ => true,
        }
    });
    jumps_stay && instructions.last().is_some_and(|i| i[0] & CLASS == CLASS_RETURN)
}

#[cfg(test)]
mod tests {
    use super::is_closed;

    #[test]
    fn jumps_must_stay_inside() {
        let ret = [6, 0, 0, 0, 255, 0, 0, 0];
        let jump = |yes, no| [0x15, 0, yes, no, 1, 0, 0, 0];
        assert!(is_closed(&ret));
        assert!(is_closed(&[jump(1, 0), ret, ret].concat()));
        assert!(!is_closed(&[jump(2, 0), ret, ret].concat()));
        assert!(!is_closed(&[ret, jump(0, 0)].concat()));
        assert!(!is_closed(&[[5, 0, 0, 0, 1, 0, 0, 0], ret].concat()));
    }
}
