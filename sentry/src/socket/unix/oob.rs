//! Out-of-band bytes of local streams (`MSG_OOB`, Linux 5.15 and later).
//!
//! The byte lies among the others as a message of its own. Once it has been taken with `MSG_OOB` an empty
//! message stays where it was, and is the mark that reads stop at.

use super::message::Message;
use crate::errno::{Errno, Result};
use crate::io::Sink;
use std::collections::VecDeque;

/// How a read goes about the byte.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// `MSG_PEEK`.
    pub peek: bool,
    /// `SO_OOBINLINE`.
    pub inline: bool,
    /// Bytes have been copied already.
    pub copied: bool,
}

/// Adds a message with the byte. An earlier one that nobody took becomes ordinary data.
pub fn push(queue: &mut VecDeque<Message>, mut message: Message) {
    for earlier in queue.iter_mut() {
        earlier.urgent = false;
    }
    message.urgent = true;
    queue.push_back(message);
}

/// True while the byte can be taken.
pub fn pending(queue: &VecDeque<Message>) -> bool {
    queue.iter().any(|m| m.urgent)
}

fn is_mark(queue: &VecDeque<Message>, at: usize) -> bool {
    queue.get(at).is_some_and(|m| m.bytes().is_empty())
}

fn is_urgent(queue: &VecDeque<Message>, at: usize) -> bool {
    queue.get(at).is_some_and(|m| m.urgent)
}

/// Which message a read that has come to the one at `at` goes on with (`manage_oob`); `None`: it ends here.
/// Messages that are skipped for good go to `gone`.
pub fn manage(
    queue: &mut VecDeque<Message>,
    at: usize,
    how: Read,
    gone: &mut VecDeque<Message>,
) -> Option<usize> {
    let mut at = at;
    queue.get(at)?;
    if is_mark(queue, at) {
        if how.copied && (is_urgent(queue, at) || !pending(queue)) {
            return None;
        }
        if how.peek {
            at += 1;
        } else {
            gone.extend(queue.remove(at));
        }
        queue.get(at)?;
    }
    if !is_urgent(queue, at) {
        return Some(at);
    }
    if how.copied {
        return None;
    }
    match (how.peek, how.inline) {
        (true, true) => {}
        (true, false) => at += 1,
        (false, true) => {
            if let Some(message) = queue.get_mut(at) {
                message.urgent = false;
            }
        }
        (false, false) => gone.extend(queue.remove(at)),
    }
    (at < queue.len()).then_some(at)
}

/// Takes the byte itself (`recv` with `MSG_OOB`). `EINVAL` if there is none, or it is among the others.
pub fn take(
    queue: &mut VecDeque<Message>,
    dst: &mut dyn Sink,
    peek: bool,
    inline: bool,
    gone: &mut VecDeque<Message>,
) -> Result<usize> {
    let at = queue.iter().position(|m| m.urgent).filter(|_| !inline).ok_or(Errno::EINVAL)?;
    let message = queue.get_mut(at).ok_or(Errno::EINVAL)?;
    let n = message.put(dst, 0);
    if !peek {
        message.urgent = false;
        message.advance(1);
        // Of two marks in a row one is enough.
        if let Some(before) = at.checked_sub(1)
            && is_mark(queue, before)
        {
            gone.extend(queue.remove(before));
        }
    }
    match n {
        Ok(1) => Ok(1),
        _ => Err(Errno::EFAULT),
    }
}

/// `SIOCATMARK`.
pub fn at_mark(queue: &VecDeque<Message>) -> bool {
    !queue.is_empty()
        && (is_urgent(queue, 0) || (is_mark(queue, 0) && (!pending(queue) || is_urgent(queue, 1))))
}
