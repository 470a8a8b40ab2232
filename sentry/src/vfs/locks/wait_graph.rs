//! Who waits for whose record lock: processes that wait for each other in a ring are told so.

use super::range::Owner;
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, rank};
use std::collections::HashMap;

/// Longest chain that is followed (as Linux: a longer one is taken to have no ring).
const MAX_CHAIN: usize = 10;

static WAITING: Mutex<Option<HashMap<Owner, Owner>>, { rank::LEAF }> = Mutex::new(None);

/// Notes that `owner` waits for `blocker`. `EDEADLK` if `blocker` waits for `owner`, directly or not.
/// Open file descriptions are shared by processes and thus take no part.
pub fn wait(owner: Owner, blocker: Owner) -> Result<()> {
    if matches!(owner, Owner::File(_)) {
        return Ok(());
    }
    let mut waiting = WAITING.lock();
    let waiting = waiting.get_or_insert_default();
    let mut at = blocker;
    for _ in 0..MAX_CHAIN {
        if at == owner {
            waiting.remove(&owner);
            return Err(Errno::EDEADLK);
        }
        match waiting.get(&at) {
            Some(next) => at = *next,
            None => break,
        }
    }
    waiting.insert(owner, blocker);
    Ok(())
}

/// `owner` waits no more.
pub fn done(owner: Owner) {
    if let Some(waiting) = WAITING.lock().as_mut() {
        waiting.remove(&owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_found() {
        let [a, b, c] = [1001, 1002, 1003].map(Owner::Process);
        wait(a, b).unwrap();
        wait(b, c).unwrap();
        assert_eq!(wait(c, a), Err(Errno::EDEADLK));
        done(a);
        assert_eq!(wait(c, a), Ok(()));
        done(b);
        done(c);
    }
}
