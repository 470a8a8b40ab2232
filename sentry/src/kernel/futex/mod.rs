//! Futexes (`futex(2)`).

/// Everyone who waits on a futex.
#[derive(Debug, Default)]
pub struct FutexTable {}

impl FutexTable {
    /// No one waits.
    pub fn new() -> FutexTable {
        FutexTable::default()
    }
}
