//! All timers of a stack, in one ordered set: at most one entry for each thing that has deadlines.

use crate::endpoint::EndpointId;
use crate::iface::IfaceId;
use crate::time::Instant;
use std::collections::{BTreeSet, HashMap};

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TimerKey {
    /// A TCP endpoint.
    Tcp(EndpointId),
    /// The records of connections in TIME-WAIT.
    TimeWait,
    /// Fragments waiting for the rest of their packet.
    Reassembly,
    /// An interface: neighbours, group reports, address configuration.
    Iface(IfaceId),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Instant, TimerKey)>,
    of: HashMap<TimerKey, Instant>,
}

impl Timers {
    /// Sets or clears a deadline. True when it became the earliest of all.
    pub(crate) fn set(&mut self, key: TimerKey, at: Option<Instant>) -> bool {
        let old = match at {
            Some(at) => self.of.insert(key, at),
            None => self.of.remove(&key),
        };
        if old == at {
            return false;
        }
        if let Some(old) = old {
            self.order.remove(&(old, key));
        }
        let Some(at) = at else { return false };
        self.order.insert((at, key));
        self.order.first() == Some(&(at, key))
    }

    /// Takes a deadline that has come.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<TimerKey> {
        let &(at, key) = self.order.first()?;
        if at > now {
            return None;
        }
        self.order.pop_first();
        self.of.remove(&key);
        Some(key)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_per_key_in_order() {
        let at = Instant::from_millis;
        let (a, b) = (TimerKey::TimeWait, TimerKey::Reassembly);
        let mut t = Timers::default();
        assert!(t.set(a, Some(at(5))));
        assert!(!t.set(b, Some(at(7))));
        assert!(!t.set(a, Some(at(9))), "moved behind the other");
        assert!(t.set(b, Some(at(1))), "and the other to the front");
        assert_eq!(t.next(), Some(at(1)));
        assert_eq!(t.pop(at(0)), None);
        assert_eq!(t.pop(at(10)), Some(b));
        t.set(a, None);
        assert_eq!(t.pop(at(10)), None);
        assert_eq!(t.next(), None);
    }
}
